//! docs/PROTOCOL.md and docs/OPERATING.md say what the code does: tables, numbers and drawings of the pages are
//! compared with values that the code makes.
#![cfg(all(feature = "node", feature = "ccm"))]

use farmcast::applier::ipc;
use farmcast::node::console::{RESERVED, SESSIONS};
use farmcast::node::verbs::VERBS;
use farmcast::proto::{fec, reach, release, seek, segment};
use farmcast::wire::Encoder;
use farmcast::wire::assignment::{self, Command, Mtime, RelPath, Shape};
use farmcast::wire::charter::{Charter, Leaders};
use farmcast::wire::console::{ARGS_MAX, Code, LINE_MAX, PROTOCOL};
use farmcast::wire::control::{
    ClockReply, ClockRequest, Hears, LeaderAlive, LeaderClaim, Machine, Peer, Profile, Register, Registered,
    Solicit, Twin,
};
use farmcast::wire::envelope::{ENVELOPE_MAGIC, MESSAGE_MAX, Message, Sealer, Sender};
use farmcast::wire::groups::{GroupList, GroupsPart, GroupsRequest};
use farmcast::wire::id::{
    AssignmentId, CharterId, Epoch, ListNumber, Name, NodeId, ObjectName, RunId, SessionId,
};
use farmcast::wire::join::{Farm, FarmSecret};
use farmcast::wire::nack::Nack;
use farmcast::wire::notify::{Notification, Uplink};
use farmcast::wire::order::Order;
use farmcast::wire::report::{Asked, Reason, StatusReport, StatusRequest, Subject};
use farmcast::wire::seal::{Certificate, SigningKey, TAG_LEN};
use farmcast::wire::session::{self, Announce, FrameHeader, Phase, Progress, Repair, RepairWhen};
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn protocol() -> String {
    page("docs/PROTOCOL.md")
}

/// Rows of all tables of a page, cell by cell.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// The node that speaks in these tests.
fn sealer() -> Sealer {
    let enroller = SigningKey::from_seed([1; 32]);
    let key = SigningKey::from_seed([2; 32]);
    let public = enroller.public();
    let farm = Farm { publisher: public, director: public, enroller: public, secret: FarmSecret([3; 32]) };
    let segment = Name::new("rack1").expect("a name");
    let certificate = Certificate::issue(&enroller, key.public(), true, 1_000);
    Sealer::new(&segment, farm.segment_key(&segment), key, certificate, public)
}

fn shape() -> Shape {
    Shape { name: ObjectName([7; 32]), command_len: 1_000, data_len: 5 }
}

fn channel() -> SocketAddrV4 {
    "239.1.1.1:7".parse().expect("a channel")
}

fn claim(priority: u32) -> LeaderClaim {
    LeaderClaim { priority, charter: CharterId(3), channel: channel() }
}

/// One message of every kind.
fn messages(certificate: &Certificate) -> Vec<Message> {
    let name = || Name::new("www").expect("a name");
    let addr: SocketAddr = "192.0.2.1:1".parse().expect("an address");
    let session = SessionId(9);
    let subject = Subject::Assignment { run: RunId(1), assignment: AssignmentId(2) };
    vec![
        Message::LeaderAlive(LeaderAlive {
            priority: 1,
            members: 2,
            registered: 3,
            http_port: 4,
            groups: ListNumber(5),
            charter: CharterId(5),
            channel: channel(),
            moves_in_ms: 6,
            pointer: true,
            session: None,
        }),
        Message::LeaderClaim(claim(1)),
        Message::Register(Register {
            profile: Profile {
                certificate: certificate.clone(),
                name: name(),
                datagram: addr,
                http: addr,
                text: addr,
                priority: 1,
                processors: 2,
                free_memory: 3,
                free_disk: 4,
                groups: ListNumber(5),
                leads: true,
                mtu: 1_500,
                machine: Machine::default(),
                sites: Vec::new(),
            },
            hears: Hears::ALL,
            charter: CharterId(1),
            heard_on: channel(),
        }),
        Message::Registered(Registered { peers: vec![Peer { node: NodeId(1), datagram: addr }] }),
        Message::ClockRequest(ClockRequest { sent: 1 }),
        Message::ClockReply(ClockReply { sent: 1, controller: 2 }),
        Message::Announce(Announce {
            session,
            salt: [0; 16],
            run: RunId(1),
            assignment: AssignmentId(2),
            site: name(),
            group: name(),
            shape: shape(),
            payload: 1_400,
            rate: 0,
            pass: 0,
            phase: Phase::Open,
            sent: 0,
            spread_ms: 0,
            counted: false,
            repair: Repair::Parity,
            repair_when: RepairWhen::PassEnd,
            nack_ms: 0,
        }),
        Message::Progress(Progress {
            session,
            seen: 1,
            latest: 1,
            settled: 1,
            received: 1,
            dropped: 0,
            room: 1,
        }),
        Message::Nack(Nack::empty(session, 1)),
        Message::Status(vec![0; 10]),
        Message::StatusRequest(StatusRequest { subject, asked: Asked::All, spread_ms: 1 }),
        Message::Order(vec![0; 10]),
        Message::Probe,
        Message::Charter(vec![0; 10]),
        Message::Solicit(Solicit { spread_ms: 1 }),
        Message::Leave,
        Message::Twin(Twin { keeps: addr, other: addr }),
        Message::Groups(GroupsPart { number: ListNumber(1), len: 3, part: 0, bytes: vec![0; 3] }),
        Message::GroupsRequest(GroupsRequest { number: ListNumber(1), parts: Vec::new() }),
    ]
}

