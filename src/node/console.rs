//! Sessions of the text control port: who may connect, lines in, replies out.
//!
//! The port answers by itself what needs no node (`help`, `ping`, refusals); the rest it hands to the
//! shell as [`Call`]s, each with the [`SessionKey`] that its [`Console::reply`] is to name. Nothing here
//! waits, and nothing grows: too many sessions, a client that says nothing for [`IDLE_TIME`] and one that
//! does not read its replies are all turned out; over TCP also who has not said within [`HELLO_TIME`] who it is.

mod gate;
mod session;

pub use gate::Gate;

use super::verbs::{Call, Level, Topic};
use crate::io::stream::{Fill, Peer, Stream};
use crate::time::{Duration, Instant};
use crate::wire::console::{Code, Event, LINE_MAX, Output, PROTOCOL, Reply, Tag, Value, greeting};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use session::Session;
use std::io;
use std::ops::Range;

/// Most sessions at once.
pub const SESSIONS: usize = 8;
/// Further sessions kept for root and our own user, so that somebody can always look.
pub const RESERVED: usize = 1;
/// A session that sends no line for so long is ended.
pub const IDLE_TIME: Duration = Duration::from_secs(120);
/// Most bytes of replies that wait for a client to read them; then `509 slow-reader`.
pub const REPLIES_MAX: usize = 256 * 1024;
/// Over TCP, from connecting until the handshake is over and the farm knows the key.
pub const HELLO_TIME: Duration = Duration::from_secs(3);
/// How long a session that is to end may take to read its last line.
const LEAVE_TIME: Duration = Duration::from_secs(5);
/// Room for that line beyond [`REPLIES_MAX`].
const LAST_WORDS: usize = 512;
/// The longest line with its CR and LF.
const LINE_BUFFER: usize = LINE_MAX + 2;
/// A TCP client that has been silent for so long, or shaken hands, gives its place to the next where all are taken: the
/// controller says its line at once, and nobody may lock it out by holding connections.
const SILENT_TIME: Duration = Duration::from_millis(500);
/// Most clients accepted at one event of a listener.
const ACCEPT_MAX: usize = 16;

/// Names one request of one session; a reply to a session that has ended is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    place: usize,
    serial: u64,
    tag: Option<Tag>,
    output: Output,
}

/// How the node introduces itself in the greeting and in `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `farmcastd/0.1.0`.
    pub server: String,
    pub node: String,
    pub segment: String,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub accepted: u64,
    /// Clients turned away because all places were taken, or turned out to make room.
    pub turned_away: u64,
    pub requests: u64,
    /// Requests answered with a 4xx by the port itself.
    pub refused: u64,
    pub idle: u64,
    pub slow_readers: u64,
    /// Sessions that broke, and clients lost while being accepted.
    pub broken: u64,
    /// Over TCP: no handshake, or not to its end.
    pub handshakes_failed: u64,
    /// Over TCP: keys that nobody of the farm holds, or whose holder did not say so in time.
    pub strangers: u64,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The text port. Takes the tokens [`tokens`](Self::tokens), beginning with those of its listeners.
#[derive(Debug)]
pub struct Console {
    identity: Identity,
    gate: Gate,
    listeners: Vec<Listener>,
    first: usize,
    own_uid: u32,
    places: Vec<Option<Session>>,
    serial: u64,
    now: Instant,
    counters: Counters,
}

impl Console {
    /// Listens on the Unix sockets (level by the client's user: root and our own are admin, others
    /// observe) and on the TCP sockets (level by the key, as the gate says).
    pub fn new(
        identity: Identity,
        gate: Gate,
        unix: Vec<UnixListener>,
        tcp: Vec<TcpListener>,
        registry: &Registry,
        first: Token,
    ) -> io::Result<Self> {
        let unix = unix.into_iter().map(Listener::Unix);
        let mut listeners: Vec<_> = unix.chain(tcp.into_iter().map(Listener::Tcp)).collect();
        for (at, listener) in listeners.iter_mut().enumerate() {
            let token = Token(first.0 + at);
            match listener {
                Listener::Unix(socket) => registry.register(socket, token, Interest::READABLE)?,
                Listener::Tcp(socket) => registry.register(socket, token, Interest::READABLE)?,
            }
        }
        Ok(Self {
            identity,
            gate,
            listeners,
            first: first.0,
            own_uid: nix::unistd::geteuid().as_raw(),
            places: (0..SESSIONS + RESERVED).map(|_| None).collect(),
            serial: 0,
            now: Instant::ZERO,
            counters: Counters::default(),
        })
    }

