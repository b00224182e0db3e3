//! The data channel: announcement of a session, frames, progress (LD-5, LD-10, design D3).
//!
//! A frame is one datagram, never an IP fragment:
//! ```text
//!  0    magic 0xFC
//!  1    kind: 1 frame
//!  2    payload bytes (u16)
//!  4    session (u32)
//!  8    block (u32)                  }
//! 12    index in the block (u16)     } these 12 bytes are the nonce of the tag
//! 14    pass, from 1 (u16)           }
//! 16    frames sent so far (u32)     }
//! 20    tag (16 bytes): AES-256-GMAC over the payload under that nonce
//! 36    payload
//! ```
//! Indices below the block's number of source frames are the file's bytes; those from there on are
//! parity. The last source frame of a block may be short; parity frames are always full.

use super::assignment::{LEAF_LEN, Shape};
use super::id::{AssignmentId, Name, RunId, SessionId};
use super::seal::TAG_LEN;
use super::{Decoder, Encoder, Malformed};

/// First byte of every frame; control messages begin with another.
pub const FRAME_MAGIC: u8 = 0xFC;
const KIND_FRAME: u8 = 1;
/// Header and tag together (design D3: at most 40).
pub const FRAME_OVERHEAD: usize = 36;
/// IPv4 and UDP headers in front of a frame.
pub const IP_UDP_OVERHEAD: usize = 28;
/// Smallest payload: keeps a block below 255 frames, source and one parity, in GF(256).
pub const PAYLOAD_MIN: usize = 1_100;
/// Largest payload: fits a jumbo frame of 9,000.
pub const PAYLOAD_MAX: usize = 8_936;

/// Longest spread of answers: with it 1,000 members or more answer at a bearable pace (LD-13).
pub const SPREAD_MAX_MS: u16 = 1_000;
/// Longest time between two lists of one member while a pass runs.
pub const NACK_MAX_MS: u16 = 60_000;
/// Bytes per second beyond which a rate is none of a network.
pub const RATE_MAX: u64 = 1 << 40;

/// Smallest MTU on which frames of the smallest payload pass whole.
pub const MTU_MIN: u16 = (PAYLOAD_MIN + FRAME_OVERHEAD + IP_UDP_OVERHEAD) as u16;

/// Whether frames of this payload pass whole on a path of this MTU.
pub const fn fits_mtu(payload: u16, mtu: u16) -> bool {
    payload as usize + FRAME_OVERHEAD + IP_UDP_OVERHEAD <= mtu as usize
}

/// Payload of the frames on a path of this MTU.
pub fn payload_for_mtu(mtu: usize) -> usize {
    mtu.saturating_sub(IP_UDP_OVERHEAD + FRAME_OVERHEAD).clamp(PAYLOAD_MIN, PAYLOAD_MAX) & !3
}

/// Source frames of a block of `len` bytes at this payload.
pub const fn source_frames(len: usize, payload: usize) -> u16 {
    len.div_ceil(payload) as u16
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub session: SessionId,
    pub block: u32,
    pub index: u16,
    /// Retransmission count, from 1 (LD-17).
    pub pass: u16,
    /// Frames sent in this session up to and with this one; receivers measure loss by it.
    pub sent: u32,
}

impl FrameHeader {
    pub fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.block.to_be_bytes());
        nonce[4..6].copy_from_slice(&self.index.to_be_bytes());
        nonce[6..8].copy_from_slice(&self.pass.to_be_bytes());
        nonce[8..].copy_from_slice(&self.sent.to_be_bytes());
        nonce
    }

    pub fn encode(&self, payload_len: usize, tag: [u8; TAG_LEN]) -> [u8; FRAME_OVERHEAD] {
        let mut bytes = [0; FRAME_OVERHEAD];
        bytes[0] = FRAME_MAGIC;
        bytes[1] = KIND_FRAME;
        bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        bytes[4..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..20].copy_from_slice(&self.nonce());
        bytes[20..].copy_from_slice(&tag);
        bytes
    }

    /// Splits a datagram into header, tag and payload. Nothing is trusted before the tag was checked.
    pub fn decode(datagram: &[u8]) -> Result<(Self, [u8; TAG_LEN], &[u8]), Malformed> {
        let mut from = Decoder::new(datagram);
        if from.u8("magic")? != FRAME_MAGIC || from.u8("kind")? != KIND_FRAME {
            return Err(Malformed::Unknown("frame kind"));
        }
        let len = usize::from(from.u16("size")?);
        let header = Self {
            session: SessionId::decode(&mut from)?,
            block: from.u32("block")?,
            index: from.u16("index")?,
            pass: from.u16("pass")?,
            sent: from.u32("sent")?,
        };
        let tag = from.array("tag")?;
        let payload = from.take(len, "payload")?;
        from.finish()?;
        Ok((header, tag, payload))
    }
}

