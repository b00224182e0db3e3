//! Nodes that are no part of the farm any more (NS-6).

use super::{DbError, Store, events, nodes, parsed, uint};
use crate::wire::id::{JobId, Name, NodeId};
use rusqlite::{Connection, OptionalExtension, Row};

/// Why a node stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalRefused {
    #[error("there is no node {0}; `farmcast node list` names them")]
    NoNode(Name),
    #[error("{node} leads segment {segment}: stop it first, or let another lead, `farmcast segment leader`")]
    Leads { node: Name, segment: Name },
    #[error(
        "{0} is online: stop it first, or it goes on with what its segment sends (`--force` takes no notice)"
    )]
    Online(Name),
    #[error("job {job} waits for {node}: wait for its end, or `farmcast job cancel {job}`")]
    Awaited { node: Name, job: JobId },
}

impl Store {
    /// Takes a node out of the farm: its key is forgotten, so that nothing it says counts; groups and charters do not
    /// name it any more; its name is free. What it did stays in the history. `force`: even while it is online.
    pub fn remove_node(
        &mut self,
        name: &Name,
        force: bool,
        now_ns: u64,
    ) -> Result<Result<(), RemovalRefused>, DbError> {
        let step = self.write()?;
        let Some(id) = nodes::named(&step, name)? else {
            return Ok(Err(RemovalRefused::NoNode(name.clone())));
        };
        if let Some(refused) = refusal(&step, name, id, force)? {
            return Ok(Err(refused));
        }
        strike_from_charters(&step, id)?;
        // A choice of its name would take in whoever gets the name next.
        step.execute("DELETE FROM group_choices WHERE choice = ?1", [name.as_str()])?;
        // What was seen of it goes with it.
        step.execute("DELETE FROM nodes WHERE id = ?1", [id.to_string()])?;
        events::record(&step, &format!("node {name}"), &format!("removed; it was {id}"), now_ns)?;
        step.commit()?;
        Ok(Ok(()))
    }
}

fn refusal(
    step: &Connection,
    name: &Name,
    id: NodeId,
    force: bool,
) -> Result<Option<RemovalRefused>, DbError> {
    let (node, id) = (name.clone(), id.to_string());
    let sql = "SELECT name FROM segments WHERE leader = ?1";
    if let Some(segment) = step.query_row(sql, [&id], |row| parsed(row, 0)).optional()? {
        return Ok(Some(RemovalRefused::Leads { node, segment }));
    }
    let sql = "SELECT r.job FROM runs r JOIN run_nodes n ON n.run = r.id WHERE n.node = ?1 \
               AND r.phase IN ('composing', 'distributing', 'committing') LIMIT 1";
    if let Some(job) = step.query_row(sql, [&id], |row| Ok(JobId(uint(row, 0)?))).optional()? {
        return Ok(Some(RemovalRefused::Awaited { node, job }));
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM members WHERE node = ?1 AND online)";
    let online: bool = step.query_row(sql, [&id], |row| row.get(0))?;
    Ok((online && !force).then_some(RemovalRefused::Online(node)))
}

