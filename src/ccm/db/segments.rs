//! Segments and their members, from the reports of leaders (NS-2..NS-4, DB-7).

use super::{DbError, Store, events, int, members, numbers, parsed, presence, rivals, uint};
use crate::ccm::model::{Decided, SEGMENT_TIMEOUT_NS, Segment};
use crate::ccm::notify::notice::Kind;
use crate::wire::charter::Leaders;
use crate::wire::id::{CharterId, Epoch, Name, NodeId};
use crate::wire::report::SegmentReport;
use rusqlite::{Connection, OptionalExtension, Row};

/// Which of a node's requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UplinkStamp {
    pub boot: u32,
    pub seq: u64,
}

/// Why a report on a segment was not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    #[error(
        "segment {segment} is in epoch {known}, the report is of epoch {reported}: another leads by now; if \
         this lasts, the two do not hear each other's multicast"
    )]
    Epoch { segment: Name, known: Epoch, reported: Epoch },
    #[error(
        "segment {segment} has another leader in epoch {epoch}: {leader}; if this lasts, the two do not hear \
         each other's multicast"
    )]
    Leader { segment: Name, epoch: Epoch, leader: NodeId },
    #[error("the report on segment {0} does not hold its sender")]
    NotMember(Name),
}

const SEGMENTS: &str = "SELECT name, leader, epoch, reported_ns, title, charter, wanted_channel, leaders, \
     open_after_s, channel, reported_charter, behind FROM segments";

impl Store {
    /// Remembers a request of a node; false where it is not above the last one: a replay (T2).
    pub fn accept_stamp(&mut self, node: NodeId, stamp: UplinkStamp) -> Result<bool, DbError> {
        self.soon(|step| accept(step, node, stamp))
    }

    /// Takes a leader's picture of its segment for true: who is in it is online, who was in it and is
    /// not any more is offline. Only members that have joined count.
    pub fn take_segment_report(
        &mut self,
        sender: NodeId,
        report: &SegmentReport,
        now_ns: u64,
    ) -> Result<Result<(), ReportRefused>, DbError> {
        self.soon(|step| take_report(step, sender, report, now_ns))
    }

