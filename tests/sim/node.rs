//! A node: the engine under test in a stand-in of `node/shell.rs`. What it is and how it lives; what it does
//! with the engine's decisions is in `act.rs`.

use crate::applier::Applier;
use crate::disk::{Disk, Health};
use crate::options::{Options, Priorities};
use crate::queue::{Document, Event, Input};
use crate::sessions::Sessions;
use crate::world::Context;
use farmcast::proto::engine::{Engine, Setup, Transport};
use farmcast::proto::profile::Profile;
use farmcast::time::{Duration, Instant};
use farmcast::wire::charter::Charter;
use farmcast::wire::control::{Machine, Peer, Profile as Member, SiteState};
use farmcast::wire::groups::GroupList;
use farmcast::wire::id::{Epoch, ListNumber, Name, NodeId, ObjectName};
use farmcast::wire::notify::Notification;
use farmcast::wire::order::Order;
use farmcast::wire::report::{Reason, StatusReport, Subject};
use farmcast::wire::seal::{Certificate, SigningKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

/// Datagrams that a paused node's sockets hold.
const SOCKET_BUFFER: usize = 256;
/// The CCM's wall clock at the start, in nanoseconds since 1970.
pub const WALL_START: u64 = 1_800_000_000_000_000_000;
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
const MEASURE_PERIOD: Duration = Duration::from_secs(2);
/// How long a write to a slow spool holds up the loop at most.
const STALL_MAX: Duration = Duration::from_millis(300);

pub struct Node {
    pub index: usize,
    pub segment: usize,
    pub disk: Disk,
    pub applier: Applier,
    pub candidate: bool,
    pub(crate) key: SigningKey,
    pub(crate) certificate: Certificate,
    pub(crate) staging: Duration,
    priority: u32,
    skew_ns: i64,
    setup_seed: u64,
    drifting: bool,
    boot: u32,
    pub(crate) seq: u64,
    started: Instant,
    /// `None` while the node is down.
    pub(crate) engine: Option<Engine>,
    profile: Profile,
    transport: Transport,
    pub(crate) sessions: Sessions,
    pub(crate) fetches: BTreeMap<ObjectName, u64>,
    pub(crate) wake: Option<Instant>,
    /// `Some` while it is paused: what waits for it.
    paused: Option<VecDeque<Input>>,
    /// The highest epoch that this life of the node was seen in.
    pub epoch: Epoch,
    /// What it sent as leader, for the regressions.
    pub frames_sent: u64,
    /// The charter on its disk.
    pub(crate) charter: Option<Vec<u8>>,
    /// Messages that went to one node each because multicast does not reach it.
    pub copies_sent: u64,
    /// What it has on disk of who else there is.
    peers: Vec<Peer>,
    pub blocks_sent: BTreeSet<(ObjectName, u32)>,
}

pub fn site() -> Name {
    Name::new("www").expect("a good name")
}

pub fn segment_name(segment: usize) -> Name {
    Name::new(&format!("seg{segment}")).expect("a good name")
}

/// Nodes have addresses in 10.0.0.0/8.
pub fn address(index: usize, port: u16) -> SocketAddr {
    let [_, a, b, c] = (index as u32 + 1).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(10, a, b, c).into(), port)
}

/// The node of an address; `None`: the CCM.
pub fn index_of(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(v4) => {
            let [net, a, b, c] = v4.ip().octets();
            (net == 10).then(|| u32::from_be_bytes([0, a, b, c]) as usize - 1)
        }
        SocketAddr::V6(_) => None,
    }
}

/// The preconfigured control channel.
pub const HOME: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 7_401);

pub const DATAGRAM: u16 = 7_001;
pub const HTTP: u16 = 7_002;
pub const TEXT: u16 = 7_003;

