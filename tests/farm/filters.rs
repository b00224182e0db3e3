//! What of staging is picked up for a site (ST-6).

use crate::harness::{Farm, SITE, tree};
use farmcast::ccm::api::types::{Phase, Site, SiteDiff};
use std::fs;
use std::path::{Path, PathBuf};

fn live(farm: &Farm) -> Vec<PathBuf> {
    tree(&farm.nodes[0].live()).into_keys().collect()
}

#[test]
fn only_what_is_picked_up_goes_live_and_what_is_excluded_later_goes_from_live() {
    let mut farm = Farm::with_controller();
    farm.add_node();
    farm.nodes[0].start();
    for dir in [".git", "img", "notes"] {
        fs::create_dir(farm.staging().join(dir)).expect("a directory");
    }
    for file in [".git/HEAD", "img/a.png", "img/a.psd", "index.html", "notes/todo.txt"] {
        farm.stage(file, file);
    }
    let staging = farm.path("staging");
    let add = ["site", "add", SITE, "--staging", &staging, "--exclude", ".git"];
    farm.cli(&[&add[..], &["--only-type", "h/t"]].concat()).assert_refused(2, &["\"h/t\" is no type"]);
    assert_eq!(farm.cli(&add).code, Some(0));
    farm.wait_until_whole();
    let (_, job) = farm.publish();
    assert_eq!((job.phase, job.changes.added), (Phase::Done, 6), "{job:#?}");
    let paths = ["img", "img/a.png", "img/a.psd", "index.html", "notes", "notes/todo.txt"];
    assert_eq!(live(&farm), paths.map(PathBuf::from));

    // A diff says what a rule would do, the next publish does it: excluded is removed from live.
    let set =
        |rules: &[&str]| -> Site { farm.cli(&[&["--json", "site", "filter", SITE], rules].concat()).json() };
    let site = set(&["--exclude", ".git", "--exclude", "*.psd", "--only-type", "png", "--only-type", "html"]);
    assert_eq!((site.filter.exclude.len(), site.filter.types.len()), (2, 2));
    let diff: SiteDiff = farm.cli(&["--json", "diff", SITE]).json();
    let named: Vec<(&str, &str)> =
        diff.entries.iter().map(|entry| (entry.change.as_str(), entry.path.as_str())).collect();
    assert_eq!(named, [("removed", "img/a.psd"), ("removed", "notes")]);
    let (_, job) = farm.publish();
    assert_eq!((job.phase, job.changes.removed), (Phase::Done, 2), "{job:#?}");
    assert_eq!(live(&farm), ["img", "img/a.png", "index.html"].map(PathBuf::from));
    assert!(farm.staging().join("img/a.psd").exists(), "staging is only read");
    let said = farm.cli(&["site", "show", SITE]);
    let line = " filter: --exclude '.git' --exclude '*.psd' --only-type 'png' --only-type 'html'\n";
    assert!(said.stdout.ends_with(line), "{said:?}");
    assert!(farm.cli(&["site", "list"]).stdout.contains("yes"));

    set(&["--include", "/notes/"]);
    assert_eq!(farm.publish().1.phase, Phase::Done);
    assert_eq!(live(&farm), ["notes", "notes/todo.txt"].map(PathBuf::from));

    // Bad rules change nothing, and without any all is picked up.
    farm.cli(&["site", "filter", SITE, "--exclude", "a{b"]).assert_refused(2, &["\"a{b\" is no pattern"]);
    farm.cli(&["site", "filter", SITE]).assert_refused(2, &["or --clear"]);
    farm.cli(&["site", "filter", "none", "--clear"]).assert_refused(5, &["there is no site none"]);
    assert_eq!(live(&farm).len(), 2);
    set(&["--clear"]);
    farm.publish_well();
    assert!(live(&farm).contains(&Path::new(".git/HEAD").to_owned()));
}
