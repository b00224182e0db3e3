//! `GET /v1/status`: how the farm is, in one sentence, and what to do about it.

use super::problem::Refusal;
use super::types::{Phase, Segment, Status};
use super::version::{REVISION, VERSION};
use super::{jobs, segments, sites};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::groups::{self, Group};
use crate::ccm::model::{Node, Run, Site};
use crate::ccm::scheduler::window::Window;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Names that a sentence holds before it says how many more.
const NAMED_MAX: usize = 5;

pub async fn show(State(controller): State<Arc<Controller>>) -> Result<Json<Status>, Refusal> {
    let reached = Arc::clone(&controller);
    let read = move |store: &mut Store| {
        store.expire_segments(now_ns())?;
        let unfinished = store.unfinished_runs()?;
        let jobs = jobs::summaries(store, &unfinished)?;
        let last = store.last_runs(1)?.pop();
        let (nodes, segments, sites) = (store.nodes()?, store.segments()?, store.sites()?);
        let segments = segments::views(store, &reached.reach(), &segments, &nodes)?;
        let (groups, windows) = (store.groups()?, store.windows()?);
        Ok::<_, DbError>((unfinished, jobs, last, nodes, segments, sites, groups, windows))
    };
    let (unfinished, running, last, nodes, segments, sites, groups, windows) = controller.store(read).await?;
    let split = segments.iter().find(|segment| !segment.rivals.is_empty());
    let copied = segments.iter().find(|segment| !segment.twins.is_empty());
    let (verdict, action) = match (split, copied) {
        (Some(split), _) => verdict_on_split(split),
        (None, Some(copied)) => verdict_on_twins(copied),
        (None, None) => {
            let (verdict, action) = verdict(&nodes, &sites, &groups, unfinished.first(), last.as_ref());
            match segments.iter().find(|segment| !segment.by_unicast.is_empty()) {
                Some(segment) => verdict_on_unicast(segment, verdict, action),
                None => (verdict, action),
            }
        }
    };
    let (verdict, action) = verdict_on_windows(&windows, now_ns(), verdict, action);
    let online = nodes.iter().filter(|node| node.is_online()).count();
    Ok(Json(Status {
        schema: "farmcast.status/1".to_owned(),
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        verdict,
        action,
        nodes_online: count(online),
        nodes_total: count(nodes.len()),
        segments,
        sites: sites.iter().map(sites::view).collect(),
        running,
        listen: controller.reachable_at.to_string(),
        served_bytes: controller.served_bytes(),
    }))
}

pub fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A segment with several leaders comes before all else: what is published does not reach all of it.
fn verdict_on_split(segment: &Segment) -> (String, String) {
    let leader = if segment.leader_name.is_empty() { "another node" } else { &segment.leader_name };
    let (names, leads) =
        (names_of(&segment.rivals), if segment.rivals.len() == 1 { "leads" } else { "lead" });
    let verdict = format!(
        "Multicast does not pass through segment {}: {leader} leads it, and {names} {leads} it as well.",
        segment.name
    );
    let action = "Let it pass between them: a switch that snoops IGMP needs a querier, a firewall must let the \
                  channels and IGMP through. Nodes on different networks need segments of different names.";
    (verdict, action.to_owned())
}

/// Two machines with one identity: what one of them reports may be taken for the other's.
fn verdict_on_twins(segment: &Segment) -> (String, String) {
    let verdict = format!(
        "In segment {} a second machine has the identity of a node, and keeps silent: {}.",
        segment.name,
        names_of(&segment.twins)
    );
    let action = "Stop the machine that is a copy, empty its state directory, and let it join under a name of its \
                  own: `farmcast node invite`.";
    (verdict, action.to_owned())
}

/// A segment that goes on by unicast is named before all that is well, and behind what is worse.
fn verdict_on_unicast(segment: &Segment, verdict: String, action: String) -> (String, String) {
    let (names, are) =
        (names_of(&segment.by_unicast), if segment.by_unicast.len() == 1 { "is" } else { "are" });
    let blocked = format!(
        "Multicast does not pass through segment {}: {names} {are} reached by unicast, more slowly.",
        segment.name
    );
    let remedy = "Let multicast pass: a switch that snoops IGMP needs a querier, a firewall must let the channels and \
                  IGMP through; `farmcastd --doctor` on a node says which.";
    if action.is_empty() {
        (format!("{blocked} {verdict}"), remedy.to_owned())
    } else {
        (format!("{verdict} {blocked}"), format!("{action} {remedy}"))
    }
}

