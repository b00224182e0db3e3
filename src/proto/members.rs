//! Who takes part in a session, what each member last said, and how much it may ask for (LD-12, LD-19, LD-20).

use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use crate::wire::nack::Nack;
use crate::wire::problem::{Cause, Straggler};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It lacks something, or has not said that it does not.
    Pending,
    /// It holds every block.
    Complete,
    /// It gave up (no space, say).
    Failed,
    /// The session goes on without it: it fell silent, made no progress, or asked for too much.
    Missing,
    /// It left the segment: it takes part no more.
    Left,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    status: Status,
    /// Why it is missing, if it is.
    cause: Cause,
    /// It was there when the present question was asked.
    asked: bool,
    answered: bool,
    /// Parts of its answer that have come, one bit each.
    parts: u16,
    /// Questions in a row that it left unanswered, and when the first of them was over.
    silent: u8,
    silent_since: Instant,
    /// Frames it lacks by its last answer: those named so far, and those that its list had no room for.
    lacking: u64,
    unnamed: u64,
    told: bool,
    /// Fewest frames it ever lacked, and passes since.
    least: u64,
    stalled: u16,
    /// Frames that it asked for in all.
    claimed: u64,
    /// Lists that it may still send at once, as of `filled`.
    lists: f64,
    filled: Instant,
}

impl Member {
    const NEW: Self = Self {
        status: Status::Pending,
        cause: Cause::Silent,
        asked: false,
        answered: false,
        parts: 0,
        silent: 0,
        silent_since: Instant::ZERO,
        lacking: 0,
        unnamed: 0,
        told: false,
        least: u64::MAX,
        stalled: 0,
        claimed: 0,
        lists: LISTS_AT_ONCE,
        filled: Instant::ZERO,
    };
}

/// Lists that a member may send in a row, however few a second it is allowed: one in all its parts.
const LISTS_AT_ONCE: f64 = Nack::PARTS_MAX as f64;

/// How long a silent member is borne with: this many questions, and at least this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub questions: u8,
    pub span: Duration,
}

