//! Content groups: which nodes a site is published to, and what the list of a segment has to say of it (DB-4,
//! NS-13, LD-2). Pure.
//!
//! A site is served by one group. Unless an operator gave it another, that is its default group, which has its
//! name and holds every node that reports to host it. An operator's group holds nodes chosen by name or by
//! segment; of these those are its members that host one of its sites.

pub mod channels;
pub mod choice;
#[cfg(test)]
mod tests;

use super::model::Node;
use crate::wire::groups::Group as Listed;
use crate::wire::id::{Name, NodeId};
use choice::Choice;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Name,
    pub nodes: Nodes,
    /// Sites that it serves, by name.
    pub sites: Vec<Name>,
}

/// Whom a group is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// The default group of a site: everybody.
    All,
    /// Whom an operator chose.
    Chosen(Vec<Choice>),
}

impl Group {
    /// Whether the operator wants the node in it, whatever it hosts.
    pub fn chooses(&self, node: &Node) -> bool {
        self.chooses_one(&node.name, node.seen.as_ref().map(|seen| &seen.segment))
    }

    /// The same of a node of this name, last seen in this segment.
    pub fn chooses_one(&self, node: &Name, segment: Option<&Name>) -> bool {
        match &self.nodes {
            Nodes::All => true,
            Nodes::Chosen(choices) => choices.iter().any(|choice| choice.fits(node, segment)),
        }
    }

    /// Whether the node belongs to it: it is chosen, and hosts a site of the group.
    pub fn holds(&self, node: &Node) -> bool {
        self.chooses(node) && self.sites.iter().any(|site| node.site(site).is_some())
    }

    pub const fn is_default(&self) -> bool {
        matches!(self.nodes, Nodes::All)
    }
}

/// The group that serves a site.
pub fn serving<'a>(groups: &'a [Group], site: &Name) -> Option<&'a Group> {
    groups.iter().find(|group| group.sites.contains(site))
}

/// Whether a node is to have what is published of a site: its group chooses it and it hosts the site.
pub fn takes(groups: &[Group], node: &Node, site: &Name) -> bool {
    node.site(site).is_some() && serving(groups, site).is_some_and(|group| group.chooses(node))
}

/// What a segment's list has to say of a group, but for the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: Name,
    pub sites: Vec<Name>,
    pub members: Vec<NodeId>,
}

impl Planned {
    pub fn on(self, channel: SocketAddrV4) -> Listed {
        let Self { name, sites, members } = self;
        Listed { name, channel, sites, members }
    }
}

/// The groups that have a member among these nodes of a segment, by name.
pub fn plan(groups: &[Group], nodes: &[Node]) -> Vec<Planned> {
    let mut planned = BTreeMap::new();
    for group in groups {
        let mut members: Vec<NodeId> =
            nodes.iter().filter(|node| group.holds(node)).map(|node| node.id).collect();
        if !members.is_empty() {
            members.sort_unstable();
            let mut sites = group.sites.clone();
            sites.sort_unstable();
            planned.insert(&group.name, Planned { name: group.name.clone(), sites, members });
        }
    }
    planned.into_values().collect()
}