/// A freeze or a blackout is named behind all else: it is as somebody wanted it.
fn verdict_on_windows(windows: &[Window], now_ns: u64, verdict: String, action: String) -> (String, String) {
    let open: Vec<String> = windows
        .iter()
        .filter(|window| window.open(now_ns).is_some())
        .map(|window| format!("{} ({})", window.name, window.reason))
        .collect();
    if open.is_empty() {
        return (verdict, action);
    }
    let verdict = format!("{verdict} Jobs are kept from starting by {}.", names_of(&open));
    let advice = "`farmcast freeze off` or `farmcast blackout remove NAME` lets them start.";
    (verdict, if action.is_empty() { advice.to_owned() } else { action })
}

/// Verdict and action, worst first, in the manner of `zpool status`.
fn verdict(
    nodes: &[Node],
    sites: &[Site],
    groups: &[Group],
    running: Option<&Run>,
    last: Option<&Run>,
) -> (String, String) {
    let offline: Vec<String> =
        nodes.iter().filter(|node| !node.is_online()).map(|node| node.name.to_string()).collect();
    let (verdict, action) = match (running, last) {
        (Some(run), _) => (format!("Job {} publishes {}: {}.", run.job, run.site, run.text), String::new()),
        _ if nodes.is_empty() => (
            "The farm has no nodes yet.".to_owned(),
            "Invite one: `farmcast node invite`, then type the printed command on the node.".to_owned(),
        ),
        _ if offline.len() == nodes.len() => (
            "No node is online.".to_owned(),
            "Start farmcastd on the nodes; see that they reach this controller and may lead.".to_owned(),
        ),
        (None, Some(run)) if matches!(run.phase, Phase::Failed | Phase::Partial) => (
            format!("Job {} ({}) ended {}: {}.", run.job, run.site, run.phase, run.text),
            format!(
                "Mend what it names, then `farmcast publish {}`; `farmcast job show {}` has all nodes.",
                run.site, run.job
            ),
        ),
        _ => match stale(nodes, sites, groups) {
            Some((site, names)) => (
                format!("{} does not hold the live version of {site}.", names_of(&names)),
                format!("`farmcast synchronize {site}` brings it up to date."),
            ),
            None if sites.is_empty() => (
                "All nodes are there; there is no site yet.".to_owned(),
                "Add one: `farmcast site add NAME --staging DIR`.".to_owned(),
            ),
            None => match sites.iter().find(|site| site.version.is_none()) {
                Some(site) => (
                    format!("All nodes are there; {} was never published.", site.name),
                    format!("`farmcast publish {}` puts it live.", site.name),
                ),
                None => ("The farm serves one version of every site.".to_owned(), String::new()),
            },
        },
    };
    if offline.is_empty() || offline.len() == nodes.len() {
        return (verdict, action);
    }
    let verb = if offline.len() == 1 { "is" } else { "are" };
    let verdict = format!("{verdict} Offline {verb} {}.", names_of(&offline));
    let advice = "Nodes that are offline get the content with the first publish after they return.";
    (verdict, if action.is_empty() { advice.to_owned() } else { action })
}

/// The first site of which an online node of its group holds another version than the controller committed last.
fn stale(nodes: &[Node], sites: &[Site], groups: &[Group]) -> Option<(String, Vec<String>)> {
    sites.iter().filter(|site| site.version.is_some()).find_map(|site| {
        let behind = |node: &&Node| {
            let differs = node.site(&site.name).is_some_and(|state| state.version != site.version);
            node.is_online() && differs && groups::takes(groups, node, &site.name)
        };
        let names: Vec<String> = nodes.iter().filter(behind).map(|node| node.name.to_string()).collect();
        (!names.is_empty()).then(|| (site.name.to_string(), names))
    })
}

