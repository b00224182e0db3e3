//! Lists of what members lack: merged into what the next pass must bring, per block the largest lack
//! (LD-14, design D4), and made short enough for a message.
//!
//! One parity frame replaces whichever frame a member lost, so the largest lack serves all of them.
//! Memory is one byte per block however many members answer (T20).

use crate::wire::nack::{Lack, Nack};

/// What the members of a session lack, block by block.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Frames; a block has at most 255.
    lacks: Vec<u8>,
}

impl Aggregate {
    /// Nothing lacks in any of `blocks` blocks.
    pub fn new(blocks: u32) -> Self {
        Self { lacks: vec![0; blocks as usize] }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.lacks.fill(0);
    }

    /// Takes in one member's list; blocks that do not exist are passed over. Returns the frames that it
    /// names in all.
    pub fn merge(&mut self, nack: &Nack) -> u64 {
        let blocks = self.lacks.len();
        let mut total = 0;
        for lack in &nack.lacks {
            let first = (lack.first as usize).min(blocks);
            let end = first.saturating_add(lack.count as usize).min(blocks);
            let frames = u8::try_from(lack.lack).unwrap_or(u8::MAX);
            for most in &mut self.lacks[first..end] {
                *most = frames.max(*most);
            }
            total += (end - first) as u64 * u64::from(frames);
        }
        total
    }

    /// Every block lacks what `frames` says of it.
    pub fn fill(&mut self, frames: impl Fn(u32) -> u16) {
        for (block, most) in self.lacks.iter_mut().enumerate() {
            *most = u8::try_from(frames(block as u32)).unwrap_or(u8::MAX);
        }
    }

    /// Frames that the block lacks at the member that lacks most of it.
    pub fn lack(&self, block: u32) -> u16 {
        u16::from(self.lacks[block as usize])
    }

    /// The first block from `from` on that lacks something.
    pub fn next_lacking(&self, from: u32) -> Option<u32> {
        let rest = self.lacks.get(from as usize..)?;
        rest.iter().position(|&lack| lack > 0).map(|ahead| from + ahead as u32)
    }

    pub fn is_empty(&self) -> bool {
        self.next_lacking(0).is_none()
    }
}

/// Joins neighbouring runs, those first that cost fewest frames more than needed, until the list fits a
/// message or would ask for more than twice what lacks and `spare` frames. Without that, a file of gigabytes
/// with a little loss everywhere would take a pass for every hundred of its blocks.
pub fn coarsen(runs: &mut Vec<Lack>, spare: u64) {
    let asked =
        |runs: &[Lack]| runs.iter().map(|run| u64::from(run.count) * u64::from(run.lack)).sum::<u64>();
    let most = asked(runs) * 2 + spare;
    let mut limit = 1;
    while runs.len() > Nack::LACKS_MAX {
        let mut joined: Vec<Lack> = Vec::with_capacity(runs.len());
        for &run in &*runs {
            let Some(last) = joined.last_mut() else {
                joined.push(run);
                continue;
            };
            let both = Lack {
                first: last.first,
                count: run.first + run.count - last.first,
                lack: last.lack.max(run.lack),
            };
            if asked(&[both]) - asked(&[*last, run]) <= limit {
                *last = both;
            } else {
                joined.push(run);
            }
        }
        if asked(&joined) > most {
            return;
        }
        *runs = joined;
        limit *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::SessionId;

    fn nack(lacks: &[(u32, u32, u16)]) -> Nack {
        let lacks = lacks.iter().map(|&(first, count, lack)| Lack { first, count, lack }).collect();
        Nack { session: SessionId(1), pass: 1, lacks, more: false, failed: false }
    }

    #[test]
    fn each_block_lacks_what_the_worst_member_lacks_not_the_sum() {
        let mut all = Aggregate::new(8);
        assert_eq!(all.merge(&nack(&[(0, 2, 1), (5, 1, 3)])), 5);
        assert_eq!(all.merge(&nack(&[(1, 4, 2)])), 8);
        let lacks: Vec<u16> = (0..8).map(|block| all.lack(block)).collect();
        assert_eq!(lacks, [1, 2, 2, 2, 2, 3, 0, 0]);
        assert_eq!((all.next_lacking(0), all.next_lacking(5), all.next_lacking(6)), (Some(0), Some(5), None));
        assert_eq!(all.next_lacking(100), None);
        all.clear();
        assert!(all.is_empty());
    }

    #[test]
    fn a_list_beyond_the_object_is_cut_at_its_end() {
        let mut all = Aggregate::new(4);
        assert_eq!(all.merge(&nack(&[(3, u32::MAX - 3, 1_000), (u32::MAX, 1, 1)])), 255);
        assert_eq!((all.lack(2), all.lack(3)), (0, 255));
    }

    #[test]
    fn a_list_too_scattered_to_coarsen_is_cut_and_says_so() {
        let mut runs: Vec<Lack> =
            (0..1_000).map(|run| Lack { first: run * 1_000, count: 1, lack: 1 + (run % 2) as u16 }).collect();
        coarsen(&mut runs, 100);
        assert!(runs.len() > Nack::LACKS_MAX);
    }
}
