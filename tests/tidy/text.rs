//! Rules about files as text: lengths, titles, leftovers, paths of one machine; and that every file is used.

use std::collections::BTreeSet;

use super::rules::Failure;
use super::source::Source;

/// Longest line of Rust, in characters; rustfmt keeps code to 110 and leaves strings and comments alone.
const LINE_MAX: usize = 120;
/// Longest file with one subject, in lines; the tests beside a file do not count.
const FILE_MAX: usize = 700;
/// A binary calls the library and does nothing else, so it stays under so many lines.
const BINARY_LINES: usize = 15;

/// Words that say a thing is not finished. Spelled apart, for this file is read as well.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/tmp/", "bash_jobs"), concat!("/root/", ".")];

pub fn check_lengths(source: &Source, failures: &mut Vec<Failure>) {
    for (line, raw) in source.raw.iter().enumerate() {
        let length = raw.chars().count();
        if length > LINE_MAX {
            failures.push(Failure::new(
                source,
                line,
                format!("{length} characters, {LINE_MAX} are the most: break it"),
            ));
        }
    }
    let lines = source.raw.len();
    let is_sibling_test = source.path.contains("src/") && source.is_test();
    if lines > FILE_MAX && !is_sibling_test {
        let what = format!(
            "{lines} lines, {FILE_MAX} are the most: a file has one subject, give the second its own"
        );
        failures.push(Failure::new(source, FILE_MAX, what));
    }
    if source.path.starts_with("src/bin/") && lines >= BINARY_LINES {
        let what =
            format!("{lines} lines: a binary stays under {BINARY_LINES}, for only the library can be tested");
        failures.push(Failure::new(source, BINARY_LINES - 1, what));
    }
}

/// Leftovers in comments and code of Rust, or anywhere in other text. Strings of Rust may name them.
pub fn check_leftovers<'a>(path: &str, lines: impl Iterator<Item = &'a str>, failures: &mut Vec<Failure>) {
    for (line, text) in lines.enumerate() {
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| LEFTOVERS.contains(word)) {
            let what = format!("`{word}`: what is committed is finished; what is not goes into an issue");
            failures.push(Failure::at(path, line, what));
        }
    }
}

pub fn check_machine_paths(path: &str, text: &str, failures: &mut Vec<Failure>) {
    for (line, text) in text.lines().enumerate() {
        for start in MACHINE_PATHS {
            // `a/work/b` is a relative path and any tree's own business.
            let absolute = |(at, _): (usize, &str)| {
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}*".contains(c))
            };
            if text.match_indices(start).any(absolute) {
                let what =
                    format!("`{start}` exists on one machine only: use a relative path or an argument");
                failures.push(Failure::at(path, line, what));
            }
        }
    }
}

/// One `# Title` per page, outside of code blocks.
pub fn check_title(path: &str, text: &str, failures: &mut Vec<Failure>) {
    let mut fenced = false;
    let mut titles = Vec::new();
    for (line, text) in text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && text.starts_with("# ") {
            titles.push(line);
        }
    }
    match titles[..] {
        [_] => {}
        [] => failures.push(Failure::at(path, 0, "no `# Title`: say what the page is about".to_owned())),
        [_, second, ..] => {
            let what = "a second `# Title`: a page has one subject; use `##` for its parts".to_owned();
            failures.push(Failure::at(path, second, what));
        }
    }
}

/// Every file below `base` ("src/") is a module of the crate whose roots are given; else nobody compiles it.
pub fn check_reachable(base: &str, roots: &[&str], sources: &[Source], failures: &mut Vec<Failure>) {
    let find = |path: &str| sources.iter().find(|source| source.path == path);
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Source> = roots.iter().filter_map(|root| find(root)).collect();
    while let Some(source) = open.pop() {
        if !reached.insert(source.path.as_str()) {
            continue;
        }
        let is_root = roots.contains(&source.path.as_str());
        open.extend(source.modules(is_root).iter().filter_map(|(_, path)| find(path)));
    }
    for source in sources.iter().filter(|source| source.path.starts_with(base)) {
        if !reached.contains(source.path.as_str()) {
            let what = "no `mod` line leads here, so nothing compiles it: declare the module or delete it";
            failures.push(Failure::new(source, 0, what.to_owned()));
        }
    }
}
