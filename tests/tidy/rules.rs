//! What no line of code may hold, and where the few exceptions are. Each ban carries its reason and what to
//! write instead, for whoever meets it first in a red build.

use std::fmt;

use super::source::{Source, is_test_file};

/// One broken rule, printed as `file:line: what`.
#[derive(Debug)]
pub struct Failure {
    pub file: String,
    /// From 1, as editors count.
    pub line: usize,
    pub what: String,
}

impl Failure {
    /// `index` counts lines from 0.
    pub fn new(source: &Source, index: usize, what: String) -> Self {
        Self::at(&source.path, index, what)
    }

    pub fn at(file: &str, index: usize, what: String) -> Self {
        Self { file: file.to_owned(), line: index + 1, what }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Names that are banned in the files for which `applies` holds.
struct Ban {
    names: &'static [&'static str],
    applies: fn(path: &str) -> bool,
    /// Whether test code has to obey as well.
    in_tests: bool,
    because: &'static str,
    instead: &'static str,
}

/// The planners of the controller: pure, like all of `proto`.
const PURE_CCM: &[&str] = &["scheduler", "policy", "distribute", "rollout", "groups", "access"];

const BANS: &[Ban] = &[
    Ban {
        names: &["unsafe"],
        applies: |path| {
            !path.starts_with("src/io/") && path != "netlink/src/socket.rs" && !is_test_file(path)
        },
        in_tests: true,
        because: "unsafe code is read line by line by a reviewer, so it has two homes",
        instead: "a call of nix, or a safe function in src/io (for netlink: in socket.rs)",
    },
    Ban {
        names: &[
            "Instant::now",
            "SystemTime::now",
            "UNIX_EPOCH::elapsed",
            "clock_gettime",
            "Timestamp::now",
            "Zoned::now",
            "thread::sleep",
        ],
        applies: |path| !matches!(path, "src/io/clock.rs" | "src/ccm/clock.rs" | "src/cli/clock.rs"),
        in_tests: false,
        because: "whoever reads a clock or sleeps cannot be simulated (design D1)",
        instead: "take `now` as an argument; clock.rs of io, ccm and cli are the only files that ask the kernel",
    },
    Ban {
        names: &["std::fs", "std::os", "tempfile", "File::open", "File::create", "OpenOptions"],
        applies: is_pure,
        in_tests: false,
        because: "pure files decide, they do not act: a simulator runs them without a disk",
        instead: "take the content as an argument, return the decision and let the caller act",
    },
    Ban {
        names: &[
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
            "ToSocketAddrs",
            "socket2",
            "mio",
            "tokio",
        ],
        applies: is_pure,
        in_tests: false,
        because: "pure files decide, they do not act: a simulator runs them without a network",
        instead: "return an output that the caller sends; addresses (`SocketAddr`) are values and allowed",
    },
    Ban {
        names: &["std::thread", "std::process", "std::env", "thread::spawn"],
        applies: is_pure,
        in_tests: false,
        because: "pure files give the same answer for the same arguments, whatever process they run in",
        instead: "an argument",
    },
    Ban {
        names: &["std::time"],
        applies: is_pure,
        in_tests: false,
        because: "std's Instant cannot be made up, recorded or generated (style, section 3)",
        instead: "crate::time::{Instant, Duration}",
    },
    Ban {
        names: &["HashMap", "HashSet", "RandomState", "DefaultHasher"],
        applies: is_pure,
        in_tests: false,
        because: "the order of a hash table differs from run to run, so a seed would not replay",
        instead: "BTreeMap, BTreeSet or a sorted Vec",
    },
    Ban {
        names: &["rand", "getrandom", "fastrand", "rand::fill", "SystemRandom"],
        applies: is_pure,
        in_tests: false,
        because: "randomness of its own would make a seed useless",
        instead: "a seed or a random number as an argument",
    },
    Ban {
        names: &["println!", "eprintln!", "print!", "eprint!"],
        applies: |path| !may_print(path),
        in_tests: false,
        because: "a daemon's output is its log: with levels, fields and a rate limit",
        instead: "log::info! and its kin; only cli, bin, logging, tests and build.rs print",
    },
    Ban {
        names: &["todo!", "unimplemented!", "dbg!"],
        applies: |_| true,
        in_tests: true,
        because: "what is committed is finished",
        instead: "the code, or a smaller commit",
    },
];

/// Whether a file has to be free of clock, randomness, file, socket and thread (design section 3).
pub fn is_pure(path: &str) -> bool {
    path.starts_with("src/proto/")
        || PURE_CCM
            .iter()
            .any(|name| path == format!("src/ccm/{name}.rs") || path.starts_with(&format!("src/ccm/{name}/")))
}

fn may_print(path: &str) -> bool {
    ["src/cli/", "src/bin/", "src/logging/"].iter().any(|home| path.starts_with(home))
        || ["src/cli.rs", "src/logging.rs", "build.rs"].contains(&path)
        || is_test_file(path)
}

pub fn check(source: &Source, failures: &mut Vec<Failure>) {
    let names = source.names();
    for ban in BANS.iter().filter(|ban| (ban.applies)(&source.path)) {
        for named in &names {
            if source.test[named.line] && !ban.in_tests {
                continue;
            }
            if let Some(name) = ban.names.iter().find(|name| named.holds(name)) {
                let what = format!("`{name}` is banned here: {}. Use instead: {}", ban.because, ban.instead);
                failures.push(Failure::new(source, named.line, what));
            }
        }
    }
    check_unsafe_has_safety(source, failures);
    check_allow_has_reason(source, failures);
    check_unwrap(source, failures);
    check_test_names(source, failures);
}

/// Each unsafe block or impl stands under a comment that says why it is sound.
fn check_unsafe_has_safety(source: &Source, failures: &mut Vec<Failure>) {
    for (line, code) in source.code.iter().enumerate() {
        if !code.contains("unsafe {") && !code.contains("unsafe impl") {
            continue;
        }
        // Upwards through the comment and through the head of the statement that holds the block.
        let above = source.prose[..line].iter().rev().take_while(|prose| {
            let prose = prose.trim();
            prose.starts_with("//") || !(prose.is_empty() || prose.ends_with([';', '}', '{']))
        });
        let mut explained = above.map(String::as_str).chain([source.prose[line].as_str()]);
        if !explained.any(|prose| prose.contains("SAFETY:")) {
            let what = "unsafe without a `// SAFETY:` line above it: say which demand is met, and by what";
            failures.push(Failure::new(source, line, what.to_owned()));
        }
    }
}

/// A silenced lint says why, on its line or the one above.
fn check_allow_has_reason(source: &Source, failures: &mut Vec<Failure>) {
    for (line, code) in source.code.iter().enumerate() {
        let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
        if !starts.iter().any(|start| code.trim_start().starts_with(start)) {
            continue;
        }
        let end = (line..source.code.len()).find(|&n| source.code[n].contains(']')).unwrap_or(line);
        let within = source.code[line..=end].iter().any(|code| code.contains("reason ="));
        let beside = source.prose[line..=end].iter().any(|prose| prose.contains("//"));
        let above = line > 0 && source.prose[line - 1].trim_start().starts_with("// ");
        if !within && !beside && !above {
            let what =
                "a lint is silenced without a reason beside it: fix the code, or add `reason = \"...\"`";
            failures.push(Failure::new(source, line, what.to_owned()));
        }
    }
}

/// A panic is only for our own bugs, and then it says why it cannot happen.
fn check_unwrap(source: &Source, failures: &mut Vec<Failure>) {
    for (line, code) in source.code.iter().enumerate() {
        if code.contains(".unwrap()") && !source.test[line] {
            let what = "`unwrap()` does not say why it cannot fail: return an error or `expect(\"why\")`";
            failures.push(Failure::new(source, line, what.to_owned()));
        }
    }
}

/// Tests are named as sentences, so that a red line tells what is broken.
fn check_test_names(source: &Source, failures: &mut Vec<Failure>) {
    let mut is_test = false;
    for (line, code) in source.code.iter().enumerate() {
        let code = code.trim();
        is_test |= code == "#[test]" || code.starts_with("#[tokio::test");
        let Some(rest) = code.trim_start_matches("async ").strip_prefix("fn ") else { continue };
        if !std::mem::take(&mut is_test) {
            continue;
        }
        let name = rest.split('(').next().unwrap_or_default();
        if name.split('_').filter(|word| !word.is_empty()).count() < 3 || name.starts_with("test_") {
            let what = format!(
                "test `{name}` is no sentence: name what holds, as in `a_symlink_is_kept_and_never_followed`"
            );
            failures.push(Failure::new(source, line, what));
        }
    }
}
