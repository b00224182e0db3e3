//! A node: the engine under test in a stand-in of `node/shell.rs`, with an applier that only takes time.

use crate::disk::Disk;
use crate::options::{Options, Priorities};
use crate::queue::{Document, Event, Input};
use crate::sessions::Sessions;
use crate::world::Context;
use farmcast::proto::engine::{Engine, Notice, Output, Setup, Transport};
use farmcast::time::{Duration, Instant};
use farmcast::wire::control::{Peer, Profile as Member, SiteState};
use farmcast::wire::envelope::{Message, Opened, Sender};
use farmcast::wire::groups::GroupList;
use farmcast::wire::id::{ListNumber, Name, NodeId, ObjectName, OrderId, SessionId};
use farmcast::wire::notify::{NextReply, Notification, UplinkBody};
use farmcast::wire::order::Order;
use farmcast::wire::report::{Outcome, Reason, StatusReport, Subject};
use farmcast::wire::seal::{Certificate, SigningKey};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// Datagrams that a paused node's sockets hold.
const SOCKET_BUFFER: usize = 256;
/// The CCM's wall clock at the start, in nanoseconds since 1970.
pub const WALL_START: u64 = 1_800_000_000_000_000_000;
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
pub const MEASURE_PERIOD: Duration = Duration::from_secs(2);

pub struct Node {
    pub index: usize,
    pub segment: usize,
    pub disk: Disk,
    pub candidate: bool,
    key: SigningKey,
    certificate: Certificate,
    priority: u32,
    skew_ns: i64,
    staging: Duration,
    setup_seed: u64,
    drifting: bool,
    boot: u32,
    seq: u64,
    /// `None` while the node is down.
    engine: Option<Engine>,
    profile: farmcast::proto::profile::Profile,
    transport: Transport,
    sessions: Sessions,
    fetches: BTreeMap<ObjectName, u64>,
    last_order: Option<OrderId>,
    /// When the applier has done what it was asked for.
    busy_until: Instant,
    wake: Option<Instant>,
    /// `Some` while it is paused: what waits for it.
    paused: Option<VecDeque<Input>>,
    /// What it sent as leader, for the regressions.
    pub frames_sent: u64,
    /// Messages that went to one node each because multicast does not reach it.
    pub copies_sent: u64,
    /// What it has on disk of who else there is.
    peers: Vec<Peer>,
    pub blocks_sent: std::collections::BTreeSet<(ObjectName, u32)>,
}

pub fn site() -> Name {
    Name::new("www").expect("a good name")
}

pub fn segment_name(segment: usize) -> Name {
    Name::new(["boston", "tokyo"][segment]).expect("a good name")
}

pub fn address(index: usize, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, index as u8 + 1).into(), port)
}

/// The node of an address; `None`: the CCM.
pub fn index_of(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(v4) if v4.ip().octets()[1] == 0 => Some(usize::from(v4.ip().octets()[3]) - 1),
        _ => None,
    }
}

pub const DATAGRAM: u16 = 7_001;
pub const HTTP: u16 = 7_002;
pub const TEXT: u16 = 7_003;

impl Node {
    pub fn new(index: usize, options: &Options, context: &mut Context) -> Self {
        let key = SigningKey::from_seed([index as u8 + 1; 32]);
        let candidate = index >= options.followers;
        let certificate = Certificate::issue(&context.keys.enroller, key.public(), candidate, 1_000);
        let priority = match options.priorities {
            Priorities::Equal => 500,
            Priorities::Spread | Priorities::Drifting => 100 + context.rng.below(900) as u32,
        };
        let skew = context.rng.below(2 * options.skew_ns + 1) as i64 - options.skew_ns as i64;
        Self {
            index,
            segment: index % options.segments,
            disk: Disk::default(),
            candidate,
            key,
            certificate,
            priority,
            skew_ns: skew,
            staging: options.staging,
            setup_seed: context.rng.next_u64(),
            drifting: options.priorities == Priorities::Drifting,
            boot: 0,
            seq: 0,
            engine: None,
            profile: options.profile(),
            transport: options.transport,
            sessions: Sessions::default(),
            fetches: BTreeMap::new(),
            last_order: None,
            busy_until: Instant::ZERO,
            wake: None,
            paused: None,
            frames_sent: 0,
            copies_sent: 0,
            peers: Vec::new(),
            blocks_sent: std::collections::BTreeSet::new(),
        }
    }

    pub fn id(&self) -> NodeId {
        self.certificate.node()
    }

    pub const fn boot(&self) -> u32 {
        self.boot
    }

    pub const fn priority(&self) -> u32 {
        self.priority
    }

    pub const fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub const fn is_alive(&self) -> bool {
        self.engine.is_some()
    }

