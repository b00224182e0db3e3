//! Bad snippets, one per rule: a rule that cannot fail is no rule. And good ones that must pass.

use super::rules::{self, Failure};
use super::source::Source;
use super::{layers, source, text};

/// What the rules about code say to `text` if it stood in `path`.
fn judged(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path, text);
    let mut failures = Vec::new();
    layers::check(&source, &mut failures);
    rules::check(&source, &mut failures);
    text::check_lengths(&source, &mut failures);
    text::check_leftovers(path, source.prose.iter().map(String::as_str), &mut failures);
    failures.iter().map(Failure::to_string).collect()
}

#[track_caller]
fn refused(path: &str, text: &str, expected: &str) {
    let failures = judged(path, text);
    assert!(failures.iter().any(|f| f.contains(expected)), "{expected:?} is missing in {failures:?}");
}

#[track_caller]
fn accepted(path: &str, text: &str) {
    assert_eq!(judged(path, text), Vec::<String>::new());
}

#[test]
fn a_room_that_reaches_over_a_wall_is_named_with_file_and_line() {
    refused(
        "src/wire/id.rs",
        "\nuse crate::proto::rate;\n",
        "src/wire/id.rs:2: `wire` may not import `proto::rate`",
    );
    refused("src/proto/rate.rs", "use crate::{wire::id, io::clock};", "may not import `io::clock`");
    refused("src/proto/rate.rs", "fn f() -> crate::ccm::Db {}", "may not import `ccm::Db`");
    refused("src/proto/fec/table.rs", "use super::super::super::io::mmap;", "may not import `io::mmap`");
    refused("src/node/shell.rs", "use crate::ccm::model;", "`node` may not import `ccm::model`");
    refused("src/ccm/execute.rs", "use crate::node::config;", "`ccm` may not import `node::config`");
    refused("src/cli/node.rs", "use crate::ccm::db::Store;", "`cli` may not import `ccm::db::Store`");
    refused(
        "src/cli/node.rs",
        "use crate::ccm::{api::types::Job, model};",
        "`cli` may not import `ccm::model`",
    );
    refused("src/content/walk.rs", "use crate::*;", "`content` may not import `*`");
    refused("src/ccm/caches.rs", "use netlink::Monitor;", "`netlink` does not belong here");
    refused("src/ccm/staging.rs", "fn f(c: rusqlite::Connection) {}", "`rusqlite` does not belong here");
    refused("src/attic/mod.rs", "fn f() {}", "room `attic` is in no table");
}

#[test]
fn what_the_map_allows_passes() {
    accepted("src/proto/rate.rs", "use crate::time::Instant;\nuse crate::{proto::limits, wire::{id, nack}};");
    accepted("src/cli/node.rs", "use crate::ccm::api::types::{Job, Node};");
    accepted("src/node/links.rs", "use netlink::Monitor;\nuse crate::io::clock;");
    accepted("src/proto/fec/table.rs", "use super::super::rate;");
    accepted("src/wire/id.rs", "//! See crate::proto::engine.\nconst TEXT: &str = \"crate::io\";");
    accepted("src/bin/farmcast.rs", "fn main() { farmcast::cli::main() }");
}

#[test]
fn a_module_that_the_map_does_not_show_is_named() {
    let mut failures = Vec::new();
    layers::check_map(
        &Source::new("src/lib.rs", "//! | [`wire`] | x | - |\npub mod wire;\npub mod attic;"),
        &mut failures,
    );
    let lines: Vec<usize> = failures.iter().map(|f| f.line).collect();
    assert_eq!(lines, [3, 3], "in the map and in ROOMS: {failures:?}");
}

#[test]
fn unsafe_code_outside_its_two_homes_is_refused_even_in_tests() {
    let explained = "fn f() {\n    // SAFETY: nothing is done.\n    unsafe {}\n}";
    refused("src/node/shell.rs", explained, "`unsafe` is banned here");
    refused(
        "src/node/shell.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{explained}\n}}"),
        "`unsafe` is banned",
    );
    accepted("src/io/mmap.rs", explained);
    accepted("netlink/src/socket.rs", explained);
    refused("netlink/src/link.rs", explained, "`unsafe` is banned here");
}

