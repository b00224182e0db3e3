//! Store and forward of one assignment by a group leader (GD-8..GD-18, design section 4 step 5).
//!
//! ```text
//! Fetching --stored--> Stored            fetch: what arrives here
//!     ^  | failed
//!     +--+ after a pause
//!
//! Not --may pass on--> Asking --next leader--> Handing --handed or refused--> Asking ...
//!                        |
//!                        +-- nobody left --> Over, or Distributing once all is stored
//!                                                  (told to wait: asks again later)
//! ```
//! The leader serves other leaders first and its own segment when nobody is left (GD-18). It may pass on what it
//! has stored, or, where the notification says so, what it has verified while the rest arrives. A leader that
//! cannot reach the CCM any more does not keep the content from its members: after some tries it distributes.

use crate::time::{Duration, Instant};
use crate::wire::notify::{Forwarding, NextLeader, NextReply, NextRequest, Notification};

/// First pause after a failure; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Unanswered questions to the CCM after which the leader goes on without it.
const ASK_TRIES: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first leaves lie verified in the spool.
    Begun,
    /// All of the assignment does.
    Stored,
    FetchFailed,
    /// The CCM's answer.
    Next(NextReply),
    AskFailed,
    /// The next leader took or refused the notification. If it refused, the CCM's lease on it runs out and
    /// it is handed out again (B-22): nothing more is to do here.
    Handed,
    Timeout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Fetch,
    Ask(NextRequest),
    Hand(NextLeader),
    /// Now the own members (GD-18).
    Distribute,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fetch {
    Fetching { retry_at: Option<Instant>, pause: Duration },
    Stored,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Serve {
    /// Not yet: nothing is here that may be passed on.
    Not,
    /// `whole`: as the question said.
    Asking {
        whole: bool,
        retry_at: Option<Instant>,
        pause: Duration,
        tries: u32,
    },
    Handing,
    /// Nobody is left, but the own copy is not whole yet.
    Over,
    Distributing,
}

#[derive(Clone, Debug)]
pub struct Forward {
    notification: Notification,
    fetch: Fetch,
    serve: Serve,
    /// Leaders served.
    pub handed: u32,
}

impl Forward {
    /// Starts with [`Action::Fetch`], which the caller carries out.
    pub const fn new(notification: Notification) -> Self {
        let fetch = Fetch::Fetching { retry_at: None, pause: PAUSE_MIN };
        Self { notification, fetch, serve: Serve::Not, handed: 0 }
    }

    pub const fn notification(&self) -> &Notification {
        &self.notification
    }

    pub const fn is_distributing(&self) -> bool {
        matches!(self.serve, Serve::Distributing)
    }

    /// Whether others may have what is verified of it, though it is not whole.
    pub const fn passes_on_early(&self) -> bool {
        matches!(self.notification.forward, Forwarding::Verified)
    }

    /// The same assignment is notified again: by a CCM that restarted, or with another source (B-22).
    pub fn renotify(&mut self, notification: Notification) -> Option<Action> {
        let known = &self.notification;
        let changed = known.source != notification.source || known.others != notification.others;
        self.notification = notification;
        match self.fetch {
            Fetch::Fetching { .. } if changed => {
                self.fetch = Fetch::Fetching { retry_at: None, pause: PAUSE_MIN };
                Some(Action::Fetch)
            }
            Fetch::Fetching { .. } | Fetch::Stored => None,
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let fetch = match self.fetch {
            Fetch::Fetching { retry_at, .. } => retry_at,
            Fetch::Stored => None,
        };
        let ask = match self.serve {
            Serve::Asking { retry_at, .. } => retry_at,
            Serve::Not | Serve::Handing | Serve::Over | Serve::Distributing => None,
        };
        [fetch, ask].into_iter().flatten().min()
    }

    /// What follows from an event. Late answers to questions that have been settled, and deadlines that have
    /// moved, lead to nothing.
    pub fn step(&mut self, now: Instant, event: Event) -> Option<Action> {
        match event {
            Event::Begun if self.passes_on_early() && self.serve == Serve::Not => Some(self.ask()),
            Event::Begun => None,
            Event::Stored => self.on_stored(),
            Event::FetchFailed => {
                if let Fetch::Fetching { retry_at, pause } = &mut self.fetch {
                    *retry_at = Some(now + *pause);
                    *pause = (*pause * 2).min(PAUSE_MAX);
                }
                None
            }
            Event::Next(reply) => self.on_reply(now, reply),
            Event::AskFailed => self.on_ask_failed(now),
            Event::Handed if self.serve == Serve::Handing => {
                self.handed += 1;
                Some(self.ask())
            }
            Event::Handed => None,
            Event::Timeout => self.on_timeout(now),
        }
    }

    fn on_stored(&mut self) -> Option<Action> {
        if self.fetch == Fetch::Stored {
            return None;
        }
        self.fetch = Fetch::Stored;
        match self.serve {
            // A question that waits to be repeated may as well be asked now: it reports that all is here.
            Serve::Not | Serve::Over | Serve::Asking { retry_at: Some(_), .. } => Some(self.ask()),
            Serve::Asking { retry_at: None, .. } | Serve::Handing | Serve::Distributing => None,
        }
    }

    fn on_reply(&mut self, now: Instant, reply: NextReply) -> Option<Action> {
        let Serve::Asking { whole, retry_at: None, .. } = self.serve else { return None };
        match reply {
            NextReply::Serve(next) => {
                self.serve = Serve::Handing;
                Some(Action::Hand(next))
            }
            NextReply::Wait { millis } => {
                let retry_at = Some(now + Duration::from_millis(u64::from(millis)));
                self.serve = Serve::Asking { whole, retry_at, pause: PAUSE_MIN, tries: 0 };
                None
            }
            NextReply::Nobody if whole => Some(self.distribute()),
            // It became whole meanwhile: the CCM is told so.
            NextReply::Nobody if self.fetch == Fetch::Stored => Some(self.ask()),
            NextReply::Nobody => {
                self.serve = Serve::Over;
                None
            }
        }
    }

    fn on_ask_failed(&mut self, now: Instant) -> Option<Action> {
        let Serve::Asking { whole, pause, tries, .. } = self.serve else { return None };
        let tries = tries + 1;
        if tries < ASK_TRIES {
            let retry_at = Some(now + pause);
            self.serve = Serve::Asking { whole, retry_at, pause: (pause * 2).min(PAUSE_MAX), tries };
            return None;
        }
        if self.fetch == Fetch::Stored {
            return Some(self.distribute());
        }
        self.serve = Serve::Over;
        None
    }

    fn on_timeout(&mut self, now: Instant) -> Option<Action> {
        if let Fetch::Fetching { retry_at, .. } = &mut self.fetch
            && retry_at.take_if(|at| now >= *at).is_some()
        {
            return Some(Action::Fetch);
        }
        match self.serve {
            Serve::Asking { retry_at: Some(at), pause, tries, .. } if now >= at => {
                self.serve = Serve::Asking { whole: self.is_stored(), retry_at: None, pause, tries };
                Some(Action::Ask(self.request()))
            }
            _ => None,
        }
    }

    fn is_stored(&self) -> bool {
        self.fetch == Fetch::Stored
    }

    fn request(&self) -> NextRequest {
        let Notification { run, assignment, .. } = self.notification;
        NextRequest { run, assignment, whole: self.is_stored() }
    }

    fn ask(&mut self) -> Action {
        let whole = self.is_stored();
        self.serve = Serve::Asking { whole, retry_at: None, pause: PAUSE_MIN, tries: 0 };
        Action::Ask(self.request())
    }

    const fn distribute(&mut self) -> Action {
        self.serve = Serve::Distributing;
        Action::Distribute
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::assignment::Shape;
    use crate::wire::id::{AssignmentId, ListNumber, Name, NodeId, ObjectName, RunId};

    const WHOLE: NextRequest = NextRequest { run: RunId(1), assignment: AssignmentId(2), whole: true };
    const PART: NextRequest = NextRequest { whole: false, ..WHOLE };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn notification(source: &str) -> Notification {
        Notification {
            run: RunId(1),
            assignment: AssignmentId(2),
            site: Name::new("www").unwrap(),
            group: Name::new("all").unwrap(),
            groups: ListNumber(0),
            shape: Shape { name: ObjectName([0; 32]), command_len: 1_000, data_len: 0 },
            leader: NodeId(3),
            source: source.parse().unwrap(),
            others: Vec::new(),
            forward: Forwarding::Whole,
            last: false,
            quorum: None,
            bounds: Default::default(),
            expires: 0,
        }
    }

    fn next() -> NextLeader {
        NextLeader { text: "10.0.0.2:1".parse().unwrap(), notification: vec![1] }
    }

    #[test]
    fn a_leader_serves_others_until_nobody_is_left_and_then_its_own() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        assert_eq!(forward.step(at(1), Event::Stored), Some(Action::Ask(WHOLE)));
        assert_eq!(forward.step(at(2), Event::Next(NextReply::Serve(next()))), Some(Action::Hand(next())));
        assert_eq!(forward.step(at(3), Event::Handed), Some(Action::Ask(WHOLE)));
        assert_eq!(forward.step(at(4), Event::Next(NextReply::Serve(next()))), Some(Action::Hand(next())));
        assert_eq!(forward.step(at(5), Event::Handed), Some(Action::Ask(WHOLE)));
        assert_eq!(forward.step(at(6), Event::Next(NextReply::Nobody)), Some(Action::Distribute));
        assert!(forward.is_distributing());
        assert_eq!(forward.handed, 2);
        assert_eq!(forward.step(at(7), Event::Next(NextReply::Serve(next()))), None);
    }

    #[test]
    fn a_leader_that_is_to_wait_asks_again_after_the_time_it_was_told() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        forward.step(at(0), Event::Stored);
        for round in 0..20 {
            let now = at(round * 100);
            assert_eq!(forward.step(now, Event::Next(NextReply::Wait { millis: 100 })), None);
            assert_eq!(forward.next_deadline(), Some(at(round * 100 + 100)));
            assert_eq!(forward.step(at(round * 100 + 100), Event::Timeout), Some(Action::Ask(WHOLE)));
        }
    }

    #[test]
    fn a_failed_fetch_is_tried_again_after_a_growing_pause() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        assert_eq!(forward.step(at(0), Event::FetchFailed), None);
        assert_eq!(forward.next_deadline(), Some(at(100)));
        assert_eq!(forward.step(at(99), Event::Timeout), None);
        assert_eq!(forward.step(at(100), Event::Timeout), Some(Action::Fetch));
        assert_eq!(forward.step(at(100), Event::FetchFailed), None);
        assert_eq!(forward.next_deadline(), Some(at(300)));
    }

    #[test]
    fn another_source_is_tried_at_once() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        forward.step(at(0), Event::FetchFailed);
        assert_eq!(forward.renotify(notification("10.0.0.1:1")), None);
        assert_eq!(forward.renotify(notification("10.0.0.9:1")), Some(Action::Fetch));
    }

    /// GD-16, cut-through: what is verified is served on while the rest arrives.
    #[test]
    fn a_leader_that_may_passes_on_what_has_begun_and_its_own_come_when_all_is_here() {
        let early = Notification { forward: Forwarding::Verified, ..notification("10.0.0.1:1") };
        let mut forward = Forward::new(early);
        assert_eq!(forward.step(at(1), Event::Begun), Some(Action::Ask(PART)));
        assert_eq!(forward.step(at(1), Event::Begun), None, "it asks already");
        assert_eq!(forward.step(at(2), Event::Next(NextReply::Serve(next()))), Some(Action::Hand(next())));
        // Meanwhile a fetch fails and is tried again.
        assert_eq!(forward.step(at(2), Event::FetchFailed), None);
        assert_eq!(forward.step(at(3), Event::Handed), Some(Action::Ask(PART)));
        assert_eq!(forward.step(at(4), Event::Next(NextReply::Wait { millis: 500 })), None);
        assert_eq!(forward.next_deadline(), Some(at(102)));
        assert_eq!(forward.step(at(102), Event::Timeout), Some(Action::Fetch));
        assert_eq!(forward.next_deadline(), Some(at(504)));
        assert_eq!(forward.step(at(504), Event::Timeout), Some(Action::Ask(PART)));
        assert_eq!(forward.step(at(505), Event::Next(NextReply::Nobody)), None, "not all is here");
        assert_eq!(
            forward.step(at(900), Event::Stored),
            Some(Action::Ask(WHOLE)),
            "the report of completion"
        );
        assert_eq!(forward.step(at(901), Event::Next(NextReply::Nobody)), Some(Action::Distribute));
        assert!(forward.is_distributing());
    }

    #[test]
    fn what_became_whole_while_the_ccm_was_asked_is_told_before_the_own_members_have_it() {
        let early = Notification { forward: Forwarding::Verified, ..notification("10.0.0.1:1") };
        let mut forward = Forward::new(early);
        forward.step(at(1), Event::Begun);
        assert_eq!(forward.step(at(2), Event::Stored), None, "a question is under way");
        assert_eq!(forward.step(at(3), Event::Next(NextReply::Nobody)), Some(Action::Ask(WHOLE)));
        assert_eq!(forward.step(at(4), Event::Next(NextReply::Nobody)), Some(Action::Distribute));
    }

    #[test]
    fn a_leader_that_may_not_pass_on_early_does_not() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        assert_eq!(forward.step(at(1), Event::Begun), None);
        assert_eq!(forward.step(at(2), Event::Stored), Some(Action::Ask(WHOLE)));
    }

    #[test]
    fn members_get_their_content_even_if_the_ccm_is_gone() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        forward.step(at(0), Event::Stored);
        let mut now = at(0);
        for _ in 1..ASK_TRIES {
            assert_eq!(forward.step(now, Event::AskFailed), None);
            now = forward.next_deadline().expect("it asks again");
            assert_eq!(forward.step(now, Event::Timeout), Some(Action::Ask(WHOLE)));
        }
        assert_eq!(forward.step(now, Event::AskFailed), Some(Action::Distribute));
    }
}
