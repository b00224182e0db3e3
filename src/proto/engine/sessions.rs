//! Sessions, sent and received: announcements, frames, answers to machines and back (LD).

use super::{Channel, Engine, Notice, Output, Task};
use crate::proto::rate::RateConfig;
use crate::proto::receiver::{Placement, Receiver, ReceiverAction, ReceiverConfig};
use crate::proto::sender::{self, Sender, SenderConfig};
use crate::time::Instant;
use crate::wire::envelope::Message;
use crate::wire::id::{AssignmentId, NodeId, SessionId};
use crate::wire::nack::Nack;
use crate::wire::notify::Notification;
use crate::wire::report::Reason;
use crate::wire::session::{Announce, FrameHeader, Phase};

/// Sessions that a leader sends at once; further ones wait for a place.
pub(super) const SENDERS_MAX: usize = 16;
/// Sessions that a member receives at once; announcements of further ones are passed over until one ends.
pub(super) const RECEIVERS_MAX: usize = 16;

impl Engine {
    /// There is room for the session's object; `held` tells which of its blocks are verified already.
    pub fn start_reception(&mut self, now: Instant, announce: &Announce, held: impl Fn(u32) -> bool) {
        // Two announcements of one session that lay in one batch both asked for this.
        if let Some(receiver) = self.receivers.get_mut(&announce.session) {
            receiver.on_announce(now, announce);
            return;
        }
        // A new session on the same object replaces one whose leader is gone; what was verified stays.
        let same = |receiver: &Receiver| receiver.shape().name == announce.shape.name;
        let old: Vec<SessionId> =
            self.receivers.iter().filter(|(_, r)| same(r)).map(|(session, _)| *session).collect();
        for session in old {
            self.receivers.remove(&session);
            self.emit(Output::SessionOver(session));
        }
        let seed = self.chance();
        let receiver = Receiver::new(now, ReceiverConfig::default(), announce, seed, held);
        self.receivers.insert(announce.session, receiver);
        self.drain(now);
    }

    /// There is no room for the session's object: the leader and the CCM are told.
    pub fn handle_no_room(&mut self, announce: &Announce, reason: Reason, text: String) {
        let nack =
            Nack { session: announce.session, pass: announce.pass, lacks: vec![], more: false, failed: true };
        self.tell_leader(Message::Nack(nack));
        self.fail_task(&announce.shape.name, reason, text);
    }

    /// Whether frames wait for room in the socket's buffer: meanwhile no session hands out more.
    pub fn handle_backlog(&mut self, now: Instant, waits: bool) {
        self.senders.values_mut().for_each(|sender| sender.hold(waits));
        if !waits {
            self.drain_senders(now);
        }
    }

    /// A frame whose tag was checked: where its payload belongs. Drain the outputs after a batch.
    pub fn handle_frame(&mut self, now: Instant, header: &FrameHeader, payload_len: usize) -> Placement {
        match self.receivers.get_mut(&header.session) {
            Some(receiver) => receiver.on_frame(now, header, payload_len),
            None => {
                self.counters.frames_unknown += 1;
                Placement::Ignore
            }
        }
    }

    /// After a batch of frames: lets the receivers say what is ready.
    pub fn handle_frames_end(&mut self, now: Instant) {
        self.drain_receivers(now);
    }

    /// The spool failed under a session (the disk, say).
    pub fn handle_reception_failed(
        &mut self,
        now: Instant,
        session: SessionId,
        reason: Reason,
        text: String,
    ) {
        if let Some(receiver) = self.receivers.get_mut(&session) {
            receiver.fail(now);
            let name = receiver.shape().name;
            self.fail_task(&name, reason, text);
            self.drain(now);
        }
    }

    /// A block was hashed.
    pub fn handle_verified(&mut self, now: Instant, session: SessionId, block: u32, right: bool) {
        if let Some(receiver) = self.receivers.get_mut(&session) {
            receiver.on_verified(now, block, right);
        }
    }

    /// Source frames of a block that must be rebuilt.
    pub fn missing(&self, session: SessionId, block: u32) -> Vec<u16> {
        self.receivers.get(&session).map_or_else(Vec::new, |receiver| receiver.missing(block).collect())
    }

    pub(super) fn on_announce(&mut self, now: Instant, from: NodeId, announce: Announce) {
        if self.election.leader() != Some(from) || self.election.is_leader() {
            self.counters.not_leaders += 1;
            return;
        }
        if !self.takes(&announce.site) {
            return;
        }
        if let Some(receiver) = self.receivers.get_mut(&announce.session) {
            receiver.on_announce(now, &announce);
            return;
        }
        let (run, assignment, shape) = (announce.run, announce.assignment, announce.shape);
        self.add_task(Task { run, assignment, site: announce.site.clone(), shape, failed: false });
        if self.held.contains(&shape.name) {
            // Says "complete" by the machine that spreads such answers, and stages if that is to do.
            self.stage_held(&shape.name);
        }
        if announce.phase == Phase::Close {
            if !self.held.contains(&shape.name) {
                self.finish_by_unicast(shape);
            }
        } else if self.receivers.len() < RECEIVERS_MAX {
            self.emit(Output::Receive { announce, leader: from });
        }
    }