/// Where a session stands when its announcement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first pass is about to begin: who holds the object already says so (LD-7).
    Open,
    /// A pass has ended: every member answers with what it lacks (LD-12).
    PassEnd,
    /// Over: what is not complete now finishes by unicast.
    Close,
}

/// What replaces the frames that members lost. Members obey what the announcement says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Members count what they lack; parity serves all of them, and where all lack the same frames, those.
    #[default]
    Parity,
    /// Members name what they lack; the union of it is sent over again, each frame once a pass (LD-14).
    Resend,
}

/// When members say what they lack, and when it is repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairWhen {
    /// Asked at the end of a pass; the next pass repairs (LD-12, LD-14).
    #[default]
    PassEnd,
    /// As soon as a member sees a gap; repaired before the pass goes on (LD-15).
    Immediate,
    /// Every [`Announce::nack_ms`]; the pass goes on meanwhile, the next one repairs (LD-15, LD-16).
    Timed,
}

/// Announcement of a session, repeated at every phase, so that whoever missed one learns all from the
/// next (LD-5, LD-22). Signed by the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    pub session: SessionId,
    /// Goes into the frames' key.
    pub salt: [u8; 16],
    pub run: RunId,
    pub assignment: AssignmentId,
    pub site: Name,
    pub group: Name,
    pub shape: Shape,
    /// Payload bytes of a full frame, [`PAYLOAD_MIN`]..=[`PAYLOAD_MAX`].
    pub payload: u16,
    /// Bytes per second at which the sender now sends, at most [`RATE_MAX`]; 0 before it knows.
    pub rate: u64,
    pub pass: u16,
    pub phase: Phase,
    /// Frames sent so far.
    pub sent: u32,
    /// Milliseconds over which members spread their answers (LD-13), at most [`SPREAD_MAX_MS`].
    pub spread_ms: u16,
    /// Members report their progress by the count of frames too, not by time alone.
    pub counted: bool,
    pub repair: Repair,
    pub repair_when: RepairWhen,
    /// Least milliseconds between two lists of one member while a pass runs, at most [`NACK_MAX_MS`]; 0 where it
    /// tells only if asked.
    pub nack_ms: u16,
}

impl Announce {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.session.encode(out);
        out.raw(&self.salt);
        self.run.encode(out);
        self.assignment.encode(out);
        self.site.encode(out);
        self.group.encode(out);
        self.shape.encode(out);
        out.u16(self.payload).u64(self.rate).u16(self.pass);
        out.u8(match self.phase {
            Phase::Open => 0,
            Phase::PassEnd => 1,
            Phase::Close => 2,
        });
        out.u32(self.sent).u16(self.spread_ms).bool(self.counted);
        out.u8(match self.repair {
            Repair::Parity => 0,
            Repair::Resend => 1,
        });
        out.u8(match self.repair_when {
            RepairWhen::PassEnd => 0,
            RepairWhen::Immediate => 1,
            RepairWhen::Timed => 2,
        });
        out.u16(self.nack_ms);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let announce = Self {
            session: SessionId::decode(from)?,
            salt: from.array("salt")?,
            run: RunId::decode(from)?,
            assignment: AssignmentId::decode(from)?,
            site: Name::decode(from)?,
            group: Name::decode(from)?,
            shape: Shape::decode(from)?,
            payload: from.u16("payload")?,
            rate: from.u64("rate")?,
            pass: from.u16("pass")?,
            phase: match from.u8("phase")? {
                0 => Phase::Open,
                1 => Phase::PassEnd,
                2 => Phase::Close,
                _ => return Err(Malformed::Unknown("phase")),
            },
            sent: from.u32("sent")?,
            spread_ms: from.u16("spread")?,
            counted: from.bool("counted")?,
            repair: match from.u8("repair")? {
                0 => Repair::Parity,
                1 => Repair::Resend,
                _ => return Err(Malformed::Unknown("repair")),
            },
            repair_when: match from.u8("when to repair")? {
                0 => RepairWhen::PassEnd,
                1 => RepairWhen::Immediate,
                2 => RepairWhen::Timed,
                _ => return Err(Malformed::Unknown("when to repair")),
            },
            nack_ms: from.u16("time between lists")?,
        };
        if !(PAYLOAD_MIN..=PAYLOAD_MAX).contains(&usize::from(announce.payload)) {
            return Err(Malformed::OutOfBounds("payload"));
        }
        if announce.rate > RATE_MAX {
            return Err(Malformed::OutOfBounds("rate"));
        }
        if announce.spread_ms > SPREAD_MAX_MS {
            return Err(Malformed::OutOfBounds("spread"));
        }
        if announce.nack_ms > NACK_MAX_MS {
            return Err(Malformed::OutOfBounds("time between lists"));
        }
        Ok(announce)
    }

    /// Source frames of a block.
    pub fn source_frames(&self, block: u32) -> u16 {
        source_frames(self.shape.block(block).1, usize::from(self.payload))
    }

    /// Parity frames that a block can have: a code over GF(256) has at most 255 symbols.
    pub fn parity_frames(&self, block: u32) -> u16 {
        255_u16.saturating_sub(self.source_frames(block))
    }
}

