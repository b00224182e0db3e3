//! The history is kept for as long as an operator wants: the oldest events go, some at a time.

use super::{DbError, Store, int, uint};

const NS_PER_DAY: u64 = 24 * 3_600 * 1_000_000_000;

/// What of the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub days: u32,
    pub events: u64,
}

impl Store {
    /// Removes up to `most` of the oldest events that are not to be kept; returns how many went. Nobody waits for the
    /// database longer than for so many lines. Numbers of events are never given again.
    pub fn prune_events(&mut self, keep: Keep, most: u32, now_ns: u64) -> Result<u32, DbError> {
        let newest: u64 =
            self.db.query_row("SELECT ifnull(max(id), 0) FROM events", [], |row| uint(row, 0))?;
        let beyond = newest.saturating_sub(keep.events);
        let too_old = now_ns.saturating_sub(u64::from(keep.days).saturating_mul(NS_PER_DAY));
        let oldest: Vec<(u64, u64)> = {
            let mut query = self.db.prepare_cached("SELECT id, at_ns FROM events ORDER BY id LIMIT ?1")?;
            let rows = query.query_map([most], |row| Ok((uint(row, 0)?, uint(row, 1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        // Up to the first that stays: what is kept has no gaps.
        let goes = oldest.iter().take_while(|(id, at_ns)| *id <= beyond || *at_ns < too_old);
        let Some((last, _)) = goes.clone().last() else { return Ok(0) };
        let count = self.db.execute("DELETE FROM events WHERE id <= ?1", [int(*last)])?;
        Ok(u32::try_from(count).unwrap_or(most))
    }

    /// The number of the last event that is not kept any more; 0 where all are.
    pub fn events_forgotten(&self) -> Result<u64, DbError> {
        let sql = "SELECT ifnull((SELECT min(id) - 1 FROM events), \
                   ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0))";
        Ok(self.db.prepare_cached(sql)?.query_row([], |row| uint(row, 0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Page;
    use super::*;
    use crate::ccm::access::Scope;
    use crate::ccm::testing::{T0, store};

    const DAY: u64 = NS_PER_DAY;

    fn kept(store: &Store) -> Vec<u64> {
        store.history(Page::After(0), &Scope::Farm, 100).unwrap().iter().map(|event| event.id).collect()
    }

    #[test]
    fn the_oldest_go_by_age_and_number_a_few_at_a_time_and_numbers_are_not_given_again() {
        let (_dir, mut store) = store();
        for day in 0..10 {
            store.record_event("farm", "day", T0 + day * DAY).unwrap();
        }
        assert_eq!(store.events_forgotten().unwrap(), 0);
        let by_age = Keep { days: 5, events: 100 };
        let now = T0 + 10 * DAY;
        assert_eq!(store.prune_events(by_age, 3, now).unwrap(), 3);
        assert_eq!(store.prune_events(by_age, 3, now).unwrap(), 2);
        assert_eq!(store.prune_events(by_age, 3, now).unwrap(), 0);
        assert_eq!((kept(&store), store.events_forgotten().unwrap()), (vec![6, 7, 8, 9, 10], 5));
        assert_eq!(store.prune_events(Keep { days: 100, events: 2 }, 100, now).unwrap(), 3);
        assert_eq!((kept(&store), store.events_forgotten().unwrap()), (vec![9, 10], 8));
        assert_eq!(store.prune_events(Keep { days: 1, events: 2 }, 100, now + 100 * DAY).unwrap(), 2);
        assert_eq!((kept(&store), store.events_forgotten().unwrap()), (vec![], 10), "all are forgotten");
        store.record_event("farm", "later", now).unwrap();
        assert_eq!((kept(&store), store.events_forgotten().unwrap()), (vec![11], 10));
    }

    /// A clock that was ahead when something happened: what came after it stays with it, as far as numbers allow.
    #[test]
    fn what_is_kept_has_no_gaps() {
        let (_dir, mut store) = store();
        for at in [T0, T0 + 900 * DAY, T0 + DAY] {
            store.record_event("farm", "x", at).unwrap();
        }
        let keep = Keep { days: 30, events: 100 };
        assert_eq!(store.prune_events(keep, 100, T0 + 60 * DAY).unwrap(), 1);
        assert_eq!(kept(&store), [2, 3]);
        assert_eq!(store.prune_events(Keep { events: 1, ..keep }, 100, T0 + 60 * DAY).unwrap(), 2);
        assert_eq!(kept(&store), [0; 0], "beyond the number it goes all the same, and what was kept for it");
    }
}
