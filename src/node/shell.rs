//! The loop of the net process: events in, the engine's decisions out. It decides nothing itself.
//!
//! `shell/start.rs` opens everything, `shell/act.rs` carries out what the engine decided, `shell/moving.rs`
//! follows the interface, `shell/grouping.rs` the content groups, `shell/serving.rs` gives objects to others.

mod act;
mod ahead;
mod grouping;
mod keys;
mod moving;
mod scrubbing;
mod serving;
mod start;

use super::channels::{Channels, Frames, Port};
use super::config::Config;
use super::console::{Console, SessionKey};
use super::fatal::Fatal;
use super::links::Links;
use super::measure::{self, Addresses, Resources};
use super::news::News;
use super::peers::Peers;
use super::priority::{Priority, Service};
use super::reliability::Reliability;
use super::sessions::Sessions;
use super::store::Store;
use super::transfers::{ClockSample, Done, Transfers};
use super::troubles::Troubles;
use super::verbs::Call;
use super::view::View;
use crate::applier::ipc;
use crate::io::clock;
use crate::io::http::Server;
use crate::io::http::server::Key;
use crate::io::notify::Notifier;
use crate::io::reactor::{Reactor, Ready};
use crate::io::signal::{self, Signals};
use crate::proto::control_channel::Refused;
use crate::proto::engine::{Engine, Refusal};
use crate::time::{Duration, Instant};
use crate::wire::charter::Charter;
use crate::wire::console::{Code, Reply};
use crate::wire::control::SiteState;
use crate::wire::envelope::{Message, Opened};
use crate::wire::id::ObjectName;
use crate::wire::join::Farm;
use crate::wire::notify::{self, Notification};
use crate::wire::order::Order;
use crate::wire::report::{Outcome, Reason, Subject};
use act::ApplierRequest;
use ahead::Aheads;
use keys::Wants;
use scrubbing::Scrubbing;
use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::process::{Child, ExitCode};

const TOKEN_PORTS: usize = 0;
const TOKEN_APPLIER: usize = 4;
const TOKEN_SIGNALS: usize = 5;
const TOKEN_LINKS: usize = 6;
const TOKEN_CONSOLE: usize = 16;
const TOKEN_TRANSFERS: usize = 64;
const TOKEN_HTTP: usize = 256;
/// Clients of the object server at once: leaders that pull from us, members that finish by unicast.
const HTTP_PLACES: usize = 256;
/// How often the node measures itself.
const MEASURE_PERIOD: Duration = Duration::from_secs(2);
/// How often the spool writes down what it has verified (F7).
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// After a turn as long as this the control port is read again before the timers.
const LONG_TURN: Duration = Duration::from_millis(5);
/// Before frames that did not fit the socket's buffer are tried again.
const DEFER: Duration = Duration::from_micros(500);

pub struct Shell {
    config: Config,
    farm: Farm,
    reactor: Reactor,
    channels: Channels,
    engine: Engine,
    sessions: Sessions,
    store: Store,
    transfers: Transfers,
    peers: Peers,
    http: Server,
    /// Answers with objects of which not all is here yet.
    growing: Vec<(Key, ObjectName)>,
    /// Answers with objects, and when it is looked at next what they may send.
    serving: Vec<(Key, ObjectName)>,
    bounds_at: Instant,
    console: Console,
    applier: ipc::Channel,
    applier_process: Child,
    /// Requests that the applier's socket did not take yet.
    applier_queue: VecDeque<ApplierRequest>,
    scrubbing: Option<Scrubbing>,
    aheads: Aheads,
    wants: Wants,
    signals: Signals,
    links: Links,
    troubles: Troubles,
    notifier: Option<Notifier>,
    watchdog: Option<(Duration, Instant)>,
    addresses: Addresses,
    sites: Vec<SiteState>,
    service: Service,
    priority: Priority,
    reliability: Reliability,
    uplink_seq: u64,
    boot: u32,
    inbox: Vec<(SocketAddr, Opened)>,
    /// Ports at which datagrams may wait: the kernel reports only the first of them.
    waiting: [bool; Port::ALL.len()],
    /// What the log said last of our own failures.
    last_failure: Option<(Subject, Reason)>,
    started: Instant,
    measure_at: Instant,
    save_at: Instant,
    turn_max: Duration,
    stopping: bool,
}

