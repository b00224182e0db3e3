//! The database: the only place with SQL (DB-1, design D11).
//!
//! SQLite in WAL mode with `synchronous=FULL`: what a method reported as written survives a power cut, but for what
//! leaders say of their segments once a second ([`Store::soon`]).
//! A [`Store`] has one owner at a time; every method that writes is one transaction, or part of
//! [`Store::whole`].

mod answers;
mod audit;
mod backup;
mod census;
mod charters;
mod checkpoints;
mod events;
mod groups;
mod invites;
mod members;
mod nodes;
mod notices;
mod numbers;
mod parts;
mod presence;
mod pruning;
mod removal;
mod rivals;
mod runs;
pub mod sample;
mod schedules;
mod segments;
mod sites;
mod stale;
mod step;
#[cfg(test)]
mod tests;
mod tokens;
mod uploads;
mod wal;
mod wishes;

pub use answers::{Answered, Key};
pub use audit::{Act, AuditLine};
pub use backup::{Inspection, backup, beside, inspect};
pub use census::{Behind, Census};
pub use charters::{CharterDue, Decision, DecisionRefused};
pub use events::{Event, Page};
pub use groups::GroupRefused;
pub use invites::Admission;
pub use nodes::Enrolment;
pub use presence::Twin;
pub use pruning::Keep;
pub use removal::RemovalRefused;
pub use schedules::Outcome;
pub use segments::{ReportRefused, UplinkStamp};
pub use tokens::{KnownToken, TokenRefused};
pub use wal::WriteAheadLog;
pub use wishes::WishRefused;

use super::access::Scope;
use super::rollout::Standing;
use super::scheduler::Schedule;
use crate::wire::id::{Name, RunId};
use crate::wire::seal::PublicKey;
use numbers::next_number;
use rusqlite::{Connection, ErrorCode, Row, TransactionBehavior};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use step::Step;

/// Each brings the database from the version of its index to the next (`PRAGMA user_version`).
const MIGRATIONS: [&str; 17] = [
    include_str!("db/migrations/001.sql"),
    include_str!("db/migrations/002.sql"),
    include_str!("db/migrations/003.sql"),
    include_str!("db/migrations/004.sql"),
    include_str!("db/migrations/005.sql"),
    include_str!("db/migrations/006.sql"),
    include_str!("db/migrations/007.sql"),
    include_str!("db/migrations/008.sql"),
    include_str!("db/migrations/009.sql"),
    include_str!("db/migrations/010.sql"),
    include_str!("db/migrations/011.sql"),
    include_str!("db/migrations/012.sql"),
    include_str!("db/migrations/013.sql"),
    include_str!("db/migrations/014.sql"),
    include_str!("db/migrations/015.sql"),
    include_str!("db/migrations/016.sql"),
    include_str!("db/migrations/017.sql"),
];

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{path}: cannot open the database: {error}; `farmcast ccm init --dir DIR` makes one")]
    Open { path: PathBuf, error: rusqlite::Error },
    #[error(
        "{path}: the database is damaged ({what}); with the ccm stopped, bring a backup back: \
             `farmcast db restore FILE`"
    )]
    Damaged { path: PathBuf, what: String },
    #[error("{path}: the database is of version {found}, this program knows {known}; run the newer farmcast")]
    Newer { path: PathBuf, found: i64, known: usize },
    #[error("{path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
    #[error("{0}: exists already")]
    Exists(PathBuf),
    #[error("{path}: is the database of another farm; name a backup of this one")]
    Foreign { path: PathBuf },
    #[error("the disk of the database is full: nothing was written; make room there, and what waits goes on")]
    Full,
    #[error("database: {0}")]
    Sql(rusqlite::Error),
    #[error("database: {0}")]
    Io(#[from] std::io::Error),
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sql(error),
        }
    }
}

/// Longest check of a whole database in seconds: a farm does not wait for it longer.
const CHECK_MAX_S: u64 = 10;

#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// How the nodes of runs stand that are over, which nothing changes any more.
    ended: RefCell<BTreeMap<RunId, Standing>>,
    /// Lines of the audit that are counted on.
    tally: audit::Tally,
    /// All schedules, until one of them changes.
    schedules: RefCell<Option<Arc<[Schedule]>>>,
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
        check(&mut db, path)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA busy_timeout = 5000;",
        )?;
        db.pragma_update(None, "wal_autocheckpoint", wal::PAGES_MAX)?;
        migrate(&mut db, path)?;
        let (ended, tally, schedules) = (RefCell::default(), audit::Tally::default(), RefCell::default());
        Ok(Self { db, ended, tally, schedules })
    }

    /// Makes sure that the database is of the farm whose director has this key. One that is of none becomes its.
    pub fn claim(&mut self, director: &PublicKey, path: &Path) -> Result<(), DbError> {
        let digest = blake3::hash(&director.0);
        let digest = i32::from_be_bytes(digest.as_bytes()[..4].try_into().expect("four bytes"));
        // 0 stands for none.
        let mark = digest | 1;
        match self.db.query_row("PRAGMA application_id", [], |row| row.get(0))? {
            0 => Ok(self.db.execute_batch(&format!("PRAGMA application_id = {mark}"))?),
            found if found == mark => Ok(()),
            _ => Err(DbError::Foreign { path: path.to_owned() }),
        }
    }

    fn write(&mut self) -> Result<Step<'_>, DbError> {
        Ok(Step::begin(&self.db)?)
    }

    /// One transaction that is not waited for until it is on the disk: for what is said again within seconds. A power
    /// cut may take it back, whole, with all that was written so since the last other write; a crash of ours does not.
    fn soon<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, DbError> {
        self.db.execute_batch("PRAGMA synchronous = NORMAL")?;
        let step = self.write();
        let done = step.and_then(|step| {
            let done = work(&step)?;
            step.commit()?;
            Ok(done)
        });
        self.db.execute_batch("PRAGMA synchronous = FULL")?;
        done
    }
}

/// A damaged file is found at start, not in the middle of a run. Of a large one as much as can be read in
/// [`CHECK_MAX_S`].
fn check(db: &mut Connection, path: &Path) -> Result<(), DbError> {
    let damaged = |what: String| DbError::Damaged { path: path.to_owned(), what };
    match backup::checked(db, "PRAGMA quick_check(1)").map_err(|error| damaged(error.to_string()))? {
        Some(answer) if answer == "ok" => Ok(()),
        Some(answer) => Err(damaged(answer)),
        None => {
            log::warn!("{}: not checked whole within {CHECK_MAX_S} s; `farmcast db status`", path.display());
            Ok(())
        }
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

/// The sites of a scope as JSON, for `json_each`.
fn scope_column(scope: &Scope) -> String {
    let sites: Vec<&str> = match scope {
        Scope::Farm => Vec::new(),
        Scope::Sites(sites) => sites.iter().map(Name::as_str).collect(),
    };
    serde_json::to_string(&sites).expect("names are plain text")
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
