//! What the engine decided, carried out.

use super::{Shell, TOKEN_PORTS};
use crate::applier::ipc;
use crate::io::clock;
use crate::node::channels::Port;
use crate::node::charter;
use crate::node::fatal::Fatal;
use crate::node::identity;
use crate::node::news::News;
use crate::node::store::StoreError;
use crate::node::transfers::Done;
use crate::proto::engine::{Destination, Notice, Output};
use crate::time::Instant;
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, Name, NodeId, ObjectName, RunId, SessionId};
use crate::wire::notify::{Notification, Uplink, UplinkBody};
use crate::wire::report::{Outcome, Reason, StatusReport, Subject};
use crate::wire::session::Announce;
use mio::Token;
use std::net::SocketAddrV4;
use std::os::fd::AsFd;

/// What waits to be asked of the applier.
#[derive(Debug)]
pub(super) enum ApplierRequest {
    Stage { run: RunId, assignment: AssignmentId, name: ObjectName },
    Order { document: Vec<u8> },
    Scrub { number: u64, site: Name },
    Doubt { site: Name, version: AssignmentId },
    Key { document: Vec<u8> },
}

impl Shell {
    /// Carries out what the engine decided, until it has nothing more to say.
    pub(super) fn act(&mut self, now: Instant) -> Result<(), Fatal> {
        self.send_to_applier(now)?;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Multicast(channel, message) => {
                    let epoch = self.engine.election().epoch();
                    let control = self.engine.control_channel().present();
                    if let Err(error) = self.channels.multicast(channel, control, epoch, &message) {
                        self.troubles.tell(now, format!("{channel:?} channel: {error}"));
                    }
                }
                Output::Unicast(to, message) => {
                    let epoch = self.engine.election().epoch();
                    if let Err(error) = self.channels.send(now, to, epoch, &message) {
                        self.troubles.tell(now, format!("datagram to {to}: {error}"));
                    }
                }
                Output::Each(to, message) => {
                    let epoch = self.engine.election().epoch();
                    if let Err(error) = self.channels.send_each(&to, epoch, &message) {
                        self.troubles.tell(now, format!("datagrams to peers: {error}"));
                    }
                }
                Output::Frames(session, run) => {
                    self.open_own_session(session);
                    self.sessions.send(&mut self.channels, &self.store, session, run);
                    if self.sessions.has_deferred() {
                        self.engine.handle_backlog(now, true);
                    }
                }
                Output::Receive { announce, leader } => self.receive(now, &announce, leader),
                Output::Ready { session, block, missing } => {
                    let (engine, store) = (&mut self.engine, &mut self.store);
                    self.sessions.on_ready(now, engine, store, session, block, missing);
                    self.engine.handle_frames_end(now);
                }
                Output::SessionOver(session) => {
                    self.sessions.close(session);
                    self.engine.handle_backlog(now, self.sessions.has_deferred());
                    if self.engine.senders().next().is_none() {
                        self.hear_frames(true);
                    }
                }
                Output::Fetch { shape, sources } => {
                    let done = match self.make_room(&shape) {
                        Ok(()) => {
                            self.transfers.fetch(self.reactor.registry(), &self.store, shape, &sources, now)
                        }
                        Err(error) => {
                            log::warn!("assignment {:?}: {error}", shape.name);
                            let fatal = Some((reason_of(&error), error.to_string()));
                            self.engine.handle_fetch_failed(now, shape.name, fatal);
                            None
                        }
                    };
                    if let Some(done) = done {
                        self.on_transfer(now, done, None);
                    }
                }
                Output::Ask(request) => self.uplink(now, UplinkBody::Next(request)),
                Output::Hand(assignment, next) => {
                    // Whom it names is who must answer there.
                    let done = match Notification::open(&next.notification, &self.farm.director) {
                        Ok(Notification { leader, .. }) => {
                            self.transfers.hand(self.reactor.registry(), assignment, leader, &next, now)
                        }
                        Err(error) => {
                            Some(Done::Handed(assignment, Err(format!("the CCM's answer: {error}"))))
                        }
                    };
                    if let Some(done) = done {
                        self.on_transfer(now, done, None);
                    }
                }
                Output::Uplink(body) => self.uplink(now, body),
                Output::Stage { run, assignment, shape } => {
                    let request = ApplierRequest::Stage { run, assignment, name: shape.name };
                    self.applier_queue.push_back(request);
                    self.send_to_applier(now)?;
                }
                Output::CarryOut { document, .. } => {
                    self.applier_queue.push_back(ApplierRequest::Order { document });
                    self.send_to_applier(now)?;
                }
                Output::Report { subject, outcome } => self.report(now, subject, outcome),
                Output::CheckGroups(signed) => self.take_groups(now, signed),
                Output::JoinData(channels) => self.set_data_channels(now, channels),
                Output::JoinControl(channels) => self.join_control(now, &channels)?,
                Output::KeepCharter(charter) => {
                    if let Err(error) = charter::keep(&self.config.state_dir, &charter) {
                        self.troubles.tell(now, format!("{error}: the charter is not kept over a restart"));
                    }
                }
                Output::Notice(notice) => self.on_notice(&notice),
            }
        }
        Ok(())
    }

    /// Room in the spool; what had to go for it is not ours any more.
    fn make_room(&mut self, shape: &Shape) -> Result<(), StoreError> {
        let made = self.store.create(shape);
        self.note_gone();
        made
    }

    /// What the spool has given up nobody may count on.
    pub(super) fn note_gone(&mut self) {
        for name in self.store.take_gone() {
            self.engine.handle_object_gone(&name);
        }
    }

    /// Control channels beside the preconfigured one (EL-6).
    fn join_control(&mut self, now: Instant, channels: &[SocketAddrV4]) -> Result<(), Fatal> {
        let (new, failure) = self.channels.join_moved(channels);
        for fd in new {
            let token = Token(TOKEN_PORTS + Port::Control as usize);
            self.reactor.watch_fd(fd, token).map_err(Fatal::system("epoll"))?;
        }
        if let Some((channel, error)) = failure {
            self.troubles.tell(now, format!("control channel {channel} cannot be joined: {error}"));
        }
        Ok(())
    }

    /// The key of a session that we send is needed with its first frame.
    fn open_own_session(&mut self, session: SessionId) {
        if self.sessions.is_open(session) {
            return;
        }
        let Some((_, sender)) = self.engine.senders().find(|(id, _)| *id == session) else { return };
        let Some(Destination::Data(to)) = self.engine.channel_of(&sender.head().site) else { return };
        self.sessions.open(self.channels.sealer().key(), self.engine.node(), sender.head(), Some(to));
        self.hear_frames(false);
    }

    /// Whoever sends a session has no use for its own frames, and hearing them costs as much as receiving.
    fn hear_frames(&mut self, hear: bool) {
        if let Err(error) = self.channels.data.hear(hear) {
            log::warn!("the data channels cannot be {}: {error}", if hear { "joined again" } else { "left" });
        }
    }

    fn receive(&mut self, now: Instant, announce: &Announce, leader: NodeId) {
        match self.make_room(&announce.shape) {
            Ok(()) => {
                self.sessions.open(self.channels.sealer().key(), leader, announce, None);
                let (store, name) = (&self.store, announce.shape.name);
                self.engine.start_reception(now, announce, |block| store.is_verified(&name, block));
            }
            Err(error) => self.engine.handle_no_room(announce, reason_of(&error), error.to_string()),
        }
    }

    pub(super) fn uplink(&mut self, now: Instant, body: UplinkBody) {
        self.uplink_seq += 1;
        let uplink = Uplink { node: self.engine.node(), boot: self.boot, seq: self.uplink_seq, body };
        let signed = uplink.sign(self.channels.sealer().signer());
        for done in self.transfers.post(self.reactor.registry(), uplink.body, signed, now) {
            self.on_transfer(now, done, None);
        }
    }

    pub(super) fn send_to_applier(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some(request) = self.applier_queue.front() {
            let sent = match request {
                ApplierRequest::Stage { run, assignment, name } => {
                    let (run, assignment) = (*run, *assignment);
                    let shape = self.store.shape(name).copied();
                    match self.store.open_complete(name).zip(shape) {
                        Some(((file, _), shape)) => {
                            let clock_offset_ns = self.engine.clock_offset(now, clock::wall_ns());
                            let request = ipc::Request::Stage { run, assignment, shape, clock_offset_ns };
                            self.applier.send(&request, Some(file.as_fd()))
                        }
                        None => {
                            let reason = Reason::Incomplete;
                            let text = "the assignment has left the spool before it was staged".to_owned();
                            let subject = Subject::Assignment { run, assignment };
                            self.applier_queue.pop_front();
                            self.report(now, subject, Outcome::Failed { reason, text });
                            continue;
                        }
                    }
                }
                ApplierRequest::Order { document } => {
                    let document = document.clone();
                    let clock_offset_ns = self.engine.clock_offset(now, clock::wall_ns());
                    self.applier.send(&ipc::Request::Order { document, clock_offset_ns }, None)
                }
                ApplierRequest::Scrub { number, site } => {
                    self.applier.send(&ipc::Request::Scrub { number: *number, site: site.clone() }, None)
                }
                ApplierRequest::Key { document } => {
                    self.applier.send(&ipc::Request::Key { document: document.clone() }, None)
                }
                ApplierRequest::Doubt { site, version } => {
                    let request = ipc::Request::Doubt { site: site.clone(), version: *version };
                    self.applier.send(&request, None)
                }
            };
            match sent {
                Ok(()) => {
                    self.applier_queue.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Err(self.applier_ended());
                }
                Err(error) => return Err(Fatal::system("the applier cannot be reached")(error)),
            }
        }
        Ok(())
    }

    /// Signs a report of our own and lets the engine deliver it.
    pub(super) fn report(&mut self, now: Instant, subject: Subject, outcome: Outcome) {
        self.tell_outcome(subject, &outcome);
        let report = StatusReport { node: self.engine.node(), subject, outcome };
        let signed = report.sign(self.channels.sealer().signer());
        self.engine.handle_report(now, subject, signed);
    }

    fn tell_outcome(&mut self, subject: Subject, outcome: &Outcome) {
        let news = match (subject, outcome) {
            (Subject::Assignment { assignment, .. }, Outcome::Staged) => News::staged(assignment),
            (_, Outcome::Failed { reason, text }) => {
                // A leader announces again and again, and a disk that is full stays so: one line will do.
                if self.last_failure.replace((subject, *reason)) == Some((subject, *reason)) {
                    return;
                }
                match subject {
                    Subject::Assignment { assignment, .. } => News::not_staged(assignment, *reason, text),
                    Subject::Order { order, .. } => News::not_carried_out(order, *reason, text),
                }
            }
            _ => return,
        };
        self.tell(&news);
    }

    /// Says what has happened, in the log and to those who watch.
    pub(super) fn tell(&mut self, news: &News) {
        log::log!(news.level, "{}", news.text);
        self.console.announce(news.topic, &news.event);
    }

    fn on_notice(&mut self, notice: &Notice) {
        let title = self.engine.charter().map_or("", |charter| charter.title.as_str());
        let news = News::of(notice, &self.config.segment, title);
        self.tell(&news);
        if let Notice::Twin { aside: true, .. } = notice
            && let Err(error) = identity::overtake_copy(&self.config.state_dir, self.boot)
        {
            log::warn!("{error}: after a restart this node may have to keep silent again");
        }
        let state = self.engine.election().state().name();
        self.tell_systemd(|notifier| notifier.status(&format!("{state} in segment {}", self.config.segment)));
    }
}

fn reason_of(error: &StoreError) -> Reason {
    match error {
        StoreError::NoSpace { .. } | StoreError::TooLarge { .. } => Reason::NoSpace,
        StoreError::System(..) => Reason::System,
    }
}
