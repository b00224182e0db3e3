//! Serves files to many clients, none of which can stall the loop or grow a buffer.
//!
//! ```text
//!   accept ──> Head ──whole head──> Asked ──respond_*──> Sending ──all sent──> Head, or Leaving ──> closed
//! ```
//! What a path means is the owner's business: [`Server::handle_event`] gives a [`Wanted`], which the owner
//! answers by [`Server::respond_file`] or [`Server::respond_status`], now or later. A file that still grows is sent
//! as far as the owner says it may be ([`Server::respond_growing`], [`Server::advance`]).

use super::head::{HEAD_MAX, Range, Refusal, Request, parse_request, reason};
use crate::io::stream::{Fill, Stream};
use crate::time::{Duration, Instant};
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use std::fs::File;
use std::io;
use std::ops;

/// Most bytes one client is given before the next one's turn.
const SLICE: usize = 512 * 1024;
/// Longest answer without a file.
const ANSWER_MAX: usize = 4096;
/// Most clients accepted at one event.
const ACCEPT_MAX: usize = 64;
/// How long a client may take for a whole head, counted from when it connected or had its last answer.
/// Not renewed by single bytes, so that a client who drips them ends too.
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what is sent to it.
pub const IDLE_TIME: Duration = Duration::from_secs(30);
/// How long we read on after the last answer: closing with bytes unread would make the kernel reset the
/// connection, and the client could lose the answer.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Names one request until it is answered; one that is gone is answered into the void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    slot: usize,
    serial: u64,
}

/// A client wants this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub key: Key,
    /// As sent, beginning with a slash.
    pub path: String,
    /// For information: `respond_file` applies it.
    pub range: Option<Range>,
    /// Only the head of the answer is wanted.
    pub head: bool,
}

/// What the server has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub accepted: u64,
    /// Clients turned away because all places were taken.
    pub turned_away: u64,
    pub requests: u64,
    /// Heads that could not be served.
    pub refused: u64,
    pub body_bytes: u64,
    /// Clients that took too long.
    pub expired: u64,
    /// Connections that broke.
    pub broken: u64,
}

#[derive(Debug)]
enum State {
    /// Reading a head.
    Head,
    /// The owner has the request.
    Asked { request: Request, serial: u64 },
    /// Sending an answer: what the stream holds, then this part of a file.
    Sending { file: Option<Part>, keep_alive: bool },
    /// All is said; waiting for the client to close.
    Leaving,
}

#[derive(Debug)]
struct Part {
    file: File,
    at: u64,
    end: u64,
    /// Bytes from here on may not be sent yet.
    ready: u64,
    /// Of the request that it answers.
    serial: u64,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    state: State,
    deadline: Instant,
    /// Bytes per second that it may be sent.
    pace: Option<u64>,
}

/// What to do with a connection after a turn.
enum Turn {
    /// An event will come.
    Wait,
    /// It could go on, but others are to have their turn.
    Yield,
    Ask(Key, Request),
    Close,
}

#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    first: usize,
    connections: Vec<Option<Connection>>,
    serial: u64,
    counters: Counters,
}

impl Server {
    /// Serves at most `places` clients at once, with the tokens `tokens().start` (the listener) and on.
    pub fn new(
        mut listener: TcpListener,
        registry: &Registry,
        first: Token,
        places: usize,
    ) -> io::Result<Self> {
        registry.register(&mut listener, first, Interest::READABLE)?;
        let connections = (0..places).map(|_| None).collect();
        Ok(Self { listener, first: first.0, connections, serial: 0, counters: Counters::default() })
    }

    /// Listens elsewhere from now on; clients that are there are served on.
    pub fn listen_on(&mut self, mut listener: TcpListener, registry: &Registry) -> io::Result<()> {
        registry.register(&mut listener, Token(self.first), Interest::READABLE)?;
        self.listener = listener;
        Ok(())
    }

