//! Which jobs get in each other's way (SC-4..SC-6).

use crate::wire::id::{Name, NodeId};
use std::collections::BTreeSet;

/// A job that is not over: where it goes.
#[derive(Clone, Debug)]
pub struct Going<'a, K> {
    pub who: K,
    pub site: &'a Name,
    pub nodes: &'a BTreeSet<NodeId>,
}

/// Two jobs that go to the same site on the same nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<K> {
    pub with: K,
    pub nodes: Vec<NodeId>,
}

/// What a job to `site` on `nodes` would meet. First the sites of all that run are looked at, and another site is no
/// conflict; of those that go to the same site the nodes are compared, and any common node is one (SC-5).
pub fn find<K: Clone>(site: &Name, nodes: &BTreeSet<NodeId>, going: &[Going<'_, K>]) -> Vec<Conflict<K>> {
    let same = going.iter().filter(|other| other.site == site);
    same.filter_map(|other| {
        let common: Vec<NodeId> = nodes.intersection(other.nodes).copied().collect();
        (!common.is_empty()).then(|| Conflict { with: other.who.clone(), nodes: common })
    })
    .collect()
}
