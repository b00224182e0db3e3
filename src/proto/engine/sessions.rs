//! Sessions, sent and received: announcements, frames, answers to machines and back (LD).

use super::{Destination, Engine, Notice, Output, Task};
use crate::proto::rate::RateConfig;
use crate::proto::receiver::{Placement, Receiver, ReceiverAction, ReceiverConfig};
use crate::proto::sender::{self, Finish, Sender, SenderConfig};
use crate::proto::share;
use crate::time::{Duration, Instant};
use crate::wire::control::SiteState;
use crate::wire::envelope::Message;
use crate::wire::id::{AssignmentId, Name, NodeId, RunId, SessionId};
use crate::wire::nack::Nack;
use crate::wire::notify::{Notification, UplinkBody};
use crate::wire::problem::Problem;
use crate::wire::report::Reason;
use crate::wire::session::{
    Announce, FrameHeader, MTU_MIN, Phase, Repair, RepairWhen, fits_mtu, payload_for_mtu,
};

/// Sessions that a leader sends at once; further ones wait for a place.
pub(super) const SENDERS_MAX: usize = 16;
/// Sessions that a member receives at once; announcements of further ones are passed over until one ends.
pub(super) const RECEIVERS_MAX: usize = 16;
/// Between announcements on the data channel where leader-alives carry copies of them.
const COPIED_INTERVAL: Duration = Duration::from_secs(1);
/// Problem reports that wait to be told again.
const PROBLEMS_MAX: usize = 16;

impl Engine {
    /// There is room for the session's object; `held` tells which of its blocks are verified already.
    pub fn start_reception(&mut self, now: Instant, announce: &Announce, held: impl Fn(u32) -> bool) {
        // Asked for and not begun: nothing else begins a reception.
        let Some(latest) = self.opening.remove(&announce.session) else { return };
        let seed = self.chance();
        let config = ReceiverConfig { socket_bytes: self.socket_bytes, ..ReceiverConfig::default() };
        let mut receiver = Receiver::new(now, config, announce, seed, held);
        // A new session on the same object replaces one whose leader is gone; what arrived stays.
        let same = |receiver: &Receiver| receiver.shape().name == announce.shape.name;
        let old: Vec<SessionId> =
            self.receivers.iter().filter(|(_, r)| same(r)).map(|(session, _)| *session).collect();
        for session in old {
            if let Some(before) = self.receivers.remove(&session) {
                receiver.go_on_from(now, &before);
            }
            self.emit(Output::SessionOver(session));
        }
        if let Some(latest) = latest {
            receiver.on_announce(now, &latest);
        }
        self.receivers.insert(announce.session, receiver);
        self.drain(now);
    }

