//! A run from its start to the assignment.

use super::synchronizing::{Standing, bring_along, brought_by};
use crate::ccm::api::types::Phase;
use crate::ccm::clock::now_ns;
use crate::ccm::compose::{self, Composed, Plan};
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::groups;
use crate::ccm::issue::{IssueError, refresh};
use crate::ccm::model::{
    Assignment, Composition, IssuedOrder, JobKind, Node, NodeState, Parts, Run, RunNode, Site,
};
use crate::ccm::parts;
use crate::wire::id::Name;
use crate::wire::quorum::Quorum;
use std::collections::BTreeSet;

/// Composes the assignment of a run and writes down how that ended. The nodes that are online now are
/// those that the run will wait for.
pub(super) fn compose_run(controller: &Controller, run: &Run) -> Result<(), DbError> {
    let end = |phase: Phase, text: String| {
        log::info!("job {}: {phase}: {text}", run.job);
        controller.store_blocking(|store| store.end_run(run.id, phase, &text, None, now_ns()))
    };
    parts::sweep(controller, &run.site)?;
    let read = |store: &mut Store| {
        Ok((store.site(&run.site)?, store.groups()?, store.nodes()?, store.next_assignment()?))
    };
    let (site, groups, mut nodes, assignment) = controller.store_blocking(read)?;
    let Some(site) = site else { return end(Phase::Failed, format!("there is no site {}", run.site)) };
    nodes.retain(|node| groups::takes(&groups, node, &site.name));
    let mut plan = compose::plan(&site, &nodes);
    if plan == Plan::Synchronize && !compose::can_synchronize(controller, &site) {
        plan = Plan::Replicate;
    }
    if plan == Plan::Synchronize {
        match bring_along(controller, run, &site, &nodes)? {
            Standing::Waits => return Ok(()),
            Standing::Failed(text) => return end(Phase::Failed, format!("live was not touched: {text}")),
            Standing::Ready(_) => {}
        }
    }
    if plan == Plan::NobodyOnline {
        let text = if site.group == site.name {
            format!(
                "no node that serves {} is online; start one whose configuration names the site",
                site.name
            )
        } else {
            format!(
                "no node of group {0} that serves {1} is online; `farmcast group show {0}` has its nodes",
                site.group, site.name
            )
        };
        return end(Phase::Failed, text);
    }
    if let Err(text) = enough_online(&site, run.terms.rules.online_quorum, &nodes) {
        return end(Phase::Failed, text);
    }
    let compose = match run.kind {
        JobKind::Remove => compose::compose_removal,
        _ => compose::compose,
    };
    match compose(controller, run, &site, plan, assignment, now_ns()) {
        Err(error) => end(Phase::Failed, error.to_string()),
        Ok(Composed::Unchanged(composition)) => {
            let version = site.version.map_or(0, |version| version.0);
            let before = brought_by(controller, run)?;
            let what = match run.kind {
                JobKind::Restore { checkpoint } => format!("checkpoint {checkpoint}"),
                JobKind::Remove => "nothing".to_owned(),
                _ => "staging".to_owned(),
            };
            let (phase, text) = if before.is_empty() {
                let text = format!("{what} equals what is live (version {version}): nothing was sent");
                (Phase::Unchanged, text)
            } else {
                (Phase::Done, format!("{what} equals version {version}, which all nodes hold now{before}"))
            };
            log::info!("job {}: {phase}: {text}", run.job);
            controller
                .store_blocking(|store| store.end_run(run.id, phase, &text, Some(&composition), now_ns()))
        }
        Ok(Composed::Ready(composition, made, order)) => {
            begin(controller, run, &composition, (&made, order.as_ref()), &expected(&site, &nodes))
        }
    }
}

/// Whether as many of the nodes that are to have the site are online as a run needs (SC-11); a sentence where not.
pub fn enough_online(site: &Site, quorum: Quorum, nodes: &[Node]) -> Result<(), String> {
    let total = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let online = nodes.iter().filter(|node| node.is_online()).count();
    let needed = quorum.needed(total);
    if online >= needed as usize {
        return Ok(());
    }
    Err(format!(
        "{online} of the {total} nodes that are to have {} are online, {needed} are needed: start them, or give \
         --online-quorum",
        site.name
    ))
}

/// The run is to be distributed to `expected` from here on: what was made of it, the last of which goes live, with the
/// order that is in that.
pub(super) fn begin(
    controller: &Controller,
    run: &Run,
    composition: &Composition,
    (made, order): (&[Assignment], Option<&IssuedOrder>),
    expected: &[RunNode],
) -> Result<(), DbError> {
    let (assignment, before) = made.split_last().expect("what is composed is one assignment at least");
    let parts = Parts { before: before.to_vec(), ..Parts::default() };
    let run = &Run { parts, assignment: Some(*assignment), ..run.clone() };
    // Whom it is for is settled here, so the leaders need lists that say so.
    let segments: BTreeSet<Name> = expected.iter().map(|node| node.segment.clone()).collect();
    for segment in segments {
        let issued = controller.store_blocking(|store| Ok(refresh(store, controller.issuer(), &segment)))?;
        match issued {
            Ok(_) => {}
            Err(IssueError::Db(error)) => return Err(error),
            Err(error) => {
                log::info!("job {}: failed: {error}", run.job);
                return controller.store_blocking(|store| {
                    store.end_run(run.id, Phase::Failed, &error.to_string(), None, now_ns())
                });
            }
        }
    }
    log::info!(
        "job {}: assignment {} of {} bytes{} for {} nodes",
        run.job,
        assignment.id,
        run.assignment_bytes(),
        if before.is_empty() { String::new() } else { format!(" in {} parts", made.len()) },
        expected.len()
    );
    controller.store_blocking(|store| {
        store.begin_distribution(run, composition, (assignment, order), expected, now_ns())
    })
}

/// The online nodes of the site, all waiting.
pub(super) fn expected(site: &Site, nodes: &[Node]) -> Vec<RunNode> {
    let online = nodes.iter().filter(|node| node.is_online() && node.site(&site.name).is_some());
    online
        .filter_map(|node| {
            Some(RunNode {
                node: node.id,
                name: node.name.clone(),
                segment: node.seen.as_ref()?.segment.clone(),
                state: NodeState::Waiting,
                reason: String::new(),
                text: String::new(),
                changed_ns: 0,
                switched_ns: 0,
            })
        })
        .collect()
}