impl Shell {
    /// Runs until a signal or `shutdown` ends it.
    pub fn run(mut self) -> ExitCode {
        let now = clock::monotonic();
        self.load_groups(now);
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

    /// One turn of the loop: waiting, what has happened, what is due, what they lead to. True at the end.
    fn turn(&mut self) -> Result<bool, Fatal> {
        let now = clock::monotonic();
        let more = self.waiting.contains(&true);
        let deadline = if more { Some(now) } else { self.deadline(now) };
        let events = self.reactor.wait(now, deadline).map_err(Fatal::system("epoll"))?;
        let start = clock::monotonic();
        for event in events {
            self.on_event(clock::monotonic(), event)?;
            self.act(clock::monotonic())?;
        }
        self.on_datagrams()?;
        let mut now = clock::monotonic();
        if now.since(start) >= LONG_TURN {
            // Our own delay must not pass for the leader's silence: what came meanwhile is heard first.
            self.waiting[Port::Control as usize] = self.read_port(now, Port::Control);
            self.act(now)?;
            now = clock::monotonic();
        }
        self.on_timers(now);
        self.act(now)?;
        self.stage_ahead();
        self.turn_max = self.turn_max.max(clock::monotonic().since(start));
        Ok(self.stopping)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let queued = !self.applier_queue.is_empty();
        [
            self.engine.next_deadline(),
            self.http.deadline(),
            self.console.deadline(),
            self.transfers.deadline(),
            self.wants.deadline(),
            Some(self.measure_at),
            Some(self.save_at),
            self.watchdog.map(|(_, at)| at),
            (!self.serving.is_empty()).then_some(self.bounds_at),
            (self.sessions.has_deferred() || queued).then(|| now + DEFER),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_timers(&mut self, now: Instant) {
        if self.sessions.has_deferred() {
            self.sessions.send_deferred(&mut self.channels, &self.store);
            self.engine.handle_backlog(now, self.sessions.has_deferred());
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
            self.peers.keep(now, &self.engine.known_peers());
        }
        if let Some((interval, at)) = &mut self.watchdog
            && now >= *at
        {
            *at = now + *interval;
            self.tell_systemd(|notifier| notifier.watchdog());
        }
        if !self.serving.is_empty() && now >= self.bounds_at {
            self.keep_bounds(now);
        }
        self.ask_for_keys(now);
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
            self.waiting[token - TOKEN_PORTS] = true;
            return Ok(());
        }
        match token {
            TOKEN_APPLIER => self.on_applier(now),
            TOKEN_SIGNALS => self.on_signals(now),
            TOKEN_LINKS => {
                self.on_links(now);
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
                for (done, sample) in self.transfers.handle_event(registry, &mut self.store, event.token, now)
                {
                    self.on_transfer(now, done, sample);
                }
                self.serve_on(now)
            }
            _ if self.http.tokens().contains(&token) => self.on_http(now, event.token),
            _ => Ok(()),
        }
    }

    /// Reads a share of what waits at every port, control messages before data, so that a flood of frames
    /// delays no leader-alive by more than one share of work.
    fn on_datagrams(&mut self) -> Result<(), Fatal> {
        for port in Port::ALL {
            if self.waiting[port as usize] {
                let now = clock::monotonic();
                self.waiting[port as usize] = self.read_port(now, port);
                self.act(now)?;
            }
        }
        Ok(())
    }

    /// True where more may wait at the port.
    fn read_port(&mut self, now: Instant, port: Port) -> bool {
        let Self { channels, engine, sessions, store, inbox, .. } = self;
        let mut take = |frames: Frames<'_, '_>| sessions.on_frames(now, engine, store, frames);
        let more = channels.receive(now, port, inbox, &mut take).unwrap_or_else(|error| {
            // An interface that went away takes its sockets' traffic with it, not the daemon.
            self.troubles.tell(now, format!("{port:?} socket: {error}"));
            false
        });
        sessions.finish_batch(now, engine);
        if port == Port::Data {
            engine.handle_drops(channels.frame_overflows());
        }
        engine.handle_frames_end(now);
        let wall = clock::wall_ns();
        for (from, opened) in std::mem::take(inbox) {
            let signed = match &opened.message {
                Message::Order(document) => Order::open(document, &self.farm.director).is_ok(),
                Message::Charter(document) => Charter::open(document, &self.farm.director).is_ok(),
                _ => true,
            };
            if !signed {
                self.channels.counters.refused += 1;
                continue;
            }
            self.engine.handle_message(now, wall, from, port.channel(), opened);
        }
        more
    }

    fn on_applier(&mut self, now: Instant) -> Result<(), Fatal> {
        loop {
            match self.applier.recv() {
                Ok(Some(ipc::Reply::Sites(sites))) => {
                    self.sites = sites;
                    self.measure(now);
                }
                Ok(Some(ipc::Reply::Staged { run, assignment, outcome })) => {
                    if let Outcome::Switched { .. } = outcome {
                        log::info!("assignment {assignment}: staged, and live by the order in it");
                    }
                    if !matches!(outcome, Outcome::Failed { .. })
                        && let Some(object) = self.engine.object_of(run, assignment)
                    {
                        self.store.forget_parts_before(&object);
                        self.note_gone();
                    }
                    self.report(now, Subject::Assignment { run, assignment }, outcome);
                }
                Ok(Some(ipc::Reply::Ordered { run, order, site, outcome })) => {
                    if let Outcome::Switched { .. } = outcome {
                        self.tell(&News::live(&site, order));
                    }
                    self.report(now, Subject::Order { run, order }, outcome);
                }
                Ok(Some(ipc::Reply::Wants { object, run, request })) => {
                    self.want_key(now, object, run, request)
                }
                Ok(Some(ipc::Reply::Flawed { number, path, flaw })) => self.note_flaw(number, path, flaw),
                Ok(Some(ipc::Reply::Scrubbed { number, entries, bytes, flaws, ended })) => {
                    self.note_scrub(number, [entries, bytes, flaws], ended);
                    self.send_to_applier(now)?;
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
        while let Some(request) = self.signals.read().map_err(Fatal::system("signals"))? {
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
            Call::Charter(document) => self.take_charter(now, document),
            Call::Scrub(document) => {
                let reply = self.take_scrub(&document);
                self.send_to_applier(now)?;
                reply
            }
            Call::Refresh => answer(self.engine.handle_refresh(now)),
            Call::Channel(to) => self.order_channel(now, to),
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
            wall: clock::wall_ns(),
            started: self.started,
            engine: &self.engine,
            channels: &self.channels,
            sessions: &self.sessions,
            store: &self.store,
            transfers: &self.transfers,
            http: &self.http,
            console: &self.console,
            sites: &self.sites,
            priority: &self.priority,
            reliability: &self.reliability,
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
        self.tell(&News::notified(assignment, &notification.site, &notification.source.to_string()));
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

    fn take_charter(&mut self, now: Instant, document: Vec<u8>) -> Reply {
        match Charter::open(&document, &self.farm.director) {
            Ok(charter) => answer(self.engine.handle_charter(now, charter, document)),
            Err(error) => Reply::refused(Code::Denied, format!("the charter is refused: {error}")),
        }
    }

    fn order_channel(&mut self, now: Instant, to: SocketAddrV4) -> Reply {
        answer(self.engine.handle_channel_order(now, to))
    }

    /// Whether a time of the CCM's clock, in seconds since 1970, has passed.
    fn is_expired(&self, expires: u64) -> bool {
        let (now, wall) = (clock::monotonic(), clock::wall_ns());
        let controller = now.as_nanos().saturating_add_signed(self.engine.clock_offset(now, wall));
        controller / 1_000_000_000 > expires
    }

    fn on_transfer(&mut self, now: Instant, done: Done, sample: Option<ClockSample>) {
        if let Some(ClockSample { sent, controller, received }) = sample {
            self.engine.handle_controller_clock(now, sent, controller, received);
        }
        match done {
            Done::Fetched(name) => self.engine.handle_object_complete(now, name),
            Done::Begun(name) => self.engine.handle_object_begun(now, &name),
            Done::FetchFailed(name, error) => {
                log::warn!("assignment {name:?}: {error}");
                let fatal = error.fatal.map(|reason| (reason, error.text));
                self.engine.handle_fetch_failed(now, name, fatal);
            }
            Done::Next(assignment, reply) => {
                let next = reply.map_err(|text| {
                    log::warn!("the CCM does not tell whom to serve next: {text}");
                });
                self.engine.handle_next(now, assignment, next);
            }
            Done::Peers(Ok(document)) => match notify::Peers::open(&document, &self.farm.director) {
                Ok(answer) if answer.asker == self.engine.node() => {
                    self.engine.handle_peers(now, &answer.peers);
                }
                Ok(_) | Err(_) => log::warn!("the CCM's answer on who is in the segment does not verify"),
            },
            Done::Peers(Err(text)) => {
                self.troubles.tell(now, format!("the CCM does not tell who is in the segment: {text}"));
            }
            Done::Key(request, answer) => self.take_key(now, &request, answer),
            Done::Posted(_, Ok(answer)) if answer.is_empty() => {}
            // Only a report on the segment is answered with more: with the newest list of groups.
            Done::Posted(_, Ok(answer)) => self.take_groups(now, answer),
            Done::Posted(body, Err(text)) => {
                self.troubles.tell(now, format!("a report did not reach the CCM: {text}"));
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
    }

    fn measure(&mut self, now: Instant) {
        if !self.channels.data.is_complete() {
            self.join_data_channels(now);
        }
        let resources = Resources::measure(&self.config.state_dir);
        let tenure = self.service.observe(now, self.engine.election().is_leader());
        let healthy = self.engine.is_registered() && !self.engine.is_aside();
        let losses = self.engine.counters().elections;
        self.reliability.observe(now, clock::wall_ns(), healthy, losses);
        let merits = resources.merits(self.links.speed(), tenure, &self.reliability, &self.sites);
        self.priority = merits.priority(self.config.factor);
        let certificate = self.channels.sealer().certificate();
        let (priority, sites) = (self.priority.total, self.sites.clone());
        let (addresses, mtu) = (self.addresses, self.links.mtu());
        let me = measure::profile(&self.config, certificate, addresses, resources, priority, mtu, sites);
        self.engine.set_me(now, me);
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
        self.engine.handle_stop(now);
        if let Err(fatal) = self.act(now) {
            log::warn!("{}", fatal.text);
        }
        self.stopping = true;
    }

    /// Leaves nothing behind: the spool's notes are written, the applier finishes its step and ends.
    fn close(mut self) {
        self.store.save();
        self.reliability.close(clock::monotonic(), clock::wall_ns());
        let _ = std::fs::remove_file(&self.config.socket);
        drop(self.applier);
        if let Err(error) = self.applier_process.wait() {
            log::warn!("the applier: {error}");
        }
    }
}

/// What an instruction for the segment led to.
fn answer(taken: Result<(), Refusal>) -> Reply {
    match taken {
        Ok(()) => Reply::new(Code::Accepted),
        Err(Refusal::Channel(Refused::There)) => Reply::new(Code::Already),
        Err(refusal @ Refusal::DataChannel) => Reply::refused(Code::BadValue, refusal.to_string()),
        Err(refusal @ (Refusal::Chartered | Refusal::OtherSegment)) => {
            Reply::refused(Code::Conflict, refusal.to_string())
        }
        Err(refusal) => Reply::refused(Code::NotReady, refusal.to_string()),
    }
}
