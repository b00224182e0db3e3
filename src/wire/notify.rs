//! Global distribution: notifications, and what nodes send to the CCM over HTTP (GD-8..GD-13).

use super::assignment::Shape;
use super::bound::Bounds;
use super::control::Peer;
use super::id::{AssignmentId, ListNumber, Name, NodeId, RunId};
use super::key_grant::KeyRequest;
use super::order::check_signed;
use super::problem::Problem;
use super::quorum::Quorum;
use super::report::{RunReport, SegmentReport};
use super::seal::{Domain, PublicKey, Signature, SigningKey};
use super::{Decoder, Encoder, Malformed};
use std::net::SocketAddr;

/// From when on a leader passes an assignment on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// When it lies whole and verified in its spool (GD-18).
    #[default]
    Whole,
    /// While the rest still arrives: as soon as the first leaves are verified, and no leaf before it is.
    Verified,
}

/// "Fetch this assignment there, then ask me for the next leader to serve." Signed by the director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub run: RunId,
    pub assignment: AssignmentId,
    pub site: Name,
    pub group: Name,
    /// The leader needs this list of groups, or a later one, to know whom it is for.
    pub groups: ListNumber,
    pub shape: Shape,
    /// The leader that is to fetch.
    pub leader: NodeId,
    /// Where to fetch: `GET http://SOURCE/o/NAME`.
    pub source: SocketAddr,
    /// Further sources, in the order in which they are to be tried where the one before fails.
    pub others: Vec<SocketAddr>,
    pub forward: Forwarding,
    /// Nobody is left to forward to; the null answer to a [`NextRequest`] says the same and binds (B-21).
    pub last: bool,
    /// How many members must have it before the session may end; `None`: as the leader is set (LD-19).
    pub quorum: Option<Quorum>,
    /// What the leader may send of the site, and of all sites; the newest notification of a run counts.
    pub bounds: Bounds,
    /// Seconds since 1970 after which it is void.
    pub expires: u64,
}

impl Notification {
    /// Longest signed notification in bytes.
    pub const MAX: usize = 512;
    /// Most sources beside the first.
    pub const OTHERS_MAX: usize = 3;

    /// All sources, in the order in which they are to be tried.
    pub fn sources(&self) -> Vec<SocketAddr> {
        std::iter::once(self.source).chain(self.others.iter().copied()).collect()
    }

    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.run.encode(&mut out);
        self.assignment.encode(&mut out);
        self.site.encode(&mut out);
        self.group.encode(&mut out);
        self.groups.encode(&mut out);
        self.shape.encode(&mut out);
        self.leader.encode(&mut out);
        out.socket_addr(self.source).list(&self.others, |out, other| {
            out.socket_addr(*other);
        });
        out.bool(self.forward == Forwarding::Verified).bool(self.last);
        out.option(self.quorum.as_ref(), |out, quorum| quorum.encode(out));
        self.bounds.encode(&mut out);
        out.u64(self.expires);
        let signature = director.sign(Domain::Notification, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        let mut from = Decoder::new(check_signed(Domain::Notification, bytes, director)?);
        let notification = Self {
            run: RunId::decode(&mut from)?,
            assignment: AssignmentId::decode(&mut from)?,
            site: Name::decode(&mut from)?,
            group: Name::decode(&mut from)?,
            groups: ListNumber::decode(&mut from)?,
            shape: Shape::decode(&mut from)?,
            leader: NodeId::decode(&mut from)?,
            source: from.socket_addr("source")?,
            others: from.list(Self::OTHERS_MAX, "sources", |from| from.socket_addr("source"))?,
            forward: if from.bool("forwarding")? { Forwarding::Verified } else { Forwarding::Whole },
            last: from.bool("last")?,
            quorum: from.option("quorum", Quorum::decode)?,
            bounds: Bounds::decode(&mut from)?,
            expires: from.u64("expires")?,
        };
        from.finish()?;
        Ok(notification)
    }
}

/// "I hold the assignment, or its first leaves; whom may I serve next?" (GD-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRequest {
    pub run: RunId,
    pub assignment: AssignmentId,
    /// All of it lies verified in the spool: this is the report of completion.
    pub whole: bool,
}

/// The CCM's answer to a [`NextRequest`] (GD-11, GD-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextReply {
    /// Hand this notification to this leader, then ask again.
    Serve(NextLeader),
    /// Somebody waits, but you still serve one: ask again after so many milliseconds (GD-15).
    Wait { millis: u16 },
    /// No one is left: distribute among your own (the null address of GD-13).
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextLeader {
    /// Its text port.
    pub text: SocketAddr,
    /// A signed [`Notification`], already naming the asker as source.
    pub notification: Vec<u8>,
}

