//! Who fetches an assignment from whom: the transmission tree of global distribution (GD). Pure.
//!
//! ```text
//!            start, next, expire                stored, next
//!  Waiting ------------------------> Fetching ----------------> Stored
//!                                     |    ^                      |
//!                           expire,   +----+       led_by         |
//!                           led_by     again  <------------------+
//! ```
//! The controller serves the first leaders of the list itself. Every leader that holds a copy asks whom
//! it may serve next and is handed the first that waits, at the time it asks, so a fast leader serves
//! more than a slow one (GD-15). A hand-out is a lease: a leader that does not hold a copy when it ends
//! is handed to the controller as source, for its source may have died (B-22).

#[cfg(test)]
mod tests;

use crate::wire::id::{ListNumber, Name, NodeId};
use std::fmt;
use std::net::SocketAddr;

/// The leader of a segment that has a node of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub segment: Name,
    pub node: NodeId,
    pub processors: u16,
    /// Where it takes notifications and orders.
    pub text: SocketAddr,
    /// Where others fetch from it.
    pub http: SocketAddr,
    /// The list of content groups that its segment goes by.
    pub groups: ListNumber,
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
    /// Nobody waits any more (GD-9).
    pub last: bool,
}

/// What a leader that holds a copy is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Serve(HandOut),
    /// Others wait, but the one it serves has not got its copy yet: one after the other, or the tree would
    /// be a star around whoever asks first (GD-16).
    Wait,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Fetching { from: Option<NodeId>, until_ns: u64 },
    Stored,
}

#[derive(Clone, Debug)]
struct Entry {
    leader: Leader,
    turn: Turn,
    /// Since when nodes of its segment are known to lack what it holds.
    open_ns: Option<u64>,
}

/// The list of one run. Every method that hands out takes the time, in nanoseconds of any clock.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// In the order in which they are served (GD-2).
    entries: Vec<Entry>,
    first_level: usize,
    lease_ns: u64,
    /// Since when leaders wait while nobody fetches; `None` while somebody does.
    stalled_ns: Option<u64>,
}

impl Distribution {
    /// Sorts by processors, most first, then by segment, address and id (GD-2).
    pub fn new(mut leaders: Vec<Leader>, first_level: usize, lease_ns: u64) -> Self {
        leaders.sort_by(|a, b| {
            let key = |leader: &Leader| (leader.segment.clone(), leader.text, leader.node);
            b.processors.cmp(&a.processors).then_with(|| key(a).cmp(&key(b)))
        });
        let entries =
            leaders.into_iter().map(|leader| Entry { leader, turn: Turn::Waiting, open_ns: None }).collect();
        Self { entries, first_level, lease_ns, stalled_ns: None }
    }

    /// The first level, served by the controller in parallel; with few leaders that is all (GD-6, GD-14).
    pub fn start(&mut self, now_ns: u64) -> Vec<HandOut> {
        let first = self.entries.len().min(self.first_level);
        (0..first).map(|index| self.hand_out(index, Source::Controller, now_ns)).collect()
    }

    /// A leader holds a copy and asks for the next one to serve (GD-11, GD-13).
    pub fn next(&mut self, asker: NodeId, now_ns: u64) -> Next {
        let Some(at) = self.position(asker).filter(|_| self.stored(asker)) else { return Next::Nobody };
        let Some(waiting) = self.entries.iter().position(|entry| entry.turn == Turn::Waiting) else {
            return Next::Nobody;
        };
        let serves = |entry: &Entry| matches!(entry.turn, Turn::Fetching { from, .. } if from == Some(asker));
        if self.entries.iter().any(serves) {
            return Next::Wait;
        }
        let source = Source::Leader(self.entries[at].leader.http);
        Next::Serve(self.hand_out_from(waiting, source, Some(asker), now_ns))
    }

    /// A leader holds a copy (GD-19). False where it is not on the list.
    pub fn stored(&mut self, leader: NodeId) -> bool {
        let Some(index) = self.position(leader) else { return false };
        self.entries[index].turn = Turn::Stored;
        true
    }

    /// Hands leaders whose lease ended to the controller; and the first that waits, where for a whole
    /// lease nobody has asked for it.
    pub fn expire(&mut self, now_ns: u64) -> Vec<HandOut> {
        let ended =
            |entry: &Entry| matches!(entry.turn, Turn::Fetching { until_ns, .. } if until_ns <= now_ns);
        let mut due: Vec<usize> =
            (0..self.entries.len()).filter(|&index| ended(&self.entries[index])).collect();
        let fetching = self.entries.iter().any(|entry| matches!(entry.turn, Turn::Fetching { .. }));
        let waiting = self.entries.iter().position(|entry| entry.turn == Turn::Waiting);
        match (fetching, waiting, self.stalled_ns) {
            (false, Some(_), None) => self.stalled_ns = Some(now_ns),
            (false, Some(first), Some(since)) if now_ns >= since.saturating_add(self.lease_ns) => {
                due.push(first);
            }
            (false, Some(_), Some(_)) => {}
            (true, _, _) | (false, None, _) => self.stalled_ns = None,
        }
        due.into_iter().map(|index| self.hand_out(index, Source::Controller, now_ns)).collect()
    }

    /// A segment has this leader now. A new one is served by the controller whatever the old one held,
    /// unless its segment's turn has not come (GD-21).
    pub fn led_by(&mut self, leader: &Leader, now_ns: u64) -> Option<HandOut> {
        let known = self.entries.iter().position(|entry| entry.leader.segment == leader.segment);
        let Some(index) = known else {
            self.entries.push(Entry { leader: leader.clone(), turn: Turn::Waiting, open_ns: None });
            return Some(self.hand_out(self.entries.len() - 1, Source::Controller, now_ns));
        };
        let entry = &mut self.entries[index];
        let same = entry.leader.node == leader.node && entry.leader.text == leader.text;
        entry.leader = leader.clone();
        if same || entry.turn == Turn::Waiting {
            return None;
        }
        Some(self.hand_out(index, Source::Controller, now_ns))
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
        let hand_out = HandOut { leader: entry.leader.clone(), source: Source::Controller, last };
        (now_ns >= since.saturating_add(self.lease_ns)).then_some(hand_out)
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
        entry.turn = Turn::Fetching { from, until_ns: now_ns.saturating_add(self.lease_ns) };
        entry.open_ns = None;
        let last = !self.entries.iter().any(|entry| entry.turn == Turn::Waiting);
        HandOut { leader: self.entries[index].leader.clone(), source, last }
    }
}
