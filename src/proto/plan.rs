//! What a pass sends: which frames of which blocks, in which order (LD-14, design D4).
//!
//! Pass 1 sends every source frame that somebody lacks. A later pass sends, in a session that resends, the
//! union of what was named. In one that repairs by parity it sends of each block as many frames as the worst
//! member lacks: parity that was not sent before while there is some, then the block's frames over again from
//! the first on. Where the members that lack much lack the same frames, those frames are sent instead: they
//! cost no more, and nobody has to compute.

use super::aggregate::{Aggregate, Bits, BlockLack, count_bits, first_bits, first_run, set_bits};
use super::fec::SYMBOLS_MAX;
use crate::wire::assignment::Shape;
use crate::wire::nack::Nack;
use crate::wire::session::{Repair, source_frames};
use std::collections::BTreeSet;

/// Consecutive frames of one block: block, first index, count.
pub type Stretch = (u32, u16, u16);

/// Frames that a block must lack before anybody names them: rebuilding so many or fewer costs little.
pub const NAMED_FROM: u16 = 16;
/// Named frames are sent instead of parity if they are at most so many for each that the worst member lacks.
const COMMON: f64 = 1.25;

/// The plan of the pass at hand, what answers ask of the next, and what was sent of every block so far.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    payload: usize,
    repair: Repair,
    /// What the pass sends.
    now: Aggregate,
    /// What the next one will.
    next: Aggregate,
    /// What goes before the rest of the pass (LD-15), and of which blocks that is something.
    urgent: Aggregate,
    queue: BTreeSet<u32>,
    /// Frames sent of each block, sources counted as sent: modulo the number that it can have this is the next
    /// repair frame; from that number on all were sent once.
    sent_of: Vec<u16>,
    /// Blocks of the pass that were looked at.
    begun: u32,
    work: Work,
    effort: Effort,
}

/// What is still to be sent of a block: these sources, then so many frames of repair.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    block: u32,
    sources: Bits,
    repair: u16,
    urgent: bool,
}

impl Work {
    const fn is_done(&self) -> bool {
        self.repair == 0 && (self.sources[0] | self.sources[1] | self.sources[2] | self.sources[3]) == 0
    }
}

/// How much more than what lacks a pass sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// The first pass: no more than the source frames.
    pub first: bool,
    /// Share of frames that the worst member will lose on the way, below 1.
    pub loss: f64,
    /// Passes in a row that brought some member nothing.
    pub stalled: u16,
}

impl Plan {
    pub fn new(shape: Shape, payload: u16, repair: Repair) -> Self {
        let blocks = shape.blocks();
        let payload = usize::from(payload);
        let sources = |block| source_frames(shape.block(block).1, payload);
        Self {
            shape,
            payload,
            repair,
            now: Aggregate::new(blocks),
            next: Aggregate::new(blocks),
            urgent: Aggregate::new(0),
            queue: BTreeSet::new(),
            sent_of: (0..blocks).map(sources).collect(),
            begun: blocks,
            work: Work::default(),
            effort: Effort::default(),
        }
    }

    /// Frames of the whole object.
    pub fn source_frames(&self) -> u64 {
        (0..self.shape.blocks()).map(|block| u64::from(self.sources(block))).sum()
    }

    /// Source frames of a block.
    pub fn sources(&self, block: u32) -> u16 {
        source_frames(self.shape.block(block).1, self.payload)
    }

    /// Nothing is asked of the next pass.
    pub fn clear(&mut self) {
        self.next.clear();
    }

    /// The next pass is to bring every source frame.
    pub fn fill(&mut self) {
        let (shape, payload) = (self.shape, self.payload);
        self.next.fill(|block| source_frames(shape.block(block).1, payload));
    }

    /// Takes in what a member lacks, of blocks for which `counts` says so, for the next pass. Returns in how many
    /// frames.
    pub fn merge(&mut self, nack: &Nack, counts: impl FnMut(u32) -> bool) -> u64 {
        let (shape, payload) = (self.shape, self.payload);
        self.next.merge(nack, |block| source_frames(shape.block(block).1, payload), counts)
    }

    /// Frames that a list had no room for, as a measure of progress: as if all behind its end were lacking.
    pub fn unnamed(&self, nack: &Nack) -> u64 {
        let end = nack.lacks.last().map_or(0, |lack| lack.first.saturating_add(lack.count));
        let end = nack.ranges.last().map_or(end, |range| end.max(range.block));
        let blocks = if nack.more { self.shape.blocks().saturating_sub(end) } else { 0 };
        u64::from(blocks) * u64::from(SYMBOLS_MAX)
    }

    /// Takes in what a member lacks, of blocks for which `counts` says so, to be sent before the pass goes on.
    /// Returns in how many frames.
    pub fn merge_urgent(&mut self, nack: &Nack, mut counts: impl FnMut(u32) -> bool) -> u64 {
        let (shape, payload) = (self.shape, self.payload);
        if self.urgent.is_unused() {
            self.urgent = Aggregate::new(shape.blocks());
        }
        let (urgent, queue) = (&mut self.urgent, &mut self.queue);
        let counts = |block| {
            let taken = counts(block);
            if taken {
                queue.insert(block);
            }
            taken
        };
        urgent.merge(nack, |block| source_frames(shape.block(block).1, payload), counts)
    }