    /// Listens on this TCP socket instead of those before; sessions that are there go on.
    pub fn listen_on(&mut self, tcp: TcpListener, registry: &Registry) -> io::Result<()> {
        let is_tcp = |listener: &Listener| matches!(listener, Listener::Tcp(_));
        let Some(at) = self.listeners.iter().position(is_tcp) else { return Ok(()) };
        let mut listener = tcp;
        registry.register(&mut listener, Token(self.first + at), Interest::READABLE)?;
        self.listeners[at] = Listener::Tcp(listener);
        Ok(())
    }

    /// Events of these tokens are for the text port.
    pub fn tokens(&self) -> Range<usize> {
        self.first..self.first + self.listeners.len() + self.places.len()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sessions open now.
    pub fn sessions(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Does what an event of one of [`tokens`](Self::tokens) makes possible and returns what a client asks
    /// of the node. A session asks one thing at a time and waits for its [`reply`](Self::reply). Errors of
    /// clients end in counters; the error returned is the loop's own (epoll).
    pub fn handle_event(
        &mut self,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> io::Result<Option<(SessionKey, Call)>> {
        self.now = now;
        let Some(at) = token.0.checked_sub(self.first) else { return Ok(None) };
        match at.checked_sub(self.listeners.len()) {
            None => self.accept(registry, at).map(|()| None),
            Some(place) if place < self.places.len() => self.drive(registry, place),
            Some(_) => Ok(None),
        }
    }

    /// Sends the answer to a call. What the client has sent meanwhile comes with a later event.
    pub fn reply(&mut self, registry: &Registry, key: SessionKey, reply: &Reply) -> io::Result<()> {
        let token = self.token(key.place);
        let place = &mut self.places[key.place];
        let Some(session) = place.as_mut().filter(|session| session.asked == Some(key)) else {
            return Ok(());
        };
        session.asked = None;
        session.say(reply, key.tag, key.output, self.now, &mut self.counters);
        if session.flush(&mut self.counters) {
            *place = None;
            return Ok(());
        }
        session.stream.rearm(registry, token)
    }

    /// Tells all who watch the topic.
    pub fn announce(&mut self, topic: Topic, event: &Event) {
        for place in &mut self.places {
            let Some(session) = place.as_mut().filter(|session| session.watch.is_some()) else { continue };
            session.hear(topic, event, self.now, &mut self.counters);
            if session.flush(&mut self.counters) {
                *place = None;
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.places.iter().flatten().map(|session| session.deadline).min()
    }

    /// Ends the sessions that said nothing for too long, or did not read their last line.
    pub fn expire(&mut self, now: Instant) {
        self.now = now;
        for place in &mut self.places {
            let Some(session) = place.as_mut().filter(|session| session.deadline <= now) else { continue };
            let mut over = session.stream.is_closing();
            if session.watch.is_some() && !over {
                session.still_here(now, &mut self.counters);
                if session.flush(&mut self.counters) {
                    *place = None;
                }
                continue;
            }
            if session.stream.is_handshaking() {
                self.counters.handshakes_failed += 1;
                over = true;
            }
            if !over {
                let unknown = session.level == Level::Guest;
                *(if unknown { &mut self.counters.strangers } else { &mut self.counters.idle }) += 1;
                let time = if unknown { HELLO_TIME } else { IDLE_TIME };
                let reply = Reply::refused(Code::Timeout, format!("nothing asked for {time}"));
                session.say(&reply, None, Output::Logfmt, now, &mut self.counters);
                session.leave(now);
                over = session.flush(&mut self.counters);
            }
            if over {
                *place = None;
            }
        }
    }

    fn token(&self, place: usize) -> Token {
        Token(self.first + self.listeners.len() + place)
    }

    fn accept(&mut self, registry: &Registry, listener: usize) -> io::Result<()> {
        for _ in 0..ACCEPT_MAX {
            let bound = REPLIES_MAX + LAST_WORDS;
            let accepted = match &self.listeners[listener] {
                Listener::Unix(socket) => {
                    socket.accept().map(|(socket, _)| Stream::unix(socket, LINE_BUFFER, bound))
                }
                Listener::Tcp(socket) => {
                    socket.accept().map(|(socket, _)| self.gate.receive(socket, LINE_BUFFER, bound))
                }
            };
            match accepted {
                Ok(stream) => self.admit(registry, stream)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    self.counters.broken += 1;
                    // Out of descriptors: whoever waits is accepted along with the next who comes.
                    if e.kind() != io::ErrorKind::ConnectionAborted {
                        return Ok(());
                    }
                }
            }
        }
        let token = Token(self.first + listener);
        match &mut self.listeners[listener] {
            Listener::Unix(socket) => registry.reregister(socket, token, Interest::READABLE),
            Listener::Tcp(socket) => registry.reregister(socket, token, Interest::READABLE),
        }
    }

    fn admit(&mut self, registry: &Registry, mut stream: Stream) -> io::Result<()> {
        let level = level_of(stream.peer(), self.own_uid);
        let remote = level == Level::Guest;
        let may_use = if level == Level::Admin { SESSIONS + RESERVED } else { SESSIONS };
        if self.sessions() >= may_use {
            self.turn_out_silent();
        }
        let free = self.places.iter().position(Option::is_none).filter(|_| self.sessions() < may_use);
        let Some(place) = free else {
            self.counters.turned_away += 1;
            let busy = Reply::refused(Code::Busy, "all sessions are taken").with("retry_ms", 1000u32);
            // One attempt: a client that cannot take one line at once sees the connection closed, as do all over TCP.
            let _ = stream.send(busy.print(None, Output::Logfmt).as_bytes());
            let _ = stream.flush();
            return Ok(());
        };
        stream.register(registry, self.token(place))?;
        self.counters.accepted += 1;
        self.serial += 1;
        let (serial, heard) = (self.serial, self.now);
        let deadline = heard + if remote { HELLO_TIME } else { IDLE_TIME };
        let (key, asked, watch, skipping) = (None, None, None, false);
        let mut session =
            Session { stream, level, remote, key, serial, asked, watch, skipping, heard, deadline };
        if !remote {
            session.send(&self.identity.greeting(level));
        }
        if !session.flush(&mut self.counters) {
            self.places[place] = Some(session);
        }
        Ok(())
    }

    /// Ends the TCP session that has been silent for longest, if any has for [`SILENT_TIME`].
    fn turn_out_silent(&mut self) {
        let now = self.now;
        let is_silent = |session: &Session| {
            session.remote
                && session.asked.is_none()
                && session.watch.is_none()
                && (session.stream.is_closing() || session.heard + SILENT_TIME <= now)
        };
        let silent = self.places.iter_mut().filter(|place| place.as_ref().is_some_and(is_silent));
        if let Some(place) = silent.min_by_key(|place| place.as_ref().map(|session| session.heard)) {
            self.counters.turned_away += 1;
            *place = None;
        }
    }

    fn drive(&mut self, registry: &Registry, place: usize) -> io::Result<Option<(SessionKey, Call)>> {
        let token = self.token(place);
        let Some(session) = &mut self.places[place] else { return Ok(None) };
        let mut asked = None;
        let mut over = false;
        if session.asked.is_none() && !session.stream.is_closing() {
            let shaking = session.stream.is_handshaking();
            let fill = session.stream.fill();
            if session.remote && session.key.is_none() && !session.stream.is_handshaking() {
                session.admit(&self.gate, &self.identity, self.now);
            }
            let house = (&self.gate, &self.identity);
            asked = session.take_lines(place, house, self.now, &mut self.counters);
            match fill {
                _ if asked.is_some() => {}
                Ok(Fill::Drained) => {}
                Ok(Fill::Full) => session.stream.rearm(registry, token)?,
                Ok(Fill::Ended) => session.leave(self.now),
                Err(_) => {
                    let failed = if shaking && session.key.is_none() {
                        &mut self.counters.handshakes_failed
                    } else {
                        &mut self.counters.broken
                    };
                    *failed += 1;
                    over = true;
                }
            }
        }
        if over || session.flush(&mut self.counters) {
            self.places[place] = None;
        }
        Ok(asked)
    }
}

/// What a client may do: over TCP, nothing before its key is known; over a Unix socket, by its user.
fn level_of(peer: io::Result<Option<Peer>>, own_uid: u32) -> Level {
    match peer {
        Ok(None) => Level::Guest,
        Ok(Some(peer)) if peer.uid == 0 || peer.uid == own_uid => Level::Admin,
        Ok(Some(_)) | Err(_) => Level::Observe,
    }
}

impl Identity {
    fn greeting(&self, level: Level) -> String {
        let fields = [
            ("server", Value::from(self.server.as_str())),
            ("node", self.node.as_str().into()),
            ("seg", self.segment.as_str().into()),
            ("level", level.as_str().into()),
            ("caps", "json,watch".into()),
        ];
        greeting(&fields)
    }

    fn version(&self) -> Reply {
        Reply::ok().with("server", self.server.as_str()).with("protocol", PROTOCOL)
    }
}

#[cfg(test)]
mod tests;