    /// Takes segments whose leader fell silent, and their nodes, offline.
    pub fn expire_segments(&mut self, now_ns: u64) -> Result<(), DbError> {
        let silent: Vec<Name> = {
            let limit = now_ns.saturating_sub(SEGMENT_TIMEOUT_NS);
            let sql = "SELECT name FROM segments WHERE leader <> '' AND reported_ns < ?1";
            let mut query = self.db.prepare_cached(sql)?;
            query.query_map([int(limit)], |row| parsed(row, 0))?.collect::<Result<_, _>>()?
        };
        if silent.is_empty() {
            return Ok(());
        }
        let step = self.write()?;
        for name in &silent {
            step.execute("UPDATE segments SET leader = '' WHERE name = ?1", [name.as_str()])?;
            let sql = "UPDATE members SET online = 0, \
                       seen_ns = (SELECT reported_ns FROM segments WHERE name = ?1) WHERE segment = ?1 AND online = 1";
            step.execute(sql, [name.as_str()])?;
            let (kind, text) = (Kind::SegmentSilent, "its leader fell silent");
            events::tell(&step, kind, &format!("segment {name}"), text, now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// All segments by name.
    pub fn segments(&self) -> Result<Vec<Segment>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{SEGMENTS} ORDER BY name"))?;
        Ok(query.query_map([], segment)?.collect::<Result<_, _>>()?)
    }
}

fn accept(step: &Connection, node: NodeId, stamp: UplinkStamp) -> Result<bool, DbError> {
    let id = node.to_string();
    let last = step
        .prepare_cached("SELECT boot, seq FROM nodes WHERE id = ?1")?
        .query_row([&id], |row| Ok(UplinkStamp { boot: row.get(0)?, seq: uint(row, 1)? }))?;
    if stamp <= last {
        return Ok(false);
    }
    let sql = "UPDATE nodes SET boot = ?2, seq = ?3 WHERE id = ?1";
    step.prepare_cached(sql)?.execute((&id, stamp.boot, int(stamp.seq)))?;
    Ok(true)
}

fn take_report(
    step: &Connection,
    sender: NodeId,
    report: &SegmentReport,
    now_ns: u64,
) -> Result<Result<(), ReportRefused>, DbError> {
    let name = &report.segment;
    if !report.members.iter().any(|member| member.node() == sender) {
        return Ok(Err(ReportRefused::NotMember(name.clone())));
    }
    let known = by_name(step, name)?;
    if let Some(refused) = known.as_ref().and_then(|known| refusal(known, sender, report.epoch, now_ns)) {
        rivals::note(step, name, sender, now_ns)?;
        return Ok(Err(refused));
    }
    let seen_ns = known.as_ref().map_or(now_ns, |known| known.reported_ns);
    if known.is_none_or(|known| known.leader != Some(sender)) {
        let text = format!("led by {sender} in epoch {}", report.epoch);
        events::record(step, &format!("segment {name}"), &text, now_ns)?;
    }
    let sql = "INSERT INTO segments (name, leader, epoch, reported_ns, channel, reported_charter, behind) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
               ON CONFLICT (name) DO UPDATE SET leader = excluded.leader, epoch = excluded.epoch, \
               reported_ns = excluded.reported_ns, channel = excluded.channel, \
               reported_charter = excluded.reported_charter, behind = excluded.behind";
    let row = (
        name.as_str(),
        sender.to_string(),
        int(report.epoch.0),
        int(now_ns),
        report.channel.to_string(),
        int(report.charter.0),
        report.behind,
    );
    step.prepare_cached(sql)?.execute(row)?;
    members::put(step, name, &report.members, seen_ns, now_ns)?;
    numbers::note_reported(step, report, now_ns)?;
    for (node, other) in &report.twins {
        presence::note_twin(step, name, *node, *other, now_ns)?;
    }
    Ok(Ok(()))
}

/// An older epoch, or a second leader in the same one, is not believed while the known leader reports.
fn refusal(known: &Segment, sender: NodeId, epoch: Epoch, now_ns: u64) -> Option<ReportRefused> {
    let leader = known.leader?;
    if now_ns.saturating_sub(known.reported_ns) > SEGMENT_TIMEOUT_NS {
        return None;
    }
    let segment = known.name.clone();
    if epoch < known.epoch {
        Some(ReportRefused::Epoch { segment, known: known.epoch, reported: epoch })
    } else if epoch == known.epoch && leader != sender {
        Some(ReportRefused::Leader { segment, epoch, leader })
    } else {
        None
    }
}

pub(super) fn by_name(db: &Connection, name: &Name) -> Result<Option<Segment>, DbError> {
    let mut query = db.prepare_cached(&format!("{SEGMENTS} WHERE name = ?1"))?;
    Ok(query.query_row([name.as_str()], segment).optional()?)
}

fn segment(row: &Row<'_>) -> rusqlite::Result<Segment> {
    let name: Name = parsed(row, 0)?;
    let open_after: i64 = row.get(8)?;
    let ids: String = row.get(7)?;
    let nodes = ids.split_whitespace().map(str::parse).collect::<Result<Vec<NodeId>, _>>();
    let nodes = nodes.map_err(|error| super::unreadable(7, error))?;
    let leaders = Leaders { nodes, open_after: u32::try_from(open_after).ok() };
    Ok(Segment {
        title: present(row, 4)?.unwrap_or_else(|| name.clone()),
        name,
        leader: present(row, 1)?,
        epoch: Epoch(uint(row, 2)?),
        reported_ns: uint(row, 3)?,
        decided: Decided {
            number: CharterId(uint(row, 5)?),
            channel: present(row, 6)?,
            leaders: (!leaders.nodes.is_empty()).then_some(leaders),
        },
        channel: present(row, 9)?,
        reported_charter: CharterId(uint(row, 10)?),
        behind: row.get(11)?,
    })
}

/// The value of a text column; `None` where it is empty.
fn present<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    if text.is_empty() { Ok(None) } else { parsed(row, column).map(Some) }
}
