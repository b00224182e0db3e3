//! The history: what happened, for people (DB-3).

use super::{DbError, Store, int};
use rusqlite::Connection;

/// `subject` is what it is about: `run 7`, `node web03`, `segment boston`.
pub(super) fn record(db: &Connection, subject: &str, text: &str, now_ns: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO events (at_ns, subject, text) VALUES (?1, ?2, ?3)";
    db.prepare_cached(sql)?.execute((int(now_ns), subject, text))?;
    Ok(())
}

impl Store {
    /// The last `count` events, newest first: subject and text.
    pub fn events(&self, count: u32) -> Result<Vec<(String, String)>, DbError> {
        let mut query =
            self.db.prepare_cached("SELECT subject, text FROM events ORDER BY id DESC LIMIT ?1")?;
        let rows = query.query_map([count], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