impl NextReply {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Nobody => out.u8(0),
            Self::Serve(next) => out.u8(1).socket_addr(next.text).bytes16(&next.notification),
            Self::Wait { millis } => out.u8(2).u16(*millis),
        };
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let reply = match from.u8("reply")? {
            0 => Self::Nobody,
            1 => Self::Serve(NextLeader {
                text: from.socket_addr("text port")?,
                notification: from.bytes16(Notification::MAX, "notification")?.to_vec(),
            }),
            2 => Self::Wait { millis: from.u16("wait")? },
            _ => return Err(Malformed::Unknown("reply")),
        };
        from.finish()?;
        Ok(reply)
    }
}

/// What a leader posts to the CCM at `/v1/uplink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkBody {
    Segment(SegmentReport),
    Run(RunReport),
    Next(NextRequest),
    Problem(Problem),
    Seek(Seek),
    /// Any node may ask, leader or not; answered with a [`KeyGrant`](super::key_grant::KeyGrant).
    Key(KeyRequest),
}

/// "I hear nobody of my segment by multicast; who else is in it?" Any node may ask, leader or not (LD-24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    pub segment: Name,
    /// Where the asker takes datagrams: others that ask are told.
    pub datagram: SocketAddr,
}

/// The CCM's answer to a [`Seek`], signed by the director: datagrams will go to these addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Who asked: the answer to one node means nothing to another.
    pub asker: NodeId,
    /// The leader first where one is known.
    pub peers: Vec<Peer>,
}

impl Peers {
    /// Most peers of one answer.
    pub const PEERS_MAX: usize = 64;

    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.asker.encode(&mut out);
        out.list(&self.peers, |out, peer| peer.encode(out));
        let signature = director.sign(Domain::Peers, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        let mut from = Decoder::new(check_signed(Domain::Peers, bytes, director)?);
        let peers = Self {
            asker: NodeId::decode(&mut from)?,
            peers: from.list(Self::PEERS_MAX, "peers", Peer::decode)?,
        };
        from.finish()?;
        Ok(peers)
    }
}

/// A signed request of a node to the CCM. The CCM refuses one whose (boot, sequence) is not above the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub node: NodeId,
    pub boot: u32,
    pub seq: u64,
    pub body: UplinkBody,
}

impl Uplink {
    /// Longest request in bytes: a report of 65,535 members fits.
    pub const MAX: usize = 64 << 20;

    pub fn sign(&self, node: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.node.encode(&mut out);
        out.u32(self.boot).u64(self.seq);
        match &self.body {
            UplinkBody::Segment(report) => {
                out.u8(1);
                report.encode(&mut out);
            }
            UplinkBody::Run(report) => {
                out.u8(2);
                report.encode(&mut out);
            }
            UplinkBody::Next(request) => {
                out.u8(3);
                request.run.encode(&mut out);
                request.assignment.encode(&mut out);
                out.bool(request.whole);
            }
            UplinkBody::Problem(problem) => {
                out.u8(4);
                problem.encode(&mut out);
            }
            UplinkBody::Seek(seek) => {
                out.u8(5);
                seek.segment.encode(&mut out);
                out.socket_addr(seek.datagram);
            }
            UplinkBody::Key(request) => {
                out.u8(6);
                request.encode(&mut out);
            }
        }
        let signature = node.sign(Domain::Uplink, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    /// Who claims to have sent this: look up its key, then [`open`](Self::open).
    pub fn claimed_sender(bytes: &[u8]) -> Result<NodeId, Malformed> {
        NodeId::decode(&mut Decoder::new(bytes))
    }

    pub fn open(bytes: &[u8], node: &PublicKey) -> Result<Self, Malformed> {
        let (signed, signature) =
            bytes.split_last_chunk::<{ Signature::LEN }>().ok_or(Malformed::Truncated("signature"))?;
        node.verify(Domain::Uplink, signed, &Signature(*signature))?;
        let mut from = Decoder::new(signed);
        let uplink = Self {
            node: NodeId::decode(&mut from)?,
            boot: from.u32("boot")?,
            seq: from.u64("sequence")?,
            body: match from.u8("uplink kind")? {
                1 => UplinkBody::Segment(SegmentReport::decode(&mut from)?),
                2 => UplinkBody::Run(RunReport::decode(&mut from)?),
                3 => UplinkBody::Next(NextRequest {
                    run: RunId::decode(&mut from)?,
                    assignment: AssignmentId::decode(&mut from)?,
                    whole: from.bool("whole")?,
                }),
                4 => UplinkBody::Problem(Problem::decode(&mut from)?),
                5 => UplinkBody::Seek(Seek {
                    segment: Name::decode(&mut from)?,
                    datagram: from.socket_addr("datagram address")?,
                }),
                6 => UplinkBody::Key(KeyRequest::decode(&mut from)?),
                _ => return Err(Malformed::Unknown("uplink kind")),
            },
        };
        from.finish()?;
        if uplink.node != NodeId::of_key(&node.0) {
            return Err(Malformed::Forged("sender"));
        }
        Ok(uplink)
    }
}
