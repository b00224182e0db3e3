//! Content groups as nodes know them: which nodes of a segment a group holds, which sites it serves, and the
//! data channel on which these come (LD-2, NS-15).
//!
//! The CCM numbers and signs one list for each segment. A node keeps the newest that it got and refuses an
//! older one (design D10). A list may be longer than a datagram: it travels the control channel in parts.

use super::id::{ListNumber, Name, NodeId};
use super::order::check_signed;
use super::seal::{Domain, PublicKey, SigningKey};
use super::{Decoder, Encoder, Malformed};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The groups that have a member in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupList {
    /// From 1 and strictly increasing over the farm; of two lists of a segment the higher one counts.
    pub number: ListNumber,
    pub segment: Name,
    /// By name, each once; no channel and no site stands in two of them.
    pub groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Name,
    /// Where assignments of its sites come in this segment.
    pub channel: SocketAddrV4,
    /// Sites that it serves, by name.
    pub sites: Vec<Name>,
    /// Its nodes in this segment, ascending.
    pub members: Vec<NodeId>,
}

impl GroupList {
    /// Longest signed list in bytes.
    pub const MAX: usize = 512 << 10;
    /// Most nodes and groups of a list.
    pub const NODES_MAX: usize = 4_096;
    pub const GROUPS_MAX: usize = 1_024;

    /// The list as bytes, signed by the director. Groups, their sites and members must be in order.
    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let nodes: BTreeSet<NodeId> = self.groups.iter().flat_map(|group| &group.members).copied().collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let mut out = Encoder::new();
        self.number.encode(&mut out);
        self.segment.encode(&mut out);
        out.list(&nodes, |out, node| node.encode(out));
        out.list(&self.groups, |out, group| group.encode(&nodes, out));
        let signature = director.sign(Domain::Groups, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        if bytes.len() > Self::MAX {
            return Err(Malformed::OutOfBounds("list"));
        }
        let mut from = Decoder::new(check_signed(Domain::Groups, bytes, director)?);
        let (number, segment) = (ListNumber::decode(&mut from)?, Name::decode(&mut from)?);
        let nodes = from.list(Self::NODES_MAX, "nodes", NodeId::decode)?;
        let groups = from.list(Self::GROUPS_MAX, "groups", |from| Group::decode(&nodes, from))?;
        from.finish()?;
        let sites: Vec<&Name> = groups.iter().flat_map(|group| &group.sites).collect();
        let unique = ascends(&nodes)
            && ascends(&groups.iter().map(|group| &group.name).collect::<Vec<_>>())
            && is_set(groups.iter().map(|group| group.channel))
            && is_set(sites);
        if number.0 == 0 || !unique {
            return Err(Malformed::OutOfBounds("list"));
        }
        Ok(Self { number, segment, groups })
    }

    /// The group that serves a site.
    pub fn serving(&self, site: &Name) -> Option<&Group> {
        self.groups.iter().find(|group| group.sites.contains(site))
    }
}

impl Group {
    pub fn holds(&self, node: NodeId) -> bool {
        self.members.binary_search(&node).is_ok()
    }

    fn encode(&self, nodes: &[NodeId], out: &mut Encoder) {
        self.name.encode(out);
        out.raw(&self.channel.ip().octets()).u16(self.channel.port());
        out.list(&self.sites, |out, site| site.encode(out));
        let mut bits = vec![0_u8; nodes.len().div_ceil(8)];
        for (at, _) in nodes.iter().enumerate().filter(|(_, node)| self.holds(**node)) {
            bits[at / 8] |= 0x80 >> (at % 8);
        }
        out.raw(&bits);
    }

    fn decode(nodes: &[NodeId], from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let name = Name::decode(from)?;
        let channel = SocketAddrV4::new(Ipv4Addr::from(from.array::<4>("channel")?), from.u16("channel")?);
        let sites = from.list(usize::MAX, "sites", Name::decode)?;
        let bits = from.take(nodes.len().div_ceil(8), "members")?;
        let is_set = |at: usize| bits[at / 8] & (0x80 >> (at % 8)) != 0;
        let padded = (nodes.len()..bits.len() * 8).any(is_set);
        if !channel.ip().is_multicast() || !ascends(&sites) || padded {
            return Err(Malformed::OutOfBounds("group"));
        }
        let members = nodes.iter().enumerate().filter(|(at, _)| is_set(*at)).map(|(_, node)| *node);
        Ok(Self { name, channel, sites, members: members.collect() })
    }
}

fn ascends<T: Ord>(values: &[T]) -> bool {
    values.is_sorted_by(|a, b| a < b)
}

fn is_set<T: Ord>(values: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    values.into_iter().all(|value| seen.insert(value))
}

/// A piece of a signed [`GroupList`], from whoever has it whole to the others of the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsPart {
    pub number: ListNumber,
    /// Bytes of the whole list, signature included.
    pub len: u32,
    /// Which piece of [`GroupsPart::LEN`] bytes it is, from 0.
    pub part: u16,
    pub bytes: Vec<u8>,
}

impl GroupsPart {
    /// Bytes of every part but the last: with its envelope one datagram on a path of 1,500.
    pub const LEN: usize = 1_400;

    /// Parts of a list of so many bytes.
    pub const fn count(len: usize) -> u16 {
        len.div_ceil(Self::LEN) as u16
    }

    /// A part of a signed list; `None` where it has no such part.
    pub fn of(list: &[u8], number: ListNumber, part: u16) -> Option<Self> {
        let bytes = list.chunks(Self::LEN).nth(usize::from(part))?.to_vec();
        Some(Self { number, len: list.len() as u32, part, bytes })
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.number.encode(out);
        out.u32(self.len).u16(self.part).bytes16(&self.bytes);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let (number, len, part) = (ListNumber::decode(from)?, from.u32("length")?, from.u16("part")?);
        let bytes = from.bytes16(Self::LEN, "part")?.to_vec();
        let before = usize::from(part) * Self::LEN;
        let rest = (len as usize).saturating_sub(before).min(Self::LEN);
        if len as usize > GroupList::MAX || rest == 0 || bytes.len() != rest {
            return Err(Malformed::OutOfBounds("part"));
        }
        Ok(Self { number, len, part, bytes })
    }
}

/// "Send me these parts", to whoever says that it has a newer list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsRequest {
    /// What the asker wants, or a later one.
    pub number: ListNumber,
    /// Ascending; none: all of them.
    pub parts: Vec<u16>,
}

impl GroupsRequest {
    /// Parts of the longest list.
    pub const PARTS_MAX: usize = GroupList::MAX.div_ceil(GroupsPart::LEN);

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.number.encode(out);
        out.list(&self.parts, |out, part| {
            out.u16(*part);
        });
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let number = ListNumber::decode(from)?;
        let parts = from.list(Self::PARTS_MAX, "parts", |from| from.u16("part"))?;
        if !ascends(&parts) || parts.last().is_some_and(|part| usize::from(*part) >= Self::PARTS_MAX) {
            return Err(Malformed::OutOfBounds("parts"));
        }
        Ok(Self { number, parts })
    }
}

#[cfg(test)]
mod tests;
