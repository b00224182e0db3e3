//! Reports: of one node on one document, of a segment on a run, of a segment on itself (SR, NS).

use super::control::{Profile, decode_channel};
use super::id::{AssignmentId, CharterId, Epoch, Name, NodeId, OrderId, RunId};
use super::order::check_signed;
use super::seal::{Domain, PublicKey, SigningKey};
use super::{Decoder, Encoder, Malformed};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

/// The document that a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Received and staged?
    Assignment { run: RunId, assignment: AssignmentId },
    /// Carried out?
    Order { run: RunId, order: OrderId },
}

impl Subject {
    pub const fn run(&self) -> RunId {
        match self {
            Self::Assignment { run, .. } | Self::Order { run, .. } => *run,
        }
    }

    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Assignment { run, assignment } => {
                out.u8(1).u64(run.0).u64(assignment.0);
            }
            Self::Order { run, order } => {
                out.u8(2).u64(run.0).u64(order.0);
            }
        }
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let kind = from.u8("subject")?;
        let run = RunId::decode(from)?;
        match kind {
            1 => Ok(Self::Assignment { run, assignment: AssignmentId::decode(from)? }),
            2 => Ok(Self::Order { run, order: OrderId::decode(from)? }),
            _ => Err(Malformed::Unknown("subject")),
        }
    }
}

/// Why a node failed. The CCM groups failures by it; the text beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The node has no such site.
    NoSite = 1,
    /// The node's content is not the assignment's base: it needs to be replicated or synchronized.
    StaleBase = 2,
    /// The disk is full, or the space that the assignment states is not free.
    NoSpace = 3,
    /// Signature, hash or format does not verify.
    Forged = 4,
    /// The operating system refused (CI-3); the text has path and reason.
    System = 5,
    /// The order names an assignment that is not staged here (B-34).
    NotStaged = 6,
    /// The order is older than one carried out, or expired.
    OldOrder = 7,
    /// The assignment did not arrive whole.
    Incomplete = 8,
}

impl Reason {
    const ALL: [Self; 8] = [
        Self::NoSite,
        Self::StaleBase,
        Self::NoSpace,
        Self::Forged,
        Self::System,
        Self::NotStaged,
        Self::OldOrder,
        Self::Incomplete,
    ];

    pub fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code).ok_or(Malformed::Unknown("reason"))
    }
}

/// The stable word of the reason, as it stands in JSON and logs.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSite => "no-site",
            Self::StaleBase => "stale-base",
            Self::NoSpace => "no-space",
            Self::Forged => "forged",
            Self::System => "system",
            Self::NotStaged => "not-staged",
            Self::OldOrder => "old-order",
            Self::Incomplete => "incomplete",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The assignment is whole, verified and staged.
    Staged,
    /// The order was carried out; `at` is when, nanoseconds since 1970 by the CCM's clock as the node
    /// knows it.
    Switched {
        at: u64,
    },
    Failed {
        reason: Reason,
        text: String,
    },
}

/// What one node says of one document (SR-1). Signed by the node: leaders carry it, none can make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    pub node: NodeId,
    pub subject: Subject,
    pub outcome: Outcome,
}

impl StatusReport {
    /// Longest text of a failure, in bytes; longer ones are cut.
    pub const TEXT_MAX: usize = 400;
    /// Longest signed report in bytes.
    pub const MAX: usize = 512;

    pub fn sign(&self, node: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.node.encode(&mut out);
        self.subject.encode(&mut out);
        match &self.outcome {
            Outcome::Staged => {
                out.u8(1);
            }
            Outcome::Switched { at } => {
                out.u8(2).u64(*at);
            }
            Outcome::Failed { reason, text } => {
                out.u8(3).u8(*reason as u8).str16(cut(text, Self::TEXT_MAX));
            }
        }
        let signature = node.sign(Domain::Report, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    /// Reads a report without checking the signature: for a leader, which only sorts and carries.
    pub fn peek(bytes: &[u8]) -> Result<Self, Malformed> {
        let signed =
            bytes.len().checked_sub(super::seal::Signature::LEN).ok_or(Malformed::Truncated("signature"))?;
        Self::decode(&bytes[..signed])
    }

    pub fn open(bytes: &[u8], node: &PublicKey) -> Result<Self, Malformed> {
        let report = Self::decode(check_signed(Domain::Report, bytes, node)?)?;
        if report.node == NodeId::of_key(&node.0) { Ok(report) } else { Err(Malformed::Forged("reporter")) }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let report = Self {
            node: NodeId::decode(&mut from)?,
            subject: Subject::decode(&mut from)?,
            outcome: match from.u8("outcome")? {
                1 => Outcome::Staged,
                2 => Outcome::Switched { at: from.u64("at")? },
                3 => Outcome::Failed {
                    reason: Reason::from_code(from.u8("reason")?)?,
                    text: from.str16(Self::TEXT_MAX, "text")?.to_owned(),
                },
                _ => return Err(Malformed::Unknown("outcome")),
            },
        };
        from.finish()?;
        Ok(report)
    }
}

/// The longest beginning of `text` of at most `max` bytes that is whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// "Whose report of this is missing?", from the leader: to one member, or to all with a list (SR-3..SR-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    pub subject: Subject,
    pub asked: Asked,
    /// Milliseconds over which members spread their answers.
    pub spread_ms: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whoever reads this.
    All,
    /// These have not reported (SR-5).
    Missing(Vec<NodeId>),
    /// Everybody but these (SR-6).
    AllBut(Vec<NodeId>),
}

impl StatusRequest {
    /// Nodes that fit one message of 1,400 bytes.
    pub const NODES_MAX: usize = 150;

