//! Whether a run goes on, commits, or fails. Pure.
//!
//! Of the nodes that were online when the run was composed a quorum must have the assignment staged before the commit
//! order goes out: all of them, unless the run's rules say otherwise (B-15). If they are fewer, nothing goes live
//! anywhere (CO-8). All are waited for until the deadline; those who have not staged it then stay as they are and are
//! named. Once the order is out, what nodes report is recorded as it is: live on all, on some, or on none.

#[cfg(test)]
mod tests;

use super::api::types::Phase;
use super::clock::NS_PER_S;
use super::model::{JobKind, NodeState, Run, RunNode};
use crate::wire::id::{AssignmentId, NodeId, OrderId};
use crate::wire::order::Order;
use crate::wire::problem::Problem;
use crate::wire::quorum::Quorum;
use crate::wire::report::{Outcome, Reason, StatusReport, Subject};

/// Time in which the other nodes may still report after the first failed: so that the text names all
/// that failed, not only the fastest.
pub const FAILURE_GRACE_NS: u64 = 2_000_000_000;
/// Time for which a node may be out of its segment's report before it counts as missing: a new leader
/// reports before all members have registered with it.
pub const OFFLINE_GRACE_NS: u64 = 5_000_000_000;
/// Nodes that a text names before it says how many more.
const NAMED_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Wait,
    /// All have it staged: order the switch.
    Commit,
    /// The run ends in this phase with this sentence.
    End(Phase, String),
}

/// What to do while nodes stage. `deadline_ns` ends the wait for reports. A node that has staged and is then
/// out of sight (`staged_online` is false) could not be told to switch: it comes back, or it counts as missing
/// soon.
pub fn while_staging(
    nodes: &[RunNode],
    quorum: Quorum,
    staged_online: bool,
    now_ns: u64,
    deadline_ns: u64,
) -> Decision {
    let of = |state| nodes.iter().filter(|node| node.state == state).count();
    let (staged, waiting) = (of(NodeState::Staged), of(NodeState::Waiting));
    let needed = quorum.needed(u32::try_from(nodes.len()).unwrap_or(u32::MAX)) as usize;
    let in_time = now_ns < deadline_ns;
    if waiting > 0 && staged + waiting >= needed && in_time {
        return Decision::Wait;
    }
    if staged >= needed {
        return if staged_online { Decision::Commit } else { Decision::Wait };
    }
    let first_failure = nodes.iter().filter(|node| is_lost(node)).map(|node| node.changed_ns).min();
    let grace_ends = first_failure.map_or(u64::MAX, |at| at.saturating_add(FAILURE_GRACE_NS));
    if waiting > 0 && in_time && now_ns < grace_ends {
        return Decision::Wait;
    }
    let lost: Vec<&RunNode> = nodes.iter().filter(|node| node.state != NodeState::Staged).collect();
    let but = match quorum {
        Quorum::All => String::new(),
        quorum => format!("; {needed} are needed (quorum {quorum})"),
    };
    let text = format!(
        "live was not touched anywhere: {} of {} did not stage it: {}{but}",
        lost.len(),
        count(nodes.len()),
        name_them(&lost)
    );
    Decision::End(Phase::Failed, text)
}

/// The order to switch goes out: who has not staged by now is not waited for, and keeps what it has (B-15).
pub fn leave_behind(nodes: &mut [RunNode], now_ns: u64) {
    give_up_waiting(nodes, "had not staged it when the others switched", now_ns);
}

/// Enough have staged the part that was sent (AS-13): those that have are waited for with the next one, the others are
/// lost, for they could not stage that.
pub fn go_on_to_next_part(run: &Run, nodes: &mut [RunNode], now_ns: u64) {
    let text = format!("had not staged part {} when the others went on", run.parts.done + 1);
    give_up_waiting(nodes, &text, now_ns);
    for node in nodes.iter_mut().filter(|node| node.state == NodeState::Staged) {
        (node.state, node.changed_ns) = (NodeState::Waiting, now_ns);
    }
}

fn give_up_waiting(nodes: &mut [RunNode], text: &str, now_ns: u64) {
    for node in nodes.iter_mut().filter(|node| node.state == NodeState::Waiting) {
        (node.state, node.changed_ns) = (NodeState::Missing, now_ns);
        node.text = text.to_owned();
    }
}

