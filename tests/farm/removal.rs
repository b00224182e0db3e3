//! Content that is taken off the nodes, at one instant, and brought back (JT-8).

use crate::harness::{Farm, SITE, noise, tree};
use farmcast::ccm::api::types::{Job, Phase};
use std::fs;

#[track_caller]
fn job(farm: &Farm, arguments: &[&str]) -> Job {
    farm.cli(&[&["--json"], arguments].concat()).json()
}

#[test]
fn what_is_removed_goes_everywhere_at_one_instant_and_comes_back_by_a_rollback() {
    let farm = Farm::of(3);
    farm.stage("index.html", "stays");
    farm.stage("leak.bin", noise(1, 200_000));
    fs::create_dir_all(farm.staging().join("old/deep")).expect("a directory");
    farm.stage("old/deep/page.html", "a page");
    farm.publish_well();
    let before = tree(&farm.nodes[0].live());

    farm.cli(&["remove", SITE, "leak.bin"]).assert_refused(2, &["1 path of www", "say --yes"]);
    farm.cli(&["remove", SITE, "../x", "--yes"]).assert_refused(2, &["is no path below live"]);
    farm.wait_until_whole();
    let typo = job(&farm, &["remove", SITE, "leak.bin", "olt", "--yes"]);
    assert_eq!((typo.phase, typo.assignment), (Phase::Failed, 0));
    assert!(typo.text.starts_with("olt is not live: nothing was removed"), "{}", typo.text);

    let gone = job(&farm, &["remove", SITE, "leak.bin", "old/", "--yes"]);
    assert_eq!(
        (gone.kind.as_str(), gone.phase, gone.nodes_live),
        ("remove", Phase::Done, 3),
        "{}",
        gone.text
    );
    assert_eq!((gone.changes.removed, gone.assignment_kind.as_str()), (2, "publish"));
    assert!(gone.assignment_bytes < 10_000, "no content moves: {}", gone.assignment_bytes);
    for node in &farm.nodes {
        let names: Vec<_> = tree(&node.live()).into_keys().collect();
        assert_eq!(names, [std::path::PathBuf::from("index.html")], "{}", node.name);
    }
    assert!(farm.staging().join("leak.bin").exists(), "staging is left alone");

    farm.wait_until_whole();
    let all = job(&farm, &["remove", SITE, "--all", "--yes"]);
    assert_eq!((all.phase, all.nodes_live), (Phase::Done, 3), "{}", all.text);
    for node in &farm.nodes {
        assert!(tree(&node.live()).is_empty(), "{}", node.name);
    }
    farm.wait_until_whole();
    let again = job(&farm, &["remove", SITE, "--all", "--yes"]);
    assert_eq!(again.phase, Phase::Unchanged, "{}", again.text);

    let back = job(&farm, &["rollback", SITE]);
    assert_eq!((back.phase, back.nodes_live), (Phase::Done, 3), "{}", back.text);
    farm.wait_until_whole();
    let back = job(&farm, &["rollback", SITE]);
    assert_eq!((back.phase, back.nodes_live), (Phase::Done, 3), "{}", back.text);
    for node in &farm.nodes {
        assert_eq!(tree(&node.live()), before, "{}", node.name);
    }
    farm.wait_until_whole();
    let (code, published) = farm.publish();
    assert_eq!((code, published.phase), (Some(0), Phase::Unchanged), "{}", published.text);
}
