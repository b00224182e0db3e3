//! In which order leaders are served (GD-2..GD-4).

use super::Leader;
use crate::wire::id::Name;
use serde::Deserialize;
use std::cmp::{Ordering, Reverse};

/// What leaders can be sorted by (GD-3). What is not known of a leader comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortKey {
    /// Processors by their clock, most first.
    Power,
    /// Those that stand where the controller stands, then by the name of the place.
    Location,
    /// Round trip from the controller by ICMP echo, shortest first: distance, nearness, delay.
    Delay,
    /// Bytes a second of past transfers to it, most first.
    Rate,
    /// Share of hand-outs in vain, smallest first.
    Reliability,
    /// Load for each processor, least first.
    Load,
    /// TCP connections, fewest first.
    Connections,
    /// Free memory, most first.
    Memory,
    /// Free space on disk, most first.
    Disk,
    /// Its priority in elections, highest first.
    Priority,
    /// By address: neighbours stand together.
    Address,
    /// By the name of the segment.
    Name,
}

impl SortKey {
    /// What holds where nobody says otherwise (GD-2).
    pub const DEFAULT: [Self; 4] = [Self::Power, Self::Location, Self::Delay, Self::Address];

    fn compare(self, ranking: &Ranking, a: &Leader, b: &Leader) -> Ordering {
        let by = |of: &dyn Fn(&Leader) -> (bool, u64)| of(a).cmp(&of(b));
        let most = |known: u64| (known == 0, u64::MAX - known);
        let least = |known: Option<u64>| (known.is_none(), known.unwrap_or(0));
        match self {
            Self::Power => by(&|of| {
                most(u64::from(of.standing.processors) * u64::from(of.standing.machine.cpu_mhz).max(1))
            }),
            Self::Location => ranking.place(a).cmp(&ranking.place(b)),
            Self::Delay => by(&|of| least(of.standing.path.delay_us.map(u64::from))),
            Self::Rate => by(&|of| most(of.standing.path.rate.unwrap_or(0))),
            Self::Reliability => by(&|of| least(Some(of.standing.path.failed_per_mille()))),
            Self::Load => by(&|of| {
                let load = u64::from(of.standing.machine.load_pct);
                least(Some(load / u64::from(of.standing.processors).max(1)))
            }),
            Self::Connections => by(&|of| least(Some(of.standing.machine.connections.into()))),
            Self::Memory => by(&|of| most(of.standing.free_memory)),
            Self::Disk => by(&|of| most(of.standing.free_disk)),
            Self::Priority => Reverse(a.standing.priority).cmp(&Reverse(b.standing.priority)),
            Self::Address => a.text.cmp(&b.text),
            Self::Name => a.segment.cmp(&b.segment),
        }
    }
}

/// How an operator wants leaders sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Segments that come first, in this order, whatever the keys say (GD-4).
    pub first: Vec<Name>,
    /// The others: by the first key, where that is equal by the second, and so on; in the end by segment,
    /// address and id.
    pub keys: Vec<SortKey>,
    /// Where the controller stands; may be empty.
    pub location: String,
}

impl Ranking {
    /// An operator has said in which order, and nobody else chooses.
    pub const fn is_static(&self) -> bool {
        !self.first.is_empty()
    }

    pub fn sort(&self, leaders: &mut [Leader]) {
        leaders.sort_by(|a, b| {
            let placed = |of: &Leader| self.first.iter().position(|name| *name == of.segment);
            let placed = |of| placed(of).unwrap_or(usize::MAX);
            let tie = |of: &Leader| (of.segment.clone(), of.text, of.node);
            let by_keys = || {
                let keys = self.keys.iter().map(|key| key.compare(self, a, b));
                keys.fold(Ordering::Equal, Ordering::then)
            };
            placed(a).cmp(&placed(b)).then_with(by_keys).then_with(|| tie(a).cmp(&tie(b)))
        });
    }