/// What to do while nodes stage what they lack of the version that others have live: it goes live on those that
/// have staged it, whatever became of the rest, for nobody waits for them all.
pub fn while_synchronizing(nodes: &[RunNode], all_online: bool, now_ns: u64, deadline_ns: u64) -> Decision {
    let waiting = nodes.iter().any(|node| node.state == NodeState::Waiting);
    let staged = nodes.iter().any(|node| node.state == NodeState::Staged);
    match (waiting && now_ns < deadline_ns, staged) {
        (true, _) => Decision::Wait,
        (false, true) if all_online => Decision::Commit,
        (false, true) => Decision::Wait,
        (false, false) => {
            let lost: Vec<&RunNode> = nodes.iter().collect();
            Decision::End(Phase::Failed, format!("live was not touched: {}", name_them(&lost)))
        }
    }
}

/// The nodes that lost a run, where all of them did because their live tree is not what its version was signed as;
/// `None` where that would not help, or nobody was lost.
pub fn without_base(nodes: &[RunNode]) -> Option<Vec<NodeId>> {
    let lost: Vec<&RunNode> = nodes.iter().filter(|node| node.state != NodeState::Staged).collect();
    let stale =
        |node: &&RunNode| node.state == NodeState::Failed && node.reason == Reason::StaleBase.to_string();
    (!lost.is_empty() && lost.iter().all(stale)).then(|| lost.iter().map(|node| node.node).collect())
}

/// What to do once the commit order is out; and from the start where each node goes live by itself (CO-11).
pub fn while_committing(nodes: &[RunNode], now_ns: u64, deadline_ns: u64) -> Decision {
    let live = nodes.iter().filter(|node| node.state == NodeState::Live).count();
    if live == nodes.len() {
        return Decision::End(Phase::Done, format!("live on {}", count(live)));
    }
    let open = nodes.iter().any(|node| matches!(node.state, NodeState::Staged | NodeState::Waiting));
    if open && now_ns < deadline_ns {
        return Decision::Wait;
    }
    let lost: Vec<&RunNode> = nodes.iter().filter(|node| node.state != NodeState::Live).collect();
    let names = name_them(&lost);
    if live == 0 {
        let text = format!("no node reported the switch: {names}; the next publish replaces what they hold");
        return Decision::End(Phase::Failed, text);
    }
    let text = format!(
        "live on {live} of {}; not on {names}; they keep what they had: publish again, or `farmcast synchronize`",
        count(nodes.len())
    );
    Decision::End(Phase::Partial, text)
}

/// Whether all go back to what was live before: a run that put something new live has ended, and fewer are live than
/// its rules ask for (TH-5, SC-10). The sentence that says so; `None` where it stays.
pub fn falls_short(run: &Run, nodes: &[RunNode]) -> Option<String> {
    let is_new = match run.kind {
        JobKind::Publish { .. } | JobKind::Restore { .. } | JobKind::Remove => true,
        JobKind::Synchronize | JobKind::Rollback | JobKind::Switch { .. } | JobKind::Checkpoint => false,
    };
    let threshold = run.terms.rules.threshold;
    let live = nodes.iter().filter(|node| node.state == NodeState::Live).count();
    let needed = threshold.needed(u32::try_from(nodes.len()).unwrap_or(u32::MAX)) as usize;
    (is_new && live < needed).then(|| {
        format!(
            "job {} is live on {live} of {}, and {needed} are needed (threshold {threshold})",
            run.job,
            count(nodes.len())
        )
    })
}

