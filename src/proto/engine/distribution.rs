//! Notifications, forwarding, sessions, frames: messages to machines and back.

use super::{Channel, Engine, Notice, Output, Retry, Task};
use crate::proto::control_channel;
use crate::proto::forward::{self, Forward};
use crate::proto::rate::RateConfig;
use crate::proto::receiver::{Placement, Receiver, ReceiverAction, ReceiverConfig};
use crate::proto::sender::{self, Sender, SenderConfig};
use crate::time::{Duration, Instant};
use crate::wire::assignment::Shape;
use crate::wire::envelope::Message;
use crate::wire::id::{AssignmentId, Name, NodeId, ObjectName, RunId, SessionId};
use crate::wire::nack::Nack;
use crate::wire::notify::{NextReply, NextRequest, Notification};
use crate::wire::report::{Outcome, Reason, Subject};
use crate::wire::session::{Announce, FrameHeader, Phase};
use std::net::SocketAddr;

/// Sessions that a leader sends at once; further ones wait for a place.
pub(super) const SENDERS_MAX: usize = 16;
/// Sessions that a member receives at once; announcements of further ones are passed over until one ends.
pub(super) const RECEIVERS_MAX: usize = 16;
/// Assignments whose work is remembered; those of the oldest runs go first.
pub(super) const TASKS_MAX: usize = 64;
/// Pulls of one object that may fail in a row before the node reports the assignment as incomplete.
const FETCH_TRIES: u32 = 6;
const FETCH_PAUSE: Duration = Duration::from_millis(200);

/// Why a notification or an order is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this node does not lead its segment now")]
    NotLeader,
    #[error("it names another node as leader")]
    NotForMe,
    #[error("a newer one is known: a run of its site, or a charter")]
    Superseded,
    #[error("it is for another segment")]
    OtherSegment,
    #[error("the CCM has decided on the channel: use `farmcast segment channel` there")]
    Chartered,
    #[error(transparent)]
    Channel(#[from] control_channel::Refused),
}

impl Engine {
    /// A notification whose signature was checked (GD-8).
    ///
    /// # Errors
    /// A node that does not lead refuses: the CCM asks who does. So does one that knows of a newer run.
    pub fn handle_notification(&mut self, now: Instant, notification: Notification) -> Result<(), Refusal> {
        if notification.leader != self.node() {
            return Err(Refusal::NotForMe);
        }
        if !self.election.is_leader() {
            return Err(Refusal::NotLeader);
        }
        if self.is_superseded(&notification.site, notification.run) {
            return Err(Refusal::Superseded);
        }
        self.supersede(now, &notification.site, notification.run);
        let (assignment, shape, source) = (notification.assignment, notification.shape, notification.source);
        let subject = Subject::Assignment { run: notification.run, assignment };
        if let Some(collector) = self.collectors.get_mut(&subject) {
            // The CCM restarted, or the report got lost: it gets the report again.
            collector.on_report_lost(now);
        } else {
            let expected = self.segment.serving(&notification.site);
            self.collect(now, subject, notification.site.clone(), expected);
        }
        let site = notification.site.clone();
        self.add_task(Task { run: notification.run, assignment, site, shape, failed: false });
        let known = self.forwards.get_mut(&assignment);
        let action = match known {
            Some(forward) if forward.notification().run == notification.run => forward.renotify(notification),
            _ => {
                self.forwards.insert(assignment, Forward::new(notification));
                Some(forward::Action::Fetch)
            }
        };
        if let Some(forward::Action::Fetch) = action {
            if self.held.contains(&shape.name) {
                self.on_stored(now, &shape.name);
            } else {
                self.fetch(shape, source);
            }
        }
        // What is held changes now: the CCM hears how the segment stands (NS-5).
        self.segment.uplink_soon(now);
        self.drain(now);
        Ok(())
    }

    /// Whether a newer run of the site is known. A site has one run at a time, and their numbers grow: what
    /// is left of an older one must not take the place of what the newer one staged.
    pub(super) fn is_superseded(&self, site: &Name, run: RunId) -> bool {
        self.tasks.values().any(|task| task.site == *site && task.run > run)
    }