    /// There is no room for the session's object: the leader and the CCM are told.
    pub fn handle_no_room(&mut self, announce: &Announce, reason: Reason, text: String) {
        self.opening.remove(&announce.session);
        let nack = Nack { failed: true, ..Nack::empty(announce.session, announce.pass) };
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
            Some(receiver) => {
                self.reach.on_frames(now);
                receiver.on_frame(now, header, payload_len)
            }
            None => {
                self.counters.frames_unknown += 1;
                Placement::Ignore
            }
        }
    }

    /// Batches of frames that the data channel's socket had no room for, since the node's start.
    pub fn handle_drops(&mut self, dropped: u32) {
        for receiver in self.receivers.values_mut() {
            receiver.on_drops(dropped);
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
        if !self.takes(&announce.site) || self.has_live(&announce.site, announce.assignment) {
            return;
        }
        if let Some(receiver) = self.receivers.get_mut(&announce.session) {
            receiver.on_announce(now, &announce);
            return;
        }
        if let Some(latest) = self.opening.get_mut(&announce.session) {
            // It lay in one batch with the one that asked for the reception.
            *latest = Some(announce);
            return;
        }
        let (run, assignment, shape) = (announce.run, announce.assignment, announce.shape);
        self.add_task(Task { run, assignment, site: announce.site.clone(), shape, failed: false });
        if self.held.contains(&shape.name) {
            // Says "complete" by the machine that spreads such answers, and stages if that is to do.
            self.stage_held(&shape.name);
        }
        if announce.phase == Phase::Close || !fits_mtu(announce.payload, self.me.mtu) {
            // Over, or of frames that our interface does not take.
            if !self.held.contains(&shape.name) {
                self.finish_by_unicast(shape);
            }
        } else if !self.reach.is_without_data() && self.receivers.len() + self.opening.len() < RECEIVERS_MAX {
            // Where no frames arrive the leader, which was told so, says when to pull.
            self.opening.insert(announce.session, None);
            self.emit(Output::Receive { announce, leader: from });
        }
    }

    /// A new member of the segment takes part in what runs.
    pub(super) fn invite_to_sessions(&mut self, node: NodeId) {
        let Some(member) = self.segment.get(node) else { return };
        let sites = member.sites.iter().filter(|state| self.groups.holds(&state.site, node));
        let sites: Vec<_> = sites.cloned().collect();
        let mtu = member.mtu;
        if self.reach.misses(node, true) {
            return;
        }
        for sender in self.senders.values_mut() {
            let head = sender.head();
            let version = Some(head.assignment.version());
            let lacks = |state: &SiteState| state.site == head.site && state.version != version;
            if sites.iter().any(lacks) && fits_mtu(head.payload, mtu) {
                sender.on_member_joined(node);
            }
        }
    }

    /// A member registered anew: it takes no part any more in sessions whose frames its interface does not take,
    /// and pulls those objects by itself.
    pub(super) fn release_unfit(&mut self, node: NodeId, mtu: u16) {
        for sender in self.senders.values_mut().filter(|sender| !fits_mtu(sender.head().payload, mtu)) {
            sender.on_member_left(node);
        }
    }

    /// A copy of the announcement of a session that runs, of each in turn, for the leader-alive (LD-6). It never
    /// is a question: that has to come behind the frames that it asks about.
    pub(super) fn session_in_alive(&mut self) -> Option<Announce> {
        if !self.transport.announce_in_alive {
            return None;
        }
        let running = || self.senders.values().map(Sender::head).filter(|head| head.phase != Phase::Close);
        let count = running().count();
        let head = running().nth(self.alive_turn % count.max(1))?;
        self.alive_turn = self.alive_turn.wrapping_add(1);
        Some(Announce { phase: Phase::Open, ..head.clone() })
    }

    pub(super) fn on_member_gone(&mut self, now: Instant, node: NodeId) {
        for sender in self.senders.values_mut() {
            sender.on_member_left(node);
        }
        self.release.gone(node);
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
        self.bound_sessions(now);
        self.share_rate(now);
        let (mut over, mut idle) = (Vec::new(), false);
        while !std::mem::replace(&mut idle, true) {
            // A batch of each in turn: none gets the socket to itself.
            for (session, sender) in &mut self.senders {
                let Some(action) = sender.poll(now) else { continue };
                idle = false;
                match action {
                    sender::Action::Announce(announce) => {
                        // Without a member of its group there is nobody to tell.
                        if let Some(group) = self.groups.serving(&announce.site) {
                            let channel = Destination::Data(group.channel);
                            self.outputs.push_back(Output::Multicast(channel, Message::Announce(announce)));
                        }
                    }
                    sender::Action::Frames(run) => self.outputs.push_back(Output::Frames(*session, run)),
                    sender::Action::Done(finish) => {
                        let head = sender.head();
                        let bytes = head.shape.command_len + head.shape.data_len;
                        over.push((*session, head.run, head.assignment, finish, bytes));
                    }
                }
            }
        }
        for (session, run, assignment, finish, bytes) in over {
            self.senders.remove(&session);
            self.emit(Output::SessionOver(session));
            // Of a run that a newer one has replaced there is nothing to report.
            if !finish.reached_quorum() && self.forwards.contains_key(&assignment) {
                let problem = problem_of(self.segment_name.clone(), run, assignment, &finish);
                self.emit(Output::Uplink(UplinkBody::Problem(problem)));
            }
            self.emit(Output::Notice(Notice::SessionDone { assignment, finish, bytes }));
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
        let mut participants = self.recipients_of(&notification.site, notification.assignment);
        participants.retain(|node| *node != me);
        let missing: Vec<NodeId> =
            participants.extract_if(.., |node| self.reach.misses(*node, true)).collect();
        self.release_to(notification, &missing);
        let mtu = |node: &NodeId| self.segment.get(*node).map_or(0, |member| member.mtu);
        participants.retain(|node| mtu(node) >= MTU_MIN);
        // All take the frames of the one that takes least; with jumbo frames on all of them they are large.
        let least = participants.iter().map(mtu).min().unwrap_or(0).min(self.me.mtu);
        let payload = payload_for_mtu(least.into()) as u16;
        if participants.is_empty() {
            return;
        }
        if self.senders.len() >= SENDERS_MAX || self.are_joining(now, &participants) {
            self.waiting.push_back(notification.clone());
            return;
        }
        let head = Announce { payload, ..self.head(notification) };
        let (start, max) = self.setup_rate;
        // What others have found is a better beginning than a guess.
        let found = self.senders.values().filter(|sender| sender.has_found_rate());
        let found = found.map(|sender| sender.standing().rate).max();
        let rate = RateConfig { start: found.unwrap_or(start), max, ..RateConfig::default() };
        let config = self.transport.sender;
        let quorum = notification.quorum.unwrap_or(config.quorum);
        let copied = self.transport.announce_in_alive;
        let announce_interval = if copied { COPIED_INTERVAL } else { config.announce_interval };
        let config = SenderConfig { rate, quorum, announce_interval, ..config };
        let session = head.session;
        let mut sender = Sender::new(now, config, head, &participants);
        if found.is_some() {
            sender.take_found_rate();
        }
        self.senders.insert(session, sender);
    }

    /// Divides the way out among the sessions that have something to send.
    fn share_rate(&mut self, now: Instant) {
        if self.senders.len() < 2 {
            // Nearly always, and with every batch: nothing to divide, nothing to allocate.
            self.senders.values_mut().for_each(|sender| sender.limit_rate(now, None));
            return;
        }
        let wants: Vec<(SessionId, u64)> =
            self.senders.iter().filter_map(|(session, sender)| Some((*session, sender.wants()?))).collect();
        let rates: Vec<u64> = wants.iter().map(|(_, rate)| *rate).collect();
        let mut shares = share::divide(&rates).into_iter();
        for (session, sender) in &mut self.senders {
            let shares_with_others = rates.len() > 1 && wants.iter().any(|(of, _)| of == session);
            sender.limit_rate(now, if shares_with_others { shares.next() } else { None });
        }
    }

    /// The CCM did not get a problem report: it gets it again.
    pub(super) fn on_problem_untold(&mut self, now: Instant, problem: &Problem) {
        if self.untold.len() < PROBLEMS_MAX && self.forwards.contains_key(&problem.assignment) {
            self.untold.push((now + self.profile.segment_report, problem.clone()));
        }
    }

    /// Tells again what is due.
    pub(super) fn tell_problems(&mut self, now: Instant) {
        let untold = std::mem::take(&mut self.untold);
        let (due, later): (Vec<_>, Vec<_>) = untold.into_iter().partition(|(at, _)| now >= *at);
        self.untold = later;
        for (_, problem) in due {
            self.emit(Output::Uplink(UplinkBody::Problem(problem)));
        }
    }

    /// A new session on an assignment.
    pub(super) fn head(&mut self, notification: &Notification) -> Announce {
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
            payload: payload_for_mtu(self.me.mtu.into()) as u16,
            rate: 0,
            pass: 0,
            phase: Phase::Open,
            sent: 0,
            spread_ms: 0,
            counted: false,
            repair: Repair::default(),
            repair_when: RepairWhen::default(),
            nack_ms: 0,
        }
    }
}

/// What the CCM is told of a session that did not reach its quorum (LD-20, SR-15).
fn problem_of(segment: Name, run: RunId, assignment: AssignmentId, finish: &Finish) -> Problem {
    Problem {
        segment,
        run,
        assignment,
        participants: finish.participants,
        needed: finish.needed,
        complete: finish.complete.len() as u32,
        passes: finish.passes,
        stragglers: finish.stragglers.clone(),
    }
}
