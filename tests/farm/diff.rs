//! What a publish would change, before it does (ST-7..ST-9), and what only reading every file finds.

use crate::harness::{Farm, SITE, tree};
use farmcast::ccm::api::types::{Job, Phase, SiteDiff};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[test]
fn what_a_publish_would_change_is_shown_and_nothing_is_written() {
    let farm = Farm::of(1);
    farm.stage("gone.html", "gone\n");
    farm.stage("index.html", "head\none\ttail\n");
    let said = farm.cli(&["diff", SITE]);
    let first =
        "A gone.html\nA index.html\nstaging of www against nothing, for no version is live yet: 2 added";
    assert!(said.code == Some(1) && said.stdout.starts_with(first), "{said:?}");
    let published = farm.publish_well();
    let said = farm.cli(&["diff", SITE, "--patch"]);
    let equal = format!("staging of www equals version {}\n", published.assignment);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), equal.as_str()), "{said:?}");

    fs::remove_file(farm.staging().join("gone.html")).expect("it was staged");
    farm.stage("index.html", "head\ntwo\x1b[2J\ttail!\n");
    farm.stage("new.bin", b"\0\xff");
    let kept =
        || ["objects", "cache", "shadow"].map(|name| tree(&PathBuf::from(farm.path("ccm")).join(name)));
    let before = kept();
    let said = farm.cli(&["diff", SITE, "--patch"]);
    let expected = "D gone.html\n--- a/gone.html\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n\
                    M index.html\n--- a/index.html\n+++ b/index.html\n@@ -1,2 +1,2 @@\n head\n-one\ttail\n\
                    +two\\x1b[2J\ttail!\nA new.bin\n  (binary)\n";
    assert!(said.code == Some(1) && said.stdout.starts_with(expected), "{said:#?}");
    let said = farm.cli(&["diff", SITE, "--name-only"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "gone.html\nindex.html\nnew.bin\n"));
    let said = farm.cli(&["diff", SITE, "--stat"]);
    assert!(said.code == Some(1) && said.stdout.contains("changed    14 B   19 B  index.html"), "{said:?}");
    let said = farm.cli(&["diff", SITE, "--json"]);
    let diff: SiteDiff = said.json();
    assert_eq!((said.code, diff.entries.len(), diff.more), (Some(1), 3, 0));
    assert_eq!((diff.changes.added, diff.changes.changed, diff.changes.removed), (1, 1, 1));

    assert_eq!(kept(), before);
    let next = farm.publish_well();
    assert_eq!(next.assignment, published.assignment + 1, "a comparison takes no number");
    assert_eq!(next.changes, diff.changes);

    farm.cli(&["diff", "none"]).assert_refused(5, &["there is no site none"]);
    farm.cli(&["diff", SITE, "--stat", "--patch"])
        .code
        .filter(|code| *code == 2)
        .expect("one way to show it");
    fs::rename(farm.staging(), farm.path("elsewhere")).expect("it is there");
    farm.cli(&["diff", SITE]).assert_refused(4, &["cannot compare site www: staging: cannot read"]);
}

#[test]
fn a_file_that_changed_behind_its_size_and_time_is_published_with_a_checksum() {
    let farm = Farm::of(1);
    let old = SystemTime::now() - Duration::from_secs(3_600);
    let write = |content: &str| {
        farm.stage("index.html", content);
        let path = farm.staging().join("index.html");
        let file = fs::File::options().write(true).open(path).expect("it was staged");
        file.set_modified(old).expect("a time");
    };
    write("good");
    farm.publish_well();
    write("evil");
    let (code, job) = farm.publish();
    assert_eq!((code, job.phase), (Some(0), Phase::Unchanged), "{}", job.text);
    let job: Job = farm.cli(&["--json", "publish", SITE, "--checksum"]).json();
    assert_eq!((job.phase, job.changes.changed), (Phase::Done, 1), "{}", job.text);
    farm.assert_live_is_staging();
}
