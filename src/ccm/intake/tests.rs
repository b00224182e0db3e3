use super::*;
use crate::ccm::api::types::Phase;
use crate::ccm::model::{Assignment, Composition, JobKind, NodeState, Run};
use crate::ccm::testing::{
    SECOND, T0, controller, enrol, id, key, name, profile, segment_report, signed_order, store, uplink,
};
use crate::wire::assignment::{Kind, Shape};
use crate::wire::id::{AssignmentId, ObjectName, OrderId, RunId};
use crate::wire::join::Token;
use crate::wire::problem::{Cause, Straggler};
use crate::wire::report::{Outcome, Subject};
use std::path::Path;

fn segment_uplink(sender: u8, seq: u64, members: &[u8]) -> Vec<u8> {
    let members = members.iter().map(|&number| profile(number, &[("www", 0)])).collect();
    uplink(sender, seq, UplinkBody::Segment(segment_report("boston", 1, members)))
}

#[test]
fn a_request_counts_once_and_only_with_its_nodes_signature() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    let bytes = segment_uplink(1, 5, &[1]);
    let stranger = take_uplink(&mut store, &segment_uplink(2, 5, &[2]), T0);
    assert!(matches!(stranger, Err(UplinkRefused::Stranger(node)) if node == id(2)));
    for at in (8..bytes.len()).step_by(7) {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert!(matches!(take_uplink(&mut store, &forged, T0), Err(UplinkRefused::Forged(_))), "{at}");
    }
    assert!(matches!(take_uplink(&mut store, &bytes[..5], T0), Err(UplinkRefused::Malformed(_))));
    assert!(store.segments().unwrap().is_empty(), "nothing of this was believed");

    let taken = take_uplink(&mut store, &bytes, T0).unwrap();
    let (segment, by_unicast, groups) = (name("boston"), vec![], ListNumber(0));
    assert_eq!(taken, Taken::Segment { segment, by_unicast, groups });
    assert!(matches!(take_uplink(&mut store, &bytes, T0), Err(UplinkRefused::Replayed(_))));
    let older = segment_uplink(1, 4, &[1]);
    assert!(matches!(take_uplink(&mut store, &older, T0), Err(UplinkRefused::Replayed(_))));
    assert!(take_uplink(&mut store, &segment_uplink(1, 6, &[1]), T0).is_ok());
    let absent = take_uplink(&mut store, &segment_uplink(1, 7, &[2]), T0);
    assert!(matches!(absent, Err(UplinkRefused::Report(_))));
}

#[test]
fn who_may_not_lead_cannot_report() {
    let (_dir, mut store) = store();
    let follower = Enrolment { key: key(1).public(), name: name("n1"), can_lead: false };
    store.enrol(&follower, T0).unwrap();
    let refused = take_uplink(&mut store, &segment_uplink(1, 1, &[1]), T0);
    assert!(matches!(refused, Err(UplinkRefused::MayNotLead(_))));
    // But it may ask who is in its segment.
    let seek = Seek { segment: name("boston"), datagram: "10.0.0.1:1".parse().unwrap() };
    let asks = uplink(1, 2, UplinkBody::Seek(seek.clone()));
    assert_eq!(take_uplink(&mut store, &asks, T0).unwrap(), Taken::Seek(id(1), seek));
}

/// A run over nodes 1 to 3 of boston, led by 1, being distributed.
fn distributing(store: &mut Store) -> Run {
    (1..=4).for_each(|number| enrol(store, number));
    take_uplink(store, &segment_uplink(1, 1, &[1, 2, 3]), T0).unwrap();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let run = store.add_job(JobKind::Publish { checksum: false }, &name("www"), T0).unwrap();
    let shape = Shape { name: ObjectName([0; 32]), command_len: 500, data_len: 0 };
    let assignment =
        Assignment { id: AssignmentId(1), kind: Kind::Replicate, base: None, shape, composed_ns: T0 };
    let nodes: Vec<RunNode> = (1..=3)
        .map(|number| RunNode {
            node: id(number),
            name: name(&format!("n{number}")),
            segment: name("boston"),
            state: NodeState::Waiting,
            reason: String::new(),
            text: String::new(),
            changed_ns: 0,
            switched_ns: 0,
        })
        .collect();
    store.begin_distribution(&run, &Composition::default(), &assignment, &nodes, T0).unwrap();
    store.run(run.id).unwrap().unwrap()
}

