//! A member's own reports: sent after a random delay, kept to be sent again when asked (SR-7, SR-9, SR-10).

use super::profile::Profile;
use super::registration::share;
use crate::time::{Duration, Instant};
use crate::wire::report::{StatusRequest, Subject};
use std::collections::VecDeque;

/// Documents remembered; older ones are forgotten, for no leader asks for them any more.
const REMEMBERED: usize = 64;

#[derive(Clone, Debug)]
struct Entry {
    subject: Subject,
    /// The signed report; `None` while the work goes on.
    report: Option<Vec<u8>>,
    send_at: Option<Instant>,
}

#[derive(Clone, Debug)]
pub struct Reporter {
    profile: Profile,
    entries: VecDeque<Entry>,
}

impl Reporter {
    pub const fn new(profile: Profile) -> Self {
        Self { profile, entries: VecDeque::new() }
    }

    /// Work on the document begins. False where it began before: then it is not done twice.
    pub fn begin(&mut self, subject: Subject) -> bool {
        if self.find(subject).is_some() {
            return false;
        }
        if self.entries.len() == REMEMBERED {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { subject, report: None, send_at: None });
        true
    }

    /// The work failed before it could begin in earnest; a later attempt is no repetition.
    pub fn forget(&mut self, subject: Subject) {
        self.entries.retain(|entry| entry.subject != subject);
    }

    /// The work has ended with this signed report; it goes to the leader within a random time that grows with the
    /// number of members.
    pub fn on_done(&mut self, now: Instant, subject: Subject, report: Vec<u8>, members: usize, chance: u64) {
        self.begin(subject);
        let delay = share(self.profile.report_spread(members), chance);
        if let Some(entry) = self.find(subject) {
            entry.report = Some(report);
            entry.send_at = Some(now + delay);
        }
    }

    /// Somebody who may ask asked, and asked us.
    pub fn on_request(&mut self, now: Instant, request: &StatusRequest, chance: u64) {
        let spread = Duration::from_millis(u64::from(request.spread_ms));
        if let Some(entry) = self.find(request.subject)
            && entry.report.is_some()
        {
            let at = now + share(spread, chance);
            entry.send_at = Some(entry.send_at.map_or(at, |before| before.min(at)));
        }
    }

    /// Another leader: whatever we sent the old one may be lost with it. The new one asks if it wants it.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.send_at).min()
    }

    /// Reports due now.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let due = |entry: &mut Entry| {
            entry.send_at.take_if(|at| now >= *at)?;
            entry.report.clone()
        };
        self.entries.iter_mut().filter_map(due).collect()
    }

    /// The signed report on a document, where the work has ended.
    pub fn report(&self, subject: Subject) -> Option<&Vec<u8>> {
        self.entries.iter().find(|entry| entry.subject == subject)?.report.as_ref()
    }

    fn find(&mut self, subject: Subject) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.subject == subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::{OrderId, RunId};
    use crate::wire::report::Asked;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn subject(order: u64) -> Subject {
        Subject::Order { run: RunId(1), order: OrderId(order) }
    }

    #[test]
    fn a_report_is_sent_once_by_itself_and_again_when_asked() {
        let mut reporter = Reporter::new(Profile::LAN);
        assert!(reporter.begin(subject(1)));
        assert!(!reporter.begin(subject(1)));
        let request = StatusRequest { subject: subject(1), asked: Asked::All, spread_ms: 100 };
        reporter.on_request(at(0), &request, 0);
        assert_eq!(reporter.next_deadline(), None, "there is nothing to say yet");
        reporter.on_done(at(0), subject(1), vec![7], 8, u64::MAX);
        assert_eq!(reporter.next_deadline(), Some(at(20)));
        assert_eq!(reporter.on_timeout(at(20)), vec![vec![7]]);
        assert_eq!(reporter.next_deadline(), None);
        reporter.on_request(at(30), &request, u64::MAX);
        assert_eq!(reporter.on_timeout(at(129)), Vec::<Vec<u8>>::new());
        assert_eq!(reporter.on_timeout(at(130)), vec![vec![7]]);
    }

    #[test]
    fn old_documents_are_forgotten() {
        let mut reporter = Reporter::new(Profile::LAN);
        for order in 0..100 {
            reporter.on_done(at(0), subject(order), vec![], 8, 0);
        }
        assert_eq!(reporter.report(subject(0)), None);
        assert!(reporter.report(subject(99)).is_some());
    }
}