    /// Whether `node` is asked.
    pub fn asks(&self, node: NodeId) -> bool {
        match &self.asked {
            Asked::All => true,
            Asked::Missing(nodes) => nodes.contains(&node),
            Asked::AllBut(nodes) => !nodes.contains(&node),
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.subject.encode(out);
        let (code, nodes) = match &self.asked {
            Asked::All => (0, &[][..]),
            Asked::Missing(nodes) => (1, &nodes[..]),
            Asked::AllBut(nodes) => (2, &nodes[..]),
        };
        out.u8(code).list(nodes, |out, node| node.encode(out)).u16(self.spread_ms);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let subject = Subject::decode(from)?;
        let code = from.u8("asked")?;
        let nodes = from.list(Self::NODES_MAX, "nodes", NodeId::decode)?;
        let asked = match code {
            0 if nodes.is_empty() => Asked::All,
            1 => Asked::Missing(nodes),
            2 => Asked::AllBut(nodes),
            _ => return Err(Malformed::Unknown("asked")),
        };
        Ok(Self { subject, asked, spread_ms: from.u16("spread")? })
    }
}

/// A leader's consolidated report on a document (SR-11, SR-12): what reported, and who did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    pub segment: Name,
    pub subject: Subject,
    /// Signed [`StatusReport`]s.
    pub reports: Vec<Vec<u8>>,
    /// Registered members that were asked to the end and did not answer.
    pub missing: Vec<NodeId>,
    /// The leader will not ask any more.
    pub last: bool,
}

impl RunReport {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.segment.encode(out);
        self.subject.encode(out);
        out.list(&self.reports, |out, report| {
            out.bytes16(report);
        });
        out.list(&self.missing, |out, node| node.encode(out)).bool(self.last);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            segment: Name::decode(from)?,
            subject: Subject::decode(from)?,
            reports: from.list(usize::MAX, "reports", |from| {
                Ok(from.bytes16(StatusReport::MAX, "report")?.to_vec())
            })?,
            missing: from.list(usize::MAX, "missing", NodeId::decode)?,
            last: from.bool("last")?,
        })
    }
}

/// A leader's picture of its segment (NS-2..NS-4). The leader is one of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    pub segment: Name,
    pub epoch: Epoch,
    /// The charter that the leader goes by; 0 for none.
    pub charter: CharterId,
    /// Members that do not have it yet.
    pub behind: u16,
    /// The control channel that the segment uses (EL-6).
    pub channel: SocketAddrV4,
    /// Nodes whose id is used by two machines, and where the one is that had to stand aside.
    pub twins: Vec<(NodeId, SocketAddr)>,
    pub members: Vec<Profile>,
    /// Members that the leader's multicast does not reach, or not on the data channel (LD-24).
    pub by_unicast: Vec<NodeId>,
}

impl SegmentReport {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.segment.encode(out);
        self.epoch.encode(out);
        self.charter.encode(out);
        out.u16(self.behind).socket_addr(self.channel.into());
        out.list(&self.twins, |out, (node, other)| {
            node.encode(out);
            out.socket_addr(*other);
        });
        out.list(&self.members, |out, member| member.encode(out));
        out.list(&self.by_unicast, |out, node| node.encode(out));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            segment: Name::decode(from)?,
            epoch: Epoch::decode(from)?,
            charter: CharterId::decode(from)?,
            behind: from.u16("behind")?,
            channel: decode_channel(from)?,
            twins: from
                .list(usize::MAX, "twins", |from| Ok((NodeId::decode(from)?, from.socket_addr("other")?)))?,
            members: from.list(usize::MAX, "members", Profile::decode)?,
            by_unicast: from.list(usize::MAX, "members by unicast", NodeId::decode)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_only_its_nodes_own() {
        let key = SigningKey::from_seed([1; 32]);
        let report = StatusReport {
            node: NodeId::of_key(&key.public().0),
            subject: Subject::Order { run: RunId(1), order: OrderId(2) },
            outcome: Outcome::Failed { reason: Reason::NoSpace, text: "ü".repeat(300) },
        };
        let bytes = report.sign(&key);
        assert!(bytes.len() <= StatusReport::MAX);
        let read = StatusReport::open(&bytes, &key.public()).unwrap();
        assert_eq!(read.outcome, Outcome::Failed { reason: Reason::NoSpace, text: "ü".repeat(200) });
        assert_eq!(StatusReport::peek(&bytes).unwrap(), read);
        let other = SigningKey::from_seed([2; 32]);
        assert!(StatusReport::open(&bytes, &other.public()).is_err());
        assert!(StatusReport::open(&report.sign(&other), &other.public()).is_err());
    }

    #[test]
    fn a_request_names_who_must_answer() {
        let subject = Subject::Assignment { run: RunId(1), assignment: AssignmentId(2) };
        let ask = |asked| StatusRequest { subject, asked, spread_ms: 0 };
        assert!(ask(Asked::All).asks(NodeId(1)));
        assert!(ask(Asked::Missing(vec![NodeId(1)])).asks(NodeId(1)));
        assert!(!ask(Asked::Missing(vec![NodeId(1)])).asks(NodeId(2)));
        assert!(!ask(Asked::AllBut(vec![NodeId(1)])).asks(NodeId(1)));
        assert!(ask(Asked::AllBut(vec![NodeId(1)])).asks(NodeId(2)));
    }
}
