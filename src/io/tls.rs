//! A TCP socket under TLS, for the loop: handshake and records go along with reading and writing, nothing waits.
//!
//! What waits here is bounded: records received as rustls bounds them (64 KiB while shaking hands, one record of plain
//! text behind it), records to be sent by [`RECORDS_MAX`].

use mio::net::TcpStream;
use rustls::Connection;
use rustls::pki_types::CertificateDer;
use std::io::{self, ErrorKind, Read, Write};

/// Most plain text whose records wait for the kernel.
const RECORDS_MAX: usize = 16 * 1024;
/// Reads of the kernel at one call: a peer that sends records without content holds nobody up.
const STEPS_MAX: usize = 16;

#[derive(Debug)]
pub struct Tls {
    pub(super) socket: TcpStream,
    connection: Connection,
    bid_farewell: bool,
}

impl Tls {
    pub fn new(socket: TcpStream, connection: impl Into<Connection>) -> Self {
        let mut connection = connection.into();
        connection.set_buffer_limit(Some(RECORDS_MAX));
        Self { socket, connection, bid_farewell: false }
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What the peer has shown, once the handshake is over.
    pub fn shown(&self) -> Option<&[CertificateDer<'static>]> {
        if self.is_handshaking() { None } else { self.connection.peer_certificates() }
    }

    /// As `Read::read`; [`ErrorKind::QuotaExceeded`] where the peer has had its share of this turn. 0 is the end that
    /// the peer announced; one that it did not announce is an error.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..STEPS_MAX {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                end => return end,
            }
            self.connection.read_tls(&mut self.socket)?;
            if let Err(error) = self.connection.process_new_packets() {
                // The alert says why; where it cannot be sent at once, the end says it too.
                let _ = self.flush();
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            // What the handshake has to say. Where the kernel takes no more, an event will come.
            self.flush()?;
        }
        Err(ErrorKind::QuotaExceeded.into())
    }

    /// Takes plain text to be sent, as much as may wait; `WouldBlock` while the handshake goes on.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush()? || self.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.connection.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Hands the kernel the records that wait; true where none is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub fn has_unsent(&self) -> bool {
        self.connection.wants_write()
    }

    /// Announces the end, so that the peer can tell it from a cut.
    pub fn bid_farewell(&mut self) {
        if !std::mem::replace(&mut self.bid_farewell, true) {
            self.connection.send_close_notify();
        }
    }
}
