//! What a node knows of the content groups of its segment, and how the newest list reaches every member (LD-2,
//! NS-15, JT-14).
//!
//! ```text
//!            offered a newer one         all parts are here            it verifies
//! Current ----------------------> Behind ----------------> (checked) --------------> Current
//!    ^                              |  ^                       |                        |
//!    |                     ask at ..+--+<----------------------+                        |
//!    +---------------------------------- it does not: asked again ----------------------+
//! ```
//! The leader has the list from the CCM, says its number in every leader-alive, multicasts a new one at once,
//! and whatever parts members ask for, together. Every member keeps the whole list: it may lead next. A leader
//! that has an older one than a member asks that member.

use super::profile::Profile;
use super::registration::share;
use crate::time::{Duration, Instant};
use crate::wire::groups::{Group, GroupList, GroupsPart, GroupsRequest};
use crate::wire::id::{ListNumber, Name, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4};

/// Requests of several members gather for so long before they are answered together.
const GATHER: Duration = Duration::from_millis(20);
/// Parts sent at once, and the pause until the next: 16 datagrams fit the smallest socket buffer.
const BURST: usize = 16;
const BURST_PAUSE: Duration = Duration::from_millis(5);

/// What the node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To whoever offered the list.
    Ask(SocketAddr, GroupsRequest),
    /// To all of the segment.
    Spread(GroupsPart),
    /// A list is whole: check the director's signature, keep it, then [`Groups::adopt`].
    Check(Vec<u8>),
}

/// Why a list is not adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is older than the one that is known")]
    Older,
    #[error("it is for another segment")]
    OtherSegment,
}

#[derive(Clone, Debug)]
struct Held {
    list: GroupList,
    bytes: Vec<u8>,
}

/// A list that arrives in parts.
#[derive(Clone, Debug)]
struct Arriving {
    number: ListNumber,
    len: u32,
    parts: BTreeMap<u16, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Groups {
    segment: Name,
    profile: Profile,
    held: Option<Held>,
    /// A newer list than ours, and who offers it.
    offered: Option<(ListNumber, SocketAddr)>,
    ask_at: Instant,
    arriving: Option<Arriving>,
    /// Parts of ours that are to be multicast.
    due: BTreeSet<u16>,
    spread_at: Instant,
}

impl Groups {
    pub const fn new(segment: Name, profile: Profile) -> Self {
        Self {
            segment,
            profile,
            held: None,
            offered: None,
            ask_at: Instant::ZERO,
            arriving: None,
            due: BTreeSet::new(),
            spread_at: Instant::ZERO,
        }
    }

    /// The list that this node goes by; number 0 for none.
    pub fn number(&self) -> ListNumber {
        self.held.as_ref().map_or(ListNumber(0), |held| held.list.number)
    }

    pub fn list(&self) -> Option<&GroupList> {
        self.held.as_ref().map(|held| &held.list)
    }

    /// The group that serves a site in this segment.
    pub fn serving(&self, site: &Name) -> Option<&Group> {
        self.list()?.serving(site)
    }

    /// Whether a node belongs to the group of a site.
    pub fn holds(&self, site: &Name, node: NodeId) -> bool {
        self.serving(site).is_some_and(|group| group.holds(node))
    }

    /// The data channels of the groups that hold a node.
    pub fn channels_of(&self, node: NodeId) -> BTreeSet<SocketAddrV4> {
        let groups = self.list().into_iter().flat_map(|list| &list.groups);
        groups.filter(|group| group.holds(node)).map(|group| group.channel).collect()
    }

    /// Whether content of some group comes on a channel.
    pub fn uses(&self, channel: SocketAddrV4) -> bool {
        self.list().is_some_and(|list| list.groups.iter().any(|group| group.channel == channel))
    }

    /// Goes by a list whose signature was checked. True where it is another one than before.
    ///
    /// # Errors
    /// An older list, or one of another segment (design D10).
    pub fn adopt(&mut self, list: GroupList, bytes: Vec<u8>) -> Result<bool, Refused> {
        if list.segment != self.segment {
            return Err(Refused::OtherSegment);
        }
        if list.number <= self.number() {
            return if list.number == self.number() { Ok(false) } else { Err(Refused::Older) };
        }
        self.offered = self.offered.filter(|(number, _)| *number > list.number);
        self.arriving = self.arriving.take().filter(|arriving| arriving.number > list.number);
        self.due.clear();
        self.held = Some(Held { list, bytes });
        Ok(true)
    }

