//! Which multicast channel a segment's control messages use, and how all come to use another (EL-5, EL-6,
//! B-12).
//!
//! ```text
//!  leader                                                     member
//!  order(to) -> announces `to` with each of 3 leader-alives   on_alive: joins `to`, notes when it counts
//!  then moves; 3 more leader-alives also go where it was      moves at that time, or with the first one there
//!  trial: does everybody hear us there?                       registers anew: "I hear you there"
//!     no  -> order(back)
//!  from then on every 4th leader-alive also goes home         a node that starts at home is shown the way
//! ```
//! Home is the preconfigured channel. It is joined always, so that leaders are heard there wherever they
//! are: whoever missed a move, was down, or lost the leader on the other channel finds the segment from there.
//! Claims go home as well. Where two leaders are on different channels, the election decides between them as
//! between any two, and the channel of the one that stays is the segment's.

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::envelope::Sender;
use crate::wire::id::NodeId;
use std::net::SocketAddrV4;

/// Leader-alives that announce a move, and those after it that still go to the channel before.
const ANNOUNCED: u64 = 3;
/// A leader that is away from home sends every so many leader-alives there as well.
const POINTERS: u32 = 4;

/// Why a move is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the segment uses this channel already")]
    There,
    #[error("the segment is moving to another channel right now: try again in some seconds")]
    Moving,
}

/// What has come to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The segment's control messages use this channel from now on.
    Moved(SocketAddrV4),
    /// Time enough has passed since the move for every member to have said where it hears its leader.
    TrialOver { back: SocketAddrV4 },
    /// Nobody led on the channel for too long: this node is back home.
    Returned,
}

/// Control channels beside home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined([Option<SocketAddrV4>; 3]);

impl Joined {
    pub fn to_vec(self) -> Vec<SocketAddrV4> {
        self.0.into_iter().flatten().collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    to: SocketAddrV4,
    at: Instant,
    /// To be undone if somebody does not hear the leader there: a leader's own, but not those that undo.
    on_trial: bool,
}

#[derive(Clone, Debug)]
pub struct ControlChannel {
    profile: Profile,
    home: SocketAddrV4,
    present: SocketAddrV4,
    next: Option<Move>,
    /// The channel before, and until when it is still looked after.
    left: Option<(SocketAddrV4, Instant)>,
    trial: Option<(SocketAddrV4, Instant)>,
    /// Where the leader was heard last.
    hears: SocketAddrV4,
    /// The newest leader-alive that counted: a late one must not lead back.
    newest: Option<(NodeId, u32, u64)>,
    /// Since when nobody leads as far as we know.
    orphaned: Option<Instant>,
    /// Leader-alives sent from away.
    alives: u32,
    /// Somebody at home does not know where we are.
    asked: bool,
}

impl ControlChannel {
    /// A node that starts, at `start`, where the segment is supposed to be.
    pub const fn new(home: SocketAddrV4, start: SocketAddrV4, profile: Profile) -> Self {
        Self {
            profile,
            home,
            present: start,
            next: None,
            left: None,
            trial: None,
            hears: home,
            newest: None,
            orphaned: None,
            alives: 0,
            asked: false,
        }
    }

    /// Where control messages are sent.
    pub const fn present(&self) -> SocketAddrV4 {
        self.present
    }

    pub const fn home(&self) -> SocketAddrV4 {
        self.home
    }

    /// Where this node heard its leader last.
    pub const fn hears(&self) -> SocketAddrV4 {
        self.hears
    }

    pub fn is_away(&self) -> bool {
        self.present != self.home
    }

    /// A move is announced or on trial.
    pub const fn is_moving(&self) -> bool {
        self.next.is_some() || self.trial.is_some()
    }

    /// Channels to be joined beside home, each once and in order; asked for after every batch of frames.
    pub fn joined(&self) -> Joined {
        let others = [self.next.map(|next| next.to), self.left.map(|(left, _)| left)];
        let [next, left] =
            others.map(|other| other.filter(|other| ![self.home, self.present].contains(other)));
        let mut all = [next, left.filter(|_| left != next), Some(self.present).filter(|_| self.is_away())];
        all.sort_unstable();
        Joined(all)
    }

    /// The leader is to move its segment (EL-6).
    ///
    /// # Errors
    /// Where it is there, or on its way somewhere else.
    pub fn order(&mut self, now: Instant, to: SocketAddrV4) -> Result<(), Refused> {
        if self.is_moving() {
            return Err(Refused::Moving);
        }
        if to == self.present {
            return Err(Refused::There);
        }
        self.announce(now, to, true);
        Ok(())
    }

