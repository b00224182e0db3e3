//! Who takes part in a session, and what each member last said (LD-12, LD-19, LD-20).

use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It lacks something, or has not said that it does not.
    Pending,
    /// It holds every block.
    Complete,
    /// It gave up (no space, say).
    Failed,
    /// It left, fell silent, or made no progress.
    Missing,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    status: Status,
    /// It was there when the present question was asked.
    asked: bool,
    answered: bool,
    /// Questions in a row that it left unanswered, and when the first of them was over.
    silent: u8,
    silent_since: Instant,
    /// Frames it lacks by its last answer.
    lacking: u64,
    /// Fewest frames it ever lacked, and passes since.
    least: u64,
    stalled: u16,
}

impl Member {
    const NEW: Self = Self {
        status: Status::Pending,
        asked: false,
        answered: false,
        silent: 0,
        silent_since: Instant::ZERO,
        lacking: 0,
        least: u64::MAX,
        stalled: 0,
    };
}

/// How long a silent member is borne with: this many questions, and at least this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub questions: u8,
    pub span: Duration,
}

/// What the answers to one question say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Most frames that a member lacks, not counting members that came late.
    pub worst: u64,
    /// Most passes in a row that a member made no progress.
    pub stalled: u16,
}

/// The members of a session.
#[derive(Clone, Debug)]
pub struct Members {
    by_node: BTreeMap<NodeId, Member>,
    pending: u32,
}

impl Members {
    /// All pending, and asked by the session's opening.
    pub fn new(nodes: &[NodeId]) -> Self {
        let by_node: BTreeMap<_, _> =
            nodes.iter().map(|&node| (node, Member { asked: true, ..Member::NEW })).collect();
        Self { pending: by_node.len() as u32, by_node }
    }

    pub fn total(&self) -> u32 {
        self.by_node.len() as u32
    }

    pub fn count(&self, status: Status) -> u32 {
        self.by_node.values().filter(|member| member.status == status).count() as u32
    }

    /// The members of this status, in order.
    pub fn with(&self, status: Status) -> Vec<NodeId> {
        let of = self.by_node.iter().filter(|(_, member)| member.status == status);
        of.map(|(&node, _)| node).collect()
    }

    /// Nobody is left who could get more.
    pub const fn settled(&self) -> bool {
        self.pending == 0
    }

    /// Every pending member that was asked has answered; those that left `pardon` questions in a row
    /// unanswered before are not counted.
    pub fn all_answered(&self, pardon: u8) -> bool {
        let owes = |member: &Member| {
            member.status == Status::Pending && member.asked && !member.answered && member.silent < pardon
        };
        !self.by_node.values().any(owes)
    }

    /// Every pending member has answered, whether it was asked or came since.
    pub fn all_known(&self) -> bool {
        self.by_node.values().all(|member| member.status != Status::Pending || member.answered)
    }

    /// Whether an answer of this node, if it names lacks, is its first to the present question.
    pub fn owes_answer(&self, node: NodeId) -> bool {
        self.by_node.get(&node).is_some_and(|member| member.status == Status::Pending && !member.answered)
    }

    /// It said something. False if it is no member.
    pub fn heard(&mut self, node: NodeId) -> bool {
        self.by_node.get_mut(&node).map(|member| member.silent = 0).is_some()
    }

    /// It answered that it lacks so many frames.
    pub fn answer(&mut self, node: NodeId, lacking: u64) {
        if let Some(member) = self.by_node.get_mut(&node) {
            (member.answered, member.lacking) = (true, lacking);
        }
    }

    pub fn set(&mut self, node: NodeId, status: Status) {
        if let Some(member) = self.by_node.get_mut(&node) {
            self.pending -= u32::from(member.status == Status::Pending);
            self.pending += u32::from(status == Status::Pending);
            member.status = status;
        }
    }

    /// It came, or came back.
    pub fn join(&mut self, node: NodeId) {
        if self.by_node.get(&node).is_none_or(|member| member.status == Status::Missing) {
            self.by_node.insert(node, Member::NEW);
            self.pending += 1;
        }
    }

    /// It left or died; what it has achieved stands.
    pub fn leave(&mut self, node: NodeId) {
        if self.by_node.get(&node).is_some_and(|member| member.status == Status::Pending) {
            self.set(node, Status::Missing);
        }
    }

    /// All are asked anew.
    pub fn ask(&mut self) {
        for member in self.by_node.values_mut() {
            (member.asked, member.answered) = (true, false);
        }
    }

    /// Draws the conclusion from the answers to a question. Missing is a member that is silent beyond what
    /// `patience` allows, or made no progress in `tries_max` passes (LD-20). One that lacks more than `late`
    /// frames has missed the beginning: it says nothing about the link.
    pub fn conclude(&mut self, now: Instant, patience: Patience, tries_max: u16, late: u64) -> Outcome {
        let mut outcome = Outcome { worst: 0, stalled: 0 };
        for member in self.by_node.values_mut().filter(|member| member.status == Status::Pending) {
            if !member.answered {
                if member.silent == 0 {
                    member.silent_since = now;
                }
                member.silent = member.silent.saturating_add(u8::from(member.asked));
            } else if member.lacking < member.least {
                (member.least, member.stalled) = (member.lacking, 0);
            } else {
                member.stalled += 1;
            }
            let gone = member.silent >= patience.questions && now.since(member.silent_since) >= patience.span;
            if gone || member.stalled >= tries_max {
                member.status = Status::Missing;
                self.pending -= 1;
                continue;
            }
            outcome.stalled = outcome.stalled.max(member.stalled);
            if member.answered && member.lacking <= late {
                outcome.worst = outcome.worst.max(member.lacking);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_those_pending_is_kept_through_all_changes() {
        let nodes: Vec<NodeId> = (0..4).map(NodeId).collect();
        let mut members = Members::new(&nodes);
        let mut rng = crate::proto::random::Rng::new(8);
        let patience = Patience { questions: 3, span: Duration::ZERO };
        for _ in 0..2_000 {
            let node = NodeId(rng.below(6));
            match rng.below(6) {
                0 => members.join(node),
                1 => members.leave(node),
                2 => members.set(node, Status::Complete),
                3 => members.set(node, Status::Failed),
                4 => members.ask(),
                _ => {
                    members.conclude(Instant::ZERO, patience, 3, 100);
                }
            }
            assert_eq!(members.settled(), members.count(Status::Pending) == 0);
            assert_eq!(members.pending, members.count(Status::Pending));
        }
    }

    #[test]
    fn a_member_that_was_not_asked_or_is_silent_anyway_is_not_waited_for() {
        let mut members = Members::new(&[NodeId(1)]);
        members.join(NodeId(2));
        assert!(!members.all_answered(2));
        members.answer(NodeId(1), 5);
        assert!(members.all_answered(2) && !members.all_known());

        let patience = Patience { questions: 3, span: Duration::from_secs(1) };
        for millis in [0, 50, 100] {
            members.ask();
            members.answer(NodeId(1), 5);
            assert_eq!(members.all_answered(2), millis == 100, "at {millis} ms");
            members.conclude(Instant::ZERO + Duration::from_millis(millis), patience, 10, 100);
        }
        assert_eq!(members.with(Status::Missing), [], "three questions are not a second");
        members.ask();
        members.conclude(Instant::ZERO + Duration::from_secs(1), patience, 10, 100);
        assert_eq!(members.with(Status::Missing), [NodeId(2)]);
    }
}
