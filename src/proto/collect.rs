//! A leader's collection of status reports on one document, without implosion (SR-3..SR-12).
//!
//! Members report by themselves after a random delay. Who stays silent is asked: one by one while few are
//! missing, by one multicast request with the shorter list where many are (B-29). Requests are spaced
//! further and further apart, for a large assignment takes its time to stage. A member that left the
//! segment, that the transport gave up on, or that has not answered the last request, is missing. What
//! arrived goes to the CCM as it arrives, in cumulative reports, so that a lost one costs nothing.

use super::profile::Profile;
use crate::time::{Duration, Instant};
use crate::wire::id::{Name, NodeId};
use crate::wire::report::{Asked, RunReport, StatusRequest, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// From a request until the next one at least, in units.
const GAP_FIRST: u64 = 5;
/// Longest time between two requests, unless answers take longer.
const GAP_MAX: Duration = Duration::from_secs(2);
/// Above this part of the members missing, one multicast request replaces many unicast ones (SR-4).
const MULTICAST_ABOVE_PCT: usize = 25;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one member.
    AskOne(NodeId, StatusRequest),
    /// To all members; an order goes out again with it, for it may be what was lost.
    AskAll(StatusRequest),
    /// To the CCM.
    Report(RunReport),
}

#[derive(Clone, Debug)]
pub struct Collector {
    subject: Subject,
    site: Name,
    segment: Name,
    profile: Profile,
    expected: BTreeSet<NodeId>,
    reports: BTreeMap<NodeId, Vec<u8>>,
    missing: BTreeSet<NodeId>,
    /// Who may still report: expected, and neither of the two before. The loop asks for it in every turn.
    open: BTreeSet<NodeId>,
    ask_at: Instant,
    gap: Duration,
    /// Requests multicast, or rounds of unicast ones, since somebody last was expected anew.
    asked: u32,
    /// When the next report to the CCM is due, where there is something new to tell.
    report_at: Option<Instant>,
    told_last: bool,
}

impl Collector {
    pub fn new(
        now: Instant,
        subject: Subject,
        site: Name,
        segment: Name,
        expected: impl IntoIterator<Item = NodeId>,
        profile: Profile,
    ) -> Self {
        let expected: BTreeSet<NodeId> = expected.into_iter().collect();
        let mut collector = Self {
            subject,
            site,
            segment,
            profile,
            open: expected.clone(),
            expected,
            reports: BTreeMap::new(),
            missing: BTreeSet::new(),
            ask_at: now,
            gap: profile.report_unit * GAP_FIRST,
            asked: 0,
            report_at: Some(now),
            told_last: false,
        };
        collector.ask_at = now + collector.first_gap();
        collector
    }

    pub const fn subject(&self) -> Subject {
        self.subject
    }

    /// The site that the document is about.
    pub const fn site(&self) -> &Name {
        &self.site
    }

    /// Everybody has reported or is missing, and the CCM was told so.
    pub const fn is_over(&self) -> bool {
        self.told_last
    }

    /// True where this member is expected to report and has not.
    pub fn wants(&self, node: NodeId) -> bool {
        self.expected.contains(&node) && !self.reports.contains_key(&node)
    }

    /// A signed status report, from whoever carried it. A second one replaces the first.
    pub fn on_report(&mut self, now: Instant, node: NodeId, bytes: Vec<u8>) {
        self.missing.remove(&node);
        self.expected.insert(node);
        self.open.remove(&node);
        if self.reports.get(&node) != Some(&bytes) {
            self.reports.insert(node, bytes);
            self.tell(now);
        }
    }

    /// The member has come, or come back: it is to report as well, and is asked from now on.
    pub fn expect(&mut self, now: Instant, node: NodeId) {
        let back = self.missing.remove(&node);
        if (self.expected.insert(node) || back) && self.wants(node) {
            self.open.insert(node);
            (self.gap, self.asked, self.told_last) = (self.profile.report_unit * GAP_FIRST, 0, false);
            self.ask_at = now + self.first_gap();
        }
    }

    /// The member left the segment, or the transport gave up on it.
    pub fn on_gone(&mut self, now: Instant, node: NodeId) {
        if self.wants(node) && self.missing.insert(node) {
            self.open.remove(&node);
            self.tell(now);
        }
    }

    /// The CCM did not get the last report: it gets it again, and all since. However often this is said, the
    /// report goes out a while after the first time.
    pub fn on_report_lost(&mut self, now: Instant) {
        self.told_last = false;
        let at = now + self.profile.segment_report;
        self.report_at = Some(self.report_at.map_or(at, |before| before.min(at)));
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let ask = (!self.open.is_empty()).then_some(self.ask_at);
        [ask, self.report_at].into_iter().flatten().min()
    }

