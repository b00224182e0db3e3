//! Who fetches an assignment from whom: the transmission tree of global distribution (GD, NS-10). Pure.
//!
//! ```text
//!            start, next, expire                stored, next
//!  Waiting ------------------------> Fetching ----------------> Stored
//!     ^                               |    |                      |
//!     +--- lease ended, new leader ---+    |       new leader     |
//!     +------------------------------------+----------------------+
//! ```
//! The controller serves the first leaders of the list itself. Every leader that holds a copy asks whom
//! it may serve next and is handed one that waits, chosen at the time it asks, so a fast leader serves
//! more than a slow one (GD-15). A hand-out is a lease: a leader that does not hold a copy when it ends
//! waits again, for another source than the one that failed it (B-22). Such a leader, and one that came
//! anew, need not wait for a leader to ask: the controller serves it too. But it never serves more at the
//! same time than its first level, whatever dies (GD-14).

mod order;
mod paths;
#[cfg(test)]
mod tests;

pub use order::{Ranking, SortKey};
pub use paths::{Path, Paths};

use crate::wire::control::Machine;
use crate::wire::id::{ListNumber, Name, NodeId};
use crate::wire::notify::{Forwarding, Notification};
use std::fmt;
use std::net::SocketAddr;

/// Longest lease, as a power of two of the first: each hand-out to the same leader lasts twice as long, for a
/// slow link is no dead one.
const LEASE_DOUBLINGS_MAX: u32 = 4;

/// The leader of a segment that has a node of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub segment: Name,
    pub node: NodeId,
    /// Where it takes notifications and orders.
    pub text: SocketAddr,
    /// Where others fetch from it.
    pub http: SocketAddr,
    /// The list of content groups that its segment goes by.
    pub groups: ListNumber,
    pub standing: Standing,
}

/// What leaders are sorted by (GD-2, GD-3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub processors: u16,
    pub priority: u32,
    pub free_memory: u64,
    pub free_disk: u64,
    pub machine: Machine,
    /// What was measured of the way to it.
    pub path: Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Controller,
    /// Another leader; its HTTP address.
    Leader(SocketAddr),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("the controller"),
            Self::Leader(http) => write!(f, "{http}"),
        }
    }
}

/// "This leader fetches there now."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOut {
    pub leader: Leader,
    pub source: Source,
    /// Leaders that hold a copy as well: where it may fetch if the source fails, or at the same time.
    pub others: Vec<SocketAddr>,
    /// Nobody waits any more (GD-9).
    pub last: bool,
}

/// What a leader that holds a copy is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Serve(Box<HandOut>),
    /// Others wait, but the one it serves has not got its copy yet: one after the other, or the tree would
    /// be a star around whoever asks first (GD-16).
    Wait,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Fetching { from: Option<NodeId>, since_ns: u64, until_ns: u64 },
    Stored,
}

#[derive(Clone, Debug)]
struct Entry {
    leader: Leader,
    turn: Turn,
    /// Hand-outs so far.
    tries: u32,
    /// Its segment's turn has come before: the controller need not wait until a leader asks for it.
    urgent: bool,
    /// The leader that failed it last.
    avoid: Option<NodeId>,
    /// Since when nodes of its segment are known to lack what it holds.
    open_ns: Option<u64>,
}

impl Entry {
    const fn new(leader: Leader, urgent: bool) -> Self {
        Self { leader, turn: Turn::Waiting, tries: 0, urgent, avoid: None, open_ns: None }
    }

    fn location(&self) -> &str {
        &self.leader.standing.machine.location
    }
}

/// How a hand-out ended: what is known of a way afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub leader: NodeId,
    /// `None`: the lease ended before the leader held a copy.
    pub took_ns: Option<u64>,
}

/// Bounds of one distribution.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Leaders that the controller serves at the same time, at most.
    pub first_level: usize,
    /// Nanoseconds that the first hand-out to a leader lasts.
    pub lease_ns: u64,
    /// A leader that still fetches may serve as well, what it has verified.
    pub forward: Forwarding,
}

/// The list of one run. Every method that hands out takes the time, in nanoseconds of any clock.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// In the order in which they are served (GD-2).
    entries: Vec<Entry>,
    limits: Limits,
    /// Who asks serves those near it first, unless an operator has said in which order.
    near: bool,
    /// Since when leaders wait while nobody fetches; `None` while somebody does.
    stalled_ns: Option<u64>,
    outcomes: Vec<Outcome>,
}

impl Distribution {
    pub fn new(mut leaders: Vec<Leader>, ranking: &Ranking, limits: Limits) -> Self {
        ranking.sort(&mut leaders);
        let entries = leaders.into_iter().map(|leader| Entry::new(leader, false)).collect();
        Self { entries, limits, near: !ranking.is_static(), stalled_ns: None, outcomes: Vec::new() }
    }

    /// Segments in the order in which they are served.
    pub fn order(&self) -> impl Iterator<Item = &Name> {
        self.entries.iter().map(|entry| &entry.leader.segment)
    }

