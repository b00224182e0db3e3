//! Who comes and goes, for the history (NS-6, NS-7); and identities that two machines use.

use super::{DbError, Store, events, int, parsed};
use crate::ccm::notify::notice::Kind;
use crate::wire::id::{Name, NodeId};
use rusqlite::Connection;
use std::net::SocketAddr;

/// A member that stands in no report for so long has gone: a new leader's first reports need not hold everybody.
const DEPARTED_NS: u64 = 3_000_000_000;
/// A twin that was not noticed again for so long is no more.
const TWIN_NS: u64 = 60_000_000_000;

/// A node whose identity is used by a second machine, at this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    pub segment: Name,
    pub node: NodeId,
    pub address: SocketAddr,
}

impl Store {
    /// Writes into the history who has gone offline.
    pub fn note_departures(&mut self, now_ns: u64) -> Result<(), DbError> {
        let sql = "SELECT m.node, n.name, m.segment FROM members m JOIN nodes n ON n.id = m.node \
                   WHERE m.told = 1 AND m.online = 0 AND m.seen_ns < ?1";
        let gone: Vec<(String, String, String)> = {
            let mut query = self.db.prepare_cached(sql)?;
            let rows = query.query_map([int(now_ns.saturating_sub(DEPARTED_NS))], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            rows.collect::<Result<_, _>>()?
        };
        if gone.is_empty() {
            return Ok(());
        }
        let step = self.write()?;
        for (id, name, segment) in gone {
            step.execute("UPDATE members SET told = 0 WHERE node = ?1", [id])?;
            let text = format!("offline, was in segment {segment}");
            events::tell(&step, Kind::NodeOffline, &format!("node {name}"), &text, now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// Twins that were noticed of late.
    pub fn twins(&self, now_ns: u64) -> Result<Vec<Twin>, DbError> {
        let sql = "SELECT segment, node, address FROM twins WHERE last_ns > ?1 ORDER BY segment, node";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([int(now_ns.saturating_sub(TWIN_NS))], |row| {
            Ok(Twin { segment: parsed(row, 0)?, node: parsed(row, 1)?, address: parsed(row, 2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A member stands in a report: in the history where it was not online, or elsewhere.
pub(super) fn note_arrival(db: &Connection, id: &str, segment: &Name, now_ns: u64) -> Result<(), DbError> {
    let sql = "SELECT n.name, coalesce(m.told, 0), coalesce(m.segment, '') FROM nodes n \
               LEFT JOIN members m ON m.node = n.id WHERE n.id = ?1";
    let known: (String, bool, String) =
        db.prepare_cached(sql)?.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (name, told, before) = known;
    if !told || before != segment.as_str() {
        let text = format!("online in segment {segment}");
        events::tell(db, Kind::NodeOnline, &format!("node {name}"), &text, now_ns)?;
    }
    Ok(())
}

/// The leader of a segment sees two machines with the identity of a node.
pub(super) fn note_twin(
    db: &Connection,
    segment: &Name,
    node: NodeId,
    address: SocketAddr,
    now_ns: u64,
) -> Result<(), DbError> {
    let (id, address) = (node.to_string(), address.to_string());
    let sql = "SELECT EXISTS (SELECT 1 FROM twins WHERE node = ?1 AND address = ?2 AND last_ns > ?3), \
               (SELECT name FROM nodes WHERE id = ?1)";
    let (known, name): (bool, Option<String>) =
        db.prepare_cached(sql)?.query_row((&id, &address, int(now_ns.saturating_sub(TWIN_NS))), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // One that never joined cannot have been reported honestly.
    let Some(name) = name else { return Ok(()) };
    if !known {
        let text = format!("its identity is used by a second machine, at {address}, which keeps silent");
        events::tell(db, Kind::NodeTwin, &format!("node {name}"), &text, now_ns)?;
    }
    let sql = "INSERT INTO twins (node, segment, address, last_ns) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (node) DO \
               UPDATE SET segment = excluded.segment, address = excluded.address, last_ns = excluded.last_ns";
    db.prepare_cached(sql)?.execute((id, segment.as_str(), address, int(now_ns)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{SECOND, T0, enrol, id, name, profile, segment_report, store};
    use crate::wire::report::SegmentReport;

    fn history(store: &Store) -> Vec<(String, String)> {
        let mut events = store.events(20).unwrap();
        events.retain(|(subject, text)| subject.starts_with("node") && text != "joined");
        events.reverse();
        events
    }

    /// NS-6, NS-7.
    #[test]
    fn who_comes_and_goes_is_written_down_once_and_a_change_of_leader_is_no_departure() {
        let (_dir, mut store) = store();
        (1..=2).for_each(|number| enrol(&mut store, number));
        let say = |store: &mut Store, leader: u8, epoch, members: &[u8], now| {
            let members = members.iter().map(|number| profile(*number, &[])).collect();
            let report = segment_report("boston", epoch, members);
            store.take_segment_report(id(leader), &report, now).unwrap().unwrap();
            store.note_departures(now).unwrap();
        };
        say(&mut store, 1, 1, &[1, 2], T0);
        say(&mut store, 1, 1, &[1, 2], T0 + SECOND);
        // A new leader does not know everybody yet.
        say(&mut store, 2, 2, &[2], T0 + 2 * SECOND);
        say(&mut store, 2, 2, &[2, 1], T0 + 3 * SECOND);
        let event = |node: &str, text: &str| (format!("node {node}"), text.to_owned());
        let mut expected =
            vec![event("n1", "online in segment boston"), event("n2", "online in segment boston")];
        assert_eq!(history(&store), expected);
        say(&mut store, 2, 2, &[2], T0 + 4 * SECOND);
        say(&mut store, 2, 2, &[2], T0 + 7 * SECOND);
        say(&mut store, 2, 2, &[2], T0 + 8 * SECOND);
        expected.push(event("n1", "offline, was in segment boston"));
        assert_eq!(history(&store), expected);
        say(&mut store, 2, 2, &[2, 1], T0 + 9 * SECOND);
        expected.push(event("n1", "online in segment boston"));
        assert_eq!(history(&store), expected);
        let shown = store.events_of_segment(&name("boston"), 2).unwrap();
        assert_eq!((shown.len(), shown[0].subject.as_str(), shown[0].at_ns), (2, "node n1", T0 + 9 * SECOND));
        assert_eq!(store.events_of_segment(&name("paris"), 9).unwrap(), []);
    }

    #[test]
    fn a_twin_is_named_once_in_the_history_and_shown_while_it_lasts() {
        let (_dir, mut store) = store();
        enrol(&mut store, 1);
        let address: SocketAddr = "10.0.0.9:7411".parse().unwrap();
        let twins = vec![(id(1), address), (id(9), address)];
        let report = SegmentReport { twins, ..segment_report("boston", 1, vec![profile(1, &[])]) };
        for seconds in 0..3 {
            store.take_segment_report(id(1), &report, T0 + seconds * SECOND).unwrap().unwrap();
        }
        let twin = Twin { segment: name("boston"), node: id(1), address };
        assert_eq!(store.twins(T0 + 3 * SECOND).unwrap(), [twin]);
        let named =
            |store: &Store| history(store).iter().filter(|(_, text)| text.contains("second machine")).count();
        assert_eq!(named(&store), 1, "{:?}", history(&store));
        assert_eq!(store.twins(T0 + 70 * SECOND).unwrap(), []);
    }
}
