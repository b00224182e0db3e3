//! Bringing the database back from a backup, with the controller stopped (DB-1), and telling at start that somebody
//! has put an older one in its place.

use super::api;
use super::api::types::Database;
use super::clock::now_ns;
use super::config::Config;
use super::db::{self, DbError, Store, beside};
use super::keys::{KeyError, Keys};
use super::lock::{LockError, lock_state};
use crate::content::site::Site;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub file: PathBuf,
    /// Where the database is now that was there before; `None`: there was none.
    pub replaced: Option<PathBuf>,
    /// Runs that were under way in the backup and do not go on.
    pub ended_runs: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// How any database is, without a controller.
///
/// # Errors
/// It cannot be opened or read.
pub fn inspect(path: &Path) -> Result<Database, DbError> {
    api::look(path)
}

/// Puts `backup` in the place of the farm's database. The one that was there is kept beside it. Until the last step,
/// a rename, nothing has changed; after a crash it can be done again.
///
/// # Errors
/// The controller runs, or `backup` is damaged, of another farm, of a newer program, or cannot be copied.
pub fn restore(config: &Config, backup: &Path) -> Result<Restored, RestoreError> {
    let _lock = lock_state(&config.dir)?;
    let keys = Keys::load(&config.dir)?;
    let file = config.database();
    let next = beside(&file, ".restoring");
    for left_over in ["", "-wal", "-shm", "-journal", ".partial"] {
        remove(&beside(&next, left_over))?;
    }
    db::backup(backup, &next)?;
    let prepared = prepare(&next, backup, &keys);
    if prepared.is_err() {
        for part in ["", "-wal", "-shm"] {
            remove(&beside(&next, part))?;
        }
    }
    let ended_runs = prepared?;
    let replaced = set_aside(&file)?;
    rename(&next, &file)?;
    sync(&config.dir)?;
    Ok(Restored { file, replaced, ended_runs })
}

/// Makes the copy fit to go on with. It is one file again afterwards.
fn prepare(next: &Path, backup: &Path, keys: &Keys) -> Result<usize, RestoreError> {
    let mut store = Store::open(next)?;
    store.claim(&keys.director.public(), backup)?;
    let why = format!(
        "brought back from {}: numbers go on a million higher, what was under way then is cancelled, invites and \
         tokens are void",
        backup.display()
    );
    let ended = store.go_on_from_copy(&why, now_ns())?;
    // The last to close takes what is beside the file into it.
    drop(store);
    let left = beside(next, "-wal");
    if left.try_exists().unwrap_or(true) {
        let error = io::Error::other("the copy could not be closed; is the disk full?");
        return Err(RestoreError::Io { path: left, error });
    }
    Ok(ended)
}

/// Moves the present database out of the way, with what belongs to it, first of all its log: a log that lies beside
/// another database than its own would be taken for that one's.
fn set_aside(file: &Path) -> Result<Option<PathBuf>, RestoreError> {
    let exists =
        |path: &Path| path.try_exists().map_err(|error| RestoreError::Io { path: path.to_owned(), error });
    let seconds = now_ns() / 1_000_000_000;
    let mut aside = beside(file, &format!(".replaced-{seconds}"));
    let mut attempt = 1;
    while exists(&aside)? {
        attempt += 1;
        aside = beside(file, &format!(".replaced-{seconds}-{attempt}"));
    }
    for part in ["-wal", "-shm", ""] {
        let from = beside(file, part);
        if exists(&from)? {
            rename(&from, &beside(&aside, part))?;
        }
    }
    Ok(exists(&aside)?.then_some(aside))
}

/// Where the shadow of a site has gone through numbers that the database never gave, the database is an older copy
/// that somebody put there by hand. It is made fit to go on with, as a restore does. Returns the sentence about it.
///
/// # Errors
/// The database's. A shadow that cannot be read tells nothing; its next use says why.
pub fn notice_older_copy(config: &Config, store: &mut Store) -> Result<Option<String>, DbError> {
    let given = store.given()?;
    for site in store.sites()? {
        let Ok(Some(last)) = Site::read_last_switch(&config.shadow(site.name.as_str())) else { continue };
        if last.assignment > given.assignment || last.order > given.order {
            let text = format!(
                "the shadow of {} is at version {} by order {}, this database gave none above {} and {}: it is an \
                 older copy; numbers go on a million higher, what was under way in it is cancelled, invites and tokens \
                 are void",
                site.name, last.assignment, last.order, given.assignment, given.order
            );
            store.go_on_from_copy(&text, now_ns())?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RestoreError::Io { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    fs::rename(from, to).map_err(|error| RestoreError::Io { path: from.to_owned(), error })
}

fn sync(dir: &Path) -> Result<(), RestoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| RestoreError::Io { path: dir.to_owned(), error })
}

#[cfg(test)]
mod tests;
