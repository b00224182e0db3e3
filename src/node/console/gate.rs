//! Who comes in over TCP, and how far: by the key that TLS has shown.

use super::super::verbs::Level;
use crate::io::stream::Stream;
use crate::wire::seal::{Certificate, PublicKey, SigningKey};
use crate::wire::{Decoder, Malformed, tls};
use rustls::{ServerConfig, ServerConnection};
use std::sync::Arc;

/// Knows the farm's keys. The director may look at everything; a node of the farm, once it has brought its
/// certificate, hands in documents; nobody else does anything.
#[derive(Debug)]
pub struct Gate {
    config: Arc<ServerConfig>,
    director: PublicKey,
    enroller: PublicKey,
}

impl Gate {
    pub fn new(own: &SigningKey, director: PublicKey, enroller: PublicKey) -> Self {
        Self { config: tls::server(own), director, enroller }
    }

    /// A client that has connected; the handshake goes on as its bytes come.
    pub(super) fn receive(
        &self,
        socket: mio::net::TcpStream,
        received_max: usize,
        outgoing_max: usize,
    ) -> Stream {
        let connection = ServerConnection::new(Arc::clone(&self.config)).expect("the configuration is whole");
        Stream::tls(socket, connection, received_max, outgoing_max)
    }

    /// What the holder of a key may do.
    pub(super) fn level(&self, key: &PublicKey) -> Level {
        if *key == self.director { Level::Observe } else { Level::Guest }
    }

    /// Checks that the certificate is of this farm, and of the key that was shown.
    pub(super) fn vouch(&self, key: &PublicKey, document: &[u8]) -> Result<(), Malformed> {
        let mut from = Decoder::new(document);
        let certificate = Certificate::decode(&mut from)?;
        from.finish()?;
        certificate.verify(&self.enroller)?;
        if certificate.public_key != *key {
            return Err(Malformed::Forged("certificate"));
        }
        Ok(())
    }
}
