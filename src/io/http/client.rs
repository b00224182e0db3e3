//! One request to a server, on a connection of its own.

use super::head::{HEAD_MAX, Range, Unusable, parse_response};
use crate::io::stream::{Fill, Stream};
use crate::time::{Duration, Instant};
use mio::net::TcpStream;
use mio::{Registry, Token};
use std::io;
use std::net::SocketAddr;

/// Most bytes of a body in one [`Event::Body`].
pub const CHUNK_MAX: usize = 256 * 1024;

/// What has come of the request.
#[derive(Debug)]
pub enum Event<'a> {
    /// Comes once, before all others but `Failed`.
    Head {
        status: u16,
        /// Bytes of the body to come.
        content_length: u64,
        /// The server's clock, nanoseconds since 1970 (`x-farmcast-time`).
        time: Option<u64>,
    },
    /// The next bytes of the body, at most [`CHUNK_MAX`].
    Body(&'a [u8]),
    /// The whole body was given. Nothing comes after it.
    Done,
    /// Nothing comes after it.
    Failed(Error),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the connection to {0} broke: {1}")]
    Broken(SocketAddr, io::Error),
    #[error("{0} closed the connection before its answer was whole")]
    Closed(SocketAddr),
    #[error("no progress with {0} for {1}")]
    Idle(SocketAddr, Duration),
    #[error("answer of {0}: {1}")]
    Unusable(SocketAddr, Unusable),
}

#[derive(Debug)]
enum State {
    Connecting,
    /// Sending the request, or waiting for the head.
    Head,
    Body {
        left: u64,
    },
    Ended,
}

/// A request under way. Register it, and at each of its events call [`next`](Self::next) until it gives
/// `None`, or stop before and call [`rearm`](Self::rearm). Let `None` come from [`next`](Self::next) also
/// when [`deadline`](Self::deadline) has passed: it then fails.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    stream: Stream,
    state: State,
    /// Bytes of the last chunk, which the owner has seen.
    given: usize,
    idle: Duration,
    deadline: Instant,
}

impl Client {
    /// Begins `GET path`, of a part only where `range` is given. Fails as the answer does, by an event,
    /// if no byte moves for `idle`.
    pub fn get(
        addr: SocketAddr,
        path: &str,
        range: Option<Range>,
        now: Instant,
        idle: Duration,
    ) -> Result<Self, Error> {
        debug_assert!(is_target(path), "{path:?}");
        let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{range}Connection: close\r\n\r\n");
        Self::begin(addr, head.into_bytes(), now, idle)
    }

    /// Begins `POST path`; as [`get`](Self::get).
    pub fn post(
        addr: SocketAddr,
        path: &str,
        content_type: &str,
        body: &[u8],
        now: Instant,
        idle: Duration,
    ) -> Result<Self, Error> {
        debug_assert!(is_target(path), "{path:?}");
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Self::begin(addr, request, now, idle)
    }

    fn begin(addr: SocketAddr, request: Vec<u8>, now: Instant, idle: Duration) -> Result<Self, Error> {
        let socket = TcpStream::connect(addr).map_err(|e| Error::Connect(addr, e))?;
        let mut stream = Stream::tcp(socket, CHUNK_MAX, request.len());
        stream.send(&request).expect("the bound is the request's own length");
        Ok(Self { addr, stream, state: State::Connecting, given: 0, idle, deadline: now + idle })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    /// Asks for another event: for an owner who did not call [`next`](Self::next) until `None`.
    pub fn rearm(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.rearm(registry, token)
    }

    /// When [`next`](Self::next) is to be called even without an event.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Ended => None,
            _ => Some(self.deadline),
        }
    }

    /// What has come, as far as it has; `None` where an event is to be waited for.
    pub fn next(&mut self, now: Instant) -> Option<Event<'_>> {
        match self.step(now) {
            Ok(Step::Wait) if now >= self.deadline => {
                self.state = State::Ended;
                Some(Event::Failed(Error::Idle(self.addr, self.idle)))
            }
            Ok(Step::Wait | Step::Over) => None,
            Ok(Step::Head { status, content_length, time }) => {
                self.deadline = now + self.idle;
                Some(Event::Head { status, content_length, time })
            }
            Ok(Step::Body) => {
                self.deadline = now + self.idle;
                Some(Event::Body(&self.stream.received()[..self.given]))
            }
            Ok(Step::Done) => {
                self.state = State::Ended;
                Some(Event::Done)
            }
            Err(error) => {
                self.state = State::Ended;
                Some(Event::Failed(error))
            }
        }
    }

    fn step(&mut self, now: Instant) -> Result<Step, Error> {
        let addr = self.addr;
        let broken = |e| Error::Broken(addr, e);
        self.stream.consume(std::mem::take(&mut self.given));
        loop {
            match self.state {
                State::Ended => return Ok(Step::Over),
                State::Connecting => match self.stream.connected() {
                    Ok(true) => {
                        self.deadline = now + self.idle;
                        self.state = State::Head;
                    }
                    Ok(false) => return Ok(Step::Wait),
                    Err(e) => return Err(Error::Connect(addr, e)),
                },
                State::Head => {
                    let before = self.stream.waiting();
                    // A server may answer and close before it has read all: its answer counts.
                    let sent = self.stream.flush();
                    if self.stream.waiting() < before {
                        self.deadline = now + self.idle;
                    }
                    let filled = self.stream.fill();
                    match parse_response(self.stream.received()).map_err(|e| Error::Unusable(addr, e))? {
                        Some((response, len)) => {
                            self.stream.consume(len);
                            // Interim answers (1xx) come before the one we wait for.
                            if response.status >= 200 {
                                let content_length = response.content_length;
                                self.state = State::Body { left: content_length };
                                return Ok(Step::Head {
                                    status: response.status,
                                    content_length,
                                    time: response.time,
                                });
                            }
                        }
                        None => {
                            sent.map_err(broken)?;
                            return match filled.map_err(broken)? {
                                Fill::Ended => Err(Error::Closed(addr)),
                                Fill::Drained | Fill::Full => Ok(Step::Wait),
                            };
                        }
                    }
                }
                State::Body { left: 0 } => return Ok(Step::Done),
                State::Body { left } => {
                    let filled =
                        if self.stream.received().is_empty() { self.stream.fill() } else { Ok(Fill::Full) };
                    let have = self.stream.received().len() as u64;
                    if have > 0 {
                        let given = have.min(left);
                        self.given = given as usize;
                        self.state = State::Body { left: left - given };
                        return Ok(Step::Body);
                    }
                    return match filled.map_err(broken)? {
                        Fill::Ended => Err(Error::Closed(addr)),
                        Fill::Drained | Fill::Full => Ok(Step::Wait),
                    };
                }
            }
        }
    }
}

/// Paths come from our own code: one that would end the request line early is our bug.
fn is_target(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|c| c.is_ascii_graphic())
}

enum Step {
    Wait,
    Over,
    Head { status: u16, content_length: u64, time: Option<u64> },
    Body,
    Done,
}

const _: () = assert!(HEAD_MAX <= CHUNK_MAX, "a head fits the buffer");