/// What one member may cause, so that a storm of lists raises no traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Lists a second beside the answers that it owes; what comes beyond is not read.
    pub lists_per_second: u16,
    /// It may ask for the whole object so often; then it is released to unicast.
    pub objects: u16,
    /// ... and for so many frames more, for small objects.
    pub frames: u32,
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

    /// All but those that left.
    pub fn participants(&self) -> u32 {
        self.total() - self.count(Status::Left)
    }

    pub fn count(&self, status: Status) -> u32 {
        self.by_node.values().filter(|member| member.status == status).count() as u32
    }

    /// The members of this status, in order.
    pub fn with(&self, status: Status) -> Vec<NodeId> {
        let of = self.by_node.iter().filter(|(_, member)| member.status == status);
        of.map(|(&node, _)| node).collect()
    }

    /// Those that take part and do not have everything, with what they lack by their last word.
    pub fn stragglers(&self) -> Vec<Straggler> {
        let behind = |member: &Member| match member.status {
            Status::Complete | Status::Left => None,
            Status::Failed => Some(Cause::Failed),
            Status::Missing => Some(member.cause),
            Status::Pending => Some(if member.told { Cause::NoProgress } else { Cause::Silent }),
        };
        let straggler = |(&node, member): (&NodeId, &Member)| {
            let lacks =
                member.told.then(|| u32::try_from(member.lacking + member.unnamed).unwrap_or(u32::MAX));
            Some(Straggler { node, cause: behind(member)?, lacks })
        };
        self.by_node.iter().filter_map(straggler).collect()
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

    /// Of four pending members that were asked at least three have answered.
    pub fn most_answered(&self) -> bool {
        let asked =
            || self.by_node.values().filter(|member| member.status == Status::Pending && member.asked);
        let answered = asked().filter(|member| member.answered).count();
        answered * 4 >= asked().count() * 3
    }

    /// Every pending member has answered, whether it was asked or came since.
    pub fn all_known(&self) -> bool {
        self.by_node.values().all(|member| member.status != Status::Pending || member.answered)
    }

    /// Whether this part of an answer of this node, if it names lacks, is its first to the present question.
    pub fn owes_answer(&self, node: NodeId, part: u8) -> bool {
        self.by_node.get(&node).is_some_and(|member| {
            member.status == Status::Pending && !member.answered && member.parts >> part & 1 == 0
        })
    }

    pub fn is_pending(&self, node: NodeId) -> bool {
        self.by_node.get(&node).is_some_and(|member| member.status == Status::Pending)
    }

    /// It said something. False if it is no member.
    pub fn heard(&mut self, node: NodeId) -> bool {
        self.by_node.get_mut(&node).map(|member| member.silent = 0).is_some()
    }

    /// It says something that it was not asked for. False if that is more than it may.
    pub fn allow(&mut self, now: Instant, node: NodeId, allowance: Allowance) -> bool {
        let Some(member) = self.by_node.get_mut(&node) else { return false };
        let earned = now.since(member.filled).as_secs_f64() * f64::from(allowance.lists_per_second);
        (member.lists, member.filled) = ((member.lists + earned).min(LISTS_AT_ONCE), now);
        let allowed = member.lists >= 1.0;
        member.lists -= f64::from(u8::from(allowed));
        allowed
    }

    /// A part of its answer came: it lacks so many frames, and so many that its list had no room for.
    pub fn answer(&mut self, node: NodeId, part: u8, parts: u8, lacking: u64, unnamed: u64) {
        if let Some(member) = self.by_node.get_mut(&node) {
            if member.parts == 0 {
                member.lacking = 0;
            }
            member.parts |= 1 << part;
            member.lacking += lacking;
            (member.unnamed, member.told) = (unnamed, true);
            member.answered = member.parts.count_ones() >= parts.into();
        }
    }

    /// It asks for so many frames, of an object of so many. If that is more than it may cause, the session goes
    /// on without it.
    pub fn claim(&mut self, node: NodeId, frames: u64, object: u64, allowance: Allowance) {
        let Some(member) = self.by_node.get_mut(&node) else { return };
        member.claimed = member.claimed.saturating_add(frames);
        let most = object.saturating_mul(allowance.objects.into()).saturating_add(allowance.frames.into());
        if member.claimed > most && member.status == Status::Pending {
            member.cause = Cause::TooCostly;
            self.set(node, Status::Missing);
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
        let gone = |member: &Member| matches!(member.status, Status::Missing | Status::Left);
        let before = self.by_node.get(&node);
        if before.is_none_or(gone) {
            // However often it comes back, what it asked for is not forgotten.
            let claimed = before.map_or(0, |member| member.claimed);
            self.by_node.insert(node, Member { claimed, ..Member::NEW });
            self.pending += 1;
        }
    }

    /// It left or died; what it has achieved stands.
    pub fn leave(&mut self, node: NodeId) {
        if self.by_node.get(&node).is_some_and(|member| member.status == Status::Pending) {
            self.set(node, Status::Left);
        }
    }

    /// All are asked anew.
    pub fn ask(&mut self) {
        for member in self.by_node.values_mut() {
            (member.asked, member.answered, member.parts) = (true, false, 0);
        }
    }

    /// Its answer is not awaited now: the session goes on without it until the others have everything.
    pub fn excuse(&mut self, node: NodeId) {
        if let Some(member) = self.by_node.get_mut(&node) {
            member.asked = false;
        }
    }

    /// Draws the conclusion from the answers to a question. Missing is a member that is silent beyond what
    /// `patience` allows, or made no progress in `tries_max` passes (LD-20). One that lacks more than `late`
    /// frames has missed the beginning: it says nothing about the link.
    pub fn conclude(&mut self, now: Instant, patience: Patience, tries_max: u16, late: u64) -> Outcome {
        let mut outcome = Outcome { worst: 0, stalled: 0 };
        for member in self.by_node.values_mut().filter(|member| member.status == Status::Pending) {
            let lacking = member.lacking + member.unnamed;
            let answered = member.answered || member.parts != 0;
            if !answered {
                if member.silent == 0 {
                    member.silent_since = now;
                }
                member.silent = member.silent.saturating_add(u8::from(member.asked));
            } else if lacking < member.least {
                (member.least, member.stalled) = (lacking, 0);
            } else {
                member.stalled += 1;
            }
            let gone = member.silent >= patience.questions && now.since(member.silent_since) >= patience.span;
            if gone || member.stalled >= tries_max {
                member.status = Status::Missing;
                member.cause = if gone { Cause::Silent } else { Cause::NoProgress };
                self.pending -= 1;
                continue;
            }
            outcome.stalled = outcome.stalled.max(member.stalled);
            if answered && lacking <= late {
                outcome.worst = outcome.worst.max(lacking);
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
        members.answer(NodeId(1), 0, 1, 5, 0);
        assert!(members.all_answered(2) && !members.all_known());

        let patience = Patience { questions: 3, span: Duration::from_secs(1) };
        for millis in [0, 50, 100] {
            members.ask();
            members.answer(NodeId(1), 0, 1, 5, 0);
            assert_eq!(members.all_answered(2), millis == 100, "at {millis} ms");
            members.conclude(Instant::ZERO + Duration::from_millis(millis), patience, 10, 100);
        }
        assert_eq!(members.with(Status::Missing), [], "three questions are not a second");
        members.ask();
        members.conclude(Instant::ZERO + Duration::from_secs(1), patience, 10, 100);
        assert_eq!(members.with(Status::Missing), [NodeId(2)]);
    }

    const ALLOWANCE: Allowance = Allowance { lists_per_second: 10, objects: 2, frames: 5 };

    #[test]
    fn a_member_may_send_so_many_lists_a_second_and_a_few_at_once() {
        let mut members = Members::new(&[NodeId(1)]);
        let mut allowed = |millis: u64| {
            let now = Instant::ZERO + Duration::from_millis(millis);
            (0..100).filter(|_| members.allow(now, NodeId(1), ALLOWANCE)).count()
        };
        assert_eq!([0, 1_000, 1_050, 1_100, 60_000].map(&mut allowed), [16, 10, 0, 1, 16]);
        assert!(!members.allow(Instant::ZERO, NodeId(2), ALLOWANCE), "it is no member");
    }

    #[test]
    fn who_asks_for_several_times_the_object_is_released_and_stays_so_when_it_comes_back() {
        let mut members = Members::new(&[NodeId(1), NodeId(2)]);
        members.claim(NodeId(1), 25, 10, ALLOWANCE);
        assert_eq!(members.with(Status::Missing), []);
        members.claim(NodeId(1), 1, 10, ALLOWANCE);
        assert_eq!(members.with(Status::Missing), [NodeId(1)]);
        members.join(NodeId(1));
        assert!(members.is_pending(NodeId(1)));
        members.claim(NodeId(1), 1, 10, ALLOWANCE);
        let cause = members.stragglers()[0].cause;
        assert_eq!((members.with(Status::Missing), cause), (vec![NodeId(1)], Cause::TooCostly));
    }

    #[test]
    fn who_left_is_no_participant() {
        let mut members = Members::new(&[NodeId(1), NodeId(2), NodeId(3)]);
        members.leave(NodeId(2));
        assert_eq!((members.total(), members.participants()), (3, 2));
        assert_eq!(members.stragglers().len(), 2);
        members.join(NodeId(2));
        assert_eq!(members.participants(), 3);
    }
}
