//! Peers that multicast does not reach (LD-24): what arrives by which path, copies by unicast, the search for a
//! segment that is not heard, objects that members pull instead of receiving them.

use super::{Channel, Destination, Engine, Notice, Output};
use crate::proto::reach;
use crate::proto::seek::{self, Standing};
use crate::time::Instant;
use crate::wire::control::{Hears, Peer};
use crate::wire::envelope::Message;
use crate::wire::id::{AssignmentId, NodeId};
use crate::wire::notify::{Notification, Seek, UplinkBody};
use crate::wire::report::Subject;
use crate::wire::session::{Announce, Phase};
use std::net::SocketAddr;

impl Engine {
    /// Peers that were known when the daemon ended.
    pub fn remember_peers(&mut self, now: Instant, peers: &[Peer]) {
        self.seek.learn(now, peers);
    }

    /// Peers worth remembering, the leader first: our members, or whom our leader named.
    pub fn known_peers(&self) -> Vec<Peer> {
        if !self.election.is_leader() {
            return self.seek.known();
        }
        let me = self.node();
        let members = self.segment.members().filter(|member| member.node() != me);
        members.map(|member| Peer { node: member.node(), datagram: member.datagram }).collect()
    }

    /// The CCM's answer to our [`UplinkBody::Seek`], with the director's signature checked.
    pub fn handle_peers(&mut self, now: Instant, peers: &[Peer]) {
        let members = self.own_members();
        let others = self.seek.on_controller(now, peers, |node| members.contains(&node));
        self.ask(others);
        self.drain(now);
    }

    /// What a message tells by the way that it took.
    pub(super) fn on_path(&mut self, now: Instant, from: Peer, via: Option<Channel>, message: &Message) {
        if via.is_some() {
            self.seek.on_multicast(now);
        }
        // That a pointer comes by the channel that the segment has left says nothing of the present one.
        let is_pointer = matches!(message, Message::LeaderAlive(alive) if alive.pointer);
        if let Some(channel) = via.filter(|_| !is_pointer) {
            let actions = self.reach.on_multicast(now, from.node, channel == Channel::Data);
            self.act_on_reach(now, actions);
        }
        let doubtful = match message {
            // It takes us for one who does not hear it. If that is so, it will not hear us either.
            Message::LeaderAlive(_) | Message::LeaderClaim(_) if via.is_none() => true,
            // It leads although we do, or want to: it may not hear us.
            Message::LeaderAlive(alive) => alive.priority > 0 && self.election.is_contending(),
            _ => false,
        };
        if doubtful {
            self.reach.suppose(now, self.find(from.node).unwrap_or(from));
        }
    }

    /// A leader-alive came, and the election has judged it.
    pub(super) fn on_leader_path(
        &mut self,
        now: Instant,
        leader: NodeId,
        from: SocketAddr,
        via: Option<Channel>,
    ) {
        if self.election.is_leader() || self.election.leader() != Some(leader) {
            return;
        }
        let is_new = self.reach.on_alive(now, leader, via.is_some());
        self.seek.on_leader(leader);
        if via.is_none() && !self.reach.hears().control {
            self.seek.on_missed();
            if is_new {
                // We led until now, perhaps, and our members do not hear the new leader either.
                for registered in self.segment.registered(now) {
                    self.emit(Output::Unicast(from, Message::Registered(registered)));
                }
            }
        }
    }

    /// A peer registered with us, whether we lead or not, and said what it hears of us.
    pub(super) fn on_heard_by(&mut self, now: Instant, peer: Peer, hears: Hears) {
        let was_named = self.reach.is_named(peer.node);
        let is_news = self.reach.on_told(now, peer, hears);
        if was_named && !self.reach.is_named(peer.node) {
            self.segment.uplink_soon(now);
            self.emit(Output::Notice(Notice::ReachedAgain(peer.node)));
        }
        if self.election.is_leader() {
            if !hears.control {
                let alive = Message::LeaderAlive(self.alive(now, false));
                self.emit(Output::Unicast(peer.datagram, alive));
            }
            if !hears.data {
                for sender in self.senders.values_mut() {
                    sender.on_member_left(peer.node);
                }
            }
        } else if is_news && self.election.leader().is_none() {
            // Both look for their segment: now both know of each other.
            self.emit(Output::Unicast(peer.datagram, self.register()));
        }
    }

