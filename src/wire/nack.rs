//! What a member lacks (LD-12). No entries and nothing more to say: it has everything.

use super::id::SessionId;
use super::{Decoder, Encoder, Malformed};

/// `count` blocks from `first` on each lack `lack` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    pub first: u32,
    pub count: u32,
    pub lack: u16,
}

/// `count` consecutive source frames that lack, from frame `first` of `block` on; those of a block are followed
/// by those of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    pub block: u32,
    pub first: u16,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    pub session: SessionId,
    /// The pass whose end this answers; of an early one: that runs.
    pub pass: u16,
    /// Frames with numbers up to this one have arrived or are lost: of later ones this list cannot know.
    pub seen: u32,
    /// Frames that lack, by count. In ascending order, not overlapping.
    pub lacks: Vec<Lack>,
    /// Frames that lack, by name; all of them in a session that resends, else of blocks that lack many. In
    /// ascending order, not overlapping.
    pub ranges: Vec<FrameRange>,
    /// A list that does not fit one message comes in parts; this is which of how many.
    pub part: u8,
    pub parts: u8,
    /// More is lacking than all parts hold: the next pass will tell (T20).
    pub more: bool,
    /// The receiver gave up on the session (no space, say); a report tells why.
    pub failed: bool,
    /// Sent unasked while the pass runs: of blocks whose turn has passed, no others.
    pub early: bool,
}

impl Nack {
    /// Entries of both lists together that fit one message of 1,400 bytes.
    pub const LACKS_MAX: usize = 130;
    /// Parts of one list.
    pub const PARTS_MAX: u8 = 16;

    /// One that names nothing: the member is complete.
    pub const fn empty(session: SessionId, pass: u16) -> Self {
        Self {
            session,
            pass,
            seen: 0,
            lacks: Vec::new(),
            ranges: Vec::new(),
            part: 0,
            parts: 1,
            more: false,
            failed: false,
            early: false,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.lacks.is_empty()
            && self.ranges.is_empty()
            && self.parts == 1
            && !self.more
            && !self.failed
            && !self.early
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.session.encode(out);
        out.u16(self.pass).u32(self.seen).u8(self.part).u8(self.parts);
        out.bool(self.more).bool(self.failed).bool(self.early);
        out.list(&self.lacks, |out, lack| {
            out.u32(lack.first).u32(lack.count).u16(lack.lack);
        });
        out.list(&self.ranges, |out, range| {
            out.u32(range.block).u16(range.first).u32(range.count);
        });
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let session = SessionId::decode(from)?;
        let (pass, seen) = (from.u16("pass")?, from.u32("seen")?);
        let (part, parts) = (from.u8("part")?, from.u8("parts")?);
        if part >= parts || parts > Self::PARTS_MAX {
            return Err(Malformed::OutOfBounds("part"));
        }
        let (more, failed, early) = (from.bool("more")?, from.bool("failed")?, from.bool("early")?);
        let mut end = 0;
        let lacks = from.list(Self::LACKS_MAX, "lacks", |from| {
            let lack = Lack { first: from.u32("first")?, count: from.u32("count")?, lack: from.u16("lack")? };
            let stop = lack.first.checked_add(lack.count).ok_or(Malformed::OutOfBounds("lack"))?;
            if lack.first < end || lack.count == 0 || lack.lack == 0 {
                return Err(Malformed::OutOfBounds("lack"));
            }
            end = stop;
            Ok(lack)
        })?;
        let mut before = None;
        let ranges = from.list(Self::LACKS_MAX - lacks.len(), "ranges", |from| {
            let range = FrameRange {
                block: from.u32("block")?,
                first: from.u16("first")?,
                count: from.u32("count")?,
            };
            let place = Some((range.block, range.first));
            if range.count == 0 || place <= before {
                return Err(Malformed::OutOfBounds("range"));
            }
            before = place;
            Ok(range)
        })?;
        Ok(Self { session, pass, seen, lacks, ranges, part, parts, more, failed, early })
    }
}
