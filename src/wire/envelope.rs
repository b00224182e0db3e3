//! The envelope of every message but frames: who, when in its life, keyed tag, and for most a signature.
//!
//! ```text
//!  0   magic 0xFA 0xCA
//!  2   version 1
//!  3   kind
//!  4   segment (u32): hash of its name, so that a stranger's message costs one comparison
//!  8   sender (u64)
//! 16   boot (u32): raised and stored at every start of the sender
//! 20   sequence (u64): raised with every message
//! 28   epoch (u64)
//! 36   body: [certificate] [fields] [signature]      (brackets: by kind)
//! end  tag (16 bytes): keyed BLAKE3 under the segment key over all before
//! ```
//! The tag is checked first; it keeps outsiders from making us check signatures.

use super::charter::Charter;
use super::control::{
    ClockReply, ClockRequest, LeaderAlive, LeaderClaim, Register, Registered, Solicit, Twin,
};
use super::groups::{GroupsPart, GroupsRequest};
use super::id::{Epoch, Name, NodeId};
use super::nack::Nack;
use super::order::Order;
use super::report::{StatusReport, StatusRequest};
use super::seal::{Certificate, Domain, PublicKey, SegmentKey, Signature, SigningKey, TAG_LEN};
use super::session::{Announce, Progress};
use super::{Decoder, Encoder, Malformed};

/// First byte of an envelope; frames begin with another.
pub const ENVELOPE_MAGIC: [u8; 2] = [0xFA, 0xCA];
const VERSION: u8 = 1;
/// Largest message in bytes: one datagram on a path of 1,500.
pub const MESSAGE_MAX: usize = 1_472;

/// A message between nodes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    LeaderAlive(LeaderAlive),
    LeaderClaim(LeaderClaim),
    Register(Register),
    Registered(Registered),
    ClockRequest(ClockRequest),
    ClockReply(ClockReply),
    Announce(Announce),
    Progress(Progress),
    Nack(Nack),
    /// A signed [`StatusReport`].
    Status(Vec<u8>),
    StatusRequest(StatusRequest),
    /// A signed [`Order`].
    Order(Vec<u8>),
    /// "Can you hear me here?", from a leader on a data channel while nothing else is said there.
    Probe,
    /// A signed [`Charter`].
    Charter(Vec<u8>),
    Solicit(Solicit),
    /// "Count me out": the sender is about to end (NS-7).
    Leave,
    Twin(Twin),
    /// A piece of a signed list of groups: its director's signature counts, whoever repeats it.
    Groups(GroupsPart),
    GroupsRequest(GroupsRequest),
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::LeaderAlive(_) => 1,
            Self::LeaderClaim(_) => 2,
            Self::Register(_) => 3,
            Self::Registered(_) => 4,
            Self::ClockRequest(_) => 5,
            Self::ClockReply(_) => 6,
            Self::Announce(_) => 7,
            Self::Progress(_) => 8,
            Self::Nack(_) => 9,
            Self::Status(_) => 10,
            Self::StatusRequest(_) => 11,
            Self::Order(_) => 12,
            Self::Probe => 13,
            Self::Charter(_) => 14,
            Self::Solicit(_) => 15,
            Self::Leave => 16,
            Self::Twin(_) => 17,
            Self::Groups(_) => 20,
            Self::GroupsRequest(_) => 21,
        }
    }

    /// Whether the sender's certificate and signature go with it: what leads or commits others.
    const fn is_signed(kind: u8) -> bool {
        matches!(kind, 1 | 2 | 3 | 4 | 6 | 7 | 11 | 13 | 15 | 16 | 17)
    }

    /// Only a leader says this: a certificate that may not lead cannot send it (T13).
    pub const fn is_leaders(&self) -> bool {
        matches!(
            self,
            Self::LeaderAlive(_)
                | Self::LeaderClaim(_)
                | Self::Registered(_)
                | Self::ClockReply(_)
                | Self::Announce(_)
                | Self::StatusRequest(_)
                | Self::Probe
                | Self::Solicit(_)
                | Self::Twin(_)
        )
    }

    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::LeaderAlive(message) => message.encode(out),
            Self::LeaderClaim(message) => message.encode(out),
            Self::Register(message) => message.encode(out),
            Self::Registered(message) => message.encode(out),
            Self::ClockRequest(message) => {
                out.u64(message.sent);
            }
            Self::ClockReply(message) => {
                out.u64(message.sent).u64(message.controller);
            }
            Self::Announce(message) => message.encode(out),
            Self::Progress(message) => message.encode(out),
            Self::Nack(message) => message.encode(out),
            Self::Status(bytes) | Self::Order(bytes) | Self::Charter(bytes) => {
                out.bytes16(bytes);
            }
            Self::StatusRequest(message) => message.encode(out),
            Self::Probe => {}
            Self::Groups(message) => message.encode(out),
            Self::GroupsRequest(message) => message.encode(out),
            Self::Solicit(message) => {
                out.u16(message.spread_ms);
            }
            Self::Leave => {}
            Self::Twin(message) => message.encode(out),
        }
    }

    fn decode(kind: u8, from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => Self::LeaderAlive(LeaderAlive::decode(from)?),
            2 => Self::LeaderClaim(LeaderClaim::decode(from)?),
            3 => Self::Register(Register::decode(from)?),
            4 => Self::Registered(Registered::decode(from)?),
            5 => Self::ClockRequest(ClockRequest { sent: from.u64("sent")? }),
            6 => Self::ClockReply(ClockReply { sent: from.u64("sent")?, controller: from.u64("clock")? }),
            7 => Self::Announce(Announce::decode(from)?),
            8 => Self::Progress(Progress::decode(from)?),
            9 => Self::Nack(Nack::decode(from)?),
            10 => Self::Status(from.bytes16(StatusReport::MAX, "report")?.to_vec()),
            11 => Self::StatusRequest(StatusRequest::decode(from)?),
            12 => Self::Order(from.bytes16(Order::MAX, "order")?.to_vec()),
            13 => Self::Probe,
            14 => Self::Charter(from.bytes16(Charter::MAX, "charter")?.to_vec()),
            15 => Self::Solicit(Solicit { spread_ms: from.u16("spread")? }),
            16 => Self::Leave,
            17 => Self::Twin(Twin::decode(from)?),
            20 => Self::Groups(GroupsPart::decode(from)?),
            21 => Self::GroupsRequest(GroupsRequest::decode(from)?),
            _ => return Err(Malformed::Unknown("message kind")),
        })
    }
}

