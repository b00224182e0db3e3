//! An update that is larger than the largest assignment: several, one after the other, and one instant (AS-13).

use crate::harness::{Farm, LATER, SITE, SOON, noise, wait_for};
use farmcast::ccm::api::types::{Job, Phase, Plan, Policy};
use std::fs;
use std::path::Path;

/// Bytes of the largest assignment.
const MAX: u64 = 2 << 20;
const PARTS: u32 = 5;

/// A farm that has a version live, whose leader takes its time, and an update in staging for so many parts.
fn farm(nodes: usize, policy: &[&str]) -> Farm {
    let mut farm = Farm::with_controller();
    for _ in 0..nodes {
        farm.add_node();
        let config = &farm.nodes.last().expect("just made").config;
        let text = fs::read_to_string(config).expect("its configuration");
        let slow = "[transport]\nrate_start_mbit = 32\nrate_max_mbit = 32\n[[site]]";
        fs::write(config, text.replace("[[site]]", slow)).expect("a configuration");
    }
    farm.begin();
    let set = [&["--json", "site", "policy", SITE, "--assignment-max", "2M"], policy].concat();
    assert_eq!(farm.cli(&set).json::<Policy>().assignment_max, Some(MAX));
    farm.stage("index.html", "one");
    assert_eq!(farm.publish_well().parts, 1);
    update(&farm, 0);
    farm
}

fn update(farm: &Farm, seed: u64) {
    for number in 0..u64::from(PARTS) {
        farm.stage(&format!("large-{number}"), noise(seed + number, 1_900_000));
    }
    farm.stage("index.html", format!("update {seed}"));
}

/// Begins the update and waits until this part of it is on its way.
fn publish_to_part(farm: &Farm, part: u32) -> Job {
    let begun = farm.publish_later();
    wait_for("the part", LATER, || {
        let job = farm.job(begun.id);
        assert!(!job.phase.is_over(), "{job:#?}\n{}", farm.logs());
        (job.part >= part && job.phase == Phase::Distributing).then_some(job)
    })
}

/// What lies of parts that are not live: trees of sites, and objects of spools.
fn trees(root: &Path) -> usize {
    fs::read_dir(root.join(".farmcast/parts")).expect("the site").count()
}

#[track_caller]
fn assert_whole(farm: &Farm, end: &Job) {
    assert_eq!((end.phase, end.parts, end.part), (Phase::Done, PARTS, PARTS), "{end:#?}\n{}", farm.logs());
    farm.assert_live_is_staging();
    for node in &farm.nodes {
        assert_eq!((node.version(), trees(&node.root())), (end.assignment, 0), "{}", node.name);
        // Live was one version, then the other: a part never was.
        let lives = node.log().lines().filter(|line| line.contains(": live")).count();
        assert!(lives <= 2, "{}:\n{}", node.name, node.log());
    }
    let objects = fs::read_dir(farm.dir.path().join("ccm/objects")).expect("objects").count();
    assert!(objects <= 2, "{objects} objects");
}

#[test]
fn an_update_in_parts_goes_live_at_one_instant_and_no_part_before() {
    let farm = farm(3, &[]);
    farm.cli(&["site", "policy", SITE, "--assignment-max", "1K"])
        .assert_refused(2, &["assignment_max is 0, for none, or at least 65536 bytes"]);
    let plan: Plan = farm.cli(&["--json", "plan", SITE]).json();
    assert_eq!((plan.assignment_max, plan.parts), (MAX, u64::from(PARTS)));
    let before = farm.lives();
    let begun = publish_to_part(&farm, 2);
    let shown = farm.cli(&["job", "show", &begun.id.to_string()]).stdout;
    assert!(shown.contains(&format!("of {PARTS}, the last goes live")), "{shown}");
    let mut most = 0;
    loop {
        // Whatever is staged, live is the old version until all of it can be the new one.
        let lives = farm.lives();
        let job = farm.job(begun.id);
        if job.phase != Phase::Distributing {
            break;
        }
        assert_eq!(lives, before, "{job:#?}");
        for node in &farm.nodes {
            assert!(trees(&node.root()) <= 1 + 1, "{}", node.name);
            let spool = fs::read_dir(node.state().join("spool")).expect("a spool");
            let objects = spool.filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|name| name == "asg"))
            });
            most = most.max(objects.count());
        }
    }
    // The one that came before, the part that is staged, and the one that arrives.
    assert!((1..=3).contains(&most), "{most} objects in a spool");
    let end = farm.wait_for_end(begun.id);
    assert_whole(&farm, &end);
    let log = farm.cli(&["job", "log", &end.id.to_string()]).stdout;
    for part in 1..PARTS {
        assert!(log.contains(&format!("assignment {}.{part}, ", end.assignment)), "{log}");
        assert!(log.contains(&format!("part {} of {PARTS}: staged on 0 of 3 nodes", part + 1)), "{log}");
    }
    // The next is a difference to it, and the way back is one exchange.
    farm.stage("index.html", "small");
    assert_eq!(farm.publish_well().parts, 1);
    let back: Job = farm.cli(&["--json", "rollback", SITE]).json();
    assert_eq!((back.phase, back.assignment), (Phase::Done, end.assignment), "{}", back.text);
}

#[test]
fn a_node_and_a_leader_that_are_killed_between_parts_come_back_into_the_run() {
    let mut farm = farm(3, &[]);
    let (leader, _) = farm.leader();
    let member = (leader + 1) % 3;
    let begun = publish_to_part(&farm, 2);
    farm.nodes[member].kill();
    farm.nodes[member].start();
    wait_for("the next part", LATER, || (farm.job(begun.id).part >= 3).then_some(()));
    farm.nodes[leader].kill();
    farm.nodes[leader].start();
    let end = farm.wait_for_end(begun.id);
    assert_whole(&farm, &end);
}

#[test]
fn a_controller_that_is_killed_between_parts_goes_on_with_the_next() {
    let mut farm = farm(2, &["--encrypt"]);
    let begun = publish_to_part(&farm, 3);
    farm.ccm = None;
    farm.start_ccm();
    let job = wait_for("the controller", SOON, || {
        let said = farm.cli(&["--json", "job", "show", &begun.id.to_string()]);
        (said.code == Some(0)).then(|| said.json::<Job>())
    });
    assert!(job.part >= 3, "{job:#?}");
    let end = farm.wait_for_end(begun.id);
    assert_whole(&farm, &end);
}

/// CO-11: the order is in the last part.
#[test]
fn nodes_that_go_live_alone_do_so_with_the_last_part_and_a_cancelled_update_leaves_no_trace() {
    let farm = farm(2, &["--activation", "autonomous"]);
    let before = farm.lives();
    let begun = publish_to_part(&farm, 2);
    farm.cli(&["job", "cancel", &begun.id.to_string()]);
    let cancelled = farm.wait_for_end(begun.id);
    assert_eq!((cancelled.phase, farm.lives()), (Phase::Cancelled, before), "{}", cancelled.text);
    update(&farm, 100);
    let end = farm.publish_well();
    assert_eq!(end.parts, PARTS);
    for node in &farm.nodes {
        node.wait_for_log("live by the order in it");
    }
    assert_whole(&farm, &end);
}