/// Charters that let it lead are decided anew, without it. One that named nobody else names nobody.
fn strike_from_charters(step: &Connection, id: NodeId) -> Result<(), DbError> {
    let listed: Vec<(String, String)> = {
        let mut query = step.prepare("SELECT name, leaders FROM segments WHERE leaders != ''")?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        query.query_map([], read)?.collect::<Result<_, _>>()?
    };
    let id = id.to_string();
    for (segment, leaders) in listed {
        let left: Vec<&str> = leaders.split_whitespace().filter(|listed| *listed != id).collect();
        if left.len() == leaders.split_whitespace().count() {
            continue;
        }
        let sql = "UPDATE segments SET leaders = ?2, charter = max(charter, reported_charter) + 1, \
                   open_after_s = iif(?2 = '', -1, open_after_s) WHERE name = ?1";
        step.execute(sql, (&segment, left.join(" ")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::Phase;
    use crate::ccm::db::Decision;
    use crate::ccm::groups::Nodes;
    use crate::ccm::model::{Composition, JobKind, NodeState, RunNode};
    use crate::ccm::testing::{T0, enrol, id, name, profile, segment_report, store};
    use crate::wire::charter::Leaders;
    use crate::wire::id::CharterId;
    use std::path::Path;

    /// Node 1 leads, `online` are there too.
    fn report(store: &mut Store, online: &[u8]) {
        let members = online.iter().map(|&number| profile(number, &[("www", 0)])).collect();
        store.take_segment_report(id(1), &segment_report("boston", 1, members), T0).unwrap().unwrap();
    }

    #[test]
    fn a_removed_node_is_named_nowhere_and_its_name_is_free() {
        let (_dir, mut store) = store();
        (1..=3).for_each(|number| enrol(&mut store, number));
        report(&mut store, &[1, 2, 3]);
        let leaders = Leaders { nodes: vec![id(1), id(2)], open_after: None };
        store.decide("boston", &Decision::Leaders(Some(leaders)), T0).unwrap().unwrap();
        let choices = ["n2", "n3"].map(|choice| choice.parse().unwrap());
        store.create_group(&name("eu"), &choices, T0).unwrap().unwrap();
        report(&mut store, &[1]);

        store.remove_node(&name("n2"), false, T0).unwrap().unwrap();
        assert!(store.node(id(2)).unwrap().is_none());
        assert_eq!(store.nodes().unwrap().len(), 2);
        let segment = store.segment("boston").unwrap().unwrap();
        assert_eq!(segment.decided.leaders.unwrap().nodes, [id(1)]);
        assert_eq!(segment.decided.number, CharterId(2));
        let group = store.groups().unwrap().into_iter().find(|group| group.name == name("eu")).unwrap();
        assert_eq!(group.nodes, Nodes::Chosen(vec![choices[1].clone()]));
        // Its leader may still report it: that makes no member of it.
        report(&mut store, &[1, 2]);
        assert_eq!(store.nodes().unwrap().len(), 2);
        enrol(&mut store, 2);
        assert!(store.node(id(2)).unwrap().is_some());
        let told = store.events(99).unwrap();
        assert!(told.iter().any(|event| event.0 == "node n2" && event.1.starts_with("removed")), "{told:?}");
    }

    #[test]
    fn who_leads_is_online_or_is_waited_for_stays() {
        let (_dir, mut store) = store();
        (1..=2).for_each(|number| enrol(&mut store, number));
        report(&mut store, &[1, 2]);
        let mut refused = |node: &str, force| store.remove_node(&name(node), force, T0).unwrap().unwrap_err();
        assert_eq!(refused("n9", true), RemovalRefused::NoNode(name("n9")));
        let leads = RemovalRefused::Leads { node: name("n1"), segment: name("boston") };
        assert_eq!(refused("n1", true), leads);
        assert_eq!(refused("n2", false), RemovalRefused::Online(name("n2")));

        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let run = store.add_job(JobKind::Rollback, &name("www"), T0).unwrap();
        let run = store.start_run(&run, T0).unwrap();
        let node = RunNode {
            node: id(2),
            name: name("n2"),
            segment: name("boston"),
            state: NodeState::Waiting,
            reason: String::new(),
            text: String::new(),
            changed_ns: 0,
            switched_ns: 0,
        };
        store.begin_switch(run, &Composition::default(), std::slice::from_ref(&node)).unwrap();
        let awaited = store.remove_node(&name("n2"), true, T0).unwrap().unwrap_err();
        assert_eq!(awaited, RemovalRefused::Awaited { node: name("n2"), job: JobId(1) });
        store.end_run(run, Phase::Failed, "it failed", None, T0).unwrap();
        store.remove_node(&name("n2"), true, T0).unwrap().unwrap();
        assert_eq!(store.run_nodes(run).unwrap(), [node], "the history knows it");
    }
}
