//! What a list that comes while a pass runs may still ask for: nothing is sent again for a second list that
//! cannot know of it (T20).
//!
//! A list says up to which frame its member knows what arrived and what is lost. Of a block whose last frame went
//! out later it says nothing yet: that frame may be just what lacks. And in one pass a block is repaired by no more
//! frames than it has, whatever lists say.

/// Of each block: the number of the last frame that was sent of it, and how many this pass sent beside its plan.
#[derive(Clone, Debug, Default)]
pub struct Suppress {
    last_sent: Vec<u64>,
    repaired: Vec<u8>,
}

impl Suppress {
    pub fn new(blocks: u32) -> Self {
        Self { last_sent: vec![0; blocks as usize], repaired: vec![0; blocks as usize] }
    }

    /// Frames of the block went out; the last of them was number `sent`.
    pub fn on_sent(&mut self, block: u32, sent: u64) {
        if let Some(last) = self.last_sent.get_mut(block as usize) {
            *last = sent;
        }
    }

    /// A new pass begins.
    pub fn on_pass(&mut self) {
        self.repaired.fill(0);
    }

    /// Whether a list of somebody who knows all up to frame `settled` tells anything about the block, and the block may
    /// still be repaired in this pass.
    pub fn counts(&self, block: u32, settled: u64) -> bool {
        let block = block as usize;
        self.last_sent.get(block).is_some_and(|last| *last <= settled) && self.repaired[block] < u8::MAX
    }

    /// So many frames of the block are sent for a list, of `k` that it has. The last that it may have in this
    /// pass closes it.
    pub fn on_repaired(&mut self, block: u32, count: u16, k: u16) {
        if let Some(repaired) = self.repaired.get_mut(block as usize) {
            let all = u16::from(*repaired).saturating_add(count);
            *repaired = if all >= k { u8::MAX } else { all as u8 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_know_of_a_frame_says_nothing_about_its_block() {
        let mut suppress = Suppress::new(3);
        suppress.on_sent(0, 10);
        suppress.on_sent(1, 20);
        assert_eq!([0, 1, 2, 3].map(|block| suppress.counts(block, 15)), [true, false, true, false]);
        suppress.on_sent(0, 21);
        assert!(!suppress.counts(0, 20) && suppress.counts(0, 21));
    }

    #[test]
    fn a_block_is_repaired_at_most_once_over_in_a_pass() {
        let mut suppress = Suppress::new(1);
        suppress.on_repaired(0, 9, 10);
        assert!(suppress.counts(0, 0));
        suppress.on_repaired(0, 1, 10);
        assert!(!suppress.counts(0, 0));
        suppress.on_pass();
        assert!(suppress.counts(0, 0));
    }
}
