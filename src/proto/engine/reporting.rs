//! Orders, own reports, collection of the members': messages to machines and back.

use super::distribution::Refusal;
use super::{Engine, Output};
use crate::proto::collect::{Action, Collector};
use crate::proto::profile::Profile;
use crate::proto::registration::share;
use crate::time::{Duration, Instant};
use crate::wire::control::Profile as Member;
use crate::wire::envelope::Message;
use crate::wire::id::{Name, NodeId};
use crate::wire::notify::UplinkBody;
use crate::wire::order::Order;
use crate::wire::report::{StatusReport, StatusRequest, Subject};

/// Documents whose collection a leader remembers after it is over, to report again if asked.
pub(super) const COLLECTORS_MAX: usize = 32;
/// Questions for the time that may get lost before an order is carried out by our own clock.
const CLOCK_TRIES: u64 = 6;

impl Engine {
    /// An order from the CCM whose signature was checked, with its bytes (CO-8).
    ///
    /// # Errors
    /// A node that does not lead refuses: the CCM asks who does. So does one that knows of a newer run.
    pub fn handle_order(&mut self, now: Instant, order: &Order, document: Vec<u8>) -> Result<(), Refusal> {
        if !self.election.is_leader() {
            return Err(Refusal::NotLeader);
        }
        if self.is_superseded(&order.site, order.run) {
            return Err(Refusal::Superseded);
        }
        let Some(channel) = self.channel_of(&order.site) else {
            self.segment.report_now(now);
            return Err(Refusal::NoGroup);
        };
        let subject = Subject::Order { run: order.run, order: order.order };
        if let Some(collector) = self.collectors.get_mut(&subject) {
            collector.on_report_lost(now);
        } else {
            let expected = self.recipients(&order.site);
            self.collect(now, subject, order.site.clone(), expected);
        }
        self.orders.insert(order.order, document.clone());
        self.multicast(channel, Message::Order(document.clone()));
        if self.takes(&order.site) {
            self.carry_out(now, subject, document);
        }
        self.drain(now);
        Ok(())
    }

    /// A report of our own, signed by the shell.
    pub fn handle_report(&mut self, now: Instant, subject: Subject, report: Vec<u8>) {
        // While a vote is reopened we collect on (B-11), from ourselves as well.
        if self.collectors.contains_key(&subject) {
            self.reporter.on_done(now, subject, report.clone(), 0, 0);
            let me = self.node();
            if let Some(collector) = self.collectors.get_mut(&subject) {
                collector.on_report(now, me, report);
            }
        } else {
            let chance = self.chance();
            let members = self.leader_members.into();
            self.reporter.on_done(now, subject, report, members, chance);
        }
        self.drain(now);
    }

    /// How long to wait before the CCM is asked for a key that every member lacks at the same time: by chance, and the
    /// longer the more there are. A leader, on whom others wait, asks at once.
    pub fn key_delay(&mut self) -> Duration {
        if self.election.is_leader() {
            return Duration::ZERO;
        }
        let chance = self.chance();
        share(Profile::key_spread(self.leader_members.into()), chance)
    }

    /// What was to go to the CCM did not arrive there.
    pub fn handle_uplink_failed(&mut self, now: Instant, body: &UplinkBody) {
        match body {
            UplinkBody::Segment(_) => {
                self.segment.uplink_failed(now);
                self.seek.on_refused(now);
            }
            UplinkBody::Run(report) => {
                if let Some(collector) = self.collectors.get_mut(&report.subject) {
                    collector.on_report_lost(now);
                }
            }
            UplinkBody::Problem(problem) => self.on_problem_untold(now, problem),
            UplinkBody::Next(request) => self.handle_next(now, request.assignment, Err(())),
            // Asked again by itself.
            UplinkBody::Seek(_) | UplinkBody::Key(_) => {}
        }
    }

    pub(super) fn on_order_message(&mut self, now: Instant, document: Vec<u8>) {
        // Only peeked at: the shell opened it with the director's key before it got here.
        let Ok(order) = Order::peek(&document) else { return };
        if self.takes(&order.site) {
            self.carry_out(now, Subject::Order { run: order.run, order: order.order }, document);
        }
    }

    pub(super) fn on_status(&mut self, now: Instant, from: NodeId, bytes: Vec<u8>) {
        // The CCM checks the signature; a leader sorts and carries.
        let Ok(report) = StatusReport::peek(&bytes) else { return };
        // Each node speaks for itself: nobody can put a report in the place of another's.
        if report.node != from {
            return;
        }
        // Who is not registered is asked when it is. Whoever knows the segment's key could make up any number of
        // nodes, and we would carry them all.
        if self.segment.get(from).is_none() {
            self.counters.reports_refused += 1;
            return;
        }
        if let Subject::Assignment { assignment, .. } = report.subject {
            self.release.done(assignment, from);
        }
        if let Some(collector) = self.collectors.get_mut(&report.subject) {
            collector.on_report(now, report.node, bytes);
        }
    }

