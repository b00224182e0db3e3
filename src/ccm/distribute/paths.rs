//! What is known of the ways to leaders: how long an echo takes, how fast past transfers were, how many came to
//! nothing (GD-3). Kept in memory: a controller that starts anew measures anew.

use super::Outcome;
use crate::wire::id::NodeId;
use std::collections::BTreeMap;

/// Past hand-outs that count; older ones weigh less and less.
const REMEMBERED: u32 = 32;
const NS_PER_S: u128 = 1_000_000_000;

/// What was measured of the way to one leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Round trip of an ICMP echo, microseconds.
    pub delay_us: Option<u32>,
    /// Bytes a second of past transfers.
    pub rate: Option<u64>,
    /// Hand-outs after which it held a copy, and those in vain.
    pub delivered: u32,
    pub failed: u32,
}

impl Path {
    pub const fn failed_per_mille(&self) -> u64 {
        match self.delivered + self.failed {
            0 => 0,
            all => self.failed as u64 * 1_000 / all as u64,
        }
    }
}

/// The ways to all leaders; at most one entry for each node of the farm.
#[derive(Clone, Debug, Default)]
pub struct Paths(BTreeMap<NodeId, Path>);

impl Paths {
    pub fn of(&self, node: NodeId) -> Path {
        self.0.get(&node).copied().unwrap_or_default()
    }

    /// A hand-out of so many bytes ended. The newest transfer weighs as much as all before it.
    pub fn note(&mut self, outcome: Outcome, bytes: u64) {
        let path = self.0.entry(outcome.leader).or_default();
        match outcome.took_ns {
            Some(took_ns) => {
                let rate = u128::from(bytes) * NS_PER_S / u128::from(took_ns.max(1));
                let rate = u64::try_from(rate).unwrap_or(u64::MAX);
                path.rate = Some(path.rate.map_or(rate, |before| before / 2 + rate / 2));
                path.delivered += 1;
            }
            None => path.failed += 1,
        }
        if path.delivered + path.failed > REMEMBERED {
            (path.delivered, path.failed) = (path.delivered / 2, path.failed / 2);
        }
    }

    /// Echoes came back, or did not: then what was known of the delay is no more. Returns of how many leaders it
    /// is known now and was not before.
    pub fn note_delays(&mut self, delays: impl IntoIterator<Item = (NodeId, Option<u32>)>) -> usize {
        let mut new = 0;
        for (node, delay_us) in delays {
            let path = self.0.entry(node).or_default();
            new += usize::from(path.delay_us.is_none() && delay_us.is_some());
            path.delay_us = delay_us;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn rates_follow_what_transfers_took_and_failures_count() {
        let mut paths = Paths::default();
        let (leader, second) = (NodeId(1), 1_000_000_000);
        assert_eq!(paths.of(leader), Path::default());
        paths.note(Outcome { leader, took_ns: Some(second) }, 8 * MIB);
        assert_eq!(paths.of(leader).rate, Some(8 * MIB));
        paths.note(Outcome { leader, took_ns: Some(2 * second) }, 8 * MIB);
        assert_eq!(paths.of(leader).rate, Some(6 * MIB));
        paths.note(Outcome { leader, took_ns: None }, 8 * MIB);
        assert_eq!((paths.of(leader).rate, paths.of(leader).failed_per_mille()), (Some(6 * MIB), 333));
        paths.note(Outcome { leader, took_ns: Some(0) }, u64::MAX);
        assert!(paths.of(leader).rate.is_some(), "no time at all is no fault");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut paths = Paths::default();
        let leader = NodeId(1);
        (0..20).for_each(|_| paths.note(Outcome { leader, took_ns: None }, 1));
        assert_eq!(paths.of(leader).failed_per_mille(), 1_000);
        (0..120).for_each(|_| paths.note(Outcome { leader, took_ns: Some(1) }, 1));
        assert!(paths.of(leader).failed_per_mille() < 50, "{:?}", paths.of(leader));
    }

    #[test]
    fn a_delay_that_is_not_measured_any_more_is_not_known() {
        let mut paths = Paths::default();
        assert_eq!(paths.note_delays([(NodeId(1), Some(250)), (NodeId(2), None)]), 1);
        assert_eq!((paths.of(NodeId(1)).delay_us, paths.of(NodeId(2)).delay_us), (Some(250), None));
        assert_eq!(paths.note_delays([(NodeId(1), Some(240))]), 0);
        paths.note_delays([(NodeId(1), None)]);
        assert_eq!(paths.of(NodeId(1)).delay_us, None);
    }
}