    /// Objects that it pulls now.
    pub fn pulls(&self) -> usize {
        self.fetches.len()
    }

    pub fn wall(&self, now: Instant) -> u64 {
        (WALL_START + now.as_nanos()).saturating_add_signed(self.skew_ns)
    }

    fn member(&self) -> Member {
        Member {
            certificate: self.certificate.clone(),
            name: Name::new(&format!("web{}", self.index)).expect("a good name"),
            datagram: address(self.index, DATAGRAM),
            http: address(self.index, HTTP),
            text: address(self.index, TEXT),
            priority: self.priority,
            processors: 4,
            free_memory: 1 << 30,
            free_disk: 1 << 40,
            groups: ListNumber(0),
            mtu: 1_500,
            sites: vec![SiteState { site: site(), version: self.disk.live }],
        }
    }

    pub fn start(&mut self, context: &mut Context) {
        self.boot += 1;
        (self.seq, self.sessions, self.wake) = (0, Sessions::default(), None);
        self.fetches.clear();
        let setup = Setup {
            me: self.member(),
            segment: segment_name(self.segment),
            profile: self.profile,
            candidate: self.candidate,
            peers: Vec::new(),
            rate_start: 50_000_000,
            rate_max: 100_000_000,
            socket_bytes: 212_992,
            transport: self.transport,
            seed: self.setup_seed.wrapping_add(self.boot.into()),
        };
        let mut engine = Engine::new(context.now, setup);
        engine.remember_peers(context.now, &self.peers);
        for name in self.disk.complete() {
            engine.handle_object_complete(context.now, name);
        }
        self.engine = Some(engine);
        if let Some(document) = self.disk.groups.clone() {
            self.take_groups(context, document);
        }
        context.push_local(self, context.now + MEASURE_PERIOD, Input::Measure);
        self.act(context);
    }

    pub fn crash(&mut self) {
        if let Some(engine) = &self.engine {
            self.peers = engine.known_peers();
        }
        (self.engine, self.paused, self.busy_until) = (None, None, Instant::ZERO);
        self.disk.crash();
    }

    /// Ends as on SIGTERM: says so first.
    pub fn stop(&mut self, context: &mut Context) {
        if let Some(engine) = &mut self.engine {
            engine.handle_stop();
            self.act(context);
        }
        self.crash();
    }

    pub fn pause(&mut self) {
        if self.is_alive() && self.paused.is_none() {
            self.paused = Some(VecDeque::new());
        }
    }

    /// Goes on: with what waits, or with what is due, whichever the loop was at.
    pub fn resume(&mut self, context: &mut Context) {
        let Some(waiting) = self.paused.take() else { return };
        if context.rng.chance(0.5) {
            self.timeout(context);
        }
        for input in waiting {
            self.handle(context, input);
        }
        self.timeout(context);
    }

    pub fn on_wake(&mut self, context: &mut Context) {
        if self.wake.is_some_and(|at| context.now >= at) {
            self.wake = None;
            if self.paused.is_none() {
                self.timeout(context);
            }
        }
    }

    pub fn on_input(&mut self, context: &mut Context, input: Input) {
        if self.engine.is_none() {
            return;
        }
        match &mut self.paused {
            Some(waiting) if input.is_datagram() && waiting.len() >= SOCKET_BUFFER => {}
            Some(waiting) => waiting.push_back(input),
            None => self.handle(context, input),
        }
    }

    fn timeout(&mut self, context: &mut Context) {
        let (now, wall) = (context.now, self.wall(context.now));
        if let Some(engine) = &mut self.engine {
            if engine.next_deadline().is_some_and(|at| now >= at) {
                engine.handle_timeout(now, wall);
            }
            self.act(context);
        }
    }

    fn handle(&mut self, context: &mut Context, input: Input) {
        let (now, wall) = (context.now, self.wall(context.now));
        let Some(engine) = &mut self.engine else { return };
        match input {
            Input::Message(from, via, opened) => {
                engine.handle_message(now, wall, from, via, (*opened).clone());
            }
            Input::Frames(batch, arrived) => {
                self.sessions.on_frames(now, engine, &mut self.disk, &batch, arrived);
            }
            Input::Fetched { name, serial, blocks, whole } => {
                if self.fetches.get(&name) != Some(&serial) {
                    return;
                }
                self.fetches.remove(&name);
                self.on_fetched(context, name, &blocks, whole);
            }
            Input::Posted { sent, controller, groups } => {
                engine.handle_controller_clock(sent, controller, wall);
                if let Some(document) = groups {
                    self.take_groups(context, document);
                }
            }
            Input::Peers(peers) => engine.handle_peers(now, &peers),
            Input::PostFailed(body) => engine.handle_uplink_failed(now, &body),
            Input::Next(assignment, next) => {
                let reply = next.map(|next| next.map_or(NextReply::Nobody, NextReply::Serve));
                engine.handle_next(now, assignment, reply);
            }
            Input::Handed(assignment) => engine.handle_handed(now, assignment),
            Input::Staged { run, shape, assignment } => {
                let object = context.object(&shape.name);
                let equal = self.disk.equals(&object);
                context.check(equal, || format!("n{} staged {assignment} with other content", self.index));
                self.disk.staged = Some(assignment);
                self.report(context, Subject::Assignment { run, assignment }, Outcome::Staged);
            }
            Input::Switch { run, order, assignment } => self.switch(context, run, order, assignment),
            Input::Measure => {
                context.push_local(self, now + MEASURE_PERIOD, Input::Measure);
                if self.drifting {
                    self.priority = 100 + context.rng.below(900) as u32;
                }
                self.measure(context);
            }
        }
        self.act(context);
    }

