//! Store and forward of one assignment by a group leader (GD-8..GD-18, design section 4 step 5).
//!
//! ```text
//! Fetching --stored--> Asking --next leader--> Handing --handed or refused--> Asking ...
//!     ^  | failed         |
//!     +--+ after a pause  +-- nobody left --> Distributing      (told to wait: asks again later)
//! ```
//! The leader serves other leaders first and its own segment when nobody is left (GD-18). A leader that
//! cannot reach the CCM any more does not keep the content from its members: after some tries it
//! distributes.

use crate::time::{Duration, Instant};
use crate::wire::notify::{NextLeader, NextReply, Notification};

/// First pause after a failure; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Unanswered questions to the CCM after which the leader goes on without it.
const ASK_TRIES: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All of the assignment lies verified in the spool.
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
    Ask,
    Hand(NextLeader),
    /// Now the own members (GD-18).
    Distribute,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Fetching { retry_at: Option<Instant>, pause: Duration },
    Asking { retry_at: Option<Instant>, pause: Duration, tries: u32 },
    Handing,
    Distributing,
}

#[derive(Clone, Debug)]
pub struct Forward {
    notification: Notification,
    state: State,
    /// Leaders served.
    pub handed: u32,
}

impl Forward {
    /// Starts with [`Action::Fetch`], which the caller carries out.
    pub const fn new(notification: Notification) -> Self {
        let state = State::Fetching { retry_at: None, pause: PAUSE_MIN };
        Self { notification, state, handed: 0 }
    }

    pub const fn notification(&self) -> &Notification {
        &self.notification
    }

    pub const fn is_distributing(&self) -> bool {
        matches!(self.state, State::Distributing)
    }

    /// The same assignment is notified again: by a CCM that restarted, or with another source (B-22).
    pub fn renotify(&mut self, notification: Notification) -> Option<Action> {
        let source_changed = self.notification.source != notification.source;
        self.notification = notification;
        match self.state {
            State::Fetching { .. } if source_changed => {
                self.state = State::Fetching { retry_at: None, pause: PAUSE_MIN };
                Some(Action::Fetch)
            }
            State::Fetching { .. } | State::Asking { .. } | State::Handing | State::Distributing => None,
        }
    }

    pub const fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Fetching { retry_at, .. } | State::Asking { retry_at, .. } => retry_at,
            State::Handing | State::Distributing => None,
        }
    }

    pub fn step(&mut self, now: Instant, event: Event) -> Option<Action> {
        match (&self.state, event) {
            (State::Fetching { .. }, Event::Stored) => Some(self.ask(0)),
            (State::Fetching { pause, .. }, Event::FetchFailed) => {
                let pause = *pause;
                self.state =
                    State::Fetching { retry_at: Some(now + pause), pause: (pause * 2).min(PAUSE_MAX) };
                None
            }
            (State::Fetching { retry_at: Some(at), pause }, Event::Timeout) if now >= *at => {
                self.state = State::Fetching { retry_at: None, pause: *pause };
                Some(Action::Fetch)
            }
            (State::Asking { .. }, Event::Next(NextReply::Serve(next))) => {
                self.state = State::Handing;
                Some(Action::Hand(next))
            }
            (State::Asking { .. }, Event::Next(NextReply::Wait { millis })) => {
                let retry_at = Some(now + Duration::from_millis(u64::from(millis)));
                self.state = State::Asking { retry_at, pause: PAUSE_MIN, tries: 0 };
                None
            }
            (State::Asking { .. }, Event::Next(NextReply::Nobody)) => Some(self.distribute()),
            (State::Asking { tries, .. }, Event::AskFailed) if *tries + 1 >= ASK_TRIES => {
                Some(self.distribute())
            }
            (State::Asking { pause, tries, .. }, Event::AskFailed) => {
                let (pause, tries) = (*pause, tries + 1);
                let retry_at = Some(now + pause);
                self.state = State::Asking { retry_at, pause: (pause * 2).min(PAUSE_MAX), tries };
                None
            }
            (State::Asking { retry_at: Some(at), pause, tries }, Event::Timeout) if now >= *at => {
                self.state = State::Asking { retry_at: None, pause: *pause, tries: *tries };
                Some(Action::Ask)
            }
            (State::Handing, Event::Handed) => {
                self.handed += 1;
                Some(self.ask(0))
            }
            // Late answers to questions that have been settled, and deadlines that have moved.
            (State::Fetching { .. }, Event::Next(_) | Event::AskFailed | Event::Handed | Event::Timeout)
            | (State::Asking { .. }, Event::Stored | Event::FetchFailed | Event::Handed | Event::Timeout)
            | (
                State::Handing,
                Event::Stored | Event::FetchFailed | Event::Next(_) | Event::AskFailed | Event::Timeout,
            )
            | (
                State::Distributing,
                Event::Stored
                | Event::FetchFailed
                | Event::Next(_)
                | Event::AskFailed
                | Event::Handed
                | Event::Timeout,
            ) => None,
        }
    }

    const fn ask(&mut self, tries: u32) -> Action {
        self.state = State::Asking { retry_at: None, pause: PAUSE_MIN, tries };
        Action::Ask
    }

    const fn distribute(&mut self) -> Action {
        self.state = State::Distributing;
        Action::Distribute
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::assignment::Shape;
    use crate::wire::id::{AssignmentId, ListNumber, Name, NodeId, ObjectName, RunId};

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
            last: false,
            quorum: None,
            expires: 0,
        }
    }

    fn next() -> NextLeader {
        NextLeader { text: "10.0.0.2:1".parse().unwrap(), notification: vec![1] }
    }

    #[test]
    fn a_leader_serves_others_until_nobody_is_left_and_then_its_own() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        assert_eq!(forward.step(at(1), Event::Stored), Some(Action::Ask));
        assert_eq!(forward.step(at(2), Event::Next(NextReply::Serve(next()))), Some(Action::Hand(next())));
        assert_eq!(forward.step(at(3), Event::Handed), Some(Action::Ask));
        assert_eq!(forward.step(at(4), Event::Next(NextReply::Serve(next()))), Some(Action::Hand(next())));
        assert_eq!(forward.step(at(5), Event::Handed), Some(Action::Ask));
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
            assert_eq!(forward.step(at(round * 100 + 100), Event::Timeout), Some(Action::Ask));
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

    #[test]
    fn members_get_their_content_even_if_the_ccm_is_gone() {
        let mut forward = Forward::new(notification("10.0.0.1:1"));
        forward.step(at(0), Event::Stored);
        let mut now = at(0);
        for _ in 1..ASK_TRIES {
            assert_eq!(forward.step(now, Event::AskFailed), None);
            now = forward.next_deadline().expect("it asks again");
            assert_eq!(forward.step(now, Event::Timeout), Some(Action::Ask));
        }
        assert_eq!(forward.step(now, Event::AskFailed), Some(Action::Distribute));
    }
}
