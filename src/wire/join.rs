//! How a node joins a farm: a one-time token carries a key under which both sides seal what they say.
//!
//! The token never crosses the network: the node sends its id (a hash of it) and seals its public key and
//! name under it; the CCM answers with the certificate and the farm's keys, sealed likewise. An
//! eavesdropper learns nothing, and nobody without the token can answer in the CCM's place.

use super::id::{Name, hex, unhex};
use super::seal::{Certificate, PublicKey, SegmentKey, open_secret, seal_secret};
use super::{Decoder, Encoder, Malformed};
use std::fmt;
use std::str::FromStr;

/// What every node knows of its farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Farm {
    /// Signs assignments.
    pub publisher: PublicKey,
    /// Signs orders and notifications.
    pub director: PublicKey,
    /// Signs certificates.
    pub enroller: PublicKey,
    /// From which segment keys are derived.
    pub secret: FarmSecret,
}

/// The secret that all nodes of a farm share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FarmSecret(pub [u8; 32]);

impl fmt::Debug for FarmSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FarmSecret(..)")
    }
}

impl Farm {
    /// The key of a segment: two segments that hear each other do not understand each other.
    pub fn segment_key(&self, segment: &Name) -> SegmentKey {
        let mut hasher = blake3::Hasher::new_derive_key("farmcast/1 segment key");
        hasher.update(&self.secret.0).update(segment.as_str().as_bytes());
        SegmentKey(*hasher.finalize().as_bytes())
    }

    pub fn encode(&self, out: &mut Encoder) {
        self.publisher.encode(out);
        self.director.encode(out);
        self.enroller.encode(out);
        out.raw(&self.secret.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            publisher: PublicKey::decode(from)?,
            director: PublicKey::decode(from)?,
            enroller: PublicKey::decode(from)?,
            secret: FarmSecret(from.array("farm secret")?),
        })
    }
}

/// A one-time token, as the operator carries it: `fcj1-` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// How the CCM finds the token; tells nothing about it.
    pub fn id(&self) -> [u8; 16] {
        let hash = blake3::derive_key("farmcast/1 join token id", &self.0);
        *hash.first_chunk().expect("a hash is longer than an id")
    }

    fn key(&self) -> [u8; 32] {
        blake3::derive_key("farmcast/1 join token key", &self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fcj1-{}", hex(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = text.strip_prefix("fcj1-").and_then(unhex).ok_or(Malformed::OutOfBounds("token"))?;
        Ok(Self(bytes.try_into().map_err(|_| Malformed::OutOfBounds("token"))?))
    }
}

/// What a node sends to `/v1/join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    pub public_key: PublicKey,
    pub name: Name,
}

impl JoinRequest {
    pub fn seal(&self, token: &Token) -> Vec<u8> {
        let mut out = Encoder::new();
        self.public_key.encode(&mut out);
        self.name.encode(&mut out);
        [&token.id()[..], &seal_secret(&token.key(), b"join request", out.as_bytes())].concat()
    }

    /// The token id in front of a sealed request.
    pub fn token_id(bytes: &[u8]) -> Result<[u8; 16], Malformed> {
        Decoder::new(bytes).array("token id")
    }

    pub fn open(bytes: &[u8], token: &Token) -> Result<Self, Malformed> {
        let sealed = bytes.get(16..).ok_or(Malformed::Truncated("join request"))?;
        let plain = open_secret(&token.key(), b"join request", sealed)?;
        let mut from = Decoder::new(&plain);
        let request = Self { public_key: PublicKey::decode(&mut from)?, name: Name::decode(&mut from)? };
        from.finish()?;
        Ok(request)
    }
}

/// What the CCM answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    pub certificate: Certificate,
    pub farm: Farm,
}

impl JoinReply {
    pub fn seal(&self, token: &Token) -> Vec<u8> {
        let mut out = Encoder::new();
        self.certificate.encode(&mut out);
        self.farm.encode(&mut out);
        seal_secret(&token.key(), b"join reply", out.as_bytes())
    }

    pub fn open(bytes: &[u8], token: &Token) -> Result<Self, Malformed> {
        let plain = open_secret(&token.key(), b"join reply", bytes)?;
        let mut from = Decoder::new(&plain);
        let reply = Self { certificate: Certificate::decode(&mut from)?, farm: Farm::decode(&mut from)? };
        from.finish()?;
        reply.certificate.verify(&reply.farm.enroller)?;
        Ok(reply)
    }
}
