//! Nodes that go live each by itself, as soon as they have staged what they were sent (CO-11).

use crate::harness::{Farm, LATER, SITE, signal, wait_for};
use farmcast::ccm::api::types::{Job, Phase, Policy};
use nix::sys::signal::Signal;

fn autonomous(nodes: usize) -> Farm {
    let farm = Farm::of(nodes);
    let set = ["--json", "site", "policy", SITE, "--activation", "autonomous"];
    assert_eq!(farm.cli(&set).json::<Policy>().activation.as_deref(), Some("autonomous"));
    farm
}

#[test]
fn nodes_go_live_by_what_they_were_sent_and_a_rollback_goes_back() {
    let mut farm = autonomous(3);
    farm.cli(&["site", "policy", SITE, "--activation", "now"])
        .assert_refused(2, &["activation is `commit` or `autonomous`"]);
    farm.stage("index.html", "good");
    let first = farm.publish_well();
    let good = farm.lives();
    farm.stage("index.html", "bad");
    let second = farm.publish_well();
    assert_ne!(farm.lives(), good);
    assert!(farm.nodes.iter().all(|node| node.version() == second.assignment), "{}", farm.logs());
    for node in &farm.nodes {
        node.wait_for_log("live by the order in it");
    }
    // It survives a restart, and goes back by an order.
    farm.nodes[0].kill();
    farm.nodes[0].start();
    wait_for("the node to be back", LATER, || (farm.nodes[0].version() == second.assignment).then_some(()));
    farm.wait_until_whole();
    let back: Job = farm.cli(&["--json", "rollback", SITE]).json();
    assert_eq!((back.phase, back.nodes_live), (Phase::Done, 3), "{}", back.text);
    assert_eq!(back.assignment, first.assignment);
    assert_eq!(farm.lives(), good);
}

#[test]
fn nobody_waits_for_a_node_that_is_late_and_a_cancelled_job_names_who_is_live() {
    let farm = autonomous(3);
    farm.stage("index.html", "old");
    let old = farm.publish_well();
    farm.cli(&["site", "policy", SITE, "--activation", "autonomous", "--bring-along-after", "1"]);
    let (leader, _) = farm.leader();
    let late = (0..3).find(|node| *node != leader).expect("two do not lead");
    signal(farm.nodes[late].pid(), Signal::SIGSTOP);
    farm.stage("index.html", "new");
    let begun = farm.publish_later();
    wait_for("the others to be live", LATER, || {
        let mut others = (0..3).filter(|node| *node != late);
        others.all(|node| farm.nodes[node].version() > old.assignment).then_some(())
    });
    wait_for("the controller to know", LATER, || {
        let job = farm.job(begun.id);
        assert_eq!(job.phase, Phase::Distributing, "{}", job.text);
        (job.nodes_live == 2).then_some(())
    });
    farm.cli(&["job", "cancel", &begun.id.to_string()]);
    let job = farm.wait_for_end(begun.id);
    signal(farm.nodes[late].pid(), Signal::SIGCONT);
    assert_eq!(job.phase, Phase::Cancelled);
    assert!(job.text.contains("live already on 2 of 3 nodes"), "{}", job.text);
    let late_name = farm.nodes[late].name.clone();
    assert!(!job.text.contains(&late_name), "{}", job.text);

    // The version of the site is the one before, to which all are brought back by a later order, the late one as well
    // if it went live after all.
    wait_for("all to be back", LATER, || {
        let is_old = |node: &crate::harness::Node| {
            std::fs::read(node.live().join("index.html")).is_ok_and(|content| content == b"old")
                && node.version() == old.assignment
        };
        farm.nodes.iter().all(is_old).then_some(())
    });
}
