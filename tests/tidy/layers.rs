//! Who may import whom: the table of `src/lib.rs`, as data.

use super::rules::Failure;
use super::source::Source;

/// A room under `src/` and what it may name besides itself; a longer path allows only that part of a room.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "time", may: &[] },
    Room { name: "wire", may: &["time"] },
    Room { name: "proto", may: &["time", "wire"] },
    Room { name: "content", may: &["wire"] },
    Room { name: "io", may: &["time"] },
    Room { name: "logging", may: &["time"] },
    Room { name: "applier", may: &["time", "content", "wire", "io", "logging"] },
    Room { name: "node", may: &["time", "wire", "proto", "io", "logging", "applier", "netlink"] },
    Room { name: "ccm", may: &["time", "wire", "content", "proto", "logging"] },
    // Beside the API's types only the doors by which `farmcast ccm` starts the controller,
    // and those to its database while it is stopped.
    Room {
        name: "cli",
        may: &[
            "ccm::api::types",
            "ccm::init",
            "ccm::run",
            "ccm::Config",
            "ccm::InitError",
            "ccm::InitOptions",
            "ccm::RestoreError",
            "ccm::Restored",
            "ccm::inspect",
            "ccm::restore",
            "content",
            "wire",
            "logging",
        ],
    },
];

/// Crates that belong to one place, with the reason.
const CRATES: &[(&str, &[&str], &str)] = &[
    (
        "rusqlite",
        &["src/ccm/db.rs", "src/ccm/db/"],
        "ccm/db is the only file that speaks SQL (design section 3)",
    ),
    (
        "netlink",
        &["src/node/", "netlink/", "tests/", "bench/", "fuzz/"],
        "only the daemon listens to the kernel's links",
    ),
];

/// The room of a file: `src/proto/rate.rs` lies in `proto`, `src/time.rs` in `time`. Binaries and the map of
/// the library are in none and may name every room.
pub fn room_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    if below == "lib.rs" || below.starts_with("bin/") {
        return None;
    }
    Some(below.split('/').next()?.trim_end_matches(".rs"))
}

pub fn check(source: &Source, failures: &mut Vec<Failure>) {
    check_crates(source, failures);
    let Some(name) = room_of(&source.path) else { return };
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        let what = format!(
            "room `{name}` is in no table; add it to src/lib.rs and to tests/tidy/layers.rs, with what it may import"
        );
        failures.push(Failure::new(source, 0, what));
        return;
    };
    for named in source.names() {
        let Some(target) = target(&source.path, &named.segments) else { continue };
        let fits = |allowed: &str| target == allowed || target.starts_with(&format!("{allowed}::"));
        if fits(room.name) || room.may.iter().any(|allowed| fits(allowed)) {
            continue;
        }
        let may = if room.may.is_empty() { "nothing".to_owned() } else { room.may.join(", ") };
        let what = format!(
            "`{name}` may not import `{target}`, for data flows one way; it may import {may}. Pass the value in as an \
             argument, or move the code to the room that owns it"
        );
        failures.push(Failure::new(source, named.line, what));
    }
}

/// What a path names, from the root of the library, if it names anything there.
fn target(file: &str, segments: &[String]) -> Option<String> {
    match segments.first()?.as_str() {
        "crate" => Some(segments[1..].join("::")).filter(|rest| !rest.is_empty()),
        "netlink" if segments.len() > 1 => Some("netlink".to_owned()),
        "super" => {
            // Out of the room only by as many steps as the file lies deep.
            let steps = segments.iter().take_while(|s| *s == "super").count();
            let deep = file.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
            let rest = segments[steps..].join("::");
            let first = rest.split("::").next().unwrap_or_default();
            let names_room = ROOMS.iter().any(|room| room.name == first);
            (steps >= deep && names_room).then_some(rest)
        }
        _ => None,
    }
}

fn check_crates(source: &Source, failures: &mut Vec<Failure>) {
    for (name, homes, reason) in CRATES {
        if homes.iter().any(|home| source.path.starts_with(home)) {
            continue;
        }
        for named in source.names() {
            if named.segments.len() > 1 && named.segments[0] == *name {
                failures.push(Failure::new(
                    source,
                    named.line,
                    format!("`{name}` does not belong here: {reason}"),
                ));
            }
        }
    }
}

/// Every module of the library stands in the table above and in the one that `src/lib.rs` shows its readers.
pub fn check_map(lib: &Source, failures: &mut Vec<Failure>) {
    for (line, code) in lib.code.iter().enumerate() {
        let Some(name) = code.trim().strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else {
            continue;
        };
        if !lib.raw.iter().any(|raw| raw.starts_with(&format!("//! | [`{name}`]"))) {
            let what = format!(
                "module `{name}` is missing in the table of the map above it: what is it, whom may it import?"
            );
            failures.push(Failure::new(lib, line, what));
        }
        if !ROOMS.iter().any(|room| room.name == name) {
            let what = format!("module `{name}` is missing in ROOMS of tests/tidy/layers.rs");
            failures.push(Failure::new(lib, line, what));
        }
    }
}
