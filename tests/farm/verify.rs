//! A node whose content somebody changed is told from one that has what was signed, and is put right (design D9).

use crate::harness::{Farm, LATER, Live, SITE, noise, set_mode, wait_for};
use farmcast::ccm::api::types::{NodeReport, Phase};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::time::Duration;

#[track_caller]
fn verify(farm: &Farm, node: &str) -> (Option<i32>, NodeReport) {
    let said = farm.cli(&["--json", "node", "verify", node, SITE]);
    (said.code, said.json())
}

fn found(report: &NodeReport) -> BTreeSet<(&str, &str)> {
    report.flaws.iter().map(|flaw| (flaw.what.as_str(), flaw.path.as_str())).collect()
}

#[test]
fn what_somebody_changed_on_a_node_is_named_and_put_right_and_the_others_are_left_alone() {
    let farm = Farm::of(3);
    for name in ["bits", "gone", "mode", "time", "kind"] {
        farm.stage(&format!("{name}.bin"), noise(name.len() as u64, 300_000));
    }
    fs::create_dir(farm.staging().join("docs")).expect("a directory");
    farm.stage("docs/page.html", "a page");
    symlink("docs/page.html", farm.staging().join("link")).expect("a link");
    let first = farm.publish_well();
    farm.wait_until_whole();
    for node in &farm.nodes {
        let (code, report) = verify(&farm, &node.name);
        assert_eq!((code, report.flaws.len(), report.version), (Some(0), 0, first.assignment), "{report:?}");
        assert_eq!((report.entries, report.problem.as_str()), (8, ""));
    }
    let before = farm.lives();

    let live = farm.nodes[1].live();
    let bits = File::options().write(true).open(live.join("bits.bin")).expect("a live file");
    let mtime = bits.metadata().expect("a status").modified().expect("a time");
    bits.write_all_at(b"x", 123_456).expect("a write");
    bits.set_modified(mtime).expect("a time");
    fs::remove_file(live.join("gone.bin")).expect("a live file");
    set_mode(&live.join("mode.bin"), 0o6755);
    File::options()
        .write(true)
        .open(live.join("time.bin"))
        .expect("one")
        .set_modified(mtime - Duration::from_secs(1))
        .expect("a time");
    fs::remove_file(live.join("kind.bin")).expect("a live file");
    fs::create_dir(live.join("kind.bin")).expect("a directory");
    fs::remove_file(live.join("link")).expect("a link");
    symlink("/etc/passwd", live.join("link")).expect("a link");
    fs::write(live.join("docs/shell.php"), "extra").expect("a file");
    let damaged = Live::of(&live);

    let (code, report) = verify(&farm, "node-2");
    assert_eq!((code, report.version), (Some(1), first.assignment));
    let named = found(&report);
    for flaw in [
        ("content", "bits.bin"),
        ("missing", "gone.bin"),
        ("mode", "mode.bin"),
        ("time", "time.bin"),
        ("kind", "kind.bin"),
        ("link", "link"),
        ("extra", "docs/shell.php"),
        ("time", "docs"),
    ] {
        assert!(named.contains(&flaw), "{flaw:?} is not in {named:?}");
    }
    assert_eq!(named.iter().filter(|flaw| flaw.1 == "docs/page.html").count(), 0, "{named:?}");
    assert_eq!(Live::of(&live), damaged, "looking changes nothing");
    assert_eq!(farm.nodes[1].version(), first.assignment);
    let said = farm.cli(&["node", "verify", "node-2", SITE]);
    assert!(
        said.stdout.contains("docs/shell.php") && said.stdout.contains("not as it was signed"),
        "{said:?}"
    );

    let said = farm.cli(&["node", "verify", "node-2", SITE, "--repair"]);
    assert_eq!(said.code, Some(0), "{said:?}\n{}", farm.logs());
    assert!(said.stdout.lines().last().is_some_and(|line| line.contains("as it was signed")), "{said:?}");
    let after = farm.lives();
    assert_eq!(after[1].tree, before[1].tree);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]), "they were left alone");
    let jobs: Vec<farmcast::ccm::api::types::Job> = farm.cli(&["--json", "job", "list"]).json();
    assert_eq!((jobs[0].kind.as_str(), jobs[0].phase), ("synchronize", Phase::Done));

    farm.cli(&["node", "verify", "nobody", SITE]).assert_refused(5, &["there is no node nobody"]);
    farm.cli(&["node", "verify", "node-2", "none"]).assert_refused(5, &["there is no site none"]);
}

#[test]
fn a_node_that_has_no_version_or_is_away_says_so() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    let (code, report) = verify(&farm, "node-1");
    assert_eq!(code, Some(1));
    assert!(report.problem.contains("has no version"), "{report:?}");
    farm.publish_well();
    farm.nodes[1].kill();
    let gone = || farm.rows().iter().any(|row| row.name == "node-2" && row.state == "offline");
    wait_for("a node that is offline", LATER, || gone().then_some(()));
    farm.cli(&["node", "verify", "node-2", SITE]).assert_refused(4, &["node-2 is offline"]);
}
