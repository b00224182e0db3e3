//! The clocks of the machine. No other file of a node reads one (design D1).

use crate::time::Instant;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Nanoseconds of a wait that are spent spinning: a sleeping thread wakes tens of microseconds late.
const SPIN_NS: u64 = 1_000_000;
/// Longest spin in monotonic time, should the wall clock be set back meanwhile.
const SPIN_MAX_NS: u64 = 5 * SPIN_NS;

/// The monotonic clock.
pub fn monotonic() -> Instant {
    Instant::from_nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// The wall clock: nanoseconds since 1970, as this machine believes.
pub fn wall_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Returns once the wall clock shows `ns`, within microseconds; at once where it already does. Follows a
/// clock that is set while it waits. Blocks the thread: for the applier, never for a loop.
pub fn sleep_until_wall(ns: u64) {
    let early = ns.saturating_sub(SPIN_NS);
    let until = TimeSpec::new((early / 1_000_000_000) as i64, (early % 1_000_000_000) as i64);
    while wall_ns() < early {
        match clock_nanosleep(ClockId::CLOCK_REALTIME, ClockNanosleepFlags::TIMER_ABSTIME, &until) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    let start = monotonic();
    while wall_ns() < ns && monotonic().since(start).as_nanos() < SPIN_MAX_NS {
        std::hint::spin_loop();
    }
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("Linux has both clocks");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + now.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_instant_and_not_before() {
        let until = wall_ns() + 3_000_000;
        sleep_until_wall(until);
        assert!(wall_ns() >= until);
    }

    #[test]
    fn a_wait_for_the_past_returns_at_once() {
        let start = monotonic();
        sleep_until_wall(1);
        assert!(monotonic().since(start).as_millis() < 1_000);
    }
}