/// A new kind of message does not compile here until somebody has thought of its row.
fn name_of(message: &Message) -> &'static str {
    match message {
        Message::LeaderAlive(_) => "LeaderAlive",
        Message::LeaderClaim(_) => "LeaderClaim",
        Message::Register(_) => "Register",
        Message::Registered(_) => "Registered",
        Message::ClockRequest(_) => "ClockRequest",
        Message::ClockReply(_) => "ClockReply",
        Message::Announce(_) => "Announce",
        Message::Progress(_) => "Progress",
        Message::Nack(_) => "Nack",
        Message::Status(_) => "Status",
        Message::StatusRequest(_) => "StatusRequest",
        Message::Order(_) => "Order",
        Message::Probe => "Probe",
        Message::Charter(_) => "Charter",
        Message::Solicit(_) => "Solicit",
        Message::Leave => "Leave",
        Message::Twin(_) => "Twin",
        Message::Groups(_) => "Groups",
        Message::GroupsRequest(_) => "GroupsRequest",
    }
}

#[test]
fn the_message_table_has_every_kind_with_its_number_and_says_who_signs() {
    let page = protocol();
    let rows: Vec<_> = rows(&page).into_iter().filter(|row| row.len() == 8 && row[0] != "kind").collect();
    let sealer = sealer();
    let messages = messages(sealer.certificate());
    assert_eq!(rows.len(), messages.len(), "rows of the message table");
    for message in &messages {
        let sender = Sender { node: sealer.certificate().node(), boot: 1, seq: 1, epoch: Epoch(1) };
        let sealed = sealer.seal(sender, message);
        let opened = sealer.open(&sealed).expect("it opens");
        let (kind, name) = (sealed[3].to_string(), format!("`{}`", name_of(message)));
        let row = rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("no row for {name}"));
        assert_eq!(row[0], kind, "{name}");
        assert_eq!(row[5] == "sender", opened.certificate.is_some(), "{name}: who signs it?");
        let is_leaders = message.is_leaders() && !matches!(message, Message::LeaderClaim(_));
        assert!(!is_leaders || row[2] == "leader", "{name}: only a leader says it");
    }
}

#[test]
fn an_envelope_lies_as_it_is_drawn() {
    let sealer = sealer();
    let sender = Sender { node: sealer.certificate().node(), boot: 0x0102_0304, seq: 5, epoch: Epoch(6) };
    let claim = sealer.seal(sender, &Message::LeaderClaim(claim(7)));
    assert_eq!(claim[..4], [ENVELOPE_MAGIC[0], ENVELOPE_MAGIC[1], 1, 2]);
    assert_eq!(claim[8..16], sender.node.0.to_be_bytes());
    assert_eq!(claim[16..20], [1, 2, 3, 4]);
    assert_eq!(claim[20..28], 5_u64.to_be_bytes());
    assert_eq!(claim[28..36], 6_u64.to_be_bytes());
    assert_eq!(claim[36 + Certificate::LEN..][..4], 7_u32.to_be_bytes());
    assert_eq!(claim.len(), 36 + Certificate::LEN + 4 + 8 + 7 + 64 + TAG_LEN);
    let clock = sealer.seal(sender, &Message::ClockRequest(ClockRequest { sent: 8 }));
    assert_eq!(clock[36..44], 8_u64.to_be_bytes());
    assert_eq!(clock.len(), 36 + 8 + TAG_LEN);
    for line in [
        " 8   sender (8)",
        "16   boot (4)",
        "20   sequence (8)",
        "28   epoch (8)",
        "36   [certificate (101)]",
    ] {
        assert!(protocol().contains(line), "{line}");
    }
}

