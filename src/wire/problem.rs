//! "This assignment did not reach its quorum here": from a leader to the CCM (LD-20, SR-15).

use super::id::{AssignmentId, Name, NodeId, RunId};
use super::{Decoder, Encoder, Malformed};
use std::fmt;

/// Why a session was over for a member before it had everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It answered no more.
    Silent,
    /// It lacked no less, try after try.
    NoProgress,
    /// It could not store what came; its own report says more.
    Failed,
    /// It asked for several times the whole assignment, more than multicast is worth.
    TooCostly,
}

impl Cause {
    const CODES: [(Self, u8); 4] =
        [(Self::Silent, 1), (Self::NoProgress, 2), (Self::Failed, 3), (Self::TooCostly, 4)];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "fell silent",
            Self::NoProgress => "made no progress",
            Self::Failed => "could not store it",
            Self::TooCostly => "asked for several times the whole",
        })
    }
}

/// A member that the session left behind, and how much it lacked by its last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Straggler {
    pub node: NodeId,
    pub cause: Cause,
    /// Frames; `None` where it never said.
    pub lacks: Option<u32>,
}

/// A session ended and fewer members than its quorum had everything. Those named pull it from the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub segment: Name,
    pub run: RunId,
    pub assignment: AssignmentId,
    /// Members that took part, how many of them it took, and how many had everything.
    pub participants: u32,
    pub needed: u32,
    pub complete: u32,
    pub passes: u16,
    pub stragglers: Vec<Straggler>,
}

impl Problem {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.segment.encode(out);
        self.run.encode(out);
        self.assignment.encode(out);
        out.u32(self.participants).u32(self.needed).u32(self.complete).u16(self.passes);
        out.list(&self.stragglers, |out, straggler| {
            straggler.node.encode(out);
            let code = Cause::CODES.iter().find(|(cause, _)| *cause == straggler.cause);
            out.u8(code.expect("the table has every cause").1);
            out.option(straggler.lacks.as_ref(), |out, lacks| {
                out.u32(*lacks);
            });
        });
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            segment: Name::decode(from)?,
            run: RunId::decode(from)?,
            assignment: AssignmentId::decode(from)?,
            participants: from.u32("participants")?,
            needed: from.u32("needed")?,
            complete: from.u32("complete")?,
            passes: from.u16("passes")?,
            stragglers: from.list(usize::MAX, "stragglers", |from| {
                let (node, code) = (NodeId::decode(from)?, from.u8("cause")?);
                let cause = Cause::CODES.iter().find(|(_, known)| *known == code);
                Ok(Straggler {
                    node,
                    cause: cause.ok_or(Malformed::Unknown("cause"))?.0,
                    lacks: from.option("lacks", |from| from.u32("frames"))?,
                })
            })?,
        })
    }
}
