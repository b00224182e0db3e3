//! A node that hears nobody looks for its segment by unicast (LD-24): it registers with the peers that it
//! knows of, and asks the CCM who else there is.
//!
//! It knows peers from its configuration, from what its leader last reported (kept on disk), and from the
//! CCM. A node is alone while it follows nobody and leads nobody; it asks as soon as multicast has been
//! silent for longer than an election takes, few at first, further and further apart. A leader asks whom it
//! once knew and does not lead; and where the CCM refuses its report, for another leads, it asks who that is.

use super::profile::Profile;
use super::registration::share;
use crate::time::{Duration, Instant};
use crate::wire::control::Peer;
use crate::wire::id::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers remembered; beyond it the one named longest ago is forgotten.
pub const KNOWN_MAX: usize = 256;
/// Peers asked in the first round: a whole farm that is switched on must not ask everybody about everybody.
const FIRST_MAX: usize = 16;
/// Peers asked in each later round.
const ROUND_MAX: usize = 64;
/// Rounds come no further apart than this.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How the node stands in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Follows,
    /// It leads; with others, or nobody but itself.
    Leads {
        others: bool,
    },
    Alone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Register with the peers at these addresses.
    Ask(Vec<SocketAddr>),
    /// Ask the CCM.
    AskController,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    datagram: SocketAddr,
    named: Instant,
}

/// What the node knows of multicast in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Air {
    /// Nothing came yet.
    Unknown,
    /// It came last at this instant, and nothing says that it does not pass any more.
    Open(Instant),
    /// Peers were there by unicast only.
    Blocked,
}

#[derive(Clone, Debug)]
pub struct Seek {
    me: NodeId,
    profile: Profile,
    /// From the configuration.
    fixed: Vec<SocketAddr>,
    known: BTreeMap<NodeId, Known>,
    /// Whom the node followed last, or the CCM takes for the leader: asked before all others.
    leader: Option<NodeId>,
    air: Air,
    standing: Standing,
    /// Since when the node is alone.
    since: Instant,
    /// Rounds of questions since, and when the next one is due after the first.
    rounds: u32,
    round_at: Instant,
    /// When to ask the CCM who leads, for it refused our report; and not before this.
    contest_at: Option<Instant>,
    contest_after: Instant,
    /// Where the next round begins among the peers.
    place: usize,
    /// Questions to peers so far.
    pub asked: u64,
}

impl Seek {
    pub const fn new(now: Instant, me: NodeId, profile: Profile, fixed: Vec<SocketAddr>) -> Self {
        Self {
            me,
            profile,
            fixed,
            known: BTreeMap::new(),
            leader: None,
            air: Air::Unknown,
            standing: Standing::Alone,
            since: now,
            rounds: 0,
            round_at: now,
            contest_at: None,
            contest_after: now,
            place: 0,
            asked: 0,
        }
    }