    /// Ends the leader's work on older runs of the site.
    fn supersede(&mut self, now: Instant, site: &Name, run: RunId) {
        self.forwards.retain(|_, forward| {
            let old = forward.notification();
            old.site != *site || old.run >= run
        });
        self.waiting.retain(|old| old.site != *site || old.run >= run);
        self.collectors.retain(|subject, collector| collector.site() != site || subject.run() >= run);
        let collectors = &self.collectors;
        self.orders.retain(|order, _| {
            collectors
                .keys()
                .any(|subject| matches!(subject, Subject::Order { order: of, .. } if of == order))
        });
        for sender in self.senders.values_mut() {
            if sender.head().site == *site && sender.head().run < run {
                sender.stop(now);
            }
        }
    }

    /// The spool holds this object complete and verified: found at the start, pulled, or received.
    pub fn handle_object_complete(&mut self, now: Instant, name: ObjectName) {
        self.held.insert(name);
        self.retries.remove(&name);
        self.on_stored(now, &name);
        self.drain(now);
    }

    /// The spool gave up an object to make room.
    pub fn handle_object_gone(&mut self, name: &ObjectName) {
        self.held.remove(name);
    }

    /// A pull failed. `fatal` with the outcome to report where trying again is of no use.
    pub fn handle_fetch_failed(&mut self, now: Instant, name: ObjectName, fatal: Option<(Reason, String)>) {
        if let Some((reason, text)) = fatal {
            self.retries.remove(&name);
            self.fail_task(&name, reason, text);
            return;
        }
        let forwards: Vec<AssignmentId> = self.forwards_of(&name);
        if !forwards.is_empty() {
            for assignment in forwards {
                self.step_forward(now, assignment, forward::Event::FetchFailed);
            }
            return;
        }
        let Some(retry) = self.retries.get_mut(&name) else { return };
        retry.tries += 1;
        if retry.tries < FETCH_TRIES {
            retry.at = Some(now + FETCH_PAUSE * u64::from(retry.tries));
            return;
        }
        let source = retry.source;
        self.retries.remove(&name);
        if self.leader_datagram.is_none() {
            // It is gone, not its content: the next leader brings it.
            return;
        }
        self.emit(Output::Notice(Notice::FetchGivenUp { name, source }));
        let text = format!("the assignment did not arrive whole, by multicast or from http://{source}");
        self.fail_task(&name, Reason::Incomplete, text);
    }

    /// The CCM's answer to [`Output::Ask`]; `Err` where there was none.
    pub fn handle_next(&mut self, now: Instant, assignment: AssignmentId, next: Result<NextReply, ()>) {
        let event = match next {
            Ok(next) => forward::Event::Next(next),
            Err(()) => forward::Event::AskFailed,
        };
        self.step_forward(now, assignment, event);
        self.drain(now);
    }

