//! Envelopes, and the messages in them by kind.

use crate::memory::bounded;
use crate::seal::{self, CERTIFICATE, SEALER};
use farmcast::wire::assignment::Shape;
use farmcast::wire::control::{
    ClockReply, ClockRequest, Hears, LeaderAlive, LeaderClaim, Machine, Peer, Profile, Register, Registered,
    SiteState, Solicit, Twin,
};
use farmcast::wire::envelope::{Message, Sender};
use farmcast::wire::id::{
    AssignmentId, CharterId, Epoch, ListNumber, Name, NodeId, ObjectName, OrderId, RunId, SessionId,
};
use farmcast::wire::nack::{FrameRange, Lack, Nack};
use farmcast::wire::report::{Asked, StatusRequest, Subject};
use farmcast::wire::session::{Announce, PAYLOAD_MIN, Phase, Progress, Repair, RepairWhen};
use std::net::{SocketAddr, SocketAddrV4};

const CONTROL: [u8; 11] = [1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17];
const SESSION: [u8; 2] = [7, 8];
const NACK: [u8; 1] = [9];

/// A datagram as it comes, tag and all.
pub fn envelope(datagram: &[u8]) -> bool {
    let Ok(opened) = bounded(datagram, 64, || SEALER.open(datagram)) else { return false };
    assert_eq!(SEALER.seal(opened.sender, &opened.message), datagram);
    inspect(&opened.message);
    true
}

pub fn control(data: &[u8]) -> bool {
    of_kinds(&CONTROL, data)
}

pub fn session(data: &[u8]) -> bool {
    of_kinds(&SESSION, data)
}

pub fn nack(data: &[u8]) -> bool {
    of_kinds(&NACK, data)
}

/// The first byte chooses the kind; the tag, and the signature where one is due, are right.
pub fn of_kinds(kinds: &[u8], data: &[u8]) -> bool {
    let Some((choice, rest)) = data.split_first() else { return false };
    let kind = kinds[usize::from(*choice) % kinds.len()];
    seal::datagram(kind, rest).is_some_and(|datagram| envelope(&datagram))
}

/// What the rest of the node relies upon.
fn inspect(message: &Message) {
    match message {
        Message::Announce(announce) => {
            let shape = announce.shape;
            for block in [0, shape.command_blocks() - 1, shape.blocks() - 1] {
                let (offset, len) = shape.block(block);
                assert!(len > 0 && offset + len as u64 <= shape.file_len());
                assert!((1..=254).contains(&announce.source_frames(block)));
                assert!(announce.parity_frames(block) > 0);
            }
        }
        Message::Nack(nack) => {
            assert!(nack.lacks.len() + nack.ranges.len() <= Nack::LACKS_MAX);
            assert!(nack.part < nack.parts && nack.parts <= Nack::PARTS_MAX);
            let ascend = nack.lacks.windows(2).all(|pair| pair[0].first + pair[0].count <= pair[1].first);
            assert!(ascend && nack.lacks.iter().all(|lack| lack.count > 0 && lack.lack > 0));
        }
        Message::Register(register) => assert!(register.profile.sites.len() <= Profile::SITES_MAX),
        _ => {}
    }
}

/// Seeds of a target: each message with the choice of its kind in front.
pub fn seeds_of(kinds: &[u8], messages: &[Message]) -> Vec<Vec<u8>> {
    let seed = |message: &Message| {
        let (kind, rest) = seal::undo(&sealed(message)).expect("we sealed it");
        let choice = kinds.iter().position(|known| *known == kind).expect("the target has the kind");
        [&[choice as u8][..], &rest].concat()
    };
    messages.iter().map(seed).collect()
}

fn sealed(message: &Message) -> Vec<u8> {
    SEALER.seal(Sender { node: seal::node_id(), boot: 3, seq: 77, epoch: Epoch(5 << 16) }, message)
}

pub fn envelope_seeds() -> Vec<Vec<u8>> {
    let mut messages = control_messages();
    messages.extend(session_messages());
    messages.extend(nack_messages());
    messages.iter().map(sealed).collect()
}

pub fn control_seeds() -> Vec<Vec<u8>> {
    seeds_of(&CONTROL, &control_messages())
}

pub fn session_seeds() -> Vec<Vec<u8>> {
    seeds_of(&SESSION, &session_messages())
}

pub fn nack_seeds() -> Vec<Vec<u8>> {
    seeds_of(&NACK, &nack_messages())
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("it is a name")
}

