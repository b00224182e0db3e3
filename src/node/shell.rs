//! The loop of the net process: events in, the engine's decisions out. It decides nothing itself.

use super::channels::{Channels, Port};
use super::config::Config;
use super::console::{self, Console, SessionKey};
use super::identity::{self, Identity};
use super::links::Links;
use super::measure::{self, Addresses, Resources};
use super::sessions::Sessions;
use super::store::{Store, StoreError};
use super::transfers::{ClockSample, Done, Transfers};
use super::verbs::Call;
use super::view::View;
use crate::applier;
use crate::applier::ipc;
use crate::io::clock;
use crate::io::http::Server;
use crate::io::notify::{Notifier, watchdog_interval};
use crate::io::reactor::{Reactor, Ready};
use crate::io::signal::{self, Signals};
use crate::proto::engine::{Engine, Notice, Output, Setup};
use crate::time::{Duration, Instant};
use crate::wire::console::{Code, Reply};
use crate::wire::control::SiteState;
use crate::wire::envelope::{Message, Opened, Sealer};
use crate::wire::id::{NodeId, ObjectName};
use crate::wire::join::Farm;
use crate::wire::notify::{Notification, Uplink, UplinkBody};
use crate::wire::order::Order;
use crate::wire::report::{Outcome, Reason, StatusReport, Subject};
use crate::wire::seal::random;
use crate::wire::session::{Announce, payload_for_mtu};
use mio::Token;
use mio::net::{TcpListener, UnixListener};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ExitCode};

const TOKEN_PORTS: usize = 0;
const TOKEN_APPLIER: usize = 3;
const TOKEN_SIGNALS: usize = 4;
const TOKEN_LINKS: usize = 5;
const TOKEN_CONSOLE: usize = 16;
const TOKEN_TRANSFERS: usize = 64;
const TOKEN_HTTP: usize = 256;
/// Clients of the object server at once: leaders that pull from us, members that finish by unicast.
const HTTP_PLACES: usize = 256;
/// How often the node measures itself.
const MEASURE_PERIOD: Duration = Duration::from_secs(2);
/// How often the spool writes down what it has verified (F7).
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// Before frames that did not fit the socket's buffer are tried again.
const DEFER: Duration = Duration::from_micros(500);

/// Why the daemon ends, and the exit code that says so to systemd.
#[derive(Debug)]
pub struct Fatal {
    pub code: u8,
    pub text: String,
}

impl Fatal {
    pub const RUNTIME: u8 = 1;
    /// A port or address is taken, or nobody answers there.
    pub const UNAVAILABLE: u8 = 69;
    pub const SYSTEM: u8 = 71;
    pub const CANNOT_CREATE: u8 = 73;
    pub const CONFIG: u8 = 78;

    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    fn system(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::new(Self::SYSTEM, format!("{what}: {error}"))
    }
}

pub struct Shell {
    config: Config,
    farm: Farm,
    reactor: Reactor,
    channels: Channels,
    engine: Engine,
    sessions: Sessions,
    store: Store,
    transfers: Transfers,
    http: Server,
    console: Console,
    applier: ipc::Channel,
    applier_process: Child,
    /// Requests that the applier's socket did not take yet.
    applier_queue: VecDeque<ApplierRequest>,
    signals: Signals,
    links: Links,
    notifier: Option<Notifier>,
    watchdog: Option<(Duration, Instant)>,
    addresses: Addresses,
    sites: Vec<SiteState>,
    uplink_seq: u64,
    boot: u32,
    inbox: Vec<(SocketAddr, Opened)>,
    started: Instant,
    measure_at: Instant,
    save_at: Instant,
    turn_max: Duration,
    stopping: bool,
}

#[derive(Debug)]
enum ApplierRequest {
    Stage { run: crate::wire::id::RunId, assignment: crate::wire::id::AssignmentId, name: ObjectName },
    Order { document: Vec<u8> },
}

