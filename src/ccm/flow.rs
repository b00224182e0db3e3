//! What the controller itself sends of objects, held to what bandwidth windows allow: all its answers together.

use crate::wire::bound::Bound;
use crate::wire::id::Name;
use std::collections::BTreeMap;

const NS_PER_S: u64 = 1_000_000_000;

/// When the next bytes may leave. Whoever sends books them before; what was booked at one time is made up for by the
/// wait of whoever comes next, so that in all no more leaves than may.
#[derive(Debug, Default)]
pub struct Flow {
    farm_free_ns: u64,
    sites_free_ns: BTreeMap<Name, u64>,
}

impl Flow {
    /// Until when content of this site has to wait; `None` where it may leave now.
    pub fn waits(&self, site: &Name, bound: Bound, now_ns: u64) -> Option<u64> {
        let farm = bound.farm.map(|_| self.farm_free_ns);
        let own = bound.site.and_then(|_| self.sites_free_ns.get(site).copied());
        farm.into_iter().chain(own).max().filter(|free| *free > now_ns)
    }

    /// Books so many bytes that leave now.
    pub fn book(&mut self, site: &Name, bound: Bound, bytes: u64, now_ns: u64) {
        let takes = |rate: u64| bytes.saturating_mul(NS_PER_S) / rate.max(1);
        if let Some(rate) = bound.farm {
            self.farm_free_ns = self.farm_free_ns.max(now_ns) + takes(rate);
        }
        if let Some(rate) = bound.site {
            self.sites_free_ns.retain(|_, free| *free > now_ns);
            let free = self.sites_free_ns.entry(site.clone()).or_insert(now_ns);
            *free = (*free).max(now_ns) + takes(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::name;

    /// Several clients on a virtual clock, each as eager as can be.
    #[test]
    fn all_answers_together_send_no_more_than_farm_and_site_may() {
        let (www, shop) = (name("www"), name("shop"));
        let clients = [(&www, Some(10_000)), (&www, Some(10_000)), (&shop, None), (&shop, None)];
        let mut flow = Flow::default();
        let mut sent = [0_u64; 4];
        for now in (0..10 * NS_PER_S).step_by(1_000_000) {
            for ((site, of_site), sent) in clients.iter().zip(&mut sent) {
                let bound = Bound { farm: Some(50_000), site: *of_site };
                if flow.waits(site, bound, now).is_none() {
                    flow.book(site, bound, 1_000, now);
                    *sent += 1_000;
                }
            }
        }
        let (of_www, all) = (sent[0] + sent[1], sent.iter().sum::<u64>());
        assert!((95_000..=101_000).contains(&of_www), "{sent:?}");
        assert!((480_000..=501_000).contains(&all), "{sent:?}");
    }

    #[test]
    fn a_bound_that_is_lifted_holds_nobody() {
        let (www, mut flow) = (name("www"), Flow::default());
        flow.book(&www, Bound { farm: Some(1), site: Some(1) }, 1_000, 5);
        assert!(flow.waits(&www, Bound { farm: None, site: Some(1) }, 6).is_some());
        assert_eq!(flow.waits(&www, Bound::default(), 6), None);
        assert_eq!(flow.waits(&name("shop"), Bound { farm: None, site: Some(1) }, 6), None);
    }
}
