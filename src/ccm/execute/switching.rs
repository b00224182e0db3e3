//! A run that goes back to a version which the nodes keep: no content moves, the order is all (JT-6, JT-7).

use super::composing::{enough_online, expected};
use super::distributing::issue_order;
use crate::ccm::api::types::Phase;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::groups;
use crate::ccm::model::{JobKind, NodeState, Run, RunNode, Site};
use crate::ccm::staging::Shadow;
use crate::content::site::FOUND;
use crate::wire::id::AssignmentId;
use crate::wire::order::Action;

/// Finds the version and the nodes, and issues the order. The shadow must have the version too: what is live
/// without a shadow could not be published on.
pub(super) fn begin_switch(controller: &Controller, run: &Run) -> Result<(), DbError> {
    let end = |phase: Phase, text: &str| {
        log::info!("job {}: {phase}: {text}", run.job);
        controller.store_blocking(|store| store.end_run(run.id, phase, text, None, now_ns()))
    };
    let read = |store: &mut Store| {
        Ok((store.site(&run.site)?, store.groups()?, store.nodes()?, store.snapshots(&run.site)?))
    };
    let (site, groups, mut nodes, snapshots) = controller.store_blocking(read)?;
    let Some(site) = site else { return end(Phase::Failed, &format!("there is no site {}", run.site)) };
    let committed: Vec<AssignmentId> = snapshots.into_iter().map(|snapshot| snapshot.version).collect();
    let version = match target(run.kind, &site, &committed) {
        Ok(version) => version,
        Err(text) => return end(Phase::Failed, &text),
    };
    if site.version.unwrap_or(FOUND) == version {
        return end(Phase::Unchanged, &format!("version {version} is live already: nothing was ordered"));
    }
    if let Err(text) = shadow_keeps(controller, &site, version) {
        return end(Phase::Failed, &text);
    }
    nodes.retain(|node| groups::takes(&groups, node, &site.name));
    if let Err(text) = enough_online(&site, run.terms.rules.online_quorum, &nodes) {
        return end(Phase::Failed, &text);
    }
    let have = |node: RunNode| RunNode { state: NodeState::Staged, ..node };
    let nodes: Vec<RunNode> = expected(&site, &nodes).into_iter().map(have).collect();
    if nodes.is_empty() {
        return end(Phase::Failed, &format!("no node that serves {} is online", site.name));
    }
    log::info!("job {}: back to version {version} on {} nodes", run.job, nodes.len());
    controller.store_blocking(|store| {
        let composition = store.composition_of(version)?;
        store.begin_switch(run.id, &composition, &nodes)?;
        issue_order(controller, store, run, Action::Switch { assignment: version }, now_ns())
    })
}

/// Where the run goes; a sentence where there is no such version. `committed`: all that were ever live.
fn target(kind: JobKind, site: &Site, committed: &[AssignmentId]) -> Result<AssignmentId, String> {
    let list = format!("`farmcast version list {}` has the versions", site.name);
    match (kind, site.version) {
        (JobKind::Switch { version }, _) if version == FOUND || committed.contains(&version) => Ok(version),
        (JobKind::Switch { version }, _) => Err(format!("version {version} was never live; {list}")),
        (_, None) => Err(format!("nothing of {} is live that could be rolled back; {list}", site.name)),
        (_, Some(live)) => {
            Ok(committed.iter().copied().filter(|version| *version < live).max().unwrap_or(FOUND))
        }
    }
}

fn shadow_keeps(controller: &Controller, site: &Site, version: AssignmentId) -> Result<(), String> {
    let kept = Shadow::kept(&controller.config, &site.name).map_err(|error| error.to_string())?;
    if kept.contains(&version) {
        return Ok(());
    }
    let names: Vec<String> = kept.iter().map(AssignmentId::to_string).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(format!("version {version} is not kept any more; kept are {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::site;

    #[test]
    fn a_rollback_goes_to_the_version_before_and_a_switch_where_it_says() {
        let committed = [7, 5, 2].map(AssignmentId);
        let to = |version| JobKind::Switch { version: AssignmentId(version) };
        for (kind, live, expected) in [
            (JobKind::Rollback, 7, Some(5)),
            (JobKind::Rollback, 5, Some(2)),
            (JobKind::Rollback, 2, Some(0)),
            (JobKind::Rollback, 0, None),
            (to(7), 2, Some(7)),
            (to(0), 2, Some(0)),
            (to(6), 2, None),
            (to(5), 0, Some(5)),
        ] {
            let found = target(kind, &site("www", live), &committed);
            assert_eq!(
                found.clone().ok(),
                expected.map(AssignmentId),
                "{kind:?} with {live} live: {found:?}"
            );
        }
    }
}