impl Shell {
    /// Starts everything that a node consists of.
    pub fn open(config: Config) -> Result<Self, Fatal> {
        let identity =
            Identity::load(&config.state_dir).map_err(|e| Fatal::new(Fatal::CONFIG, e.to_string()))?;
        let boot = identity::next_boot(&config.state_dir)
            .map_err(|e| Fatal::new(Fatal::CANNOT_CREATE, e.to_string()))?;
        let Identity { key, certificate, farm } = identity;

        // The applier first: it must not inherit a socket.
        let notifier = Notifier::from_env().map_err(Fatal::system("NOTIFY_SOCKET"))?;
        let watchdog = watchdog_interval();
        let sites = config.sites.clone();
        let (publisher, director) = (farm.publisher, farm.director);
        let (applier, applier_process) = applier::spawn(&applier::Config { sites, publisher, director })
            .map_err(Fatal::system("the applier cannot be started"))?;

        let sealer = Sealer::new(
            &config.segment,
            farm.segment_key(&config.segment),
            key,
            certificate.clone(),
            farm.enroller,
        );
        let channels =
            Channels::open(&config, sealer, boot).map_err(|e| Fatal::new(Fatal::UNAVAILABLE, e))?;
        let store = Store::open(&config.state_dir.join("spool"), farm.publisher, config.store_max)
            .map_err(|error| Fatal::new(Fatal::CANNOT_CREATE, error.to_string()))?;

        let reactor = Reactor::new().map_err(Fatal::system("epoll"))?;
        let signals = Signals::new().map_err(Fatal::system("signals"))?;
        let links = Links::open(&config.interface_name);
        let listen = |port: u16, key: &str| {
            let address = SocketAddr::new(config.interface.into(), port);
            let listener = TcpListener::bind(address).map_err(|error| {
                let advice = format!("set network.{key} to a free port, or to 0");
                Fatal::new(Fatal::UNAVAILABLE, format!("cannot listen on TCP {address}: {error}; {advice}"))
            })?;
            let address = listener.local_addr().map_err(Fatal::system("TCP listener"))?;
            Ok::<_, Fatal>((listener, address))
        };
        let (http_listener, http_addr) = listen(config.http_port, "http_port")?;
        let (text_listener, text_addr) = listen(config.text_port, "text_port")?;
        let unix_listener = listen_unix(&config)?;
        let http = Server::new(http_listener, reactor.registry(), Token(TOKEN_HTTP), HTTP_PLACES)
            .map_err(Fatal::system("HTTP server"))?;
        let introduction = console::Identity {
            server: format!("farmcastd/{}", env!("CARGO_PKG_VERSION")),
            node: config.name.to_string(),
            segment: config.segment.to_string(),
        };
        let console = Console::new(
            introduction,
            vec![unix_listener],
            vec![text_listener],
            reactor.registry(),
            Token(TOKEN_CONSOLE),
        )
        .map_err(Fatal::system("text port"))?;

        for (at, port) in Port::ALL.into_iter().enumerate() {
            reactor.watch_fd(channels.fd(port), Token(TOKEN_PORTS + at)).map_err(Fatal::system("epoll"))?;
        }
        reactor
            .watch_fd(applier.as_fd().as_raw_fd(), Token(TOKEN_APPLIER))
            .map_err(Fatal::system("epoll"))?;
        reactor.watch_fd(signals.as_raw_fd(), Token(TOKEN_SIGNALS)).map_err(Fatal::system("epoll"))?;
        if let Some(fd) = links.fd() {
            reactor.watch_fd(fd, Token(TOKEN_LINKS)).map_err(Fatal::system("epoll"))?;
        }

        let now = clock::monotonic();
        let datagram = channels.datagram_addr().map_err(Fatal::system("datagram socket"))?;
        let addresses = Addresses { datagram, http: http_addr, text: text_addr };
        let resources = Resources::measure(&config.state_dir);
        // Until the applier has told what is live, the node serves its sites at no version.
        let site = |(name, _): &(crate::wire::id::Name, std::path::PathBuf)| SiteState {
            site: name.clone(),
            version: None,
        };
        let sites: Vec<SiteState> = config.sites.iter().map(site).collect();
        let me = measure::profile(&config, &certificate, addresses, resources, sites.clone());
        let setup = Setup {
            me,
            segment: config.segment.clone(),
            profile: config.profile,
            candidate: config.can_lead && certificate.can_lead,
            rate_start: config.rate_start,
            rate_max: config.rate_max,
            payload: payload_for_mtu(links.mtu()) as u16,
            seed: u64::from_be_bytes(random()),
        };
        let engine = Engine::new(now, setup);
        Ok(Self {
            farm,
            reactor,
            channels,
            engine,
            sessions: Sessions::default(),
            store,
            transfers: Transfers::new(Token(TOKEN_TRANSFERS), config.ccm),
            http,
            console,
            applier,
            applier_process,
            applier_queue: VecDeque::new(),
            signals,
            links,
            notifier,
            watchdog: watchdog.map(|interval| (interval / 2, now)),
            addresses,
            sites,
            uplink_seq: 0,
            boot,
            inbox: Vec::new(),
            started: now,
            measure_at: now + MEASURE_PERIOD,
            save_at: now + SAVE_PERIOD,
            turn_max: Duration::ZERO,
            stopping: false,
            config,
        })
    }