#[test]
fn a_frame_lies_as_it_is_drawn() {
    let header = FrameHeader { session: SessionId(1), block: 2, index: 3, pass: 4, sent: 5 };
    let bytes = header.encode(1_400, [6; TAG_LEN]);
    assert_eq!(bytes[..2], [session::FRAME_MAGIC, 1]);
    assert_eq!(bytes[2..4], 1_400_u16.to_be_bytes());
    assert_eq!(bytes[4..8], 1_u32.to_be_bytes());
    assert_eq!(bytes[8..12], 2_u32.to_be_bytes());
    assert_eq!(bytes[12..14], 3_u16.to_be_bytes());
    assert_eq!(bytes[14..16], 4_u16.to_be_bytes());
    assert_eq!(bytes[16..20], 5_u32.to_be_bytes());
    assert_eq!(bytes[20..], [6; TAG_LEN]);
    for line in
        [" 8   block (4)", "12   index in the block (2)", "14   pass (2)", "20   tag (16)", "36   payload"]
    {
        assert!(protocol().contains(line), "{line}");
    }
}

#[test]
fn the_constants_are_those_of_the_code() {
    let expected: [(&str, u64); 37] = [
        ("FRAME_OVERHEAD", session::FRAME_OVERHEAD as u64),
        ("IP_UDP_OVERHEAD", session::IP_UDP_OVERHEAD as u64),
        ("PAYLOAD_MIN", session::PAYLOAD_MIN as u64),
        ("PAYLOAD_MAX", session::PAYLOAD_MAX as u64),
        ("MESSAGE_MAX", MESSAGE_MAX as u64),
        ("TAG_LEN", TAG_LEN as u64),
        ("CERTIFICATE_LEN", Certificate::LEN as u64),
        ("LEAF_LEN", assignment::LEAF_LEN),
        ("ALIGN", assignment::ALIGN),
        ("COMMAND_BUFFER_MAX", assignment::COMMAND_BUFFER_MAX),
        ("DATA_MAX", assignment::DATA_MAX),
        ("TRAILER_LEN", assignment::TRAILER_LEN as u64),
        ("SYMBOLS_MAX", u64::from(fec::SYMBOLS_MAX)),
        ("LACKS_MAX", Nack::LACKS_MAX as u64),
        ("REGISTERED_MAX", Registered::NODES_MAX as u64),
        ("DEAF_MAX", reach::DEAF_MAX as u64),
        ("KNOWN_MAX", seek::KNOWN_MAX as u64),
        ("PULLS_MAX", release::PULLS_MAX as u64),
        ("ASKED_MAX", StatusRequest::NODES_MAX as u64),
        ("SITES_MAX", Profile::SITES_MAX as u64),
        ("MEMBERS_MAX", segment::MEMBERS_MAX as u64),
        ("NAME_MAX", Name::MAX as u64),
        ("REPORT_MAX", StatusReport::MAX as u64),
        ("REPORT_TEXT_MAX", StatusReport::TEXT_MAX as u64),
        ("ORDER_MAX", Order::MAX as u64),
        ("CHARTER_MAX", Charter::MAX as u64),
        ("LEADERS_MAX", Leaders::MAX as u64),
        ("LOCATION_MAX", Machine::LOCATION_MAX as u64),
        ("NOTIFICATION_MAX", Notification::MAX as u64),
        ("GROUP_LIST_MAX", GroupList::MAX as u64),
        ("GROUP_NODES_MAX", GroupList::NODES_MAX as u64),
        ("GROUPS_MAX", GroupList::GROUPS_MAX as u64),
        ("GROUPS_PART_LEN", GroupsPart::LEN as u64),
        ("UPLINK_MAX", Uplink::MAX as u64),
        ("LINE_MAX", LINE_MAX as u64),
        ("ARGS_MAX", ARGS_MAX as u64),
        ("IPC_MESSAGE_MAX", ipc::MESSAGE_MAX as u64),
    ];
    let page = protocol();
    let listed = page.split_once("## Constants").expect("a section of constants").1;
    let listed: Vec<(&str, &str)> = rows(listed)
        .iter()
        .filter(|row| row.len() == 3 && row[0].starts_with('`'))
        .map(|r| (r[0], r[1]))
        .collect();
    assert_eq!(listed.len(), expected.len(), "rows of the table of constants");
    for (name, value) in expected {
        let (name, value) = (format!("`{name}`"), value.to_string());
        assert!(listed.contains(&(name.as_str(), value.as_str())), "{name} is {value}");
    }
    assert!(page.contains(&format!("Bounds: {SESSIONS} sessions and one more for admin")) && RESERVED == 1);
}

