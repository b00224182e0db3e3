//! Members of segments, as their leaders report them (NS-3, NS-4). A report comes every second and mostly says what
//! the last one said: only what differs is written.

use super::{DbError, int, presence, rivals, uint};
use crate::wire::control::{Machine, Profile, SiteState};
use crate::wire::id::{ListNumber, Name};
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

/// How old a leader's picture of a member may be: members register anew at once when they switch, and
/// every second anyway.
const PICTURE_AGE_NS: u64 = 3_000_000_000;

/// What was known of a member before the report.
#[derive(Debug)]
struct Known {
    online: bool,
    picture: Picture,
    sites: BTreeMap<String, Held>,
}

/// What a leader says of a member, but for its sites.
#[derive(Debug, PartialEq)]
struct Picture {
    datagram: String,
    http: String,
    text: String,
    priority: u32,
    processors: u16,
    free_memory: u64,
    free_disk: u64,
    leads: bool,
    machine: Machine,
    groups: ListNumber,
}

/// What a member holds of a site, and when it said itself that it switched to it; 0: it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    version: u64,
    switched_ns: u64,
}

/// Who is in the report is online, who was online in the segment and is not in it has gone; it was last seen at
/// `seen_ns`, in the report before. Only members that have joined count.
pub(super) fn put(
    db: &Connection,
    segment: &Name,
    members: &[Profile],
    seen_ns: u64,
    now_ns: u64,
) -> Result<(), DbError> {
    let mut known = known(db, segment)?;
    for member in members {
        let id = member.node().to_string();
        rivals::forget(db, &id)?;
        let (before, now) = (known.remove(&id), Picture::of(member));
        let same = before.as_ref().is_some_and(|before| before.online && before.picture == now);
        if !same && !arrive(db, segment, &id, member, &now, now_ns)? {
            continue;
        }
        let sites = match before {
            Some(before) => before.sites,
            None => sites_of(db, &id)?,
        };
        put_sites(db, &id, &member.sites, &sites, now_ns)?;
    }
    for (id, _) in known.into_iter().filter(|(_, known)| known.online) {
        let sql = "UPDATE members SET online = 0, seen_ns = ?2 WHERE node = ?1";
        db.prepare_cached(sql)?.execute((id, int(seen_ns)))?;
    }
    Ok(())
}

/// The members that were last seen in the segment.
fn known(db: &Connection, segment: &Name) -> Result<BTreeMap<String, Known>, DbError> {
    let sql = "SELECT node, online, datagram, http, text, priority, processors, free_memory, free_disk, leads, \
               location, cpu_mhz, load_pct, connections, group_list FROM members WHERE segment = ?1";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([segment.as_str()], |row| {
        let known = Known { online: row.get(1)?, picture: Picture::read(row)?, sites: BTreeMap::new() };
        Ok((row.get(0)?, known))
    })?;
    let mut known: BTreeMap<String, Known> = rows.collect::<Result<_, _>>()?;
    let sql = "SELECT s.site, s.version, s.switched_ns, s.node FROM node_sites s \
               JOIN members m ON m.node = s.node WHERE m.segment = ?1";
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query([segment.as_str()])?;
    while let Some(row) = rows.next()? {
        let (site, held) = held(row)?;
        if let Some(known) = known.get_mut(&row.get::<_, String>(3)?) {
            known.sites.insert(site, held);
        }
    }
    Ok(known)
}

fn sites_of(db: &Connection, id: &str) -> Result<BTreeMap<String, Held>, DbError> {
    let mut query = db.prepare_cached("SELECT site, version, switched_ns FROM node_sites WHERE node = ?1")?;
    Ok(query.query_map([id], held)?.collect::<Result<_, _>>()?)
}

fn held(row: &Row<'_>) -> rusqlite::Result<(String, Held)> {
    Ok((row.get(0)?, Held { version: uint(row, 1)?, switched_ns: uint(row, 2)? }))
}