    pub(super) fn on_status_request(&mut self, now: Instant, from: NodeId, request: &StatusRequest) {
        if self.election.leader() == Some(from) && request.asks(self.node()) {
            let chance = self.chance();
            self.reporter.on_request(now, request, chance);
        }
    }

    pub(super) fn reporting_timeout(&mut self, now: Instant) {
        self.release_orders(now);
        for report in self.reporter.on_timeout(now) {
            match self.leader_datagram {
                Some(leader) => self.emit(Output::Unicast(leader, Message::Status(report))),
                // For our own collection if there is one; else it is kept, and the next leader asks for it.
                None => self.on_status(now, self.node(), report),
            }
        }
        let mut actions = Vec::new();
        for (subject, collector) in &mut self.collectors {
            if collector.next_deadline().is_some_and(|at| now >= at) {
                actions.extend(collector.on_timeout(now).into_iter().map(|action| (*subject, action)));
            }
        }
        for (subject, action) in actions {
            self.act_on(subject, action);
        }
    }

    fn act_on(&mut self, subject: Subject, action: Action) {
        match action {
            Action::AskOne(node, request) => {
                if let Some(member) = self.segment.get(node) {
                    let to = member.datagram;
                    if !self.waits_for_release(subject, node)
                        && let Some(document) = self.document_of(subject)
                    {
                        self.emit(Output::Unicast(to, document));
                    }
                    self.emit(Output::Unicast(to, Message::StatusRequest(request)));
                }
            }
            Action::AskAll(request) => {
                let site = self.collectors.get(&subject).map(|collector| collector.site().clone());
                let Some(channel) = site.and_then(|site| self.channel_of(&site)) else { return };
                if let Some(document) = self.document_of(subject) {
                    let to = self.document_copies(subject, channel);
                    if !to.is_empty() {
                        self.emit(Output::Each(to, document.clone()));
                    }
                    self.emit(Output::Multicast(channel, document));
                }
                self.multicast(channel, Message::StatusRequest(request));
            }
            Action::Report(report) => self.emit(Output::Uplink(UplinkBody::Run(report))),
        }
    }

    /// An order has an instant and an end by the CCM's clock. A node that has just started may be years off
    /// and not know it: the order waits for the first sample, but not for ever.
    fn carry_out(&mut self, now: Instant, subject: Subject, document: Vec<u8>) {
        if self.reporter.begin(subject) {
            let until = now + self.profile.clock_period * CLOCK_TRIES;
            self.unclocked.push((until, subject, document));
            self.release_orders(now);
        }
    }

    /// Hands on the orders that waited for the clock.
    pub(super) fn release_orders(&mut self, now: Instant) {
        let known = self.activation.error().is_some();
        while let Some(first) = self.unclocked.iter().position(|(until, ..)| known || now >= *until) {
            let (_, subject, document) = self.unclocked.remove(first);
            self.emit(Output::CarryOut { subject, document });
        }
    }

    /// What a member that is asked may never have heard of, or have forgotten in a restart: the order, or
    /// where the assignment is to be had.
    fn document_of(&mut self, subject: Subject) -> Option<Message> {
        match subject {
            Subject::Order { order, .. } => self.orders.get(&order).cloned().map(Message::Order),
            Subject::Assignment { assignment, .. } => self.closed_session(assignment).map(Message::Announce),
        }
    }

    /// A member registered that this leader did not know: it reports on what is under way as well. Of what
    /// it has live only the order is asked for: that it switched may not have been told yet.
    pub(super) fn expect_reports(&mut self, now: Instant, member: &Member) {
        for (subject, collector) in &mut self.collectors {
            let Some(site) = member.sites.iter().find(|state| state.site == *collector.site()) else {
                continue;
            };
            if !self.groups.holds(&site.site, member.node()) {
                continue;
            }
            let is_live = match subject {
                Subject::Assignment { assignment, .. } => site.version == Some(assignment.version()),
                Subject::Order { .. } => false,
            };
            if !is_live {
                collector.expect(now, member.node());
            }
        }
    }

    /// Collects reports on a document from now on; our own may exist already, from under another leader.
    pub(super) fn collect(&mut self, now: Instant, subject: Subject, site: Name, expected: Vec<NodeId>) {
        self.forget_old_collections();
        let segment = self.segment_name.clone();
        let mut collector = Collector::new(now, subject, site, segment, expected, self.profile);
        if let Some(report) = self.reporter.report(subject) {
            collector.on_report(now, self.me.node(), report.clone());
        }
        self.collectors.insert(subject, collector);
    }

    fn forget_old_collections(&mut self) {
        while self.collectors.len() >= COLLECTORS_MAX {
            let over = self.collectors.iter().filter(|(_, collector)| collector.is_over());
            let Some(subject) = over.map(|(subject, _)| *subject).min_by_key(Subject::run) else { return };
            self.collectors.remove(&subject);
            if let Subject::Order { order, .. } = subject {
                self.orders.remove(&order);
            }
        }
    }
}
