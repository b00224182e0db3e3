//! How far receivers have been told of the history.

use super::{DbError, Store, events, int, uint};
use crate::ccm::notify::notice::Notice;
use rusqlite::{OptionalExtension, Row};

/// Lines of the history that are looked at in one step.
const BATCH: u32 = 500;

/// How one receiver stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Events up to this one have been dealt with.
    pub seen: u64,
    /// Tries of the next one in vain, why the last was, since when, and before when there is no other.
    pub tries: u32,
    pub failure: String,
    pub failing_ns: u64,
    pub next_ns: u64,
    pub delivered: u64,
    pub delivered_ns: u64,
    pub dropped: u64,
}

const NOTICES: &str = "SELECT e.id, e.at_ns, e.kind, e.subject, e.text, ifnull(r.job, 0), ifnull(r.site, '') \
     FROM events e LEFT JOIN runs r ON e.subject = 'run ' || r.id WHERE e.kind != ''";

impl Store {
    /// What a receiver is to be told next, if there is anything that it wants. One that is new is told of nothing that
    /// was before it. Of what waits, all but the newest `waiting_max` is given up.
    pub fn next_notice(
        &mut self,
        name: &str,
        waiting_max: u32,
        wants: impl Fn(&str) -> bool,
        now_ns: u64,
    ) -> Result<Option<(Notice, Standing)>, DbError> {
        let sql = "INSERT INTO receivers (name, seen) VALUES (?1, ifnull((SELECT max(id) FROM events), 0)) \
                   ON CONFLICT DO NOTHING";
        self.db.prepare_cached(sql)?.execute([name])?;
        let mut standing = self.receiver(name)?.unwrap_or_default();
        let sql = "SELECT id FROM events WHERE kind != '' AND id > ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2";
        let beyond: Option<u64> = {
            let mut query = self.db.prepare_cached(sql)?;
            query.query_row((int(standing.seen), waiting_max), |row| uint(row, 0)).optional()?
        };
        if let Some(beyond) = beyond {
            let text = format!("more than {waiting_max} events wait: those up to {beyond} are given up");
            log::error!("notify {name}: {text}");
            self.give_up_notice(name, beyond, &text, now_ns)?;
            standing = self.receiver(name)?.unwrap_or_default();
        }
        loop {
            let batch: Vec<Notice> = {
                let sql = format!("{NOTICES} AND e.id > ?1 ORDER BY e.id LIMIT ?2");
                let mut query = self.db.prepare_cached(&sql)?;
                query.query_map((int(standing.seen), BATCH), read)?.collect::<Result<_, _>>()?
            };
            let Some(last) = batch.last().map(|notice| notice.id) else { return Ok(None) };
            let found = batch.into_iter().find(|notice| wants(&notice.kind));
            if let Some(notice) = found {
                return Ok(Some((notice, standing)));
            }
            standing.seen = last;
            let sql = "UPDATE receivers SET seen = ?2 WHERE name = ?1";
            self.db.prepare_cached(sql)?.execute((name, int(last)))?;
        }
    }

    /// It has been told of this event.
    pub fn note_delivered(&mut self, name: &str, event: u64, now_ns: u64) -> Result<(), DbError> {
        let sql = "UPDATE receivers SET seen = ?2, tries = 0, failure = '', failing_ns = 0, next_ns = 0, \
                   delivered = delivered + 1, delivered_ns = ?3 WHERE name = ?1";
        self.db.prepare_cached(sql)?.execute((name, int(event), int(now_ns)))?;
        Ok(())
    }

    /// A try was in vain.
    pub fn note_undelivered(
        &mut self,
        name: &str,
        failure: &str,
        failing_ns: u64,
        next_ns: u64,
    ) -> Result<(), DbError> {
        let sql = "UPDATE receivers SET tries = tries + 1, failure = ?2, failing_ns = ?3, next_ns = ?4 \
                   WHERE name = ?1";
        self.db.prepare_cached(sql)?.execute((name, failure, int(failing_ns), int(next_ns)))?;
        Ok(())
    }

    /// The next try need not wait any more.
    #[cfg(test)]
    pub fn try_now(&mut self, name: &str) -> Result<(), DbError> {
        self.db.execute("UPDATE receivers SET next_ns = 0 WHERE name = ?1", [name])?;
        Ok(())
    }

