//! A member's side of registration (RG-1..RG-10): repeated until it finds itself in the leader's report.
//!
//! ```text
//! Idle --leader known--> Waiting(at) --send--> Asked(again at) --report with me--> In(refresh at)
//!                            ^                    |  report without me, or none      |
//!                            +--------------------+----------------------------------+
//! ```

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No leader to register with.
    Idle,
    /// Registers at the instant; not confirmed by this leader yet.
    Waiting(Instant),
    /// Sent; registers again at the instant unless a report names us before.
    Asked(Instant),
    /// Confirmed; registers anew at the instant, so that the leader knows we live (B-17).
    In(Instant),
}

#[derive(Clone, Debug)]
pub struct Registration {
    me: NodeId,
    profile: Profile,
    state: State,
}

impl Registration {
    pub const fn new(me: NodeId, profile: Profile) -> Self {
        Self { me, profile, state: State::Idle }
    }

    pub const fn is_registered(&self) -> bool {
        matches!(self.state, State::In(_))
    }

    /// A leader is known; `chance` in 0..=u64::MAX spreads the members over time.
    pub fn on_leader(&mut self, now: Instant, chance: u64) {
        self.state = State::Waiting(now + share(self.profile.register_spread, chance));
    }

    pub const fn on_orphaned(&mut self) {
        self.state = State::Idle;
    }

    /// The leader's report. It may be one of several messages: being left out of one proves nothing as
    /// long as others may follow, so absence only shortens the wait (RG-5).
    pub fn on_report(&mut self, now: Instant, nodes: &[NodeId], chance: u64) {
        let named = nodes.contains(&self.me);
        match self.state {
            State::Idle => {}
            State::In(_) if named => {}
            State::Waiting(_) | State::Asked(_) if named => {
                let jitter = share(self.profile.register_refresh / 4, chance);
                self.state = State::In(now + self.profile.register_refresh - jitter);
            }
            State::Waiting(_) => {}
            State::Asked(again) => {
                let wait = self.profile.register_again + share(self.profile.register_spread, chance);
                self.state = State::Asked(again.min(now + wait));
            }
            // A leader that lists others but lost us: it will list us again after the refresh.
            State::In(_) => {}
        }
    }

    /// The leader wants to hear from us again, or there is something to tell it: within `span` (NS-8, NS-9).
    pub fn renew(&mut self, now: Instant, span: Duration, chance: u64) {
        let at = now + share(span, chance);
        self.state = match self.state {
            State::Idle => State::Idle,
            State::Waiting(due) => State::Waiting(due.min(at)),
            State::Asked(due) => State::Asked(due.min(at)),
            State::In(due) => State::In(due.min(at)),
        };
    }

    pub const fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Waiting(at) | State::Asked(at) | State::In(at) => Some(at),
        }
    }

    /// True where a registration is to be sent now.
    pub fn on_timeout(&mut self, now: Instant, chance: u64) -> bool {
        match self.state {
            State::Idle => false,
            State::Waiting(at) | State::Asked(at) if now >= at => {
                let wait = self.profile.register_quiet * 2 + self.profile.register_again;
                self.state = State::Asked(now + wait + share(self.profile.register_spread, chance));
                true
            }
            State::In(at) if now >= at => {
                let jitter = share(self.profile.register_refresh / 4, chance);
                self.state = State::In(now + self.profile.register_refresh - jitter);
                true
            }
            State::Waiting(_) | State::Asked(_) | State::In(_) => false,
        }
    }
}

/// The part of `span` that `chance` out of u64::MAX picks.
pub fn share(span: Duration, chance: u64) -> Duration {
    Duration::from_nanos((u128::from(span.as_nanos()) * u128::from(chance) / u128::from(u64::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(5);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_member_registers_until_the_report_names_it() {
        let mut member = Registration::new(ME, Profile::LAN);
        assert_eq!(member.next_deadline(), None);
        member.on_leader(at(0), u64::MAX);
        assert_eq!(member.next_deadline(), Some(at(50)));
        assert!(!member.on_timeout(at(49), 0));
        assert!(member.on_timeout(at(50), 0));
        // The report is lost or leaves us out: again.
        member.on_report(at(60), &[NodeId(1)], 0);
        assert!(member.on_timeout(at(110), 0));
        member.on_report(at(120), &[NodeId(1), ME], 0);
        assert!(member.is_registered());
        // And anew at the refresh, for the leader takes silence for absence.
        assert!(!member.on_timeout(at(1_119), 0));
        assert!(member.on_timeout(at(1_120), 0));
        assert!(member.is_registered());
    }

    #[test]
    fn a_member_that_is_asked_registers_anew_and_stays_registered_meanwhile() {
        let mut member = Registration::new(ME, Profile::LAN);
        member.renew(at(0), Duration::from_millis(10), u64::MAX);
        assert_eq!(member.next_deadline(), None, "there is no leader");
        member.on_leader(at(0), 0);
        assert!(member.on_timeout(at(0), 0));
        member.on_report(at(10), &[ME], 0);
        member.renew(at(20), Duration::from_millis(10), u64::MAX);
        assert!(member.is_registered());
        assert!(!member.on_timeout(at(29), 0) && member.on_timeout(at(30), 0));
        assert!(member.is_registered());
        member.renew(at(40), Duration::from_secs(100), u64::MAX);
        assert_eq!(member.next_deadline(), Some(at(1_030)), "it would have been sooner anyway");
    }

    #[test]
    fn without_a_leader_nothing_is_sent() {
        let mut member = Registration::new(ME, Profile::LAN);
        member.on_leader(at(0), 0);
        member.on_orphaned();
        assert_eq!(member.next_deadline(), None);
        assert!(!member.on_timeout(at(10_000), 0));
    }

    #[test]
    fn shares_of_a_span_cover_it_whole() {
        let span = Duration::from_secs(10);
        assert_eq!(share(span, 0), Duration::ZERO);
        assert_eq!(share(span, u64::MAX), span);
        assert!(share(span, u64::MAX / 2) < Duration::from_millis(5_001));
    }
}
