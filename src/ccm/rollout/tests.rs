use super::*;
use crate::ccm::model::{Assignment, IssuedOrder, JobKind, Parts};
use crate::ccm::testing;
use crate::wire::assignment::{Kind, Shape};
use crate::wire::id::{AssignmentId, Name, NodeId, ObjectName, OrderId, RunId};
use crate::wire::order::Action;
use crate::wire::quorum::Quorum;
use crate::wire::report::Reason;

const DEADLINE: u64 = 60_000_000_000;

fn node(name: &str, state: NodeState) -> RunNode {
    RunNode {
        node: NodeId(1),
        name: Name::new(name).unwrap(),
        segment: Name::new("boston").unwrap(),
        state,
        reason: if state == NodeState::Failed { "no-space".to_owned() } else { String::new() },
        text: match state {
            NodeState::Failed => "3 MiB lack".to_owned(),
            NodeState::Missing => "went offline".to_owned(),
            _ => String::new(),
        },
        changed_ns: 1_000_000_000,
        switched_ns: 0,
    }
}

fn nodes(states: &[NodeState]) -> Vec<RunNode> {
    states.iter().enumerate().map(|(index, &state)| node(&format!("n{index}"), state)).collect()
}

fn run(phase: Phase) -> Run {
    let shape = Shape { name: ObjectName([0; 32]), command_len: 1_000, data_len: 0 };
    Run {
        kind: JobKind::Publish { checksum: false },
        assignment: Some(Assignment {
            id: AssignmentId(6),
            kind: Kind::Replicate,
            base: None,
            shape,
            composed_ns: 0,
        }),
        parts: Parts::default(),
        order: (phase == Phase::Committing).then(|| IssuedOrder {
            id: OrderId(7),
            bytes: Vec::new(),
            action: Action::Commit { assignment: AssignmentId(6) },
            at_ns: 0,
        }),
        ..testing::run(5, "www", phase)
    }
}

#[test]
fn all_staged_commits_and_nothing_less_does() {
    use NodeState::{Failed, Missing, Staged, Waiting};
    let soon = 1_500_000_000;
    assert_eq!(while_staging(&nodes(&[Staged, Staged]), Quorum::All, true, soon, DEADLINE), Decision::Commit);
    // One of them was lost after it had staged: ordering the switch now would leave it behind.
    assert_eq!(while_staging(&nodes(&[Staged, Staged]), Quorum::All, false, soon, DEADLINE), Decision::Wait);
    assert_eq!(while_staging(&nodes(&[Staged, Waiting]), Quorum::All, true, soon, DEADLINE), Decision::Wait);
    assert_eq!(while_staging(&nodes(&[Failed, Waiting]), Quorum::All, true, soon, DEADLINE), Decision::Wait);
    for (states, now, text) in [
        (&[Staged, Failed][..], soon, "1 of 2 nodes did not stage it: n1 (no-space: 3 MiB lack)"),
        (&[Staged, Missing], soon, "1 of 2 nodes did not stage it: n1 (went offline)"),
        (&[Failed, Waiting], 3_000_000_000, "n0 (no-space: 3 MiB lack), n1 (did not answer)"),
        (&[Staged, Waiting], DEADLINE, "1 of 2 nodes did not stage it: n1 (did not answer)"),
        (&[Failed; 7], soon, " and 2 more"),
    ] {
        match while_staging(&nodes(states), Quorum::All, true, now, DEADLINE) {
            Decision::End(Phase::Failed, said) => {
                assert!(said.contains(text) && said.starts_with("live was not touched"), "{said}");
            }
            other => panic!("{states:?}: {other:?}"),
        }
    }
}

#[test]
fn after_the_order_what_nodes_say_is_how_it_ended() {
    use NodeState::{Failed, Live, Missing, Staged};
    let phase = |states: &[NodeState], now| match while_committing(&nodes(states), now, DEADLINE) {
        Decision::End(phase, _) => Some(phase),
        Decision::Wait => None,
        Decision::Commit => panic!("it is ordered already"),
    };
    assert_eq!(phase(&[Live, Staged], 0), None);
    assert_eq!(phase(&[Live, Live], 0), Some(Phase::Done));
    assert_eq!(phase(&[Live, Failed], 0), Some(Phase::Partial));
    assert_eq!(phase(&[Live, Missing], 0), Some(Phase::Partial));
    assert_eq!(phase(&[Live, Staged], DEADLINE), Some(Phase::Partial));
    assert_eq!(phase(&[Failed, Missing], 0), Some(Phase::Failed));
    assert_eq!(phase(&[Staged, Staged], DEADLINE), Some(Phase::Failed));
}

