//! Nodes that multicast does not reach (LD-24): who looks for its segment, and whom leaders serve by unicast.
//! Kept in memory only: leaders say it with every report, seekers ask every few seconds.

use super::model::Node;
use crate::wire::control::Peer;
use crate::wire::id::{Name, NodeId};
use crate::wire::notify::{Peers, Seek};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A node that has not asked for so long has found its segment, or is gone: nodes ask every 10 s or sooner.
const SEEKS_NS: u64 = 20_000_000_000;

#[derive(Debug)]
struct Seeker {
    segment: Name,
    datagram: SocketAddr,
    last_ns: u64,
}

#[derive(Debug, Default)]
pub struct Reach {
    /// One for each node of the farm at most: only nodes that have joined are heard.
    seekers: BTreeMap<NodeId, Seeker>,
    by_unicast: BTreeMap<Name, Vec<NodeId>>,
}

impl Reach {
    /// A leader reported. True where the members that it serves by unicast are others than before.
    pub fn on_report(&mut self, segment: &Name, by_unicast: Vec<NodeId>) -> bool {
        let before = self.by_unicast.get(segment).map_or(&[][..], Vec::as_slice);
        let is_news = before != by_unicast;
        if by_unicast.is_empty() {
            self.by_unicast.remove(segment);
        } else if is_news {
            self.by_unicast.insert(segment.clone(), by_unicast);
        }
        is_news
    }

    /// Members that the leader's multicast does not reach.
    pub fn by_unicast(&self, segment: &Name) -> &[NodeId] {
        self.by_unicast.get(segment).map_or(&[], Vec::as_slice)
    }

    /// Who else is in the asker's segment: its leader, members from the one seen last on, others that ask.
    pub fn on_seek(
        &mut self,
        asker: NodeId,
        seek: &Seek,
        nodes: &[Node],
        leader: Option<NodeId>,
        now_ns: u64,
    ) -> Peers {
        self.seekers.retain(|_, seeker| now_ns.saturating_sub(seeker.last_ns) < SEEKS_NS);
        let entry = Seeker { segment: seek.segment.clone(), datagram: seek.datagram, last_ns: now_ns };
        self.seekers.insert(asker, entry);

        let seen = |node: &Node| Some((node.id, node.seen.clone()?));
        let mut members: Vec<_> =
            nodes.iter().filter_map(seen).filter(|(_, seen)| seen.segment == seek.segment).collect();
        members
            .sort_by_key(|(node, seen)| (Some(*node) != leader, !seen.online, std::cmp::Reverse(seen.at_ns)));
        let seekers = self.seekers.iter().filter(|(_, seeker)| seeker.segment == seek.segment);
        // What a node says of itself now is newer than what its leader said of it.
        let mut peers: Vec<Peer> = members
            .iter()
            .filter(|(node, _)| !self.seekers.contains_key(node))
            .map(|(node, seen)| Peer { node: *node, datagram: seen.datagram })
            .collect();
        let place = usize::from(peers.first().is_some_and(|first| Some(first.node) == leader));
        let others = seekers.map(|(node, seeker)| Peer { node: *node, datagram: seeker.datagram });
        peers.splice(place..place, others.filter(|peer| peer.node != asker));
        peers.truncate(Peers::PEERS_MAX);
        Peers { asker, peers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::model::Seen;
    use crate::wire::seal::PublicKey;

    fn address(number: u8) -> SocketAddr {
        format!("10.0.0.{number}:7411").parse().unwrap()
    }

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn node(number: u8, segment: &str, online: bool, at_ns: u64) -> Node {
        let datagram = address(number);
        Node {
            id: NodeId(number.into()),
            name: name(&format!("n{number}")),
            key: PublicKey([0; 32]),
            can_lead: true,
            seen: Some(Seen {
                segment: name(segment),
                online,
                at_ns,
                datagram,
                http: datagram,
                text: datagram,
                priority: 0,
                processors: 1,
                free_memory: 0,
                free_disk: 0,
                groups: crate::wire::id::ListNumber(0),
                leads: true,
                machine: crate::wire::control::Machine::default(),
                sites: Vec::new(),
            }),
        }
    }

    fn ask(reach: &mut Reach, asker: u8, nodes: &[Node], leader: Option<u64>, now_ns: u64) -> Vec<u64> {
        let seek = Seek { segment: name("boston"), datagram: address(asker) };
        let answer = reach.on_seek(NodeId(asker.into()), &seek, nodes, leader.map(NodeId), now_ns);
        assert_eq!(answer.asker, NodeId(asker.into()));
        answer.peers.iter().map(|peer| peer.node.0).collect()
    }

    #[test]
    fn nodes_that_nobody_ever_saw_are_told_of_each_other() {
        let mut reach = Reach::default();
        assert!(ask(&mut reach, 1, &[], None, 0).is_empty());
        assert_eq!(ask(&mut reach, 2, &[], None, 1), [1]);
        assert_eq!(ask(&mut reach, 1, &[], None, 2), [2]);
        assert_eq!(ask(&mut reach, 3, &[], None, SEEKS_NS + 1), [1], "the second has stopped asking");
    }

    #[test]
    fn the_leader_comes_first_then_seekers_then_members_as_they_were_seen() {
        let mut reach = Reach::default();
        let nodes = [
            node(1, "boston", false, 90),
            node(2, "boston", true, 50),
            node(3, "boston", true, 70),
            node(4, "boston", true, 60),
            node(5, "tokyo", true, 99),
        ];
        ask(&mut reach, 7, &nodes, Some(2), 100);
        assert_eq!(ask(&mut reach, 6, &nodes, Some(2), 100), [2, 7, 3, 4, 1]);
    }

    #[test]
    fn an_answer_fits_however_many_there_are() {
        let nodes: Vec<Node> = (1..=100).map(|number| node(number, "boston", true, 0)).collect();
        assert_eq!(ask(&mut Reach::default(), 101, &nodes, None, 0).len(), Peers::PEERS_MAX);
    }

    #[test]
    fn news_of_a_segment_is_told_once() {
        let (mut reach, boston) = (Reach::default(), name("boston"));
        assert!(!reach.on_report(&boston, vec![]));
        assert!(reach.on_report(&boston, vec![NodeId(1)]));
        assert!(!reach.on_report(&boston, vec![NodeId(1)]));
        assert_eq!(reach.by_unicast(&boston), [NodeId(1)]);
        assert!(reach.on_report(&boston, vec![]));
        assert_eq!(reach.by_unicast(&boston), []);
    }
}
