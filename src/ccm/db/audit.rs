//! Who changed what, and who was refused: the audit.
//!
//! A change has a line of its own, written before it is carried out and completed behind it. What may come in floods,
//! refusals and the pieces of uploads, is counted: one line for each minute and each that is alike.

use super::{DbError, Store, int, uint};
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

/// Lines of changes, and of refusals, that are kept.
const CHANGES_MAX: u32 = 100_000;
const REFUSALS_MAX: u32 = 10_000;
/// The oldest lines go whenever so many new ones have come.
const PRUNE_EVERY: u64 = 100;
/// What is alike is counted on one line for so long.
const COUNTED_NS: u64 = 60 * 1_000_000_000;
/// Lines that are counted on at a time; all else shares one.
const COUNTED_MAX: usize = 100;
/// In place of a name or an address where there are too many.
const OTHERS: &str = "others";

const LINES: &str =
    "SELECT id, at_ns, who, origin, method, route, site, detail, status, refused, count, last_ns FROM audit";

/// What somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Act {
    /// `uid:1000`, `token:ci`; empty where nobody knows.
    pub who: String,
    /// `unix`, or an address.
    pub origin: String,
    pub method: String,
    /// As the router writes it.
    pub route: String,
    /// Empty: of no site, or of all.
    pub site: String,
    pub detail: String,
    /// Of the answer; 0 while there is none.
    pub status: u16,
    /// For want of a right.
    pub refused: bool,
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Later lines have higher numbers.
    pub id: u64,
    pub at_ns: u64,
    pub act: Act,
    /// Requests that it stands for, and when the last of them was.
    pub count: u64,
    pub last_ns: u64,
}

/// Lines that are still counted on, by what is alike in them.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Act, Counted>);

#[derive(Debug)]
struct Counted {
    line: u64,
    since_ns: u64,
    /// Not yet on the line.
    more: u64,
    last_ns: u64,
}

impl Counted {
    const fn has_ended(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= COUNTED_NS
    }
}

impl Store {
    /// Writes down what is about to be done; [`end_act`](Self::end_act) says how it ended.
    pub fn begin_act(&mut self, act: &Act, now_ns: u64) -> Result<u64, DbError> {
        let step = self.write()?;
        let line = insert(&step, act, now_ns)?;
        step.commit()?;
        Ok(line)
    }

    /// How what was begun has ended, and what is known of it only now.
    pub fn end_act(&mut self, line: u64, act: &Act) -> Result<(), DbError> {
        let sql = "UPDATE audit SET status = ?2, site = ?3, detail = ?4 WHERE id = ?1";
        self.db.prepare_cached(sql)?.execute((int(line), act.status, &act.site, &act.detail))?;
        Ok(())
    }

    /// What was begun turns out to be refused: it is counted with the other refusals.
    pub fn deny_act(&mut self, line: u64, act: &Act, now_ns: u64) -> Result<(), DbError> {
        self.db.execute("DELETE FROM audit WHERE id = ?1", [int(line)])?;
        self.count_act(act, now_ns)
    }

    /// Counts an act that may come in floods: with those that are alike but for their details, and refusals with all
    /// of the same name from the same address.
    pub fn count_act(&mut self, act: &Act, now_ns: u64) -> Result<(), DbError> {
        let mut key = Act { detail: String::new(), ..act.clone() };
        if act.refused {
            (key.method, key.route, key.site, key.status) = (String::new(), String::new(), String::new(), 0);
        }
        if self.tally.0.values().any(|counted| counted.has_ended(now_ns)) {
            self.settle_tally(now_ns)?;
        }
        if !self.tally.0.contains_key(&key) && self.tally.0.len() >= COUNTED_MAX {
            key = Act { who: OTHERS.into(), origin: OTHERS.into(), refused: act.refused, ..Act::default() };
        }
        if let Some(counted) = self.tally.0.get_mut(&key) {
            counted.more += 1;
            counted.last_ns = now_ns;
            return Ok(());
        }
        let first = Act { who: key.who.clone(), origin: key.origin.clone(), ..act.clone() };
        let step = self.write()?;
        let line = insert(&step, &first, now_ns)?;
        step.commit()?;
        self.tally.0.insert(key, Counted { line, since_ns: now_ns, more: 0, last_ns: now_ns });
        Ok(())
    }

