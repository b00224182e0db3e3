//! kill -9 of an applier, of a node and of the controller in the middle of a publish.

use crate::harness::{Farm, Node, SOON, child_of, noise, signal, wait_for};
use farmcast::ccm::api::types::{Job, Phase};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// A farm whose leader takes its time, so that a publish can be interrupted.
fn slow_farm(nodes: usize) -> Farm {
    let mut farm = Farm::with_controller();
    for _ in 0..nodes {
        farm.add_node();
        let config = &farm.nodes.last().expect("just made").config;
        let text = fs::read_to_string(config).expect("its configuration");
        let slow = "[transport]\nrate_start_mbit = 32\nrate_max_mbit = 32\n[[site]]";
        fs::write(config, text.replace("[[site]]", slow)).expect("a configuration");
    }
    farm.begin();
    farm.stage("index.html", "one");
    farm.publish_well();
    farm.stage("large.bin", noise(1, 5 << 20));
    farm.stage("index.html", "two");
    farm
}

/// Starts a publish and waits until its content is on the way to the members.
fn publish_halfway(farm: &Farm) -> Job {
    let (leader, _) = farm.leader();
    let sent = farm.nodes[leader].counter("frames_sent");
    let job = farm.publish_later();
    wait_for("frames on the way", SOON, || {
        (farm.nodes[leader].counter("frames_sent") > sent + 200).then_some(())
    });
    assert_eq!(farm.job(job.id).phase, Phase::Distributing);
    job
}

/// The tree that was live before.
fn newest_release(root: &Path) -> PathBuf {
    let releases = fs::read_dir(root.join(".farmcast/releases")).expect("releases");
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
    releases.map(|entry| entry.expect("a release").path()).max_by_key(number).expect("one was live before")
}

/// Each node switched once: what is live and what was live before lie where they belong.
#[track_caller]
fn assert_switched_once(farm: &Farm, job: &Job) {
    farm.assert_live_is_staging();
    for node in &farm.nodes {
        assert_eq!(node.version(), job.assignment, "{}", node.name);
        let before = newest_release(&node.root());
        assert_eq!(fs::read_to_string(before.join("index.html")).expect("a release"), "one", "{}", node.name);
        assert!(!before.join("large.bin").exists());
        let switches = node.log().lines().filter(|line| line.contains(": live")).count();
        assert!(switches <= 2, "{}:\n{}", node.name, node.log());
    }
}

#[test]
fn a_node_whose_applier_is_killed_ends_and_starts_again() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let node = &mut farm.nodes[0];
    let applier = wait_for("the applier", SOON, || child_of(node.pid(), "applier"));
    signal(applier, Signal::SIGKILL);
    let status = node.process.as_mut().expect("it runs").end(SOON);
    assert_eq!(status.code(), Some(1));
    let log = node.log();
    let last = log.lines().last().expect("a last word");
    for part in ["error: the applier has ended", "SIGKILL", "restart the node"] {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
    assert!(!node.socket.exists(), "its socket is gone");
    assert_eq!(farm.lives(), before);
    farm.nodes[0].start();
    farm.nodes[0].ask("ping");
    farm.wait_until_whole();
    farm.stage("index.html", "two");
    farm.publish_well();
}

#[test]
fn a_member_that_is_killed_in_mid_publish_comes_back_into_the_run() {
    let mut farm = slow_farm(3);
    let (leader, _) = farm.leader();
    let member = (leader + 1) % 3;
    let job = publish_halfway(&farm);
    farm.nodes[member].kill();
    farm.nodes[member].start();
    let end = farm.wait_for_end(job.id);
    assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
    assert_switched_once(&farm, &end);
}

#[test]
fn a_leader_that_is_killed_in_mid_publish_comes_back_into_the_run() {
    let mut farm = slow_farm(3);
    let (leader, _) = farm.leader();
    let job = publish_halfway(&farm);
    farm.nodes[leader].kill();
    farm.nodes[leader].start();
    let end = farm.wait_for_end(job.id);
    assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
    assert_switched_once(&farm, &end);
}