impl Node {
    pub fn new(index: usize, options: &Options, context: &mut Context) -> Self {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let key = SigningKey::from_seed(seed);
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
            applier: Applier::default(),
            candidate,
            key,
            certificate,
            staging: options.staging,
            priority,
            skew_ns: skew,
            setup_seed: context.rng.next_u64(),
            drifting: options.priorities == Priorities::Drifting,
            boot: 0,
            seq: 0,
            started: Instant::ZERO,
            engine: None,
            profile: options.profile(),
            transport: options.transport,
            sessions: Sessions::default(),
            fetches: BTreeMap::new(),
            wake: None,
            paused: None,
            epoch: Epoch(0),
            frames_sent: 0,
            charter: None,
            copies_sent: 0,
            peers: Vec::new(),
            blocks_sent: BTreeSet::new(),
        }
    }

    /// Becomes a copy of another machine, identity and life included.
    pub fn copy(&mut self, of: &Self) {
        self.key = SigningKey::from_seed(*of.key.seed());
        (self.certificate, self.boot) = (of.certificate.clone(), of.boot);
    }

    /// What an operator or the CCM has it do, and what that leads to. `None` while it is down or paused.
    pub fn instruct<T>(
        &mut self,
        context: &mut Context,
        tell: impl FnOnce(&mut Engine, Instant) -> T,
    ) -> Option<T> {
        let engine = self.engine.as_mut().filter(|_| self.paused.is_none())?;
        let told = tell(engine, context.now);
        self.act(context);
        Some(told)
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

    /// Somebody sets its wall clock; the monotonic one goes on.
    pub const fn jump(&mut self, by_ns: i64) {
        self.skew_ns += by_ns;
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
            leads: self.candidate,
            machine: Machine::default(),
            mtu: 1_500,
            sites: vec![SiteState { site: site(), version: self.applier.live }],
        }
    }

    pub fn start(&mut self, context: &mut Context) {
        self.boot += 1;
        (self.seq, self.sessions, self.wake) = (0, Sessions::default(), None);
        (self.started, self.epoch) = (context.now, Epoch(0));
        context.joined_control[self.index].clear();
        context.joined_data[self.index].clear();
        self.fetches.clear();
        self.disk.take_stock(context.now);
        let setup = Setup {
            me: self.member(),
            segment: segment_name(self.segment),
            profile: self.profile,
            boot: self.boot,
            home: HOME,
            listed: true,
            charter: self.charter.clone().map(|bytes| (Charter::peek(&bytes).expect("it was kept"), bytes)),
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
        if self.drifting {
            context.push_local(self, context.now + MEASURE_PERIOD, Input::Measure);
        }
        self.act(context);
    }

    /// Both its processes are gone; with `power`, what was not synced as well.
    pub fn crash(&mut self, context: &mut Context, power: bool) {
        if let Some(engine) = &self.engine {
            self.peers = engine.known_peers();
        }
        (self.engine, self.paused) = (None, None);
        self.applier.crash();
        self.disk.forget_unnoted(context.now, self.started);
        if power {
            self.disk.lose_unsynced(context.now, &mut context.rng);
        }
    }

    /// Ends as on SIGTERM: says so first.
    pub fn stop(&mut self, context: &mut Context) {
        if let Some(engine) = &mut self.engine {
            engine.handle_stop(context.now);
            self.act(context);
        }
        self.crash(context, false);
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
            // A slow disk may hold it up again.
            self.on_input(context, input);
        }
        if self.paused.is_none() {
            self.timeout(context);
        }
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
                engine.handle_message(now, wall, from, via, Rc::unwrap_or_clone(opened));
            }
            Input::Frames(batch, arrived) => {
                self.sessions.on_frames(now, engine, &mut self.disk, &batch, arrived);
                self.stall(context);
            }
            Input::Fetched { name, serial, blocks, whole } => {
                if self.fetches.get(&name) != Some(&serial) {
                    return;
                }
                self.fetches.remove(&name);
                self.on_fetched(context, name, &blocks, whole);
            }
            Input::Posted { sent, controller, groups } => {
                engine.handle_controller_clock(now, sent, controller, wall);
                if let Some(document) = groups {
                    self.take_groups(context, document);
                }
            }
            Input::Peers(peers) => engine.handle_peers(now, &peers),
            Input::PostFailed(body) => engine.handle_uplink_failed(now, &body),
            Input::Next(assignment, next) => engine.handle_next(now, assignment, next),
            Input::Handed(assignment) => engine.handle_handed(now, assignment),
            Input::Applier(serial) => self.on_applier(context, serial),
            Input::Measure => {
                context.push_local(self, now + MEASURE_PERIOD, Input::Measure);
                self.priority = 100 + context.rng.below(900) as u32;
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
    pub(crate) fn take_groups(&mut self, context: &mut Context, document: Vec<u8>) {
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
        let mut written = true;
        for &block in blocks {
            if written && !self.disk.is_verified(&name, block) {
                written = self.disk.write(&name, object.shape.block(block).0 as usize, object.block(block));
                if written {
                    self.disk.on_block(context.now, &name, block);
                }
            }
        }
        let Some(engine) = &mut self.engine else { return };
        if !written {
            let fatal = Some((Reason::System, "the spool cannot be written".to_owned()));
            engine.handle_fetch_failed(context.now, name, fatal);
        } else if whole {
            engine.handle_object_complete(context.now, name);
        } else {
            engine.handle_fetch_failed(context.now, name, None);
        }
        self.stall(context);
    }

    /// The spool is written by the loop itself: a slow disk holds everything up.
    fn stall(&mut self, context: &mut Context) {
        if self.disk.health == Health::Slow && context.rng.chance(0.2) {
            self.pause();
            let span = Duration::from_nanos(context.rng.below(STALL_MAX.as_nanos()));
            let fault = crate::faults::Fault::Resume(self.index);
            context.queue.push(context.now + span, Event::Fault(fault));
        }
    }

    /// What it is and holds was measured anew.
    pub(crate) fn measure(&mut self, context: &Context) {
        let member = self.member();
        if let Some(engine) = &mut self.engine {
            engine.set_me(context.now, member);
        }
    }

    pub(crate) fn report(
        &mut self,
        context: &mut Context,
        subject: Subject,
        outcome: farmcast::wire::report::Outcome,
    ) {
        context.trace.say(context.now, || format!("n{} reports {subject:?}: {outcome:?}", self.index));
        let report = StatusReport { node: self.id(), subject, outcome };
        let signed = report.sign(&self.key);
        if let Some(engine) = &mut self.engine {
            engine.handle_report(context.now, subject, signed);
        }
    }

    /// After which a request to somebody who does not answer fails.
    pub const fn patience() -> Duration {
        HTTP_TIMEOUT
    }
}
