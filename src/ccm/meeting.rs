//! Which jobs that are not over a new one would meet, as the database has it (SC-5, SC-6).

use super::db::{DbError, Store};
use super::groups;
use super::model::Run;
use super::scheduler::conflict::{self, Going};
use crate::wire::id::{JobId, Name, NodeId};
use std::collections::BTreeSet;

/// Nodes that a text names before it says how many more.
const NAMED_MAX: usize = 5;

/// The jobs that are in the way, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    pub jobs: Vec<JobId>,
    /// `job 7 goes to www on 3 nodes: web1, web2, web3`
    pub text: String,
}

/// What a job to a site would meet now. A job that is queued counts like one that runs: the new one would stand behind
/// it.
pub fn conflict(store: &Store, site: &Name) -> Result<Option<Meeting>, DbError> {
    let runs: Vec<Run> = store.unfinished_runs()?.into_iter().filter(|run| run.site == *site).collect();
    if runs.is_empty() {
        return Ok(None);
    }
    let mine = nodes_of(store, site)?;
    let mut theirs = Vec::new();
    for run in &runs {
        let settled: BTreeSet<NodeId> = store.run_nodes(run.id)?.iter().map(|node| node.node).collect();
        theirs.push(if settled.is_empty() { mine.clone() } else { settled });
    }
    let going: Vec<Going<'_, JobId>> =
        runs.iter().zip(&theirs).map(|(run, nodes)| Going { who: run.job, site: &run.site, nodes }).collect();
    let found = conflict::find(site, &mine, &going);
    let Some(first) = found.first() else { return Ok(None) };
    let names: Vec<String> = store
        .nodes()?
        .iter()
        .filter(|node| first.nodes.contains(&node.id))
        .take(NAMED_MAX)
        .map(|node| node.name.to_string())
        .collect();
    let (count, s) = (first.nodes.len(), if first.nodes.len() == 1 { "" } else { "s" });
    let more = if count > names.len() { " ..." } else { "" };
    let text = format!("job {} goes to {site} on {count} node{s}: {}{more}", first.with, names.join(", "));
    Ok(Some(Meeting { jobs: found.into_iter().map(|conflict| conflict.with).collect(), text }))
}

/// The nodes that are to have a site, online or not.
pub fn nodes_of(store: &Store, site: &Name) -> Result<BTreeSet<NodeId>, DbError> {
    let groups = store.groups()?;
    let nodes = store.nodes()?;
    Ok(nodes.iter().filter(|node| groups::takes(&groups, node, site)).map(|node| node.id).collect())
}
