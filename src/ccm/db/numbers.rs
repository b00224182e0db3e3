//! Numbers that are given once: of jobs, runs, assignments, orders, group lists (AS-6, D10).
//!
//! Nodes refuse what is not above the last they took, so a database that is older than the farm must not count on
//! from where it stands. What was given since is not known; so much is left out that it cannot matter.

use super::runs::close;
use super::{DbError, Store, events, int, uint};
use crate::ccm::api::types::Phase;
use crate::ccm::notify::notice::Kind;
use crate::wire::id::{AssignmentId, ListNumber, OrderId, RunId};
use crate::wire::report::SegmentReport;
use rusqlite::Connection;

/// So many numbers of each series are left out behind a database that is a copy of an earlier one: more than a farm
/// uses while a copy is worth restoring, a run a second for eleven days.
pub const GAP: u64 = 1_000_000;
/// A report of a number further above ours than this is not believed: it would use the numbers up.
const PLAUSIBLE: u64 = 1 << 32;
/// Nor is one from here on: a version's number has to leave room for those of its parts (AS-13).
const VERSION_MAX: u64 = 1 << (AssignmentId::VERSION_BITS - 1);
/// What nodes remember, or documents for nodes hold.
const SERIES: [&str; 5] = ["job", "run", "assignment", "order", "group list"];

/// The last number of each series that nodes remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub assignment: AssignmentId,
    pub order: OrderId,
}

/// The next number of a series, from 1, never the same again (AS-6).
pub(super) fn next_number(step: &Connection, series: &str) -> Result<u64, DbError> {
    let sql = "INSERT INTO counters (name, value) VALUES (?1, 1) \
               ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value";
    Ok(step.prepare_cached(sql)?.query_row([series], |row| uint(row, 0))?)
}

fn last(db: &Connection, series: &str) -> Result<u64, DbError> {
    let sql = "SELECT ifnull((SELECT value FROM counters WHERE name = ?1), 0)";
    Ok(db.prepare_cached(sql)?.query_row([series], |row| uint(row, 0))?)
}

/// Leaves a gap in every series, above `seen` as well.
fn leave_out(step: &Connection, seen: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO counters (name, value) VALUES (?1, ?2 + ?3) \
               ON CONFLICT (name) DO UPDATE SET value = max(value, ?2) + ?3";
    for series in SERIES {
        step.execute(sql, (series, int(seen), int(GAP)))?;
    }
    // The numbers of the lists that are kept are below the gap: the next report has new ones made.
    step.execute("DELETE FROM group_lists", ())?;
    Ok(())
}

/// A report tells of versions, or of a list, that this database never gave: it is older than the farm. It counts on
/// above them.
pub(super) fn note_reported(step: &Connection, report: &SegmentReport, now_ns: u64) -> Result<(), DbError> {
    let members = || report.members.iter();
    let versions = members().flat_map(|member| &member.sites).filter_map(|state| state.version);
    let version = versions.max().unwrap_or_default();
    let list = members().map(|member| member.groups).max().unwrap_or(ListNumber(0));
    for (series, seen) in [("assignment", version.0), ("group list", list.0)] {
        let known = last(step, series)?;
        if seen <= known {
            continue;
        }
        if seen - known > PLAUSIBLE || (series == "assignment" && seen >= VERSION_MAX) {
            log::warn!("segment {} reports {series} {seen}, which nobody gave: ignored", report.segment);
            continue;
        }
        let text = format!(
            "segment {} holds {series} {seen}, this database gave none above {known}: it is an older copy; numbers \
             go on above, a million left out",
            report.segment
        );
        log::error!("{text}");
        leave_out(step, seen)?;
        events::tell(step, Kind::Database, "database", &text, now_ns)?;
    }
    Ok(())
}

impl Store {
    /// The last numbers that were given.
    pub fn given(&self) -> Result<Given, DbError> {
        let (assignment, order) = (last(&self.db, "assignment")?, last(&self.db, "order")?);
        Ok(Given { assignment: AssignmentId(assignment), order: OrderId(order) })
    }

    /// A node refused an order as older than one that it carried out, which is not in this database.
    pub fn note_refused_order(&mut self, node: &str, order: OrderId, now_ns: u64) -> Result<(), DbError> {
        let step = self.write()?;
        // The others that refuse the same order say nothing new.
        if last(&step, "order")?.saturating_sub(order.0) < GAP {
            let text = format!(
                "node {node} knows a newer order than {order}: this database is an older copy; numbers go on above, a \
                 million left out"
            );
            log::error!("{text}");
            leave_out(&step, 0)?;
            events::tell(&step, Kind::Database, "database", &text, now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// Makes a copy of an earlier time fit to go on with: numbers stay unique, nothing that was under way then goes
    /// on, schedules look ahead, and nobody is online before a leader reports. Invites and tokens are
    /// void, for they may have been used or revoked since. Returns how many runs it ended. `why` is for the history.
    pub fn go_on_from_copy(&mut self, why: &str, now_ns: u64) -> Result<usize, DbError> {
        let step = self.write_schedules()?;
        leave_out(&step, 0)?;
        let unfinished: Vec<RunId> = {
            let sql = "SELECT id FROM runs WHERE phase IN ('queued', 'composing', 'distributing', 'committing') \
                       ORDER BY id";
            let mut query = step.prepare(sql)?;
            query.query_map([], |row| Ok(RunId(uint(row, 0)?)))?.collect::<Result<_, _>>()?
        };
        for run in &unfinished {
            let text =
                "the database was brought back from a copy while it was under way there; publish again";
            close(&step, *run, Phase::Cancelled, text, now_ns)?;
        }
        let sql = "UPDATE schedules SET since_ns = ?1, \
                   seen_end = ifnull((SELECT value FROM counters WHERE name = 'end'), 0)";
        step.execute(sql, [int(now_ns)])?;
        step.execute_batch(
            "DELETE FROM invites; DELETE FROM tokens; UPDATE segments SET leader = ''; UPDATE members SET online = 0;",
        )?;
        events::tell(&step, Kind::Database, "database", why, now_ns)?;
        step.commit()?;
        Ok(unfinished.len())
    }
}

#[cfg(test)]
mod tests;
