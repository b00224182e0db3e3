//! Byte streams of the loop: non-blocking, buffered, bounded both ways, closed once all is sent.
//!
//! A stream is registered once for reading and writing; mio reports edges, so whoever gets an event reads
//! until [`Fill::Drained`] and flushes, or calls [`Stream::rearm`] to be called again. Deadlines are the
//! owner's: a stream knows no clock.

use super::tls::Tls;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustls::pki_types::CertificateDer;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;

/// Bytes asked of the kernel at once.
const READ_STEP: usize = 16 * 1024;

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Unix(UnixStream),
}

/// What is left to do after [`Stream::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The kernel has no more; an event will come.
    Drained,
    /// The buffer is full, or the peer has had its share of the turn: consume, then fill again or
    /// [`Stream::rearm`].
    Full,
    /// The peer sends no more. What was received before can still be consumed.
    Ended,
}

/// More than the bound would wait to be sent. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} bytes wait already for a peer that reads slowly, {bound} may")]
pub struct Overflow {
    pub waiting: usize,
    pub bound: usize,
}

/// Who is at the other end of a Unix socket, as the kernel knows it from the time of the connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    received: Vec<u8>,
    received_max: usize,
    outgoing: Vec<u8>,
    /// How much of `outgoing` the kernel has taken.
    sent: usize,
    /// The last byte that the kernel has taken ended no line.
    mid_line: bool,
    outgoing_max: usize,
    closing: bool,
    ended: bool,
}

impl Stream {
    /// At most `received_max` bytes wait to be consumed and `outgoing_max` to be sent.
    pub fn tcp(socket: TcpStream, received_max: usize, outgoing_max: usize) -> Self {
        // Small requests and answers; where it fails they are slower, not wrong.
        let _ = socket.set_nodelay(true);
        Self::new(Socket::Tcp(socket), received_max, outgoing_max)
    }

    /// TCP under TLS, bounded as [`tcp`](Self::tcp): nothing is taken to be sent before the handshake is over.
    pub fn tls(
        socket: TcpStream,
        connection: impl Into<rustls::Connection>,
        received_max: usize,
        outgoing_max: usize,
    ) -> Self {
        let _ = socket.set_nodelay(true);
        Self::new(Socket::Tls(Box::new(Tls::new(socket, connection))), received_max, outgoing_max)
    }

    /// As [`tcp`](Self::tcp).
    pub fn unix(socket: UnixStream, received_max: usize, outgoing_max: usize) -> Self {
        Self::new(Socket::Unix(socket), received_max, outgoing_max)
    }

    fn new(socket: Socket, received_max: usize, outgoing_max: usize) -> Self {
        Self {
            socket,
            received: Vec::new(),
            received_max,
            outgoing: Vec::new(),
            sent: 0,
            mid_line: false,
            outgoing_max,
            closing: false,
            ended: false,
        }
    }

    /// Asks for events of reading and writing under this token.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Asks for another event although the kernel's readiness has not changed: for an owner who stopped
    /// early so that others get their turn.
    pub fn rearm(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().reregister(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Socket::Tcp(socket) => socket,
            Socket::Tls(tls) => &mut tls.socket,
            Socket::Unix(socket) => socket,
        }
    }