#[test]
fn a_report_counts_only_for_its_own_run_document_and_phase() {
    let staged = Outcome::Staged;
    let switched = Outcome::Switched { at: 99 };
    let failed = Outcome::Failed { reason: Reason::NoSpace, text: "full".to_owned() };
    let about = |run, id| Subject::Assignment { run: RunId(run), assignment: AssignmentId(id) };
    let order = |run, id| Subject::Order { run: RunId(run), order: OrderId(id) };
    let table = [
        (Phase::Distributing, NodeState::Waiting, about(5, 6), &staged, Some(NodeState::Staged)),
        (Phase::Distributing, NodeState::Missing, about(5, 6), &staged, Some(NodeState::Staged)),
        (Phase::Distributing, NodeState::Waiting, about(5, 6), &failed, Some(NodeState::Failed)),
        (Phase::Distributing, NodeState::Staged, about(5, 6), &staged, None),
        (Phase::Distributing, NodeState::Waiting, about(4, 6), &staged, None),
        (Phase::Distributing, NodeState::Waiting, about(5, 5), &staged, None),
        (Phase::Distributing, NodeState::Waiting, order(5, 7), &switched, None),
        (Phase::Distributing, NodeState::Waiting, about(5, 6), &switched, None),
        (Phase::Committing, NodeState::Staged, about(5, 6), &failed, None),
        (Phase::Committing, NodeState::Staged, order(5, 7), &switched, Some(NodeState::Live)),
        (Phase::Committing, NodeState::Missing, order(5, 7), &switched, Some(NodeState::Live)),
        (Phase::Committing, NodeState::Staged, order(5, 7), &failed, Some(NodeState::Failed)),
        (Phase::Committing, NodeState::Staged, order(5, 8), &switched, None),
        (Phase::Committing, NodeState::Live, order(5, 7), &failed, None),
        (Phase::Done, NodeState::Staged, order(5, 7), &switched, None),
    ];
    for (phase, before, subject, outcome, after) in table {
        let mut one = node("n", before);
        let news = note_report(&run(phase), &mut one, &subject, outcome, 123);
        assert_eq!((news, one.state), (after.is_some(), after.unwrap_or(before)), "{phase:?} {subject:?}");
    }
}

/// CO-11.
#[test]
fn a_node_goes_live_by_itself_only_where_the_order_was_sent_along_and_tells_when_that_was() {
    let about = Subject::Assignment { run: RunId(5), assignment: AssignmentId(6) };
    let switched = Outcome::Switched { at: 99 };
    let failed = Outcome::Failed { reason: Reason::NoSpace, text: "full".to_owned() };
    let with = Run { order: run(Phase::Committing).order, ..run(Phase::Distributing) };
    assert!(!note_report(
        &run(Phase::Distributing),
        &mut node("n", NodeState::Waiting),
        &about,
        &switched,
        123
    ));
    for state in [NodeState::Waiting, NodeState::Missing] {
        let mut node = node("n", state);
        assert!(note_report(&with, &mut node, &about, &switched, 123));
        assert_eq!((node.state, node.switched_ns), (NodeState::Live, 99));
        assert!(!note_report(&with, &mut node, &about, &failed, 124), "it is live");
    }
    let other = Subject::Assignment { run: RunId(5), assignment: AssignmentId(7) };
    assert!(!note_report(&with, &mut node("n", NodeState::Waiting), &other, &switched, 123));
    // What its leader saw first, a moment later, is put right.
    let mut seen = RunNode { switched_ns: 120, ..node("n", NodeState::Live) };
    assert!(note_report(&with, &mut seen, &about, &switched, 123));
    assert_eq!((seen.state, seen.switched_ns), (NodeState::Live, 99));
    assert!(!note_report(&with, &mut seen, &about, &switched, 124), "no news");

    let some = nodes(&[NodeState::Live, NodeState::Waiting, NodeState::Live]);
    assert_eq!(progress(&run(Phase::Distributing), &some), "live on 2 of 3 nodes");
    let text = cancelled(&with, &some, Some(AssignmentId(4)));
    assert!(
        text.contains("live already on 2 of 3 nodes: n0, n2; nodes that have received it may still"),
        "{text}"
    );
    assert!(text.ends_with("brings all to version 4"), "{text}");
    let text = cancelled(&with, &some[1..2], None);
    assert!(text.contains("not live on any of 1 node") && text.contains("`farmcast publish www`"), "{text}");
}

#[test]
fn a_node_that_has_reported_its_end_cannot_go_missing() {
    for (state, news) in [
        (NodeState::Waiting, true),
        (NodeState::Staged, true),
        (NodeState::Live, false),
        (NodeState::Failed, false),
        (NodeState::Missing, false),
    ] {
        assert_eq!(note_missing(&run(Phase::Committing), &mut node("n", state), "x", 1), news);
        assert!(!note_missing(&run(Phase::Done), &mut node("n", state), "x", 1));
    }
}

#[test]
fn the_spread_is_known_when_all_have_switched() {
    let mut two = nodes(&[NodeState::Live, NodeState::Staged]);
    (two[0].switched_ns, two[1].switched_ns) = (5_000, 12_000);
    assert_eq!(Standing::of(&two).switch_spread_us(), None);
    two[1].state = NodeState::Live;
    assert_eq!(Standing::of(&two).switch_spread_us(), Some(7));
    assert_eq!(Standing::of(&[]).switch_spread_us(), None);
}

