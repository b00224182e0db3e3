//! The crash matrix: a process that stages, commits or goes back is killed at every system call, or told that the
//! call failed, and live must be one signed version, whole.
//!
//! And power cuts: what was not synced when it went is lost in random subsets, and the same must hold.
//!
//! `cargo test --test crash` takes every call that changes files and a sample of the others; `CRASH_ALL=1` takes
//! all. A child is traced, so a machine that forbids that (or is no x86-64) skips these cases loudly.
#![cfg(feature = "node")]
#![allow(clippy::disallowed_methods, reason = "the summary says how long a sweep took")]

use std::io::Write;
#[cfg(target_arch = "x86_64")]
use std::process::Command;

#[cfg(target_arch = "x86_64")]
mod disk;
#[cfg(target_arch = "x86_64")]
mod history;
#[cfg(target_arch = "x86_64")]
mod image;
#[cfg(target_arch = "x86_64")]
mod matrix;
#[cfg(target_arch = "x86_64")]
mod power;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod versions;

/// What each case does once it is alone.
#[cfg(target_arch = "x86_64")]
mod sweeps {
    use super::matrix::{self, Operation, Sweep};
    use super::versions::Versions;

    fn sweep(what: &str, stride: usize, case: fn(&mut Sweep, &Versions, Operation)) {
        let versions = Versions::compose(what);
        let mut sweeps = Vec::new();
        for operation in matrix::OPERATIONS {
            let mut sweep = Sweep::new(format!("{what} {operation:?}"), stride);
            case(&mut sweep, &versions, operation);
            sweep.tell();
            sweeps.push(sweep);
        }
        drop(versions);
        sweeps.iter().for_each(Sweep::check);
    }

    pub fn kill() {
        sweep("kill", 20, matrix::kill_everywhere);
    }

    pub fn kill_recoveries() {
        sweep("kill-recovery", 4, matrix::kill_recoveries);
    }

    pub fn fail() {
        sweep("fail", 20, matrix::fail_everywhere);
    }

    pub use super::power::{cut_everywhere, find_what_is_not_synced};
}

#[cfg(not(target_arch = "x86_64"))]
mod sweeps {
    pub fn kill() {}
    pub fn kill_recoveries() {}
    pub fn fail() {}
    pub fn cut_everywhere() {}
    pub fn find_what_is_not_synced() {}
}

#[cfg(target_arch = "x86_64")]
const INSIDE: &str = "FARMCAST_CRASH_INSIDE";

/// Runs `body` in a process of its own, by starting this test binary again for the test `name` alone: its children
/// are copies of it, so no other thread may be at work in it.
#[cfg(target_arch = "x86_64")]
fn alone(name: &str, processor: Option<usize>, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        match tracer::refusal() {
            None => {
                processor.into_iter().for_each(tracer::stay_on_one_processor);
                body();
            }
            Some(reason) => println!("SKIPPED: {reason}"),
        }
        return;
    }
    let own = std::env::current_exe().expect("a running program knows its file");
    let output = Command::new(own)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("it starts once more");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Past the capture of the test harness: figures to keep, and no skipped case that counts as a passed one.
    for line in said.lines() {
        if let Some(at) = line.find("CRASH ").or(line.find("SKIPPED")) {
            let _ = writeln!(std::io::stderr(), "{name}: {}", &line[at..]);
        }
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(not(target_arch = "x86_64"))]
fn alone(name: &str, _: Option<usize>, _: fn()) {
    let _ = writeln!(std::io::stderr(), "{name}: SKIPPED: system calls are told apart on x86-64 alone");
}

#[test]
fn an_operation_killed_at_any_system_call_leaves_one_signed_version() {
    alone("an_operation_killed_at_any_system_call_leaves_one_signed_version", Some(0), sweeps::kill);
}

#[test]
fn a_recovery_killed_at_any_system_call_is_finished_by_the_next() {
    alone("a_recovery_killed_at_any_system_call_is_finished_by_the_next", Some(2), sweeps::kill_recoveries);
}

#[test]
fn an_operation_of_which_any_system_call_fails_says_so_and_can_be_repeated() {
    alone("an_operation_of_which_any_system_call_fails_says_so_and_can_be_repeated", Some(1), sweeps::fail);
}

#[test]
fn a_disk_that_lost_what_was_not_synced_holds_one_signed_version() {
    alone("a_disk_that_lost_what_was_not_synced_holds_one_signed_version", None, sweeps::cut_everywhere);
}

#[test]
fn the_search_for_lost_writes_finds_what_is_not_synced() {
    alone("the_search_for_lost_writes_finds_what_is_not_synced", None, sweeps::find_what_is_not_synced);
}