const _: () = assert!(LEAF_LEN as usize / PAYLOAD_MIN + 2 <= 255, "a block leaves room for parity");

/// How reception goes, from member to leader while a pass runs: the rate is steered by it (design D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub session: SessionId,
    /// Highest `sent` seen in a frame's header.
    pub seen: u32,
    /// The `sent` of the frame that arrived last, but for frames that overtook many.
    pub latest: u32,
    /// Frames with a `sent` up to this one have arrived or are lost: nothing overtaken is waited for any more.
    pub settled: u32,
    /// Of these, those that arrived, duplicates not counted.
    pub received: u32,
    /// Batches that the member's own socket had no room for, since the session began for it.
    pub dropped: u32,
    /// Frames of this session that its socket has room for, from 1.
    pub room: u16,
}

impl Progress {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.session.encode(out);
        out.u32(self.seen).u32(self.latest).u32(self.settled).u32(self.received);
        out.u32(self.dropped).u16(self.room);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            session: SessionId::decode(from)?,
            seen: from.u32("seen")?,
            latest: from.u32("latest")?,
            settled: from.u32("settled")?,
            received: from.u32("received")?,
            dropped: from.u32("dropped")?,
            room: from.u16("room")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawn_as_documented() {
        let header =
            FrameHeader { session: SessionId(0x0102_0304), block: 0x11, index: 0x22, pass: 1, sent: 0x33 };
        let bytes = [&header.encode(3, [0xaa; 16])[..], b"abc"].concat();
        let expected = "fc01 0003 01020304 00000011 0022 0001 00000033".replace(' ', "");
        assert_eq!(crate::wire::id::hex(&bytes[..20]), expected);
        assert_eq!(FrameHeader::decode(&bytes), Ok((header, [0xaa; 16], &b"abc"[..])));
        for cut in 0..bytes.len() {
            assert!(FrameHeader::decode(&bytes[..cut]).is_err());
        }
        assert!(FrameHeader::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    /// Each bound is what a member can bear; what is beyond is no announcement, and counted as refused.
    #[test]
    fn an_announcement_beyond_a_bound_is_refused() {
        use crate::wire::assignment::{COMMAND_BUFFER_MAX, DATA_MAX};
        use crate::wire::id::ObjectName;
        let name = |text| Name::new(text).unwrap();
        let good = Announce {
            session: SessionId(1),
            salt: [2; 16],
            run: RunId(3),
            assignment: AssignmentId(4),
            site: name("www"),
            group: name("web"),
            shape: Shape { name: ObjectName([5; 32]), command_len: COMMAND_BUFFER_MAX, data_len: DATA_MAX },
            payload: PAYLOAD_MAX as u16,
            rate: RATE_MAX,
            pass: u16::MAX,
            phase: Phase::PassEnd,
            sent: u32::MAX,
            spread_ms: SPREAD_MAX_MS,
            counted: true,
            repair: Repair::Resend,
            repair_when: RepairWhen::Timed,
            nack_ms: NACK_MAX_MS,
        };
        let read = |announce: &Announce| {
            let mut out = Encoder::new();
            announce.encode(&mut out);
            Announce::decode(&mut Decoder::new(out.as_bytes()))
        };
        assert_eq!(read(&good).as_ref(), Ok(&good));
        let shape = good.shape;
        for bad in [
            Announce { payload: 0, ..good.clone() },
            Announce { payload: PAYLOAD_MIN as u16 - 1, ..good.clone() },
            Announce { payload: PAYLOAD_MAX as u16 + 1, ..good.clone() },
            Announce { rate: RATE_MAX + 1, ..good.clone() },
            Announce { spread_ms: SPREAD_MAX_MS + 1, ..good.clone() },
            Announce { nack_ms: NACK_MAX_MS + 1, ..good.clone() },
            Announce { shape: Shape { data_len: DATA_MAX + 1, ..shape }, ..good.clone() },
            Announce { shape: Shape { data_len: u64::MAX, ..shape }, ..good.clone() },
            Announce { shape: Shape { command_len: COMMAND_BUFFER_MAX + 1, ..shape }, ..good.clone() },
            Announce { shape: Shape { command_len: 0, ..shape }, ..good.clone() },
        ] {
            assert!(matches!(read(&bad), Err(Malformed::OutOfBounds(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_frame_fills_the_mtu_and_not_more() {
        assert_eq!(payload_for_mtu(1_500) + FRAME_OVERHEAD + IP_UDP_OVERHEAD, 1_500);
        assert_eq!(payload_for_mtu(9_000) + FRAME_OVERHEAD + IP_UDP_OVERHEAD, 9_000);
        assert_eq!(payload_for_mtu(65_536), PAYLOAD_MAX);
        assert_eq!(payload_for_mtu(576), PAYLOAD_MIN);
    }
}
