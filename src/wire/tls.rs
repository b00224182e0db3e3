//! TLS 1.3 between programs of a farm: both sides show a raw public key (RFC 7250), their Ed25519 key of the farm.
//!
//! There is no X.509: the enroller has certified every node's key already, and the director's is known to all. A
//! handshake proves that the other side holds the key that it shows; whose key that is, the client asks here
//! ([`client`], by the node's id, which is a hash of the key), and the server asks of [`peer_key`].

use super::id::NodeId;
use super::seal::{PublicKey, SigningKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme, WantsVerifier, version::TLS13,
};
use std::sync::Arc;

/// What stands before the 32 bytes of an Ed25519 public key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of a seed in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// How a node answers: under its own key, and only to those who show one.
pub fn server(own: &SigningKey) -> Arc<ServerConfig> {
    let mut config = server_builder()
        .with_client_cert_verifier(Arc::new(AnyKey))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(shown(own))));
    // A session is one request: nobody comes back with a ticket.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

/// How to call on the node `to`, under the key `own`.
pub fn client(own: &SigningKey, to: NodeId) -> Arc<ClientConfig> {
    let mut config = client_builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyOf(to)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown(own))));
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The key that the other side has shown and proven to hold; `None` where it has not, or not yet.
pub fn peer_key(shown: Option<&[CertificateDer<'_>]>) -> Option<PublicKey> {
    match shown? {
        [only] => key_of(only).ok(),
        _ => None,
    }
}

/// The one cryptography of all TLS here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A server of TLS 1.3 and nothing older.
pub fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    builder.expect("the provider has TLS 1.3")
}

/// A client of TLS 1.3 and nothing older.
pub fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    builder.expect("the provider has TLS 1.3")
}

/// What a verifier says of a handshake that [`server_builder`] and [`client_builder`] never begin.
///
/// # Errors
/// Always.
pub fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
}

fn shown(own: &SigningKey) -> Arc<CertifiedKey> {
    let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8[..], own.seed()].concat());
    let key = aws_lc_rs::sign::any_eddsa_type(&pkcs8).expect("a seed makes an Ed25519 key");
    let public = CertificateDer::from([&SPKI[..], &own.public().0].concat());
    Arc::new(CertifiedKey::new(vec![public], key))
}

fn key_of(shown: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let key = shown.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
    key.map(PublicKey).ok_or(Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension))
}

fn check(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
}

/// Takes any Ed25519 key of a client; the text port asks whose it is before it takes a line.
#[derive(Debug)]
struct AnyKey;

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(shown).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes the key of one node.
#[derive(Debug)]
struct KeyOf(NodeId);

impl ServerCertVerifier for KeyOf {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let node = NodeId::of_key(&key_of(shown)?.0);
        if node != self.0 {
            return Err(Error::General(format!("node {node} answers, not {}", self.0)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, Connection, ServerConnection};
    use std::net::Ipv4Addr;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed([number; 32])
    }

    /// Lets two ends talk until neither has anything to say; the first error of either.
    fn shake(client: &mut Connection, server: &mut Connection) -> Result<(), Error> {
        for _ in 0..8 {
            for turn in 0..2 {
                let (from, to) =
                    if turn == 0 { (&mut *client, &mut *server) } else { (&mut *server, &mut *client) };
                let mut bytes = Vec::new();
                from.write_tls(&mut bytes).unwrap();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    to.read_tls(&mut rest).unwrap();
                    to.process_new_packets()?;
                }
            }
        }
        Ok(())
    }

    fn ends(client: Arc<ClientConfig>, server: &SigningKey) -> (Connection, Connection) {
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let client = ClientConnection::new(client, name).unwrap();
        (client.into(), ServerConnection::new(super::server(server)).unwrap().into())
    }

    #[test]
    fn each_side_learns_the_key_of_the_other() {
        let (mut client, mut server) =
            ends(super::client(&key(1), NodeId::of_key(&key(2).public().0)), &key(2));
        shake(&mut client, &mut server).unwrap();
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(peer_key(server.peer_certificates()), Some(key(1).public()));
        assert_eq!(peer_key(client.peer_certificates()), Some(key(2).public()));
        assert_eq!(peer_key(None), None);
    }

    #[test]
    fn a_client_talks_to_nobody_but_the_node_that_it_means() {
        let (mut client, mut server) =
            ends(super::client(&key(1), NodeId::of_key(&key(3).public().0)), &key(2));
        let error = shake(&mut client, &mut server).unwrap_err().to_string();
        assert!(error.contains("answers, not"), "{error}");
        assert!(server.is_handshaking());
    }

    #[test]
    fn a_client_that_shows_no_key_is_refused() {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyOf(NodeId::of_key(&key(2).public().0))))
            .with_no_client_auth();
        let (mut client, mut server) = ends(Arc::new(config), &key(2));
        assert!(shake(&mut client, &mut server).is_err());
        assert!(server.is_handshaking());
    }

    #[test]
    fn a_client_that_shows_a_key_which_it_does_not_hold_is_refused() {
        // The public key of 4, and signatures by 1.
        let signs = shown(&key(1)).key.clone();
        let public = CertificateDer::from([&SPKI[..], &key(4).public().0].concat());
        let lies = Arc::new(CertifiedKey::new(vec![public], signs));
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyOf(NodeId::of_key(&key(2).public().0))))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(lies)));
        let (mut client, mut server) = ends(Arc::new(config), &key(2));
        assert!(shake(&mut client, &mut server).is_err());
        assert!(server.is_handshaking());
    }
}