    /// A new member of the segment takes part in what runs.
    pub(super) fn invite_to_sessions(&mut self, node: NodeId) {
        let Some(member) = self.segment.get(node) else { return };
        let sites = member.sites.iter().map(|state| &state.site);
        let sites: Vec<_> = sites.filter(|site| self.groups.holds(site, node)).cloned().collect();
        for sender in self.senders.values_mut() {
            if sites.contains(&sender.head().site) {
                sender.on_member_joined(node);
            }
        }
    }

    pub(super) fn on_member_gone(&mut self, now: Instant, node: NodeId) {
        for sender in self.senders.values_mut() {
            sender.on_member_left(node);
        }
        for collector in self.collectors.values_mut() {
            collector.on_gone(now, node);
        }
    }

    /// An announcement that says: this is over, get from me what you lack. For members that came too late for
    /// the session or have restarted since. `None` while the session is still to come or runs.
    pub(super) fn closed_session(&mut self, assignment: AssignmentId) -> Option<Announce> {
        let runs = self.senders.values().any(|sender| sender.head().assignment == assignment);
        let waits = self.waiting.iter().any(|notification| notification.assignment == assignment);
        let forward = self.forwards.get(&assignment).filter(|forward| forward.is_distributing())?;
        if runs || waits {
            return None;
        }
        let notification = forward.notification().clone();
        Some(Announce { phase: Phase::Close, ..self.head(&notification) })
    }

    pub(super) fn drain_senders(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (session, sender) in &mut self.senders {
            while let Some(action) = sender.poll(now) {
                match action {
                    sender::Action::Announce(announce) => {
                        // Without a member of its group there is nobody to tell.
                        if let Some(group) = self.groups.serving(&announce.site) {
                            let channel = Channel::Data(group.channel);
                            self.outputs.push_back(Output::Multicast(channel, Message::Announce(announce)));
                        }
                    }
                    sender::Action::Frames(run) => self.outputs.push_back(Output::Frames(*session, run)),
                    sender::Action::Done(finish) => {
                        let head = sender.head();
                        let notice = Notice::SessionDone {
                            assignment: head.assignment,
                            finish,
                            bytes: head.shape.command_len + head.shape.data_len,
                        };
                        self.outputs.push_back(Output::Notice(notice));
                        over.push(*session);
                    }
                }
            }
        }
        for session in over {
            self.senders.remove(&session);
            self.emit(Output::SessionOver(session));
            self.serve_waiting(now);
        }
    }

    pub(super) fn drain_receivers(&mut self, now: Instant) {
        let (mut complete, mut over, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (session, receiver) in &mut self.receivers {
            while let Some(action) = receiver.poll(now) {
                match action {
                    ReceiverAction::Ready { block, missing } => {
                        self.outputs.push_back(Output::Ready { session: *session, block, missing });
                    }
                    ReceiverAction::Nack(nack) => answers.push(Message::Nack(nack)),
                    ReceiverAction::Progress(progress) => answers.push(Message::Progress(progress)),
                    ReceiverAction::Complete => complete.push(receiver.shape().name),
                    ReceiverAction::Abandoned => over.push((*session, Some(*receiver.shape()))),
                    ReceiverAction::Over => over.push((*session, None)),
                }
            }
        }
        for answer in answers {
            self.tell_leader(answer);
        }
        for name in complete {
            self.held.insert(name);
            self.on_stored(now, &name);
        }
        for (session, abandoned) in over {
            self.receivers.remove(&session);
            self.emit(Output::SessionOver(session));
            if let Some(shape) = abandoned {
                self.finish_by_unicast(shape);
            }
        }
    }

    fn tell_leader(&mut self, message: Message) {
        if let Some(leader) = self.leader_datagram {
            self.emit(Output::Unicast(leader, message));
        }
    }

    /// Opens a session for our own members (GD-18, LD-1).
    pub(super) fn distribute(&mut self, now: Instant, notification: &Notification) {
        let me = self.node();
        let mut participants = self.recipients(&notification.site);
        participants.retain(|node| *node != me);
        if participants.is_empty() {
            return;
        }
        if self.senders.len() >= SENDERS_MAX || self.are_joining(now, &participants) {
            self.waiting.push_back(notification.clone());
            return;
        }
        let head = self.head(notification);
        let (start, max) = self.setup_rate;
        let rate = RateConfig { start, max, ..RateConfig::default() };
        let config = SenderConfig { rate, ..SenderConfig::default() };
        self.senders.insert(head.session, Sender::new(now, config, head, &participants));
    }

    /// A new session on an assignment.
    fn head(&mut self, notification: &Notification) -> Announce {
        let session = SessionId(self.chance() as u32);
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&self.chance().to_be_bytes());
        salt[8..].copy_from_slice(&self.chance().to_be_bytes());
        Announce {
            session,
            salt,
            run: notification.run,
            assignment: notification.assignment,
            site: notification.site.clone(),
            group: notification.group.clone(),
            shape: notification.shape,
            payload: self.payload,
            rate: 0,
            pass: 0,
            phase: Phase::Open,
            sent: 0,
            spread_ms: 0,
        }
    }
}
