//! When a member tells of gaps before it is asked (LD-15, LD-16): where the pass stands, what lies behind.
//!
//! Blocks are sent in ascending order: when a frame of a later block has come in this pass, and frames before it
//! have arrived or are lost (see `arrivals`), what lacks of an earlier block was lost. Immediately: a list is due
//! shortly after a gap has shown, and again while it stays open. By time: one is due at fixed intervals while
//! frames arrive. Never more than one in [`Announce::nack_ms`].

use super::random::Rng;
use crate::time::{Duration, Instant};
use crate::wire::session::{Announce, RepairWhen};
use std::collections::VecDeque;

/// Blocks that began and wait for the frames before them. One more waits for its turn to be noticed.
const AHEAD_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Gaps {
    when: RepairWhen,
    /// Between two lists.
    apart: Duration,
    /// From a gap to its list at most, by chance, so that not all members speak at once.
    spread: Duration,
    pass: u16,
    /// Blocks below it have had their turn.
    front: u32,
    /// Later blocks, each with the number of the first frame that came of it or of one behind it.
    ahead: VecDeque<(u64, u32)>,
    due: Option<Instant>,
    /// No list before this.
    quiet_until: Instant,
}

impl Gaps {
    pub fn new(announce: &Announce) -> Self {
        let when = if announce.nack_ms == 0 { RepairWhen::PassEnd } else { announce.repair_when };
        Self {
            when,
            apart: Duration::from_millis(announce.nack_ms.into()),
            spread: Duration::from_millis(announce.spread_ms.into()),
            pass: 0,
            front: 0,
            ahead: VecDeque::with_capacity(AHEAD_MAX),
            due: None,
            quiet_until: Instant::ZERO,
        }
    }

    /// Whether anything is told unasked.
    pub const fn is_on(&self) -> bool {
        !matches!(self.when, RepairWhen::PassEnd)
    }

    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub const fn pass(&self) -> u16 {
        self.pass
    }

    /// Blocks below this one have had their turn in the pass.
    pub const fn front(&self) -> u32 {
        self.front
    }

    /// Whether a block's turn is over as soon as the frames before are settled.
    pub fn waits(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// A frame of the block arrived, with this number.
    pub fn on_frame(&mut self, now: Instant, pass: u16, block: u32, number: u64, rng: &mut Rng) {
        if pass > self.pass {
            (self.pass, self.front) = (pass, 0);
            self.ahead.clear();
        }
        let newest = self.ahead.back().map_or(self.front, |(_, block)| *block);
        if pass == self.pass && block > newest && self.ahead.len() < AHEAD_MAX {
            self.ahead.push_back((number, block));
        }
        if self.when == RepairWhen::Timed && self.due.is_none() {
            self.due = Some(now + self.apart / 2 + chance(rng, self.apart / 2));
        }
    }

    /// Frames up to number `settled` have arrived or are lost; `lacks` says whether a block is not whole.
    pub fn on_settled(&mut self, now: Instant, settled: u64, rng: &mut Rng, lacks: impl Fn(u32) -> bool) {
        while let Some((_, block)) = self.ahead.pop_front_if(|(number, _)| *number <= settled + 1) {
            let passed = self.front..block;
            self.front = block;
            if self.when == RepairWhen::Immediate && self.due.is_none() && { passed }.any(&lacks) {
                self.due = Some((now + chance(rng, self.spread)).max(self.quiet_until));
            }
        }
    }

    /// True where a list is to be sent now, if something lacks.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| now >= *due).is_some()
    }

    /// A list was sent: another one follows only if the gap stays.
    pub fn on_told(&mut self, now: Instant) {
        self.quiet_until = now + self.apart;
        if self.when == RepairWhen::Immediate {
            self.due = Some(self.quiet_until);
        }
    }

    /// The pass is over: what lacks is told in the answer to the leader's question.
    pub const fn on_question(&mut self) {
        self.due = None;
    }
}

fn chance(rng: &mut Rng, span: Duration) -> Duration {
    Duration::from_nanos(rng.below(span.as_nanos()))
}

#[cfg(test)]
mod tests;