/// Takes a node's own word. True where it changed something; what is not of this run, or comes after the
/// node went live, changes nothing.
pub fn note_report(run: &Run, node: &mut RunNode, subject: &Subject, outcome: &Outcome, now_ns: u64) -> bool {
    let assignment = run.sent().map(|assignment| assignment.id);
    let order = run.order.as_ref().map(|order| order.id);
    let mut to = RunNode { changed_ns: now_ns, reason: String::new(), text: String::new(), ..node.clone() };
    match (subject, outcome, run.phase) {
        (_, _, _) if subject.run() != run.id => return false,
        // It went live by the order that came with the assignment. That it is live its leader may have told before, but
        // not when it came to that.
        (Subject::Assignment { assignment: about, .. }, Outcome::Switched { at }, Phase::Distributing)
            if Some(*about) == assignment && order.is_some() =>
        {
            (to.state, to.switched_ns) = (NodeState::Live, *at);
        }
        (_, _, _) if node.state == NodeState::Live => return false,
        (Subject::Assignment { assignment: about, .. }, Outcome::Staged, Phase::Distributing)
            if Some(*about) == assignment =>
        {
            to.state = NodeState::Staged;
        }
        // Who lost a part cannot stage the next: why it lost that one tells more.
        (Subject::Assignment { .. }, Outcome::Failed { reason: Reason::NotStaged, .. }, _)
            if node.state == NodeState::Failed =>
        {
            return false;
        }
        (
            Subject::Assignment { assignment: about, .. },
            Outcome::Failed { reason, text },
            Phase::Distributing,
        ) if Some(*about) == assignment => {
            (to.state, to.reason, to.text) = (NodeState::Failed, reason.to_string(), text.clone());
        }
        (Subject::Order { order: about, .. }, Outcome::Switched { at }, Phase::Committing)
            if Some(*about) == order =>
        {
            (to.state, to.switched_ns) = (NodeState::Live, *at);
        }
        // Of what was not staged the first reason is the one that tells.
        (Subject::Order { order: about, .. }, Outcome::Failed { reason, text }, Phase::Committing)
            if Some(*about) == order && node.state != NodeState::Failed =>
        {
            (to.state, to.reason, to.text) = (NodeState::Failed, reason.to_string(), text.clone());
        }
        _ => return false,
    }
    let same = RunNode { changed_ns: node.changed_ns, ..to.clone() } == *node;
    if !same {
        *node = to;
    }
    !same
}

/// The order of the run, where a node refused it as older than one that it carried out, and not as void by now.
pub fn refused_as_older(run: &Run, said: &StatusReport, now_ns: u64) -> Option<OrderId> {
    let Outcome::Failed { reason: Reason::OldOrder, .. } = said.outcome else { return None };
    let order = run.order.as_ref().filter(|order| match said.subject {
        Subject::Order { run: of, order: about } => of == run.id && about == order.id,
        Subject::Assignment { run: of, .. } => of == run.id,
    })?;
    let expires = Order::peek(&order.bytes).ok()?.expires;
    (now_ns / NS_PER_S < expires).then_some(order.id)
}

/// Takes it that nothing more will be heard of a node, until it speaks again. True where that is news.
pub fn note_missing(run: &Run, node: &mut RunNode, text: &str, now_ns: u64) -> bool {
    let open = match node.state {
        NodeState::Waiting | NodeState::Staged => true,
        NodeState::Live | NodeState::Failed | NodeState::Missing => false,
    };
    let running = matches!(run.phase, Phase::Distributing | Phase::Committing);
    if open && running {
        (node.state, node.changed_ns) = (NodeState::Missing, now_ns);
        (node.reason, node.text) = (String::new(), text.to_owned());
    }
    open && running
}

/// Takes a leader's word that multicast did not bring the assignment to enough members: each that it names and
/// that has not reported gets a text. Returns a sentence on all of it, for the history.
pub fn note_problem(nodes: &mut [RunNode], problem: &Problem) -> String {
    let mut named = Vec::new();
    for straggler in &problem.stragglers {
        let Some(node) = nodes.iter_mut().find(|node| node.node == straggler.node) else { continue };
        let lacks = match straggler.lacks {
            Some(1) => "1 frame lacked".to_owned(),
            Some(frames) => format!("{frames} frames lacked"),
            None => "it never said what lacked".to_owned(),
        };
        let text = format!("{} while it was multicast, {lacks}; pulls it from its leader", straggler.cause);
        named.push(format!("{} ({text})", node.name));
        if node.state == NodeState::Waiting && node.segment == problem.segment {
            node.text = text;
        }
    }
    format!(
        "segment {}: multicast reached {} of {}, {} needed, in {} passes: {}",
        problem.segment,
        problem.complete,
        count(problem.participants as usize),
        problem.needed,
        problem.passes,
        shorten(named),
    )
}

