//! Proofs over bytes: signatures, keyed tags, leaf hashes. Every key has one purpose, told apart by a
//! domain string, so that bytes signed as one kind of document never verify as another.
//!
//! Ed25519 and AES-256-GCM come from aws-lc-rs, BLAKE3 from its reference crate (design D2, section 7).

use super::id::{NodeId, SessionId};
use super::{Decoder, Encoder, Malformed};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

/// What a signature is for; the string goes into the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Publisher over a command buffer.
    Assignment,
    /// Director (CCM) over an order.
    Order,
    /// Director (CCM) over a notification.
    Notification,
    /// Director (CCM) over a list of content groups.
    Groups,
    /// Enroller (CCM) over a node's certificate.
    Certificate,
    /// A node over a message of the control channel.
    Control,
    /// A node over its own status report, which others only carry.
    Report,
    /// A node over a request to the CCM.
    Uplink,
    /// Director (CCM) over who else is in a node's segment.
    Peers,
    /// Director (CCM) over a segment's charter.
    Charter,
    /// Director (CCM) over a request to compare a site with what was signed.
    Scrub,
    /// Director (CCM) over the key of an encrypted assignment, sealed for a node.
    ContentKey,
}

impl Domain {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Assignment => b"farmcast/1 assignment\0",
            Self::Order => b"farmcast/1 order\0",
            Self::Notification => b"farmcast/1 notification\0",
            Self::Groups => b"farmcast/1 groups\0",
            Self::Certificate => b"farmcast/1 certificate\0",
            Self::Control => b"farmcast/1 control\0",
            Self::Report => b"farmcast/1 report\0",
            Self::Uplink => b"farmcast/1 uplink\0",
            Self::Peers => b"farmcast/1 peers\0",
            Self::Charter => b"farmcast/1 charter\0",
            Self::Scrub => b"farmcast/1 scrub\0",
            Self::ContentKey => b"farmcast/1 content key\0",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.context(), bytes].concat()
    }
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    pub fn verify(&self, domain: Domain, bytes: &[u8], signature: &Signature) -> Result<(), Malformed> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&domain.message(bytes), &signature.0)
            .map_err(|_| Malformed::Forged("signature"))
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self(from.array("public key")?))
    }

    pub fn to_hex(&self) -> String {
        super::id::hex(&self.0)
    }

    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let bytes = super::id::unhex(text).ok_or(Malformed::OutOfBounds("public key"))?;
        Ok(Self(bytes.try_into().map_err(|_| Malformed::OutOfBounds("public key"))?))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// An Ed25519 signature, fixed 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    pub const LEN: usize = 64;

    pub fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self(from.array("signature")?))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::id::hex(&self.0[..6]))
    }
}

/// An Ed25519 key pair. The seed is the secret that a key file holds.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are an Ed25519 seed");
        Self { seed, pair }
    }

    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        let signature = self.pair.sign(&domain.message(bytes));
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().to_hex())
    }
}

/// The secret that the nodes of a segment share: keeps outsiders from costing more than one hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SegmentKey(pub [u8; 32]);

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentKey(..)")
    }
}

/// A keyed tag, the first 16 bytes of keyed BLAKE3.
pub const TAG_LEN: usize = 16;

impl SegmentKey {
    pub fn tag(&self, bytes: &[u8]) -> [u8; TAG_LEN] {
        let hash = blake3::keyed_hash(&self.0, bytes);
        *hash.as_bytes().first_chunk().expect("a BLAKE3 hash is longer than a tag")
    }

    /// Compares in constant time.
    pub fn check(&self, bytes: &[u8], tag: &[u8; TAG_LEN]) -> Result<(), Malformed> {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.tag(bytes), tag)
            .map_err(|_| Malformed::Forged("tag"))
    }

    /// The key of one session's frames: one sender, one transmission, hence nonces that never meet again.
    pub fn frame_key(&self, sender: NodeId, session: SessionId, salt: &[u8; 16]) -> FrameKey {
        let mut hasher = blake3::Hasher::new_derive_key("farmcast/1 frame key");
        hasher.update(&self.0).update(&sender.0.to_be_bytes()).update(&session.0.to_be_bytes()).update(salt);
        FrameKey::new(hasher.finalize().as_bytes())
    }
}

/// Tags the frames of one session with AES-256-GMAC (design D3).
///
/// The nonce is the part of the header that makes a frame unique; the payload is the associated data,
/// so it is read where it lies, in the mapped spool or in the receive buffer, and copied nowhere.
pub struct FrameKey {
    key: LessSafeKey,
}

impl FrameKey {
    fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        Self { key: LessSafeKey::new(key) }
    }

    pub fn tag(&self, nonce: [u8; 12], payload: &[u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(payload), &mut [])
            .expect("an empty message is within AES-GCM's bounds");
        tag.as_ref().try_into().expect("an AES-GCM tag has 16 bytes")
    }

    pub fn check(&self, nonce: [u8; 12], payload: &[u8], tag: [u8; TAG_LEN]) -> Result<(), Malformed> {
        let mut sealed = tag;
        self.key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(payload), &mut sealed)
            .map(|_| ())
            .map_err(|_| Malformed::Forged("frame tag"))
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKey(..)")
    }
}

