//! The clocks of the machine. No other file of a node reads one (design D1).

use crate::time::Instant;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Nanoseconds of a wait that are spent spinning: a sleeping thread wakes tens of microseconds late.
const SPIN_NS: u64 = 1_000_000;

/// The monotonic clock.
pub fn monotonic() -> Instant {
    Instant::from_nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// The wall clock: nanoseconds since 1970, as this machine believes.
pub fn wall_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Returns once the monotonic clock shows `until`, within microseconds; at once where it already does. No
/// wall clock that is set meanwhile makes it longer or shorter. Blocks the thread: for the applier, never
/// for a loop.
pub fn sleep_until(until: Instant) {
    let early = until.as_nanos().saturating_sub(SPIN_NS);
    let alarm = TimeSpec::new((early / 1_000_000_000) as i64, (early % 1_000_000_000) as i64);
    while monotonic().as_nanos() < early {
        match clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &alarm) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    while monotonic() < until {
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
    use crate::time::Duration;

    #[test]
    fn a_wait_ends_at_its_instant_and_not_before() {
        let until = monotonic() + Duration::from_millis(3);
        sleep_until(until);
        assert!(monotonic() >= until);
    }

    #[test]
    fn a_wait_for_the_past_returns_at_once() {
        let start = monotonic();
        sleep_until(Instant::from_nanos(1));
        assert!(monotonic().since(start).as_millis() < 1_000);
    }
}