    /// It is told of no event up to this one any more, and the history says so.
    pub fn give_up_notice(&mut self, name: &str, event: u64, text: &str, now_ns: u64) -> Result<(), DbError> {
        let step = self.write()?;
        let sql = "UPDATE receivers SET tries = 0, failing_ns = 0, next_ns = 0, failure = ?3, seen = ?2, \
                   dropped = dropped + (SELECT count(*) FROM events WHERE kind != '' AND id > receivers.seen \
                   AND id <= ?2) WHERE name = ?1";
        step.execute(sql, (name, int(event), text))?;
        events::record(&step, &format!("notify {name}"), text, now_ns)?;
        Ok(step.commit()?)
    }

    /// How a receiver stands; `None` before its first look.
    pub fn receiver(&self, name: &str) -> Result<Option<Standing>, DbError> {
        let sql = "SELECT seen, tries, failure, failing_ns, next_ns, delivered, delivered_ns, dropped FROM receivers \
                   WHERE name = ?1";
        let read = |row: &Row<'_>| {
            Ok(Standing {
                seen: uint(row, 0)?,
                tries: row.get(1)?,
                failure: row.get(2)?,
                failing_ns: uint(row, 3)?,
                next_ns: uint(row, 4)?,
                delivered: uint(row, 5)?,
                delivered_ns: uint(row, 6)?,
                dropped: uint(row, 7)?,
            })
        };
        Ok(self.db.prepare_cached(sql)?.query_row([name], read).optional()?)
    }

    /// Events beyond a number by kind, as many as wait.
    pub fn waiting(&self, seen: u64, wants: impl Fn(&str) -> bool) -> Result<u64, DbError> {
        let sql = "SELECT kind, count(*) FROM events WHERE kind != '' AND id > ?1 GROUP BY kind";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([int(seen)], |row| Ok((row.get::<_, String>(0)?, uint(row, 1)?)))?;
        let counts: Vec<(String, u64)> = rows.collect::<Result<_, _>>()?;
        Ok(counts.iter().filter(|(kind, _)| wants(kind)).map(|(_, count)| count).sum())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Notice> {
    Ok(Notice {
        id: uint(row, 0)?,
        at_ns: uint(row, 1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        text: row.get(4)?,
        job: uint(row, 5)?,
        site: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::notify::notice::Kind;
    use crate::ccm::testing::{T0, store};

    #[test]
    fn a_receiver_is_told_in_order_of_what_it_wants_and_of_what_came_after_it() {
        let (_dir, mut store) = store();
        let tell =
            |store: &mut Store, kind, text: &str| store.record_notice(kind, "node a", text, T0).unwrap();
        let next = |store: &mut Store, word: &'static str| {
            let next = store.next_notice("ops", 3, |kind| word.is_empty() || kind == word, T0).unwrap();
            next.map(|(notice, standing)| (notice.id, notice.text, standing.tries))
        };
        tell(&mut store, Kind::NodeOffline, "before");
        assert_eq!(next(&mut store, ""), None);
        store.record_event("farm", "nothing to tell", T0).unwrap();
        tell(&mut store, Kind::NodeOnline, "first");
        tell(&mut store, Kind::NodeOffline, "second");
        assert_eq!(next(&mut store, "node-offline"), Some((4, "second".to_owned(), 0)));
        store.note_undelivered("ops", "refused", T0, T0 + 5).unwrap();
        assert_eq!(next(&mut store, "node-offline"), Some((4, "second".to_owned(), 1)));
        let failing = store.receiver("ops").unwrap().unwrap();
        assert_eq!((failing.failure.as_str(), failing.next_ns, failing.delivered), ("refused", T0 + 5, 0));
        store.note_delivered("ops", 4, T0).unwrap();
        assert_eq!(next(&mut store, ""), None);
        let well = store.receiver("ops").unwrap().unwrap();
        assert_eq!((well.tries, well.failure.as_str(), well.delivered, well.seen), (0, "", 1, 4));

        (0..5).for_each(|number| tell(&mut store, Kind::NodeOffline, &number.to_string()));
        assert_eq!(store.waiting(4, |_| true).unwrap(), 5);
        assert_eq!(next(&mut store, ""), Some((7, "2".to_owned(), 0)), "three wait at most");
        assert_eq!(store.receiver("ops").unwrap().unwrap().dropped, 2);
        assert_eq!(store.waiting(6, |kind| kind == "node-online").unwrap(), 0);
    }
}