    /// Nothing is asked of the next pass.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Begins a pass that sends what was asked for since.
    pub fn begin(&mut self, effort: Effort) {
        self.effort = effort;
        std::mem::swap(&mut self.now, &mut self.next);
        self.next.clear();
        (self.begun, self.work) = (0, Work::default());
        self.go_on();
    }

    /// Whether the pass has frames left to send.
    pub fn has_work(&self) -> bool {
        !self.work.is_done() || !self.queue.is_empty()
    }

    /// The next frames of the pass, at most `most`, which is not 0; they count as sent. True where they go before
    /// the rest of the pass for a list that came meanwhile.
    pub fn advance(&mut self, most: u16) -> Option<(Stretch, bool)> {
        if most == 0 {
            return None;
        }
        if self.work.is_done() {
            self.go_on();
        }
        let (block, urgent) = (self.work.block, self.work.urgent);
        let stretch = if let Some((first, run)) = first_run(&self.work.sources) {
            let count = run.min(most);
            let mut taken = Bits::default();
            set_bits(&mut taken, first, count);
            for (left, taken) in self.work.sources.iter_mut().zip(taken) {
                *left &= !taken;
            }
            (block, first, count)
        } else if self.work.repair > 0 {
            let (k, symbols) = (self.sources(block), self.symbols(block));
            let sent = &mut self.sent_of[block as usize];
            let first = *sent % symbols;
            let end = if first < k { k } else { symbols };
            let count = most.min(self.work.repair).min(end - first);
            *sent += count;
            if *sent >= 2 * symbols {
                // Keeps the place in the round and that all were sent once, without ever overflowing.
                *sent -= symbols;
            }
            self.work.repair -= count;
            (block, first, count)
        } else {
            return None;
        };
        if self.work.is_done() {
            self.go_on();
        }
        Some((stretch, urgent))
    }

    /// To the next block of which something is to be sent, if there is one.
    fn go_on(&mut self) {
        while self.work.is_done() {
            let (block, lack, urgent) = if let Some(block) = self.queue.pop_first() {
                (block, self.urgent.take(block), true)
            } else if let Some(block) = self.now.next_lacking(self.begun) {
                self.begun = block + 1;
                (block, self.now.lack(block), false)
            } else {
                self.begun = self.shape.blocks();
                return;
            };
            self.work = Work { urgent, ..self.compose(block, lack, urgent) };
        }
    }

    /// Frames that a block can have. One source frame is its own parity.
    fn symbols(&self, block: u32) -> u16 {
        if self.sources(block) == 1 { 1 } else { SYMBOLS_MAX }
    }

    /// What is sent of a block that lacks so much.
    fn compose(&self, block: u32, lack: BlockLack, urgent: bool) -> Work {
        let BlockLack { counted, most_named, named } = lack;
        let k = self.sources(block);
        let of_sources = |sources| Work { block, sources, ..Work::default() };
        let effort = Effort { first: self.effort.first && !urgent, ..self.effort };
        if counted >= k && (effort.first || k > NAMED_FROM || self.repair == Repair::Resend) {
            // Somebody lacks all of it, and with all of it everybody is served.
            return of_sources(first_bits(k));
        }
        let names = count_bits(&named);
        if self.repair == Repair::Resend {
            return of_sources(named);
        }
        if names > 0 && f64::from(names) <= f64::from(most_named) * COMMON {
            // Of the frames that others only counted, this share is among those sent.
            let apart = (counted * (k - names)).div_ceil(k);
            return Work { repair: self.wanted(block, apart, effort), ..of_sources(named) };
        }
        Work { block, repair: self.wanted(block, counted.max(most_named), effort), ..Work::default() }
    }

    /// Frames of repair for a block of which somebody lacks so many.
    fn wanted(&self, block: u32, lack: u16, effort: Effort) -> u16 {
        if lack == 0 {
            return 0;
        }
        let (k, symbols) = (self.sources(block), self.symbols(block));
        // Whatever a list says, a block cannot lack more than it has.
        let lack = lack.min(k);
        let Effort { first, loss, stalled } = effort;
        if first {
            return lack;
        }
        let fresh = symbols.saturating_sub(self.sent_of[block as usize]);
        // As many more as will be lost on the way, rounded down.
        let lack = f64::from(lack);
        let wanted = lack + (lack * loss / (1.0 - loss)).floor();
        if wanted <= f64::from(fresh) {
            return wanted as u16;
        }
        // The rest are frames sent before; a member has use only for those that it lost.
        let lost = f64::from(symbols - k) + lack;
        let again = (wanted - f64::from(fresh)) * f64::from(symbols) / lost;
        // Losses come in bursts: a member that got nowhere needs more than the average says.
        let again = again * f64::from(1_u16 << stalled.min(8));
        fresh + (again.ceil() as u16).min(symbols)
    }
}

#[cfg(test)]
mod tests;