#[test]
fn an_unsafe_block_has_its_own_safety_line() {
    refused("src/io/mmap.rs", "fn f() {\n    unsafe { g() }\n}", "src/io/mmap.rs:2: unsafe without");
    let second = "fn f() {\n    // SAFETY: sound.\n    unsafe { g() };\n    unsafe { h() };\n}";
    refused("src/io/mmap.rs", second, "src/io/mmap.rs:4: unsafe without");
    refused("src/io/mmap.rs", "unsafe impl Send for X {}", "unsafe without");
    accepted("src/io/mmap.rs", "// SAFETY: sound.\nlet x =\n    unsafe { g() };");
}

#[test]
fn a_clock_is_read_in_two_files_only() {
    refused("src/node/shell.rs", "let t = std::time::Instant::now();", "`Instant::now` is banned here");
    refused(
        "src/cli/demo.rs",
        "use std::thread;\nfn f() { thread::sleep(d); }",
        "src/cli/demo.rs:2: `thread::sleep`",
    );
    refused("src/cli/demo.rs", "use std::{thread::{self, sleep}};", "`thread::sleep` is banned");
    accepted("src/io/clock.rs", "fn now() { Instant::now() }");
    accepted("src/ccm/clock.rs", "fn now() { SystemTime::now() }");
    accepted("src/io/http.rs", "#[cfg(test)]\nmod tests {\n    fn f() { Instant::now() }\n}");
    refused("src/io/http.rs", "#[cfg(test)]\nmod tests {\n}\nfn f() { Instant::now() }", "src/io/http.rs:4:");
}

#[test]
fn pure_files_know_no_world() {
    for path in
        ["src/proto/engine.rs", "src/ccm/scheduler.rs", "src/ccm/rollout/canary.rs", "src/ccm/distribute.rs"]
    {
        refused(path, "use std::{fmt, fs};", "`std::fs` is banned here");
        refused(path, "use std::net::{SocketAddr, UdpSocket};", "`UdpSocket` is banned here");
        refused(path, "use std::time::Duration;", "`std::time` is banned here");
        refused(path, "use std::thread;", "`std::thread` is banned here");
        refused(path, "use std::collections::HashMap;", "BTreeMap");
        refused(path, "fn f() -> HashSet<u8> {}", "`HashSet` is banned here");
        refused(path, "let x: u8 = rand::random();", "`rand` is banned here");
        accepted(path, "use std::collections::BTreeMap;\nuse std::net::SocketAddr;");
    }
    accepted("src/ccm/execute.rs", "use std::collections::HashMap;");
}

#[test]
fn only_those_who_talk_to_a_person_print() {
    refused("src/node/shell.rs", "fn f() { println!(\"x\") }", "`println!` is banned here");
    refused("src/ccm/execute.rs", "fn f() { eprintln!(\"x\") }", "`eprintln!` is banned here");
    refused("netlink/src/link.rs", "fn f() { eprintln!(\"x\") }", "`eprintln!` is banned here");
    accepted("src/cli/status.rs", "fn f() { println!(\"x\") }");
    accepted("src/node/shell.rs", "// println!(\"x\")\nconst HINT: &str = r#\"println!(\"x\")\"#;");
}

#[test]
fn unfinished_code_is_refused_everywhere() {
    for name in ["todo", "unimplemented", "dbg"] {
        refused("tests/demo.rs", &format!("fn f() {{ {name}!() }}"), &format!("`{name}!` is banned here"));
    }
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        refused("src/io/raw.rs", &format!("// {word}: later"), &format!("`{word}`"));
        accepted("src/io/raw.rs", &format!("const WORD: &str = \"{word}\";"));
        accepted("src/io/raw.rs", &format!("fn f() {{ g(A{word}S) }}"));
    }
}

#[test]
fn a_panic_says_why_it_cannot_happen() {
    refused("src/io/raw.rs", "fn f() { g().unwrap() }", "`unwrap()` does not say");
    accepted("src/io/raw.rs", "fn f() { g().expect(\"checked above\") }");
    accepted("src/io/raw/tests.rs", "fn f() { g().unwrap() }");
}

#[test]
fn a_silenced_lint_has_a_reason() {
    refused("src/io/raw.rs", "#[allow(dead_code)]\nfn f() {}", "silenced without a reason");
    refused("src/io/raw.rs", "/// Doc.\n#[allow(dead_code)]\nfn f() {}", "silenced without a reason");
    accepted("src/io/raw.rs", "#[allow(dead_code)] // read by the debugger\nfn f() {}");
    accepted("src/io/raw.rs", "#[expect(dead_code, reason = \"read by the debugger\")]\nfn f() {}");
}