    /// A leader that gave way to us tells whom it led.
    pub(super) fn on_handed_over(&mut self, now: Instant, peers: &[Peer]) {
        self.seek.learn(now, peers);
        let me = self.node();
        for peer in peers.iter().filter(|peer| peer.node != me) {
            if self.segment.get(peer.node).is_none() {
                self.reach.suppose(now, *peer);
            }
        }
    }

    pub(super) fn reaching_timeout(&mut self, now: Instant) {
        if self.reach.next_deadline().is_some_and(|at| now >= at) {
            let actions = self.reach.on_timeout(now);
            self.act_on_reach(now, actions);
        }
        self.seek.on_standing(now, self.standing());
        if self.seek.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let (members, chance) = (self.own_members(), self.chance());
        for action in self.seek.on_timeout(now, |node| members.contains(&node), chance) {
            match action {
                seek::Action::Ask(peers) => self.ask(peers),
                seek::Action::AskController => {
                    let seek = Seek { segment: self.segment_name.clone(), datagram: self.me.datagram };
                    self.emit(Output::Uplink(UplinkBody::Seek(seek)));
                }
            }
        }
    }

    /// To everybody on the channel, and to those whom it does not reach one by one.
    pub(super) fn multicast(&mut self, to: Destination, message: Message) {
        let copies = self.copies(to);
        if !copies.is_empty() {
            self.emit(Output::Each(copies, message.clone()));
        }
        self.emit(Output::Multicast(to, message));
    }

    /// Where copies go of what we multicast: of a group's channel to members of the group only.
    fn copies(&self, to: Destination) -> Vec<SocketAddr> {
        match to {
            Destination::Control | Destination::OtherControl(_) => self.reach.copies(false, |_| true),
            Destination::Data(channel) => {
                let mut groups = self.groups.list().into_iter().flat_map(|list| &list.groups);
                let group = groups.find(|group| group.channel == channel);
                self.reach.copies(true, |node| group.is_some_and(|group| group.holds(node)))
            }
        }
    }

    pub(super) fn register(&self) -> Message {
        Message::Register(self.registration(self.reach.hears()))
    }

    pub(super) fn standing(&self) -> Standing {
        if self.election.is_leader() {
            return Standing::Leads { others: self.segment.len() > 1 };
        }
        self.election.leader().map_or(Standing::Alone, |_| Standing::Follows)
    }

    /// Members of this site that the session's frames do not reach pull the object from us.
    pub(super) fn release_to(&mut self, notification: &Notification, nodes: &[NodeId]) {
        let (run, assignment) = (notification.run, notification.assignment);
        let collector = self.collectors.get(&Subject::Assignment { run, assignment });
        for node in nodes {
            if collector.is_none_or(|collector| collector.wants(*node)) {
                self.release.push(assignment, *node);
            }
        }
    }

    /// A member registered that may have missed the beginning of a session, or its end.
    pub(super) fn release_late(&mut self, node: NodeId) {
        if !self.reach.misses(node, true) {
            return;
        }
        let Some(member) = self.segment.get(node) else { return };
        let serves = |of: &Notification| {
            self.groups.holds(&of.site, node) && member.sites.iter().any(|state| state.site == of.site)
        };
        let distributing = self.forwards.values().filter(|forward| forward.is_distributing());
        let notifications: Vec<Notification> =
            distributing.map(|forward| forward.notification()).filter(|of| serves(of)).cloned().collect();
        for notification in notifications {
            self.release_to(&notification, &[node]);
        }
    }

