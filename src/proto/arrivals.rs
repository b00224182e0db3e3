//! Which frames of a session arrived, by the number that the sender gave each, and which of the others are lost.
//!
//! A frame that others have overtaken is not lost. It counts as lost when it has been behind for longer than
//! frames here ever come late: at first for [`Arrivals::new`]'s `least`, then for a quarter more than the latest
//! that came in the last seconds, as TCP's RACK does. Numbers up to the *settled* one have arrived or are lost.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// A number of which the low 32 bits were told, near one that is known.
pub const fn expand(near: u64, low: u32) -> u64 {
    let ahead = low.wrapping_sub(near as u32);
    if ahead < 1 << 31 || near < (1 << 32) - ahead as u64 {
        near + ahead as u64
    } else {
        near - ((1 << 32) - ahead as u64)
    }
}

/// Frames of one session that arrived here.
#[derive(Clone, Debug)]
pub struct Arrivals {
    seen: u64,
    /// Arrived last, but for those that overtook many.
    latest: u64,
    settled: u64,
    /// Of the numbers up to `settled`.
    received: u64,
    /// One bit for each of the last numbers, by number modulo [`Self::WINDOW`].
    recent: Box<[u64; Self::WORDS]>,
    /// When the highest number was raised last.
    raised: Instant,
    /// When it was raised before, and to what; the oldest first.
    marks: VecDeque<(u64, Instant)>,
    /// The first mark that is not settled.
    unsettled: usize,
    lateness: Lateness,
}

/// How late frames come.
#[derive(Clone, Copy, Debug)]
struct Lateness {
    least: Duration,
    /// The latest frame of this period, and of the one before.
    now: Duration,
    before: Duration,
    turns: Instant,
}

impl Lateness {
    /// How long an overtaken frame is waited for at most, whatever was seen.
    const MOST: Duration = Duration::from_millis(250);
    /// For so long, and once more, a late frame is remembered.
    const PERIOD: Duration = Duration::from_secs(4);

    fn note(&mut self, now: Instant, late: Duration) {
        if now >= self.turns {
            let is_old = now >= self.turns + Self::PERIOD;
            self.before = if is_old { Duration::ZERO } else { self.now };
            (self.now, self.turns) = (Duration::ZERO, now + Self::PERIOD);
        }
        self.now = self.now.max(late);
    }

    fn allowance(&self) -> Duration {
        (self.now.max(self.before) * 5 / 4).clamp(self.least, Self::MOST.max(self.least))
    }
}

impl Arrivals {
    const WORDS: usize = 256;
    const WINDOW: u64 = 64 * Self::WORDS as u64;
    /// Marks that are kept, and the least time between two.
    const MARKS: usize = 256;
    /// Numbers between two frames that follow each other, with losses between.
    pub const JUMP: u64 = 16;
    const APART: Duration = Duration::from_micros(250);

    pub fn new(least: Duration) -> Self {
        Self {
            seen: 0,
            latest: 0,
            settled: 0,
            received: 0,
            recent: Box::new([0; Self::WORDS]),
            raised: Instant::ZERO,
            marks: VecDeque::with_capacity(Self::MARKS),
            unsettled: 0,
            lateness: Lateness { least, now: Duration::ZERO, before: Duration::ZERO, turns: Instant::ZERO },
        }
    }

    /// Highest number; 0 before the first frame.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// The number that arrived last, but for those that overtook many: from these nobody can tell how long frames
    /// take. 0 before the first frame.
    pub const fn latest(&self) -> u64 {
        self.latest
    }

    /// Up to this number every frame has arrived or is lost.
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// Frames with numbers up to the settled one, each counted once.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// For how long a frame that was overtaken is waited for.
    pub fn allowance(&self) -> Duration {
        self.lateness.allowance()
    }

    /// A frame with this number arrived. Returns the number with its high bits.
    pub fn note(&mut self, now: Instant, sent: u32) -> u64 {
        let number = expand(self.seen, sent);
        if self.seen == 0 || number <= self.seen + Self::JUMP {
            self.latest = number;
        }
        if number > self.seen {
            self.advance(now, number);
        } else if self.seen - number >= Self::WINDOW || self.has(number) {
            // There before, or too late to tell.
            return number;
        } else {
            self.lateness.note(now, self.late_by(now, number));
            self.received += u64::from(number <= self.settled);
        }
        self.recent[Self::word(number)] |= 1 << (number % 64);
        self.settle(now);
        number
    }

    /// Settles what has waited long enough.
    pub fn settle(&mut self, now: Instant) {
        let allowance = self.allowance();
        while let Some(&(number, at)) = self.marks.get(self.unsettled) {
            if at + allowance > now {
                break;
            }
            self.settle_to(number);
            self.unsettled += 1;
        }
        if self.raised + allowance <= now {
            self.settle_to(self.seen);
        }
        while self.settled < self.seen && self.has(self.settled + 1) {
            self.settled += 1;
            self.received += 1;
        }
    }

    /// When more settles although nothing arrives.
    pub fn settles_at(&self) -> Option<Instant> {
        let mut waiting = self.marks.range(self.unsettled.min(self.marks.len())..);
        let next = waiting.find(|(number, _)| *number > self.settled).map_or(self.raised, |(_, at)| *at);
        (self.settled < self.seen).then(|| next + self.allowance())
    }

    fn advance(&mut self, now: Instant, number: u64) {
        // Of what went before the first frame nothing is known.
        if self.seen == 0 || number - self.seen >= Self::WINDOW {
            self.settle_to(self.seen);
            self.recent.fill(0);
            self.settled = number - 1;
        } else {
            if number - self.settled > Self::WINDOW {
                self.settle_to(number - Self::WINDOW);
            }
            for skipped in self.seen + 1..number {
                self.recent[Self::word(skipped)] &= !(1 << (skipped % 64));
            }
        }
        (self.seen, self.raised) = (number, now);
        let apart = (self.allowance() / 64).max(Self::APART);
        if self.marks.back().is_none_or(|(_, at)| now >= *at + apart) {
            if self.marks.len() == Self::MARKS {
                self.marks.pop_front();
                self.unsettled = self.unsettled.saturating_sub(1);
            }
            self.marks.push_back((number, now));
        }
    }

    /// Since when a frame has been overtaken, as far as the marks say.
    fn late_by(&self, now: Instant, number: u64) -> Duration {
        let first = self.marks.partition_point(|(mark, _)| *mark < number);
        let since = self.marks.get(first).map_or(self.raised, |(_, at)| *at);
        now.since(since)
    }

    fn settle_to(&mut self, number: u64) {
        while self.settled < number {
            self.settled += 1;
            self.received += u64::from(self.has(self.settled));
        }
    }

    fn has(&self, number: u64) -> bool {
        self.recent[Self::word(number)] >> (number % 64) & 1 == 1
    }

    const fn word(number: u64) -> usize {
        (number % Self::WINDOW / 64) as usize
    }
}

#[cfg(test)]
mod tests;