#[test]
fn the_commands_of_an_assignment_have_their_numbers() {
    let path = || RelPath::new(b"a").expect("a path");
    let (mode, mtime, size, hash): (u32, Mtime, u64, [u8; 32]) = (0o644, 1, 0, [0; 32]);
    let (item, extents) = (None, Vec::new());
    let commands = [
        Command::Mkdir { path: path(), mode },
        Command::Put { path: path(), mode, mtime, size, hash, item, extents: extents.clone() },
        Command::Patch { path: path(), mode, mtime, size, base: hash, hash, item, extents },
        Command::Splice { path: path(), mode, mtime, size, base: hash, hash, item, copies: Vec::new() },
        Command::Copy { path: path(), from: path(), mode, mtime, hash },
        Command::Move { path: path(), from: path() },
        Command::Link { path: path(), target: path() },
        Command::Symlink { path: path(), text: b"t".to_vec(), mtime },
        Command::Remove { path: path() },
        Command::Chmod { path: path(), mode },
        Command::Utimes { path: path(), mtime },
    ];
    let page = protocol();
    let rows = rows(&page);
    for command in &commands {
        let name = match command {
            Command::Mkdir { .. } => "mkdir",
            Command::Put { .. } => "put",
            Command::Patch { .. } => "patch",
            Command::Splice { .. } => "splice",
            Command::Copy { .. } => "copy",
            Command::Move { .. } => "move",
            Command::Link { .. } => "link",
            Command::Symlink { .. } => "symlink",
            Command::Remove { .. } => "remove",
            Command::Chmod { .. } => "chmod",
            Command::Utimes { .. } => "utimes",
        };
        let mut out = Encoder::new();
        command.encode(&mut out);
        let code = out.as_bytes()[0].to_string();
        assert!(rows.iter().any(|row| row.len() == 3 && row[0] == code && row[1] == name), "{code} {name}");
    }
}

#[test]
fn every_verb_of_the_text_port_is_listed_with_its_level() {
    let page = protocol();
    let rows = rows(&page);
    for verb in VERBS {
        let (syntax, level) = (format!("`{}`", verb.syntax()), verb.level.as_str());
        assert!(rows.iter().any(|row| row[0] == syntax && row[1] == level), "{syntax} needs {level}");
    }
    let listed = rows.iter().filter(|row| {
        row.len() == 3 && ["guest", "document", "observe", "operate", "admin"].contains(&row[1])
    });
    assert_eq!(listed.count(), VERBS.len(), "verbs listed");
    assert!(page.contains(&format!("## Text port: {PROTOCOL}")));
}

#[test]
fn every_code_of_the_text_port_is_listed() {
    let page = protocol();
    for code in Code::ALL {
        let entry = format!("| {} | {} |", code.number(), code.keyword());
        assert!(page.contains(&entry), "{entry}");
    }
}

#[test]
fn every_reason_of_a_failure_is_listed_and_has_a_remedy() {
    let (page, operating) = (protocol(), page("docs/OPERATING.md"));
    let reasons: Vec<Reason> = (0..=u8::MAX).filter_map(|code| Reason::from_code(code).ok()).collect();
    assert!(!reasons.is_empty());
    for reason in reasons {
        let entry = format!("| {} | {reason} |", reason as u8);
        assert!(page.contains(&entry), "{entry}");
        assert!(
            operating.contains(&format!("| `{reason}` |")),
            "docs/OPERATING.md has no remedy for {reason}"
        );
    }
}

#[test]
fn every_endpoint_of_the_controller_is_listed() {
    let (source, page) = (page("src/ccm/api/mod.rs"), protocol());
    let routes: Vec<&str> =
        source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() >= 8, "{routes:?}");
    for route in routes {
        assert!(
            ["GET", "POST", "PUT", "DELETE"]
                .iter()
                .any(|method| page.contains(&format!("| `{method} {route}`"))),
            "{route}"
        );
    }
}

#[test]
fn every_counter_of_a_node_is_explained() {
    let (source, operating) = (page("src/node/view.rs"), page("docs/OPERATING.md"));
    let counters = source.split_once("fn counters").expect("a function").1;
    let counters = counters.split_once("];").expect("the end of the table").0;
    let names: Vec<&str> = counters.split("(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(operating.contains(&format!("`{name}`")), "docs/OPERATING.md does not explain {name}");
    }
}
