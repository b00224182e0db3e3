//! The clock of the controller: the only file of `ccm` that reads one (design D1).

/// Wall clock in nanoseconds since 1970; 0 where the system's clock stands before that.
#[allow(clippy::disallowed_methods, reason = "this is the file that reads the clock")]
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// Nanoseconds of a clock that nobody sets: for spans within this process.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| now.tv_sec() as u64 * NS_PER_S + now.tv_nsec() as u64)
}

pub const NS_PER_S: u64 = 1_000_000_000;
pub const NS_PER_MS: u64 = 1_000_000;