/// Writes what is new of a member; false where it never joined.
fn arrive(
    db: &Connection,
    segment: &Name,
    id: &str,
    member: &Profile,
    now: &Picture,
    now_ns: u64,
) -> Result<bool, DbError> {
    let known: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM nodes WHERE id = ?1)")?
        .query_row([id], |row| row.get(0))?;
    if !known {
        log::warn!("segment {segment} reports node {} ({id}), which never joined: left out", member.name);
        return Ok(false);
    }
    presence::note_arrival(db, id, segment, now_ns)?;
    let sql = "INSERT INTO members (node, segment, online, told, seen_ns, datagram, http, text, \
               priority, processors, free_memory, free_disk, leads, location, cpu_mhz, load_pct, connections, \
               group_list) VALUES (?1, ?2, 1, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
               ON CONFLICT (node) DO UPDATE SET segment = excluded.segment, online = 1, told = 1, \
               seen_ns = excluded.seen_ns, datagram = excluded.datagram, http = excluded.http, \
               text = excluded.text, priority = excluded.priority, processors = excluded.processors, \
               free_memory = excluded.free_memory, free_disk = excluded.free_disk, leads = excluded.leads, \
               location = excluded.location, cpu_mhz = excluded.cpu_mhz, load_pct = excluded.load_pct, \
               connections = excluded.connections, group_list = excluded.group_list";
    db.prepare_cached(sql)?.execute((
        id,
        segment.as_str(),
        int(now_ns),
        &now.datagram,
        &now.http,
        &now.text,
        now.priority,
        now.processors,
        int(now.free_memory),
        int(now.free_disk),
        now.leads,
        &now.machine.location,
        now.machine.cpu_mhz,
        now.machine.load_pct,
        now.machine.connections,
        int(now.groups.0),
    ))?;
    Ok(true)
}

/// What the node serves now. What the node itself said of its version a moment ago stands: the leader's picture
/// may be of before, and would make a node look stale that is not, or the other way round.
fn put_sites(
    db: &Connection,
    id: &str,
    states: &[SiteState],
    known: &BTreeMap<String, Held>,
    now_ns: u64,
) -> Result<(), DbError> {
    for site in known.keys().filter(|site| !states.iter().any(|state| state.site.as_str() == *site)) {
        db.prepare_cached("DELETE FROM node_sites WHERE node = ?1 AND site = ?2")?.execute((id, site))?;
    }
    for state in states {
        let reported = state.version.map_or(0, |version| version.0);
        let before = known.get(state.site.as_str()).copied();
        let now = match before {
            Some(own)
                if own.version != reported && now_ns.saturating_sub(own.switched_ns) < PICTURE_AGE_NS =>
            {
                own
            }
            _ => Held { version: reported, switched_ns: 0 },
        };
        if before != Some(now) {
            db.prepare_cached("INSERT OR REPLACE INTO node_sites VALUES (?1, ?2, ?3, ?4)")?.execute((
                id,
                state.site.as_str(),
                int(now.version),
                int(now.switched_ns),
            ))?;
        }
    }
    Ok(())
}

impl Picture {
    fn of(member: &Profile) -> Self {
        Self {
            datagram: member.datagram.to_string(),
            http: member.http.to_string(),
            text: member.text.to_string(),
            priority: member.priority,
            processors: member.processors,
            free_memory: member.free_memory,
            free_disk: member.free_disk,
            leads: member.leads,
            machine: member.machine.clone(),
            groups: member.groups,
        }
    }

    /// From the third column on.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            datagram: row.get(2)?,
            http: row.get(3)?,
            text: row.get(4)?,
            priority: row.get(5)?,
            processors: row.get(6)?,
            free_memory: uint(row, 7)?,
            free_disk: uint(row, 8)?,
            leads: row.get(9)?,
            machine: machine(row, 10)?,
            groups: ListNumber(uint(row, 14)?),
        })
    }
}

