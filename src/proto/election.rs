//! Who leads a segment (EL-1..EL-20, design D7; the table of requirements section 9, "recommended").
//!
//! ```text
//!                     no LA for `trigger`, or LA with priority 0
//!        +--------+ ------------------------------------------> +---------+ <------------ start
//!   LA   | Known  |                                             | Unknown |
//!  +---> |        | <------------------- LA ------------------- |         |
//!  |     +--------+                                             +---------+
//!  |        |  trigger, and a higher LC was just heard           |   |   ^
//!  |        v                                    higher LC heard |   |   | `concession` passes
//!  |     +------------+ <----------------------------------------+   |   |
//!  +-----| Concession | ---------------------------------------------|---+
//!  |     +------------+ <------------------+                         | claim delay ends, or lower LC heard:
//!  |                     higher LC heard   |                         | send LC
//!  |     +--------+                     +--------+ <-----------------+
//!  |     | Leader | <--- `vote` passes -| Voting |
//!  |     +--------+ --- LA or LC of --> +--------+ --- LA ---> Known
//!  |       | ^ send LA   another: send LC
//!  |       +-+
//!  +----- (LA)
//! ```
//! "Higher" is the total order on (listed, priority, node id), so that equal priorities cannot deadlock (B-7).
//! Where leaders are pre-assigned, those of the list are listed, and come before all others (EL-3); without a
//! list everybody is listed.
//! Timers: `trigger` runs in Known, the claim delay in Unknown (candidates only), `vote` in Voting,
//! `concession` in Concession, the LA period in Leader; claims are repeated at the LA period while a vote
//! is open, for one lost datagram must not decide it.

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::id::{Epoch, NodeId};

/// A priority at and above which a candidate claims first of all.
pub const PRIORITY_SCALE: u32 = 1_000;
/// Low bits of an epoch that tell leaders of the same number of reigns apart; those above count reigns.
const EPOCH_NODE_BITS: u32 = 16;

/// How strong a claim is: compared by the list of leaders, then by priority, then by node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// It is one of the pre-assigned leaders, or there are none.
    pub listed: bool,
    pub priority: u32,
    pub node: NodeId,
}

/// Whether a node takes part in the vote (EL-2, EL-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may lead.
    Candidate,
    /// It may lead where none of the list does, after so long without a leader.
    Substitute(Duration),
    /// It never claims.
    Follower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Follows a leader; `heard` is its last leader-alive.
    Known { leader: Rank, heard: Instant },
    /// Nobody leads as far as we know. Candidates claim at `claim_at`; others wait.
    Unknown { claim_at: Option<Instant> },
    /// We claimed and wait for an objection until `until`.
    Voting { until: Instant, repeat_at: Instant },
    /// Somebody stronger claimed; we wait for its first leader-alive until `until`.
    Concession { until: Instant },
    /// We lead; the next leader-alive is due at `alive_at`.
    Leader { alive_at: Instant },
}

impl State {
    /// The name operators see.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Known { .. } => "gl_known",
            Self::Unknown { .. } => "gl_unknown",
            Self::Voting { .. } => "voting_open",
            Self::Concession { .. } => "concession",
            Self::Leader { .. } => "gl_is_me",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A leader-alive; `resigns` where its priority is 0.
    Alive { from: Rank, epoch: Epoch, resigns: bool },
    /// `astray`: it is not on our control channel, and does not hear us for that.
    Claim { from: Rank, epoch: Epoch, astray: bool },
    /// The deadline has passed.
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    SendAlive,
    SendClaim,
    /// Whom the segment follows has changed.
    Follow(NodeId),
    /// We lead now, in this epoch.
    Lead(Epoch),
    /// We led and do no more.
    Yield,
    /// Nobody leads.
    Orphaned,
}

/// The machine. `None` as claim time is "never": a node that may not lead.
#[derive(Clone, Debug)]
pub struct Election {
    me: NodeId,
    priority: u32,
    standing: Standing,
    profile: Profile,
    state: State,
    /// Highest epoch heard of or led; goes into every message (F5, F8).
    epoch: Epoch,
    /// The epoch of the last leader-alive that counted, of others or our own, and when that was.
    reign: Option<(Epoch, Instant)>,
    /// The epoch in which we led last; re-entering it after a reopened vote keeps it (B-11).
    led: Option<Epoch>,
    /// When we last stopped leading: a deposed leader claims before all others (EL-9, EL-14).
    deposed: Option<Instant>,
    /// The strongest claim heard of late and when, for a node that has not noticed the silence yet (B-2).
    claim_heard: Option<(Rank, Instant)>,
}

