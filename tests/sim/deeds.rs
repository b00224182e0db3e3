//! What nodes did in truth, beside what they say and what others believe: the yardstick of the invariants.

use farmcast::time::Instant;
use farmcast::wire::id::{AssignmentId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Deeds {
    /// What lies ready in `temp` now.
    ready: BTreeMap<NodeId, AssignmentId>,
    staged: BTreeSet<(NodeId, AssignmentId)>,
    switched: BTreeMap<(NodeId, AssignmentId), Instant>,
}

impl Deeds {
    pub fn staged(&mut self, node: NodeId, assignment: AssignmentId) {
        self.ready.insert(node, assignment);
        self.staged.insert((node, assignment));
    }

    /// `temp` is being built anew.
    pub fn unstaged(&mut self, node: NodeId) {
        self.ready.remove(&node);
    }

    pub fn switched(&mut self, node: NodeId, assignment: AssignmentId, now: Instant) {
        self.ready.remove(&node);
        self.switched.insert((node, assignment), now);
    }

    /// Whether the node could switch to it now, or has.
    pub fn can_switch(&self, node: NodeId, assignment: AssignmentId) -> bool {
        self.ready.get(&node) == Some(&assignment) || self.has_switched(node, assignment)
    }

    pub fn has_staged(&self, node: NodeId, assignment: AssignmentId) -> bool {
        self.staged.contains(&(node, assignment))
    }

    pub fn has_switched(&self, node: NodeId, assignment: AssignmentId) -> bool {
        self.switched_at(node, assignment).is_some()
    }

    pub fn switched_at(&self, node: NodeId, assignment: AssignmentId) -> Option<Instant> {
        self.switched.get(&(node, assignment)).copied()
    }

    /// Whether anybody went live with it.
    pub fn is_live_anywhere(&self, assignment: AssignmentId) -> bool {
        self.switched.keys().any(|(_, of)| *of == assignment)
    }
}
