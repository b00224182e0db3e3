//! What a session's sender knows of how one member receives: its loss, and how long frames take to it.

use super::arrivals::expand;
use crate::time::{Duration, Instant};
use crate::wire::session::Progress;
use std::collections::VecDeque;

/// Frames that a report must cover before its loss says anything.
const WINDOW_MIN: u64 = 64;
/// Reports that tell the delay, by the third fastest: a frame that overtook others tells less than the link takes,
/// and one that lay in somebody's loop more.
const DELAYS: usize = 4;
const TYPICAL: usize = 2;
/// Part of the difference by which the least delay rises with each that is longer: a link that has become longer, or
/// one that few frames seemed to show shorter, is known for what it is after some ten seconds.
const FORGETS: u64 = 256;

/// When frames left, as far as it is still of use.
#[derive(Clone, Debug)]
pub struct Departures {
    marks: VecDeque<(u64, Instant)>,
}

impl Default for Departures {
    fn default() -> Self {
        Self { marks: VecDeque::with_capacity(Self::MOST) }
    }
}

impl Departures {
    const MOST: usize = 512;
    const APART: Duration = Duration::from_micros(200);

    /// Frames from `number` on leave now.
    pub fn note(&mut self, now: Instant, number: u64) {
        if self.marks.back().is_none_or(|(_, at)| now >= *at + Self::APART) {
            if self.marks.len() == Self::MOST {
                self.marks.pop_front();
            }
            self.marks.push_back((number, now));
        }
    }

    /// How long ago a frame left, or longer by a little.
    fn age(&self, now: Instant, number: u64) -> Option<Duration> {
        let behind = self.marks.partition_point(|(mark, _)| *mark <= number);
        behind.checked_sub(1).map(|at| now.since(self.marks[at].1))
    }
}

/// What a member reported last, and in this round.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    /// Numbers settled, and frames received of them, at the beginning of what is judged.
    base: (u64, u64),
    latest: (u64, u64),
    known: bool,
    /// Frames that came after they had been taken for lost, in all.
    late: u64,
    /// Of the frame that arrived last when it reported, whatever its place, unless it had overtaken many.
    delays: [Duration; DELAYS],
    delays_known: usize,
    /// Least delay, and least of this round. The first creeps up, lest one lucky frame be remembered for ever.
    least_delay: Option<Duration>,
    delay: Option<Duration>,
}

/// Frames that a member did not get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    pub share: f64,
    pub frames: u64,
    /// Only frames counted that were sent since the rate last changed.
    pub pure: bool,
}

impl Reception {
    /// It is there from the beginning: nothing was lost before its first report.
    pub fn present() -> Self {
        Self { known: true, ..Self::default() }
    }

    /// Takes in a report. The rate last changed when `epoch` frames had been sent.
    pub fn note(&mut self, now: Instant, departures: &Departures, epoch: u64, progress: &Progress) {
        let report = (expand(self.latest.0, progress.settled), expand(self.latest.1, progress.received));
        let frames = report.0.saturating_sub(self.latest.0);
        let arrived = report.1.saturating_sub(self.latest.1);
        let sane = report.0 >= self.latest.0 && report.1 >= self.latest.1 && report.1 <= report.0;
        if !self.known || !sane {
            // It came late, or began anew: it counts from here.
            self.base = report;
        } else {
            self.late += arrived.saturating_sub(frames);
            if self.base.0 < epoch && self.latest.0 >= epoch {
                self.base = self.latest;
            }
        }
        (self.latest, self.known) = (report, true);
        if let Some(delay) = departures.age(now, expand(report.0, progress.latest)) {
            self.delays[self.delays_known] = delay;
            self.delays_known += 1;
            if self.delays_known == DELAYS {
                self.delays_known = 0;
                self.delays.sort_unstable();
                let typical = self.delays[TYPICAL];
                self.delay = Some(self.delay.map_or(typical, |delay| delay.min(typical)));
                let least = |least: Duration| typical.min(least + (typical - least) / FORGETS);
                self.least_delay = Some(self.least_delay.map_or(typical, least));
            }
        }
    }

    /// What it lost; `None` if that says too little.
    pub fn loss(&self, epoch: u64) -> Option<Loss> {
        let all = self.latest.0.saturating_sub(self.base.0);
        let enough = all >= WINDOW_MIN && self.latest.0.saturating_sub(epoch) >= all / 2;
        let frames = all.saturating_sub(self.latest.1.saturating_sub(self.base.1));
        enough.then(|| Loss { share: frames as f64 / all as f64, frames, pure: self.base.0 >= epoch })
    }

    /// Frames that it got in this round.
    pub const fn arrived(&self) -> u64 {
        self.latest.1.saturating_sub(self.base.1)
    }

    /// Frames that came after they had been taken for lost, in all.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// How much longer frames took in this round than they take at least.
    pub fn queueing(&self) -> Option<Duration> {
        Some(self.delay? - self.least_delay?)
    }

    /// How long frames take there, and the report back, at least, but for those that overtake.
    pub const fn least_delay(&self) -> Option<Duration> {
        self.least_delay
    }

    /// A round begins.
    pub const fn begin(&mut self) {
        (self.base, self.delay) = (self.latest, None);
    }
}
