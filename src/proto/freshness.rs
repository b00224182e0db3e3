//! Whether a message was seen before (T15): per sender a boot counter and a window of sequence numbers, so
//! that an old message is told from a late one. No clock is involved.
//!
//! Signed messages have windows of their own. Every member can write another's name into one that is only tagged,
//! with the highest of all numbers, and would else silence the leader by it.

use crate::wire::envelope::Sender;
use crate::wire::id::NodeId;
use std::collections::BTreeMap;

/// Senders remembered; a segment has fewer members. Beyond it messages of new senders are refused.
const SENDERS_MAX: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Window {
    boot: u32,
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Freshness {
    signed: BTreeMap<NodeId, Window>,
    tagged: BTreeMap<NodeId, Window>,
}

impl Freshness {
    /// True once for every message; false for a repeated one and for one of an earlier life of the sender.
    pub fn accept(&mut self, sender: &Sender, signed: bool) -> bool {
        let windows = if signed { &mut self.signed } else { &mut self.tagged };
        let Some(window) = windows.get_mut(&sender.node) else {
            if windows.len() >= SENDERS_MAX {
                return false;
            }
            let window = Window { boot: sender.boot, highest: sender.seq, seen: 1 };
            windows.insert(sender.node, window);
            return true;
        };
        if sender.boot != window.boot {
            if sender.boot > window.boot {
                *window = Window { boot: sender.boot, highest: sender.seq, seen: 1 };
                return true;
            }
            return false;
        }
        if let Some(ahead) = sender.seq.checked_sub(window.highest).filter(|ahead| *ahead > 0) {
            window.seen = if ahead >= 64 { 1 } else { window.seen << ahead | 1 };
            window.highest = sender.seq;
            return true;
        }
        let behind = window.highest - sender.seq;
        if behind >= 64 || window.seen >> behind & 1 == 1 {
            return false;
        }
        window.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Epoch;

    fn from(boot: u32, seq: u64) -> Sender {
        Sender { node: NodeId(1), boot, seq, epoch: Epoch(0) }
    }

    #[test]
    fn a_message_counts_once_even_if_it_comes_late() {
        let mut freshness = Freshness::default();
        let arrivals =
            [(1, true), (3, true), (2, true), (2, false), (3, false), (100, true), (99, true), (30, false)];
        for (seq, fresh) in arrivals {
            assert_eq!(freshness.accept(&from(1, seq), true), fresh, "{seq}");
        }
    }

    #[test]
    fn an_earlier_life_is_over() {
        let mut freshness = Freshness::default();
        assert!(freshness.accept(&from(2, 50), true));
        assert!(!freshness.accept(&from(1, 900), true));
        assert!(freshness.accept(&from(3, 1), true));
        assert!(!freshness.accept(&from(2, 51), true));
    }

    #[test]
    fn what_anybody_can_say_in_anothers_name_silences_no_signed_message() {
        let mut freshness = Freshness::default();
        assert!(freshness.accept(&from(2, 50), true));
        assert!(freshness.accept(&from(u32::MAX, u64::MAX), false));
        assert!(freshness.accept(&from(2, 51), true));
        // Nor does a crowd of made-up names keep a signed newcomer out.
        for node in 0..=SENDERS_MAX as u64 {
            freshness.accept(&Sender { node: NodeId(node), ..from(1, 1) }, false);
        }
        assert!(freshness.accept(&Sender { node: NodeId(u64::MAX), ..from(1, 1) }, true));
    }
}
