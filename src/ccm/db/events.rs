//! The history: what happened, for people (DB-3).

use super::{DbError, Store, int, scope_column, uint};
use crate::ccm::access::Scope;
use crate::ccm::notify::notice::Kind;
use crate::wire::id::Name;
use rusqlite::{Connection, Row};

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Later events have higher numbers.
    pub id: u64,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    pub subject: String,
    pub text: String,
    /// What it is, for those who are notified; empty: nothing that anybody is told of.
    pub kind: String,
}

/// Which part of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Its end.
    Last,
    /// What follows on an event.
    After(u64),
    /// What came right before one.
    Before(u64),
}

/// `subject` is what it is about: `run 7`, `node web03`, `segment boston`.
pub(super) fn record(db: &Connection, subject: &str, text: &str, now_ns: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO events (at_ns, subject, text) VALUES (?1, ?2, ?3)";
    db.prepare_cached(sql)?.execute((int(now_ns), subject, text))?;
    Ok(())
}

/// The same of something that whoever wants to is told of.
pub(super) fn tell(
    db: &Connection,
    kind: Kind,
    subject: &str,
    text: &str,
    now_ns: u64,
) -> Result<(), DbError> {
    let sql = "INSERT INTO events (at_ns, subject, text, kind) VALUES (?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?.execute((int(now_ns), subject, text, kind.word()))?;
    Ok(())
}

impl Store {
    /// Writes one line of something that whoever wants to is told of.
    pub fn record_notice(
        &mut self,
        kind: Kind,
        subject: &str,
        text: &str,
        now_ns: u64,
    ) -> Result<(), DbError> {
        tell(&self.db, kind, subject, text, now_ns)
    }

    /// Writes one line into the history.
    pub fn record_event(&mut self, subject: &str, text: &str, now_ns: u64) -> Result<(), DbError> {
        record(&self.db, subject, text, now_ns)
    }

    /// The last `count` events of a segment and of the nodes that were seen in it last, newest first.
    pub fn events_of_segment(&self, segment: &Name, count: u32) -> Result<Vec<Event>, DbError> {
        let sql = "SELECT id, at_ns, subject, text, kind FROM events WHERE subject = 'segment ' || ?1 OR subject IN \
                   (SELECT 'node ' || n.name FROM nodes n JOIN members m ON m.node = n.id WHERE m.segment = ?1) \
                   ORDER BY id DESC LIMIT ?2";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map((segment.as_str(), count), read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A page of up to `count` events; the oldest first, wherever it lies.
    pub fn history(&self, page: Page, of: &Scope, count: u32) -> Result<Vec<Event>, DbError> {
        const EVENT: &str = "SELECT id, at_ns, subject, text, kind FROM events";
        // What names a site, its jobs and their runs, its schedules and windows; not nodes and segments.
        const OF_SITES: &str = "AND EXISTS (SELECT 1 FROM json_each(?3) AS of WHERE \
             subject = 'site ' || of.value \
             OR subject LIKE 'job %' \
             AND of.value = (SELECT site FROM jobs WHERE id = CAST(substr(subject, 5) AS INTEGER)) \
             OR subject LIKE 'run %' \
             AND of.value = (SELECT site FROM runs WHERE id = CAST(substr(subject, 5) AS INTEGER)) \
             OR subject LIKE 'schedule %' AND of.value = (SELECT site FROM schedules WHERE name = substr(subject, 10)) \
             OR subject LIKE 'window %' AND of.value = (SELECT site FROM windows WHERE name = substr(subject, 8)))";
        let of_sites = if of.is_farm() { "" } else { OF_SITES };
        let sql = match page {
            Page::After(_) => format!("{EVENT} WHERE id > ?1 {of_sites} ORDER BY id LIMIT ?2"),
            Page::Before(_) | Page::Last => format!(
                "SELECT * FROM ({EVENT} WHERE id < ?1 {of_sites} ORDER BY id DESC LIMIT ?2) ORDER BY id"
            ),
        };
        let mut query = self.db.prepare_cached(&sql)?;
        // Beyond what a number of the database can be there is nothing.
        let from = match page {
            Page::After(id) | Page::Before(id) => i64::try_from(id).unwrap_or(i64::MAX),
            Page::Last => i64::MAX,
        };
        let rows = match of {
            Scope::Farm => query.query_map((from, count), read_event)?,
            Scope::Sites(_) => query.query_map((from, count, scope_column(of)), read_event)?,
        };
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last `count` events, newest first: subject and text.
    pub fn events(&self, count: u32) -> Result<Vec<(String, String)>, DbError> {
        let mut query =
            self.db.prepare_cached("SELECT subject, text FROM events ORDER BY id DESC LIMIT ?1")?;
        let rows = query.query_map([count], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let (subject, text, kind) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(Event { id: uint(row, 0)?, at_ns: uint(row, 1)?, subject, text, kind })
}
