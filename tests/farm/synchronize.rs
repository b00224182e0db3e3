//! Nodes that missed a publish, or whose content somebody changed, are brought along by what they lack; the others
//! are left alone (JT-5, CM-7).

use crate::harness::{Farm, LATER, Live, SITE, noise, tree, wait_for};
use farmcast::ccm::api::types::{Job, JobReport, Phase};
use std::fs;

const LARGE: usize = 4 << 20;

/// A farm of three with a large file live, which the others go on from while one is away.
fn farm() -> (Farm, Job) {
    let mut farm = Farm::with_controller();
    (0..3).for_each(|_| farm.add_node());
    farm.begin();
    farm.stage("large.bin", noise(1, LARGE));
    farm.stage("index.html", "one");
    let first = farm.publish_well();
    (farm, first)
}

#[track_caller]
fn wait_for_version(farm: &Farm, node: usize, version: u64) {
    let held = || {
        let rows = farm.rows();
        let row = rows.iter().find(|row| row.name == farm.nodes[node].name)?;
        (row.state != "offline" && row.sites.first()?.version == version).then_some(())
    };
    wait_for("a node that holds a version", LATER, held);
}

#[track_caller]
fn wait_until_gone(farm: &Farm, node: usize) {
    let gone = || farm.rows().iter().any(|row| row.name == farm.nodes[node].name && row.state == "offline");
    wait_for("a node that is offline", LATER, || gone().then_some(()));
}

fn jobs(farm: &Farm) -> Vec<Job> {
    farm.cli(&["--json", "job", "list"]).json()
}

fn lives(farm: &Farm, nodes: &[usize]) -> Vec<Live> {
    nodes.iter().map(|&node| Live::of(&farm.nodes[node].live())).collect()
}

/// A node that does not lead.
fn follower(farm: &Farm) -> usize {
    let (leader, _) = farm.leader();
    (leader + 1) % farm.nodes.len()
}

#[test]
fn a_node_that_missed_a_publish_gets_what_it_lacks_and_the_others_are_left_alone() {
    let (mut farm, first) = farm();
    let away = follower(&farm);
    let others: Vec<usize> = (0..3).filter(|node| *node != away).collect();
    farm.nodes[away].kill();
    wait_until_gone(&farm, away);
    farm.stage("index.html", "two!");
    farm.stage("second.bin", noise(2, 100_000));
    let (_, second) = farm.publish();
    assert_eq!((second.phase, second.nodes_total), (Phase::Done, 2), "{second:#?}");

    farm.nodes[away].start();
    wait_for_version(&farm, away, first.assignment);
    let before = lives(&farm, &others);
    let (leader, _) = farm.leader();
    let idle = others.iter().copied().find(|node| *node != leader).expect("a third");
    // Notes on an object are written up to a second after it.
    let objects = || {
        let mut spooled = tree(&farm.nodes[idle].state().join("spool"));
        spooled.retain(|name, _| name.ends_with(".asg"));
        spooled
    };
    let spooled = objects();
    let done: Job = farm.cli(&["--json", "synchronize", SITE]).json();
    assert_eq!((done.kind.as_str(), done.phase), ("synchronize", Phase::Done), "{done:#?}\n{}", farm.logs());
    assert_eq!((done.nodes_total, done.nodes_live, done.assignment), (1, 1, second.assignment));
    assert_eq!(done.assignment_kind, "publish");
    assert!(done.assignment_bytes < LARGE as u64 / 8, "only what it lacks: {done:#?}");
    assert_eq!(lives(&farm, &others), before, "who is current is not touched");
    assert_eq!(objects(), spooled, "nor does it receive anything");
    farm.assert_live_is_staging();
    wait_for_version(&farm, away, second.assignment);

    // There is nothing more to bring, and what is not there is said.
    let again: Job = farm.cli(&["--json", "synchronize", SITE, "--node", "node-1"]).json();
    assert_eq!((again.phase, again.nodes_total), (Phase::Unchanged, 0), "{again:#?}");
    farm.cli(&["synchronize", SITE, "--node", "nobody"]).assert_refused(5, &["there is no node \"nobody\""]);
    farm.cli(&["synchronize", "none"]).assert_refused(5, &["there is no site none"]);

    // The next publish is a difference for all.
    farm.stage("index.html", "three");
    let third = farm.publish_well();
    assert_eq!((third.assignment_kind.as_str(), third.nodes_live), ("publish", 3));
}

