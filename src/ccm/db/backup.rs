//! Copies of the database, and how one is (DB-1): read on connections of their own, beside whoever writes.

use super::{CHECK_MAX_S, DbError, MIGRATIONS, uint};
use crate::ccm::clock::{NS_PER_S, now_ns};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Of the schema, and the one that this program writes.
    pub version: u64,
    pub known: u64,
    /// Bytes of the file, of what is not yet in it, and of what is free in it.
    pub bytes: u64,
    pub log_bytes: u64,
    pub free_bytes: u64,
    /// Tables by name, each with its rows.
    pub tables: Vec<(String, u64)>,
    /// The last number of each series.
    pub series: Vec<(String, u64)>,
    /// `ok`, or what is damaged; `None`: not read to the end in time.
    pub integrity: Option<String>,
}

/// Looks at a database, whole as far as time allows. Whoever writes it is not disturbed.
///
/// # Errors
/// It cannot be opened, or is so damaged that its tables cannot be read.
pub fn inspect(path: &Path) -> Result<Inspection, DbError> {
    let mut db = open_beside(path)?;
    let damaged =
        |error: rusqlite::Error| DbError::Damaged { path: path.to_owned(), what: error.to_string() };
    let integrity = checked(&mut db, "PRAGMA integrity_check(1)").map_err(damaged)?;
    let number = |sql: &str| db.query_row(sql, [], |row| uint(row, 0)).map_err(damaged);
    let pairs = |sql: &str| -> rusqlite::Result<Vec<(String, u64)>> {
        db.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, uint(row, 1)?)))?.collect()
    };
    let names = pairs(
        "SELECT name, 0 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )
    .map_err(damaged)?;
    let mut tables = Vec::new();
    for (name, _) in names {
        let rows = number(&format!("SELECT count(*) FROM \"{name}\""))?;
        tables.push((name, rows));
    }
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(Inspection {
        version: number("PRAGMA user_version")?,
        known: MIGRATIONS.len() as u64,
        bytes: size(path),
        log_bytes: size(&beside(path, "-wal")),
        free_bytes: number("PRAGMA freelist_count")? * number("PRAGMA page_size")?,
        tables,
        // A database without tables is one that was never begun.
        series: pairs("SELECT name, value FROM counters ORDER BY name").unwrap_or_default(),
        integrity,
    })
}

/// Copies the database at `from`, as it is at one instant, into a new file, which others cannot read, and checks the
/// copy. Whoever writes the database goes on meanwhile. Returns the bytes of the copy.
///
/// # Errors
/// `to` exists or cannot be written, or the copy is damaged. Nothing is left behind then.
pub fn backup(from: &Path, to: &Path) -> Result<u64, DbError> {
    let source = open_beside(from)?;
    let partial = beside(to, ".partial");
    if to.try_exists()? {
        return Err(DbError::Exists(to.to_owned()));
    }
    let made = File::options().write(true).create_new(true).mode(0o600).open(&partial);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(DbError::Exists(partial)),
        Err(error) => return Err(DbError::Write { path: partial, error }),
    }
    let copied = copy(&source, &partial).map_err(|error| name_damage(error, from));
    let copied = copied.and_then(|()| publish(&partial, to));
    if copied.is_err() {
        // What the copy failed with says more than this could.
        let _ = fs::remove_file(&partial);
    }
    copied
}

/// Damage that only the copying met, in words that say what to do.
fn name_damage(error: DbError, path: &Path) -> DbError {
    match error {
        DbError::Sql(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) =>
        {
            DbError::Damaged { path: path.to_owned(), what: error.to_string() }
        }
        other => other,
    }
}

/// All pages in one step: a copy of many steps begins anew whenever somebody writes.
fn copy(source: &Connection, partial: &Path) -> Result<(), DbError> {
    let mut target = Connection::open_with_flags(partial, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let step = Backup::new(source, &mut target)?.step(-1)?;
    if step != StepResult::Done {
        return Err(DbError::Io(io::Error::other(format!("the database could not be copied: {step:?}"))));
    }
    // One file, with nothing beside it.
    target.execute_batch("PRAGMA journal_mode = DELETE")?;
    let damaged = |what: String| DbError::Damaged { path: partial.to_owned(), what };
    match checked(&mut target, "PRAGMA quick_check(1)").map_err(|error| damaged(error.to_string()))? {
        Some(answer) if answer != "ok" => Err(damaged(answer)),
        Some(_) | None => Ok(()),
    }
}

/// Gives a whole copy its name, which nobody else has taken meanwhile.
fn publish(partial: &Path, to: &Path) -> Result<u64, DbError> {
    let failed = |error| DbError::Write { path: to.to_owned(), error };
    let file = File::open(partial).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    match fs::hard_link(partial, to) {
        Ok(()) => fs::remove_file(partial).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(DbError::Exists(to.to_owned()));
        }
        // Some file systems have no hard links.
        Err(_) => fs::rename(partial, to).map_err(failed)?,
    }
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// The answer of a check; `None` where it would have taken longer than [`CHECK_MAX_S`].
pub(super) fn checked(db: &mut Connection, check: &str) -> rusqlite::Result<Option<String>> {
    let end = now_ns() + CHECK_MAX_S * NS_PER_S;
    db.progress_handler(10_000, Some(move || now_ns() > end))?;
    let answer = db.query_row(check, [], |row| row.get(0));
    db.progress_handler(0, None::<fn() -> bool>)?;
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a database to read it, not to change it.
fn open_beside(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |error| DbError::Open { path: path.to_owned(), error };
    let db = Connection::open_with_flags(path, flags).map_err(open)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(open)?;
    Ok(db)
}

/// The path of what belongs to a file and lies beside it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
