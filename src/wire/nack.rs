//! What a member lacks after a pass (LD-12). No entries and nothing more to say: it has everything.

use super::id::SessionId;
use super::{Decoder, Encoder, Malformed};

/// `count` blocks from `first` on each lack `lack` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    pub first: u32,
    pub count: u32,
    pub lack: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    pub session: SessionId,
    /// The pass whose end this answers.
    pub pass: u16,
    /// In ascending order, not overlapping.
    pub lacks: Vec<Lack>,
    /// More is lacking than one message holds: the next pass will tell (T20).
    pub more: bool,
    /// The receiver gave up on the session (no space, say); a report tells why.
    pub failed: bool,
}

impl Nack {
    /// Entries that fit one message of 1,400 bytes.
    pub const LACKS_MAX: usize = 130;

    pub fn is_complete(&self) -> bool {
        self.lacks.is_empty() && !self.more && !self.failed
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.session.encode(out);
        out.u16(self.pass).bool(self.more).bool(self.failed);
        out.list(&self.lacks, |out, lack| {
            out.u32(lack.first).u32(lack.count).u16(lack.lack);
        });
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let session = SessionId::decode(from)?;
        let (pass, more, failed) = (from.u16("pass")?, from.bool("more")?, from.bool("failed")?);
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
        Ok(Self { session, pass, lacks, more, failed })
    }
}
