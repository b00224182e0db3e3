//! The seeded simulator (design D1): whole nodes, made of the same machines as the daemon, on one virtual
//! clock, in a network that loses, delays, doubles and cuts; what must never happen is looked for after
//! every event, and what must happen is waited for once the network has healed.
//!
//! - `cargo test --test sim` sweeps some seeds; `SIM_SEEDS=10000 cargo test --release --test sim` sweeps more.
//! - `SIM_SEED=42 cargo test --test sim replay` replays one, with a line for every event.
//! - `SIM_UPDATE=1 cargo test --release --test sim table` writes the table of `snapshots/` anew.
//!
//! Start with `seed.rs`, which is the whole of a seed's life, then `world.rs`.

mod act;
mod alone;
mod applier;
mod ccm;
mod classic;
mod deeds;
mod disk;
mod execute;
mod faults;
mod groups;
mod invariants;
mod network;
mod node;
mod object;
mod options;
mod queue;
mod regressions;
mod reports;
mod scale;
mod seed;
mod sessions;
mod steady;
mod steering;
mod sweep;
mod switches;
mod table;
mod trace;
mod tree;
mod world;

use farmcast::io::clock;

/// Seeds of a sweep that is not told how many: what a debug build does in some seconds.
const SEEDS: u64 = 40;

/// Prints what it took, and one hash of all lives: another sweep of as many seeds has the same.
#[test]
fn no_seed_breaks_a_promise() {
    let (seeds, began) = (sweep::asked("SIM_SEEDS").unwrap_or(SEEDS), clock::monotonic());
    let lives = sweep::each(seeds, |seed| sweep::outcome(seed, || seed::live(seed, false)));
    let (mut events, mut hash, mut failures) = (0, 0_u64, Vec::new());
    for life in lives {
        match life {
            Ok(life) => (events, hash) = (events + life.events, hash.rotate_left(1) ^ life.hash),
            Err(what) => failures.push(what),
        }
    }
    let took = format!(
        "{:.1} s on {} processors",
        clock::monotonic().since(began).as_secs_f64(),
        sweep::processors()
    );
    sweep::tell(&format!("{seeds} seeds, {events} events in {took}, hash {hash:016x}"));
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed; SIM_SEED=n cargo test --test sim replay shows one:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_seed_lives_the_same_life_again() {
    for seed in [1, 7, 23, 77, 123] {
        let (first, again) = (seed::live(seed, false), seed::live(seed, false));
        assert_eq!(first, again, "seed {seed}");
    }
}

/// What a replay is good for: what the seed drew, every event with its time and node, and the end.
#[test]
fn a_replay_prints_a_trace() {
    let this = std::env::current_exe().expect("a test is a program");
    let replay = std::process::Command::new(this)
        .args(["--exact", "a_replay_shows_the_seed_that_is_asked_for"])
        .env("SIM_SEED", "7")
        .output()
        .expect("a test can be run again");
    assert!(replay.status.success(), "{replay:?}");
    let trace = String::from_utf8(replay.stderr).expect("words");
    let life = seed::live(7, false).expect("it keeps all promises");
    let drawn = format!("seed 7: {:?}", options::Options::draw(7));
    let at_node = |line: &&str| line.split_whitespace().nth(1).is_some_and(|at| at.starts_with('n'));
    let events = trace.lines().filter(at_node).count() as u64;
    assert!(trace.contains(&drawn), "what was drawn is said");
    assert!(events >= life.events, "{events} lines tell {} events", life.events);
    for words in [" <- ", "LeaderAlive", "the CCM publishes", "reports Order"] {
        assert!(trace.contains(words), "{words}");
    }
    assert!(trace.ends_with(&format!("seed 7 keeps all promises: {life:?}\n")), "the end is said");
}

/// Shows the life of the seed in `SIM_SEED`.
#[test]
fn a_replay_shows_the_seed_that_is_asked_for() {
    let Some(seed) = sweep::asked("SIM_SEED") else { return };
    match seed::live(seed, true) {
        Ok(life) => sweep::tell(&format!("seed {seed} keeps all promises: {life:?}")),
        Err(what) => panic!("seed {seed}: {what}"),
    }
}
