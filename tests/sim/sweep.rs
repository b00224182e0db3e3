//! Many worlds, one per seed, on all processors.

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that the environment asks for.
pub fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// A line to standard error, past the test harness, which keeps what tests print that pass.
pub fn tell(line: &str) {
    // A reader that is gone misses nothing.
    _ = writeln!(std::io::stderr(), "{line}");
}

/// What becomes of each seed, in their order.
pub fn each<T: Send>(seeds: u64, live: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut lives = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return lives;
            }
            lives.push((seed, live(seed)));
        }
    };
    let mut lives: Vec<(u64, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no world panics")).collect()
    });
    lives.sort_by_key(|(seed, _)| *seed);
    lives.into_iter().map(|(_, life)| life).collect()
}

/// A life, or what went wrong with it, panics of the code under test included.
///
/// # Errors
/// The first promise that was broken, with its seed.
pub fn outcome<T>(
    seed: u64,
    live: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe,
) -> Result<T, String> {
    let lived = catch_unwind(live).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "panic".to_owned()))
    });
    lived.map_err(|what| format!("seed {seed}: {what}"))
}