    /// A document at the text port. True where it was taken.
    pub fn on_document(&mut self, context: &mut Context, document: &Document) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        if self.paused.is_some() {
            return false;
        }
        let director = context.keys.director.public();
        let taken = match document {
            Document::Notification(bytes) => {
                let notification = Notification::open(bytes, &director).expect("the CCM signed it");
                engine.handle_notification(context.now, notification).is_ok()
            }
            Document::Order(bytes) => {
                let order = Order::open(bytes, &director).expect("the CCM signed it");
                engine.handle_order(context.now, &order, bytes.clone()).is_ok()
            }
        };
        self.act(context);
        taken
    }

    /// A list of groups that its leader or the CCM sent.
    fn take_groups(&mut self, context: &mut Context, document: Vec<u8>) {
        let list = GroupList::open(&document, &context.keys.director.public());
        context.check(list.is_ok(), || format!("n{} has parts of lists that do not fit", self.index));
        if let (Some(engine), Ok(list)) = (&mut self.engine, list)
            && engine.handle_groups(context.now, list, document.clone())
        {
            self.disk.groups = Some(document);
        }
    }

    fn on_fetched(&mut self, context: &mut Context, name: ObjectName, blocks: &[u32], whole: bool) {
        let object = context.object(&name);
        for &block in blocks {
            if !self.disk.is_verified(&name, block) {
                self.disk.write(&name, object.shape.block(block).0 as usize, object.block(block));
                self.disk.on_block(&name, block);
            }
        }
        let Some(engine) = &mut self.engine else { return };
        if whole {
            engine.handle_object_complete(context.now, name);
        } else {
            engine.handle_fetch_failed(context.now, name, None);
        }
    }

    fn switch(
        &mut self,
        context: &mut Context,
        run: farmcast::wire::id::RunId,
        order: OrderId,
        assignment: farmcast::wire::id::AssignmentId,
    ) {
        let subject = Subject::Order { run, order };
        if self.disk.staged != Some(assignment) {
            let text = format!("{assignment} is not staged");
            self.report(context, subject, Outcome::Failed { reason: Reason::NotStaged, text });
            return;
        }
        let ordered = context.orders.get(&order).is_some_and(|(of, _)| *of == assignment);
        context.check(ordered, || format!("n{} switched to {assignment} without an order", self.index));
        (self.disk.staged, self.disk.live) = (None, Some(assignment));
        let at = self.wall(context.now);
        self.measure(context);
        self.report(context, subject, Outcome::Switched { at });
    }

    fn measure(&mut self, context: &Context) {
        let member = self.member();
        if let Some(engine) = &mut self.engine {
            engine.set_me(context.now, member);
        }
    }

    fn report(&mut self, context: &mut Context, subject: Subject, outcome: Outcome) {
        context.trace.say(context.now, || format!("n{} reports {subject:?}: {outcome:?}", self.index));
        let report = StatusReport { node: self.id(), subject, outcome };
        let signed = report.sign(&self.key);
        if let Some(engine) = &mut self.engine {
            engine.handle_report(context.now, subject, signed);
        }
    }

    /// Carries out what the engine decided, and notes when it wants to be woken.
    fn act(&mut self, context: &mut Context) {
        let mut decisions = 0;
        while let Some(output) = self.engine.as_mut().and_then(Engine::poll_output) {
            decisions += 1;
            if decisions > 20_000 {
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
            context.queue.push(at, Event::Wake { node: self.index, boot: self.boot });
        }
    }

    fn carry_out(&mut self, context: &mut Context, output: Output) {
        let now = context.now;
        let Some(engine) = &mut self.engine else { return };
        match output {
            Output::Multicast(channel, message) => {
                let opened = self.seal(message);
                context.multicast(self.index, self.segment, channel, &opened);
            }
            Output::Each(to, message) => {
                let opened = self.seal(message);
                for to in to.into_iter().filter_map(index_of) {
                    self.copies_sent += 1;
                    context.unicast(self.index, to, &opened);
                }
            }
            Output::Unicast(to, message) => {
                let opened = self.seal(message);
                if let Some(to) = index_of(to) {
                    context.unicast(self.index, to, &opened);
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
                self.disk.create(&object);
                self.sessions.open(leader, &announce);
                let (disk, name) = (&self.disk, announce.shape.name);
                engine.start_reception(now, &announce, |block| disk.is_verified(&name, block));
            }
            Output::Ready { session, block, missing } => {
                self.sessions.on_ready(now, engine, &mut self.disk, session, block, missing);
            }
            Output::SessionOver(session) => self.sessions.close(session),
            Output::Fetch { shape, source } => {
                let object = context.object(&shape.name);
                self.disk.create(&object);
                if self.disk.is_complete(&shape.name) {
                    engine.handle_object_complete(now, shape.name);
                    return;
                }
                let serial = context.serial();
                self.fetches.insert(shape.name, serial);
                let at = now + context.delay();
                let source = index_of(source);
                context
                    .queue
                    .push(at, Event::Pull { node: self.index, boot: self.boot, serial, shape, source });
            }
            Output::Ask(request) => self.post(context, UplinkBody::Next(request)),
            Output::Uplink(body) => self.post(context, body),
            Output::Hand(assignment, next) => {
                let to = index_of(next.text).expect("the CCM names nodes");
                let document = Document::Notification(next.notification);
                let at = now + context.delay();
                context
                    .queue
                    .push(at, Event::Document { node: to, document, from: Some((self.index, assignment)) });
            }
            Output::Stage { run, assignment, shape } => {
                // One after the other, as the applier does it.
                let takes = self.staging + Duration::from_nanos(context.rng.below(self.staging.as_nanos()));
                self.busy_until = self.busy_until.max(now) + takes;
                context.push_local(self, self.busy_until, Input::Staged { run, shape, assignment });
            }
            Output::CarryOut { subject, document } => self.obey(context, subject, &document),
            Output::Report { subject, outcome } => self.report(context, subject, outcome),
            Output::CheckGroups(document) => self.take_groups(context, document),
            Output::Join(channels) => context.joined[self.index] = channels,
            Output::Notice(notice) => self.on_notice(context, &notice),
        }
    }

    fn obey(&mut self, context: &mut Context, subject: Subject, document: &[u8]) {
        let Some(engine) = &self.engine else { return };
        let order = Order::open(document, &context.keys.director.public()).expect("the CCM signed it");
        let assignment = order.action.assignment();
        let issued = context.orders.get(&order.order).is_some_and(|(_, at)| *at <= context.now);
        context.check(issued, || format!("n{} carries out an order that nobody gave", self.index));
        if self.last_order.is_some_and(|last| order.order < last) {
            let text = "a newer order was carried out".to_owned();
            return self.report(context, subject, Outcome::Failed { reason: Reason::OldOrder, text });
        }
        self.last_order = Some(order.order);
        if self.disk.live == Some(assignment) {
            let at = self.wall(context.now);
            return self.report(context, subject, Outcome::Switched { at });
        }
        let ours = self.wall(context.now).saturating_add_signed(engine.clock_offset());
        let wait = Duration::from_nanos(order.at.unwrap_or(0).saturating_sub(ours));
        let input = Input::Switch { run: order.run, order: order.order, assignment };
        context.push_local(self, context.now + wait, input);
    }

    fn send_frames(
        &mut self,
        context: &mut Context,
        session: SessionId,
        run: farmcast::proto::sender::FrameRun,
    ) {
        let Some(batch) = self.sessions.frames(&self.disk, session, run) else { return };
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
        context.queue.push(at, Event::Post { node: self.index, boot: self.boot, sent, body });
    }

    /// After which a request to somebody who does not answer fails.
    pub const fn patience() -> Duration {
        HTTP_TIMEOUT
    }

    /// A message of this node as it goes out.
    pub fn seal(&mut self, message: Message) -> Rc<Opened> {
        self.seq += 1;
        let epoch = self.engine.as_ref().expect("it decided to send").election().epoch();
        let sender = Sender { node: self.certificate.node(), boot: self.boot, seq: self.seq, epoch };
        let signed = matches!(
            message,
            Message::LeaderAlive(_)
                | Message::LeaderClaim(_)
                | Message::Register(_)
                | Message::Registered(_)
                | Message::Announce(_)
        );
        Rc::new(Opened { sender, certificate: signed.then(|| self.certificate.clone()), message })
    }

    fn on_notice(&self, context: &mut Context, notice: &Notice) {
        context.trace.say(context.now, || format!("n{} {notice:?}", self.index));
    }
}
