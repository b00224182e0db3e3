//! How reliable a node has been of late, measured and kept over restarts (EL-12).
//!
//! Counted are the time in which it had a leader or led, of all the time that it ran; its crashes, that is lives
//! that ended without a word; and the times that it lost its leader. Everything fades by half in a day, so that
//! a machine that was mended is believed again.

use super::state_file::{self, StateError};
use crate::time::{Duration, Instant};
use crate::wire::{Decoder, Encoder, Malformed};
use std::path::{Path, PathBuf};

const FILE: &str = "reliability";
/// What was counted is worth half after so long.
const HALF_LIFE_S: f64 = 86_400.0;
/// So much is written down at least; a crash loses no more.
const SAVE_PERIOD: Duration = Duration::from_secs(60);
/// Crashes that halve what speaks for a node, and losses of its leader that do.
const CRASHES_HALVE: f64 = 2.0;
const LOSSES_HALVE: f64 = 50.0;
/// Before so much was seen, a node counts as reliable as far as the rest of this time is concerned.
const CREDIT_S: f64 = 600.0;

/// Faded sums; times in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Record {
    healthy_s: f64,
    total_s: f64,
    crashes: f64,
    losses: f64,
    /// When it was written, nanoseconds since 1970.
    at_ns: u64,
    /// The life that wrote it said that it ends.
    ended: bool,
}

impl Record {
    fn fade(&mut self, seconds: f64) {
        let left = 0.5_f64.powf(seconds.max(0.0) / HALF_LIFE_S);
        for sum in [&mut self.healthy_s, &mut self.total_s, &mut self.crashes, &mut self.losses] {
            *sum *= left;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        for sum in [self.healthy_s, self.total_s, self.crashes, self.losses] {
            out.u64(sum.to_bits());
        }
        out.u64(self.at_ns).bool(self.ended).finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let mut sum = || match f64::from_bits(from.u64("sum")?) {
            sum if sum.is_finite() && sum >= 0.0 => Ok(sum),
            _ => Err(Malformed::OutOfBounds("sum")),
        };
        let (healthy_s, total_s, crashes, losses) = (sum()?, sum()?, sum()?, sum()?);
        let (at_ns, ended) = (from.u64("time")?, from.bool("ended")?);
        from.finish()?;
        Ok(Self { healthy_s, total_s, crashes, losses, at_ns, ended })
    }
}

/// The record of a node, open for as long as it runs.
#[derive(Debug)]
pub struct Reliability {
    path: PathBuf,
    record: Record,
    seen: Instant,
    saved: Instant,
    /// Losses of the leader as counted by the engine, which begins at 0 with each life.
    losses: u64,
}

impl Reliability {
    /// Takes up the record of the lives before; one that did not say that it ends crashed. A record that
    /// cannot be read is begun anew: it is not worth a refusal to start.
    pub fn open(state_dir: &Path, now: Instant, wall_ns: u64) -> Self {
        let path = state_dir.join(FILE);
        let read = match state_file::read(&path) {
            Ok(content) => content.and_then(|bytes| Record::decode(&bytes).ok()),
            Err(error) => {
                log::warn!("{error}: the record of this node's reliability begins anew");
                None
            }
        };
        let mut record = read.unwrap_or(Record { ended: true, ..Record::default() });
        record.fade(wall_ns.saturating_sub(record.at_ns) as f64 / 1e9);
        record.crashes += f64::from(u8::from(!record.ended));
        record.ended = false;
        let mut reliability = Self { path, record, seen: now, saved: now, losses: 0 };
        reliability.save(now, wall_ns);
        reliability
    }

