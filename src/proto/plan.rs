//! What a pass sends: which frames of which blocks, in which order (LD-14, design D4).
//!
//! Pass 1 sends every source frame that somebody lacks. A later pass sends of each block as many frames as
//! the worst member lacks: parity that was not sent before while there is some, then the block's frames over
//! again from the first on.

use super::aggregate::Aggregate;
use super::fec::SYMBOLS_MAX;
use crate::wire::assignment::Shape;
use crate::wire::nack::Nack;
use crate::wire::session::source_frames;

/// Consecutive frames of one block: block, first index, count.
pub type Stretch = (u32, u16, u16);

/// The plan of the pass at hand, and what was sent of every block so far.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    payload: usize,
    lacks: Aggregate,
    /// Frames sent of each block. Modulo the block's number of frames it is the next one's index; from that
    /// number on all were sent once.
    sent_of: Vec<u16>,
    block: u32,
    left: u16,
    effort: Effort,
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
    pub fn new(shape: Shape, payload: u16) -> Self {
        let blocks = shape.blocks();
        Self {
            shape,
            payload: payload.into(),
            lacks: Aggregate::new(blocks),
            sent_of: vec![0; blocks as usize],
            block: 0,
            left: 0,
            effort: Effort::default(),
        }
    }

    /// Frames of the whole object.
    pub fn source_frames(&self) -> u64 {
        (0..self.shape.blocks()).map(|block| u64::from(self.sources(block))).sum()
    }

    /// Nothing lacks.
    pub fn clear(&mut self) {
        self.lacks.clear();
    }

    /// Every source frame lacks.
    pub fn fill(&mut self) {
        let (shape, payload) = (self.shape, self.payload);
        self.lacks.fill(|block| source_frames(shape.block(block).1, payload));
    }

    /// Takes in what a member lacks. Returns in how many frames, as a measure of its progress: what the list
    /// had no room for counts as if all of it were lacking.
    pub fn merge(&mut self, nack: &Nack) -> u64 {
        let named = self.lacks.merge(nack);
        let end = nack.lacks.last().map_or(0, |lack| lack.first.saturating_add(lack.count));
        let unnamed = if nack.more { self.shape.blocks().saturating_sub(end) } else { 0 };
        named + u64::from(unnamed) * u64::from(SYMBOLS_MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.lacks.is_empty()
    }

    /// Begins a pass that sends what lacks now.
    pub fn begin(&mut self, effort: Effort) {
        self.effort = effort;
        self.go_to(0);
    }

    /// Whether the pass has frames left to send.
    pub const fn has_work(&self) -> bool {
        self.left > 0
    }

    /// The next frames of the pass, at most `most`, which is not 0; they count as sent.
    pub fn advance(&mut self, most: u16) -> Option<Stretch> {
        if self.left == 0 || most == 0 {
            return None;
        }
        let block = self.block;
        let (k, symbols) = (self.sources(block), self.symbols(block));
        let sent = &mut self.sent_of[block as usize];
        let first = *sent % symbols;
        let end = if first < k { k } else { symbols };
        let count = most.min(self.left).min(end - first);
        *sent += count;
        if *sent >= 2 * symbols {
            // Keeps the place in the round and that all were sent once, without ever overflowing.
            *sent -= symbols;
        }
        self.left -= count;
        if self.left == 0 {
            self.go_to(block + 1);
        }
        Some((block, first, count))
    }

    fn go_to(&mut self, from: u32) {
        let next = self.lacks.next_lacking(from);
        (self.block, self.left) = next.map_or((0, 0), |block| (block, self.wanted(block)));
    }

    fn sources(&self, block: u32) -> u16 {
        source_frames(self.shape.block(block).1, self.payload)
    }

    /// Frames that a block can have. One source frame is its own parity.
    fn symbols(&self, block: u32) -> u16 {
        if self.sources(block) == 1 { 1 } else { SYMBOLS_MAX }
    }

    /// Frames of a block that this pass sends, for a block that lacks some.
    fn wanted(&self, block: u32) -> u16 {
        let (k, symbols) = (self.sources(block), self.symbols(block));
        // Whatever a list says, a block cannot lack more than it has.
        let lack = self.lacks.lack(block).min(k);
        let Effort { first, loss, stalled } = self.effort;
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