    /// The leader takes a move back.
    pub fn undo(&mut self, now: Instant, back: SocketAddrV4) {
        self.announce(now, back, false);
    }

    fn announce(&mut self, now: Instant, to: SocketAddrV4, on_trial: bool) {
        let at = now + self.profile.alive_period * ANNOUNCED + self.profile.alive_period / 2;
        self.next = Some(Move { to, at, on_trial });
    }

    /// What a leader-alive says: the channel, and milliseconds until it counts.
    pub fn told(&self, now: Instant) -> (SocketAddrV4, u32) {
        match self.next {
            Some(next) => (next.to, (next.at.since(now).as_millis() as u32).max(1)),
            None => (self.present, 0),
        }
    }

    /// Where a leader-alive that is sent now goes beside the present channel.
    pub fn pointers(&mut self, now: Instant) -> Vec<SocketAddrV4> {
        let mut to = Vec::new();
        if let Some((left, until)) = self.left
            && now < until
        {
            to.push(left);
        }
        if self.is_away() {
            let due = self.alives.is_multiple_of(POINTERS) || std::mem::take(&mut self.asked);
            if due && !to.contains(&self.home) {
                to.push(self.home);
            }
            self.alives = self.alives.wrapping_add(1);
        }
        to
    }

    /// Somebody claims at home: the next leader-alive goes there too.
    pub const fn ask(&mut self) {
        self.asked = true;
    }

    /// Our leader lives, and says where. True where it is heard on a channel on which it was not before: it
    /// wants to know that.
    pub fn on_alive(
        &mut self,
        now: Instant,
        from: &Sender,
        (channel, moves_in_ms, pointer): (SocketAddrV4, u32, bool),
    ) -> bool {
        let late = self
            .newest
            .is_some_and(|(node, boot, seq)| node == from.node && (from.boot, from.seq) < (boot, seq));
        if late {
            return false;
        }
        self.newest = Some((from.node, from.boot, from.seq));
        self.orphaned = None;
        if moves_in_ms > 0 {
            let at = now + Duration::from_millis(moves_in_ms.into());
            self.next = (channel != self.present).then_some(Move { to: channel, at, on_trial: false });
            return false;
        }
        self.next = None;
        if channel != self.present {
            self.move_to(now, channel);
        }
        let news = !pointer && self.hears != channel;
        if !pointer {
            self.hears = channel;
        }
        news
    }

    /// We lead from now on: where we are is where the segment is. A move of the leader before, which some may
    /// have heard of and some not, is off; who went there hears us at home.
    pub fn on_lead(&mut self) {
        (self.next, self.trial, self.newest, self.orphaned) = (None, None, None, None);
        self.hears = self.present;
    }

    /// Another leads: where it is will be told by its leader-alives.
    pub const fn on_follow(&mut self) {
        (self.trial, self.newest, self.orphaned) = (None, None, None);
    }

    pub const fn on_orphaned(&mut self, now: Instant) {
        self.newest = None;
        self.orphaned = Some(now);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let returns = self.orphaned.filter(|_| self.is_away()).map(|since| since + self.patience());
        let times = [self.next.map(|next| next.at), self.left.map(|(_, until)| until), returns];
        times.into_iter().chain([self.trial.map(|(_, until)| until)]).flatten().min()
    }

    /// What is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(next) = self.next.take_if(|next| now >= next.at) {
            let back = self.present;
            self.move_to(now, next.to);
            if next.on_trial {
                self.trial = Some((back, now + self.profile.register_refresh * 4));
            }
            events.push(Event::Moved(next.to));
        }
        self.left.take_if(|(_, until)| now >= *until);
        if let Some((back, _)) = self.trial.take_if(|(_, until)| now >= *until) {
            events.push(Event::TrialOver { back });
        }
        if self.is_away() && self.orphaned.is_some_and(|since| now >= since + self.patience()) {
            self.move_to(now, self.home);
            self.orphaned = Some(now);
            events.push(Event::Returned);
        }
        events
    }

    /// Time in which those who are on one channel elect a leader there.
    fn patience(&self) -> Duration {
        self.profile.claim_max + self.profile.vote + self.profile.concession * 2
    }

    fn move_to(&mut self, now: Instant, to: SocketAddrV4) {
        let until = now + self.profile.alive_period * ANNOUNCED + self.profile.alive_period / 2;
        self.left = Some((self.present, until));
        self.present = to;
        self.alives = 0;
    }
}

#[cfg(test)]
mod tests;
