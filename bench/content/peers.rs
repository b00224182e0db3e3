//! The tools: composing in a process of its own, and others as they are installed.

use crate::table::Run;
use farmcast::content::pack::{Pack, Policy, pack};
use farmcast::content::walk::ALL;
use farmcast::wire::id::{AssignmentId, JobId, Name};
use farmcast::wire::seal::SigningKey;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Of the key that all assignments here are signed with.
pub const PUBLISHER: [u8; 32] = [1; 32];

/// Composes in a child process: `staging` against `shadow` below `scratch`.
pub fn compose(scratch: &Path) -> Option<Run> {
    let own = std::env::current_exe().expect("this program has a path");
    let output = Command::new(own).arg("compose").arg(scratch).output().expect("this program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("the child tells what it measured");
    let number = |name: &str| told[name].as_u64().expect("a number");
    let seconds = told["seconds"].as_f64().expect("seconds");
    Some(Run { seconds, bytes: number("bytes"), peak: number("peak") })
}

/// What the child does. The first composing of a scratch directory fills the cache of hashes.
pub fn compose_here(scratch: &Path) {
    let out = scratch.join("assignment");
    let start = Instant::now();
    let packed = pack(&Pack {
        staging: &scratch.join("staging"),
        picks: ALL,
        shadow: &scratch.join("shadow"),
        base: Some(AssignmentId(1)),
        assignment: AssignmentId(2),
        job: JobId(1),
        site: Name::new("bench").expect("a name"),
        issued: 1_900_000_000,
        pass_tick: &|_| {},
        policy: &Policy::default(),
        out: &out,
        checksum: false,
        origins: None,
        known: None,
        cache: Some(&scratch.join("hashes")),
        order: None,
        sealing: None,
        publisher: &SigningKey::from_seed(PUBLISHER),
    })
    .expect("the trees can be read");
    let seconds = start.elapsed().as_secs_f64();
    let bytes = packed.shape.map_or(0, |shape| shape.command_len + shape.data_len);
    println!("{}", json!({ "seconds": seconds, "bytes": bytes, "peak": peak() }));
}

/// Most memory that this process held, of its own and of mapped files.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("with its peak");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("in KiB") * 1_024
}

/// Runs a program and measures what it wrote; `None` where it is not installed.
pub fn run(program: &str, arguments: &[&str], wrote: Option<&Path>) -> Option<Run> {
    if let Some(path) = wrote {
        let _ = fs::remove_file(path);
    }
    let start = Instant::now();
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.ok()?.success(), "{program} {arguments:?}");
    let bytes = wrote.map_or(0, |path| fs::metadata(path).expect("it wrote").len());
    Some(Run { seconds, bytes, peak: 0 })
}
