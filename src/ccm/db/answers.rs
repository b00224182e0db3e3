//! Answers that were given to requests with a key, so that one that is sent again is not carried out again.

use super::{DbError, Store, int};
use rusqlite::OptionalExtension;

/// For so long an answer is kept.
const KEPT_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Answers that are kept; the oldest go.
const ANSWERS_MAX: u32 = 10_000;

/// By what a request is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub who: String,
    /// As it chose it.
    pub key: String,
    /// Of method, address and body.
    pub digest: String,
}

/// Whether a request was answered before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    Never,
    /// With this body.
    So(String),
    /// Another request had the key.
    Otherwise,
}

impl Store {
    /// What was answered to a request in the last day.
    pub fn answered(&self, key: &Key, now_ns: u64) -> Result<Answered, DbError> {
        let sql = "SELECT digest, body FROM answers WHERE who = ?1 AND key = ?2 AND at_ns > ?3";
        let since = int(now_ns.saturating_sub(KEPT_NS));
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let found = self.db.query_row(sql, (&key.who, &key.key, since), read).optional()?;
        Ok(match found {
            None => Answered::Never,
            Some((digest, body)) if digest == key.digest => Answered::So(body),
            Some(_) => Answered::Otherwise,
        })
    }

    /// Keeps an answer, in the step that does what it tells of.
    pub fn keep_answer(&mut self, key: &Key, body: &str, now_ns: u64) -> Result<(), DbError> {
        let step = self.write()?;
        let sql =
            "INSERT OR REPLACE INTO answers (who, key, digest, body, at_ns) VALUES (?1, ?2, ?3, ?4, ?5)";
        step.execute(sql, (&key.who, &key.key, &key.digest, body, int(now_ns)))?;
        step.execute("DELETE FROM answers WHERE at_ns <= ?1", [int(now_ns.saturating_sub(KEPT_NS))])?;
        let sql = "DELETE FROM answers WHERE rowid IN \
                   (SELECT rowid FROM answers ORDER BY at_ns DESC, rowid DESC LIMIT -1 OFFSET ?1)";
        step.execute(sql, [ANSWERS_MAX])?;
        Ok(step.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{T0, store};

    fn key(who: &str, key: &str, digest: &str) -> Key {
        Key { who: who.into(), key: key.into(), digest: digest.into() }
    }

    #[test]
    fn an_answer_is_known_for_a_day_by_who_asked_and_what() {
        let (_dir, mut store) = store();
        let asked = key("uid:0", "k", "d");
        assert_eq!(store.answered(&asked, T0).unwrap(), Answered::Never);
        store.keep_answer(&asked, "{}", T0).unwrap();
        assert_eq!(store.answered(&asked, T0 + KEPT_NS - 1).unwrap(), Answered::So("{}".into()));
        assert_eq!(store.answered(&asked, T0 + KEPT_NS).unwrap(), Answered::Never);
        assert_eq!(store.answered(&key("uid:0", "k", "other"), T0).unwrap(), Answered::Otherwise);
        assert_eq!(store.answered(&key("token:ci", "k", "d"), T0).unwrap(), Answered::Never);
        store.keep_answer(&key("uid:0", "new", "d"), "{}", T0 + KEPT_NS).unwrap();
        let count: u32 = store.db.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "what is over goes");
    }

    #[test]
    fn the_oldest_answers_make_room() {
        let (_dir, mut store) = store();
        store
            .whole(|store| {
                (0..ANSWERS_MAX + 2).try_for_each(|at| {
                    let sql = "INSERT INTO answers VALUES ('x', ?1, '', '', ?2)";
                    store.db.execute(sql, (at.to_string(), int(T0 + u64::from(at))))?;
                    Ok(())
                })
            })
            .unwrap();
        store.keep_answer(&key("x", "last", ""), "", T0 + 20_000).unwrap();
        let count: u32 = store.db.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap();
        assert_eq!(count, ANSWERS_MAX);
        for (at, expected) in [("2", Answered::Never), ("3", Answered::So(String::new()))] {
            assert_eq!(store.answered(&key("x", at, ""), T0 + 20_000).unwrap(), expected, "{at}");
        }
    }
}
