//! What a node's engine decided, carried out: the stand-in of `node/shell/act.rs`.

use crate::applier::Request;
use crate::disk::Health;
use crate::node::{Node, index_of, site};
use crate::queue::{Bearer, Document, Event};
use crate::world::Context;
use farmcast::proto::engine::{Destination, Engine, Output};
use farmcast::proto::sender::FrameRun;
use farmcast::wire::envelope::{Message, Opened, Sender};
use farmcast::wire::id::SessionId;
use farmcast::wire::notify::UplinkBody;
use farmcast::wire::order::Order;
use farmcast::wire::report::Reason;
use std::rc::Rc;

/// Decisions after one input before a node counts as deciding without an end.
const DECISIONS_MAX: u32 = 20_000;

impl Node {
    /// Carries out what the engine decided, and notes when it wants to be woken.
    pub(crate) fn act(&mut self, context: &mut Context) {
        let mut decisions = 0;
        while let Some(output) = self.engine.as_mut().and_then(Engine::poll_output) {
            decisions += 1;
            if decisions > DECISIONS_MAX {
                context.check(false, || format!("n{} decides without an end: {output:?}", self.index));
                return;
            }
            self.carry_out(context, output);
        }
        let deadline = self.engine.as_ref().and_then(Engine::next_deadline);
        if let Some(at) = deadline.map(|at| at.max(context.now))
            && self.wake.is_none_or(|wake| at < wake)
        {
            self.wake = Some(at);
            context.queue.push(at, Event::Wake { node: self.index, boot: self.boot() });
        }
    }

    fn carry_out(&mut self, context: &mut Context, output: Output) {
        let now = context.now;
        let (wall, refusal) = (self.wall(now), self.refusal());
        let Some(engine) = &mut self.engine else { return };
        match output {
            Output::Multicast(to, message) => {
                let over = match to {
                    Destination::Control => Destination::OtherControl(engine.control_channel().present()),
                    other => other,
                };
                let opened = self.seal(message);
                context.multicast(self.index, self.segment, over, opened);
            }
            Output::Each(to, message) => {
                let opened = self.seal(message);
                for to in to.into_iter().filter_map(index_of) {
                    self.copies_sent += 1;
                    context.unicast(self.index, to, Rc::clone(&opened));
                }
            }
            Output::Unicast(to, message) => {
                let opened = self.seal(message);
                if let Some(to) = index_of(to) {
                    context.unicast(self.index, to, opened);
                }
            }
            Output::Frames(session, run) => {
                if !self.sessions.is_open(session)
                    && let Some((_, sender)) = engine.senders().find(|(id, _)| *id == session)
                {
                    self.sessions.open(self.certificate.node(), sender.head());
                }
                self.send_frames(context, session, run);
            }
            Output::Receive { announce, leader } => {
                let object = context.object(&announce.shape.name);
                if self.disk.create(&object) {
                    self.sessions.open(leader, &announce);
                    let (disk, name) = (&self.disk, announce.shape.name);
                    engine.start_reception(now, &announce, |block| disk.is_verified(&name, block));
                } else {
                    engine.handle_no_room(&announce, refusal, "no room in the spool".to_owned());
                }
            }
            Output::Ready { session, block, missing } => {
                self.sessions.on_ready(now, engine, &mut self.disk, session, block, missing);
            }
            Output::SessionOver(session) => self.sessions.close(session),
            Output::Fetch { shape, sources } => {
                let object = context.object(&shape.name);
                if !self.disk.create(&object) {
                    let fatal = Some((refusal, "no room in the spool".to_owned()));
                    engine.handle_fetch_failed(now, shape.name, fatal);
                    return;
                }
                if self.disk.is_complete(&shape.name) {
                    engine.handle_object_complete(now, shape.name);
                    return;
                }
                let serial = context.serial();
                self.fetches.insert(shape.name, serial);
                let (at, source) = (now + context.delay(), sources.first().copied().and_then(index_of));
                let pull = Event::Pull { node: self.index, boot: self.boot(), serial, shape, source };
                context.queue.push(at, pull);
            }
            Output::Ask(request) => self.post(context, UplinkBody::Next(request)),
            Output::Uplink(body) => self.post(context, body),
            Output::Hand(assignment, next) => {
                let to = index_of(next.text).expect("the CCM names nodes");
                let document = Document::Notification(next.notification);
                let from = Bearer::Leader(self.index, assignment);
                let at = now + context.delay();
                context.queue.push(at, Event::Document { node: to, document, from });
            }
            Output::Stage { run, assignment, shape } => {
                let offset_ns = engine.clock_offset(now, wall);
                self.ask_applier(context, Request::Stage { run, assignment, shape, offset_ns });
            }
            Output::CarryOut { document, .. } => {
                let order = Order::open(&document, &context.keys.director.public());
                let order = order.expect("the CCM signed it");
                let offset_ns = engine.clock_offset(now, wall);
                self.ask_applier(context, Request::Order { order, offset_ns });
            }
            Output::Report { subject, outcome } => self.report(context, subject, outcome),
            Output::CheckGroups(document) => self.take_groups(context, document),
            Output::JoinData(channels) => context.joined_data[self.index] = channels,
            Output::JoinControl(channels) => context.joined_control[self.index] = channels,
            Output::KeepCharter(charter) => self.charter = Some(charter),
            Output::Notice(notice) => {
                context.trace.say(now, || format!("n{} {notice:?}", self.index));
            }
        }
    }

    /// Why the spool has no room.
    fn refusal(&self) -> Reason {
        if self.disk.health == Health::Full { Reason::NoSpace } else { Reason::System }
    }

    fn send_frames(&mut self, context: &mut Context, session: SessionId, run: FrameRun) {
        let Some(mut batch) = self.sessions.frames(&self.disk, session, run) else { return };
        if context.rng.chance(context.network.weather.spoil) {
            batch.spoil(&mut context.rng);
        }
        self.frames_sent += u64::from(run.count);
        if let Some(engine) = &self.engine
            && let Some((_, sender)) = engine.senders().find(|(id, _)| *id == session)
        {
            self.blocks_sent.insert((sender.head().shape.name, run.block));
        }
        if let Some(channel) = self.engine.as_ref().and_then(|engine| engine.channel_of(&site())) {
            context.multicast_frames(self.index, self.segment, channel, &Rc::new(batch));
        }
    }

    fn post(&mut self, context: &mut Context, body: UplinkBody) {
        let sent = self.wall(context.now);
        let at = context.now + context.delay();
        let body = Box::new(body);
        context.queue.push(at, Event::Post { node: self.index, boot: self.boot(), sent, body });
    }

    /// A message of this node as it goes out.
    pub fn seal(&mut self, message: Message) -> Rc<Opened> {
        self.seq += 1;
        let epoch = self.engine.as_ref().expect("it decided to send").election().epoch();
        let sender = Sender { node: self.certificate.node(), boot: self.boot(), seq: self.seq, epoch };
        let signed = matches!(
            message,
            Message::LeaderAlive(_)
                | Message::LeaderClaim(_)
                | Message::Register(_)
                | Message::Registered(_)
                | Message::Announce(_)
                | Message::Solicit(_)
                | Message::Leave
                | Message::Twin(_)
        );
        Rc::new(Opened { sender, certificate: signed.then(|| self.certificate.clone()), message })
    }
}
