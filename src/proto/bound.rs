//! A bound is divided among all ways that lead out of a node: its sessions, and the answers with objects that it
//! gives others (design D5). Each way gets an even part of what its site may send and of what all may.

use crate::wire::bound::Bound;
use crate::wire::id::Name;
use std::collections::BTreeMap;

/// A way on which content of a site leaves.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// `None`: of what is known nothing, and bounded by nothing.
    pub site: Option<&'a Name>,
    pub bound: Bound,
}

/// Bytes per second of each way, in their order; `None` where it is not bounded.
pub fn divide(ways: &[Way<'_>]) -> Vec<Option<u64>> {
    let part = |rate: Option<u64>, among: usize| rate.map(|rate| (rate / among.max(1) as u64).max(1));
    let all = ways.iter().filter(|way| way.bound.farm.is_some()).count();
    let mut own: BTreeMap<Option<&Name>, usize> = BTreeMap::new();
    ways.iter().for_each(|way| *own.entry(way.site).or_default() += 1);
    let of = |way: &Way<'_>| {
        let Bound { farm, site } = way.bound;
        Bound { farm: part(farm, all), site: part(site, own[&way.site]) }.least()
    };
    ways.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_divide_what_their_site_and_what_all_may_send() {
        let (www, shop) = (Name::new("www").unwrap(), Name::new("shop").unwrap());
        let way = |site, farm, of_site| Way { site: Some(site), bound: Bound { farm, site: of_site } };
        assert_eq!(divide(&[]), []);
        assert_eq!(divide(&[way(&www, None, None)]), [None]);
        assert_eq!(divide(&[way(&www, Some(90), None), way(&shop, Some(90), None)]), [Some(45), Some(45)]);
        let ways = [way(&www, Some(90), Some(20)), way(&www, Some(90), Some(20)), way(&shop, Some(90), None)];
        assert_eq!(divide(&ways), [Some(10), Some(10), Some(30)]);
        assert_eq!(divide(&[way(&www, None, Some(20)), way(&shop, None, None)]), [Some(20), None]);
        assert_eq!(divide(&[way(&www, Some(1), None), way(&www, Some(1), None)]), [Some(1), Some(1)]);
    }
}