    /// Events of these tokens are for this server.
    pub fn tokens(&self) -> ops::Range<usize> {
        self.first..self.first + 1 + self.connections.len()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Does what an event of one of [`tokens`](Self::tokens) makes possible. Errors of clients end in
    /// counters; the error returned is the loop's own (epoll).
    pub fn handle_event(
        &mut self,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> io::Result<Option<Wanted>> {
        match token.0.checked_sub(self.first) {
            Some(0) => self.accept(registry, now).map(|()| None),
            Some(slot) if slot <= self.connections.len() => self.drive(registry, slot - 1, now),
            _ => Ok(None),
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPT_MAX {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    self.counters.broken += 1;
                    if e.kind() == io::ErrorKind::ConnectionAborted {
                        continue;
                    }
                    // Out of descriptors: whoever waits is accepted along with the next who comes.
                    return Ok(());
                }
            };
            let Some(slot) = self.connections.iter().position(Option::is_none) else {
                self.counters.turned_away += 1;
                turn_away(&mut socket);
                continue;
            };
            let mut stream = Stream::tcp(socket, HEAD_MAX, ANSWER_MAX);
            stream.register(registry, self.token(slot))?;
            self.counters.accepted += 1;
            self.connections[slot] =
                Some(Connection { stream, state: State::Head, deadline: now + HEAD_TIME, pace: None });
        }
        registry.reregister(&mut self.listener, Token(self.first), Interest::READABLE)
    }

    fn token(&self, slot: usize) -> Token {
        Token(self.first + 1 + slot)
    }

    /// Answers with a file of `len` bytes, or with the part of it that was asked for: 200, 206 or 416.
    pub fn respond_file(
        &mut self,
        registry: &Registry,
        key: Key,
        file: File,
        len: u64,
        now: Instant,
    ) -> io::Result<()> {
        self.respond_growing(registry, key, file, len, |_| len, now)
    }

    /// As [`respond_file`](Self::respond_file), of a file of which not all may be sent yet: `ready` tells how far,
    /// from the first byte that is wanted on. The owner tells by [`advance`](Self::advance) when it is more; a client
    /// that gets nothing for [`IDLE_TIME`] is dropped.
    pub fn respond_growing(
        &mut self,
        registry: &Registry,
        key: Key,
        file: File,
        len: u64,
        ready: impl FnOnce(u64) -> u64,
        now: Instant,
    ) -> io::Result<()> {
        let Some((connection, request)) = self.asked(key) else { return Ok(()) };
        let part = match request.range {
            None => Some((0, len)),
            Some(range) => range.resolve(len),
        };
        let (status, start, end, content_range) = match part {
            None => (416, 0, 0, format!("Content-Range: bytes */{len}\r\n")),
            Some((start, end)) if request.range.is_some() => {
                (206, start, end, format!("Content-Range: bytes {start}-{}/{len}\r\n", end - 1))
            }
            Some((start, end)) => (200, start, end, String::new()),
        };
        let fields = format!(
            "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n{content_range}",
            end - start
        );
        let part =
            || Part { file, at: start, end, ready: ready(start).clamp(start, end), serial: key.serial };
        let file = (!request.head && start < end).then(part);
        connection.answer(status, &fields, "", file, request.keep_alive, now);
        self.drive(registry, key.slot, now).map(drop)
    }

    /// Whether this request is still to be answered, or the file that answers it is still being sent.
    pub fn is_open(&self, key: Key) -> bool {
        let connection = self.connections.get(key.slot).and_then(Option::as_ref);
        connection.is_some_and(|connection| match &connection.state {
            State::Asked { serial, .. } => *serial == key.serial,
            State::Sending { file: Some(part), .. } => part.serial == key.serial,
            State::Sending { file: None, .. } | State::Head | State::Leaving => false,
        })
    }

    /// The answer to this request may be sent at so many bytes per second from now on; `None`: at any rate.
    pub fn pace(&mut self, key: Key, bytes_per_second: Option<u64>) {
        if self.is_open(key)
            && let Some(Some(connection)) = self.connections.get_mut(key.slot)
            && connection.pace != bytes_per_second
            && connection.stream.pace(bytes_per_second).is_ok()
        {
            connection.pace = bytes_per_second;
        }
    }

    /// How far the answer to this request may be sent; `None` where it has been sent, or its client has left.
    pub fn ready(&self, key: Key) -> Option<u64> {
        match &self.connections.get(key.slot)?.as_ref()?.state {
            State::Sending { file: Some(part), .. } if part.serial == key.serial && part.ready < part.end => {
                Some(part.ready)
            }
            _ => None,
        }
    }

    /// The answer to this request may be sent as far as here.
    pub fn advance(&mut self, registry: &Registry, key: Key, to: u64, now: Instant) -> io::Result<()> {
        if let Some(Some(Connection { state: State::Sending { file: Some(part), .. }, .. })) =
            self.connections.get_mut(key.slot)
            && part.serial == key.serial
        {
            part.ready = to.clamp(part.ready, part.end);
        }
        self.drive(registry, key.slot, now).map(drop)
    }

    /// Answers with a status and a sentence.
    pub fn respond_status(
        &mut self,
        registry: &Registry,
        key: Key,
        status: u16,
        text: &str,
        now: Instant,
    ) -> io::Result<()> {
        let Some((connection, request)) = self.asked(key) else { return Ok(()) };
        connection.say(status, text, request.head, request.keep_alive, now);
        self.drive(registry, key.slot, now).map(drop)
    }

    /// The connection that waits for the answer to this request, and the request.
    fn asked(&mut self, key: Key) -> Option<(&mut Connection, Request)> {
        let connection = self.connections.get_mut(key.slot)?.as_mut()?;
        match &connection.state {
            State::Asked { request, serial } if *serial == key.serial => {
                let request = request.clone();
                Some((connection, request))
            }
            _ => None,
        }
    }

    fn drive(&mut self, registry: &Registry, slot: usize, now: Instant) -> io::Result<Option<Wanted>> {
        let token = self.token(slot);
        let Some(connection) = &mut self.connections[slot] else { return Ok(None) };
        let turn = connection.turn(slot, &mut self.serial, &mut self.counters, now).unwrap_or_else(|_| {
            self.counters.broken += 1;
            Turn::Close
        });
        match turn {
            Turn::Wait => Ok(None),
            Turn::Yield => connection.stream.rearm(registry, token).map(|()| None),
            Turn::Ask(key, request) => {
                self.counters.requests += 1;
                Ok(Some(Wanted { key, path: request.path, range: request.range, head: request.head }))
            }
            Turn::Close => {
                self.connections[slot] = None;
                Ok(None)
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.connections.iter().flatten().filter_map(Connection::deadline).min()
    }

    /// Ends the connections of clients that took too long.
    pub fn expire(&mut self, now: Instant) {
        for place in &mut self.connections {
            if place.as_ref().and_then(Connection::deadline).is_some_and(|deadline| deadline <= now) {
                self.counters.expired += 1;
                *place = None;
            }
        }
    }
}

impl Connection {
    /// None while the owner looks for the answer: that is not the client's delay.
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asked { .. } => None,
            State::Head | State::Sending { .. } | State::Leaving => Some(self.deadline),
        }
    }

    fn turn(
        &mut self,
        slot: usize,
        serial: &mut u64,
        counters: &mut Counters,
        now: Instant,
    ) -> io::Result<Turn> {
        loop {
            match &mut self.state {
                State::Head => {
                    let fill = self.stream.fill()?;
                    match parse_request(self.stream.received()) {
                        Ok(Some((request, len))) => {
                            self.stream.consume(len);
                            *serial += 1;
                            self.state = State::Asked { request: request.clone(), serial: *serial };
                            return Ok(Turn::Ask(Key { slot, serial: *serial }, request));
                        }
                        Ok(None) if fill == Fill::Ended => return Ok(Turn::Close),
                        Ok(None) => return Ok(Turn::Wait),
                        Err(Refusal { status, text }) => {
                            counters.refused += 1;
                            self.say(status, text, false, false, now);
                        }
                    }
                }
                // Events of this time tell nothing: a client who left is noticed when it is answered.
                State::Asked { .. } => return Ok(Turn::Wait),
                State::Sending { file, keep_alive } => {
                    let before = self.stream.waiting();
                    let flushed = self.stream.flush()?;
                    if self.stream.waiting() < before {
                        self.deadline = now + IDLE_TIME;
                    }
                    if !flushed {
                        return Ok(Turn::Wait);
                    }
                    let mut slice = SLICE as u64;
                    while let Some(part) = file.as_mut().filter(|part| part.at < part.end) {
                        if slice == 0 {
                            return Ok(Turn::Yield);
                        }
                        if part.at == part.ready {
                            return Ok(Turn::Wait);
                        }
                        let count = slice.min(part.ready - part.at);
                        let sent = match self.stream.send_file(&part.file, part.at, count as usize) {
                            Ok(sent) => sent as u64,
                            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Wait),
                            Err(e) => return Err(e),
                        };
                        part.at += sent;
                        slice -= sent;
                        counters.body_bytes += sent;
                        self.deadline = now + IDLE_TIME;
                    }
                    if *keep_alive {
                        self.state = State::Head;
                        self.deadline = now + HEAD_TIME;
                        return Ok(Turn::Yield);
                    }
                    self.stream.end()?;
                    self.state = State::Leaving;
                    self.deadline = now + LEAVE_TIME;
                }
                State::Leaving => {
                    let fill = self.stream.fill()?;
                    self.stream.consume(self.stream.received().len());
                    return Ok(match fill {
                        Fill::Drained => Turn::Wait,
                        Fill::Full => Turn::Yield,
                        Fill::Ended => Turn::Close,
                    });
                }
            }
        }
    }

    fn say(&mut self, status: u16, text: &str, head: bool, keep_alive: bool, now: Instant) {
        let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut end = text.len().min(ANSWER_MAX / 2);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let body = format!("{}\n", &text[..end]);
        let fields =
            format!("Content-Type: text/plain; charset=utf-8\r\n{allow}Content-Length: {}\r\n", body.len());
        self.answer(status, &fields, if head { "" } else { &body }, None, keep_alive, now);
    }

    fn answer(
        &mut self,
        status: u16,
        fields: &str,
        body: &str,
        file: Option<Part>,
        keep_alive: bool,
        now: Instant,
    ) {
        let connection = if keep_alive { "" } else { "Connection: close\r\n" };
        let answer = format!("HTTP/1.1 {status} {}\r\n{fields}{connection}\r\n{body}", reason(status));
        self.stream.send(answer.as_bytes()).expect("one answer fits, and the one before it was flushed");
        self.state = State::Sending { file, keep_alive };
        self.deadline = now + IDLE_TIME;
    }
}

/// Says why in one attempt; the client sees a closed connection if even that does not fit.
fn turn_away(socket: &mut mio::net::TcpStream) {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = io::Write::write(socket, answer.as_bytes());
}