impl Election {
    pub fn new(now: Instant, me: NodeId, priority: u32, standing: Standing, profile: Profile) -> Self {
        let state = State::Unknown { claim_at: None };
        let mut election = Self {
            me,
            priority,
            standing,
            profile,
            state,
            epoch: Epoch(0),
            reign: None,
            led: None,
            deposed: None,
            claim_heard: None,
        };
        election.state = election.unknown_since(now);
        election
    }

    pub const fn state(&self) -> &State {
        &self.state
    }

    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub const fn rank(&self) -> Rank {
        let listed = matches!(self.standing, Standing::Candidate);
        Rank { listed, priority: self.priority, node: self.me }
    }

    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Whom we follow: ourselves while we lead.
    pub const fn leader(&self) -> Option<NodeId> {
        match self.state {
            State::Known { leader, .. } => Some(leader.node),
            State::Leader { .. } => Some(self.me),
            State::Unknown { .. } | State::Voting { .. } | State::Concession { .. } => None,
        }
    }

    /// We lead or ask to.
    pub const fn is_contending(&self) -> bool {
        matches!(self.state, State::Leader { .. } | State::Voting { .. })
    }

    pub const fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader { .. })
    }

    /// A newly measured priority (EL-12); it counts from the next claim on.
    pub fn set_priority(&mut self, priority: u32) {
        self.priority = priority;
    }

    /// Another list of leaders counts (EL-3). A leader goes on until it hands over.
    pub fn set_standing(&mut self, now: Instant, standing: Standing) {
        if self.standing == standing {
            return;
        }
        self.standing = standing;
        match self.state {
            State::Unknown { .. } => self.state = self.unknown_since(now),
            State::Voting { .. } if standing != Standing::Candidate => self.state = self.unknown_since(now),
            State::Known { .. } | State::Voting { .. } | State::Concession { .. } | State::Leader { .. } => {}
        }
    }

    /// Stops leading, for another is to lead, and takes part in the vote as its standing says. The caller
    /// sends a last leader-alive with priority 0 where this returns true.
    pub fn hand_over(&mut self, now: Instant) -> bool {
        let led = self.is_leader();
        if led {
            // It was not deposed: it has no first claim on coming back.
            self.deposed = None;
            self.state = self.unknown_since(now);
        }
        led
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Known { heard, .. } => Some(heard + self.profile.trigger),
            State::Unknown { claim_at } => claim_at,
            State::Voting { until, repeat_at } => Some(until.min(repeat_at)),
            State::Concession { until } => Some(until),
            State::Leader { alive_at } => Some(alive_at),
        }
    }

    /// Stops taking part, for the daemon is about to end. The caller sends a last leader-alive with
    /// priority 0 where this returns true (design D7).
    pub fn resign(&mut self) -> bool {
        let led = self.is_leader();
        self.standing = Standing::Follower;
        self.state = State::Unknown { claim_at: None };
        led
    }

    /// Somebody who may lead registered with us, and has heard of a later epoch than ours: we did not hear its
    /// leader. We lead on in an epoch of our own above it, which is returned; in ours nobody would believe us.
    pub fn outgrow(&mut self, now: Instant, epoch: Epoch) -> Option<Epoch> {
        if !self.is_leader() || epoch <= self.epoch {
            return None;
        }
        self.epoch = next_epoch(epoch, self.me);
        self.led = Some(self.epoch);
        self.reign = Some((self.epoch, now));
        Some(self.epoch)
    }

    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mine = self.rank();
        if let Event::Claim { from, epoch, astray } = event
            && self.is_leader()
            && epoch <= self.epoch
            && (astray || mine.listed && !from.listed)
        {
            // It does not hear us, or may not lead: it is shown that we live, and no vote is opened for it. If
            // it leads nevertheless, its leader-alive opens one.
            return vec![Action::SendAlive];
        }
        if let Event::Alive { epoch, .. } | Event::Claim { epoch, .. } = event {
            if let Event::Alive { resigns, .. } = event {
                // A leader of the past does not know yet that it is one: it is not heard as such.
                if self.is_past(now, epoch) && !self.is_leader() {
                    return Vec::new();
                }
                if resigns && self.is_leader() {
                    // It is no rival any more. Its epoch is not ours to lead in.
                    return Vec::new();
                }
                if !resigns {
                    self.reign = Some((epoch, now));
                }
            }
            self.epoch = self.epoch.max(epoch);
        }
        let higher = |from: Rank, me: Rank| from > me;
        match (self.state, event) {
            (State::Known { leader, .. }, Event::Alive { from, resigns: true, .. }) => {
                if from.node == leader.node { self.orphan(now, now) } else { Vec::new() }
            }
            (State::Known { leader, heard }, Event::Alive { from, resigns: false, .. }) => {
                let silent = now.since(heard) >= self.profile.alive_period * 2;
                if from.node == leader.node || from > leader || silent {
                    self.follow(now, from, Some(leader.node))
                } else {
                    Vec::new()
                }
            }
            (State::Known { .. }, Event::Claim { from, .. }) => {
                self.remember_claim(now, from);
                Vec::new()
            }
            (State::Known { heard, .. }, Event::Timeout) => {
                if now < heard + self.profile.trigger {
                    Vec::new()
                } else {
                    self.orphan(now, heard)
                }
            }

            (State::Unknown { .. } | State::Voting { .. }, Event::Alive { resigns: true, .. }) => Vec::new(),
            (State::Concession { .. }, Event::Alive { resigns: true, .. }) => {
                // The winner left at once: do not wait for it.
                self.state = self.unknown_since(now);
                Vec::new()
            }
            (
                State::Unknown { .. } | State::Voting { .. } | State::Concession { .. },
                Event::Alive { from, resigns: false, .. },
            ) => self.follow(now, from, None),

            (State::Unknown { claim_at }, Event::Claim { from, .. }) => {
                let waits = match self.standing {
                    // One that may not lead waits for the leader-alive without a limit of its own.
                    Standing::Follower => true,
                    // Its time has not come: one that is no better does not bring it nearer.
                    Standing::Substitute(_) => !from.listed && claim_at.is_some_and(|at| now < at),
                    Standing::Candidate => false,
                };
                if waits {
                    Vec::new()
                } else if higher(from, mine) {
                    self.state = State::Concession { until: now + self.profile.concession };
                    Vec::new()
                } else {
                    self.open_vote(now)
                }
            }
            (State::Unknown { claim_at }, Event::Timeout) => match claim_at {
                Some(at) if now >= at => self.open_vote(now),
                Some(_) | None => Vec::new(),
            },

            (State::Voting { until, repeat_at }, Event::Claim { from, .. }) => {
                if higher(from, mine) {
                    self.state = State::Concession { until: now + self.profile.concession };
                    Vec::new()
                } else if now + self.profile.alive_period / 2 >= repeat_at {
                    self.state = State::Voting { until, repeat_at: now + self.profile.alive_period };
                    vec![Action::SendClaim]
                } else {
                    // Our own claim went out a moment ago; answering each of many would be a storm (T14).
                    Vec::new()
                }
            }
            (State::Voting { until, repeat_at }, Event::Timeout) => {
                if now >= until {
                    self.win(now)
                } else if now >= repeat_at {
                    self.state = State::Voting { until, repeat_at: now + self.profile.alive_period };
                    vec![Action::SendClaim]
                } else {
                    Vec::new()
                }
            }

            (State::Concession { .. }, Event::Claim { from, .. }) => {
                if higher(from, mine) {
                    self.state = State::Concession { until: now + self.profile.concession };
                }
                Vec::new()
            }
            (State::Concession { until }, Event::Timeout) => {
                if now >= until {
                    self.state = self.unknown_since(now);
                }
                Vec::new()
            }

            (State::Leader { .. }, Event::Alive { resigns: true, .. }) => Vec::new(),
            (State::Leader { .. }, Event::Alive { resigns: false, .. } | Event::Claim { .. }) => {
                self.deposed = Some(now);
                let mut actions = self.open_vote(now);
                actions.insert(0, Action::Yield);
                actions
            }
            (State::Leader { alive_at }, Event::Timeout) => {
                if now < alive_at {
                    return Vec::new();
                }
                self.state = State::Leader { alive_at: now + self.profile.alive_period };
                self.reign = Some((self.epoch, now));
                vec![Action::SendAlive]
            }
        }
    }

    /// Whether the leader of a later epoch lives as far as we know. For a while only: if it is gone, and with
    /// it all who know its epoch, a follower that is never heard would wait for its like for ever.
    fn is_past(&self, now: Instant, epoch: Epoch) -> bool {
        self.reign.is_some_and(|(reign, at)| epoch < reign && now.since(at) <= self.profile.concession * 2)
    }

    fn follow(&mut self, now: Instant, leader: Rank, before: Option<NodeId>) -> Vec<Action> {
        self.state = State::Known { leader, heard: now };
        self.claim_heard = None;
        if before == Some(leader.node) { Vec::new() } else { vec![Action::Follow(leader.node)] }
    }

    /// The leader is gone, silent since `heard`.
    fn orphan(&mut self, now: Instant, heard: Instant) -> Vec<Action> {
        let conceded = self.claim_heard.take().is_some_and(|(claim, at)| {
            claim > self.rank() && now.since(at) <= self.profile.vote && self.may_claim()
        });
        self.state = if conceded {
            State::Concession { until: now + self.profile.concession }
        } else if heard == now {
            // It said so itself: no need to wait for silence.
            State::Unknown { claim_at: self.may_claim().then(|| now + self.claim_delay(now)) }
        } else {
            let claim_at = heard + self.profile.claim_min + self.claim_delay(now);
            State::Unknown { claim_at: self.may_claim().then_some(claim_at.max(now)) }
        };
        vec![Action::Orphaned]
    }

    fn unknown_since(&self, now: Instant) -> State {
        let claim_at = now + self.profile.claim_min + self.claim_delay(now);
        State::Unknown { claim_at: self.may_claim().then_some(claim_at) }
    }

    fn may_claim(&self) -> bool {
        self.standing != Standing::Follower
    }

    /// The stronger, the sooner (EL-9); nothing at all for one that led a moment ago (EL-14); substitutes leave
    /// the list its time first (EL-3).
    fn claim_delay(&self, now: Instant) -> Duration {
        if let Standing::Substitute(after) = self.standing {
            return after + self.own_delay(now);
        }
        self.own_delay(now)
    }

    fn own_delay(&self, now: Instant) -> Duration {
        if self.deposed.is_some_and(|at| now.since(at) <= self.profile.concession * 2) {
            return Duration::ZERO;
        }
        let weakness = u64::from(PRIORITY_SCALE.saturating_sub(self.priority));
        (self.profile.claim_max - self.profile.claim_min) * weakness / u64::from(PRIORITY_SCALE)
    }

    fn open_vote(&mut self, now: Instant) -> Vec<Action> {
        let (until, repeat_at) = (now + self.profile.vote, now + self.profile.alive_period);
        self.state = State::Voting { until, repeat_at };
        vec![Action::SendClaim]
    }

    fn win(&mut self, now: Instant) -> Vec<Action> {
        if self.led != Some(self.epoch) {
            self.epoch = next_epoch(self.epoch, self.me);
        }
        self.led = Some(self.epoch);
        self.reign = Some((self.epoch, now));
        self.state = State::Leader { alive_at: now + self.profile.alive_period };
        vec![Action::Lead(self.epoch), Action::SendAlive]
    }

    fn remember_claim(&mut self, now: Instant, from: Rank) {
        let fresh = self.claim_heard.filter(|(_, at)| now.since(*at) <= self.profile.vote);
        if fresh.is_none_or(|(claim, _)| from >= claim) {
            self.claim_heard = Some((from, now));
        }
    }
}

/// The epoch in which `node` leads after `epoch`. Its low bits are the node's: two that win at the same time
/// and cannot hear each other, on both sides of a cut say, lead in epochs of their own (EL-16, F8).
fn next_epoch(epoch: Epoch, node: NodeId) -> Epoch {
    let reigns = (epoch.0 >> EPOCH_NODE_BITS).saturating_add(1).min(u64::MAX >> EPOCH_NODE_BITS);
    Epoch(reigns << EPOCH_NODE_BITS | node.0 & ((1 << EPOCH_NODE_BITS) - 1))
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
