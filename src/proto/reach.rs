//! Whom multicast reaches (LD-24, F28, F29): which of the leader's channels arrives here, and which peers
//! ours do not reach, so that they are told by unicast as well.
//!
//! A member hears a channel of its leader, or misses it:
//!
//! ```text
//!                nothing for the channel's gap: tell the leader
//!     +-------+ ----------------------------------------------> +--------+
//!     | Hears |                                                 | Misses |
//!     +-------+ <---------------------------------------------- +--------+
//!                three messages without such a gap: tell it
//! ```
//! Multicast is never given up: the leader sends everything there as well, so a member notices at once when it
//! passes again. It is per member and channel: half a switch, one cable, one direction are the same to it.
//!
//! What a leader is told decides to whom it sends copies. Copies go to addresses that their node has signed,
//! at most [`DEAF_MAX`], and only as long as that node goes on registering: whoever has not the segment's key
//! makes nobody send anything.

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::control::{Hears, Peer};
use crate::wire::id::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers that get copies; of a segment with more, the rest is not served while multicast is blocked.
pub const DEAF_MAX: usize = 64;
/// Messages in a row after which a channel counts as heard again: one may slip through a switch that learns.
const REGAINED: u32 = 3;

/// One channel of the leader as it arrives here.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    hears: bool,
    last: Instant,
    row: u32,
}

impl Hearing {
    const fn new(now: Instant, hears: bool) -> Self {
        Self { hears, last: now, row: 0 }
    }

    /// True where it is heard again.
    fn on_heard(&mut self, now: Instant, gap: Duration) -> bool {
        self.row = if now.since(self.last) > gap { 1 } else { self.row.saturating_add(1) };
        self.last = now;
        let again = !self.hears && self.row >= REGAINED;
        self.hears |= again;
        again
    }

    /// True where it is missed from now on.
    fn on_timeout(&mut self, now: Instant, gap: Duration) -> bool {
        let missed = self.hears && now >= self.last + gap;
        if missed {
            (self.hears, self.row) = (false, 0);
        }
        missed
    }

    fn deadline(&self, gap: Duration) -> Option<Instant> {
        self.hears.then(|| self.last + gap)
    }
}

/// The leader whom we follow.
#[derive(Clone, Copy, Debug)]
struct Ear {
    leader: NodeId,
    control: Hearing,
    data: Hearing,
    /// When to ask whether it lives, for no leader-alive came by any path.
    doubt_at: Instant,
    /// Since when a channel is missed, and whether that was said.
    missed: Option<(Instant, bool)>,
}

impl Ear {
    const fn hears(&self, listens: bool) -> Hears {
        Hears { control: self.control.hears, data: self.data.hears || !listens }
    }
}

/// A peer that some of our multicast does not reach.
#[derive(Clone, Copy, Debug)]
struct Deaf {
    datagram: SocketAddr,
    hears: Hears,
    told: Instant,
    since: Instant,
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Register with the leader now: what we hear of it has changed, or we hear nothing at all.
    Tell,
    /// Say something on the data channel, that members know whether it reaches them.
    Probe,
    /// Multicast of the leader has not arrived for some time; `None`: it does again.
    Missed(Option<Hears>),
    /// Our multicast does not reach this member, and that is no passing loss.
    Named(NodeId),
}

#[derive(Clone, Debug)]
pub struct Reach {
    profile: Profile,
    ear: Option<Ear>,
    /// We listen on a data channel: on none there is nothing to be missed.
    listens: bool,
    deaf: BTreeMap<NodeId, Deaf>,
    /// When the next probe is due; while we lead.
    probe_at: Option<Instant>,
    /// Peers beyond [`DEAF_MAX`].
    pub refused: u64,
}

impl Reach {
    pub const fn new(profile: Profile) -> Self {
        Self { profile, ear: None, listens: false, deaf: BTreeMap::new(), probe_at: None, refused: 0 }
    }

    /// What we hear of whom we follow; nothing where we follow nobody.
    pub fn hears(&self) -> Hears {
        self.ear.map_or(Hears::NOTHING, |ear| ear.hears(self.listens))
    }