pub fn profile() -> Profile {
    let address = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
    Profile {
        groups: ListNumber(3),
        certificate: CERTIFICATE.clone(),
        name: name("web01"),
        datagram: address("10.0.0.1:7402"),
        http: address("10.0.0.1:7403"),
        text: address("[fd00::1]:7404"),
        priority: 900,
        processors: 4,
        free_memory: 1 << 32,
        free_disk: 1 << 40,
        leads: true,
        mtu: 1_500,
        machine: Machine { location: "Vienna".into(), cpu_mhz: 3_000, load_pct: 12, connections: 34 },
        sites: vec![
            SiteState { site: name("www"), version: Some(AssignmentId(6)) },
            SiteState { site: name("shop"), version: None },
        ],
    }
}

fn channel() -> SocketAddrV4 {
    SocketAddrV4::new([239, 1, 2, 3].into(), 7_401)
}

pub fn peer() -> Peer {
    Peer { node: NodeId(1), datagram: profile().datagram }
}

fn control_messages() -> Vec<Message> {
    vec![
        Message::LeaderAlive(LeaderAlive {
            groups: ListNumber(3),
            priority: 900,
            members: 3,
            registered: 0xabcd,
            http_port: 7403,
            charter: CharterId(3),
            channel: channel(),
            moves_in_ms: 120,
            pointer: true,
            session: None,
        }),
        Message::LeaderAlive(LeaderAlive {
            groups: ListNumber(3),
            priority: 1,
            members: 0,
            registered: 0,
            http_port: 1,
            charter: CharterId(0),
            channel: channel(),
            moves_in_ms: 0,
            pointer: false,
            session: Some(announce()),
        }),
        Message::LeaderClaim(LeaderClaim { priority: 900, charter: CharterId(3), channel: channel() }),
        Message::Register(Register {
            profile: profile(),
            hears: Hears { control: true, data: false },
            charter: CharterId(2),
            heard_on: channel(),
        }),
        Message::Charter(vec![7; 200]),
        Message::Solicit(Solicit { spread_ms: 50 }),
        Message::Leave,
        Message::Twin(Twin { keeps: profile().datagram, other: profile().text }),
        Message::Probe,
        Message::Registered(Registered { peers: vec![peer(), Peer { node: NodeId(2), ..peer() }] }),
        Message::ClockRequest(ClockRequest { sent: 1_700_000_000_000_000_000 }),
        Message::ClockReply(ClockReply { sent: 1_700_000_000_000_000_000, controller: 1 << 60 }),
    ]
}

pub fn announce() -> Announce {
    Announce {
        session: SessionId(0x0102_0304),
        salt: [7; 16],
        run: RunId(4),
        assignment: AssignmentId(5),
        site: name("www"),
        group: name("www"),
        shape: Shape { name: ObjectName([8; 32]), command_len: 700, data_len: 1_000_000 },
        payload: 1_432,
        rate: 25_000_000,
        pass: 1,
        phase: Phase::PassEnd,
        sent: 700,
        spread_ms: 9,
        counted: true,
        repair: Repair::Parity,
        repair_when: RepairWhen::Immediate,
        nack_ms: 20,
    }
}

fn session_messages() -> Vec<Message> {
    let whole = announce();
    let small = Announce { payload: PAYLOAD_MIN as u16, phase: Phase::Open, pass: 0, ..announce() };
    let progress = Progress {
        session: SessionId(0x0102_0304),
        seen: 600,
        latest: 598,
        settled: 595,
        received: 590,
        dropped: 1,
        room: 9,
    };
    vec![Message::Announce(whole), Message::Announce(small), Message::Progress(progress)]
}

fn nack_messages() -> Vec<Message> {
    let (session, pass) = (SessionId(0x0102_0304), 2);
    let lacks = vec![Lack { first: 0, count: 1, lack: 3 }, Lack { first: 7, count: 2, lack: 255 }];
    let ranges =
        vec![FrameRange { block: 3, first: 5, count: 2 }, FrameRange { block: 4, first: 0, count: 400 }];
    [
        Nack::empty(session, pass),
        Nack { lacks: lacks.clone(), more: true, seen: 99, ..Nack::empty(session, pass) },
        Nack { lacks, ranges, part: 1, parts: 3, ..Nack::empty(session, pass) },
        Nack { failed: true, ..Nack::empty(session, pass) },
        Nack { lacks: vec![Lack { first: 1, count: 1, lack: 1 }], early: true, ..Nack::empty(session, pass) },
    ]
    .map(Message::Nack)
    .into()
}

pub fn request_messages() -> Vec<Message> {
    let subject = Subject::Assignment { run: RunId(4), assignment: AssignmentId(5) };
    let order = Subject::Order { run: RunId(4), order: OrderId(9) };
    let ask = |subject, asked| Message::StatusRequest(StatusRequest { subject, asked, spread_ms: 20 });
    vec![
        ask(subject, Asked::All),
        ask(order, Asked::Missing(vec![NodeId(1)])),
        ask(subject, Asked::AllBut(vec![NodeId(1), NodeId(2)])),
    ]
}
