//! The database: the only place with SQL (DB-1, design D11).
//!
//! SQLite in WAL mode with `synchronous=FULL`: what a method reported as written survives a power cut.
//! A [`Store`] has one owner at a time; every method that writes is one transaction.

mod charters;
mod checkpoints;
mod events;
mod groups;
mod invites;
mod nodes;
mod presence;
mod rivals;
mod runs;
mod schedules;
mod segments;
mod sites;
mod stale;
#[cfg(test)]
mod tests;
mod wishes;

pub use charters::{CharterDue, Decision, DecisionRefused};
pub use events::Event;
pub use groups::GroupRefused;
pub use invites::Admission;
pub use nodes::Enrolment;
pub use presence::Twin;
pub use schedules::Outcome;
pub use segments::{ReportRefused, UplinkStamp};
pub use wishes::WishRefused;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Each brings the database from the version of its index to the next (`PRAGMA user_version`).
const MIGRATIONS: [&str; 9] = [
    include_str!("db/migrations/001.sql"),
    include_str!("db/migrations/002.sql"),
    include_str!("db/migrations/003.sql"),
    include_str!("db/migrations/004.sql"),
    include_str!("db/migrations/005.sql"),
    include_str!("db/migrations/006.sql"),
    include_str!("db/migrations/007.sql"),
    include_str!("db/migrations/008.sql"),
    include_str!("db/migrations/009.sql"),
];

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{path}: cannot open the database: {error}; `farmcast ccm init --dir DIR` makes one")]
    Open { path: PathBuf, error: rusqlite::Error },
    #[error("{path}: the database is damaged ({what}); stop the ccm and bring the file back from a backup")]
    Damaged { path: PathBuf, what: String },
    #[error("{path}: the database is of version {found}, this program knows {known}; run the newer farmcast")]
    Newer { path: PathBuf, found: i64, known: usize },
    #[error("{0}: exists already")]
    Exists(PathBuf),
    #[error("database: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("database: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug)]
pub struct Store {
    db: Connection,
}

impl Store {
    /// Makes the database of a new farm; refuses to touch one that exists.
    pub fn create(path: &Path) -> Result<Self, DbError> {
        use std::os::unix::fs::OpenOptionsExt;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(_) => Self::open(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(DbError::Exists(path.to_owned()))
            }
            Err(error) => Err(DbError::Io(error)),
        }
    }

    /// Opens an existing database, checks it and brings it to the present version.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        use rusqlite::OpenFlags;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |error| DbError::Open { path: path.to_owned(), error };
        let mut db = Connection::open_with_flags(path, flags).map_err(open)?;
        check(&db, path)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA busy_timeout = 5000;",
        )?;
        migrate(&mut db, path)?;
        Ok(Self { db })
    }

    fn write(&mut self) -> Result<Transaction<'_>, DbError> {
        Ok(self.db.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

/// A damaged file is found at start, not in the middle of a run.
fn check(db: &Connection, path: &Path) -> Result<(), DbError> {
    let damaged = |what: String| DbError::Damaged { path: path.to_owned(), what };
    let answer: Result<String, _> = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(damaged(answer)),
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), DbError> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(found).ok().filter(|&done| done <= MIGRATIONS.len());
    let Some(done) = done else {
        return Err(DbError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() });
    };
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(migration)?;
        step.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        step.commit()?;
    }
    Ok(())
}

/// The next number of a series, from 1, never the same again (AS-6).
fn next_number(step: &Transaction<'_>, series: &str) -> Result<u64, DbError> {
    let sql = "INSERT INTO counters (name, value) VALUES (?1, 1) \
               ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value";
    Ok(step.query_row(sql, [series], |row| uint(row, 0))?)
}

/// SQLite's integers are signed: larger numbers go in and out bit for bit.
const fn int(value: u64) -> i64 {
    value.cast_signed()
}

fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// A text column as the value it stands for.
fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