fn said(number: u8, subject: Subject, outcome: Outcome) -> Vec<u8> {
    StatusReport { node: id(number), subject, outcome }.sign(&key(number))
}

fn states(store: &Store) -> Vec<(u8, NodeState)> {
    let nodes = store.run_nodes(RunId(1)).unwrap();
    nodes.iter().map(|node| ((1..5).find(|&n| id(n) == node.node).unwrap(), node.state)).collect()
}

/// SR-17.
#[test]
fn every_nodes_word_is_checked_with_its_own_key() {
    let (_dir, mut store) = store();
    let run = distributing(&mut store);
    let subject = Subject::Assignment { run: run.id, assignment: AssignmentId(1) };
    let forged = StatusReport { node: id(3), subject, outcome: Outcome::Staged }.sign(&key(1));
    let report = RunReport {
        segment: name("boston"),
        subject,
        reports: vec![
            said(1, subject, Outcome::Staged),
            said(2, subject, Outcome::Staged),
            forged,
            vec![1, 2, 3],
            said(4, subject, Outcome::Staged),
        ],
        missing: vec![],
        last: false,
    };
    take_uplink(&mut store, &uplink(1, 2, UplinkBody::Run(report)), T0 + 7).unwrap();
    assert_eq!(states(&store), [(1, NodeState::Staged), (2, NodeState::Staged), (3, NodeState::Waiting)]);
    assert_eq!(store.run(run.id).unwrap().unwrap().text, "staged on 2 of 3 nodes");
}

#[test]
fn only_the_leader_of_its_segment_says_who_is_missing_and_a_late_word_wins() {
    let (_dir, mut store) = store();
    let run = distributing(&mut store);
    let subject = Subject::Assignment { run: run.id, assignment: AssignmentId(1) };
    let report = |reports, missing| {
        UplinkBody::Run(RunReport { segment: name("boston"), subject, reports, missing, last: true })
    };
    take_uplink(&mut store, &uplink(2, 1, report(vec![], vec![id(3)])), T0).unwrap();
    assert_eq!(states(&store)[2], (3, NodeState::Waiting));
    take_uplink(&mut store, &uplink(1, 2, report(vec![], vec![id(3)])), T0).unwrap();
    assert_eq!(states(&store)[2], (3, NodeState::Missing));
    let late = report(vec![said(3, subject, Outcome::Staged)], vec![]);
    take_uplink(&mut store, &uplink(1, 3, late), T0).unwrap();
    assert_eq!(states(&store)[2], (3, NodeState::Staged));
}

#[test]
fn switches_are_recorded_with_their_instants_and_a_run_that_is_over_stays_as_it_is() {
    let (_dir, mut store) = store();
    let run = distributing(&mut store);
    store.issue_order(run.id, T0, T0, |order| signed_order(order, run.id, 1)).unwrap();
    let subject = Subject::Order { run: run.id, order: OrderId(1) };
    let mut seq = 10;
    let mut send = |store: &mut Store, number, outcome| {
        seq += 1;
        let reports = vec![said(number, subject, outcome)];
        let report = RunReport { segment: name("boston"), subject, reports, missing: vec![], last: false };
        take_uplink(store, &uplink(1, seq, UplinkBody::Run(report)), T0).unwrap();
    };
    send(&mut store, 1, Outcome::Switched { at: T0 + 5 });
    let nodes = store.run_nodes(run.id).unwrap();
    let one = nodes.iter().find(|node| node.node == id(1)).unwrap();
    assert_eq!((one.state, one.switched_ns), (NodeState::Live, T0 + 5));
    store.end_run(run.id, Phase::Failed, "x", None, T0).unwrap();
    send(&mut store, 2, Outcome::Switched { at: T0 + 6 });
    assert!(!states(&store).contains(&(2, NodeState::Live)));
}

