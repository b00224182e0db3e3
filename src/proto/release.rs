//! Members that pull an object from their leader over HTTP, because its frames do not reach them (LD-24): so
//! many at a time that neither the leader's line nor its server is overrun, the others in the order in which
//! they came.

use crate::time::{Duration, Instant};
use crate::wire::id::{AssignmentId, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// Members that pull at once.
pub const PULLS_MAX: usize = 8;
/// After so long without a report the next one begins as well.
const PATIENCE: Duration = Duration::from_secs(60);

type Pull = (AssignmentId, NodeId);

#[derive(Clone, Debug, Default)]
pub struct Release {
    waiting: VecDeque<Pull>,
    /// When each is to make room for the next; `None` where it had to.
    pulling: BTreeMap<Pull, Option<Instant>>,
    /// Members released so far.
    pub released: u64,
}

impl Release {
    /// This member is to pull the object of this assignment; once, however often it is said.
    pub fn push(&mut self, assignment: AssignmentId, node: NodeId) {
        let pull = (assignment, node);
        if !self.pulling.contains_key(&pull) && !self.waiting.contains(&pull) {
            self.waiting.push_back(pull);
        }
    }

    /// Members that may begin now.
    pub fn begin(&mut self, now: Instant) -> Vec<Pull> {
        for until in self.pulling.values_mut() {
            until.take_if(|at| now >= *at);
        }
        let busy = self.pulling.values().flatten().count();
        let begun: Vec<Pull> =
            self.waiting.drain(..self.waiting.len().min(PULLS_MAX.saturating_sub(busy))).collect();
        self.pulling.extend(begun.iter().map(|pull| (*pull, Some(now + PATIENCE))));
        self.released += begun.len() as u64;
        begun
    }

    /// It has not begun: nobody is to tell it where the object is.
    pub fn is_waiting(&self, assignment: AssignmentId, node: NodeId) -> bool {
        self.waiting.contains(&(assignment, node))
    }

    /// Members that pull this object now.
    pub fn pulling(&self, assignment: AssignmentId) -> impl Iterator<Item = NodeId> {
        let range = (assignment, NodeId(0))..=(assignment, NodeId(u64::MAX));
        self.pulling.range(range).map(|((_, node), _)| *node)
    }

    /// It reported on the assignment.
    pub fn done(&mut self, assignment: AssignmentId, node: NodeId) {
        self.retain(|pull| pull != (assignment, node));
    }

    pub fn gone(&mut self, node: NodeId) {
        self.retain(|(_, of)| of != node);
    }

    /// Keeps the assignments that are still under way.
    pub fn keep(&mut self, goes_on: impl Fn(AssignmentId) -> bool) {
        self.retain(|(assignment, _)| goes_on(assignment));
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        if self.waiting.is_empty() { None } else { self.pulling.values().flatten().min().copied() }
    }

    fn retain(&mut self, keep: impl Fn(Pull) -> bool) {
        self.waiting.retain(|pull| keep(*pull));
        self.pulling.retain(|pull, _| keep(*pull));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: AssignmentId = AssignmentId(1);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn nodes(pulls: &[Pull]) -> Vec<u64> {
        pulls.iter().map(|(_, node)| node.0).collect()
    }

    #[test]
    fn so_many_pull_at_once_and_the_next_when_one_has_reported() {
        let mut release = Release::default();
        for node in 0..20 {
            release.push(FIRST, NodeId(node));
            release.push(FIRST, NodeId(node));
        }
        assert_eq!(nodes(&release.begin(at(0))), (0..8).collect::<Vec<u64>>());
        assert!(release.begin(at(0)).is_empty());
        assert!(release.is_waiting(FIRST, NodeId(8)) && !release.is_waiting(FIRST, NodeId(7)));
        release.done(FIRST, NodeId(3));
        release.done(FIRST, NodeId(9));
        assert_eq!(nodes(&release.begin(at(1))), [8]);
        release.gone(NodeId(4));
        assert_eq!(nodes(&release.begin(at(1))), [10]);
        assert_eq!(release.pulling(FIRST).count(), PULLS_MAX);
    }

    #[test]
    fn who_never_reports_does_not_hold_up_the_others_for_ever() {
        let mut release = Release::default();
        (0..9).for_each(|node| release.push(FIRST, NodeId(node)));
        assert_eq!(release.begin(at(0)).len(), PULLS_MAX);
        assert_eq!(release.next_deadline(), Some(at(60)));
        assert!(release.begin(at(59)).is_empty());
        assert_eq!(nodes(&release.begin(at(60))), [8]);
        assert_eq!(release.next_deadline(), None);
    }

    #[test]
    fn a_run_that_is_over_holds_nothing_up() {
        let mut release = Release::default();
        (0..9).for_each(|node| release.push(FIRST, NodeId(node)));
        release.push(AssignmentId(2), NodeId(1));
        release.begin(at(0));
        release.keep(|assignment| assignment != FIRST);
        assert_eq!(release.begin(at(0)), [(AssignmentId(2), NodeId(1))]);
    }
}
