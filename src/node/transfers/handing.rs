//! A notification on its way to another leader's text port (GD-12): TLS, who we are, the document, its reply.

use super::{Done, Transfer, Transfers};
use crate::io::stream::{Fill, Stream};
use crate::time::{Duration, Instant};
use crate::wire::id::{AssignmentId, NodeId, hex};
use crate::wire::notify::NextLeader;
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::{Encoder, tls};
use mio::net::TcpStream;
use mio::{Registry, Token};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;

/// From connection to reply.
const HAND_TIME: Duration = Duration::from_secs(3);
/// Longest line of a text port that we read, and most that we write.
const LINE_MAX: usize = 8 << 10;
/// The greeting, and what is said of our certificate, come before the reply that counts.
const BEFORE: u8 = 2;

/// Who this node is to other leaders.
#[derive(Debug)]
pub struct Caller {
    pub key: SigningKey,
    pub certificate: Certificate,
}

impl Caller {
    /// The line that says who we are, behind a handshake that has shown our key.
    fn hello(&self) -> String {
        let mut out = Encoder::new();
        self.certificate.encode(&mut out);
        format!("hello document={}\n", hex(out.as_bytes()))
    }

    fn call(&self, to: NodeId, at: SocketAddr) -> Result<Stream, String> {
        let name = ServerName::from(at.ip());
        let connection =
            ClientConnection::new(tls::client(&self.key, to), name).map_err(|error| error.to_string())?;
        let socket = TcpStream::connect(at).map_err(|error| error.to_string())?;
        Ok(Stream::tls(socket, connection, LINE_MAX, LINE_MAX))
    }
}

#[derive(Debug)]
pub(super) struct Handing {
    pub(super) assignment: AssignmentId,
    stream: Stream,
    /// Lines of the port that have come.
    lines: u8,
    pub(super) deadline: Instant,
}

impl Transfers {
    /// Gives a notification to the leader `to` at its text port.
    pub fn hand(
        &mut self,
        registry: &Registry,
        assignment: AssignmentId,
        to: NodeId,
        next: &NextLeader,
        now: Instant,
    ) -> Option<Done> {
        let failed = |text: String| Some(Done::Handed(assignment, Err(text)));
        let Some(place) = self.free_place() else { return failed("too many transfers".to_owned()) };
        let mut stream = match self.caller.call(to, next.text) {
            Ok(stream) => stream,
            Err(text) => return failed(text),
        };
        let lines = format!("{}notify document={}\n", self.caller.hello(), hex(&next.notification));
        if stream.send(lines.as_bytes()).is_err() {
            return failed("the notification is too long".to_owned());
        }
        if let Err(error) = stream.register(registry, self.token(place)) {
            return failed(error.to_string());
        }
        let handing = Handing { assignment, stream, lines: 0, deadline: now + HAND_TIME };
        self.places[place] = Some(Transfer::Hand(Box::new(handing)));
        None
    }
}

impl Handing {
    /// Goes on as far as it gets; `Some` at its end.
    pub(super) fn drive(
        &mut self,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Option<Result<(), String>> {
        match self.turn(registry, token) {
            Ok(true) => Some(Ok(())),
            Ok(false) if now >= self.deadline => Some(Err("no answer in time".to_owned())),
            Ok(false) => None,
            Err(text) => Some(Err(text)),
        }
    }

    /// True once the notification was taken.
    fn turn(&mut self, registry: &Registry, token: Token) -> Result<bool, String> {
        let text = |error: std::io::Error| error.to_string();
        if !self.stream.connected().map_err(text)? {
            return Ok(false);
        }
        // A handshake begins with what the client says; the lines go out when it is over.
        self.stream.flush().map_err(text)?;
        // What came before a connection broke counts.
        let fill = self.stream.fill();
        while let Some(end) = self.stream.received().iter().position(|byte| *byte == b'\n') {
            let reply = String::from_utf8_lossy(&self.stream.received()[..end]).into_owned();
            self.stream.consume(end + 1);
            let good = reply.starts_with(if self.lines == 0 { '1' } else { '2' });
            self.lines += 1;
            match (good, self.lines > BEFORE) {
                (true, true) => return Ok(true),
                (true, false) => {}
                (false, _) => return Err(reply),
            }
        }
        let fill = fill.map_err(text)?;
        self.stream.flush().map_err(text)?;
        match fill {
            Fill::Ended => Err("it closed the connection".to_owned()),
            Fill::Drained => Ok(false),
            Fill::Full => self.stream.rearm(registry, token).map(|()| false).map_err(text),
        }
    }
}