/// AS-13.
#[test]
fn who_has_a_part_is_waited_for_with_the_next_and_who_lost_one_is_lost_with_its_reason() {
    use NodeState::{Failed, Missing, Staged, Waiting};
    let whole = run(Phase::Distributing);
    let part = Assignment { id: AssignmentId(6).part_of(1), ..whole.assignment.unwrap() };
    let first = Run { parts: Parts { before: vec![part], ..Parts::default() }, ..whole };
    let last = Run { parts: Parts { done: 1, ..first.parts.clone() }, ..first.clone() };
    let mut some = nodes(&[Staged, Waiting, Failed, Missing]);
    assert!(progress(&first, &some).starts_with("part 1 of 2: staged on 1 of 4 nodes; lost: "));

    // A report counts for the part that is sent, and for no other.
    let about = |assignment| Subject::Assignment { run: RunId(5), assignment };
    for (run, sent, other) in [(&first, part.id, AssignmentId(6)), (&last, AssignmentId(6), part.id)] {
        assert!(!note_report(run, &mut node("n", Waiting), &about(other), &Outcome::Staged, 1));
        assert!(note_report(run, &mut node("n", Waiting), &about(sent), &Outcome::Staged, 1));
    }
    go_on_to_next_part(&first, &mut some, 123);
    let states: Vec<NodeState> = some.iter().map(|node| node.state).collect();
    assert_eq!(states, [Waiting, Missing, Failed, Missing]);
    assert_eq!(
        (some[0].changed_ns, some[1].text.as_str()),
        (123, "had not staged part 1 when the others went on")
    );
    assert_eq!(progress(&last, &some[..1]), "part 2 of 2: staged on 0 of 1 node");
    let refused = Outcome::Failed { reason: Reason::NotStaged, text: "part 2 of 2".to_owned() };
    assert!(!note_report(&last, &mut some[2], &about(AssignmentId(6)), &refused, 1), "it is lost already");
    assert!(note_report(&last, &mut some[0], &about(AssignmentId(6)), &refused, 1));
    let ordered = Run { order: run(Phase::Committing).order, ..first };
    assert!(!cancelled(&ordered, &some[..1], None).contains("may still follow"), "no order is out");
}

#[test]
fn progress_counts_and_names_who_is_lost() {
    let some = nodes(&[NodeState::Staged, NodeState::Waiting, NodeState::Failed]);
    assert_eq!(
        progress(&run(Phase::Distributing), &some),
        "staged on 1 of 3 nodes; lost: n2 (no-space: 3 MiB lack)"
    );
    assert_eq!(progress(&run(Phase::Committing), &nodes(&[NodeState::Live])), "live on 1 of 1 node");
}

/// B-15: all are waited for until the deadline; then the quorum is enough, and who lacks stays as it is.
#[test]
fn a_quorum_commits_without_those_who_cannot_and_waits_for_those_who_may() {
    use NodeState::{Failed, Missing, Staged, Waiting};
    let soon = 1_500_000_000;
    let decide = |states: &[NodeState], quorum: &str, online, now| {
        while_staging(&nodes(states), quorum.parse().unwrap(), online, now, DEADLINE)
    };
    for quorum in ["2", "60%"] {
        // Two of three have it, and the third may still come.
        assert_eq!(decide(&[Staged, Staged, Waiting], quorum, true, soon), Decision::Wait);
        assert_eq!(decide(&[Staged, Staged, Waiting], quorum, true, 30 * soon), Decision::Wait);
        assert_eq!(decide(&[Staged, Staged, Waiting], quorum, true, DEADLINE), Decision::Commit);
        // It cannot.
        assert_eq!(decide(&[Staged, Staged, Failed], quorum, true, soon), Decision::Commit);
        assert_eq!(decide(&[Staged, Staged, Missing], quorum, true, soon), Decision::Commit);
        assert_eq!(decide(&[Staged, Staged, Missing], quorum, false, soon), Decision::Wait);
        // One has failed, and two may still be enough: however long after the failure.
        assert_eq!(decide(&[Staged, Waiting, Failed], quorum, true, 30_000_000_000), Decision::Wait);
        // They cannot be enough any more: others may be named for a moment.
        assert_eq!(decide(&[Failed, Waiting, Failed], quorum, true, soon), Decision::Wait);
        for (states, now) in [
            (&[Failed, Waiting, Failed], 3_000_000_000),
            (&[Staged, Failed, Failed], soon),
            (&[Staged, Waiting, Waiting], DEADLINE),
        ] {
            let Decision::End(Phase::Failed, text) = decide(states, quorum, true, now) else {
                panic!("{states:?}");
            };
            assert!(text.starts_with("live was not touched anywhere"), "{text}");
            assert!(text.ends_with(&format!("; 2 are needed (quorum {quorum})")), "{text}");
        }
    }
    let mut left = nodes(&[Staged, Waiting, Failed]);
    leave_behind(&mut left, 7);
    let states: Vec<NodeState> = left.iter().map(|node| node.state).collect();
    assert_eq!((states, left[1].changed_ns), (vec![Staged, Missing, Failed], 7));
}