    pub fn on_timeout(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let ask = !self.open.is_empty() && now >= self.ask_at;
        if ask && self.asked >= self.profile.report_tries {
            self.missing.append(&mut self.open);
            self.report_at = Some(now);
        } else if ask {
            let spread = self.ask(&mut actions);
            self.ask_at = now + self.gap.max(spread);
            self.gap = (self.gap * 2).min(GAP_MAX);
            self.asked += 1;
        }
        if self.report_at.is_some_and(|at| now >= at) {
            self.report_at = None;
            self.told_last = self.open.is_empty();
            actions.push(Action::Report(self.report(self.told_last)));
        }
        actions
    }

    /// From the document to the first request: who is still to report by itself is not asked.
    fn first_gap(&self) -> Duration {
        self.profile.report_unit * GAP_FIRST + self.profile.report_spread(self.expected.len())
    }

    fn tell(&mut self, now: Instant) {
        // The last answer is told at once; before, answers gather for a while.
        let wait = if self.open.is_empty() { Duration::ZERO } else { self.profile.report_unit * 5 };
        let at = now + wait;
        self.report_at = Some(self.report_at.map_or(at, |before| before.min(at)));
    }

    /// Returns within how long answers come.
    fn ask(&self, actions: &mut Vec<Action>) -> Duration {
        let open: Vec<NodeId> = self.open.iter().copied().collect();
        let spread = (self.profile.report_unit * open.len().min(50) as u64).min(Duration::from_secs(60));
        let spread = spread.max(self.profile.report_spread(open.len()));
        let spread_ms = spread.as_millis() as u16;
        let request = |asked| StatusRequest { subject: self.subject, asked, spread_ms };
        if open.len() * 100 <= self.expected.len() * MULTICAST_ABOVE_PCT {
            actions.extend(open.iter().map(|node| Action::AskOne(*node, request(Asked::All))));
            return spread;
        }
        let reported: Vec<NodeId> = self.reports.keys().copied().collect();
        let asked = if open.len() < reported.len() && open.len() <= StatusRequest::NODES_MAX {
            Asked::Missing(open)
        } else if reported.len() <= StatusRequest::NODES_MAX {
            Asked::AllBut(reported)
        } else {
            // Neither list fits one message: the first of the missing now, the others next time.
            Asked::Missing(open[..open.len().min(StatusRequest::NODES_MAX)].to_vec())
        };
        actions.push(Action::AskAll(request(asked)));
        spread
    }

