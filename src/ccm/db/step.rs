//! One step of work on the database: carried out whole, or not at all.

use super::{DbError, Store};
use rusqlite::Connection;
use std::ops::Deref;

/// A transaction, or within one a part of it. What is not committed is undone.
#[derive(Debug)]
pub struct Step<'a> {
    db: &'a Connection,
    is_part: bool,
    is_over: bool,
}

impl<'a> Step<'a> {
    pub fn begin(db: &'a Connection) -> rusqlite::Result<Self> {
        let is_part = !db.is_autocommit();
        db.execute_batch(if is_part { "SAVEPOINT step" } else { "BEGIN IMMEDIATE" })?;
        Ok(Self { db, is_part, is_over: false })
    }

    pub fn commit(mut self) -> rusqlite::Result<()> {
        self.db.execute_batch(if self.is_part { "RELEASE step" } else { "COMMIT" })?;
        self.is_over = true;
        Ok(())
    }
}

impl Deref for Step<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.db
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // A full disk has undone all of it already.
        if !self.is_over && !self.db.is_autocommit() {
            let undo = if self.is_part { "ROLLBACK TO step; RELEASE step" } else { "ROLLBACK" };
            if let Err(error) = self.db.execute_batch(undo) {
                log::error!("database: {undo}: {error}");
            }
        }
    }
}

/// The store while a piece of work holds it that is to be whole.
struct Open<'a> {
    store: &'a mut Store,
    is_done: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // What was read meanwhile, and is remembered, may be of what is undone.
        self.store.schedules.take();
        self.store.ended.take();
        if !self.store.db.is_autocommit()
            && let Err(error) = self.store.db.execute_batch("ROLLBACK")
        {
            log::error!("database: ROLLBACK: {error}");
        }
    }
}

impl Store {
    /// Carries out several writes as one: all of them, or, where `work` fails, panics or is killed, none.
    ///
    /// # Errors
    /// Those of `work` and of the database.
    pub fn whole<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, DbError>) -> Result<T, DbError> {
        let mut open = Open { store: self, is_done: false };
        open.store.db.execute_batch("BEGIN IMMEDIATE")?;
        let done = work(open.store)?;
        open.store.db.execute_batch("COMMIT")?;
        open.is_done = true;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{T0, store};

    fn told(store: &Store) -> Vec<String> {
        store.events(9).unwrap().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_is_whole_is_done_together_or_not_at_all() {
        let (_dir, mut store) = store();
        let both = store.whole(|store| {
            let step = store.write()?;
            super::super::events::record(&step, "farm", "one", T0)?;
            step.commit()?;
            // A part that is given up takes nothing else with it.
            let step = store.write()?;
            super::super::events::record(&step, "farm", "undone", T0)?;
            drop(step);
            store.record_event("farm", "two", T0)
        });
        both.unwrap();
        assert_eq!(told(&store), ["two", "one"]);
        let failed: Result<(), _> = store.whole(|store| {
            let step = store.write()?;
            super::super::events::record(&step, "farm", "three", T0)?;
            step.commit()?;
            Err(DbError::Full)
        });
        assert!(matches!(failed, Err(DbError::Full)));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.whole(|store| -> Result<(), DbError> {
                store.record_event("farm", "four", T0)?;
                panic!("in the middle")
            })
        }));
        assert!(panicked.is_err() && store.db.is_autocommit());
        assert_eq!(told(&store), ["two", "one"]);
        store.record_event("farm", "five", T0).unwrap();
        assert_eq!(told(&store), ["five", "two", "one"]);
    }
}