    /// The next leader took the notification, or did not.
    pub fn handle_handed(&mut self, now: Instant, assignment: AssignmentId) {
        self.step_forward(now, assignment, forward::Event::Handed);
        self.drain(now);
    }

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
        if !self.serves(&announce.site) {
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
        let sites: Vec<_> = member.sites.iter().map(|state| state.site.clone()).collect();
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

    /// Another leader: what the last one was to send us alone, this one announces anew.
    pub(super) fn forget_unicast(&mut self) {
        self.retries.clear();
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

    /// Somebody else leads: what we did as leader is its business now.
    pub(super) fn drop_leadership(&mut self) {
        self.forwards.clear();
        self.waiting.clear();
        self.collectors.clear();
        self.orders.clear();
        let sessions: Vec<SessionId> = self.senders.keys().copied().collect();
        self.senders.clear();
        for session in sessions {
            self.emit(Output::SessionOver(session));
        }
    }

    pub(super) fn distribution_timeout(&mut self, now: Instant) {
        let due = |(assignment, forward): (&AssignmentId, &Forward)| {
            forward.next_deadline().is_some_and(|at| now >= at).then_some(*assignment)
        };
        let forwards: Vec<AssignmentId> = self.forwards.iter().filter_map(due).collect();
        for assignment in forwards {
            self.step_forward(now, assignment, forward::Event::Timeout);
        }
        let mut fetches = Vec::new();
        for retry in self.retries.values_mut() {
            if retry.at.take_if(|at| now >= *at).is_some() {
                fetches.push((retry.shape, retry.source));
            }
        }
        for (shape, source) in fetches {
            self.fetch(shape, source);
        }
    }

    pub(super) fn drain_senders(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (session, sender) in &mut self.senders {
            while let Some(action) = sender.poll(now) {
                match action {
                    sender::Action::Announce(announce) => {
                        let message = Message::Announce(announce);
                        self.outputs.push_back(Output::Multicast(Channel::Data, message));
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
            if let Some(notification) = self.waiting.pop_front() {
                self.distribute(now, &notification);
            }
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

    fn add_task(&mut self, task: Task) {
        // Bounded by what the spool can hold: tasks of objects that are gone are never asked for again.
        if self.tasks.len() >= TASKS_MAX
            && !self.tasks.contains_key(&task.shape.name)
            && let Some(oldest) = self.tasks.iter().min_by_key(|(_, task)| task.run).map(|(name, _)| *name)
        {
            self.tasks.remove(&oldest);
        }
        let known = self.tasks.get(&task.shape.name).filter(|known| known.run == task.run);
        if known.is_none() {
            self.tasks.insert(task.shape.name, task);
        }
    }

    /// The object is complete: stage it, and go on with forwarding it.
    fn on_stored(&mut self, now: Instant, name: &ObjectName) {
        self.stage_held(name);
        for assignment in self.forwards_of(name) {
            self.step_forward(now, assignment, forward::Event::Stored);
        }
    }

    fn stage_held(&mut self, name: &ObjectName) {
        let Some(task) = self.tasks.get(name).cloned() else { return };
        let subject = Subject::Assignment { run: task.run, assignment: task.assignment };
        if self.is_superseded(&task.site, task.run) {
            return;
        }
        if task.failed {
            // It came after all, from another leader say.
            self.reporter.forget(subject);
            self.tasks.insert(*name, Task { failed: false, ..task.clone() });
        }
        if self.serves(&task.site) && self.reporter.begin(subject) {
            self.emit(Output::Stage { run: task.run, assignment: task.assignment, shape: task.shape });
        }
    }

    fn fail_task(&mut self, name: &ObjectName, reason: Reason, text: String) {
        let Some(task) = self.tasks.get_mut(name) else { return };
        let subject = Subject::Assignment { run: task.run, assignment: task.assignment };
        task.failed = true;
        self.emit(Output::Report { subject, outcome: Outcome::Failed { reason, text } });
    }

    fn forwards_of(&self, name: &ObjectName) -> Vec<AssignmentId> {
        let of = |(assignment, forward): (&AssignmentId, &Forward)| {
            (forward.notification().shape.name == *name).then_some(*assignment)
        };
        self.forwards.iter().filter_map(of).collect()
    }

    fn step_forward(&mut self, now: Instant, assignment: AssignmentId, event: forward::Event) {
        let Some(forward) = self.forwards.get_mut(&assignment) else { return };
        let action = forward.step(now, event);
        let notification = forward.notification().clone();
        match action {
            None => {}
            Some(forward::Action::Fetch) => self.fetch(notification.shape, notification.source),
            Some(forward::Action::Ask) => {
                self.emit(Output::Ask(NextRequest { run: notification.run, assignment }));
            }
            Some(forward::Action::Hand(next)) => self.emit(Output::Hand(assignment, next)),
            Some(forward::Action::Distribute) => self.distribute(now, &notification),
        }
    }

    /// Opens a session for our own members (GD-18, LD-1).
    fn distribute(&mut self, now: Instant, notification: &Notification) {
        let me = self.node();
        let mut participants = self.segment.serving(&notification.site);
        participants.retain(|node| *node != me);
        if participants.is_empty() {
            return;
        }
        if self.senders.len() >= SENDERS_MAX {
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

    /// What multicast did not bring whole comes from the leader over HTTP (D5: released to unicast).
    fn finish_by_unicast(&mut self, shape: Shape) {
        if let Some(source) = self.leader_http
            && !self.retries.contains_key(&shape.name)
        {
            self.retries.insert(shape.name, Retry { shape, source, tries: 0, at: None });
            self.fetch(shape, source);
        }
    }

    fn fetch(&mut self, shape: Shape, source: SocketAddr) {
        self.emit(Output::Fetch { shape, source });
    }
}
