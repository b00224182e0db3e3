//! `GET /v1/status`: how the farm is, in one sentence, and what to do about it.

use super::problem::Refusal;
use super::types::{Phase, Segment, Status};
use super::version::{REVISION, VERSION};
use super::{jobs, segments, sites};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::groups::{self, Group};
use crate::ccm::model::{Run, Site};
use crate::ccm::scheduler::window::Window;
use crate::wire::id::Name;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Names that a sentence holds before it says how many more.
const NAMED_MAX: usize = 5;

pub async fn show(State(controller): State<Arc<Controller>>) -> Result<Json<Status>, Refusal> {
    let reached = Arc::clone(&controller);
    let status = controller.store(move |store| read(store, &reached)).await?;
    Ok(Json(status))
}

fn read(store: &mut Store, controller: &Controller) -> Result<Status, DbError> {
    let now_ns = now_ns();
    store.expire_segments(now_ns)?;
    let (census, sites) = (store.census()?, store.sites()?);
    let segments = segments::views(store, &controller.reach(), &store.segments()?, &census)?;
    let unfinished = store.unfinished_runs()?;
    let split = segments.iter().find(|segment| !segment.rivals.is_empty());
    let copied = segments.iter().find(|segment| !segment.twins.is_empty());
    let (verdict, action) = match (split, copied) {
        (Some(split), _) => verdict_on_split(split),
        (None, Some(copied)) => verdict_on_twins(copied),
        (None, None) => {
            let scene = Scene {
                total: census.total,
                offline: census.total - census.online(),
                offline_names: store.offline_names(&census, NAMED_MAX as u32)?,
                running: unfinished.first().cloned(),
                last: store.last_runs(1)?.pop(),
                stale: stale(store, &sites, &store.groups()?)?,
                sites: &sites,
            };
            let (verdict, action) = verdict(&scene);
            match segments.iter().find(|segment| !segment.by_unicast.is_empty()) {
                Some(segment) => verdict_on_unicast(segment, verdict, action),
                None => (verdict, action),
            }
        }
    };
    let (verdict, action) = verdict_on_windows(&store.windows()?, now_ns, verdict, action);
    Ok(Status {
        schema: "farmcast.status/1".to_owned(),
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        verdict,
        action,
        nodes_online: count(census.online()),
        nodes_total: count(census.total),
        segments,
        sites: sites.iter().map(sites::view).collect(),
        running: jobs::summaries(store, &unfinished)?,
        listen: controller.reachable_at.to_string(),
        served_bytes: controller.served_bytes(),
    })
}

/// What the verdict follows from where no segment is in trouble.
struct Scene<'a> {
    total: u64,
    offline: u64,
    /// The first of them.
    offline_names: Vec<String>,
    running: Option<Run>,
    last: Option<Run>,
    stale: Option<(Name, Vec<String>)>,
    sites: &'a [Site],
}