    /// The first level, served by the controller in parallel; with few leaders that is all (GD-6, GD-14).
    pub fn start(&mut self, now_ns: u64) -> Vec<HandOut> {
        let first = self.entries.len().min(self.limits.first_level);
        (0..first).map(|index| self.hand_out(index, Source::Controller, now_ns)).collect()
    }

    /// A leader holds a copy, or where that is enough the first leaves of one, and asks for the next one to serve
    /// (GD-11, GD-13).
    pub fn next(&mut self, asker: NodeId, whole: bool, now_ns: u64) -> Next {
        let Some(at) = self.position(asker) else { return Next::Nobody };
        if whole {
            self.stored(asker, now_ns);
        }
        let may = match self.entries[at].turn {
            Turn::Stored => true,
            Turn::Fetching { .. } => self.limits.forward == Forwarding::Verified,
            Turn::Waiting => false,
        };
        if !may {
            return Next::Nobody;
        }
        let Some(waiting) = self.choose(at) else { return Next::Nobody };
        let serves = |entry: &Entry| matches!(entry.turn, Turn::Fetching { from, .. } if from == Some(asker));
        if self.entries.iter().any(serves) {
            return Next::Wait;
        }
        let source = Source::Leader(self.entries[at].leader.http);
        let mut hand_out = self.hand_out_from(waiting, source, Some(asker), now_ns);
        hand_out.others = self.others(waiting, asker);
        Next::Serve(Box::new(hand_out))
    }

    /// Whom the leader at this place serves best: the first that waits where it stands itself; else the first
    /// in a place where nobody has the content yet, so that it crosses each long way once; else the first.
    fn choose(&self, asker: usize) -> Option<usize> {
        let asking = &self.entries[asker];
        let node = asking.leader.node;
        let waits = |entry: &Entry| {
            entry.turn == Turn::Waiting
                && entry.avoid != Some(node)
                && !self.depends(asker, entry.leader.node)
        };
        let first = self.entries.iter().position(waits)?;
        if !self.near || asking.location().is_empty() {
            return Some(first);
        }
        let here = |entry: &Entry| waits(entry) && entry.location() == asking.location();
        let untouched = |place: &str| {
            let mut there = self.entries.iter().filter(|entry| entry.location() == place);
            place.is_empty() || there.all(|entry| entry.turn == Turn::Waiting)
        };
        let near = self.entries.iter().position(here);
        let new = || self.entries.iter().position(|entry| waits(entry) && untouched(entry.location()));
        Some(near.or_else(new).unwrap_or(first))
    }

    /// Leaders that hold a copy beside the one that serves, in the order of the list from the receiver's place on:
    /// not all are to lean on the same. The one that failed the receiver is not among them.
    fn others(&self, receiver: usize, serves: NodeId) -> Vec<SocketAddr> {
        let avoid = self.entries[receiver].avoid;
        let holds = |entry: &&Entry| {
            let node = entry.leader.node;
            entry.turn == Turn::Stored && node != serves && Some(node) != avoid
        };
        let (before, behind) = self.entries.split_at(receiver);
        let others = behind.iter().chain(before).filter(holds);
        others.map(|entry| entry.leader.http).take(Notification::OTHERS_MAX).collect()
    }

    /// Whether the leader at this place fetches from that one, or from one that does: then they would wait for
    /// each other.
    fn depends(&self, at: usize, on: NodeId) -> bool {
        let mut at = Some(at);
        for _ in 0..self.entries.len() {
            let Some(Turn::Fetching { from: Some(from), .. }) = at.map(|at| self.entries[at].turn) else {
                return false;
            };
            if from == on {
                return true;
            }
            at = self.position(from);
        }
        true
    }

    /// A leader holds a copy (GD-19). False where it is not on the list.
    pub fn stored(&mut self, leader: NodeId, now_ns: u64) -> bool {
        let Some(index) = self.position(leader) else { return false };
        if let Turn::Fetching { since_ns, .. } = self.entries[index].turn {
            let took_ns = Some(now_ns.saturating_sub(since_ns));
            self.outcomes.push(Outcome { leader, took_ns });
        }
        self.entries[index].turn = Turn::Stored;
        true
    }

    /// How hand-outs ended since this was asked last.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Ends leases that are over. Whose turn had come goes to the controller as far as that may serve; and so
    /// does the first that waits, where for a whole lease nobody has asked for it.
    pub fn expire(&mut self, now_ns: u64) -> Vec<HandOut> {
        for entry in &mut self.entries {
            if let Turn::Fetching { from, until_ns, .. } = entry.turn
                && until_ns <= now_ns
            {
                self.outcomes.push(Outcome { leader: entry.leader.node, took_ns: None });
                (entry.turn, entry.urgent, entry.avoid) = (Turn::Waiting, true, from);
            }
        }
        let mut due = Vec::new();
        while let Some(index) = self.most_urgent() {
            due.push(self.hand_out(index, Source::Controller, now_ns));
        }
        let fetching = self.entries.iter().any(|entry| matches!(entry.turn, Turn::Fetching { .. }));
        let waiting = self.entries.iter().position(|entry| entry.turn == Turn::Waiting);
        match (fetching, waiting, self.stalled_ns) {
            (false, Some(_), None) => self.stalled_ns = Some(now_ns),
            (false, Some(first), Some(since)) if now_ns >= since.saturating_add(self.limits.lease_ns) => {
                due.push(self.hand_out(first, Source::Controller, now_ns));
            }
            (false, Some(_), Some(_)) => {}
            (true, _, _) | (false, None, _) => self.stalled_ns = None,
        }
        due
    }

