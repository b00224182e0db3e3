//! A leader's picture of its segment: who registered, who went silent, when to say so (RG-3..RG-7, NS).

use super::profile::Profile;
use crate::time::Instant;
use crate::wire::control::{Peer, Profile as Member, Registered};
use crate::wire::id::{Name, NodeId};
use std::collections::BTreeMap;

/// Most members of a segment; a registration beyond is refused and counted (T21).
pub const MEMBERS_MAX: usize = 4_096;

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    seen: Instant,
}

/// What the leader is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Multicast the registered (RG-3).
    Report(Registered),
    /// Tell the CCM (NS-5..NS-8).
    Uplink,
}

#[derive(Clone, Debug)]
pub struct Segment {
    profile: Profile,
    members: BTreeMap<NodeId, Entry>,
    /// When the next report of the registered is due.
    report_at: Option<Instant>,
    uplink_at: Instant,
    /// Registrations refused because the table was full.
    pub refused: u64,
}

impl Segment {
    pub const fn new(now: Instant, profile: Profile) -> Self {
        Self { profile, members: BTreeMap::new(), report_at: None, uplink_at: now, refused: 0 }
    }

    /// We lead now: everybody registers anew with us (RG-1); what we knew before is not forgotten for it.
    pub fn on_lead(&mut self, now: Instant) {
        for entry in self.members.values_mut() {
            entry.seen = now;
        }
        self.report_at = Some(now + self.profile.register_quiet);
        self.uplink_at = now + self.profile.register_quiet * 2;
    }

    /// A member registered. True where it is new or changed: the CCM is told soon.
    pub fn on_register(&mut self, now: Instant, member: Member) -> bool {
        let node = member.node();
        let known = self.members.get(&node);
        if known.is_none() && self.members.len() >= MEMBERS_MAX {
            self.refused += 1;
            return false;
        }
        let changed = known.is_none_or(|entry| matters(&entry.member, &member));
        if known.is_none() {
            self.report_at = Some(now + self.profile.register_quiet);
        } else if self.report_at.is_none() {
            // It registers although we know it: it may not have heard the report. One answers all.
            self.report_at = Some(now + self.profile.register_quiet);
        }
        if changed {
            self.uplink_at = self.uplink_at.min(now + self.profile.register_quiet);
        }
        self.members.insert(node, Entry { member, seen: now });
        changed
    }

    /// Any sign of life counts.
    pub fn on_heard(&mut self, now: Instant, node: NodeId) {
        if let Some(entry) = self.members.get_mut(&node) {
            entry.seen = now;
        }
    }

    /// The CCM is told at once, for its answer is needed.
    pub fn report_now(&mut self, now: Instant) {
        self.uplink_at = self.uplink_at.min(now);
    }

    /// Something that the CCM should know has changed.
    pub fn uplink_soon(&mut self, now: Instant) {
        self.uplink_at = self.uplink_at.min(now + self.profile.register_quiet);
    }

    /// The CCM could not be told: again soon.
    pub fn uplink_failed(&mut self, now: Instant) {
        self.uplink_at = self.uplink_at.min(now + self.profile.segment_report / 2);
    }

    /// Members that have not gone silent, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|entry| &entry.member)
    }

    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node).map(|entry| &entry.member)
    }

    /// When the member was last heard.
    pub fn seen(&self, node: NodeId) -> Option<Instant> {
        self.members.get(&node).map(|entry| entry.seen)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members that serve a site.
    pub fn serving(&self, site: &Name) -> Vec<NodeId> {
        let serves = |member: &&Member| member.sites.iter().any(|state| &state.site == site);
        self.members().filter(serves).map(Member::node).collect()
    }

    /// A short value that differs where the set of members differs.
    pub fn digest(&self) -> u64 {
        let bytes: Vec<u8> = self.members.keys().flat_map(|node| node.0.to_be_bytes()).collect();
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let offline = self.members.values().map(|entry| entry.seen + self.patience()).min();
        [self.report_at, Some(self.uplink_at), offline].into_iter().flatten().min()
    }

    /// What is due. Members whose registrations stayed away three times are gone (B-17) and returned.
    pub fn on_timeout(&mut self, now: Instant, me: NodeId) -> (Vec<Action>, Vec<NodeId>) {
        let patience = self.patience();
        let silent =
            |(node, entry): (&NodeId, &Entry)| (*node != me && now >= entry.seen + patience).then_some(*node);
        let gone: Vec<NodeId> = self.members.iter().filter_map(silent).collect();
        for node in &gone {
            self.members.remove(node);
            self.uplink_at = now;
        }
        // We hear ourselves always.
        self.on_heard(now, me);
        let mut actions = Vec::new();
        if self.report_at.is_some_and(|at| now >= at) {
            self.report_at = None;
            actions.extend(self.registered(now).map(Action::Report));
        }
        if now >= self.uplink_at {
            self.uplink_at = now + self.profile.segment_report;
            actions.push(Action::Uplink);
        }
        (actions, gone)
    }

    /// Members that were heard of late, in messages that fit.
    pub fn registered(&self, now: Instant) -> impl Iterator<Item = Registered> + use<> {
        let fresh = self.members.values().filter(|entry| now < entry.seen + self.patience());
        let peers: Vec<Peer> =
            fresh.map(|entry| Peer { node: entry.member.node(), datagram: entry.member.datagram }).collect();
        let parts = peers.chunks(Registered::NODES_MAX);
        parts.map(|peers| Registered { peers: peers.to_vec() }).collect::<Vec<_>>().into_iter()
    }

    fn patience(&self) -> crate::time::Duration {
        self.profile.register_refresh * 3 + self.profile.register_refresh / 2
    }
}