    /// Brings the counts of [`count_act`](Self::count_act) onto their lines.
    pub fn settle_tally(&mut self, now_ns: u64) -> Result<(), DbError> {
        let waits: Vec<_> = self.tally.0.values().filter(|counted| counted.more > 0).collect();
        let waits: Vec<_> =
            waits.iter().map(|counted| (counted.line, counted.more, counted.last_ns)).collect();
        if !waits.is_empty() {
            let step = self.write()?;
            for (line, more, last_ns) in waits {
                let sql = "UPDATE audit SET count = count + ?2, last_ns = ?3 WHERE id = ?1";
                step.execute(sql, (int(line), int(more), int(last_ns)))?;
            }
            step.commit()?;
        }
        self.tally.0.values_mut().for_each(|counted| counted.more = 0);
        self.tally.0.retain(|_, counted| !counted.has_ended(now_ns));
        Ok(())
    }

    /// Up to `count` lines before the number `before`, or the last ones; the newest first.
    pub fn audit(&self, before: Option<u64>, count: u32) -> Result<Vec<AuditLine>, DbError> {
        let mut query =
            self.db.prepare_cached(&format!("{LINES} WHERE id < ?1 ORDER BY id DESC LIMIT ?2"))?;
        let before = before.map_or(i64::MAX, |id| i64::try_from(id).unwrap_or(i64::MAX));
        Ok(query.query_map((before, count), read_line)?.collect::<Result<_, _>>()?)
    }
}

fn insert(db: &Connection, act: &Act, now_ns: u64) -> Result<u64, DbError> {
    let sql = "INSERT INTO audit (at_ns, who, origin, method, route, site, detail, status, refused, count, last_ns) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?1)";
    db.prepare_cached(sql)?.execute((
        int(now_ns),
        &act.who,
        &act.origin,
        &act.method,
        &act.route,
        &act.site,
        &act.detail,
        act.status,
        act.refused,
    ))?;
    let line = db.last_insert_rowid().cast_unsigned();
    if line.is_multiple_of(PRUNE_EVERY) {
        for (refused, keep) in [(false, CHANGES_MAX), (true, REFUSALS_MAX)] {
            prune(db, refused, keep)?;
        }
    }
    Ok(line)
}

fn prune(db: &Connection, refused: bool, keep: u32) -> Result<(), DbError> {
    let sql = "DELETE FROM audit WHERE refused = ?1 AND id <= \
               (SELECT id FROM audit WHERE refused = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    db.prepare_cached(sql)?.execute((refused, keep))?;
    Ok(())
}