/// Hash of one leaf of a data file. Index and length go in, so that no leaf can stand in another's place.
pub fn leaf_hash(index: u32, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("farmcast/1 leaf");
    hasher.update(&index.to_be_bytes()).update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

/// Random bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator answers");
    bytes
}

/// Seals a secret for whoever holds `key` (a join token's): a 12-byte random nonce, then the ciphertext.
pub fn seal_secret(key: &[u8; 32], context: &[u8], secret: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"));
    let nonce: [u8; 12] = random();
    let mut sealed = secret.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
        .expect("a secret is within AES-GCM's bounds");
    [&nonce[..], &sealed].concat()
}

/// Opens what [`seal_secret`] made.
pub fn open_secret(key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"));
    let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or(Malformed::Truncated("sealed secret"))?;
    let mut opened = sealed.to_vec();
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut opened)
        .map_err(|_| Malformed::Forged("sealed secret"))?;
    Ok(plain.to_vec())
}

/// A node's right to take part: signed by the farm's enroller when the node joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub public_key: PublicKey,
    /// May claim leadership (EL-2).
    pub can_lead: bool,
    /// Claims above this priority are dropped (T13).
    pub priority_cap: u32,
    signature: Signature,
}

impl Certificate {
    /// Encoded length in bytes.
    pub const LEN: usize = 32 + 1 + 4 + Signature::LEN;

    pub fn issue(enroller: &SigningKey, public_key: PublicKey, can_lead: bool, priority_cap: u32) -> Self {
        let signed = Self::signed_bytes(&public_key, can_lead, priority_cap);
        let signature = enroller.sign(Domain::Certificate, &signed);
        Self { public_key, can_lead, priority_cap, signature }
    }

    pub fn node(&self) -> NodeId {
        NodeId::of_key(&self.public_key.0)
    }

    pub fn verify(&self, enroller: &PublicKey) -> Result<(), Malformed> {
        let signed = Self::signed_bytes(&self.public_key, self.can_lead, self.priority_cap);
        enroller.verify(Domain::Certificate, &signed, &self.signature)
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.raw(&Self::signed_bytes(&self.public_key, self.can_lead, self.priority_cap));
        self.signature.encode(out);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            public_key: PublicKey::decode(from)?,
            can_lead: from.bool("can lead")?,
            priority_cap: from.u32("priority cap")?,
            signature: Signature::decode(from)?,
        })
    }

    fn signed_bytes(public_key: &PublicKey, can_lead: bool, priority_cap: u32) -> Vec<u8> {
        let mut out = Encoder::new();
        out.raw(&public_key.0).bool(can_lead).u32(priority_cap);
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_one_kind_is_none_of_another() {
        let key = SigningKey::from_seed([1; 32]);
        let signature = key.sign(Domain::Order, b"commit");
        assert!(key.public().verify(Domain::Order, b"commit", &signature).is_ok());
        assert!(key.public().verify(Domain::Notification, b"commit", &signature).is_err());
        assert!(key.public().verify(Domain::Order, b"commit!", &signature).is_err());
    }

    #[test]
    fn a_frame_tag_binds_header_payload_and_session() {
        let segment = SegmentKey([3; 32]);
        let key = segment.frame_key(NodeId(1), SessionId(2), &[4; 16]);
        let tag = key.tag([5; 12], b"payload");
        assert!(key.check([5; 12], b"payload", tag).is_ok());
        assert!(key.check([6; 12], b"payload", tag).is_err());
        assert!(key.check([5; 12], b"payloaD", tag).is_err());
        let other = segment.frame_key(NodeId(1), SessionId(3), &[4; 16]);
        assert!(other.check([5; 12], b"payload", tag).is_err());
    }

    #[test]
    fn a_certificate_verifies_only_as_issued() {
        let enroller = SigningKey::from_seed([1; 32]);
        let node = SigningKey::from_seed([2; 32]);
        let certificate = Certificate::issue(&enroller, node.public(), true, 900);
        let mut out = Encoder::new();
        certificate.encode(&mut out);
        let bytes = out.finish();
        assert_eq!(bytes.len(), Certificate::LEN);
        let read = Certificate::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(read, certificate);
        assert!(read.verify(&enroller.public()).is_ok());
        let raised = Certificate { priority_cap: 1_000, ..read };
        assert!(raised.verify(&enroller.public()).is_err());
        assert_eq!(certificate.node(), NodeId::of_key(&node.public().0));
    }

    #[test]
    fn a_sealed_secret_opens_only_with_key_and_context() {
        let sealed = seal_secret(&[9; 32], b"node", b"segment key");
        assert_eq!(open_secret(&[9; 32], b"node", &sealed).unwrap(), b"segment key");
        assert!(open_secret(&[8; 32], b"node", &sealed).is_err());
        assert!(open_secret(&[9; 32], b"other", &sealed).is_err());
        assert!(open_secret(&[9; 32], b"node", &sealed[..11]).is_err());
    }

    #[test]
    fn a_leaf_cannot_stand_in_another_leafs_place() {
        assert_ne!(leaf_hash(0, b"x"), leaf_hash(1, b"x"));
        assert_ne!(leaf_hash(0, b"x"), leaf_hash(0, b"x\0"));
    }
}
