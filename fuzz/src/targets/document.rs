//! Signed documents: reports, orders, notifications, requests to the CCM. The first byte chooses which one it is;
//! the signature is right.

use super::message::{announce, name, of_kinds, profile, request_messages, seeds_of};
use crate::memory::bounded;
use crate::seal::{AUTHORITY, NODE, node_id, signed, unsigned};
use farmcast::wire::bound::{Bound, Bounds, Step};
use farmcast::wire::charter::{Charter, Leaders};
use farmcast::wire::content_key::{ContentSecret, Salt};
use farmcast::wire::envelope::Message;
use farmcast::wire::id::{AssignmentId, CharterId, Epoch, ListNumber, NodeId, OrderId, RunId};
use farmcast::wire::key_grant::{KeyGrant, KeyRequest, Recipient};
use farmcast::wire::notify::{
    Forwarding, NextLeader, NextReply, NextRequest, Notification, Seek, Uplink, UplinkBody,
};
use farmcast::wire::order::{Action, Order};
use farmcast::wire::problem::{Cause, Problem, Straggler};
use farmcast::wire::quorum::Quorum;
use farmcast::wire::report::{Outcome, Reason, RunReport, SegmentReport, StatusReport, Subject};
use farmcast::wire::seal::Domain;

const CARRIED: [u8; 1] = [10];
const REQUESTS: [u8; 1] = [11];
const ORDERS: [u8; 1] = [12];

/// The node's own document: its id stands in front, by which the key is looked up.
fn of_node(domain: Domain, rest: &[u8]) -> Vec<u8> {
    signed(&NODE, domain, &[&node_id().0.to_be_bytes(), rest].concat())
}

/// The seed behind which [`of_node`] stands.
fn rest_of_node(document: Vec<u8>) -> Vec<u8> {
    unsigned(document).split_off(8)
}

fn with_choice(choice: u8, seeds: impl IntoIterator<Item = Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    seeds.into_iter().map(move |seed| [&[choice][..], &seed].concat())
}

pub fn report(data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else { return false };
    match choice % 3 {
        0 => of_kinds(&CARRIED, &[&[0], rest].concat()),
        1 => of_kinds(&REQUESTS, &[&[0], rest].concat()),
        _ => {
            let document = of_node(Domain::Report, rest);
            let read = bounded(&document, 64, || StatusReport::open(&document, &NODE.public()));
            assert_eq!(read, StatusReport::peek(&document));
            let Ok(report) = read else { return false };
            assert_eq!(report.sign(&NODE), document);
            true
        }
    }
}

pub fn report_seeds() -> Vec<Vec<u8>> {
    let subject = Subject::Assignment { run: RunId(4), assignment: AssignmentId(5) };
    let order = Subject::Order { run: RunId(4), order: OrderId(9) };
    let failed = Outcome::Failed { reason: Reason::NoSpace, text: "the disk is full".to_owned() };
    let reports = [(subject, Outcome::Staged), (order, Outcome::Switched { at: 99 }), (subject, failed)];
    let documents: Vec<Vec<u8>> = reports
        .map(|(subject, outcome)| StatusReport { node: node_id(), subject, outcome }.sign(&NODE))
        .into();
    let carried: Vec<Message> = documents.iter().cloned().map(Message::Status).collect();
    let behind_choice = |seed: Vec<u8>| seed[1..].to_vec();
    with_choice(0, seeds_of(&CARRIED, &carried).into_iter().map(behind_choice))
        .chain(with_choice(1, seeds_of(&REQUESTS, &request_messages()).into_iter().map(behind_choice)))
        .chain(with_choice(2, documents.into_iter().map(rest_of_node)))
        .collect()
}

pub fn order(data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else { return false };
    if choice % 2 == 0 {
        return of_kinds(&ORDERS, &[&[0], rest].concat());
    }
    let document = signed(&AUTHORITY, Domain::Order, rest);
    let read = bounded(&document, 64, || Order::open(&document, &AUTHORITY.public()));
    assert_eq!(read, Order::peek(&document));
    let Ok(order) = read else { return false };
    assert_eq!(order.sign(&AUTHORITY), document);
    true
}

pub fn order_seeds() -> Vec<Vec<u8>> {
    let order = |at| Order {
        order: OrderId(9),
        run: RunId(4),
        site: name("www"),
        action: Action::Commit { assignment: AssignmentId(5) },
        at,
        expires: 1_700_000_000,
    };
    let documents = [order(None), order(Some(1 << 60))].map(|order| order.sign(&AUTHORITY));
    let carried = documents.clone().map(Message::Order);
    let behind_choice = |seed: Vec<u8>| seed[1..].to_vec();
    with_choice(0, seeds_of(&ORDERS, &carried).into_iter().map(behind_choice))
        .chain(with_choice(1, documents.map(unsigned)))
        .collect()
}

pub fn notify(data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else { return false };
    if choice % 3 == 2 {
        let document = signed(&AUTHORITY, Domain::Charter, rest);
        let Ok(charter) = bounded(&document, 64, || Charter::open(&document, &AUTHORITY.public())) else {
            return false;
        };
        assert_eq!(charter.sign(&AUTHORITY), document);
    } else if choice % 3 == 0 {
        let document = signed(&AUTHORITY, Domain::Notification, rest);
        let read = bounded(&document, 64, || Notification::open(&document, &AUTHORITY.public()));
        let Ok(notification) = read else { return false };
        assert_eq!(notification.sign(&AUTHORITY), document);
    } else {
        let Ok(reply) = bounded(rest, 64, || NextReply::decode(rest)) else { return false };
        assert_eq!(reply.encode(), rest);
    }
    true
}

