//! Nodes that come get what is live by themselves (JT-20); nodes that are removed get and say nothing any more.

use crate::harness::{Farm, LATER, SITE, tree, wait_for};
use std::fs;
use std::thread;
use std::time::Duration;

#[track_caller]
fn wait_until_gone(farm: &Farm, node: usize) {
    let gone = || farm.rows().iter().any(|row| row.name == farm.nodes[node].name && row.state == "offline");
    wait_for("a node that is offline", LATER, || gone().then_some(()));
}

#[track_caller]
fn bring_along_after(farm: &Farm, seconds: &str) {
    let said = farm.cli(&["site", "policy", SITE, "--bring-along-after", seconds]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Waits until the node has live what is in staging.
#[track_caller]
fn wait_until_current(farm: &Farm, node: usize) {
    let staging = tree(&farm.staging());
    let live = farm.nodes[node].live();
    wait_for("a node that is current", LATER, || (tree(&live) == staging).then_some(()));
}

/// A node that does not lead.
fn follower(farm: &Farm) -> usize {
    let (leader, _) = farm.leader();
    (leader + 1) % farm.nodes.len()
}

#[test]
fn a_node_that_is_new_or_comes_back_gets_what_is_live_by_itself_where_the_policy_says_so() {
    let mut farm = Farm::of(2);
    bring_along_after(&farm, "1");
    farm.stage("index.html", "one");
    farm.publish_well();
    let away = follower(&farm);
    farm.nodes[away].kill();
    wait_until_gone(&farm, away);
    farm.stage("index.html", "two!");
    let (code, job) = farm.publish();
    assert_eq!((code, job.nodes_total), (Some(0), 1), "{job:#?}");
    farm.nodes[away].start();
    wait_until_current(&farm, away);

    farm.add_node();
    farm.nodes[2].start();
    wait_until_current(&farm, 2);
    let events = farm.cli(&["events"]);
    for name in [&farm.nodes[away].name, "node-3"] {
        let line = events.stdout.lines().find(|line| line.contains("by itself") && line.contains(name));
        assert!(line.is_some(), "{name}: {events:?}");
    }

    bring_along_after(&farm, "0");
    farm.nodes[2].kill();
    wait_until_gone(&farm, 2);
    farm.stage("index.html", "three");
    farm.publish();
    farm.nodes[2].start();
    farm.wait_until_whole();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(fs::read(farm.nodes[2].live().join("index.html")).expect("it is there"), b"two!");
}

#[test]
fn a_node_that_was_removed_gets_nothing_and_its_name_is_free() {
    let mut farm = Farm::of(3);
    bring_along_after(&farm, "1");
    farm.stage("index.html", "one");
    farm.publish_well();
    let (leader, _) = farm.leader();
    let gone = follower(&farm);
    let (name, leader) = (farm.nodes[gone].name.clone(), farm.nodes[leader].name.clone());
    farm.cli(&["node", "remove", "nobody"]).assert_refused(5, &["there is no node nobody"]);
    farm.cli(&["node", "remove", &leader, "--force"]).assert_refused(4, &["leads segment boston"]);
    farm.cli(&["node", "remove", &name]).assert_refused(4, &["is online", "--force"]);

    // It goes on to run, and nothing it says counts.
    let said = farm.cli(&["node", "remove", &name, "--force"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(farm.rows().iter().all(|row| row.name != name), "{:#?}", farm.rows());
    farm.stage("index.html", "two");
    let (code, job) = farm.publish();
    assert_eq!((code, job.nodes_total, job.nodes_live), (Some(0), 2, 2), "{job:#?}\n{}", farm.logs());
    thread::sleep(Duration::from_secs(3));
    assert!(farm.rows().iter().all(|row| row.name != name), "{:#?}", farm.rows());
    assert_eq!(fs::read(farm.nodes[gone].live().join("index.html")).expect("it is there"), b"one");
    let events = farm.cli(&["events"]);
    assert!(events.stdout.contains("removed"), "the history knows it: {events:?}");

    // Another machine takes the name.
    farm.nodes[gone].kill();
    fs::remove_dir_all(farm.nodes[gone].state()).expect("its state");
    let (token, ccm) = (farm.invite(), format!("127.0.0.1:{}", farm.ccm_port));
    let config = farm.nodes[gone].config.to_str().expect("UTF-8").to_owned();
    let join = ["node", "join", "--ccm", &ccm, "--token", &token, "--config", &config];
    let said = crate::harness::run(crate::harness::farmcast(&join), LATER);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.nodes[gone].start();
    farm.wait_until_whole();
    wait_until_current(&farm, gone);
}