/// Of the four columns that begin at `from`.
pub(super) fn machine(row: &Row<'_>, from: usize) -> rusqlite::Result<Machine> {
    Ok(Machine {
        location: row.get(from)?,
        cpu_mhz: row.get(from + 1)?,
        load_pct: row.get(from + 2)?,
        connections: row.get(from + 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use crate::ccm::testing::{SECOND, T0, enrol, id, profile, segment_report, store};
    use crate::wire::control::Profile;

    fn say(store: &mut Store, segment: &str, members: Vec<Profile>, now_ns: u64) {
        let leader = members[0].node();
        let report = segment_report(segment, 1, members);
        store.take_segment_report(leader, &report, now_ns).unwrap().unwrap();
    }

    /// What the same report writes again is the hour of the segment, and no row of a member.
    #[test]
    fn a_report_that_says_nothing_new_writes_nothing_of_the_members() {
        let (_dir, mut store) = store();
        (1..=3).for_each(|number| enrol(&mut store, number));
        let members = || (1..=3).map(|number| profile(number, &[("www", 7)])).collect::<Vec<_>>();
        say(&mut store, "boston", members(), T0);
        let rows = |store: &Store| -> i64 {
            store.db.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap()
        };
        let before = rows(&store);
        say(&mut store, "boston", members(), T0 + SECOND);
        assert_eq!(rows(&store) - before, 1);
        let seen = store.nodes().unwrap().into_iter().map(|node| node.seen.unwrap());
        assert!(seen.clone().all(|seen| seen.online && seen.at_ns == T0 + SECOND));

        let before = rows(&store);
        let mut changed = members();
        changed[1].free_memory -= 1;
        say(&mut store, "boston", changed, T0 + 2 * SECOND);
        assert_eq!(rows(&store) - before, 2);
    }

    #[test]
    fn who_has_gone_was_last_seen_in_the_report_before_and_who_moves_is_seen_where_it_is() {
        let (_dir, mut store) = store();
        (1..=3).for_each(|number| enrol(&mut store, number));
        let of = |number: u8| profile(number, &[("www", 7)]);
        say(&mut store, "boston", vec![of(1), of(2), of(3)], T0);
        say(&mut store, "boston", vec![of(1), of(2), of(3)], T0 + SECOND);
        say(&mut store, "boston", vec![of(1), of(2)], T0 + 2 * SECOND);
        say(&mut store, "boston", vec![of(1), of(2)], T0 + 3 * SECOND);
        let seen = |store: &Store, number| {
            let seen = store.node(id(number)).unwrap().unwrap().seen.unwrap();
            (seen.segment.to_string(), seen.online, (seen.at_ns - T0) / SECOND)
        };
        assert_eq!(seen(&store, 2), ("boston".into(), true, 3));
        assert_eq!(seen(&store, 3), ("boston".into(), false, 1));
        say(&mut store, "paris", vec![of(3)], T0 + 4 * SECOND);
        assert_eq!(seen(&store, 3), ("paris".into(), true, 4));
        say(&mut store, "boston", vec![of(1), of(2)], T0 + 5 * SECOND);
        assert_eq!(seen(&store, 3), ("paris".into(), true, 4));
        store.expire_segments(T0 + 60 * SECOND).unwrap();
        assert_eq!(seen(&store, 3), ("paris".into(), false, 4));
        assert_eq!(seen(&store, 1), ("boston".into(), false, 5));
    }

    #[test]
    fn sites_that_a_node_serves_no_more_are_forgotten() {
        let (_dir, mut store) = store();
        enrol(&mut store, 1);
        say(&mut store, "boston", vec![profile(1, &[("shop", 3), ("www", 7)])], T0);
        say(&mut store, "boston", vec![profile(1, &[("www", 8)])], T0 + SECOND);
        let sites = store.nodes().unwrap().remove(0).seen.unwrap().sites;
        assert_eq!(sites, profile(1, &[("www", 8)]).sites);
    }
}