    /// Somebody says which list it has: our leader, or, where we lead, a member. A newer one is asked for,
    /// unless it comes by itself meanwhile.
    pub fn on_offer(&mut self, now: Instant, number: ListNumber, from: SocketAddr, chance: u64) {
        if number <= self.number() {
            self.offered = self.offered.filter(|(_, source)| *source != from);
        } else {
            if self.offered.is_none() {
                self.ask_at = now + self.patience(chance);
            }
            self.offered = Some((number, from));
        }
    }

    /// Whoever offered something does not lead us any more.
    pub const fn forget_offer(&mut self) {
        self.offered = None;
    }

    /// A piece of a list. What is older than ours, or than what arrives already, is of no use.
    pub fn on_part(&mut self, now: Instant, part: GroupsPart, chance: u64) -> Option<Action> {
        let arriving = self.arriving.as_ref().map_or(ListNumber(0), |arriving| arriving.number);
        if part.number <= self.number() || part.number < arriving {
            return None;
        }
        let same = |arriving: &Arriving| arriving.number == part.number && arriving.len == part.len;
        if !self.arriving.as_ref().is_some_and(same) {
            self.arriving = Some(Arriving { number: part.number, len: part.len, parts: BTreeMap::new() });
        }
        self.ask_at = now + self.patience(chance);
        let arriving = self.arriving.as_mut()?;
        arriving.parts.insert(part.part, part.bytes);
        if arriving.parts.len() < usize::from(GroupsPart::count(arriving.len as usize)) {
            return None;
        }
        // What does not verify is forgotten, and asked for anew.
        let parts = self.arriving.take()?.parts;
        Some(Action::Check(parts.into_values().flatten().collect()))
    }

    /// Somebody lacks parts of a list. The leader answers all who ask with one multicast; a member answers
    /// the leader that asks.
    pub fn on_request(&mut self, now: Instant, request: &GroupsRequest, leads: bool) -> Vec<GroupsPart> {
        let Some(held) = self.held.as_ref().filter(|held| held.list.number >= request.number) else {
            return Vec::new();
        };
        let count = GroupsPart::count(held.bytes.len());
        let all = request.parts.is_empty() || held.list.number > request.number;
        let asked: Vec<u16> = if all {
            (0..count).collect()
        } else {
            request.parts.iter().copied().filter(|at| *at < count).collect()
        };
        if !leads {
            return asked.iter().filter_map(|at| self.part(*at)).collect();
        }
        if self.due.is_empty() {
            self.spread_at = now + GATHER;
        }
        self.due.extend(asked);
        Vec::new()
    }

    /// We lead, and the list is new: everybody gets it, asked or not.
    pub fn spread(&mut self, now: Instant) {
        if let Some(held) = &self.held {
            self.due = (0..GroupsPart::count(held.bytes.len())).collect();
            self.spread_at = now;
        }
    }

    /// We do not lead any more: who does answers.
    pub fn stop_spreading(&mut self) {
        self.due.clear();
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let ask = self.offered.map(|_| self.ask_at);
        let spread = (!self.due.is_empty()).then_some(self.spread_at);
        [ask, spread].into_iter().flatten().min()
    }

    pub fn on_timeout(&mut self, now: Instant, chance: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some((number, from)) = self.offered.filter(|_| now >= self.ask_at) {
            self.ask_at = now + self.patience(chance) * 2;
            // Another one than is offered has come to a standstill.
            self.arriving = self.arriving.take().filter(|arriving| arriving.number == number);
            actions.push(Action::Ask(from, self.request(number)));
        }
        if now >= self.spread_at {
            for at in std::iter::from_fn(|| self.due.pop_first()).take(BURST).collect::<Vec<_>>() {
                actions.extend(self.part(at).map(Action::Spread));
            }
            self.spread_at = now + BURST_PAUSE;
        }
        actions
    }

    fn request(&self, number: ListNumber) -> GroupsRequest {
        let parts = self.arriving.as_ref().map_or_else(Vec::new, |arriving| {
            let count = GroupsPart::count(arriving.len as usize);
            (0..count).filter(|part| !arriving.parts.contains_key(part)).collect()
        });
        GroupsRequest { number, parts }
    }

    fn part(&self, at: u16) -> Option<GroupsPart> {
        let held = self.held.as_ref()?;
        GroupsPart::of(&held.bytes, held.list.number, at)
    }

    /// How long what was offered may take to come by itself.
    fn patience(&self, chance: u64) -> Duration {
        self.profile.register_spread + share(self.profile.register_spread, chance)
    }
}

#[cfg(test)]
mod tests;
