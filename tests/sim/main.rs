//! The seeded simulator (design D1): whole nodes, made of the same machines as the daemon, on one virtual
//! clock, in a network that loses, delays, doubles and cuts; what must never happen is looked for after
//! every event, and what must happen is waited for once the network has healed.
//!
//! - `cargo test --test sim` sweeps some seeds; `SIM_SEEDS=10000 cargo test --release --test sim` sweeps more.
//! - `SIM_SEED=42 cargo test --test sim replay` replays one, with a line for every event.
//! - `SIM_UPDATE=1 cargo test --release --test sim table` writes the table of `snapshots/` anew.
//!
//! Start with `seed.rs`, which is the whole of a seed's life, then `world.rs`.

mod ccm;
mod disk;
mod faults;
mod groups;
mod invariants;
mod network;
mod node;
mod object;
mod options;
mod queue;
mod regressions;
mod seed;
mod sessions;
mod steering;
mod switches;
mod table;
mod trace;
mod world;

use std::panic::catch_unwind;

/// Seeds of a sweep that is not told how many: what a debug build does in some seconds.
const SEEDS: u64 = 120;

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let failures: Vec<String> = std::thread::scope(|scope| {
        let sweep =
            |first: u64| move || (first..seeds).step_by(workers as usize).filter_map(failure).collect();
        let sweeps: Vec<_> = (0..workers).map(|first| scope.spawn(sweep(first))).collect();
        let found = sweeps.into_iter().map(|sweep| sweep.join().expect("panics of a seed are caught"));
        found.flat_map(|found: Vec<String>| found).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed; SIM_SEED=n cargo test --test sim replay shows one:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// What went wrong with a seed, panics of the code under test included.
fn failure(seed: u64) -> Option<String> {
    let result = catch_unwind(|| seed::live(seed, false));
    let what = match result {
        Ok(Ok(_)) => return None,
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "panic".to_owned())
        }
    };
    Some(format!("seed {seed}: {what}"))
}

#[test]
fn a_seed_lives_the_same_life_again() {
    for seed in [1, 7, 23, 77, 123] {
        let (first, again) = (seed::live(seed, false), seed::live(seed, false));
        assert_eq!(first, again, "seed {seed}");
    }
}

/// Shows the life of the seed in `SIM_SEED`.
#[test]
fn a_replay_shows_the_seed_that_is_asked_for() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    match seed::live(seed, true) {
        Ok(life) => eprintln!("seed {seed} keeps all promises: {life:?}"),
        Err(what) => panic!("seed {seed}: {what}"),
    }
}
