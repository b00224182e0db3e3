//! Nodes: their keys, and what leaders last reported of them.

use super::members::machine;
use super::{DbError, Store, events, int, parsed, uint};
use crate::ccm::model::{Node, Seen};
use crate::wire::control::SiteState;
use crate::wire::id::{AssignmentId, ListNumber, Name, NodeId};
use crate::wire::seal::PublicKey;
use rusqlite::{Connection, OptionalExtension, Params, Row};
use std::collections::BTreeMap;

/// A node that is to become part of the farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub key: PublicKey,
    pub name: Name,
    pub can_lead: bool,
}

const NODES: &str = "SELECT n.id, n.name, n.public_key, n.can_lead, m.segment, m.online, \
     iif(m.online, s.reported_ns, m.seen_ns), m.datagram, \
     m.http, m.text, m.priority, m.processors, m.free_memory, m.free_disk, m.leads, m.location, \
     m.cpu_mhz, m.load_pct, m.connections, m.group_list \
     FROM nodes n LEFT JOIN members m ON m.node = n.id LEFT JOIN segments s ON s.name = m.segment";

impl Store {
    /// Makes a node part of the farm without an invite.
    #[cfg(test)]
    pub fn enrol(&mut self, enrolment: &Enrolment, now_ns: u64) -> Result<(), DbError> {
        let step = self.write()?;
        insert(&step, enrolment, now_ns)?;
        Ok(step.commit()?)
    }

    /// All nodes by name.
    pub fn nodes(&self) -> Result<Vec<Node>, DbError> {
        self.nodes_where("1 = 1", [])
    }

    /// Those that were last seen in a segment, by name.
    pub fn nodes_in(&self, segment: &Name) -> Result<Vec<Node>, DbError> {
        self.nodes_where("m.segment = ?1", [segment.as_str()])
    }

    fn nodes_where(&self, which: &str, values: impl Params + Copy) -> Result<Vec<Node>, DbError> {
        let mut sites: BTreeMap<NodeId, Vec<SiteState>> = BTreeMap::new();
        let sql = format!(
            "SELECT s.node, s.site, s.version FROM node_sites s JOIN members m ON m.node = s.node \
             WHERE {which} ORDER BY s.site"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(values)?;
        while let Some(row) = rows.next()? {
            sites.entry(parsed(row, 0)?).or_default().push(site_state(row, 1)?);
        }
        let mut query = self.db.prepare_cached(&format!("{NODES} WHERE {which} ORDER BY n.name"))?;
        let mut nodes: Vec<Node> = query.query_map(values, node)?.collect::<Result<_, _>>()?;
        for node in &mut nodes {
            if let Some(seen) = &mut node.seen {
                seen.sites = sites.remove(&node.id).unwrap_or_default();
            }
        }
        Ok(nodes)
    }

    /// One node with its sites; `None` where it was never seen as well.
    pub fn node_as_seen(&self, id: NodeId) -> Result<Option<Node>, DbError> {
        Ok(self.nodes_where("m.node = ?1", [id.to_string().as_str()])?.pop())
    }

    /// One node, without its sites.
    pub fn node(&self, id: NodeId) -> Result<Option<Node>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{NODES} WHERE n.id = ?1"))?;
        Ok(query.query_row([id.to_string()], node).optional()?)
    }
}

/// Adds a node; one of the same key gets the new name and right to lead, another node that has the name
/// loses its place: its machine was set up anew.
pub(super) fn insert(db: &Connection, enrolment: &Enrolment, now_ns: u64) -> Result<(), DbError> {
    let id = NodeId::of_key(&enrolment.key.0).to_string();
    let name = enrolment.name.as_str();
    db.execute("DELETE FROM nodes WHERE name = ?1 AND id <> ?2", (name, &id))?;
    let sql = "INSERT INTO nodes (id, name, public_key, can_lead, joined_ns) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (id) DO UPDATE SET name = excluded.name, can_lead = excluded.can_lead";
    db.execute(sql, (&id, name, enrolment.key.to_hex(), enrolment.can_lead, int(now_ns)))?;
    events::record(db, &format!("node {name}"), "joined", now_ns)
}

/// Which node has this name.
pub(super) fn named(db: &Connection, name: &Name) -> Result<Option<NodeId>, DbError> {
    let sql = "SELECT id FROM nodes WHERE name = ?1";
    Ok(db.query_row(sql, [name.as_str()], |row| parsed(row, 0)).optional()?)
}

fn node(row: &Row<'_>) -> rusqlite::Result<Node> {
    let key: String = row.get(2)?;
    let segment: Option<String> = row.get(4)?;
    let seen = match segment {
        None => None,
        Some(_) => Some(Seen {
            segment: parsed(row, 4)?,
            online: row.get(5)?,
            at_ns: uint(row, 6)?,
            datagram: parsed(row, 7)?,
            http: parsed(row, 8)?,
            text: parsed(row, 9)?,
            priority: row.get(10)?,
            processors: row.get(11)?,
            free_memory: uint(row, 12)?,
            free_disk: uint(row, 13)?,
            leads: row.get(14)?,
            machine: machine(row, 15)?,
            groups: ListNumber(uint(row, 19)?),
            sites: Vec::new(),
        }),
    };
    Ok(Node {
        id: parsed(row, 0)?,
        name: parsed(row, 1)?,
        key: PublicKey::from_hex(&key).map_err(|error| super::unreadable(2, error))?,
        can_lead: row.get(3)?,
        seen,
    })
}

fn site_state(row: &Row<'_>, from: usize) -> rusqlite::Result<SiteState> {
    let version = uint(row, from + 1)?;
    Ok(SiteState { site: parsed(row, from)?, version: (version != 0).then_some(AssignmentId(version)) })
}
