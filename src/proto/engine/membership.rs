//! Election, registration, the segment's members, the clock: messages to machines and back.

use super::{Channel, Destination, Engine, Notice, Output};
use crate::proto::election::{Action, Event, Rank};
use crate::proto::segment::{self, Taken};
use crate::time::Instant;
use crate::wire::control::{
    ClockReply, ClockRequest, Hears, LeaderAlive, LeaderClaim, Peer, Profile as Member, Register, Registered,
};
use crate::wire::envelope::{Message, Sender};
use crate::wire::id::{Epoch, NodeId};
use crate::wire::notify::UplinkBody;
use crate::wire::report::SegmentReport;
use crate::wire::seal::Certificate;
use std::net::SocketAddr;

impl Engine {
    /// What we are and hold was measured anew. What matters to others is told soon.
    pub fn set_me(&mut self, now: Instant, me: Member) {
        let changed = self.me.sites != me.sites || self.me.mtu != me.mtu;
        self.me = Member { groups: self.groups.number(), ..me };
        self.election.set_priority(self.me.priority.max(1));
        if self.election.is_leader() {
            self.segment.on_register(now, self.own_stamp(), self.registration(Hears::ALL));
        } else if changed && let Some(leader) = self.leader_datagram {
            self.emit(Output::Unicast(leader, self.register()));
        }
    }

    /// The CCM answered: what its clock showed between `sent` and `received` of our wall clock; the latter
    /// is `now`.
    pub fn handle_controller_clock(&mut self, now: Instant, sent: u64, controller: u64, received: u64) {
        if self.election.is_leader() {
            self.activation.on_sample(now, sent, controller, received);
            self.release_orders(now);
        }
    }

    /// The daemon is about to end and says so: a leader to all, that nobody has to wait for silence (design
    /// D7), a member to its leader (NS-7).
    pub fn handle_stop(&mut self, now: Instant) {
        if self.election.is_leader() {
            self.say_farewell(now);
        } else if let Some(leader) = self.leader_datagram {
            self.emit(Output::Unicast(leader, Message::Leave));
        }
        self.election.resign();
    }

    pub(super) fn on_alive(
        &mut self,
        now: Instant,
        (from, via): (SocketAddr, Option<Channel>),
        certificate: &Option<Certificate>,
        sender: Sender,
        alive: LeaderAlive,
    ) {
        let rank = self.rank_of(certificate, sender.node, alive.priority);
        let resigns = alive.priority == 0;
        let event = Event::Alive { from: rank, epoch: sender.epoch, resigns };
        self.step_election(now, event);
        if self.election.leader() == Some(sender.node) && !self.election.is_leader() {
            self.leader_datagram = Some(from);
            self.leader_http = Some(SocketAddr::new(from.ip(), alive.http_port));
            self.leader_members = alive.members;
            self.on_groups_offer(now, alive.groups, from);
            let elsewhere = alive.pointer || via.is_none();
            let said = (alive.channel, alive.moves_in_ms, elsewhere);
            if self.control_channel.on_alive(now, &sender, said) {
                let chance = self.chance();
                self.registration.renew(now, self.profile.register_spread, chance);
            }
            if let Some(announce) = alive.session {
                self.on_announce(now, sender.node, announce);
            }
        }
        if !resigns {
            self.compare_with_leader(now, from, alive.charter, alive.members);
        }
    }

    pub(super) fn on_claim(
        &mut self,
        now: Instant,
        from: SocketAddr,
        certificate: &Option<Certificate>,
        sender: Sender,
        claim: LeaderClaim,
    ) {
        let rank = self.rank_of(certificate, sender.node, claim.priority);
        let astray = claim.channel != self.control_channel.present();
        if astray {
            self.control_channel.ask();
        }
        self.step_election(now, Event::Claim { from: rank, epoch: sender.epoch, astray });
        self.compare_with_claimant(now, from, claim.charter);
    }

    pub(super) fn on_register(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: &Sender,
        register: Register,
    ) {
        let (member, hears, node) = (register.profile.clone(), register.hears, sender.node);
        self.on_heard_by(now, Peer { node, datagram: member.datagram }, hears);
        if !self.election.is_leader() {
            return;
        }
        if member.certificate.can_lead
            && let Some(epoch) = self.election.outgrow(now, sender.epoch)
        {
            self.segment.uplink_soon(now);
            self.emit(Output::Notice(Notice::Leading(epoch)));
        }
        if register.charter < self.governance.number() {
            self.give_charter(from);
        }
        self.on_groups_offer(now, member.groups, member.datagram);
        self.release_unfit(node, member.mtu);
        let taken = self.segment.on_register(now, (sender.boot, sender.seq), register);
        self.counters.registrations_refused = self.segment.refused;
        if taken == Taken::New {
            self.emit(Output::Notice(Notice::Joined(sender.node)));
            self.invite_to_sessions(sender.node);
            self.expect_reports(now, &member);
        }
        self.release_late(node);
        // It may be the last that was to join its channel.
        self.serve_waiting(now);
        self.consider_handing_over(now);
    }

    pub(super) fn on_leave(&mut self, now: Instant, node: NodeId) {
        if self.election.is_leader() && self.segment.on_leave(now, node) {
            self.twins.on_gone(node);
            self.emit(Output::Notice(Notice::Left(node)));
            self.on_member_gone(now, node);
        }
    }

    pub(super) fn on_registered(&mut self, now: Instant, from: NodeId, registered: &Registered) {
        if self.election.is_leader() {
            self.on_handed_over(now, &registered.peers);
        } else if self.election.leader() == Some(from) {
            self.seek.learn(now, &registered.peers);
            let nodes: Vec<NodeId> = registered.peers.iter().map(|peer| peer.node).collect();
            let chance = self.chance();
            self.registration.on_report(now, &nodes, chance);
        }
    }