#[test]
fn a_publish_brings_stale_nodes_along_first_and_then_goes_live_on_all_at_once() {
    let (mut farm, first) = farm();
    let away = follower(&farm);
    farm.nodes[away].kill();
    wait_until_gone(&farm, away);
    farm.stage("index.html", "two!");
    let (_, second) = farm.publish();
    assert_eq!((second.phase, second.nodes_total), (Phase::Done, 2), "{second:#?}");
    farm.nodes[away].start();
    wait_for_version(&farm, away, first.assignment);
    // And one that is new has nothing at all.
    farm.add_node();
    farm.nodes[3].start();
    farm.wait_until_whole();

    farm.stage("index.html", "three");
    let third = farm.publish_well();
    assert_eq!((third.assignment_kind.as_str(), third.nodes_live), ("publish", 4), "{third:#?}");
    assert!(third.assignment_bytes < 10_000, "the difference: {third:#?}");
    let mut before: Vec<Job> = jobs(&farm).into_iter().filter(|job| job.kind == "synchronize").collect();
    before.sort_by_key(|job| job.assignment_bytes);
    let sent: Vec<_> =
        before.iter().map(|job| (job.phase, job.nodes_live, job.assignment_kind.as_str())).collect();
    assert_eq!(sent, [(Phase::Done, 1, "publish"), (Phase::Done, 1, "replicate")], "{before:#?}");
    assert!(before[0].assignment_bytes < 10_000 && before[1].assignment_bytes > LARGE as u64);
    assert!(before.iter().all(|job| job.assignment == second.assignment && job.run < third.run));
}

#[test]
fn a_node_whose_content_somebody_changed_says_so_and_is_brought_all_of_it_once() {
    let (farm, _) = farm();
    let wrong = follower(&farm);
    let name = &farm.nodes[wrong].name;
    fs::write(farm.nodes[wrong].live().join("large.bin"), "changed by hand").expect("live is ours");
    let mut changed = noise(1, LARGE);
    changed[LARGE / 2] ^= 1;
    farm.stage("large.bin", changed);
    let second = farm.publish_well();
    assert_eq!((second.assignment_kind.as_str(), second.nodes_live), ("publish", 3));
    let jobs = jobs(&farm);
    let kinds: Vec<(&str, Phase)> = jobs.iter().map(|job| (job.kind.as_str(), job.phase)).collect();
    let done = ("synchronize", Phase::Done);
    assert_eq!(kinds.iter().filter(|job| **job == done).count(), 1, "{kinds:?}");
    let brought = jobs.iter().find(|job| job.kind == "synchronize").expect("there is one");
    let brought = farm.job(brought.id);
    assert_eq!((brought.nodes.len(), &brought.nodes[0].name), (1, name));
    assert_eq!(brought.assignment_kind, "replicate");
    // The run that met it says why it failed, and the history keeps it.
    let report: JobReport = farm.cli(&["--json", "job", "report", &second.id.to_string()]).json();
    let met = report.attempts.iter().find(|job| job.phase == Phase::Failed).expect("the first try failed");
    assert!(met.text.contains(&format!("{name} (stale-base: ")), "{}", met.text);
    assert_eq!((report.attempts.len(), jobs.len()), (2, 3), "once, not in a loop: {kinds:?}");
}

/// Its leader has not missed it, and takes it for one that has the version which it had: for such a one a synchronize
/// was nobody's business.
#[test]
fn a_node_that_comes_back_at_once_without_its_site_is_brought_along() {
    let (mut farm, _) = farm();
    let made: Job = farm.cli(&["--json", "version", "checkpoint", SITE, "--name", "good"]).json();
    assert_eq!(made.phase, Phase::Done);
    for round in 0..3 {
        farm.stage("index.html", format!("round {round}"));
        farm.publish_well();
        let node = follower(&farm);
        farm.nodes[node].kill();
        fs::remove_dir_all(farm.nodes[node].root()).expect("the node's site");
        fs::create_dir(farm.nodes[node].root()).expect("an empty root");
        farm.nodes[node].start();
        farm.wait_until_whole();
        let job: Job = farm.cli(&["--json", "version", "restore", SITE, "good"]).json();
        assert_eq!(job.phase, Phase::Done, "round {round}: {}\n{}", job.text, farm.logs());
    }
}