pub fn count(number: u64) -> u32 {
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
        .filter(|window| window.keeps_jobs() && window.open(now_ns).is_some())
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
fn verdict(scene: &Scene<'_>) -> (String, String) {
    let (verdict, action) = match (&scene.running, &scene.last) {
        (Some(run), _) => (format!("Job {} publishes {}: {}.", run.job, run.site, run.text), String::new()),
        _ if scene.total == 0 => (
            "The farm has no nodes yet.".to_owned(),
            "Invite one: `farmcast node invite`, then type the printed command on the node.".to_owned(),
        ),
        _ if scene.offline == scene.total => (
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
        _ => match (&scene.stale, scene.sites.iter().find(|site| site.version.is_none())) {
            (Some((site, names)), _) => (
                format!("{} does not hold the live version of {site}.", names_of(names)),
                format!("`farmcast synchronize {site}` brings it up to date."),
            ),
            (None, _) if scene.sites.is_empty() => (
                "All nodes are there; there is no site yet.".to_owned(),
                "Add one: `farmcast site add NAME --staging DIR`.".to_owned(),
            ),
            (None, Some(site)) => (
                format!("All nodes are there; {} was never published.", site.name),
                format!("`farmcast publish {}` puts it live.", site.name),
            ),
            (None, None) => ("The farm serves one version of every site.".to_owned(), String::new()),
        },
    };
    if scene.offline == 0 || scene.offline == scene.total {
        return (verdict, action);
    }
    let verb = if scene.offline == 1 { "is" } else { "are" };
    let names = first_of(&scene.offline_names, count(scene.offline) as usize);
    let verdict = format!("{verdict} Offline {verb} {names}.");
    let advice = "Nodes that are offline get the content with the first publish after they return.";
    (verdict, if action.is_empty() { advice.to_owned() } else { action })
}

/// The first site of which an online node of its group holds another version than the controller committed last.
fn stale(store: &Store, sites: &[Site], groups: &[Group]) -> Result<Option<(Name, Vec<String>)>, DbError> {
    for site in sites {
        let Some(version) = site.version else { continue };
        let Some(group) = groups::serving(groups, &site.name) else { continue };
        let behind = store.behind(&site.name, version)?.into_iter();
        let names: Vec<String> = behind
            .filter(|node| group.chooses_one(&node.name, Some(&node.segment)))
            .map(|node| node.name.to_string())
            .collect();
        if !names.is_empty() {
            return Ok(Some((site.name.clone(), names)));
        }
    }
    Ok(None)
}

fn names_of(names: &[String]) -> String {
    first_of(names, names.len())
}

/// The first of so many names, and how many more there are.
fn first_of(names: &[String], all: usize) -> String {
    let mut text = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if all > NAMED_MAX {
        text.push_str(&format!(" and {} more", all - NAMED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::groups::Nodes;
    use crate::ccm::testing::{enrol, id, name, profile, run, segment_report, site, store};

    /// As it is shown where node 2 is in trouble of this kind.
    fn segment(rivals: &[&str], by_unicast: &[&str]) -> Segment {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Segment {
            name: "east".to_owned(),
            id: "boston".to_owned(),
            leader: id(1).to_string(),
            leader_name: "a".to_owned(),
            rivals: owned(rivals),
            by_unicast: owned(by_unicast),
            epoch: 1,
            nodes_online: 1,
            nodes_total: 2,
            reported_ns: 0,
            twins: Vec::new(),
            channel: String::new(),
            wanted_channel: String::new(),
            leaders: Vec::new(),
            open_after_s: None,
            charter: 0,
            charter_reported: 0,
            nodes_behind: 0,
        }
    }

    #[test]
    fn a_segment_with_two_leaders_is_named_with_both_and_the_cause() {
        let (verdict, action) = verdict_on_split(&segment(&["b"], &[]));
        assert_eq!(
            verdict,
            "Multicast does not pass through segment east: a leads it, and b leads it as well."
        );
        assert!(action.contains("querier"), "{action}");
    }

    #[test]
    fn a_segment_that_goes_on_by_unicast_is_named_with_its_nodes_and_the_remedy() {
        let blocked = segment(&[], &["b"]);
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
            rate: None,
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
        let sites = [site("www", 7)];
        let scene = |total, offline| Scene {
            total,
            offline,
            offline_names: (1..=offline.min(5)).map(|number| format!("n{number}")).collect(),
            running: None,
            last: None,
            stale: None,
            sites: &sites,
        };
        let say = |scene: &Scene<'_>| verdict(scene);
        assert_eq!(say(&scene(0, 0)).0, "The farm has no nodes yet.");
        assert_eq!(say(&scene(2, 2)).0, "No node is online.");
        let well = "The farm serves one version of every site.";
        assert_eq!(say(&scene(2, 0)), (well.into(), String::new()));
        let stale = Some((name("www"), vec!["a".to_owned()]));
        let (verdict, action) = say(&Scene { stale, ..scene(2, 0) });
        assert_eq!(verdict, "a does not hold the live version of www.");
        assert_eq!(action, "`farmcast synchronize www` brings it up to date.");
        let (verdict, action) = say(&scene(2, 1));
        assert_eq!(verdict, format!("{well} Offline is n1."));
        assert!(action.contains("first publish after"));
        let (verdict, _) = say(&scene(20, 7));
        assert_eq!(verdict, format!("{well} Offline are n1, n2, n3, n4, n5 and 2 more."));
        let last = Some(run(3, "www", Phase::Failed));
        let (verdict, action) = say(&Scene { last, ..scene(2, 0) });
        assert!(verdict.starts_with("Job 3 (www) ended failed"), "{verdict}");
        assert!(action.contains("farmcast job show 3"), "{action}");
        let never = [site("www", 0)];
        assert!(say(&Scene { sites: &never, ..scene(1, 0) }).0.contains("never published"));
        assert!(say(&Scene { sites: &[], ..scene(1, 0) }).0.contains("no site yet"));
    }

    /// What is not for a node does not make it stale.
    #[test]
    fn a_node_is_stale_where_its_group_has_the_site() {
        let (_dir, mut store) = store();
        (1..=3).for_each(|number| enrol(&mut store, number));
        let members = [(1, 7), (2, 6), (3, 5)].map(|(number, version)| profile(number, &[("www", version)]));
        let report = segment_report("boston", 1, members.to_vec());
        store.take_segment_report(id(1), &report, now_ns()).unwrap().unwrap();
        let group = |nodes| [Group { name: name("www"), nodes, sites: vec![name("www")] }];
        let chosen = |choice: &str| Nodes::Chosen(vec![choice.parse().unwrap()]);
        let say = |version, nodes| stale(&store, &[site("www", version)], &group(nodes)).unwrap();
        let www = |names: &[&str]| Some((name("www"), names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(say(7, Nodes::All), www(&["n2", "n3"]));
        assert_eq!(say(7, chosen("n3")), www(&["n3"]));
        assert_eq!(say(7, chosen("n1")), None);
        assert_eq!(say(6, chosen("n1")), www(&["n1"]));
        assert_eq!(say(0, Nodes::All), None);
        assert_eq!(stale(&store, &[site("www", 7)], &[]).unwrap(), None);
    }
}