pub fn notify_seeds() -> Vec<Vec<u8>> {
    let notification = Notification {
        groups: ListNumber(3),
        run: RunId(4),
        assignment: AssignmentId(5),
        site: name("www"),
        group: name("www"),
        shape: announce().shape,
        leader: NodeId(1),
        source: profile().http,
        others: Vec::new(),
        forward: Forwarding::Whole,
        last: false,
        quorum: Some(Quorum::Percent(90)),
        bounds: Bounds(vec![
            Step { from_ns: 1_700_000_000_000_000_000, bound: Bound { farm: Some(6_250_000), site: None } },
            Step { from_ns: 1_700_000_600_000_000_000, bound: Bound { farm: None, site: Some(125_000) } },
        ]),
        expires: 1_700_000_000,
    };
    let document = notification.sign(&AUTHORITY);
    let next = NextLeader { text: profile().text, notification: document.clone() };
    let replies = [NextReply::Nobody, NextReply::Wait { millis: 200 }, NextReply::Serve(next)];
    let charter = Charter {
        number: CharterId(7),
        segment: name("boston"),
        title: name("East.Coast"),
        channel: Some("239.1.2.3:7401".parse().expect("an address")),
        leaders: Some(Leaders { nodes: vec![NodeId(1), NodeId(2)], open_after: Some(30) }),
    };
    let open = Charter { number: CharterId(8), channel: None, leaders: None, ..charter.clone() };
    let charters = [charter, open].map(|charter| unsigned(charter.sign(&AUTHORITY)));
    with_choice(0, [unsigned(document)])
        .chain(with_choice(1, replies.map(|reply| reply.encode())))
        .chain(with_choice(2, charters))
        .collect()
}

/// The CCM's answer to who asks for a content key.
pub fn key_grant(rest: &[u8]) -> bool {
    let document = signed(&AUTHORITY, Domain::ContentKey, rest);
    let read = bounded(&document, 64, || KeyGrant::peek(&document));
    let opened = KeyGrant::open(&document, &AUTHORITY.public(), &Recipient::default());
    assert!(opened.is_err(), "it was not sealed for this recipient");
    read.is_ok()
}

pub fn key_grant_seeds() -> Vec<Vec<u8>> {
    let request = key_request(Recipient::default().public());
    let key = ContentSecret([1; 32]).key(&request.site, request.assignment, &request.salt);
    vec![unsigned(KeyGrant::seal(&request, &key, &AUTHORITY).expect("a recipient"))]
}

pub fn key_request(recipient: [u8; 32]) -> KeyRequest {
    KeyRequest { site: name("www"), assignment: AssignmentId(5), salt: Salt([3; 16]), recipient }
}

/// What a leader posts to the CCM.
pub fn uplink(rest: &[u8]) -> bool {
    let document = of_node(Domain::Uplink, rest);
    assert_eq!(Uplink::claimed_sender(&document), Ok(node_id()));
    let Ok(uplink) = bounded(&document, 64, || Uplink::open(&document, &NODE.public())) else { return false };
    assert_eq!(uplink.sign(&NODE), document);
    true
}

pub fn uplink_seeds() -> Vec<Vec<u8>> {
    let subject = Subject::Assignment { run: RunId(4), assignment: AssignmentId(5) };
    let report = StatusReport { node: node_id(), subject, outcome: Outcome::Staged }.sign(&NODE);
    let segment = SegmentReport {
        segment: name("boston"),
        epoch: Epoch(5 << 16),
        charter: CharterId(3),
        behind: 1,
        channel: "239.1.2.3:7401".parse().expect("an address"),
        twins: vec![(NodeId(1), profile().datagram)],
        members: vec![profile()],
        by_unicast: vec![NodeId(1)],
    };
    let (reports, missing) = (vec![report], vec![NodeId(1)]);
    let run = RunReport { segment: name("boston"), subject, reports, missing, last: true };
    let next = NextRequest { run: RunId(4), assignment: AssignmentId(5), whole: true };
    let seek = Seek { segment: name("boston"), datagram: profile().datagram };
    let straggler = |cause, lacks| Straggler { node: NodeId(1), cause, lacks };
    let problem = Problem {
        segment: name("boston"),
        run: RunId(4),
        assignment: AssignmentId(5),
        participants: 8,
        needed: 7,
        complete: 6,
        passes: 12,
        stragglers: vec![straggler(Cause::Silent, None), straggler(Cause::TooCostly, Some(7))],
    };
    [
        UplinkBody::Segment(segment),
        UplinkBody::Run(run),
        UplinkBody::Next(next),
        UplinkBody::Problem(problem),
        UplinkBody::Seek(seek),
        UplinkBody::Key(key_request([5; 32])),
    ]
    .map(|body| rest_of_node(Uplink { node: node_id(), boot: 3, seq: 8, body }.sign(&NODE)))
    .into()
}
