//! The CCM's clock as a node knows it, so that all switch at one instant without synchronized clocks
//! (AT-5, B-42): offset = their time - ours at the middle of the round trip; of the last samples the one
//! with the shortest round trip counts, and the error is at most half of that.
//!
//! "Ours" is the monotonic clock: a wall clock that is set in the middle of a run moves no switch, neither
//! here nor at the members that ask us.

use crate::time::Instant;
use std::collections::VecDeque;

/// Samples kept.
const SAMPLES: usize = 8;
/// A sample whose round trip took longer tells too little.
const ROUND_TRIP_MAX_NS: u64 = 2_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    offset: i64,
    round_trip: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Activation {
    samples: VecDeque<Sample>,
}

impl Activation {
    /// A question sent at `sent` and answered at `received`, which is `now` (both by our wall clock), with the
    /// CCM's time, all three in nanoseconds since 1970. Useless samples are ignored.
    pub fn on_sample(&mut self, now: Instant, sent: u64, controller: u64, received: u64) {
        let Some(round_trip) = received.checked_sub(sent) else { return };
        if round_trip > ROUND_TRIP_MAX_NS {
            return;
        }
        let arrived = i128::from(controller) + i128::from(round_trip / 2);
        let Ok(offset) = i64::try_from(arrived - i128::from(now.as_nanos())) else { return };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { offset, round_trip });
    }

    /// The CCM's clock minus our monotonic one, in nanoseconds; `None` before the first sample.
    pub fn offset(&self) -> Option<i64> {
        self.best().map(|sample| sample.offset)
    }

    /// What the CCM's clock shows now, in nanoseconds since 1970; `None` before the first sample.
    pub fn controller(&self, now: Instant) -> Option<u64> {
        self.offset().map(|offset| now.as_nanos().saturating_add_signed(offset))
    }

    /// Bound of the error in nanoseconds; `None` before the first sample.
    pub fn error(&self) -> Option<u64> {
        self.best().map(|sample| sample.round_trip / 2)
    }

    fn best(&self) -> Option<&Sample> {
        self.samples.iter().min_by_key(|sample| sample.round_trip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn the_quickest_answer_counts() {
        let mut activation = Activation::default();
        assert_eq!((activation.offset(), activation.controller(at(7))), (None, None));
        activation.on_sample(at(3_000), 1_000, 6_000, 3_000);
        assert_eq!((activation.offset(), activation.error()), (Some(4_000), Some(1_000)));
        activation.on_sample(at(10_020), 10_000, 15_010, 10_020);
        assert_eq!((activation.offset(), activation.error()), (Some(5_000), Some(10)));
        activation.on_sample(at(29_000), 20_000, 99_000, 29_000);
        assert_eq!(activation.controller(at(30_000)), Some(35_000));
    }

    #[test]
    fn a_clock_that_jumped_back_or_an_answer_of_yesterday_is_no_sample() {
        let mut activation = Activation::default();
        activation.on_sample(at(3_000), 2_000, 5_000, 1_000);
        activation.on_sample(at(3_000), 0, 5_000, ROUND_TRIP_MAX_NS + 1);
        assert_eq!(activation.error(), None);
    }

    #[test]
    fn a_wall_clock_that_is_set_between_two_samples_moves_nothing() {
        let (mut activation, hour) = (Activation::default(), 3_600_000_000_000);
        activation.on_sample(at(1_010), 500, 9_005, 510);
        activation.on_sample(at(2_020), hour + 1_500, 10_010, hour + 1_520);
        assert_eq!(activation.controller(at(3_000)), Some(11_000));
    }

    #[test]
    fn the_error_is_at_most_half_the_round_trip_whatever_the_path() {
        for there in 0..=100 {
            let mut activation = Activation::default();
            // True offset 1,000; `there` of 100 ns of the round trip pass on the way there.
            activation.on_sample(at(100), 0, there + 1_000, 100);
            let error = activation.offset().unwrap() - 1_000;
            assert!(error.unsigned_abs() <= activation.error().unwrap(), "{there}: {error}");
        }
    }

    #[test]
    fn a_clock_ahead_of_the_ccm_has_a_negative_offset() {
        let mut activation = Activation::default();
        activation.on_sample(at(10_000), 10_000, 4_000, 10_000);
        assert_eq!(activation.offset(), Some(-6_000));
        assert_eq!(activation.controller(at(10_001)), Some(4_001));
    }
}
