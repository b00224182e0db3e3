//! Waiting for events: one poll, one deadline (style: the loop of docs/ARCHITECTURE.md).

use crate::time::{Duration, Instant};
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::io;
use std::os::fd::RawFd;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

pub struct Reactor {
    poll: Poll,
    events: Events,
}

impl Reactor {
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(EVENTS_MAX) })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    pub fn watch(&self, source: &mut impl Source, token: Token, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(source, token, interest)
    }

    /// Watches a descriptor that mio has no type for; its owner must outlive the registration.
    pub fn watch_fd(&self, fd: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Waits until an event comes or the deadline passes, and returns the events' tokens with whether
    /// they are readable and writable. An interrupted wait returns none.
    pub fn wait(&mut self, now: Instant, deadline: Option<Instant>) -> io::Result<Vec<Ready>> {
        let timeout = deadline.map(|at| {
            // The kernel waits whole milliseconds; rounding down would spin until the deadline comes.
            let span = at.since(now);
            if span == Duration::ZERO { span } else { span + Duration::from_micros(50) }.into()
        });
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let ready = |event: &mio::event::Event| Ready {
            token: event.token(),
            readable: event.is_readable() || event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        };
        Ok(self.events.iter().map(ready).collect())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
}