#[test]
fn a_node_joins_with_its_token_and_gets_a_certificate_that_verifies() {
    let (_dir, controller) = controller(0);
    let keys = &controller.keys;
    let token = Token::new([5; 32]);
    let join = |request: &JoinRequest, token: &Token, now| {
        let bytes = request.seal(token);
        let taken = controller.store_blocking(|store| Ok(take_join(store, keys, &bytes, now)));
        taken.unwrap()
    };
    let request = JoinRequest { public_key: key(1).public(), name: name("web1") };
    assert!(matches!(join(&request, &token, T0), Err(JoinRefused::NoToken)));
    let add = |store: &mut Store| store.add_invite(&token, Some(&name("web1")), true, T0 + SECOND);
    controller.store_blocking(add).unwrap();
    let other = JoinRequest { name: name("web2"), ..request.clone() };
    assert!(matches!(join(&other, &token, T0), Err(JoinRefused::OtherName(_))));
    assert!(matches!(join(&request, &token, T0 + SECOND), Err(JoinRefused::NoToken)), "expired");

    let first = JoinReply::open(&join(&request, &token, T0).unwrap(), &token).unwrap();
    assert_eq!((first.certificate.node(), first.certificate.can_lead), (id(1), true));
    assert_eq!(first.farm, keys.farm());
    let again = JoinReply::open(&join(&request, &token, T0).unwrap(), &token).unwrap();
    assert_eq!(again, first, "the reply may have been lost");
    let thief = JoinRequest { public_key: key(2).public(), ..request };
    assert!(matches!(join(&thief, &token, T0), Err(JoinRefused::Used)));
}

/// LD-20, SR-15.
#[test]
fn a_problem_is_written_beside_the_nodes_it_names_and_into_the_history_if_the_leader_tells_it() {
    let (_dir, mut store) = store();
    let run = distributing(&mut store);
    let problem = |segment: &str| {
        let straggler = |number, cause, lacks| Straggler { node: id(number), cause, lacks };
        UplinkBody::Problem(Problem {
            segment: name(segment),
            run: run.id,
            assignment: AssignmentId(1),
            participants: 2,
            needed: 2,
            complete: 0,
            passes: 12,
            stragglers: vec![straggler(2, Cause::NoProgress, Some(40)), straggler(3, Cause::Silent, None)],
        })
    };
    let texts = |store: &Store| -> Vec<String> {
        store.run_nodes(RunId(1)).unwrap().into_iter().map(|node| node.text).collect()
    };
    take_uplink(&mut store, &uplink(2, 1, problem("boston")), T0).unwrap();
    take_uplink(&mut store, &uplink(1, 2, problem("tokyo")), T0).unwrap();
    assert_eq!(texts(&store), ["", "", ""], "who does not lead the segment is not believed");
    take_uplink(&mut store, &uplink(1, 3, problem("boston")), T0).unwrap();
    let told = [
        "",
        "made no progress while it was multicast, 40 frames lacked; pulls it from its leader",
        "fell silent while it was multicast, it never said what lacked; pulls it from its leader",
    ];
    assert_eq!(texts(&store), told);
    assert!(states(&store).iter().all(|(_, state)| *state == NodeState::Waiting), "it may still come");
    let (subject, text) = store.events(1).unwrap().remove(0);
    assert_eq!(subject, "run 1");
    assert!(
        text.starts_with("segment boston: multicast reached 0 of 2 nodes, 2 needed, in 12 passes: n2 ("),
        "{text}"
    );
    // What they report themselves takes its place.
    let subject = Subject::Assignment { run: run.id, assignment: AssignmentId(1) };
    let reports = vec![said(2, subject, Outcome::Staged)];
    let report = RunReport { segment: name("boston"), subject, reports, missing: vec![], last: false };
    take_uplink(&mut store, &uplink(1, 4, UplinkBody::Run(report)), T0).unwrap();
    assert_eq!(texts(&store)[1], "");
}
