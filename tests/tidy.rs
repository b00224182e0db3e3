//! The house rules, enforced by reading the sources: who may import whom, what no code may hold, how long a
//! file may be. Every rule is shown to fail on a bad snippet in `tidy/bad.rs`.
//!
//! Layers and bans that are only written down leak within weeks; a compiler cannot check these, a test can.

#[path = "tidy/bad.rs"]
mod bad;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;

use std::fs;
use std::path::Path;
use std::process::Command;

use rules::Failure;
use source::Source;

#[test]
fn rooms_import_only_what_the_map_allows() {
    let mut failures = Vec::new();
    for source in sources() {
        layers::check(&source, &mut failures);
        if source.path == "src/lib.rs" {
            layers::check_map(&source, &mut failures);
        }
    }
    report(&failures);
}

#[test]
fn code_holds_nothing_that_is_banned() {
    let mut failures = Vec::new();
    sources().iter().for_each(|source| rules::check(source, &mut failures));
    report(&failures);
}

#[test]
fn files_are_short_and_finished() {
    let mut failures = Vec::new();
    for source in sources() {
        text::check_lengths(&source, &mut failures);
        text::check_leftovers(&source.path, source.prose.iter().map(String::as_str), &mut failures);
    }
    for (path, text) in files() {
        if !path.ends_with(".rs") && path != "Cargo.lock" {
            text::check_leftovers(&path, text.lines(), &mut failures);
        }
    }
    report(&failures);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut failures = Vec::new();
    files().iter().for_each(|(path, text)| text::check_machine_paths(path, text, &mut failures));
    report(&failures);
}

#[test]
fn every_page_has_one_title() {
    let mut failures = Vec::new();
    for (path, text) in files() {
        if path.ends_with(".md") {
            text::check_title(&path, &text, &mut failures);
        }
    }
    report(&failures);
}

#[test]
fn every_file_under_src_is_compiled() {
    let mut failures = Vec::new();
    let sources = sources();
    let roots = ["src/lib.rs", "src/bin/farmcast.rs", "src/bin/farmcastd.rs"];
    text::check_reachable("src/", &roots, &sources, &mut failures);
    text::check_reachable("netlink/src/", &["netlink/src/lib.rs"], &sources, &mut failures);
    report(&failures);
}

fn report(failures: &[Failure]) {
    let lines: Vec<String> = failures.iter().map(Failure::to_string).collect();
    assert!(failures.is_empty(), "{} broken:\n{}", lines.len(), lines.join("\n"));
}

fn sources() -> Vec<Source> {
    let files = files();
    let rust = files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let mut sources: Vec<Source> = rust.map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 20, "only {} Rust files found; the rules would hold for nothing", sources.len());
    source::mark_test_modules(&mut sources);
    sources
}

/// Every text file that git knows or would add; where there is no git (a source archive), every file of the
/// tree but `target`.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = listed_by_git(root).unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(root, "", &mut found);
        found
    });
    paths.sort();
    let text = |path: String| Some((path.clone(), fs::read_to_string(root.join(path)).ok()?));
    paths.into_iter().filter_map(text).collect()
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root).output().ok()?;
    let names = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && name != "target" && name != ".git" => walk(root, &path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}