    /// Takes in how the node fares: whether it leads or is registered, and how often it lost its leader so far.
    pub fn observe(&mut self, now: Instant, wall_ns: u64, healthy: bool, losses: u64) {
        let seconds = now.since(self.seen).as_secs_f64();
        self.seen = now;
        self.record.fade(seconds);
        self.record.total_s += seconds;
        self.record.healthy_s += if healthy { seconds } else { 0.0 };
        self.record.losses += losses.saturating_sub(self.losses) as f64;
        self.losses = losses;
        if now.since(self.saved) >= SAVE_PERIOD {
            self.save(now, wall_ns);
        }
    }

    /// What speaks for the node, 0 to 1.
    pub fn share(&self) -> f64 {
        let Record { healthy_s, total_s, crashes, losses, .. } = self.record;
        let credit = (CREDIT_S - total_s).max(0.0);
        let healthy = (healthy_s + credit) / (total_s + credit);
        healthy / (1.0 + crashes / CRASHES_HALVE) / (1.0 + losses / LOSSES_HALVE)
    }

    /// Crashes and losses of the leader that count at present, rounded.
    pub fn counted(&self) -> (u64, u64) {
        (self.record.crashes.round() as u64, self.record.losses.round() as u64)
    }

    /// The node ends as it should.
    pub fn close(&mut self, now: Instant, wall_ns: u64) {
        self.record.ended = true;
        self.save(now, wall_ns);
    }

    fn save(&mut self, now: Instant, wall_ns: u64) {
        self.saved = now;
        self.record.at_ns = wall_ns;
        if let Err(error @ (StateError::System(..) | StateError::Damaged(..))) =
            state_file::write(&self.path, &self.record.encode())
        {
            log::warn!("{error}: the record of this node's reliability is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * S)
    }

    /// Runs for so many seconds, healthy or not; the wall clock stands where the other does.
    fn run(one: &mut Reliability, from: u64, seconds: u64, healthy: bool, losses: u64) {
        (from + 1..=from + seconds).for_each(|t| one.observe(at(t), t * S, healthy, losses));
    }

    #[test]
    fn a_node_that_is_well_is_reliable_and_one_without_a_leader_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = Reliability::open(dir.path(), at(0), 0);
        assert_eq!(one.share(), 1.0, "nothing is known against it");
        run(&mut one, 0, 1_000, true, 0);
        assert!((one.share() - 1.0).abs() < 1e-9);
        run(&mut one, 1_000, 1_000, false, 0);
        assert!((0.49..0.51).contains(&one.share()), "{}", one.share());
        run(&mut one, 2_000, 1, false, 50);
        assert!((0.24..0.26).contains(&one.share()), "{}", one.share());
        assert_eq!(one.counted(), (0, 50));
    }

    #[test]
    fn a_crash_counts_a_clean_end_does_not_and_both_survive_the_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Reliability::open(dir.path(), at(0), 0);
        run(&mut first, 0, 600, true, 7);
        first.close(at(600), 600 * S);
        let second = Reliability::open(dir.path(), at(0), 601 * S);
        assert_eq!(second.counted(), (0, 7));
        drop(second);
        let third = Reliability::open(dir.path(), at(0), 602 * S);
        assert_eq!(third.counted(), (1, 7), "the second ended without a word");
        assert!((third.share() - 1.0 / 1.5 / 1.14).abs() < 0.01, "{}", third.share());
        drop(third);
        let mut later = Reliability::open(dir.path(), at(0), (602 + 5 * 86_400) * S);
        assert_eq!(later.counted(), (1, 0), "but for the last crash, it is forgotten");
        later.close(at(1), (603 + 5 * 86_400) * S);
    }

    #[test]
    fn a_damaged_record_begins_anew_and_a_clock_that_went_back_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"rubbish").unwrap();
        let mut one = Reliability::open(dir.path(), at(0), 500 * S);
        assert_eq!((one.counted(), one.share()), ((0, 0), 1.0));
        one.close(at(1), 500 * S);
        assert_eq!(Reliability::open(dir.path(), at(0), 3).share(), 1.0);
        let nan = Record { losses: f64::NAN, ..Record::default() };
        assert!(Record::decode(&nan.encode()).is_err());
    }
}