    /// We listen on some data channel from now on, or on none.
    pub const fn on_channels(&mut self, now: Instant, listens: bool) {
        if listens
            && !self.listens
            && let Some(ear) = &mut self.ear
        {
            // Nothing can have come before. What blocks one channel most often blocks them all.
            ear.data = Hearing::new(now, ear.control.hears);
        }
        self.listens = listens;
    }

    /// Nothing arrives on the data channel of whom we follow, which it knows.
    pub fn is_without_data(&self) -> bool {
        self.ear.is_some_and(|ear| !ear.data.hears)
    }

    /// A leader-alive of the leader that we follow, by multicast or as a copy. True where it is a new leader.
    pub fn on_alive(&mut self, now: Instant, leader: NodeId, multicast: bool) -> bool {
        let doubt_at = now + self.doubt();
        match &mut self.ear {
            Some(ear) if ear.leader == leader => {
                ear.doubt_at = doubt_at;
                false
            }
            _ => {
                // Whose copies come first is missed until it is heard.
                let (control, data) = (Hearing::new(now, multicast), Hearing::new(now, multicast));
                let missed = (!multicast).then_some((now, false));
                self.ear = Some(Ear { leader, control, data, doubt_at, missed });
                self.probe_at = None;
                true
            }
        }
    }

    /// We follow nobody any more, or lead.
    pub fn on_alone(&mut self) {
        (self.ear, self.probe_at) = (None, None);
    }

    pub fn on_lead(&mut self, now: Instant) {
        self.ear = None;
        self.probe_at = Some(now);
        for deaf in self.deaf.values_mut() {
            (deaf.since, deaf.named) = (now, false);
        }
    }

    /// Something came by multicast: on the control channel, or on a data channel.
    pub fn on_multicast(&mut self, now: Instant, from: NodeId, data: bool) -> Vec<Action> {
        let (doubt, gap) = (self.doubt(), self.data_gap());
        let Some(ear) = self.ear.as_mut().filter(|ear| ear.leader == from) else { return Vec::new() };
        let again = if data { ear.data.on_heard(now, gap) } else { ear.control.on_heard(now, doubt) };
        let mut actions = Vec::new();
        if again {
            actions.push(Action::Tell);
            if ear.hears(self.listens) == Hears::ALL
                && let Some((_, true)) = ear.missed.take()
            {
                actions.push(Action::Missed(None));
            }
        }
        actions
    }

    /// Frames of a session of the leader came: whoever hears its data channel still does. It is left to the
    /// probes to say that it does again, for a batch of frames counts as one.
    pub const fn on_frames(&mut self, now: Instant) {
        if let Some(ear) = &mut self.ear
            && ear.data.hears
        {
            ear.data.last = now;
        }
    }

    /// A peer says what it hears of us. True where it misses something and that is news.
    pub fn on_told(&mut self, now: Instant, peer: Peer, hears: Hears) -> bool {
        if hears == Hears::ALL {
            self.deaf.remove(&peer.node);
            return false;
        }
        let known = self.deaf.get(&peer.node).copied();
        if known.is_none() && self.deaf.len() >= DEAF_MAX {
            self.refused += 1;
            return false;
        }
        let (since, named) = known.map_or((now, false), |known| (known.since, known.named));
        let deaf = Deaf { datagram: peer.datagram, hears, told: now, since, named };
        self.deaf.insert(peer.node, deaf);
        known.is_none_or(|known| known.hears != hears)
    }

    /// A peer of which nothing is known may miss everything: it gets copies until it says otherwise, or for
    /// want of an answer not long.
    pub fn suppose(&mut self, now: Instant, peer: Peer) {
        if !self.deaf.contains_key(&peer.node) {
            self.on_told(now, peer, Hears::NOTHING);
        }
    }

    pub fn forget(&mut self, node: NodeId) {
        self.deaf.remove(&node);
    }

    /// Whether what we multicast on the channel does not reach the peer.
    pub fn misses(&self, node: NodeId, data: bool) -> bool {
        self.deaf.get(&node).is_some_and(|deaf| deaf.misses(data))
    }

    /// What the peer hears of us, as far as it told.
    pub fn heard_by(&self, node: NodeId) -> Hears {
        self.deaf.get(&node).map_or(Hears::ALL, |deaf| deaf.hears)
    }