/// Held up while announcements pile up in its socket: it takes the session once and stores every frame.
#[test]
fn a_member_that_is_held_up_at_the_announcement_still_takes_part() {
    let farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let (leader, _) = farm.leader();
    for round in 0..4 {
        farm.stage("index.html", noise(round, 40_000));
        let sessions = farm.nodes[leader].counter("frames_sent");
        signal(farm.nodes[1 - leader].pid(), Signal::SIGSTOP);
        let job = farm.publish_later();
        wait_for("frames", SOON, || (farm.nodes[leader].counter("frames_sent") > sessions).then_some(()));
        signal(farm.nodes[1 - leader].pid(), Signal::SIGCONT);
        let end = farm.wait_for_end(job.id);
        assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
    }
    farm.assert_live_is_staging();
}

/// One that stays away: nothing goes live anywhere, the text says who is missing, and the rest goes on.
#[test]
fn a_member_that_is_killed_and_stays_away_fails_the_run_by_name() {
    let mut farm = slow_farm(3);
    let (leader, _) = farm.leader();
    let member = (leader + 1) % 3;
    let before = farm.lives();
    let job = publish_halfway(&farm);
    farm.nodes[member].kill();
    let end = farm.wait_for_end(job.id);
    assert_eq!(end.phase, Phase::Failed, "{end:#?}\n{}", farm.logs());
    let name = farm.nodes[member].name.clone();
    assert!(end.text.contains("live was not touched anywhere") && end.text.contains(&name), "{}", end.text);
    assert_eq!(farm.lives(), before);
    let is_gone = |row: &farmcast::ccm::api::types::Node| row.name == name && row.state == "offline";
    wait_for("the controller to know", SOON, || farm.rows().iter().any(is_gone).then_some(()));
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase, job.nodes_total), (Some(0), Phase::Done, 2), "{job:#?}\n{}", farm.logs());
    farm.nodes[member].start();
    farm.nodes[member].ask("ping");
    farm.wait_until_whole();
    farm.publish_well();
}

#[test]
fn a_controller_that_is_killed_in_mid_publish_carries_the_run_on() {
    let mut farm = slow_farm(2);
    let job = publish_halfway(&farm);
    farm.ccm = None;
    farm.start_ccm();
    let end = farm.wait_for_end(job.id);
    assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
    assert_switched_once(&farm, &end);
    farm.nodes.iter_mut().for_each(Node::assert_runs);
    let (code, again) = farm.publish();
    assert_eq!((code, again.phase), (Some(0), Phase::Unchanged), "{again:#?}");
}

/// The order is out and the controller is gone: the nodes switch at its instant, and the run ends well.
#[test]
fn a_controller_that_is_killed_at_the_commit_finds_the_run_done() {
    let mut farm = Farm::with_controller();
    (0..2).for_each(|_| farm.add_node());
    farm.ccm = None;
    farm.edit_ccm("#commit_lead_ms = 200", "commit_lead_ms = 800");
    farm.start_ccm();
    farm.begin();
    farm.stage("index.html", "one");
    farm.publish_well();
    farm.stage("index.html", "two");
    let job = farm.publish_later();
    wait_for("the commit", SOON, || Some(farm.job(job.id)).filter(|job| job.phase == Phase::Committing));
    std::thread::sleep(std::time::Duration::from_millis(200));
    farm.ccm = None;
    let version = wait_for("the switch", SOON, || {
        let versions: Vec<u64> = farm.nodes.iter().map(Node::version).collect();
        (versions[0] > 1 && versions[0] == versions[1]).then_some(versions[0])
    });
    let live = farm.lives();
    farm.start_ccm();
    let end = farm.wait_for_end(job.id);
    assert_eq!((end.phase, end.assignment), (Phase::Done, version), "{end:#?}\n{}", farm.logs());
    assert_eq!(farm.lives(), live, "nobody switched again");
    farm.assert_live_is_staging();
}