fn names_of(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::model::{self, Seen};
    use crate::wire::control::SiteState;
    use crate::wire::id::{AssignmentId, Name, NodeId};
    use crate::wire::seal::PublicKey;

    fn node(name: &str, online: bool, version: u64) -> Node {
        let addr = "127.0.0.1:1".parse().unwrap();
        let site = SiteState { site: Name::new("www").unwrap(), version: Some(AssignmentId(version)) };
        Node {
            id: NodeId(1),
            name: Name::new(name).unwrap(),
            key: PublicKey([0; 32]),
            can_lead: true,
            seen: Some(Seen {
                segment: Name::new("boston").unwrap(),
                online,
                at_ns: 0,
                datagram: addr,
                http: addr,
                text: addr,
                priority: 0,
                processors: 1,
                free_memory: 0,
                free_disk: 0,
                groups: crate::wire::id::ListNumber(0),
                leads: true,
                machine: crate::wire::control::Machine::default(),
                sites: vec![site],
            }),
        }
    }

    fn segment() -> model::Segment {
        model::Segment {
            name: Name::new("boston").unwrap(),
            title: Name::new("east").unwrap(),
            leader: Some(NodeId(1)),
            epoch: crate::wire::id::Epoch(1),
            reported_ns: 0,
            channel: None,
            reported_charter: crate::wire::id::CharterId(0),
            behind: 0,
            decided: model::Decided::default(),
        }
    }

    #[test]
    fn a_segment_with_two_leaders_is_named_with_both_and_the_cause() {
        let segment = segment();
        let nodes = [node("a", true, 7), Node { id: NodeId(2), ..node("b", false, 7) }];
        let whole = segments::view(&segment, &nodes, &[(Name::new("paris").unwrap(), NodeId(2))], &[], &[]);
        assert!(whole.rivals.is_empty());
        let split = segments::view(&segment, &nodes, &[(segment.name.clone(), NodeId(2))], &[], &[]);
        let (verdict, action) = verdict_on_split(&split);
        assert_eq!(
            verdict,
            "Multicast does not pass through segment east: a leads it, and b leads it as well."
        );
        assert!(action.contains("querier"), "{action}");
    }

    #[test]
    fn a_segment_that_goes_on_by_unicast_is_named_with_its_nodes_and_the_remedy() {
        let segment = segment();
        let nodes = [node("a", true, 7), Node { id: NodeId(2), ..node("b", true, 7) }];
        let blocked = segments::view(&segment, &nodes, &[], &[], &[NodeId(2)]);
        let (well, worse) = ("All is well.".to_owned(), "Job 1 failed.".to_owned());
        let (verdict, action) = verdict_on_unicast(&blocked, well, String::new());
        assert_eq!(
            verdict,
            "Multicast does not pass through segment east: b is reached by unicast, more slowly. All is well."
        );
        assert!(action.contains("querier"), "{action}");
        let (verdict, action) = verdict_on_unicast(&blocked, worse, "Mend it.".to_owned());
        assert!(verdict.starts_with("Job 1 failed. Multicast"), "{verdict}");
        assert!(action.starts_with("Mend it. ") && action.contains("querier"), "{action}");
    }

    #[test]
    fn a_freeze_is_named_behind_the_rest_and_one_that_is_over_is_not() {
        let window = |opens: &str, lasts_s| Window {
            name: Name::new("w").unwrap(),
            site: None,
            opens: opens.parse().unwrap(),
            lasts_s,
            reason: "audit".to_owned(),
        };
        let windows = [window("at 1970-01-01T00:00:00Z", None), window("at 1970-01-01T00:00:00Z", Some(1))];
        let (verdict, action) =
            verdict_on_windows(&windows, 2_000_000_000, "All is well.".into(), String::new());
        assert_eq!(verdict, "All is well. Jobs are kept from starting by w (audit).");
        assert!(action.starts_with("`farmcast freeze off`"), "{action}");
        let silent = verdict_on_windows(&windows[1..], 2_000_000_000, "All is well.".into(), "do".into());
        assert_eq!(silent, ("All is well.".to_owned(), "do".to_owned()));
    }

    #[test]
    fn the_verdict_names_the_worst_and_the_action_helps() {
        let site = Site {
            name: Name::new("www").unwrap(),
            staging: "/s".into(),
            version: Some(AssignmentId(7)),
            files: 0,
            bytes: 0,
            group: Name::new("www").unwrap(),
            filter: crate::ccm::filter::Filter::default(),
        };
        let mut groups = vec![Group {
            name: site.name.clone(),
            nodes: groups::Nodes::All,
            sites: vec![site.name.clone()],
        }];
        let say = |nodes: &[Node], groups: &[Group]| {
            verdict(nodes, std::slice::from_ref(&site), groups, None, None)
        };

        assert_eq!(say(&[], &groups).0, "The farm has no nodes yet.");
        assert_eq!(say(&[node("a", false, 7)], &groups).0, "No node is online.");
        assert_eq!(
            say(&[node("a", true, 7)], &groups),
            ("The farm serves one version of every site.".into(), String::new())
        );
        let (verdict, action) = say(&[node("a", true, 6), node("b", true, 7)], &groups);
        assert_eq!(verdict, "a does not hold the live version of www.");
        assert_eq!(action, "`farmcast synchronize www` brings it up to date.");
        let (verdict, action) = say(&[node("a", true, 7), node("b", false, 7)], &groups);
        assert_eq!(verdict, "The farm serves one version of every site. Offline is b.");
        assert!(action.contains("first publish after"));
        // What is not for a node does not make it stale.
        groups[0].nodes = groups::Nodes::Chosen(vec!["b".parse().unwrap()]);
        assert_eq!(
            say(&[node("a", true, 6), node("b", true, 7)], &groups).0,
            "The farm serves one version of every site."
        );
    }
}
