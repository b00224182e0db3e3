//! Two machines with one identity on one segment: each is told of the other, and one of them stands aside, so
//! that neither speaks for the other.
//!
//! The leader notices twins among its members by their registrations (`segment`), and tells both. A node that
//! leads or claims is heard by its twin itself. Who stands aside says nothing more, and looks again after a
//! while whether it is alone by then.

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::control::Twin;
use crate::wire::id::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[derive(Clone, Debug)]
pub struct Twins {
    profile: Profile,
    /// As leader: nodes that are two, and when that was noticed last.
    found: BTreeMap<NodeId, (Twin, Instant)>,
    /// Where our own twin was last, and when it was noticed.
    own: Option<(SocketAddr, Instant)>,
    aside_until: Option<Instant>,
}

impl Twins {
    pub const fn new(profile: Profile) -> Self {
        Self { profile, found: BTreeMap::new(), own: None, aside_until: None }
    }

    /// Twins are remembered, and stay aside, for so long.
    fn memory(&self) -> Duration {
        self.profile.register_refresh * 10
    }

    /// The leader notices a twin of a member, one per member at most. True where both are to be told now.
    pub fn on_found(&mut self, now: Instant, node: NodeId, twin: Twin) -> bool {
        let pause = self.profile.register_again;
        let told = self.found.get(&node).is_some_and(|(known, at)| *known == twin && now.since(*at) < pause);
        if !told {
            self.found.insert(node, (twin, now));
        }
        !told
    }

    /// Whether this is the machine that had to stand aside for a member.
    pub fn is_other(&self, node: NodeId, datagram: SocketAddr) -> Option<Twin> {
        self.found.get(&node).map(|(twin, _)| *twin).filter(|twin| twin.other == datagram)
    }

    /// Nodes that are two as far as this leader noticed of late, and where the one is that stands aside.
    pub fn found(&self, now: Instant) -> Vec<(NodeId, SocketAddr)> {
        let fresh = self.found.iter().filter(|(_, (_, at))| now.since(*at) < self.memory() * 2);
        fresh.map(|(node, (twin, _))| (*node, twin.other)).collect()
    }

    /// The member is gone: whoever registers under its id next is it.
    pub fn on_gone(&mut self, node: NodeId) {
        self.found.remove(&node);
    }

    /// Another machine uses our own id. True where it is news.
    pub fn on_own(&mut self, now: Instant, other: SocketAddr, stand_aside: bool) -> bool {
        let known = self.own.is_some_and(|(at, when)| at == other && now.since(when) < self.memory() * 2);
        let was_aside = self.aside_until.is_some();
        self.own = Some((other, now));
        if stand_aside {
            self.aside_until = Some(now + self.memory());
        }
        !known || (stand_aside && !was_aside)
    }

    /// Where the machine is that uses our id, if one did of late.
    pub fn own(&self, now: Instant) -> Option<SocketAddr> {
        self.own.filter(|(_, when)| now.since(*when) < self.memory() * 2).map(|(other, _)| other)
    }

    pub const fn is_aside(&self) -> bool {
        self.aside_until.is_some()
    }

    pub const fn next_deadline(&self) -> Option<Instant> {
        self.aside_until
    }

    /// True where this node takes part again from now on.
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        self.aside_until.take_if(|until| now >= *until).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    #[test]
    fn both_are_told_but_not_for_each_registration() {
        let mut twins = Twins::new(Profile::LAN);
        let twin = Twin { keeps: addr(1), other: addr(2) };
        assert!(twins.on_found(at(0), NodeId(1), twin));
        assert!(!twins.on_found(at(49), NodeId(1), twin));
        assert!(twins.on_found(at(50), NodeId(1), twin));
        assert!(twins.on_found(at(51), NodeId(1), Twin { other: addr(3), ..twin }));
        assert_eq!(twins.found(at(60)), [(NodeId(1), addr(3))]);
        assert_eq!(twins.is_other(NodeId(1), addr(2)), None);
        assert!(twins.is_other(NodeId(1), addr(3)).is_some());
        assert_eq!(twins.found(at(20_051)), []);
        twins.on_gone(NodeId(1));
        assert_eq!(twins.is_other(NodeId(1), addr(3)), None);
    }

    #[test]
    fn who_stands_aside_looks_again_after_a_while() {
        let mut twins = Twins::new(Profile::LAN);
        assert!(twins.on_own(at(0), addr(2), false));
        assert!(!twins.is_aside() && !twins.on_own(at(10), addr(2), false));
        assert!(twins.on_own(at(20), addr(2), true), "that it stands aside is news");
        assert!(!twins.on_own(at(30), addr(2), true));
        assert_eq!(twins.own(at(40)), Some(addr(2)));
        assert!(!twins.on_timeout(at(10_029)) && twins.is_aside());
        assert!(twins.on_timeout(at(10_030)) && !twins.is_aside());
        assert_eq!(twins.own(at(20_030)), None);
    }
}