    /// At most so many bytes per second leave from now on, by the kernel's own pacing; `None`: as TCP likes. Nothing
    /// over TLS or a Unix socket.
    pub fn pace(&self, bytes_per_second: Option<u64>) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => super::pacing::set(socket.as_fd(), bytes_per_second),
            Socket::Tls(_) | Socket::Unix(_) => Ok(()),
        }
    }

    /// Whether a TLS handshake has not come to its end.
    pub fn is_handshaking(&self) -> bool {
        matches!(&self.socket, Socket::Tls(tls) if tls.is_handshaking())
    }

    /// What the peer has shown in a TLS handshake that is over.
    pub fn shown(&self) -> Option<&[CertificateDer<'static>]> {
        match &self.socket {
            Socket::Tls(tls) => tls.shown(),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }

    /// `None` for TCP.
    pub fn peer(&self) -> io::Result<Option<Peer>> {
        match &self.socket {
            Socket::Tcp(_) | Socket::Tls(_) => Ok(None),
            Socket::Unix(socket) => {
                let peer = getsockopt(socket, PeerCredentials)?;
                Ok(Some(Peer { uid: peer.uid(), gid: peer.gid() }))
            }
        }
    }

    /// Whether a connect that was begun has come to its end: `Ok(false)` while it has not.
    pub fn connected(&self) -> io::Result<bool> {
        let (failure, peer) = match &self.socket {
            Socket::Tcp(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
            Socket::Tls(tls) => (tls.socket.take_error()?, tls.socket.peer_addr().map(drop)),
            Socket::Unix(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
        };
        match (failure, peer) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(true),
            (None, Err(e)) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(e)) => Err(e),
        }
    }

    /// Reads until the kernel has no more, the buffer is full, or the peer has ended.
    pub fn fill(&mut self) -> io::Result<Fill> {
        if self.ended {
            return Ok(Fill::Ended);
        }
        loop {
            let room = self.received_max - self.received.len();
            if room == 0 {
                return Ok(Fill::Full);
            }
            let start = self.received.len();
            self.received.resize(start + room.min(READ_STEP), 0);
            let read = match &mut self.socket {
                Socket::Tcp(socket) => socket.read(&mut self.received[start..]),
                Socket::Tls(tls) => tls.read(&mut self.received[start..]),
                Socket::Unix(socket) => socket.read(&mut self.received[start..]),
            };
            self.received.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    self.ended = true;
                    return Ok(Fill::Ended);
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Fill::Drained),
                Err(e) if e.kind() == io::ErrorKind::QuotaExceeded => return Ok(Fill::Full),
                Err(e) => return Err(e),
            }
        }
    }

    /// What has been read and not consumed.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Forgets the first `count` received bytes.
    pub fn consume(&mut self, count: usize) {
        self.received.drain(..count);
    }

    /// Takes all of `bytes` to be sent, or nothing of them. Sends as much as the kernel takes only at
    /// [`flush`](Self::flush).
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        let waiting = self.waiting();
        if waiting + bytes.len() > self.outgoing_max {
            return Err(Overflow { waiting, bound: self.outgoing_max });
        }
        self.outgoing.drain(..self.sent);
        self.sent = 0;
        self.outgoing.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes taken and not yet sent.
    pub fn waiting(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Forgets what has not been sent, up to the end of the line that the peer has begun to read; returns
    /// how many bytes it forgot.
    pub fn drop_unsent_lines(&mut self) -> usize {
        let unsent = &self.outgoing[self.sent..];
        let line_end = || unsent.iter().position(|c| *c == b'\n').map_or(unsent.len(), |at| at + 1);
        let keep = if self.mid_line { line_end() } else { 0 };
        let dropped = unsent.len() - keep;
        self.outgoing.truncate(self.sent + keep);
        dropped
    }

    /// Sends until all is sent or the kernel takes no more; true where nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            let written = match &mut self.socket {
                Socket::Tcp(socket) => socket.write(rest),
                Socket::Tls(tls) => tls.write(rest),
                Socket::Unix(socket) => socket.write(rest),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.sent += count;
                    self.mid_line = self.outgoing[self.sent - 1] != b'\n';
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        let Socket::Tls(tls) = &mut self.socket else { return Ok(true) };
        if self.closing && !tls.is_handshaking() {
            tls.bid_farewell();
        }
        tls.flush()
    }

    /// Hands up to `count` bytes of `file` from `offset` to the kernel without copying them (sendfile(2)),
    /// after all that was flushed; returns how many it took. `WouldBlock` where it takes none now;
    /// `UnexpectedEof` where the file has become shorter; `Unsupported` under TLS.
    pub fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        debug_assert_eq!(self.waiting(), 0, "the file comes after what was sent before");
        let mut at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            let sent = match &self.socket {
                Socket::Tcp(socket) => sendfile64(socket, file, Some(&mut at), count),
                Socket::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
                Socket::Unix(socket) => sendfile64(socket, file, Some(&mut at), count),
            };
            match sent {
                Ok(0) if count > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => return Ok(sent),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Tells the peer that nothing more will be sent; it can still be read from.
    pub fn end(&mut self) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Tls(tls) => {
                tls.bid_farewell();
                tls.flush().map(drop)
            }
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// The stream is to end once all is sent; what still comes in is of no interest.
    pub fn close_after_flush(&mut self) {
        self.closing = true;
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether nothing is left to do but to drop the stream.
    pub fn is_finished(&self) -> bool {
        let unsent = matches!(&self.socket, Socket::Tls(tls) if tls.has_unsent());
        self.closing && self.waiting() == 0 && !unsent
    }
}

#[cfg(test)]
mod tests;