    fn place<'a>(&self, of: &'a Leader) -> (bool, bool, &'a str) {
        let place = of.standing.machine.location.as_str();
        (self.location.is_empty() || place != self.location, place.is_empty(), place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::leader;
    use super::*;
    use crate::ccm::distribute::{Path, Standing};

    /// The numbers of leaders 1 to 3, as sorted by one key, where each was given a trait.
    fn sorted(key: SortKey, set: fn(u16, &mut Leader)) -> Vec<u64> {
        let mut leaders: Vec<Leader> = (1..=3)
            .map(|number| {
                let mut leader = leader(number);
                leader.standing = Standing::default();
                set(number, &mut leader);
                leader
            })
            .collect();
        Ranking { keys: vec![key], location: "oslo".to_owned(), ..Ranking::default() }.sort(&mut leaders);
        leaders.iter().map(|leader| leader.node.0).collect()
    }

    fn path(of: &mut Leader) -> &mut Path {
        &mut of.standing.path
    }

    /// GD-3: every key sorts, and what is not known of a leader comes last.
    #[test]
    fn every_key_sorts_as_its_word_says() {
        for (key, set, order) in [
            (
                SortKey::Power,
                (|n, of| {
                    (of.standing.processors, of.standing.machine.cpu_mhz) =
                        [(8, 1_000), (4, 3_000), (0, 0)][usize::from(n) - 1];
                }) as fn(u16, &mut Leader),
                [2, 1, 3],
            ),
            (
                SortKey::Location,
                |n, of| of.standing.machine.location = ["", "berne", "oslo"][usize::from(n) - 1].to_owned(),
                [3, 2, 1],
            ),
            (
                SortKey::Delay,
                |n, of| path(of).delay_us = [None, Some(900), Some(30)][usize::from(n) - 1],
                [3, 2, 1],
            ),
            (
                SortKey::Rate,
                |n, of| path(of).rate = [None, Some(10), Some(20)][usize::from(n) - 1],
                [3, 2, 1],
            ),
            (
                SortKey::Reliability,
                |n, of| (path(of).delivered, path(of).failed) = [(1, 9), (9, 1), (0, 0)][usize::from(n) - 1],
                [3, 2, 1],
            ),
            (
                SortKey::Load,
                |n, of| {
                    (of.standing.processors, of.standing.machine.load_pct) =
                        [(1, 300), (8, 400), (2, 200)][usize::from(n) - 1];
                },
                [2, 3, 1],
            ),
            (SortKey::Connections, |n, of| of.standing.machine.connections = u32::from(9 - n), [3, 2, 1]),
            (SortKey::Memory, |n, of| of.standing.free_memory = u64::from(n), [3, 2, 1]),
            (SortKey::Disk, |n, of| of.standing.free_disk = u64::from(n), [3, 2, 1]),
            (SortKey::Priority, |n, of| of.standing.priority = u32::from(n), [3, 2, 1]),
            (SortKey::Address, |n, of| of.text.set_port(9 - n), [1, 2, 3]),
            (
                SortKey::Name,
                |n, of| of.segment = Name::new(["c", "b", "a"][usize::from(n) - 1]).unwrap(),
                [3, 2, 1],
            ),
        ] {
            assert_eq!(sorted(key, set), order, "{key:?}");
        }
    }

    #[test]
    fn the_fastest_comes_first_then_place_delay_address() {
        let mut leaders: Vec<Leader> = (1..=4).map(leader).collect();
        for leader in &mut leaders {
            leader.standing = Standing { processors: 4, ..Standing::default() };
        }
        leaders[3].standing.processors = 8;
        leaders[2].standing.machine.location = "berne".to_owned();
        leaders[1].standing.path.delay_us = Some(10);
        let ranking = Ranking { keys: SortKey::DEFAULT.to_vec(), ..Ranking::default() };
        ranking.sort(&mut leaders);
        let order: Vec<u64> = leaders.iter().map(|leader| leader.node.0).collect();
        assert_eq!(order, [4, 3, 2, 1]);
    }

    /// GD-4.
    #[test]
    fn an_order_that_an_operator_gave_stands_before_all_keys() {
        let mut leaders: Vec<Leader> = (1..=4).map(leader).collect();
        let first = ["s3", "elsewhere", "s2"].map(|name| Name::new(name).unwrap()).to_vec();
        Ranking { first, keys: SortKey::DEFAULT.to_vec(), location: String::new() }.sort(&mut leaders);
        let order: Vec<u64> = leaders.iter().map(|leader| leader.node.0).collect();
        assert_eq!(order, [3, 2, 1, 4], "the others are faster the lower their number");
    }
}