/// Who sent a message, and which of its messages it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub node: NodeId,
    pub boot: u32,
    pub seq: u64,
    pub epoch: Epoch,
}

/// What a node needs to seal and open the messages of its segment.
#[derive(Debug)]
pub struct Sealer {
    segment: u32,
    key: SegmentKey,
    signer: SigningKey,
    certificate: Certificate,
    enroller: PublicKey,
}

/// A message whose tag, and signature where it has one, were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub sender: Sender,
    /// With a signed message only.
    pub certificate: Option<Certificate>,
    pub message: Message,
}

impl Sealer {
    pub fn new(
        segment: &Name,
        key: SegmentKey,
        signer: SigningKey,
        certificate: Certificate,
        enroller: PublicKey,
    ) -> Self {
        let hash = blake3::hash(segment.as_str().as_bytes());
        let segment =
            u32::from_be_bytes(*hash.as_bytes().first_chunk().expect("a hash is longer than an id"));
        Self { segment, key, signer, certificate, enroller }
    }

    pub const fn key(&self) -> &SegmentKey {
        &self.key
    }

    pub const fn signer(&self) -> &SigningKey {
        &self.signer
    }

    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn seal(&self, sender: Sender, message: &Message) -> Vec<u8> {
        let kind = message.kind();
        let mut out = Encoder::new();
        out.raw(&ENVELOPE_MAGIC).u8(VERSION).u8(kind).u32(self.segment);
        sender.node.encode(&mut out);
        out.u32(sender.boot).u64(sender.seq);
        sender.epoch.encode(&mut out);
        if Message::is_signed(kind) {
            self.certificate.encode(&mut out);
            message.encode(&mut out);
            let signature = self.signer.sign(Domain::Control, out.as_bytes());
            signature.encode(&mut out);
        } else {
            message.encode(&mut out);
        }
        let tag = self.key.tag(out.as_bytes());
        out.raw(&tag).finish()
    }

