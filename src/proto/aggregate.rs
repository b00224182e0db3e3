//! What members lack, merged into what the next pass must bring (LD-14, design D4).
//!
//! Members that only count need as many frames of a block as the one that lacks most: a parity frame replaces
//! whichever frame each of them lost. What members name is a union: those very frames.
//! Memory is one byte per block however many members answer, and 33 more once somebody names frames (T20).

use crate::wire::nack::{FrameRange, Nack};

/// Frames of a block, one bit each.
pub type Bits = [u64; 4];

/// The first `count` frames, at most 256.
pub fn first_bits(count: u16) -> Bits {
    let mut bits = [0; 4];
    set_bits(&mut bits, 0, count);
    bits
}

/// Sets `count` bits from `first` on, as far as there are.
pub fn set_bits(bits: &mut Bits, first: u16, count: u16) {
    let end = first.saturating_add(count).min(256);
    for (at, word) in bits.iter_mut().enumerate() {
        let base = at as u16 * 64;
        let (from, to) = (first.clamp(base, base + 64) - base, end.clamp(base, base + 64) - base);
        if from < to {
            *word |= (u64::MAX >> (64 - (to - from))) << from;
        }
    }
}

pub fn count_bits(bits: &Bits) -> u16 {
    bits.iter().map(|word| word.count_ones() as u16).sum()
}

/// The first run of set bits: where it begins, how long it is.
pub fn first_run(bits: &Bits) -> Option<(u16, u16)> {
    let at = bits.iter().position(|word| *word != 0)?;
    let first = at as u16 * 64 + bits[at].trailing_zeros() as u16;
    let mut end = first;
    while end < 256 && bits[usize::from(end) / 64] >> (end % 64) & 1 == 1 {
        end += 1;
    }
    Some((first, end - first))
}

/// What a block lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLack {
    /// Most frames that a member lacks which named none of them.
    pub counted: u16,
    /// Most frames that a member lacks which named them.
    pub most_named: u16,
    /// All frames that were named.
    pub named: Bits,
}

/// What the members of a session lack, block by block.
#[derive(Clone, Debug)]
pub struct Aggregate {
    blocks: u32,
    /// Frames; a block has at most 255.
    counted: Vec<u8>,
    /// Empty until somebody names a frame.
    named: Vec<Named>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Named {
    most: u8,
    frames: Bits,
}

impl Aggregate {
    /// Nothing lacks in any of `blocks` blocks.
    pub fn new(blocks: u32) -> Self {
        Self { blocks, counted: vec![0; blocks as usize], named: Vec::new() }
    }

    /// Made for no blocks.
    pub const fn is_unused(&self) -> bool {
        self.blocks == 0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.counted.fill(0);
        self.named.fill(Named::default());
    }

    /// Takes in one member's list, of blocks for which `counts` says so; blocks and frames that do not exist are
    /// passed over. `sources` tells how many frames a block has. Returns the frames that lack in all.
    pub fn merge(
        &mut self,
        nack: &Nack,
        sources: impl Fn(u32) -> u16,
        mut counts: impl FnMut(u32) -> bool,
    ) -> u64 {
        let mut total = 0;
        // Blocks of which frames are named, as first and last of each range.
        let mut spans = Vec::with_capacity(nack.ranges.len());
        for (at, range) in nack.ranges.iter().enumerate() {
            let next = nack.ranges.get(at + 1).map_or((self.blocks, 0), |next| (next.block, next.first));
            spans.push((range.block, self.merge_range(range, next, &sources, &mut counts)));
        }
        let in_ranges: u64 = spans.iter().map(|(_, (_, frames))| frames).sum();
        let mut spans = spans.iter().map(|(first, (last, _))| (*first, *last)).peekable();
        for lack in &nack.lacks {
            let end = lack.first.saturating_add(lack.count).min(self.blocks);
            for block in lack.first.min(self.blocks)..end {
                let frames = lack.lack.min(sources(block)).min(u8::MAX.into());
                if !counts(block) {
                    continue;
                }
                total += u64::from(frames);
                while spans.next_if(|(_, last)| *last < block).is_some() {}
                let most = match spans.peek() {
                    Some((first, _)) if *first <= block => &mut self.named[block as usize].most,
                    _ => &mut self.counted[block as usize],
                };
                *most = (*most).max(frames as u8);
            }
        }
        total.max(in_ranges)
    }

    /// The range as far as it does not run into the `next`. Returns its last block, and its frames.
    fn merge_range(
        &mut self,
        range: &FrameRange,
        next: (u32, u16),
        sources: &impl Fn(u32) -> u16,
        counts: &mut impl FnMut(u32) -> bool,
    ) -> (u32, u64) {
        if self.named.is_empty() {
            self.named = vec![Named::default(); self.blocks as usize];
        }
        let (mut block, mut first, mut left) = (range.block, range.first, range.count);
        let mut total = 0;
        while left > 0 && (block, first) < next && block < self.blocks {
            let k = if block == next.0 { next.1.min(sources(block)) } else { sources(block) };
            let here = u32::from(k.saturating_sub(first)).min(left) as u16;
            if here > 0 && counts(block) {
                let named = &mut self.named[block as usize];
                set_bits(&mut named.frames, first, here);
                total += u64::from(here);
            }
            left -= u32::from(here);
            if left == 0 || (block == next.0 && k == first.saturating_add(here)) {
                break;
            }
            (block, first) = (block + 1, 0);
        }
        (block, total)
    }

    /// Every block lacks what `frames` says of it.
    pub fn fill(&mut self, frames: impl Fn(u32) -> u16) {
        for (block, most) in self.counted.iter_mut().enumerate() {
            *most = u8::try_from(frames(block as u32)).unwrap_or(u8::MAX);
        }
    }

    pub fn lack(&self, block: u32) -> BlockLack {
        let named = self.named.get(block as usize).copied().unwrap_or_default();
        BlockLack {
            counted: self.counted[block as usize].into(),
            most_named: named.most.into(),
            named: named.frames,
        }
    }

    /// What a block lacks, which then lacks nothing.
    pub fn take(&mut self, block: u32) -> BlockLack {
        let lack = self.lack(block);
        self.counted[block as usize] = 0;
        if let Some(named) = self.named.get_mut(block as usize) {
            *named = Named::default();
        }
        lack
    }

    /// The first block from `from` on that lacks something.
    pub fn next_lacking(&self, from: u32) -> Option<u32> {
        let rest = self.counted.get(from as usize..)?;
        let counted = rest.iter().position(|&lack| lack > 0);
        let named = self.named.get(from as usize..).unwrap_or_default();
        let named = named[..counted.unwrap_or(named.len()).min(named.len())]
            .iter()
            .position(|named| named.frames != Bits::default());
        named.or(counted).map(|ahead| from + ahead as u32)
    }

    pub fn is_empty(&self) -> bool {
        self.next_lacking(0).is_none()
    }
}

#[cfg(test)]
mod tests;
