//! Bringing nodes along that lack the version that is live (JT-5, CM-7): a job of its own for each set of nodes
//! that holds the same, and whoever asked for it waits until they are over.

use super::composing::{begin, expected};
use crate::ccm::api::types::Phase;
use crate::ccm::clock::now_ns;
use crate::ccm::compose;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::groups;
use crate::ccm::model::{JobKind, Node, Run, Site};
use crate::ccm::parts;
use crate::ccm::staging::Shadow;
use crate::ccm::stale::{Lacking, lacking};
use crate::wire::id::NodeId;

/// Composes the assignment of a synchronize and writes down how that ended.
pub(super) fn synchronize_run(controller: &Controller, run: &Run) -> Result<(), DbError> {
    let end = |phase: Phase, text: String| {
        log::info!("job {}: {phase}: {text}", run.job);
        controller.store_blocking(|store| store.end_run(run.id, phase, &text, None, now_ns()))
    };
    parts::sweep(controller, &run.site)?;
    let read = |store: &mut Store| Ok((store.site(&run.site)?, store.groups()?, store.nodes()?));
    let (site, groups, mut nodes) = controller.store_blocking(read)?;
    let Some(site) = site else { return end(Phase::Failed, format!("there is no site {}", run.site)) };
    let Some(version) = site.version else {
        return end(Phase::Failed, format!("nothing of {0} is live yet; `farmcast publish {0}`", site.name));
    };
    let wanted = |node: &Node| run.only.is_empty() || run.only.contains(&node.id);
    nodes.retain(|node| wanted(node) && groups::takes(&groups, node, &site.name));
    match bring_along(controller, run, &site, &nodes)? {
        Standing::Waits => Ok(()),
        Standing::Failed(text) => {
            let before = controller.store_blocking(|store| store.synchronizes_for(run.job))?;
            let some = before.iter().any(|job| matches!(job.phase, Phase::Done | Phase::Partial));
            end(if some { Phase::Partial } else { Phase::Failed }, text)
        }
        Standing::Ready(lacking) => match lacking.as_slice() {
            [] => {
                let after = brought_by(controller, run)?;
                let phase = if after.is_empty() { Phase::Unchanged } else { Phase::Done };
                let online = expected(&site, &nodes).len();
                let text = match online {
                    0 => format!("no node of {} that was meant is online", site.name),
                    1 => format!("the node that is online holds version {version}{after}"),
                    _ => format!("all {online} nodes that are online hold version {version}{after}"),
                };
                end(phase, text)
            }
            [of_one_kind, ..] => {
                match compose::compose_lacking(controller, run, &site, of_one_kind.base, now_ns()) {
                    Err(error) => end(Phase::Failed, error.to_string()),
                    Ok((composition, made, order)) => {
                        let mut expected = expected(&site, &nodes);
                        expected.retain(|node| of_one_kind.nodes.contains(&node.node));
                        begin(controller, run, &composition, (&made, order.as_ref()), &expected)
                    }
                }
            }
        },
    }
}

/// How nodes that lack something stand in the way of a run.
pub(super) enum Standing {
    /// They are brought along first; the run is queued behind that.
    Waits,
    /// It was tried, in vain.
    Failed(String),
    /// Nothing is in the way: these lack something, and one assignment will do. For a publish, none.
    Ready(Vec<Lacking>),
}

/// Queues what brings nodes along that lack the version, each of them once for a job.
pub(super) fn bring_along(
    controller: &Controller,
    run: &Run,
    site: &Site,
    nodes: &[Node],
) -> Result<Standing, DbError> {
    let kept = match Shadow::kept(&controller.config, &site.name) {
        Ok(kept) => kept,
        Err(error) => return Ok(Standing::Failed(format!("the shadow of {}: {error}", site.name))),
    };
    let lacking = lacking(site, nodes, &kept);
    let tried = controller.store_blocking(|store| store.synchronized_for(run.job))?;
    let lost: Vec<&Node> = nodes
        .iter()
        .filter(|node| tried.contains(&node.id) && lacking.iter().any(|set| set.nodes.contains(&node.id)))
        .collect();
    if !lost.is_empty() {
        let names: Vec<String> = lost.iter().map(|node| node.name.to_string()).collect();
        let jobs = controller.store_blocking(|store| store.synchronizes_for(run.job))?;
        let failed = jobs.iter().filter(|job| job.phase != Phase::Done);
        let why: Vec<String> = failed.map(|job| format!("job {}: {}", job.job, job.text)).collect();
        let version = site.version.map_or(0, |version| version.0);
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        return Ok(Standing::Failed(format!(
            "{} could not be brought to version {version}{why}",
            names.join(", ")
        )));
    }
    if lacking.is_empty() || (run.kind == JobKind::Synchronize && lacking.len() == 1) {
        return Ok(Standing::Ready(lacking));
    }
    let sets: Vec<Vec<NodeId>> = lacking.into_iter().map(|set| set.nodes).collect();
    let jobs = controller.store_blocking(|store| store.synchronize_first(run, &sets, now_ns()))?;
    for (job, nodes) in jobs.iter().zip(&sets) {
        log::info!(
            "job {}: {} nodes lack what is live: job {job} brings them along first",
            run.job,
            nodes.len()
        );
    }
    Ok(Standing::Waits)
}

/// The jobs that brought nodes along for a run, as the end of a sentence; empty where there were none.
pub(super) fn brought_by(controller: &Controller, run: &Run) -> Result<String, DbError> {
    let jobs = controller.store_blocking(|store| store.synchronizes_for(run.job))?;
    let names: Vec<String> = jobs.iter().map(|job| job.job.to_string()).collect();
    Ok(match names.as_slice() {
        [] => String::new(),
        [one] => format!(", by job {one}"),
        more => format!(", by jobs {}", more.join(", ")),
    })
}