    pub(super) fn drain_releases(&mut self, now: Instant) {
        for (assignment, node) in self.release.begin(now) {
            if let Some(to) = self.segment.get(node).map(|member| member.datagram)
                && let Some(announce) = self.released(assignment)
            {
                self.emit(Output::Unicast(to, Message::Announce(announce)));
            }
        }
    }

    /// Whether the member is not to be told yet where the document's object is.
    pub(super) fn waits_for_release(&self, subject: Subject, node: NodeId) -> bool {
        match subject {
            Subject::Assignment { assignment, .. } => self.release.is_waiting(assignment, node),
            Subject::Order { .. } => false,
        }
    }

    /// Who gets a copy of what is multicast with a question for reports.
    pub(super) fn document_copies(&self, subject: Subject, to: Destination) -> Vec<SocketAddr> {
        match subject {
            Subject::Assignment { assignment, .. } => {
                let others = self.release.pulling(assignment).filter(|node| *node != self.node());
                let members = others.filter_map(|node| self.segment.get(node));
                members.map(|member| member.datagram).collect()
            }
            Subject::Order { .. } => self.copies(to),
        }
    }

    /// "Get it from me", for a member that no frame reaches.
    fn released(&mut self, assignment: AssignmentId) -> Option<Announce> {
        let forward = self.forwards.get(&assignment).filter(|forward| forward.is_distributing())?;
        let notification = forward.notification().clone();
        Some(Announce { phase: Phase::Close, ..self.head(&notification) })
    }

    fn act_on_reach(&mut self, now: Instant, actions: Vec<reach::Action>) {
        for action in actions {
            match action {
                reach::Action::Tell => {
                    if let Some(leader) = self.leader_datagram {
                        self.emit(Output::Unicast(leader, self.register()));
                    }
                }
                reach::Action::Probe => {
                    if self.election.is_leader() {
                        self.probe();
                    }
                }
                reach::Action::Missed(hears) => {
                    let notice = match (hears, self.election.leader()) {
                        (Some(hears), Some(leader)) => Notice::Missing { leader, hears },
                        (Some(_), None) | (None, _) => Notice::HeardAgain,
                    };
                    self.emit(Output::Notice(notice));
                }
                reach::Action::Named(node) => {
                    if self.segment.get(node).is_some() {
                        self.segment.uplink_soon(now);
                        self.emit(Output::Notice(Notice::Unreached(node)));
                    }
                }
            }
        }
    }

    /// On every data channel that somebody else listens on.
    fn probe(&mut self) {
        let me = self.node();
        let groups = self.groups.list().into_iter().flat_map(|list| &list.groups);
        let others = groups.filter(|group| group.members.iter().any(|node| *node != me));
        let channels: Vec<Destination> = others.map(|group| Destination::Data(group.channel)).collect();
        for to in channels {
            self.emit(Output::Multicast(to, Message::Probe));
        }
    }

    /// Registers with peers that may not know of us: whoever leads answers.
    fn ask(&mut self, peers: Vec<SocketAddr>) {
        if !peers.is_empty() {
            let register = self.registration(Hears::NOTHING);
            self.emit(Output::Each(peers, Message::Register(register)));
        }
    }

    /// Where a peer takes datagrams, from somebody who may say so: itself, its leader, the CCM. That is worth
    /// more than the address that a datagram came from, which nobody signed.
    fn find(&self, node: NodeId) -> Option<Peer> {
        let member = self.segment.get(node).map(|member| Peer { node, datagram: member.datagram });
        member.or_else(|| self.seek.find(node))
    }

    /// Whom we lead.
    fn own_members(&self) -> Vec<NodeId> {
        if self.election.is_leader() {
            self.segment.members().map(|m| m.node()).collect()
        } else {
            Vec::new()
        }
    }
}
