//! Back to what was live before, on all nodes at one instant (JT-6, JT-7, CO-7, VC-11).

use crate::harness::{Farm, Live};
use farmcast::ccm::api::types::{Job, Phase, SiteVersion};

/// Runs a command that is a job, to its end.
#[track_caller]
fn job(farm: &Farm, arguments: &[&str]) -> Job {
    farm.cli(&[&["--json"], arguments].concat()).json()
}

fn versions(farm: &Farm) -> Vec<SiteVersion> {
    farm.cli(&["--json", "version", "list", "www"]).json()
}

#[track_caller]
fn assert_live(farm: &Farm, expected: &[Live]) {
    assert_eq!(farm.lives(), expected, "{}", farm.logs());
}

/// SR-16: whether it was a commit or a rollback, every node's word comes to the controller.
#[test]
fn a_bad_release_is_rolled_back_and_one_that_is_kept_goes_live_again() {
    let mut farm = Farm::of(3);
    farm.stage("index.html", "good");
    farm.stage("gone.html", "removed by the second");
    let first = farm.publish_well();
    let good = farm.lives();
    farm.stage("index.html", "bad");
    std::fs::remove_file(farm.staging().join("gone.html")).expect("it was staged");
    let second = farm.publish_well();
    let bad = farm.lives();
    assert_ne!(good, bad);

    let back = job(&farm, &["rollback", "www"]);
    assert_eq!(
        (back.kind.as_str(), back.phase, back.nodes_live),
        ("rollback", Phase::Done, 3),
        "{}",
        back.text
    );
    assert_eq!((back.assignment, back.assignment_bytes), (first.assignment, 0));
    assert_live(&farm, &good);
    assert!(back.switch_spread_us.is_some());
    let live: Vec<(u64, bool, bool)> =
        versions(&farm).iter().map(|version| (version.version, version.live, version.kept)).collect();
    assert_eq!(live, [(second.assignment, false, true), (first.assignment, true, false)]);

    // Forward again, past a restart of a node and of the controller.
    farm.wait_until_whole();
    farm.nodes[0].kill();
    farm.nodes[0].start();
    farm.wait_until_whole();
    let forward = job(&farm, &["version", "switch", "www", &second.assignment.to_string()]);
    assert_eq!((forward.phase, forward.nodes_live), (Phase::Done, 3), "{}", forward.text);
    assert_live(&farm, &bad);

    // What is no version is refused with the way to find one; and nothing changes.
    let refused = job(&farm, &["version", "switch", "www", "99"]);
    assert_eq!(refused.phase, Phase::Failed);
    assert!(
        refused.text.starts_with("version 99 was never live; `farmcast version list www`"),
        "{}",
        refused.text
    );
    farm.cli(&["rollback", "none"]).assert_refused(5, &["there is no site none"]);
    assert_live(&farm, &bad);

    // A publish goes on from what is live.
    farm.wait_until_whole();
    farm.stage("index.html", "mended");
    let third = farm.publish_well();
    assert_eq!((third.phase, third.assignment_kind.as_str()), (Phase::Done, "publish"));
    farm.assert_live_is_staging();
}
