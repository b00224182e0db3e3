//! Notifications, forwarding, pulls, and what becomes of an object that is whole: messages to machines and back.

use super::{Engine, Notice, Output, Retry, Task};
use crate::proto::control_channel;
use crate::proto::forward::{self, Forward};
use crate::time::{Duration, Instant};
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, Name, ObjectName, RunId, SessionId};
use crate::wire::notify::{NextReply, Notification};
use crate::wire::report::{Outcome, Reason, Subject};
use std::net::SocketAddr;

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
    #[error("this node has no list of groups yet that names its site")]
    NoGroup,
    #[error("it is for another segment")]
    OtherSegment,
    #[error("the CCM has decided on the channel: use `farmcast segment channel` there")]
    Chartered,
    #[error("content of a group comes on this channel: name another (LD-3)")]
    DataChannel,
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
        if notification.groups > self.groups.number() {
            self.keep_early(now, notification);
            return Ok(());
        }
        self.supersede(now, &notification);
        let (assignment, shape, sources) =
            (notification.assignment, notification.shape, notification.sources());
        let subject = Subject::Assignment { run: notification.run, assignment };
        if let Some(collector) = self.collectors.get_mut(&subject) {
            // The CCM restarted, or the report got lost: it gets the report again.
            collector.on_report_lost(now);
        } else {
            let expected = self.recipients_of(&notification.site, assignment);
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
                self.fetch(shape, sources);
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

    /// Ends the leader's work on older runs of the site, and on other parts of this one: a part is told of when the
    /// one before it is decided (AS-13).
    fn supersede(&mut self, now: Instant, new: &Notification) {
        let Notification { site, run, assignment, .. } = new;
        let stays = |of: &Name, run_of: RunId, assignment_of: AssignmentId| {
            of != site || run_of > *run || (run_of == *run && assignment_of == *assignment)
        };
        let told = |old: &Notification| stays(&old.site, old.run, old.assignment);
        self.forwards.retain(|_, forward| told(forward.notification()));
        self.early.retain(|_, old| told(old));
        self.waiting.retain(told);
        self.collectors.retain(|subject, collector| match subject {
            Subject::Assignment { run, assignment } => stays(collector.site(), *run, *assignment),
            Subject::Order { run: of, .. } => collector.site() != site || of >= run,
        });
        let forwards = &self.forwards;
        self.release.keep(|assignment| forwards.contains_key(&assignment));
        let collectors = &self.collectors;
        self.orders.retain(|order, _| {
            collectors
                .keys()
                .any(|subject| matches!(subject, Subject::Order { order: of, .. } if of == order))
        });
        for sender in self.senders.values_mut() {
            let head = sender.head();
            if !stays(&head.site, head.run, head.assignment) {
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

    /// The first leaves of an object that is being pulled lie verified in the spool.
    pub fn handle_object_begun(&mut self, now: Instant, name: &ObjectName) {
        for assignment in self.forwards_of(name) {
            self.step_forward(now, assignment, forward::Event::Begun);
        }
        self.drain(now);
    }

    /// Whether others may have what is verified of an object, though it is not whole.
    pub fn passes_on_early(&self, name: &ObjectName) -> bool {
        let mut forwards = self.forwards.values();
        forwards.any(|of| of.notification().shape.name == *name && of.passes_on_early())
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

    /// Another leader: what the last one was to send us alone, this one announces anew.
    pub(super) fn forget_unicast(&mut self) {
        self.retries.clear();
    }

    /// Somebody else leads: what we did as leader is its business now.
    pub(super) fn drop_leadership(&mut self) {
        self.forwards.clear();
        self.early.clear();
        self.waiting.clear();
        self.groups.stop_spreading();
        self.collectors.clear();
        self.orders.clear();
        self.untold.clear();
        self.release.keep(|_| false);
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
                fetches.push((retry.shape, vec![retry.source]));
            }
        }
        for (shape, sources) in fetches {
            self.fetch(shape, sources);
        }
        self.tell_problems(now);
    }

    pub(super) fn add_task(&mut self, task: Task) {
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
    pub(super) fn on_stored(&mut self, now: Instant, name: &ObjectName) {
        self.stage_held(name);
        for assignment in self.forwards_of(name) {
            self.step_forward(now, assignment, forward::Event::Stored);
        }
    }

    /// The object of an assignment that was to be staged here.
    pub fn object_of(&self, run: RunId, assignment: AssignmentId) -> Option<ObjectName> {
        let found = self.tasks.iter().find(|(_, task)| task.run == run && task.assignment == assignment);
        found.map(|(name, _)| *name)
    }

    /// Whether the object is to be staged here once it is complete, and has not been.
    pub fn is_to_stage(&self, name: &ObjectName) -> bool {
        self.tasks.get(name).is_some_and(|task| {
            let subject = Subject::Assignment { run: task.run, assignment: task.assignment };
            !task.failed
                && !self.is_superseded(&task.site, task.run)
                && self.takes(&task.site)
                && !self.has_live(&task.site, task.assignment)
                && self.reporter.report(subject).is_none()
        })
    }

    pub(super) fn stage_held(&mut self, name: &ObjectName) {
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
        if self.takes(&task.site)
            && !self.has_live(&task.site, task.assignment)
            && self.reporter.begin(subject)
        {
            self.emit(Output::Stage { run: task.run, assignment: task.assignment, shape: task.shape });
        }
    }

    pub(super) fn fail_task(&mut self, name: &ObjectName, reason: Reason, text: String) {
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
            Some(forward::Action::Fetch) => self.fetch(notification.shape, notification.sources()),
            Some(forward::Action::Ask(request)) => self.emit(Output::Ask(request)),
            Some(forward::Action::Hand(next)) => self.emit(Output::Hand(assignment, next)),
            Some(forward::Action::Distribute) => self.distribute(now, &notification),
        }
    }

    /// What multicast did not bring whole comes from the leader over HTTP (D5: released to unicast).
    pub(super) fn finish_by_unicast(&mut self, shape: Shape) {
        if let Some(source) = self.leader_http
            && !self.retries.contains_key(&shape.name)
        {
            self.retries.insert(shape.name, Retry { shape, source, tries: 0, at: None });
            self.fetch(shape, vec![source]);
        }
    }

    fn fetch(&mut self, shape: Shape, sources: Vec<SocketAddr>) {
        self.emit(Output::Fetch { shape, sources });
    }
}