    /// Where copies of what we multicast on the channel go, to those of the peers that it is `meant` for.
    pub fn copies(&self, data: bool, meant: impl Fn(NodeId) -> bool) -> Vec<SocketAddr> {
        let misses = self.deaf.iter().filter(|(node, deaf)| deaf.misses(data) && meant(**node));
        misses.map(|(_, deaf)| deaf.datagram).collect()
    }

    /// Peers that miss something.
    pub fn deaf(&self) -> impl Iterator<Item = (NodeId, Hears)> {
        self.deaf.iter().map(|(node, deaf)| (*node, deaf.hears))
    }

    pub fn is_named(&self, node: NodeId) -> bool {
        self.deaf.get(&node).is_some_and(|deaf| deaf.named)
    }

    /// Peers that have missed something for so long that it is no passing loss.
    pub fn named(&self) -> impl Iterator<Item = NodeId> {
        self.deaf.iter().filter(|(_, deaf)| deaf.named).map(|(node, _)| *node)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let ear = self.ear.iter().flat_map(|ear| {
            let said = ear.missed.filter(|(_, said)| !said).map(|(since, _)| since + self.profile.trigger);
            [
                ear.control.deadline(self.doubt()),
                ear.data.deadline(self.data_gap()).filter(|_| self.listens),
                Some(ear.doubt_at),
                said,
            ]
        });
        let leads = self.probe_at.is_some();
        let deaf = self.deaf.values().flat_map(|deaf| {
            let name_at = (leads && !deaf.named).then(|| deaf.since + self.profile.trigger);
            [Some(deaf.told + self.patience()), name_at]
        });
        ear.chain(deaf).chain([self.probe_at]).flatten().min()
    }

    pub fn on_timeout(&mut self, now: Instant) -> Vec<Action> {
        let (doubt, data_gap, patience) = (self.doubt(), self.data_gap(), self.patience());
        let mut actions = Vec::new();
        if let Some(ear) = &mut self.ear {
            let lost =
                [ear.control.on_timeout(now, doubt), self.listens && ear.data.on_timeout(now, data_gap)];
            let doubts = now >= ear.doubt_at;
            if doubts {
                ear.doubt_at = now + self.profile.alive_period * 2;
            }
            if doubts || lost.contains(&true) {
                actions.push(Action::Tell);
            }
            match ear.missed {
                Some((since, false)) if now >= since + self.profile.trigger => {
                    ear.missed = Some((since, true));
                    actions.push(Action::Missed(Some(ear.hears(self.listens))));
                }
                None if ear.hears(self.listens) != Hears::ALL => ear.missed = Some((now, false)),
                Some(_) | None => {}
            }
        }
        self.deaf.retain(|_, deaf| now < deaf.told + patience);
        if let Some(at) = self.probe_at {
            if now >= at {
                self.probe_at = Some(now + self.probe_period());
                actions.push(Action::Probe);
            }
            let standing = |deaf: &Deaf| !deaf.named && now >= deaf.since + self.profile.trigger;
            for (node, deaf) in self.deaf.iter_mut().filter(|(_, deaf)| standing(deaf)) {
                deaf.named = true;
                actions.push(Action::Named(*node));
            }
        }
        actions
    }

    /// Silence of the control channel that is worth a question. Before `trigger`, so that a leader whom only
    /// multicast has left is not taken for gone.
    fn doubt(&self) -> Duration {
        (self.profile.trigger / 2).max(self.profile.alive_period * 5 / 2)
    }

    fn probe_period(&self) -> Duration {
        self.profile.alive_period * 4
    }

    /// Silence of the data channel after which it counts as blocked.
    fn data_gap(&self) -> Duration {
        self.profile.alive_period * 18
    }

    /// A peer that does not repeat itself gets no copies after so long.
    fn patience(&self) -> Duration {
        self.profile.register_refresh * 7 / 2
    }
}

impl Deaf {
    const fn misses(&self, data: bool) -> bool {
        if data { !self.hears.data } else { !self.hears.control }
    }
}

#[cfg(test)]
mod tests;
