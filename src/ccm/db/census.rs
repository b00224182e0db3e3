//! Counts and names of nodes, for who asks how a farm is: of ten thousand nodes it wants numbers and a few names, and
//! reading all of them would take a hundred times as long.

use super::{DbError, Store, parsed, uint};
use crate::wire::id::{AssignmentId, Name, NodeId};
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;

/// Nodes, by where they were last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All that have joined, seen or not.
    pub total: u64,
    by_segment: BTreeMap<Name, Headcount>,
}

/// Nodes of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headcount {
    pub online: u64,
    pub total: u64,
}

impl Census {
    pub fn online(&self) -> u64 {
        self.by_segment.values().map(|count| count.online).sum()
    }

    pub fn of(&self, segment: &Name) -> Headcount {
        self.by_segment.get(segment).copied().unwrap_or_default()
    }
}

/// A node that holds another version than the one that is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub node: NodeId,
    pub name: Name,
    pub segment: Name,
}

impl Store {
    /// How many nodes there are, and where.
    pub fn census(&self) -> Result<Census, DbError> {
        let total =
            self.db.prepare_cached("SELECT count(*) FROM nodes")?.query_row([], |row| uint(row, 0))?;
        let sql = "SELECT segment, sum(online), count(*) FROM members GROUP BY segment";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([], |row| {
            Ok((parsed(row, 0)?, Headcount { online: uint(row, 1)?, total: uint(row, 2)? }))
        })?;
        Ok(Census { total, by_segment: rows.collect::<Result<_, _>>()? })
    }

    /// Names of nodes that are not online, the first `limit` of them.
    pub fn offline_names(&self, census: &Census, limit: u32) -> Result<Vec<String>, DbError> {
        let seen: u64 = census.by_segment.values().map(|count| count.total).sum();
        let mut names = Vec::new();
        if seen > census.online() {
            let sql = "SELECT n.name FROM members m JOIN nodes n ON n.id = m.node WHERE m.online = 0 \
                       ORDER BY n.name LIMIT ?1";
            self.add_names(sql, limit, &mut names)?;
        }
        if census.total > seen {
            let sql =
                "SELECT name FROM nodes WHERE id NOT IN (SELECT node FROM members) ORDER BY name LIMIT ?1";
            self.add_names(sql, limit, &mut names)?;
        }
        names.sort_unstable();
        names.truncate(limit as usize);
        Ok(names)
    }

    fn add_names(&self, sql: &str, limit: u32, names: &mut Vec<String>) -> Result<(), DbError> {
        let mut query = self.db.prepare_cached(sql)?;
        for name in query.query_map([limit], |row| row.get(0))? {
            names.push(name?);
        }
        Ok(())
    }

    /// What a node is called.
    pub fn name_of(&self, node: NodeId) -> Result<Option<String>, DbError> {
        let mut query = self.db.prepare_cached("SELECT name FROM nodes WHERE id = ?1")?;
        Ok(query.query_row([node.to_string()], |row| row.get(0)).optional()?)
    }

    /// Nodes that are online, serve the site and hold another version of it, by name.
    pub fn behind(&self, site: &Name, version: AssignmentId) -> Result<Vec<Behind>, DbError> {
        // Two ranges of the index instead of all nodes: mostly there are few.
        let mut behind = Vec::new();
        for other in ["<", ">"] {
            let sql = format!(
                "SELECT n.id, n.name, m.segment FROM node_sites s JOIN members m ON m.node = s.node \
                 JOIN nodes n ON n.id = s.node WHERE s.site = ?1 AND s.version {other} ?2 AND m.online"
            );
            let mut query = self.db.prepare_cached(&sql)?;
            let rows = query.query_map((site.as_str(), super::int(version.0)), |row| {
                Ok(Behind { node: parsed(row, 0)?, name: parsed(row, 1)?, segment: parsed(row, 2)? })
            })?;
            for row in rows {
                behind.push(row?);
            }
        }
        behind.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{T0, enrol, id, name, profile, segment_report, store};

    #[test]
    fn nodes_are_counted_by_segment_and_named_where_something_is_amiss() {
        let (_dir, mut store) = store();
        (1..=5).for_each(|number| enrol(&mut store, number));
        let say = |store: &mut Store, segment: &str, members: &[(u8, u64)]| {
            let leader = id(members[0].0);
            let members = members.iter().map(|(number, version)| profile(*number, &[("www", *version)]));
            let report = segment_report(segment, 1, members.collect());
            store.take_segment_report(leader, &report, T0).unwrap().unwrap();
        };
        say(&mut store, "boston", &[(1, 7), (2, 6)]);
        say(&mut store, "boston", &[(1, 7)]);
        say(&mut store, "paris", &[(3, 9), (4, 0)]);
        let census = store.census().unwrap();
        assert_eq!((census.total, census.online()), (5, 3));
        assert_eq!(census.of(&name("boston")), Headcount { online: 1, total: 2 });
        assert_eq!(census.of(&name("paris")), Headcount { online: 2, total: 2 });
        assert_eq!(census.of(&name("rome")), Headcount::default());
        assert_eq!(store.offline_names(&census, 9).unwrap(), ["n2", "n5"]);
        assert_eq!(store.offline_names(&census, 1).unwrap(), ["n2"]);
        assert_eq!(store.name_of(id(3)).unwrap().as_deref(), Some("n3"));
        assert_eq!(store.name_of(id(9)).unwrap(), None);
        let behind = |version| -> Vec<String> {
            let behind = store.behind(&name("www"), AssignmentId(version)).unwrap();
            behind.into_iter().map(|behind| format!("{} in {}", behind.name, behind.segment)).collect()
        };
        assert_eq!(behind(7), ["n3 in paris", "n4 in paris"]);
        assert_eq!(behind(9), ["n1 in boston", "n4 in paris"]);
        assert_eq!(store.behind(&name("shop"), AssignmentId(7)).unwrap(), []);
    }
}
