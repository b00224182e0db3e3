//! Which members a session leaves behind because they hold back all others (LD-25).
//!
//! The slowest member sets the pace, for a bottleneck before many members is one that all share. One that alone,
//! or with few others, loses frames or has them waiting round after round has a bottleneck of its own. It is left
//! behind: neither rate nor window follow it, and what it lacks is repaired when all others have everything. If
//! the others turn out to be hardly faster, it is taken back and not left again.

use crate::wire::id::NodeId;
use std::collections::BTreeMap;

/// At most this part of the members, and one at least, may be left behind.
const FEW: usize = 4;
/// Signs of a bottleneck of its own after which a member is left behind. Each round in which it presses alone, or
/// in which the rate is still low because it did, is one more, with a heavy loss two; any other is one less.
const SIGNS: u8 = 4;
/// What the others must gain, or leaving somebody behind was of no use.
const GAIN: f64 = 1.25;

/// A member that pressed for a lower rate in this round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Press {
    pub node: NodeId,
    /// It loses or waits for much more than most do.
    pub alone: bool,
    /// It lost a good part of the frames.
    pub heavy: bool,
    /// Bytes per second that it got.
    pub got: f64,
}

/// Members left behind, and those that soon may be.
#[derive(Clone, Debug, Default)]
pub struct Laggards {
    /// Of each their number, and the most bytes per second that it got meanwhile.
    signs: BTreeMap<NodeId, (u8, f64)>,
    /// With what each got before.
    left: BTreeMap<NodeId, f64>,
    /// Nobody is left behind any more.
    settled: bool,
}

impl Laggards {
    pub fn is_left(&self, node: NodeId) -> bool {
        self.left.contains_key(&node)
    }

    pub fn left(&self) -> impl Iterator<Item = NodeId> {
        self.left.keys().copied()
    }

    /// Whether somebody may soon be left behind.
    pub fn is_pressed(&self) -> bool {
        !self.signs.is_empty()
    }

    /// Ends a round in which of so many members these pressed; `is_low` says whether the rate is still lower than
    /// before somebody did. True if members are left behind that were not.
    pub fn on_round(&mut self, members: usize, presses: &[Press], is_low: bool) -> bool {
        let most = (members / FEW).max(1);
        if self.settled || members < 2 {
            return false;
        }
        if presses.len() > most || presses.iter().any(|press| !press.alone) {
            self.signs.clear();
            return false;
        }
        self.signs.retain(|node, (signs, _)| {
            let rests = !presses.iter().any(|press| press.node == *node);
            match is_low {
                true => *signs += u8::from(rests),
                false => *signs -= u8::from(rests),
            }
            *signs > 0
        });
        for press in presses {
            let (signs, got) = self.signs.entry(press.node).or_default();
            *signs += 1 + u8::from(press.heavy);
            *got = got.max(press.got);
        }
        let mut leaves = false;
        for (&node, &(signs, got)) in &self.signs {
            if signs >= SIGNS && self.left.len() < most {
                self.left.insert(node, got);
                leaves = true;
            }
        }
        if leaves || self.left.len() >= most {
            self.signs.clear();
        }
        leaves
    }

    /// The session goes on without this one, which got so many bytes per second.
    pub fn leave(&mut self, node: NodeId, got: f64) {
        if !self.settled {
            self.left.insert(node, got);
            self.signs.clear();
        }
    }

    /// So much the others can take. True if those left behind are taken back, for it is hardly more.
    pub fn on_capacity(&mut self, rate: f64) -> bool {
        let gains = self.left.values().all(|got| rate > got * GAIN);
        if gains { false } else { self.recall() }
    }

    /// All count again, and nobody is left behind any more. True if somebody was.
    pub fn recall(&mut self) -> bool {
        self.settled = true;
        self.signs.clear();
        !std::mem::take(&mut self.left).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(node: u64, heavy: bool) -> Press {
        Press { node: NodeId(node), alone: true, heavy, got: 5e6 }
    }

    #[test]
    fn one_of_many_that_presses_again_and_again_is_left_behind() {
        let mut laggards = Laggards::default();
        for round in 0..6 {
            // Once its queue has drained.
            let presses = [press(3, false)];
            let left = laggards.on_round(8, if round == 2 { &[] } else { &presses }, false);
            assert_eq!(left, round == 5);
        }
        assert!(laggards.is_left(NodeId(3)));
        assert!(!laggards.on_capacity(25e6) && laggards.is_left(NodeId(3)));
        assert!(laggards.on_capacity(6e6) && !laggards.is_left(NodeId(3)), "the others are no faster");
        assert!(!(0..20).any(|_| laggards.on_round(8, &[press(3, true)], false)), "it is not left again");
    }

    #[test]
    fn a_heavy_loss_counts_twice() {
        let mut laggards = Laggards::default();
        assert!(!laggards.on_round(2, &[press(1, true)], false));
        assert!(laggards.on_round(2, &[press(1, true)], false));
    }

    #[test]
    fn who_held_the_rate_down_is_left_behind_though_it_copes_with_what_is_left() {
        let mut laggards = Laggards::default();
        assert!(!laggards.on_round(8, &[press(1, false)], false));
        for round in 0..3 {
            assert_eq!(laggards.on_round(8, &[], true), round == 2);
        }
        assert!(laggards.is_left(NodeId(1)));
    }

    #[test]
    fn a_bottleneck_of_several_is_followed() {
        let mut laggards = Laggards::default();
        for _ in 0..50 {
            assert!(!laggards.on_round(8, &[press(1, true), press(2, true), press(3, true)], false));
        }
        // Two of eight are few.
        for round in 0..4 {
            assert_eq!(laggards.on_round(8, &[press(1, false), press(2, false)], false), round == 3);
        }
        assert_eq!(laggards.left().count(), 2);
    }

    #[test]
    fn rare_signs_and_a_lonely_member_mean_nothing() {
        let mut laggards = Laggards::default();
        for round in 0..200 {
            let presses = [press(1, false)];
            assert!(!laggards.on_round(8, if round % 2 == 0 { &presses } else { &[] }, false));
            let common = [Press { alone: false, ..press(1, true) }];
            assert!(!laggards.on_round(8, &common, false));
            assert!(!laggards.on_round(1, &[press(1, true)], false));
        }
    }
}