    /// Who is to be served by the controller now, if that may serve one more: who was tried least.
    fn most_urgent(&self) -> Option<usize> {
        let served = |entry: &&Entry| matches!(entry.turn, Turn::Fetching { from: None, .. });
        if self.entries.iter().filter(served).count() >= self.limits.first_level {
            return None;
        }
        let waits = |index: &usize| self.entries[*index].turn == Turn::Waiting && self.entries[*index].urgent;
        (0..self.entries.len()).filter(waits).min_by_key(|index| (self.entries[*index].tries, *index))
    }

    /// A segment has this leader now. A new one begins anew whatever the old one held, unless its segment's
    /// turn has not come (GD-21); the next [`expire`](Self::expire) hands it out.
    pub fn led_by(&mut self, leader: &Leader) {
        let known = self.entries.iter_mut().find(|entry| entry.leader.segment == leader.segment);
        let Some(entry) = known else {
            self.entries.push(Entry::new(leader.clone(), true));
            return;
        };
        let same = entry.leader.node == leader.node && entry.leader.text == leader.text;
        entry.leader = leader.clone();
        if !same && entry.turn != Turn::Waiting {
            *entry = Entry::new(leader.clone(), true);
        }
    }

    /// From now on a hand-out lasts so long at least, also those that are under way: what is sent is bounded.
    pub fn stretch(&mut self, lease_ns: u64) {
        if lease_ns <= self.limits.lease_ns {
            return;
        }
        self.limits.lease_ns = lease_ns;
        for entry in &mut self.entries {
            if let Turn::Fetching { since_ns, until_ns, .. } = &mut entry.turn {
                *until_ns = (*until_ns).max(since_ns.saturating_add(lease_ns));
            }
        }
    }

    /// What all leaders that fetch or hold a copy have been told, to be told again because a word in it has changed.
    pub fn told(&self) -> Vec<HandOut> {
        let last = !self.entries.iter().any(|entry| entry.turn == Turn::Waiting);
        let told = self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let from = match entry.turn {
                Turn::Waiting => return None,
                Turn::Fetching { from, .. } => from,
                Turn::Stored => None,
            };
            let server = from.and_then(|from| Some((from, self.position(from)?)));
            let (source, others) = match server {
                Some((from, at)) => (Source::Leader(self.entries[at].leader.http), self.others(index, from)),
                None => (Source::Controller, Vec::new()),
            };
            Some(HandOut { leader: entry.leader.clone(), source, others, last })
        });
        told.collect()
    }

    /// What to tell a leader that holds a copy while nodes of its segment have not reported; to be asked for
    /// again and again, for it is due after a whole lease of that. Another leader may have handed it the
    /// notification, and if it has restarted since, it knows nothing of the run and nobody else would tell
    /// it again (GD-21). `None` where it is still to fetch.
    pub fn reminder(&mut self, leader: NodeId, now_ns: u64) -> Option<HandOut> {
        let last = !self.entries.iter().any(|entry| entry.turn == Turn::Waiting);
        let index = self.position(leader)?;
        let entry = &mut self.entries[index];
        if entry.turn != Turn::Stored {
            return None;
        }
        let since = *entry.open_ns.get_or_insert(now_ns);
        let (leader, others) = (entry.leader.clone(), Vec::new());
        let hand_out = HandOut { leader, source: Source::Controller, others, last };
        (now_ns >= since.saturating_add(self.limits.lease_ns)).then_some(hand_out)
    }

    /// Nobody serves this leader now.
    pub fn is_waiting(&self, leader: NodeId) -> bool {
        self.position(leader).is_some_and(|index| self.entries[index].turn == Turn::Waiting)
    }

    /// Every leader holds a copy.
    pub fn is_done(&self) -> bool {
        self.entries.iter().all(|entry| entry.turn == Turn::Stored)
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.leader.node == node)
    }

    fn hand_out(&mut self, index: usize, source: Source, now_ns: u64) -> HandOut {
        self.hand_out_from(index, source, None, now_ns)
    }

    fn hand_out_from(&mut self, index: usize, source: Source, from: Option<NodeId>, now_ns: u64) -> HandOut {
        self.stalled_ns = None;
        let entry = &mut self.entries[index];
        let lease_ns = self.limits.lease_ns.saturating_mul(1 << entry.tries.min(LEASE_DOUBLINGS_MAX));
        let until_ns = now_ns.saturating_add(lease_ns);
        entry.turn = Turn::Fetching { from, since_ns: now_ns, until_ns };
        (entry.open_ns, entry.tries) = (None, entry.tries + 1);
        let last = !self.entries.iter().any(|entry| entry.turn == Turn::Waiting);
        HandOut { leader: self.entries[index].leader.clone(), source, others: Vec::new(), last }
    }
}