    /// Peers that somebody named who may: a leader, the CCM, our own disk.
    pub fn learn(&mut self, now: Instant, peers: &[Peer]) {
        let (me, mut full) = (self.me, false);
        for peer in peers.iter().filter(|peer| peer.node != me) {
            if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&peer.node) {
                // In a segment of more nodes all are named all the time: it is no use to take turns.
                full = full || !self.forget_oldest(now);
                if full {
                    continue;
                }
            }
            self.known.insert(peer.node, Known { datagram: peer.datagram, named: now });
        }
    }

    /// Makes room by the peer that was named longest ago. False where all were named of late.
    fn forget_oldest(&mut self, now: Instant) -> bool {
        let oldest = self.known.iter().min_by_key(|(_, known)| known.named);
        let stale = oldest.filter(|(_, known)| now.since(known.named) > self.profile.register_refresh * 4);
        let Some(node) = stale.map(|(node, _)| *node) else { return false };
        self.known.remove(&node).is_some()
    }

    /// The CCM's answer, the leader first. Returns whom to ask at once: those that are not `members` of ours.
    pub fn on_controller(
        &mut self,
        now: Instant,
        peers: &[Peer],
        members: impl Fn(NodeId) -> bool,
    ) -> Vec<SocketAddr> {
        self.learn(now, peers);
        if self.standing == Standing::Follows {
            return Vec::new();
        }
        self.leader = peers.first().map(|peer| peer.node).or(self.leader);
        let others = peers.iter().filter(|peer| peer.node != self.me && !members(peer.node));
        let others: Vec<SocketAddr> = others.take(ROUND_MAX).map(|peer| peer.datagram).collect();
        self.asked += others.len() as u64;
        others
    }

    /// The CCM did not take our report as leader: another may lead.
    pub fn on_refused(&mut self, now: Instant) {
        if let Standing::Leads { .. } = self.standing {
            self.contest_at.get_or_insert(now.max(self.contest_after));
        }
    }

    /// Whom we follow now.
    pub const fn on_leader(&mut self, leader: NodeId) {
        self.leader = Some(leader);
    }

    /// Multicast of another node came.
    pub const fn on_multicast(&mut self, now: Instant) {
        self.air = Air::Open(now);
    }

    /// A copy came of what multicast did not bring.
    pub const fn on_missed(&mut self) {
        self.air = Air::Blocked;
    }

    /// How the node stands now.
    pub fn on_standing(&mut self, now: Instant, standing: Standing) {
        if self.is_alone() && standing.is_alone() {
            self.standing = standing;
        } else if self.standing != standing {
            (self.standing, self.since, self.rounds) = (standing, now, 0);
        }
        if standing == Standing::Follows {
            self.contest_at = None;
        }
    }

    /// Where a node takes datagrams, as far as somebody named it who may.
    pub fn find(&self, node: NodeId) -> Option<Peer> {
        self.known.get(&node).map(|known| Peer { node, datagram: known.datagram })
    }

    /// Known peers; whom we followed last before all others.
    pub fn known(&self) -> Vec<Peer> {
        let peer = |(node, known): (&NodeId, &Known)| Peer { node: *node, datagram: known.datagram };
        let mut peers: Vec<Peer> = self.known.iter().map(peer).collect();
        peers.sort_by_key(|peer| Some(peer.node) != self.leader);
        peers
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let round = match self.standing {
            Standing::Follows => None,
            Standing::Leads { others: true } => Some(self.since + PAUSE_MAX),
            Standing::Leads { others: false } | Standing::Alone => Some(self.round_due()),
        };
        [round, self.contest_at].into_iter().flatten().min()
    }

    /// What to ask now, and whom; `members` are those that we lead.
    pub fn on_timeout(&mut self, now: Instant, members: impl Fn(NodeId) -> bool, chance: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.contest_at.take_if(|at| now >= *at).is_some() {
            self.contest_after = now + self.base() * 2;
            actions.push(Action::AskController);
        }
        if self.standing == (Standing::Leads { others: true }) && now >= self.since + PAUSE_MAX {
            // Whom we once knew and do not lead may follow another whom we do not hear.
            self.since = now;
            let absent = self.pick(ROUND_MAX, &members, chance);
            actions.extend((!absent.is_empty()).then_some(Action::Ask(absent)));
        }
        if !self.is_alone() || now < self.round_due() {
            return actions;
        }
        if let Air::Open(heard) = self.air
            && self.rounds > 0
            && heard > self.since
        {
            // Somebody was heard after all: an election goes on.
            (self.since, self.rounds) = (heard, 0);
            return actions;
        }
        let most = if self.rounds == 0 && self.air != Air::Blocked { FIRST_MAX } else { ROUND_MAX };
        let peers = self.pick(most, members, chance);
        if !peers.is_empty() {
            actions.push(Action::Ask(peers));
        }
        if self.rounds > 0 || self.air == Air::Blocked {
            actions.push(Action::AskController);
        }
        self.since = now;
        let pause = (self.base() * (1 << self.rounds.min(8))).min(PAUSE_MAX);
        // A farm that is switched on is silent until the first claims, and nothing is blocked.
        let silent = self.air == Air::Unknown && self.rounds == 0;
        let pause = if silent { pause.max(self.profile.claim_max) } else { pause };
        self.round_at = now + pause + share(pause / 4, chance);
        self.rounds += 1;
        actions
    }

    const fn is_alone(&self) -> bool {
        self.standing.is_alone()
    }

    /// When the next round is due, for a node that is alone.
    fn round_due(&self) -> Instant {
        if self.rounds > 0 {
            return self.round_at;
        }
        let profile = &self.profile;
        match self.air {
            // At a start a leader is heard within this time, if there is one and multicast passes.
            Air::Unknown => self.since + profile.alive_period * 3,
            // A leader may have died: an election is heard within this time.
            Air::Open(heard) => {
                heard.max(self.since) + profile.claim_max + profile.vote + profile.alive_period * 4
            }
            Air::Blocked => self.since,
        }
    }

    /// The pause behind the first round.
    fn base(&self) -> Duration {
        (self.profile.trigger * 2).min(Duration::from_secs(2))
    }

    /// Peers in turn, beginning where the last round ended; the last leader is always among them.
    fn pick(&mut self, most: usize, members: impl Fn(NodeId) -> bool, chance: u64) -> Vec<SocketAddr> {
        let leader = self.leader.filter(|leader| !members(*leader)).and_then(|leader| self.find(leader));
        let mut peers: Vec<SocketAddr> = leader.iter().map(|peer| peer.datagram).collect();
        let known = self.known.iter().filter(|(node, _)| !members(**node));
        let mut others: Vec<SocketAddr> = known.map(|(_, known)| known.datagram).collect();
        others.extend(&self.fixed);
        if self.rounds == 0 && !others.is_empty() {
            self.place = (chance % others.len() as u64) as usize;
        }
        if !others.is_empty() {
            let turn = self.place % others.len();
            others.rotate_left(turn);
        }
        self.place += most;
        for other in others {
            if peers.len() >= most {
                break;
            }
            if !peers.contains(&other) {
                peers.push(other);
            }
        }
        self.asked += peers.len() as u64;
        peers
    }
}

impl Standing {
    const fn is_alone(self) -> bool {
        matches!(self, Self::Alone | Self::Leads { others: false })
    }
}

#[cfg(test)]
mod tests;
