//! What the pages name exists: files, tests that keep promises, places that links lead to, the commands that a
//! newcomer types.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGES: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/ARCHITECTURE.md",
    "docs/OPERATING.md",
    "docs/PROMISES.md",
    "docs/PROTOCOL.md",
    "docs/SECURITY.md",
    "docs/TESTING.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in back quotes on one line, outside of fenced blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let rooms = ["src/", "tests/", "docs/", "sysconfig/", "netlink/", ".ci/"];
    let mut checked = 0;
    for page in PAGES {
        for name in quoted(&read(&root().join(page))) {
            let is_path = rooms.iter().any(|room| name.starts_with(room)) && !name.contains([' ', '*']);
            if is_path {
                assert!(root().join(&name).exists(), "{page} names {name}, which is not there");
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} paths found: has the way they are written changed?");
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    for page in PAGES {
        let path = root().join(page);
        let text = read(&path);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file: PathBuf = path.parent().expect("a page lies in a directory").join(file);
            assert!(file.exists(), "{page} links to {target}, which is not there");
            if !heading.is_empty() {
                let anchors: Vec<String> = read(&file).lines().filter_map(anchor).collect();
                assert!(anchors.contains(&heading.to_owned()), "{page} links to {target}: {anchors:?}");
            }
        }
    }
}

/// The name under which a heading is linked to.
fn anchor(line: &str) -> Option<String> {
    let heading = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = read(&root().join("docs/PROMISES.md"));
    let (kept, _) = text.split_once("## Only measured").expect("a section of what is only measured");
    let mut promises = 0;
    let mut tests = BTreeSet::new();
    for row in kept.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")) {
        promises += 1;
        let (promise, by) = row.trim_matches('|').rsplit_once(" | ").expect("two cells");
        let mut source = String::new();
        let mut named = 0;
        for name in by.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                source = read(&root().join(name));
            } else {
                assert!(source.contains(&format!("fn {name}(")), "{promise}: there is no test {name}");
                tests.insert(name.to_owned());
                named += 1;
            }
        }
        assert!(named > 0, "nothing keeps: {promise}");
    }
    assert!(promises > 25 && tests.len() > 30, "{promises} promises, {} tests", tests.len());
}

/// Commands in fenced blocks, without the comments behind them.
fn commands(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            found.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
        }
    }
    found
}

#[test]
fn the_readme_has_the_two_commands_of_a_newcomer_and_no_others_to_set_up() {
    let commands = commands(&read(&root().join("README.md")));
    for wanted in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert_eq!(commands.iter().filter(|command| *command == wanted).count(), 1, "{wanted}");
    }
    let set_up = |command: &&String| command.starts_with("cargo run") || command.starts_with("cargo test");
    assert_eq!(commands.iter().filter(set_up).count(), 2, "{commands:#?}");
}