/// Whether the CCM should hear of the change at once rather than with the next regular report.
fn matters(old: &Member, new: &Member) -> bool {
    let sites = |member: &Member| member.sites.clone();
    old.name != new.name
        || old.datagram != new.datagram
        || old.http != new.http
        || old.text != new.text
        || old.groups != new.groups
        || sites(old) != sites(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use crate::wire::control::SiteState;
    use crate::wire::id::{AssignmentId, ListNumber};
    use crate::wire::seal::{Certificate, SigningKey};

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn member(seed: u8, version: u64) -> Member {
        let enroller = SigningKey::from_seed([99; 32]);
        let key = SigningKey::from_seed([seed; 32]);
        let address = "10.0.0.1:1".parse().unwrap();
        Member {
            certificate: Certificate::issue(&enroller, key.public(), true, 1_000),
            name: Name::new("web").unwrap(),
            datagram: address,
            http: address,
            text: address,
            priority: 1,
            processors: 1,
            free_memory: 1,
            free_disk: 1,
            groups: ListNumber(0),
            mtu: 1_500,
            sites: vec![SiteState { site: Name::new("www").unwrap(), version: Some(AssignmentId(version)) }],
        }
    }

    #[test]
    fn the_registered_are_reported_once_after_the_last_registration() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        segment.on_lead(at(0));
        segment.on_register(at(0), member(1, 1));
        segment.on_register(at(40), member(2, 1));
        assert_eq!(segment.on_timeout(at(60), NodeId(0)).0, vec![Action::Uplink]);
        let (actions, _) = segment.on_timeout(at(90), NodeId(0));
        let [Action::Report(report)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(report.peers.len(), 2);
    }

    #[test]
    fn a_long_list_goes_out_in_messages_that_fit() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        for seed in 0..200 {
            segment.on_register(at(0), member(seed, 1));
        }
        let (actions, _) = segment.on_timeout(at(60), NodeId(0));
        let reported: usize = actions
            .iter()
            .map(|action| match action {
                Action::Report(report) => report.peers.len(),
                Action::Uplink => 0,
            })
            .sum();
        assert_eq!(reported, 200);
        assert_eq!(actions.len(), 4);
    }

    #[test]
    fn a_member_that_stays_silent_is_gone_and_the_ccm_is_told() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        let (quiet, lively) = (member(1, 1), member(2, 1));
        segment.on_register(at(0), quiet.clone());
        segment.on_register(at(0), lively.clone());
        segment.on_timeout(at(100), NodeId(0));
        segment.on_heard(at(3_400), lively.node());
        let (actions, gone) = segment.on_timeout(at(3_500), NodeId(0));
        assert_eq!(gone, vec![quiet.node()]);
        assert!(actions.contains(&Action::Uplink));
        assert_eq!(segment.serving(&Name::new("www").unwrap()), vec![lively.node()]);
    }

    #[test]
    fn a_new_version_is_told_at_once_and_a_bare_refresh_is_not() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        assert!(segment.on_register(at(0), member(1, 1)));
        assert!(!segment.on_register(at(100), member(1, 1)));
        assert!(segment.on_register(at(200), member(1, 2)));
    }
}
