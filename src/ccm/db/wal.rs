//! The log that SQLite writes ahead: what it holds is carried into the database beside the work, by a connection of its
//! own, so that who writes does not wait for it.

use super::DbError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Pages of the log at which a writer carries them over itself, whoever waits: 32 MiB.
pub(super) const PAGES_MAX: u32 = 8_192;

#[derive(Debug)]
pub struct WriteAheadLog(Connection);

impl WriteAheadLog {
    /// Of the database at this path, which a [`super::Store`] has open.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)
            .map_err(|error| DbError::Open { path: path.to_owned(), error })?;
        Ok(Self(db))
    }

    /// Carries over what it can without making anybody wait.
    pub fn carry_over(&self) -> Result<(), DbError> {
        Ok(self.0.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{T0, store};

    #[test]
    fn the_log_is_carried_over_beside_the_work_and_begins_anew() {
        let (dir, mut store) = store();
        let path = dir.path().join("ccm.db");
        let log = WriteAheadLog::open(&path).unwrap();
        let write = |store: &mut super::super::Store| {
            (0..200).for_each(|number| store.record_event("farm", &format!("event {number}"), T0).unwrap());
        };
        let size = || std::fs::metadata(dir.path().join("ccm.db-wal")).unwrap().len();
        write(&mut store);
        let once = size();
        for _ in 0..4 {
            log.carry_over().unwrap();
            write(&mut store);
        }
        assert!(size() < 2 * once, "{once} bytes became {}", size());
        assert_eq!(store.events(1).unwrap()[0].1, "event 199");
    }
}
