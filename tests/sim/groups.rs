//! Lists of content groups, as `ccm/issue.rs` makes them: one group with all nodes that were ever reported in a
//! segment, a new list with every node that comes to it.

use crate::node::{segment_name, site};
use crate::world::World;
use farmcast::wire::groups::{Group, GroupList};
use farmcast::wire::id::{ListNumber, Name, NodeId};
use farmcast::wire::seal::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

#[derive(Clone, Debug, Default)]
struct List {
    number: ListNumber,
    members: BTreeSet<NodeId>,
    document: Vec<u8>,
    /// Last byte of its data channel.
    channel: u8,
}

#[derive(Debug)]
pub struct Lists {
    by_segment: BTreeMap<Name, List>,
    /// Numbers count over the farm.
    last: u64,
}

pub fn group() -> Name {
    Name::new("web").expect("a good name")
}

impl Lists {
    pub const fn new() -> Self {
        Self { by_segment: BTreeMap::new(), last: 0 }
    }

    /// These nodes were reported.
    pub fn refresh(&mut self, director: &SigningKey, segment: &Name, seen: impl IntoIterator<Item = NodeId>) {
        // Segments beyond 256 share channels with others that they do not hear.
        let channel = self.by_segment.len() as u8;
        let list =
            self.by_segment.entry(segment.clone()).or_insert_with(|| List { channel, ..List::default() });
        let before = list.members.len();
        list.members.extend(seen);
        if list.members.len() == before {
            return;
        }
        self.last += 1;
        list.number = ListNumber(self.last);
        let group = Group {
            name: group(),
            channel: SocketAddrV4::new(Ipv4Addr::new(239, 255, 128, list.channel), 7_402),
            sites: vec![site()],
            members: list.members.iter().copied().collect(),
        };
        let document = GroupList { number: list.number, segment: segment.clone(), groups: vec![group] };
        list.document = document.sign(director);
    }

    pub fn number(&self, segment: &Name) -> ListNumber {
        self.by_segment.get(segment).map_or(ListNumber(0), |list| list.number)
    }

    /// The segment's list, where it is newer than this one.
    pub fn newer(&self, segment: &Name, known: ListNumber) -> Option<Vec<u8>> {
        let list = self.by_segment.get(segment).filter(|list| list.number > known)?;
        Some(list.document.clone())
    }
}

impl World {
    /// Every living node goes by the newest list of its segment and listens on what that says (NS-15).
    ///
    /// # Errors
    /// What is not so.
    pub fn grouped(&self) -> Result<(), String> {
        for node in self.nodes.iter().filter(|node| node.is_alive()) {
            let engine = node.engine().expect("it lives");
            let (has, newest) =
                (engine.groups().number(), self.ccm.lists.number(&segment_name(node.segment)));
            if has != newest {
                return Err(format!("n{} goes by list {has}, the newest is {newest}", node.index));
            }
            if self.context.joined_data[node.index] != engine.groups().channels_of(node.id()) {
                return Err(format!("n{} listens on {:?}", node.index, self.context.joined_data[node.index]));
            }
        }
        Ok(())
    }
}
