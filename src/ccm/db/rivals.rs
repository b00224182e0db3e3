//! Second leaders of one segment: multicast does not pass between them and the known leader.
//!
//! For moments there may be two after a failover. Two that both report for seconds do not hear each other.

use super::{DbError, Store, events, int, parsed};
use crate::ccm::notify::notice::Kind;
use crate::wire::id::{Name, NodeId};
use rusqlite::Connection;

/// A second leader that has reported for so long is no failover any more.
const STANDING_NS: u64 = 5_000_000_000;
/// Silence after which it leads no more: leaders repeat a refused report every 5 s or sooner.
const SILENCE_NS: u64 = 12_000_000_000;

impl Store {
    /// Segments with nodes that lead them beside the known leader, by name of the segment.
    pub fn rivals(&self, now_ns: u64) -> Result<Vec<(Name, NodeId)>, DbError> {
        let sql = "SELECT segment, node FROM rivals WHERE last_ns > ?1 AND last_ns - since_ns >= ?2 \
                   ORDER BY segment, node";
        let mut query = self.db.prepare_cached(sql)?;
        let limits = (int(now_ns.saturating_sub(SILENCE_NS)), int(STANDING_NS));
        let rows = query.query_map(limits, |row| Ok((parsed(row, 0)?, parsed(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A report of a leader was refused, for another leads.
pub(super) fn note(db: &Connection, segment: &Name, node: NodeId, now_ns: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO rivals (node, segment, since_ns, last_ns) VALUES (?1, ?2, ?3, ?3) \
               ON CONFLICT (node) DO UPDATE SET last_ns = excluded.last_ns, segment = excluded.segment, \
               since_ns = iif(last_ns > ?4 AND segment = excluded.segment, since_ns, excluded.since_ns)";
    let silent_ns = now_ns.saturating_sub(SILENCE_NS);
    let stood = standing(db, node)?;
    db.prepare_cached(sql)?.execute((node.to_string(), segment.as_str(), int(now_ns), int(silent_ns)))?;
    if !stood && standing(db, node)? {
        let text = format!("{node} leads it as well for it does not hear the leader: multicast is blocked");
        events::tell(db, Kind::SegmentSplit, &format!("segment {segment}"), &text, now_ns)?;
    }
    Ok(())
}

/// Whether the node has led beside another for longer than a failover takes.
fn standing(db: &Connection, node: NodeId) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM rivals WHERE node = ?1 AND last_ns - since_ns >= ?2)";
    Ok(db.prepare_cached(sql)?.query_row((node.to_string(), int(STANDING_NS)), |row| row.get(0))?)
}

/// The node leads, or is a member of the known leader.
pub(super) fn forget(db: &Connection, node: &str) -> Result<(), DbError> {
    db.prepare_cached("DELETE FROM rivals WHERE node = ?1")?.execute([node])?;
    Ok(())
}
