//! Charters: what the CCM decides of a segment, signed, numbered, and kept by every node of it (EL-3, EL-6,
//! NS-14).

use super::control::decode_channel;
use super::id::{CharterId, Name, NodeId};
use super::order::check_signed;
use super::seal::{Domain, PublicKey, Signature, SigningKey};
use super::{Decoder, Encoder, Malformed};
use std::net::SocketAddrV4;

/// A node takes only a charter of its own segment whose number is above that of the one it has: any member
/// may pass one on, and none can bring back an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter {
    pub number: CharterId,
    /// The segment's name in the configuration of its nodes: its id.
    pub segment: Name,
    /// The name that people are shown (NS-3, NS-14).
    pub title: Name,
    /// The control channel; `None` leaves it to the configuration and to the operators of nodes (EL-6).
    pub channel: Option<SocketAddrV4>,
    /// Who may lead; `None` leaves it to the configuration of each node (EL-3).
    pub leaders: Option<Leaders>,
}

/// Pre-assigned leaders: the vote is restricted to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaders {
    /// At least one, at most [`Leaders::MAX`].
    pub nodes: Vec<NodeId>,
    /// Seconds without any of them after which the others vote; `None`: never.
    pub open_after: Option<u32>,
}

impl Leaders {
    /// Most nodes of the list.
    pub const MAX: usize = 16;
}

impl Charter {
    /// Longest signed charter in bytes.
    pub const MAX: usize = 384;

    /// Whether the charter lets this node lead before all others.
    pub fn lists(&self, node: NodeId) -> bool {
        self.leaders.as_ref().is_none_or(|leaders| leaders.nodes.contains(&node))
    }

    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        self.number.encode(&mut out);
        self.segment.encode(&mut out);
        self.title.encode(&mut out);
        out.option(self.channel.as_ref(), |out, channel| {
            out.socket_addr((*channel).into());
        });
        out.option(self.leaders.as_ref(), |out, leaders| {
            out.list(&leaders.nodes, |out, node| node.encode(out));
            out.option(leaders.open_after.as_ref(), |out, seconds| {
                out.u32(*seconds);
            });
        });
        let signature = director.sign(Domain::Charter, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    /// # Errors
    /// Where the director did not sign it, or it names nobody who may lead.
    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        Self::decode(check_signed(Domain::Charter, bytes, director)?)
    }

    /// Reads a charter whose signature was checked elsewhere.
    pub fn peek(bytes: &[u8]) -> Result<Self, Malformed> {
        let signed = bytes.len().checked_sub(Signature::LEN).ok_or(Malformed::Truncated("signature"))?;
        Self::decode(&bytes[..signed])
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let charter = Self {
            number: CharterId::decode(&mut from)?,
            segment: Name::decode(&mut from)?,
            title: Name::decode(&mut from)?,
            channel: from.option("channel", decode_channel)?,
            leaders: from.option("leaders", |from| {
                Ok(Leaders {
                    nodes: from.list(Leaders::MAX, "nodes", NodeId::decode)?,
                    open_after: from.option("open after", |from| from.u32("open after"))?,
                })
            })?,
        };
        from.finish()?;
        if charter.leaders.as_ref().is_some_and(|leaders| leaders.nodes.is_empty()) {
            return Err(Malformed::OutOfBounds("leaders"));
        }
        Ok(charter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charter_opens_only_as_the_director_signed_it() {
        let director = SigningKey::from_seed([1; 32]);
        let long = Name::new(&"s".repeat(Name::MAX)).unwrap();
        let charter = Charter {
            number: CharterId(7),
            segment: long.clone(),
            title: long,
            channel: Some("239.1.2.3:7401".parse().unwrap()),
            leaders: Some(Leaders { nodes: vec![NodeId(9); Leaders::MAX], open_after: Some(30) }),
        };
        let bytes = charter.sign(&director);
        assert!(bytes.len() <= Charter::MAX, "{}", bytes.len());
        assert_eq!(Charter::open(&bytes, &director.public()), Ok(charter.clone()));
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(Charter::open(&forged, &director.public()).is_err(), "byte {at}");
            assert!(Charter::open(&bytes[..at], &director.public()).is_err());
        }
        let nobody = Charter { leaders: Some(Leaders { nodes: Vec::new(), open_after: None }), ..charter };
        assert!(Charter::open(&nobody.sign(&director), &director.public()).is_err());
    }

    #[test]
    fn without_a_list_everybody_is_listed() {
        let list = |leaders| Charter {
            number: CharterId(1),
            segment: Name::new("s").unwrap(),
            title: Name::new("s").unwrap(),
            channel: None,
            leaders,
        };
        assert!(list(None).lists(NodeId(1)));
        let one = list(Some(Leaders { nodes: vec![NodeId(1)], open_after: None }));
        assert!(one.lists(NodeId(1)) && !one.lists(NodeId(2)));
    }
}