    pub(super) fn on_clock_request(&mut self, now: Instant, from: SocketAddr, request: ClockRequest) {
        // Without a sample of our own there is nothing to pass on.
        if self.election.is_leader()
            && let Some(controller) = self.activation.controller(now)
        {
            let reply = ClockReply { sent: request.sent, controller };
            self.emit(Output::Unicast(from, Message::ClockReply(reply)));
        }
    }

    pub(super) fn on_clock_reply(&mut self, now: Instant, wall: u64, from: NodeId, reply: ClockReply) {
        if self.election.leader() == Some(from) {
            self.activation.on_sample(now, reply.sent, reply.controller, wall);
        }
    }

    pub(super) fn membership_timeout(&mut self, now: Instant, wall: u64) {
        if self.election.next_deadline().is_some_and(|at| now >= at) {
            self.step_election(now, Event::Timeout);
        }
        let chance = self.chance();
        if self.registration.on_timeout(now, chance)
            && let Some(leader) = self.leader_datagram
        {
            self.emit(Output::Unicast(leader, self.register()));
        }
        if self.clock_at.is_some_and(|at| now >= at)
            && let Some(leader) = self.leader_datagram
        {
            self.clock_at = Some(now + self.profile.clock_period);
            self.emit(Output::Unicast(leader, Message::ClockRequest(ClockRequest { sent: wall })));
        }
        if self.election.is_leader() && self.segment.next_deadline().is_some_and(|at| now >= at) {
            let me = self.node();
            let (actions, gone) = self.segment.on_timeout(now, me);
            for node in gone {
                self.emit(Output::Notice(Notice::Gone(node)));
                self.twins.on_gone(node);
                self.on_member_gone(now, node);
            }
            for action in actions {
                match action {
                    segment::Action::Report(registered) => {
                        self.multicast(Destination::Control, Message::Registered(registered));
                    }
                    segment::Action::Uplink => {
                        self.emit(Output::Uplink(UplinkBody::Segment(self.segment_report(now))));
                    }
                }
            }
        }
    }

    fn step_election(&mut self, now: Instant, event: Event) {
        for action in self.election.step(now, event) {
            match action {
                Action::SendAlive => {
                    let alive = Message::LeaderAlive(self.alive(now, false));
                    self.multicast(Destination::Control, alive);
                    for channel in self.control_channel.pointers(now) {
                        let alive = Message::LeaderAlive(self.alive(now, true));
                        self.emit(Output::Multicast(Destination::OtherControl(channel), alive));
                    }
                }
                Action::SendClaim => self.claim(),
                Action::Follow(leader) => self.follow(now, leader),
                Action::Lead(epoch) => self.lead(now, epoch),
                // A reopened vote: sessions, registrations and forwarding go on meanwhile (B-11).
                Action::Yield => self.counters.elections += 1,
                Action::Orphaned => {
                    self.counters.elections += 1;
                    self.registration.on_orphaned();
                    self.control_channel.on_orphaned(now);
                    self.reach.on_alone();
                    (self.leader_datagram, self.leader_http, self.clock_at) = (None, None, None);
                    self.emit(Output::Notice(Notice::Orphaned));
                }
            }
        }
    }

    fn follow(&mut self, now: Instant, leader: NodeId) {
        let chance = self.chance();
        self.registration.on_leader(now, chance);
        self.control_channel.on_follow();
        self.clock_at = Some(now + self.profile.register_quiet);
        // Where it is comes with the leader-alive that made us follow.
        (self.leader_datagram, self.leader_http) = (None, None);
        self.drop_leadership();
        self.forget_unicast();
        self.groups.forget_offer();
        self.emit(Output::Notice(Notice::Following(leader)));
    }

    fn lead(&mut self, now: Instant, epoch: Epoch) {
        self.forget_unicast();
        self.groups.forget_offer();
        self.registration.on_orphaned();
        (self.leader_datagram, self.leader_http, self.clock_at) = (None, None, None);
        self.control_channel.on_lead();
        self.segment.on_register(now, self.own_stamp(), self.registration(Hears::ALL));
        self.segment.on_lead(now);
        self.lead_by_charter(now);
        self.reach.on_lead(now);
        self.emit(Output::Notice(Notice::Leading(epoch)));
    }

    /// Those at home hear it as well, wherever we are: who leads is decided between all.
    fn claim(&mut self) {
        let claim = Message::LeaderClaim(LeaderClaim {
            priority: self.election.rank().priority,
            charter: self.governance.number(),
            channel: self.control_channel.present(),
        });
        if self.control_channel.is_away() {
            let home = Destination::OtherControl(self.control_channel.home());
            self.emit(Output::Multicast(home, claim.clone()));
        }
        self.multicast(Destination::Control, claim);
    }

    fn segment_report(&self, now: Instant) -> SegmentReport {
        SegmentReport {
            segment: self.segment_name.clone(),
            epoch: self.election.epoch(),
            charter: self.governance.number(),
            behind: self.segment.behind(self.governance.number()) as u16,
            channel: self.control_channel.present(),
            twins: self.twins.found(now),
            members: self.segment.members().cloned().collect(),
            by_unicast: self.reach.named().filter(|node| self.segment.get(*node).is_some()).collect(),
        }
    }

    /// A claim above what the certificate allows counts as what it allows (T13); those of the charter's list
    /// come first (EL-3).
    fn rank_of(&self, certificate: &Option<Certificate>, node: NodeId, priority: u32) -> Rank {
        let cap = certificate.as_ref().map_or(0, |certificate| certificate.priority_cap);
        Rank { listed: self.governance.lists(node), priority: priority.min(cap), node }
    }
}