#[test]
fn a_test_is_named_as_a_sentence() {
    refused("src/io/raw.rs", "#[test]\nfn works() {}", "`works` is no sentence");
    refused("src/io/raw.rs", "#[test]\n#[ignore]\nfn test_of_a_socket() {}", "is no sentence");
    accepted("src/io/raw.rs", "#[test]\nfn a_frame_is_read_back() {}\nfn helper() {}");
}

#[test]
fn long_lines_long_files_and_long_binaries_are_refused() {
    refused("src/io/raw.rs", &format!("// {}", "x".repeat(118)), "src/io/raw.rs:1: 121 characters");
    accepted("src/io/raw.rs", &format!("// {}", "\u{e9}".repeat(117)));
    refused("src/io/raw.rs", &"\n".repeat(701), "701 lines");
    accepted("src/io/raw/tests.rs", &"\n".repeat(701));
    refused("src/bin/farmcast.rs", &"\n".repeat(15), "15 lines: a binary");
    accepted("src/bin/farmcast.rs", &"\n".repeat(14));
}

#[test]
fn a_path_of_one_machine_is_refused_and_a_relative_one_is_not() {
    let judged = |text: &str| {
        let mut failures = Vec::new();
        text::check_machine_paths("docs/A.md", text, &mut failures);
        failures.iter().map(|f| f.line).collect::<Vec<_>>()
    };
    assert_eq!(judged(concat!("a\nsee `/wo", "rk/main`\n")), [2]);
    assert_eq!(judged(concat!("dir", "/wo", "rk/main ../wo", "rk/x")), Vec::<usize>::new());
}

#[test]
fn a_page_without_title_or_with_two_is_refused() {
    let judged = |text: &str| {
        let mut failures = Vec::new();
        text::check_title("docs/A.md", text, &mut failures);
        failures.iter().map(|f| f.line).collect::<Vec<_>>()
    };
    assert_eq!(judged("# A\n\n```sh\n# a comment\n```\n## Part\n"), Vec::<usize>::new());
    assert_eq!(judged("## Part\n"), [1]);
    assert_eq!(judged("# A\n\n# B\n"), [3]);
}

#[test]
fn a_file_that_no_module_line_names_is_refused() {
    let files = [
        ("src/lib.rs", "pub mod io;\n#[cfg(test)]\nmod proof;"),
        ("src/io/mod.rs", "pub(crate) mod raw;\n// mod lost;\n"),
        ("src/io/raw.rs", "#[cfg(test)]\n#[path = \"raw_tests.rs\"]\nmod tests;"),
        ("src/io/raw_tests.rs", ""),
        ("src/io/lost.rs", ""),
        ("src/proof.rs", ""),
    ];
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let mut failures = Vec::new();
    text::check_reachable("src/", &["src/lib.rs"], &sources, &mut failures);
    let lost: Vec<&str> = failures.iter().map(|f| f.file.as_str()).collect();
    assert_eq!(lost, ["src/io/lost.rs"]);
}

#[test]
fn a_module_for_tests_only_is_test_code_with_all_that_hangs_on_it() {
    let files = [
        ("src/lib.rs", "pub mod io;\n#[cfg(test)]\nmod proof;"),
        ("src/proof.rs", "mod deep;\nfn f() { g().unwrap() }"),
        ("src/proof/deep.rs", "fn f() { Instant::now() }"),
        ("src/io/mod.rs", "fn f() { Instant::now() }"),
    ];
    let mut sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    source::mark_test_modules(&mut sources);
    let mut failures = Vec::new();
    sources.iter().for_each(|source| rules::check(source, &mut failures));
    let places: Vec<&str> = failures.iter().map(|f| f.file.as_str()).collect();
    assert_eq!(places, ["src/io/mod.rs"]);
}

#[test]
fn strings_comments_and_lifetimes_do_not_confuse_the_reader() {
    let text = "fn f<'a>(x: &'a str) -> char { '\\'' }\nlet q = '\"'; unsafe {}\n\
                /* a /* b */ unsafe */ let b = br##\"\"# unsafe\"##;\nlet s = \"a\\\"unsafe\";";
    let source = Source::new("src/io/raw.rs", text);
    let lines: Vec<usize> =
        source.names().iter().filter(|named| named.holds("unsafe")).map(|named| named.line).collect();
    assert_eq!(lines, [1]);
}
