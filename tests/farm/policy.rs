//! What is enough for a run, and what becomes of the rest (B-15).

use crate::harness::{Farm, SITE, can_unshare};
use farmcast::ccm::api::types::{Job, Phase, Plan, Policy};
use std::ffi::OsString;

#[test]
fn a_policy_of_a_site_is_what_its_jobs_go_by() {
    let farm = Farm::of(1);
    let set = ["--json", "site", "policy", SITE, "--quorum", "90%", "--retries", "2"];
    let policy: Policy = farm.cli(&set).json();
    assert_eq!((policy.quorum.as_deref(), policy.retries), (Some("90%"), Some(2)));
    assert_eq!(farm.cli(&["--json", "site", "policy", SITE]).json::<Policy>(), policy);
    farm.stage("index.html", "one");
    let job: Job = farm.cli(&["--json", "publish", SITE, "--quorum", "all"]).json();
    assert_eq!((job.policy.quorum.as_deref(), job.policy.retries), (Some("all"), Some(2)));
    farm.cli(&["site", "policy", SITE, "--retry-after", "0"])
        .assert_refused(2, &["retry_after_s is not within"]);
    farm.cli(&["site", "policy", "none"]).assert_refused(5, &["there is no site none"]);
    let default: Policy = farm.cli(&["--json", "site", "policy", SITE, "--default"]).json();
    assert_eq!(default, Policy::default());
}

/// No half-update: the one that cannot keeps all of the old version, and gets all of the new one later.
#[test]
fn a_quorum_goes_live_and_the_node_with_the_full_disk_keeps_the_old_version_whole() {
    if !can_unshare("a quorum with a node whose disk is full") {
        return;
    }
    let mut farm = Farm::with_controller();
    (0..3).for_each(|_| farm.add_node());
    // Its site lies on a file system of its own, which the second version does not fit in.
    let node = &mut farm.nodes[2];
    std::fs::create_dir(node.root()).expect("a site root");
    let script = format!("mount -t tmpfs -o size=3m none {} && exec \"$@\"", node.root().display());
    node.wrapper = ["unshare", "-Urm", "sh", "-c", &script, "sh"].map(OsString::from).to_vec();
    farm.begin();
    farm.stage("index.html", "old");
    let (code, first) = farm.publish();
    assert_eq!((code, first.phase), (Some(0), Phase::Done), "{first:#?}\n{}", farm.logs());
    farm.wait_until_whole();

    farm.stage("large", crate::harness::noise(7, 5 << 20));
    farm.stage("index.html", "new");
    let (code, all) = farm.publish();
    assert_eq!((code, all.phase, all.nodes_live), (Some(1), Phase::Failed, 0), "{}", all.text);

    let said = farm.cli(&["--json", "publish", SITE, "--quorum", "66%"]);
    let job: Job = said.json();
    assert_eq!((said.code, job.phase, job.nodes_live), (Some(3), Phase::Partial, 2), "{}", job.text);
    assert!(job.text.contains("not on node-3 (no-space"), "{}", job.text);
    assert!(job.text.contains("they keep what they had"), "{}", job.text);
    assert_eq!(farm.nodes[2].version(), first.assignment);
    for node in &farm.nodes[..2] {
        assert_eq!(node.version(), job.assignment, "{}", node.name);
        assert_eq!(std::fs::read(node.live().join("index.html")).expect("it is live"), b"new");
    }
    let status = farm.cli(&["status"]).stdout;
    assert!(status.contains("node-3"), "{status}");
}

#[test]
fn a_plan_sends_nothing_and_says_what_a_publish_then_does() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    let plan = |farm: &Farm| {
        let said = farm.cli(&["--json", "plan", SITE]);
        (said.code, said.json::<Plan>())
    };
    let (code, first) = plan(&farm);
    assert_eq!((code, first.kind.as_str(), first.changes.added), (Some(0), "replicate", 1), "{first:?}");
    assert!(first.nodes.iter().all(|node| node.state == "missing" && node.fits), "{first:?}");
    let job = farm.publish_well();
    assert!(job.assignment_bytes <= first.assignment_bytes.max(16 << 10), "{job:?} {first:?}");
    farm.wait_until_whole();
    let (_, same) = plan(&farm);
    assert_eq!((same.kind.as_str(), same.wire_bytes), ("unchanged", 0), "{same:?}");

    farm.stage("large", crate::harness::noise(3, 100_000));
    let (_, next) = plan(&farm);
    assert_eq!((next.kind.as_str(), next.changes.added, next.changed_bytes), ("publish", 1, 100_000));
    assert!(next.wire_bytes >= 2 * 100_000 && next.wire_bytes < 2 * 110_000, "{next:?}");

    // What is in the way is said before somebody waits for it.
    farm.cli(&["freeze", "on", "--reason", "an audit"]);
    farm.nodes[1].kill();
    crate::harness::wait_for("a node to be offline", crate::harness::LATER, || {
        farm.rows().iter().any(|row| row.state == "offline").then_some(())
    });
    let (code, held) = plan(&farm);
    assert_eq!(code, Some(1));
    assert!(held.obstacles.iter().any(|text| text.contains("the farm is frozen")), "{held:?}");
    let offline: Vec<&str> = held.nodes.iter().map(|node| node.state.as_str()).collect();
    assert!(offline.contains(&"offline") && offline.contains(&"current"), "{offline:?}");
    farm.cli(&["plan", "none"]).assert_refused(5, &["there is no site none"]);
}