    fn report(&self, last: bool) -> RunReport {
        RunReport {
            segment: self.segment.clone(),
            subject: self.subject,
            reports: self.reports.values().cloned().collect(),
            missing: self.missing.iter().copied().collect(),
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::{OrderId, RunId};

    const SUBJECT: Subject = Subject::Order { run: RunId(1), order: OrderId(2) };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn collector(members: u64) -> Collector {
        let segment = Name::new("boston").unwrap();
        let site = Name::new("www").unwrap();
        Collector::new(at(0), SUBJECT, site, segment, (1..=members).map(NodeId), Profile::LAN)
    }

    fn run_reports(actions: &[Action]) -> Vec<&RunReport> {
        let mut reports = Vec::new();
        for action in actions {
            if let Action::Report(report) = action {
                reports.push(report);
            }
        }
        reports
    }

    #[test]
    fn the_last_answer_is_told_at_once_and_ends_the_collection() {
        let mut collector = collector(2);
        collector.on_timeout(at(0));
        collector.on_report(at(10), NodeId(1), vec![1]);
        collector.on_report(at(11), NodeId(2), vec![2]);
        assert_eq!(collector.next_deadline(), Some(at(11)));
        let actions = collector.on_timeout(at(11));
        let report = run_reports(&actions)[0];
        assert!(report.last && report.missing.is_empty());
        assert_eq!(report.reports, vec![vec![1], vec![2]]);
        assert!(collector.is_over());
        assert_eq!(collector.next_deadline(), None);
    }

    #[test]
    fn few_missing_are_asked_one_by_one_and_many_by_the_shorter_list() {
        let mut few = collector(8);
        (1..=6).for_each(|node| few.on_report(at(1), NodeId(node), vec![]));
        let actions = few.on_timeout(at(1_000));
        let asked = |action: &&Action| matches!(action, Action::AskOne(..));
        assert_eq!(actions.iter().filter(asked).count(), 2);

        let mut most = collector(8);
        most.on_report(at(1), NodeId(1), vec![]);
        let all_but = Asked::AllBut(vec![NodeId(1)]);
        assert!(
            most.on_timeout(at(1_000)).iter().any(|a| matches!(a, Action::AskAll(r) if r.asked == all_but))
        );

        let mut some = collector(8);
        (1..=5).for_each(|node| some.on_report(at(1), NodeId(node), vec![]));
        let missing = Asked::Missing(vec![NodeId(6), NodeId(7), NodeId(8)]);
        assert!(
            some.on_timeout(at(1_000)).iter().any(|a| matches!(a, Action::AskAll(r) if r.asked == missing))
        );
    }

    #[test]
    fn requests_come_further_and_further_apart() {
        let mut collector = collector(2);
        let mut times = Vec::new();
        let mut now = at(0);
        while times.len() < 8 {
            now = collector.next_deadline().expect("somebody is missing").max(now);
            let actions = collector.on_timeout(now);
            if actions.iter().any(|action| !matches!(action, Action::Report(_))) {
                times.push(now);
            }
        }
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
        assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]), "{gaps:?}");
        assert_eq!(gaps.last(), Some(&2_000));
    }

    /// SR-8.
    #[test]
    fn who_does_not_answer_the_last_request_is_missing_and_believed_when_it_reports_after_all() {
        let profile = Profile { report_tries: 3, ..Profile::LAN };
        let mut collector = Collector { profile, ..collector(2) };
        collector.on_report(at(1), NodeId(1), vec![1]);
        let (mut requests, mut last) = (0, Vec::new());
        while let Some(due) = collector.next_deadline() {
            last = collector.on_timeout(due);
            requests += last.iter().filter(|action| !matches!(action, Action::Report(_))).count();
        }
        assert_eq!(requests, 3);
        let report = run_reports(&last)[0];
        assert!(report.last && report.missing == vec![NodeId(2)], "{report:?}");
        collector.on_report(at(60_000), NodeId(2), vec![2]);
        assert!(run_reports(&collector.on_timeout(at(60_000)))[0].missing.is_empty());
        // Who comes back has as many requests as it had at first.
        collector.on_gone(at(60_001), NodeId(3));
        collector.expect(at(60_002), NodeId(3));
        let mut requests = 0;
        while let Some(due) = collector.next_deadline() {
            let actions = collector.on_timeout(due);
            requests += actions.iter().filter(|action| !matches!(action, Action::Report(_))).count();
        }
        assert_eq!(requests, 3);
    }

    #[test]
    fn who_left_is_missing_and_who_comes_back_is_not() {
        let mut collector = collector(2);
        collector.on_timeout(at(0));
        collector.on_report(at(1), NodeId(1), vec![1]);
        collector.on_gone(at(2), NodeId(2));
        let actions = collector.on_timeout(at(2));
        assert_eq!(run_reports(&actions)[0].missing, vec![NodeId(2)]);
        collector.on_report(at(3), NodeId(2), vec![2]);
        let actions = collector.on_timeout(at(200));
        assert!(run_reports(&actions)[0].missing.is_empty());
    }

    #[test]
    fn who_registers_late_is_asked_and_who_says_otherwise_later_is_believed() {
        let mut collector = collector(1);
        collector.on_report(at(1), NodeId(1), vec![1]);
        collector.on_timeout(at(1));
        assert!(collector.is_over());
        collector.expect(at(50), NodeId(2));
        let asks = collector.next_deadline().expect("somebody is to report");
        assert!(collector.on_timeout(asks).iter().any(|action| matches!(action, Action::AskAll(_))));
        collector.on_report(at(200), NodeId(2), vec![2]);
        assert!(run_reports(&collector.on_timeout(at(200)))[0].last);
        collector.on_report(at(300), NodeId(2), vec![3]);
        assert_eq!(run_reports(&collector.on_timeout(at(300)))[0].reports, vec![vec![1], vec![3]]);
        // A bare repetition is no news.
        collector.on_report(at(400), NodeId(2), vec![3]);
        collector.expect(at(400), NodeId(2));
        assert_eq!(collector.next_deadline(), None);
    }

    #[test]
    fn a_report_that_the_ccm_did_not_get_is_told_again() {
        let mut collector = collector(1);
        collector.on_report(at(1), NodeId(1), vec![1]);
        assert_eq!(run_reports(&collector.on_timeout(at(1))).len(), 1);
        collector.on_report_lost(at(2));
        assert!(!collector.is_over());
        assert_eq!(run_reports(&collector.on_timeout(at(1_002))).len(), 1);
        assert!(collector.is_over());
    }

    /// Found by the simulator: a CCM that asked faster than the report was due never got it.
    #[test]
    fn a_report_that_is_asked_for_again_and_again_goes_out() {
        let mut collector = collector(1);
        collector.on_report(at(1), NodeId(1), vec![1]);
        collector.on_timeout(at(1));
        (2..1_002).step_by(100).for_each(|millis| collector.on_report_lost(at(millis)));
        assert_eq!(run_reports(&collector.on_timeout(at(1_002))).len(), 1);
    }
}
