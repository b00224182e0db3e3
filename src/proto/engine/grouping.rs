//! Content groups: whom an assignment is for, on which channel, and the list that says so (LD-2, GD-22, NS-15).

use super::{Destination, Engine, Notice, Output};
use crate::proto::groups::Action;
use crate::time::Instant;
use crate::wire::control::Hears;
use crate::wire::envelope::Message;
use crate::wire::groups::{GroupList, GroupsPart, GroupsRequest};
use crate::wire::id::{AssignmentId, ListNumber, Name, NodeId};
use crate::wire::notify::Notification;
use std::net::SocketAddr;

/// Notifications that wait for their list of groups; beyond that the CCM tells again.
pub(super) const EARLY_MAX: usize = 64;

impl Engine {
    /// A list of groups whose signature was checked: from the disk, the CCM, or out of its parts. True where
    /// the node goes by it from now on and it is to be kept.
    pub fn handle_groups(&mut self, now: Instant, list: GroupList, bytes: Vec<u8>) -> bool {
        let number = list.number;
        match self.groups.adopt(list, bytes) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(_) => {
                self.counters.groups_refused += 1;
                return false;
            }
        }
        self.me.groups = number;
        self.joining_until = Some(now + self.profile.register_refresh);
        self.emit(Output::Notice(Notice::Grouped(number)));
        let channels = self.groups.channels_of(self.node());
        self.reach.on_channels(now, !channels.is_empty());
        self.emit(Output::JoinData(channels));
        if self.election.is_leader() {
            self.groups.spread(now);
            self.segment.on_register(now, self.own_stamp(), self.registration(Hears::ALL));
            self.on_new_recipients(now);
        } else {
            let chance = self.chance();
            self.registration.renew(now, self.profile.register_spread, chance);
        }
        self.drain(now);
        true
    }

    /// Whether this node is to have what is published of a site: it serves it and belongs to its group. Before
    /// it has seen a list its leader knows better.
    pub(super) fn takes(&self, site: &Name) -> bool {
        let serves = self.me.sites.iter().any(|state| &state.site == site);
        serves && (self.groups.list().is_none() || self.groups.holds(site, self.node()))
    }

    /// Registered nodes that are to have what is published of a site.
    pub(super) fn recipients(&self, site: &Name) -> Vec<NodeId> {
        let mut nodes = self.segment.serving(site);
        nodes.retain(|node| self.groups.holds(site, *node));
        nodes
    }

    /// Those of them that do not say to have it live already: they have no use for it (JT-5).
    pub(super) fn recipients_of(&self, site: &Name, assignment: AssignmentId) -> Vec<NodeId> {
        let mut nodes = self.recipients(site);
        nodes.retain(|node| {
            let member = self.segment.get(*node);
            let state = member.and_then(|member| member.sites.iter().find(|state| state.site == *site));
            state.is_none_or(|state| state.version != Some(assignment.version()))
        });
        nodes
    }

    /// Whether this node has it live already; of a part, all that it is a part of.
    pub(super) fn has_live(&self, site: &Name, assignment: AssignmentId) -> bool {
        let version = Some(assignment.version());
        self.me.sites.iter().any(|state| state.site == *site && state.version == version)
    }

    /// Where assignments and orders of a site go.
    pub fn channel_of(&self, site: &Name) -> Option<Destination> {
        self.groups.serving(site).map(|group| Destination::Data(group.channel))
    }

    /// The CCM tells of a run whose groups we do not know yet: it is asked for them, and the run waits.
    pub(super) fn keep_early(&mut self, now: Instant, notification: Notification) {
        self.segment.report_now(now);
        if self.early.len() < EARLY_MAX || self.early.contains_key(&notification.assignment) {
            self.early.insert(notification.assignment, notification);
        }
    }

    /// Whether to wait with a session: some of its members have not got our list yet, and may not listen on
    /// its channel. They get a while from when we have it.
    pub(super) fn are_joining(&self, now: Instant, participants: &[NodeId]) -> bool {
        let behind = |node: &NodeId| {
            self.segment.get(*node).is_some_and(|member| member.groups < self.groups.number())
        };
        self.joining_until.is_some_and(|end| now < end) && participants.iter().any(behind)
    }

    /// Begins the sessions that waited, where nothing is in their way any more.
    pub(super) fn serve_waiting(&mut self, now: Instant) {
        for notification in std::mem::take(&mut self.waiting) {
            self.distribute(now, &notification);
        }
    }

    pub(super) fn on_groups_offer(&mut self, now: Instant, number: ListNumber, from: SocketAddr) {
        let chance = if number > self.groups.number() { self.chance() } else { 0 };
        self.groups.on_offer(now, number, from, chance);
    }

    pub(super) fn on_groups_part(&mut self, now: Instant, part: GroupsPart) {
        let chance = self.chance();
        if let Some(action) = self.groups.on_part(now, part, chance) {
            self.act_on_groups(action);
        }
    }

    pub(super) fn on_groups_request(
        &mut self,
        now: Instant,
        node: NodeId,
        from: SocketAddr,
        request: &GroupsRequest,
    ) {
        let leads = self.election.is_leader();
        if !leads && self.election.leader() != Some(node) {
            self.counters.not_leaders += 1;
            return;
        }
        for part in self.groups.on_request(now, request, leads) {
            self.emit(Output::Unicast(from, Message::Groups(part)));
        }
    }

    pub(super) fn grouping_deadline(&self) -> Option<Instant> {
        [self.groups.next_deadline(), self.joining_until].into_iter().flatten().min()
    }

    pub(super) fn grouping_timeout(&mut self, now: Instant) {
        if self.groups.next_deadline().is_some_and(|at| now >= at) {
            let chance = self.chance();
            for action in self.groups.on_timeout(now, chance) {
                self.act_on_groups(action);
            }
        }
        if self.joining_until.take_if(|end| now >= *end).is_some() {
            self.serve_waiting(now);
        }
    }

    fn act_on_groups(&mut self, action: Action) {
        match action {
            Action::Ask(to, request) => self.emit(Output::Unicast(to, Message::GroupsRequest(request))),
            Action::Spread(part) => self.multicast(Destination::Control, Message::Groups(part)),
            Action::Check(bytes) => self.emit(Output::CheckGroups(bytes)),
        }
    }

    /// The list names other nodes: those that are new take part in what runs, and what waited for the list
    /// goes on.
    fn on_new_recipients(&mut self, now: Instant) {
        let me = self.node();
        let members: Vec<_> = self.segment.members().filter(|member| member.node() != me).cloned().collect();
        for member in &members {
            self.invite_to_sessions(member.node());
            self.expect_reports(now, member);
        }
        let number = self.groups.number();
        let (ready, early): (Vec<_>, Vec<_>) = std::mem::take(&mut self.early)
            .into_values()
            .partition(|notification| notification.groups <= number);
        self.early = early.into_iter().map(|early| (early.assignment, early)).collect();
        for notification in ready {
            // What is refused now the CCM tells again, or knows to be over.
            let _ = self.handle_notification(now, notification);
        }
    }
}

#[cfg(test)]
mod tests;