/// How a run ends that an operator cancels while each node goes live by itself: who is live already stays so, and is
/// named; `before` is the version that the site has.
pub fn cancelled(run: &Run, nodes: &[RunNode], before: Option<AssignmentId>) -> String {
    let live: Vec<&RunNode> = nodes.iter().filter(|node| node.state == NodeState::Live).collect();
    let back = match before {
        Some(version) => format!("`farmcast synchronize {}` brings all to version {version}", run.site),
        None => format!("`farmcast publish {}` replaces it", run.site),
    };
    let names = shorten(live.iter().map(|node| node.name.to_string()).collect());
    let already = match live.len() {
        0 if !run.parts.is_at_last() => {
            return format!("cancelled by an operator; not live on any of {}", count(nodes.len()));
        }
        0 => format!("not live on any of {}", count(nodes.len())),
        some => format!("live already on {some} of {}: {names}", count(nodes.len())),
    };
    format!("cancelled by an operator; {already}; nodes that have received it may still follow; {back}")
}

/// One sentence on a run that is under way, with the part that is sent where it is split.
pub fn progress(run: &Run, nodes: &[RunNode]) -> String {
    let standing = standing(run.phase, nodes);
    match run.parts.position().filter(|_| run.phase == Phase::Distributing) {
        Some(position) => format!("{position}: {standing}"),
        None => standing,
    }
}

fn standing(phase: Phase, nodes: &[RunNode]) -> String {
    let of = |states: &[NodeState]| nodes.iter().filter(|node| states.contains(&node.state)).count();
    let (mut text, total) = match phase {
        Phase::Committing => (format!("live on {}", of(&[NodeState::Live])), count(nodes.len())),
        _ if of(&[NodeState::Live]) > 0 => {
            (format!("live on {}", of(&[NodeState::Live])), count(nodes.len()))
        }
        _ => (format!("staged on {}", of(&[NodeState::Staged, NodeState::Live])), count(nodes.len())),
    };
    text.push_str(&format!(" of {total}"));
    let lost: Vec<&RunNode> = nodes.iter().filter(|node| is_lost(node)).collect();
    if !lost.is_empty() {
        text.push_str(&format!("; lost: {}", name_them(&lost)));
    }
    text
}

/// How the nodes of a run stand, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub total: u32,
    /// Staged, or live already.
    pub staged: u32,
    pub live: u32,
    /// Failed or missing.
    pub lost: u32,
    /// When the first and the last of them switched; 0 for one that has not.
    pub switched_ns: (u64, u64),
}

impl Standing {
    pub fn of(nodes: &[RunNode]) -> Self {
        let of = |states: &[NodeState]| {
            let count = nodes.iter().filter(|node| states.contains(&node.state)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let switched = || nodes.iter().map(|node| node.switched_ns);
        Self {
            total: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            staged: of(&[NodeState::Staged, NodeState::Live]),
            live: of(&[NodeState::Live]),
            lost: of(&[NodeState::Failed, NodeState::Missing]),
            switched_ns: (switched().min().unwrap_or(0), switched().max().unwrap_or(0)),
        }
    }

    /// Microseconds between the first and the last switch; `None` before all have switched.
    pub fn switch_spread_us(&self) -> Option<u64> {
        let (first, last) = self.switched_ns;
        (self.total > 0 && self.live == self.total).then(|| (last - first) / 1_000)
    }
}

fn is_lost(node: &RunNode) -> bool {
    matches!(node.state, NodeState::Failed | NodeState::Missing)
}

fn count(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

fn name_them(nodes: &[&RunNode]) -> String {
    let named = nodes.iter().take(NAMED_MAX).map(|node| match node.state {
        NodeState::Failed => format!("{} ({}: {})", node.name, node.reason, node.text),
        NodeState::Missing => format!("{} ({})", node.name, node.text),
        NodeState::Waiting | NodeState::Staged | NodeState::Live => format!("{} (did not answer)", node.name),
    });
    let more = nodes.len().saturating_sub(NAMED_MAX);
    and_more(named.collect(), more)
}

fn shorten(mut named: Vec<String>) -> String {
    let more = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    and_more(named, more)
}

fn and_more(named: Vec<String>, more: usize) -> String {
    let mut text = named.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