fn read_line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let act = Act {
        who: row.get(2)?,
        origin: row.get(3)?,
        method: row.get(4)?,
        route: row.get(5)?,
        site: row.get(6)?,
        detail: row.get(7)?,
        status: row.get(8)?,
        refused: row.get(9)?,
    };
    Ok(AuditLine {
        id: uint(row, 0)?,
        at_ns: uint(row, 1)?,
        act,
        count: uint(row, 10)?,
        last_ns: uint(row, 11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{SECOND, T0, store};

    fn act(who: &str, origin: &str, refused: bool) -> Act {
        let words = |text: &str| text.to_owned();
        Act {
            who: words(who),
            origin: words(origin),
            method: words("POST"),
            route: words("/v1/jobs"),
            status: if refused { 403 } else { 202 },
            refused,
            ..Act::default()
        }
    }

    #[test]
    fn a_change_is_written_down_before_it_is_made_and_completed_behind_it() {
        let (_dir, mut store) = store();
        let begun = Act { status: 0, ..act("uid:0", "unix", false) };
        let line = store.begin_act(&begun, T0).unwrap();
        assert_eq!(store.audit(None, 9).unwrap()[0].act, begun);
        let ended = Act { status: 202, site: "www".into(), detail: "publish".into(), ..begun.clone() };
        store.end_act(line, &ended).unwrap();
        let lines = store.audit(None, 9).unwrap();
        assert_eq!((lines.len(), &lines[0].act, lines[0].count), (1, &ended, 1));
        let denied = act("uid:0", "unix", true);
        for _ in 0..2 {
            let line = store.begin_act(&begun, T0).unwrap();
            store.deny_act(line, &denied, T0).unwrap();
        }
        store.settle_tally(T0).unwrap();
        let lines = store.audit(None, 9).unwrap();
        assert_eq!((lines.len(), lines[0].act.refused, lines[0].count), (2, true, 2));
    }

    #[test]
    fn refusals_of_one_address_are_one_line_a_minute_with_their_number() {
        let (_dir, mut store) = store();
        for at in 0..30 {
            let route = Act { route: format!("/v1/{at}"), ..act("", "10.0.0.1", true) };
            store.count_act(&route, T0 + at * SECOND).unwrap();
        }
        store.count_act(&act("", "10.0.0.2", true), T0).unwrap();
        store.count_act(&act("token:ci", "10.0.0.2", true), T0).unwrap();
        assert_eq!(store.audit(None, 9).unwrap().len(), 3);
        store.settle_tally(T0 + 31 * SECOND).unwrap();
        let first = store.audit(None, 9).unwrap().pop().unwrap();
        assert_eq!((first.count, first.last_ns, first.act.route.as_str()), (30, T0 + 29 * SECOND, "/v1/0"));
        store.count_act(&act("", "10.0.0.1", true), T0 + 59 * SECOND).unwrap();
        assert_eq!(store.audit(None, 9).unwrap().len(), 3, "the minute goes on");
        store.count_act(&act("", "10.0.0.1", true), T0 + 60 * SECOND).unwrap();
        let lines = store.audit(None, 9).unwrap();
        assert_eq!((lines.len(), lines[0].count, lines[3].count), (4, 1, 31));
    }

    #[test]
    fn what_is_counted_but_not_refused_differs_by_route_and_site() {
        let (_dir, mut store) = store();
        for (site, status) in [("www", 204), ("www", 204), ("www", 409), ("shop", 204)] {
            let upload = Act { site: site.into(), status, ..act("token:ci", "10.0.0.1", false) };
            store.count_act(&upload, T0).unwrap();
        }
        store.settle_tally(T0).unwrap();
        let counts: Vec<u64> = store.audit(None, 9).unwrap().iter().map(|line| line.count).collect();
        assert_eq!(counts, [1, 1, 2]);
    }

    #[test]
    fn ten_thousand_addresses_are_a_hundred_lines_and_one() {
        let (_dir, mut store) = store();
        for at in 0..10_000 {
            store.count_act(&act("", &format!("fd00::{at:x}"), true), T0).unwrap();
        }
        store.settle_tally(T0).unwrap();
        let lines = store.audit(None, 1_000).unwrap();
        assert_eq!((lines.len(), lines[0].act.origin.as_str()), (COUNTED_MAX + 1, OTHERS));
        assert_eq!(lines[0].count, 10_000 - COUNTED_MAX as u64);
    }

    #[test]
    fn the_oldest_lines_go_and_refusals_do_not_push_out_changes() {
        let (_dir, mut store) = store();
        for at in 0..50 {
            let line = act("uid:0", "unix", at % 2 == 0);
            insert(&store.db, &line, T0).unwrap();
        }
        prune(&store.db, true, 3).unwrap();
        let lines = store.audit(None, 100).unwrap();
        let refused: Vec<u64> = lines.iter().filter(|line| line.act.refused).map(|line| line.id).collect();
        assert_eq!((lines.len(), refused), (28, vec![49, 47, 45]));
        let page: Vec<u64> = store.audit(Some(48), 2).unwrap().iter().map(|line| line.id).collect();
        assert_eq!(page, [47, 46]);
        assert_eq!(store.audit(Some(u64::MAX), 1).unwrap()[0].id, 50);
        store.settle_tally(T0).unwrap();
    }
}
