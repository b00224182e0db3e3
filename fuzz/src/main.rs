//! Gives hostile bytes to one parser, the one that `FARMCAST_FUZZ` names; options are those of libFuzzer.
//! `fuzz/run` builds and starts this.
//!
//! A target says whether it took the bytes for a whole value. It panics where a promise is broken: a value
//! that is not the bytes it was read from, memory that the bytes do not justify, a sum that overflows.
#![no_main]

mod memory;
mod seal;
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// The target's name.
const WHICH: &str = "FARMCAST_FUZZ";
/// A directory to which the target's seeds are written, to begin from.
const SEEDS: &str = "FARMCAST_FUZZ_SEEDS";

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let named = std::env::var(WHICH).unwrap_or_default();
    TARGETS.iter().find(|target| target.name == named).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("{WHICH}={named:?} names no target: {}", names.join(" "));
        std::process::exit(64);
    })
});

/// Every seed is a value that its parser takes: one that is refused has been left behind by a format.
fn plant() {
    LazyLock::force(&TARGET);
    let Some(place) = std::env::var_os(SEEDS) else { return };
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        assert!((TARGET.run)(seed), "seed {number} of {} is refused: {}", TARGET.name, seed.escape_ascii());
        let path = std::path::Path::new(&place).join(format!("seed-{number:02}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fuzz_target!(
    init: {
        plant();
    },
    |data: &[u8]| {
        (TARGET.run)(data);
    }
);
