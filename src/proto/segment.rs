//! A leader's picture of its segment: who registered, who went silent, when to say so (RG-3..RG-7, NS).

use super::profile::Profile;
use crate::time::Instant;
use crate::wire::control::{Peer, Profile as Member, Register, Registered, Twin};
use crate::wire::envelope::Sender;
use crate::wire::id::{CharterId, Name, NodeId};
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

/// Most members of a segment; a registration beyond is refused and counted (T21).
pub const MEMBERS_MAX: usize = 4_096;

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    seen: Instant,
    /// It has registered since we lead: it lives, and the charter is the one that it has now.
    registered: bool,
    charter: CharterId,
    heard_on: SocketAddrV4,
    /// (boot, sequence) of the registration: a late one does not bring back what it said.
    stamp: (u32, u64),
    /// Since when it has its address in this life, and the address before.
    since: Instant,
    before: Option<SocketAddr>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A member that was not there, or that was started anew: it knows nothing of what members were told.
    New,
    /// It says something that the CCM wants to know soon.
    Changed,
    Same,
    /// There is no room for it, or it is older than what is known.
    Refused,
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
            (entry.seen, entry.registered) = (now, false);
        }
        self.report_at = Some(now + self.profile.register_quiet);
        self.uplink_at = now + self.profile.register_quiet * 2;
    }

    /// A member registered. What is new or changed is told to the CCM soon.
    pub fn on_register(&mut self, now: Instant, stamp: (u32, u64), register: Register) -> Taken {
        let Register { profile: member, charter, heard_on, .. } = register;
        let node = member.node();
        let known = self.members.get(&node);
        if known.is_none() && self.members.len() >= MEMBERS_MAX {
            self.refused += 1;
            return Taken::Refused;
        }
        if known.is_some_and(|entry| stamp < entry.stamp) {
            return Taken::Refused;
        }
        let taken = match known {
            None => Taken::New,
            Some(entry) if stamp.0 != entry.stamp.0 => Taken::New,
            Some(entry) if matters(&entry.member, &member) || charter != entry.charter => Taken::Changed,
            Some(_) => Taken::Same,
        };
        let (since, before) = match known {
            Some(entry) if stamp.0 == entry.stamp.0 && member.datagram == entry.member.datagram => {
                (entry.since, entry.before)
            }
            Some(entry) => (now, (stamp.0 == entry.stamp.0).then_some(entry.member.datagram)),
            None => (now, None),
        };
        self.members.insert(
            node,
            Entry { member, seen: now, registered: true, charter, heard_on, stamp, since, before },
        );
        // One that registers although we know it may not have heard the report. One report answers all.
        if taken == Taken::New || self.report_at.is_none() {
            self.report_at = Some(now + self.profile.register_quiet);
        }
        if taken != Taken::Same {
            self.uplink_soon(now);
        }
        taken
    }

    /// Whether a registration, `fresh` or not, shows that two machines use the id of a member: one of them
    /// speaks in an earlier life of the other, or they take turns. The one that was started last keeps it, for
    /// everybody believes that one; of two that were started as often, the one that was here first.
    pub fn twin(&self, now: Instant, sender: &Sender, datagram: SocketAddr, fresh: bool) -> Option<Twin> {
        let entry = self.members.get(&sender.node).filter(|entry| entry.member.datagram != datagram)?;
        // What was on its way when a node moved or restarted is only late.
        let settled = now.since(entry.since) >= self.profile.register_refresh;
        if !fresh {
            return settled.then_some(Twin { keeps: entry.member.datagram, other: datagram });
        }
        let takes_turns = sender.boot == entry.stamp.0 && entry.before == Some(datagram);
        takes_turns.then_some(Twin { keeps: datagram, other: entry.member.datagram })
    }

    /// It said that it ends (NS-7). True where it was a member.
    pub fn on_leave(&mut self, now: Instant, node: NodeId) -> bool {
        let left = self.members.remove(&node).is_some();
        if left {
            self.uplink_at = now;
        }
        left
    }

    /// The CCM is told at once, for its answer is needed.
    pub fn report_now(&mut self, now: Instant) {
        self.uplink_at = self.uplink_at.min(now);
    }

    /// The CCM wants to know more than the next regular report would tell in time (NS-5).
    pub fn uplink_soon(&mut self, now: Instant) {
        self.uplink_at = self.uplink_at.min(now + self.profile.register_quiet);
    }

    /// Members whose charter is older than this one.
    pub fn behind(&self, charter: CharterId) -> usize {
        self.members.keys().filter(|node| !self.has_charter(**node, charter)).count()
    }

    /// Whether a member has said to this leader that it has this charter or a later one.
    pub fn has_charter(&self, node: NodeId, charter: CharterId) -> bool {
        self.members.get(&node).is_some_and(|entry| entry.registered && entry.charter >= charter)
    }

    /// Members beside `me` that hear their leader on another channel than this one; those that came or fell
    /// silent a moment ago tell nothing about the channel.
    pub fn deaf_on(&self, now: Instant, channel: SocketAddrV4, me: NodeId) -> usize {
        let refresh = self.profile.register_refresh;
        let tells = |entry: &Entry| {
            now.since(entry.seen) <= refresh * 2
                && now.since(entry.since) >= refresh
                && entry.heard_on != channel
        };
        self.members.iter().filter(|(node, entry)| **node != me && tells(entry)).count()
    }

    /// Any sign of life counts.
    pub fn on_heard(&mut self, now: Instant, node: NodeId) {
        if let Some(entry) = self.members.get_mut(&node) {
            entry.seen = now;
        }
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
        || old.leads != new.leads
        || old.processors != new.processors
        || old.machine.location != new.machine.location
        || sites(old) != sites(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use crate::wire::control::{Hears, Machine, SiteState};
    use crate::wire::id::{AssignmentId, Epoch, ListNumber};
    use crate::wire::seal::{Certificate, SigningKey};

    const STAMP: (u32, u64) = (1, 1);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn home() -> SocketAddrV4 {
        "239.1.1.1:7".parse().unwrap()
    }

    fn register(seed: u8, version: u64) -> Register {
        Register {
            profile: member(seed, version),
            hears: Hears::ALL,
            charter: CharterId(0),
            heard_on: home(),
        }
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
            leads: true,
            machine: Machine::default(),
            mtu: 1_500,
            sites: vec![SiteState { site: Name::new("www").unwrap(), version: Some(AssignmentId(version)) }],
        }
    }

    #[test]
    fn the_registered_are_reported_once_after_the_last_registration() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        segment.on_lead(at(0));
        segment.on_register(at(0), STAMP, register(1, 1));
        segment.on_register(at(40), STAMP, register(2, 1));
        assert_eq!(segment.on_timeout(at(60), NodeId(0)).0, vec![Action::Uplink]);
        let (actions, _) = segment.on_timeout(at(90), NodeId(0));
        let [Action::Report(report)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(report.peers.len(), 2);
    }

    #[test]
    fn a_long_list_goes_out_in_messages_that_fit() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        for seed in 0..200 {
            segment.on_register(at(0), STAMP, register(seed, 1));
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
        segment.on_register(at(0), STAMP, register(1, 1));
        segment.on_register(at(0), STAMP, register(2, 1));
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
        assert_eq!(segment.on_register(at(0), (1, 1), register(1, 1)), Taken::New);
        assert_eq!(segment.on_register(at(100), (1, 2), register(1, 1)), Taken::Same);
        assert_eq!(segment.on_register(at(200), (1, 4), register(1, 2)), Taken::Changed);
        assert_eq!(segment.on_register(at(201), (1, 3), register(1, 1)), Taken::Refused, "it is late");
        let node = member(1, 1).node();
        assert_eq!(segment.get(node).unwrap().version(&Name::new("www").unwrap()), Some(AssignmentId(2)));
        let processors = Member { processors: 2, ..member(1, 2) };
        let busier = Register { profile: processors, ..register(1, 2) };
        assert_eq!(segment.on_register(at(300), (1, 5), busier.clone()), Taken::Changed, "NS-8");
        assert_eq!(segment.on_register(at(400), (2, 1), busier), Taken::New, "it was started anew");
    }

    /// NS-7: it need not be missed first.
    #[test]
    fn a_member_that_says_so_is_gone_at_once_and_the_ccm_is_told() {
        let mut segment = Segment::new(at(0), Profile::LAN);
        segment.on_register(at(0), STAMP, register(1, 1));
        segment.on_timeout(at(100), NodeId(0));
        assert!(segment.on_leave(at(200), member(1, 1).node()));
        assert!(!segment.on_leave(at(200), member(1, 1).node()));
        assert_eq!(segment.on_timeout(at(200), NodeId(0)), (vec![Action::Uplink], vec![]));
    }

    fn sender(boot: u32) -> Sender {
        Sender { node: member(1, 1).node(), boot, seq: 9, epoch: Epoch(0) }
    }

    #[test]
    fn an_earlier_life_that_goes_on_elsewhere_is_a_twin_that_stands_aside() {
        let (here, there) = (member(1, 1).datagram, "10.0.0.2:1".parse().unwrap());
        let mut segment = Segment::new(at(0), Profile::LAN);
        assert_eq!(segment.twin(at(0), &sender(2), there, false), None, "it is no member");
        segment.on_register(at(0), (2, 1), register(1, 1));
        assert_eq!(segment.twin(at(900), &sender(1), there, false), None, "what is late is no twin");
        assert_eq!(segment.twin(at(1_000), &sender(1), here, false), None, "it is the member");
        let twin = Twin { keeps: here, other: there };
        assert_eq!(segment.twin(at(1_000), &sender(1), there, false), Some(twin));
        assert_eq!(segment.twin(at(1_000), &sender(3), there, true), None, "it was started anew there");
    }

    #[test]
    fn of_two_that_take_turns_the_first_keeps_the_id_and_one_that_moved_is_no_twin() {
        let (here, there): (SocketAddr, SocketAddr) = (member(1, 1).datagram, "10.0.0.2:1".parse().unwrap());
        let moved = |to| Register { profile: Member { datagram: to, ..member(1, 1) }, ..register(1, 1) };
        let mut segment = Segment::new(at(0), Profile::LAN);
        segment.on_register(at(0), (1, 1), register(1, 1));
        assert_eq!(segment.twin(at(1_000), &sender(1), there, true), None, "its address may have changed");
        segment.on_register(at(1_000), (1, 2), moved(there));
        assert_eq!(segment.twin(at(2_000), &sender(1), there, true), None, "it goes on there");
        let twin = Twin { keeps: here, other: there };
        assert_eq!(segment.twin(at(2_000), &sender(1), here, true), Some(twin), "it is in both places");
    }
}