    /// Runs until a signal or `shutdown` ends it.
    pub fn run(mut self) -> ExitCode {
        let now = clock::monotonic();
        let complete: Vec<ObjectName> = self
            .store
            .objects()
            .map(|(shape, _)| shape.name)
            .filter(|name| self.store.is_complete(name))
            .collect();
        for name in complete {
            self.engine.handle_object_complete(now, name);
        }
        log::info!(
            "node {} ({}) in segment {} on {}: datagrams {}, objects http://{}, text port {}, socket {}",
            self.config.name,
            self.engine.node(),
            self.config.segment,
            self.config.interface_name,
            self.addresses.datagram,
            self.addresses.http,
            self.addresses.text,
            self.config.socket.display(),
        );
        self.tell_systemd(|notifier| notifier.ready());
        let code = loop {
            match self.turn() {
                Ok(false) => {}
                Ok(true) => break ExitCode::SUCCESS,
                Err(fatal) => {
                    log::error!("{}", fatal.text);
                    break ExitCode::from(fatal.code);
                }
            }
        };
        self.close();
        code
    }

    /// One turn of the loop: what is due, what it leads to, waiting, what has happened.
    fn turn(&mut self) -> Result<bool, Fatal> {
        let now = clock::monotonic();
        self.on_timers(now);
        self.act(now)?;
        if self.stopping {
            return Ok(true);
        }
        self.turn_max = self.turn_max.max(clock::monotonic().since(now));

        let now = clock::monotonic();
        let deadline = self.deadline(now);
        let events = self.reactor.wait(now, deadline).map_err(Fatal::system("epoll"))?;
        let now = clock::monotonic();
        for event in events {
            self.on_event(now, event)?;
            self.act(now)?;
        }
        self.turn_max = self.turn_max.max(clock::monotonic().since(now));
        Ok(false)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let queued = !self.applier_queue.is_empty();
        [
            self.engine.next_deadline(),
            self.http.deadline(),
            self.console.deadline(),
            self.transfers.deadline(),
            Some(self.measure_at),
            Some(self.save_at),
            self.watchdog.map(|(_, at)| at),
            (self.sessions.has_deferred() || queued).then(|| now + DEFER),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_timers(&mut self, now: Instant) {
        if self.sessions.has_deferred() {
            self.sessions.send_deferred(&mut self.channels, &self.store);
        }
        if self.engine.next_deadline().is_some_and(|at| now >= at) {
            self.engine.handle_timeout(now, clock::wall_ns());
        }
        if now >= self.measure_at {
            self.measure_at = now + MEASURE_PERIOD;
            self.measure(now);
        }
        if now >= self.save_at {
            self.save_at = now + SAVE_PERIOD;
            self.store.save();
        }
        if let Some((interval, at)) = &mut self.watchdog
            && now >= *at
        {
            *at = now + *interval;
            self.tell_systemd(|notifier| notifier.watchdog());
        }
        if self.http.deadline().is_some_and(|at| now >= at) {
            self.http.expire(now);
        }
        if self.console.deadline().is_some_and(|at| now >= at) {
            self.console.expire(now);
        }
        if self.transfers.deadline().is_some_and(|at| now >= at) {
            for (done, sample) in self.transfers.expire(self.reactor.registry(), &mut self.store, now) {
                self.on_transfer(now, done, sample);
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: Ready) -> Result<(), Fatal> {
        let token = event.token.0;
        if token < TOKEN_PORTS + Port::ALL.len() {
            return self.on_datagrams(now, Port::ALL[token - TOKEN_PORTS]);
        }
        match token {
            TOKEN_APPLIER => self.on_applier(now),
            TOKEN_SIGNALS => self.on_signals(now),
            TOKEN_LINKS => {
                self.links.handle_event();
                Ok(())
            }
            _ if self.console.tokens().contains(&token) => {
                let call = self.console.handle_event(self.reactor.registry(), event.token, now);
                match call.map_err(Fatal::system("text port"))? {
                    Some((key, call)) => self.on_call(now, key, call),
                    None => Ok(()),
                }
            }
            _ if self.transfers.tokens().contains(&token) => {
                let registry = self.reactor.registry();
                let done = self.transfers.handle_event(registry, &mut self.store, event.token, now);
                if let Some((done, sample)) = done {
                    self.on_transfer(now, done, sample);
                }
                Ok(())
            }
            _ if self.http.tokens().contains(&token) => self.on_http(now, event.token),
            _ => Ok(()),
        }
    }

    fn on_datagrams(&mut self, now: Instant, port: Port) -> Result<(), Fatal> {
        loop {
            let Self { channels, engine, sessions, store, inbox, .. } = self;
            let mut take = |datagram: &[u8]| sessions.on_frame(now, engine, store, datagram);
            let more = match channels.receive(port, inbox, &mut take) {
                Ok(more) => more,
                Err(error) => {
                    // An interface that went away takes its sockets' traffic with it, not the daemon.
                    log::warn!("{port:?} socket: {error}");
                    false
                }
            };
            sessions.report_broken(now, engine);
            engine.handle_frames_end(now);
            let wall = clock::wall_ns();
            for (from, opened) in std::mem::take(inbox) {
                if let Message::Order(document) = &opened.message
                    && Order::open(document, &self.farm.director).is_err()
                {
                    self.channels.counters.refused += 1;
                    continue;
                }
                self.engine.handle_message(now, wall, from, opened);
            }
            self.act(now)?;
            // The socket reports its next datagram only if this one was the last that waited.
            if !more {
                return Ok(());
            }
        }
    }

    fn on_http(&mut self, now: Instant, token: Token) -> Result<(), Fatal> {
        let registry = self.reactor.registry();
        let wanted = self.http.handle_event(registry, token, now).map_err(Fatal::system("HTTP server"))?;
        let Some(wanted) = wanted else { return Ok(()) };
        let name: Option<ObjectName> = wanted.path.strip_prefix("/o/").and_then(|name| name.parse().ok());
        let answered = match name.and_then(|name| self.store.open_complete(&name)) {
            Some((file, len)) => self.http.respond_file(registry, wanted.key, file, len, now),
            None if name.is_some() => self.http.respond_status(
                registry,
                wanted.key,
                404,
                "this node does not hold that object",
                now,
            ),
            None => self.http.respond_status(registry, wanted.key, 404, "only /o/NAME is served here", now),
        };
        answered.map_err(Fatal::system("HTTP server"))
    }

    fn on_applier(&mut self, now: Instant) -> Result<(), Fatal> {
        loop {
            match self.applier.recv() {
                Ok(Some(ipc::Reply::Sites(sites))) => {
                    self.sites = sites;
                    self.measure(now);
                }
                Ok(Some(ipc::Reply::Staged { run, assignment, outcome })) => {
                    self.report(now, Subject::Assignment { run, assignment }, outcome);
                }
                Ok(Some(ipc::Reply::Ordered { run, order, site, outcome })) => {
                    log::info!("site {site}: order {order}: {}", describe(&outcome));
                    self.report(now, Subject::Order { run, order }, outcome);
                }
                Ok(Some(ipc::Reply::Log { level, text })) => log::log!(level, "applier: {text}"),
                Ok(None) => return Err(self.applier_ended()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Fatal::system("the applier's socket")(error)),
            }
        }
    }

    /// Nothing can be staged or switched without it. A restart takes up what was under way.
    fn applier_ended(&mut self) -> Fatal {
        let how = self.applier_process.wait().map_or_else(|error| error.to_string(), |how| how.to_string());
        let text =
            format!("the applier has ended unasked ({how}), and the node ends with it: restart the node");
        Fatal::new(Fatal::RUNTIME, text)
    }

    fn on_signals(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some(request) = self.signals.next().map_err(Fatal::system("signals"))? {
            match request {
                signal::Request::Stop => self.stop(now),
                // The applier's socket tells of its end, after all that it had to say.
                signal::Request::ChildEnded => {}
            }
        }
        Ok(())
    }

    fn on_call(&mut self, now: Instant, key: SessionKey, call: Call) -> Result<(), Fatal> {
        let reply = match call {
            Call::Show(subject) => self.view(now).show(subject),
            Call::Notify(document) => self.take_notification(now, &document),
            Call::Order(document) => self.take_order(now, document),
            Call::Shutdown => {
                log::info!("shutdown asked for at the text port");
                self.stop(now);
                Reply::new(Code::Accepted)
            }
        };
        self.console.reply(self.reactor.registry(), key, &reply).map_err(Fatal::system("text port"))
    }

    fn view(&self, now: Instant) -> View<'_> {
        View {
            config: &self.config,
            now,
            started: self.started,
            engine: &self.engine,
            channels: &self.channels,
            sessions: &self.sessions,
            store: &self.store,
            transfers: &self.transfers,
            http: &self.http,
            console: &self.console,
            sites: &self.sites,
            turn_max_us: self.turn_max.as_micros(),
        }
    }

    fn take_notification(&mut self, now: Instant, document: &[u8]) -> Reply {
        let notification = match Notification::open(document, &self.farm.director) {
            Ok(notification) => notification,
            Err(error) => {
                return Reply::refused(Code::Denied, format!("the notification is refused: {error}"));
            }
        };
        if self.is_expired(notification.expires) {
            return Reply::refused(Code::Denied, "the notification has expired");
        }
        let (assignment, shape) = (notification.assignment, notification.shape);
        log::info!(
            "assignment {assignment} for site {}: to be had from {}",
            notification.site,
            notification.source
        );
        match self.engine.handle_notification(now, notification) {
            Ok(()) => {
                Reply::new(Code::Accepted).with("assignment", assignment.0).with("bytes", shape.file_len())
            }
            Err(refusal) => Reply::refused(Code::NotReady, refusal.to_string()),
        }
    }

    fn take_order(&mut self, now: Instant, document: Vec<u8>) -> Reply {
        let order = match Order::open(&document, &self.farm.director) {
            Ok(order) => order,
            Err(error) => return Reply::refused(Code::Denied, format!("the order is refused: {error}")),
        };
        if self.is_expired(order.expires) {
            return Reply::refused(Code::Denied, "the order has expired");
        }
        match self.engine.handle_order(now, &order, document) {
            Ok(()) => Reply::new(Code::Accepted).with("order", order.order.0),
            Err(refusal) => Reply::refused(Code::NotReady, refusal.to_string()),
        }
    }

    /// Whether a time of the CCM's clock, in seconds since 1970, has passed.
    fn is_expired(&self, expires: u64) -> bool {
        let controller = clock::wall_ns().saturating_add_signed(self.engine.clock_offset());
        controller / 1_000_000_000 > expires
    }

    fn on_transfer(&mut self, now: Instant, done: Done, sample: Option<ClockSample>) {
        if let Some(ClockSample { sent, controller, received }) = sample {
            self.engine.handle_controller_clock(sent, controller, received);
        }
        match done {
            Done::Fetched(name) => self.engine.handle_object_complete(now, name),
            Done::FetchFailed(name, error) => {
                log::warn!("assignment {name:?}: {error}");
                let fatal = error.fatal.map(|reason| (reason, error.text));
                self.engine.handle_fetch_failed(now, name, fatal);
            }
            Done::Next(assignment, reply) => {
                let next = reply.map(|reply| reply.next).map_err(|text| {
                    log::warn!("the CCM does not tell whom to serve next: {text}");
                });
                self.engine.handle_next(now, assignment, next);
            }
            Done::Posted(_, Ok(())) => {}
            Done::Posted(body, Err(text)) => {
                log::warn!("a report did not reach the CCM: {text}");
                self.engine.handle_uplink_failed(now, &body);
            }
            Done::Handed(assignment, result) => {
                if let Err(text) = result {
                    log::warn!(
                        "assignment {assignment}: the next leader did not take the notification: {text}"
                    );
                }
                self.engine.handle_handed(now, assignment);
            }
        }
        self.post_next(now);
    }

    /// Carries out what the engine decided, until it has nothing more to say.
    fn act(&mut self, now: Instant) -> Result<(), Fatal> {
        self.send_to_applier(now)?;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Multicast(channel, message) => {
                    let epoch = self.engine.election().epoch();
                    if let Err(error) = self.channels.multicast(channel, epoch, &message) {
                        log::warn!("{channel:?} channel: {error}");
                    }
                }
                Output::Unicast(to, message) => {
                    let epoch = self.engine.election().epoch();
                    if let Err(error) = self.channels.send(to, epoch, &message) {
                        log::warn!("datagram to {to}: {error}");
                    }
                }
                Output::Frames(session, run) => {
                    self.open_own_session(session);
                    self.sessions.send(&mut self.channels, &self.store, session, run);
                }
                Output::Receive { announce, leader } => self.receive(now, &announce, leader),
                Output::Ready { session, block, missing } => {
                    let (engine, store) = (&mut self.engine, &mut self.store);
                    self.sessions.on_ready(now, engine, store, session, block, missing);
                    self.engine.handle_frames_end(now);
                }
                Output::SessionOver(session) => self.sessions.close(session),
                Output::Fetch { shape, source } => {
                    let done = match self.store.create(&shape) {
                        Ok(()) => {
                            self.transfers.fetch(self.reactor.registry(), &self.store, shape, source, now)
                        }
                        Err(error) => {
                            log::error!("{error}");
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
                    let done = self.transfers.hand(self.reactor.registry(), assignment, &next, now);
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
                Output::Notice(notice) => self.on_notice(&notice),
            }
        }
        Ok(())
    }

    /// The key of a session that we send is needed with its first frame.
    fn open_own_session(&mut self, session: crate::wire::id::SessionId) {
        if !self.sessions.is_open(session)
            && let Some((_, sender)) = self.engine.senders().find(|(id, _)| *id == session)
        {
            let me = self.engine.node();
            self.sessions.open(self.channels.sealer().key(), me, sender.head());
        }
    }

    fn receive(&mut self, now: Instant, announce: &Announce, leader: NodeId) {
        match self.store.create(&announce.shape) {
            Ok(()) => {
                self.sessions.open(self.channels.sealer().key(), leader, announce);
                let (store, name) = (&self.store, announce.shape.name);
                self.engine.start_reception(now, announce, |block| store.is_verified(&name, block));
            }
            Err(error) => {
                log::error!("{error}");
                self.engine.handle_no_room(announce, reason_of(&error), error.to_string());
            }
        }
    }

    fn uplink(&mut self, now: Instant, body: UplinkBody) {
        self.uplink_seq += 1;
        let uplink = Uplink { node: self.engine.node(), boot: self.boot, seq: self.uplink_seq, body };
        let signed = uplink.sign(self.channels.sealer().signer());
        if let Some(done) = self.transfers.post(uplink.body, signed) {
            self.on_transfer(now, done, None);
        }
        self.post_next(now);
    }

    fn post_next(&mut self, now: Instant) {
        if let Some(done) = self.transfers.post_next(self.reactor.registry(), now) {
            self.on_transfer(now, done, None);
        }
    }

    fn send_to_applier(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some(request) = self.applier_queue.front() {
            let sent = match request {
                ApplierRequest::Stage { run, assignment, name } => {
                    let (run, assignment) = (*run, *assignment);
                    let shape = self.store.shape(name).copied();
                    match self.store.open_complete(name).zip(shape) {
                        Some(((file, _), shape)) => {
                            let request = ipc::Request::Stage { run, assignment, shape };
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
                    let (document, clock_offset_ns) = (document.clone(), self.engine.clock_offset());
                    self.applier.send(&ipc::Request::Order { document, clock_offset_ns }, None)
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
    fn report(&mut self, now: Instant, subject: Subject, outcome: Outcome) {
        if let Outcome::Failed { reason, text } = &outcome {
            log::error!("{subject:?} failed ({reason}): {text}");
        }
        let report = StatusReport { node: self.engine.node(), subject, outcome };
        let signed = report.sign(self.channels.sealer().signer());
        self.engine.handle_report(now, subject, signed);
    }

    fn measure(&mut self, now: Instant) {
        let resources = Resources::measure(&self.config.state_dir);
        let certificate = self.channels.sealer().certificate();
        let me = measure::profile(&self.config, certificate, self.addresses, resources, self.sites.clone());
        self.engine.set_me(now, me);
    }

    fn on_notice(&self, notice: &Notice) {
        match notice {
            Notice::Leading(epoch) => log::info!("leading segment {} (epoch {epoch})", self.config.segment),
            Notice::Following(leader) => log::info!("following leader {leader}"),
            Notice::Orphaned => log::info!("the leader is gone"),
            Notice::Joined(node) => log::info!("member {node} registered"),
            Notice::Gone(node) => log::warn!("member {node} has gone silent"),
            Notice::SessionDone { assignment, finish, bytes } => log::info!(
                "assignment {assignment}: {bytes} bytes to {} members in {} passes, {} frames, {} of them repair{}",
                finish.complete.len(),
                finish.passes,
                finish.frames_sent,
                finish.repair_frames,
                match finish.missing.len() + finish.failed.len() {
                    0 => String::new(),
                    left => format!("; {left} did not finish"),
                }
            ),
            Notice::FetchGivenUp { name, source } => log::error!("assignment {name:?}: {source} gave it up"),
        }
        let state = self.engine.election().state().name();
        self.tell_systemd(|notifier| notifier.status(&format!("{state} in segment {}", self.config.segment)));
    }

    fn tell_systemd(&self, tell: impl Fn(&Notifier) -> std::io::Result<()>) {
        if let Some(notifier) = &self.notifier
            && let Err(error) = tell(notifier)
        {
            log::debug!("systemd cannot be told: {error}");
        }
    }

    fn stop(&mut self, now: Instant) {
        log::info!("stopping");
        self.tell_systemd(|notifier| notifier.stopping());
        self.engine.handle_stop();
        if let Err(fatal) = self.act(now) {
            log::warn!("{}", fatal.text);
        }
        self.stopping = true;
    }

    /// Leaves nothing behind: the spool's notes are written, the applier finishes its step and ends.
    fn close(mut self) {
        self.store.save();
        let _ = std::fs::remove_file(&self.config.socket);
        drop(self.applier);
        if let Err(error) = self.applier_process.wait() {
            log::warn!("the applier: {error}");
        }
    }
}

fn reason_of(error: &StoreError) -> Reason {
    match error {
        StoreError::NoSpace { .. } => Reason::NoSpace,
        StoreError::System(..) => Reason::System,
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Staged => "staged".to_owned(),
        Outcome::Switched { .. } => "live".to_owned(),
        Outcome::Failed { reason, text } => format!("failed ({reason}): {text}"),
    }
}

/// The operator's socket. One that a dead daemon left behind is replaced; a living one is not.
fn listen_unix(config: &Config) -> Result<UnixListener, Fatal> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let path = &config.socket;
    let shown = path.display();
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text =
            format!("{shown} is in use by another daemon: stop it, or set control.socket to another path");
        return Err(Fatal::new(Fatal::UNAVAILABLE, text));
    }
    // A file that is no socket is somebody's: the path is wrong, and binding says so.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        Fatal::new(
            Fatal::CANNOT_CREATE,
            format!("cannot make the socket {shown}: {error}; see control.socket"),
        )
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(|error| Fatal::new(Fatal::CANNOT_CREATE, format!("{shown}: {error}")))?;
    Ok(listener)
}
