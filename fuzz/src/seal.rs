//! Keys that never change, and signatures and tags for what the fuzzer makes up: behind them stands most of the
//! code that reads it, and no fuzzer can guess them.

use farmcast::wire::Encoder;
use farmcast::wire::envelope::{ENVELOPE_MAGIC, Sealer};
use farmcast::wire::id::{Name, NodeId};
use farmcast::wire::seal::{Certificate, Domain, SegmentKey, SigningKey};
use std::sync::LazyLock;

/// Bytes of an envelope in front of the body and behind the segment: sender, boot, sequence, epoch.
const LIFE_LEN: usize = 20;

/// Signs whatever the CCM or a publisher signs.
pub static AUTHORITY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed([1; 32]));
/// A node that may lead.
pub static NODE: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed([2; 32]));

pub static CERTIFICATE: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::issue(&AUTHORITY, NODE.public(), true, 1_000_000));

pub static SEALER: LazyLock<Sealer> = LazyLock::new(|| {
    let segment = Name::new("boston").expect("it is a name");
    let (node, enroller) = (SigningKey::from_seed([2; 32]), AUTHORITY.public());
    Sealer::new(&segment, SegmentKey([9; 32]), node, CERTIFICATE.clone(), enroller)
});

pub fn node_id() -> NodeId {
    CERTIFICATE.node()
}

/// The kinds of messages that carry a certificate and a signature (docs/PROTOCOL.md).
const SIGNED_KINDS: [u8; 8] = [1, 2, 3, 4, 6, 7, 11, 13];

/// A datagram of this kind that opens if `rest` is right: boot, sequence and epoch, and behind them the body.
pub fn datagram(kind: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let (life, body) = rest.split_at_checked(LIFE_LEN)?;
    let segment = u32::from_be_bytes(*blake3::hash(b"boston").as_bytes().first_chunk()?);
    let mut out = Encoder::new();
    out.raw(&ENVELOPE_MAGIC).u8(1).u8(kind).u32(segment);
    node_id().encode(&mut out);
    out.raw(life);
    if SIGNED_KINDS.contains(&kind) {
        CERTIFICATE.encode(&mut out);
        out.raw(body);
        NODE.sign(Domain::Control, out.as_bytes()).encode(&mut out);
    } else {
        out.raw(body);
    }
    let tag = SegmentKey([9; 32]).tag(out.as_bytes());
    Some(out.raw(&tag).finish())
}

/// What [`datagram`] needs for a message that we sealed ourselves: the kind, and the rest.
pub fn undo(datagram: &[u8]) -> Option<(u8, Vec<u8>)> {
    let kind = *datagram.get(3)?;
    let life = datagram.get(16..16 + LIFE_LEN)?;
    let body = datagram.get(16 + LIFE_LEN..datagram.len().checked_sub(16)?)?;
    let body = if SIGNED_KINDS.contains(&kind) { body.get(Certificate::LEN..body.len() - 64)? } else { body };
    Some((kind, [life, body].concat()))
}

/// The document and its signature.
pub fn signed(key: &SigningKey, domain: Domain, document: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.raw(document);
    key.sign(domain, document).encode(&mut out);
    out.finish()
}

/// The document without its signature.
pub fn unsigned(mut document: Vec<u8>) -> Vec<u8> {
    document.truncate(document.len() - 64);
    document
}