    /// Checks everything that does not depend on state; the caller checks freshness of (boot, sequence).
    pub fn open(&self, datagram: &[u8]) -> Result<Opened, Malformed> {
        let mut from = Decoder::new(datagram);
        if from.array("magic")? != ENVELOPE_MAGIC {
            return Err(Malformed::Unknown("magic"));
        }
        if from.u8("version")? != VERSION {
            return Err(Malformed::Unknown("version"));
        }
        let kind = from.u8("kind")?;
        if from.u32("segment")? != self.segment {
            return Err(Malformed::Unknown("segment"));
        }
        let (sealed, tag) = datagram.split_last_chunk::<TAG_LEN>().ok_or(Malformed::Truncated("tag"))?;
        self.key.check(sealed, tag)?;

        let mut from = Decoder::new(&sealed[8..]);
        let sender = Sender {
            node: NodeId::decode(&mut from)?,
            boot: from.u32("boot")?,
            seq: from.u64("sequence")?,
            epoch: Epoch::decode(&mut from)?,
        };
        let certificate = if Message::is_signed(kind) {
            Some(self.check_signature(sealed, &mut from, sender.node)?)
        } else {
            None
        };
        let mut body = match certificate {
            Some(_) => {
                let len =
                    from.remaining().checked_sub(Signature::LEN).ok_or(Malformed::Truncated("signature"))?;
                Decoder::new(from.take(len, "body")?)
            }
            None => from,
        };
        let message = Message::decode(kind, &mut body)?;
        body.finish()?;
        if let Message::Register(register) = &message
            && Some(&register.profile.certificate) != certificate.as_ref()
        {
            return Err(Malformed::Forged("profile"));
        }
        if message.is_leaders() && !certificate.as_ref().is_some_and(|certificate| certificate.can_lead) {
            return Err(Malformed::Forged("leadership"));
        }
        Ok(Opened { sender, certificate, message })
    }

    fn check_signature(
        &self,
        sealed: &[u8],
        from: &mut Decoder<'_>,
        sender: NodeId,
    ) -> Result<Certificate, Malformed> {
        let certificate = Certificate::decode(from)?;
        if certificate.node() != sender {
            return Err(Malformed::Forged("sender"));
        }
        certificate.verify(&self.enroller)?;
        let (signed, signature) =
            sealed.split_last_chunk::<{ Signature::LEN }>().ok_or(Malformed::Truncated("signature"))?;
        certificate.public_key.verify(Domain::Control, signed, &Signature(*signature))?;
        Ok(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::CharterId;

    fn sealer(seed: u8, can_lead: bool) -> Sealer {
        let enroller = SigningKey::from_seed([100; 32]);
        let signer = SigningKey::from_seed([seed; 32]);
        let certificate = Certificate::issue(&enroller, signer.public(), can_lead, 1_000);
        let segment = Name::new("boston").unwrap();
        Sealer::new(&segment, SegmentKey([9; 32]), signer, certificate, enroller.public())
    }

    fn claim() -> LeaderClaim {
        let channel = "239.1.1.1:7".parse().unwrap();
        LeaderClaim { priority: 7, charter: CharterId(1), channel }
    }

    fn sender(sealer: &Sealer) -> Sender {
        Sender { node: sealer.certificate.node(), boot: 1, seq: 2, epoch: Epoch(3) }
    }

    #[test]
    fn a_message_opens_only_as_it_was_sealed() {
        let (alice, bob) = (sealer(1, true), sealer(2, true));
        let message = Message::LeaderClaim(claim());
        let bytes = alice.seal(sender(&alice), &message);
        let opened = bob.open(&bytes).unwrap();
        assert_eq!((opened.sender, opened.message), (sender(&alice), message));
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 0x40;
            assert!(bob.open(&forged).is_err(), "byte {at}");
            assert!(bob.open(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn who_may_not_lead_cannot_claim() {
        let (follower, leader) = (sealer(1, false), sealer(2, true));
        let claim = Message::LeaderClaim(claim());
        assert_eq!(
            leader.open(&follower.seal(sender(&follower), &claim)),
            Err(Malformed::Forged("leadership"))
        );
        let clock = Message::ClockRequest(ClockRequest { sent: 1 });
        assert!(leader.open(&follower.seal(sender(&follower), &clock)).is_ok());
    }

    #[test]
    fn a_member_of_the_segment_cannot_speak_for_another() {
        let (alice, bob) = (sealer(1, true), sealer(2, true));
        let message = Message::LeaderClaim(claim());
        let bytes = alice.seal(sender(&bob), &message);
        assert_eq!(bob.open(&bytes), Err(Malformed::Forged("sender")));
    }
}
