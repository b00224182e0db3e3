use super::*;
use crate::proto::engine::{Setup, Transport};
use crate::proto::profile::Profile;
use crate::time::Duration;
use crate::wire::assignment::Shape;
use crate::wire::control::{Hears, LeaderAlive, Machine, Profile as Member, Register, SiteState};
use crate::wire::envelope::{Opened, Sender};
use crate::wire::groups::Group;
use crate::wire::id::{AssignmentId, CharterId, Epoch, ObjectName, OrderId, RunId};
use crate::wire::notify::{Forwarding, NextReply, UplinkBody};
use crate::wire::order::{self, Order};
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::session::Announce;
use std::net::SocketAddrV4;

/// Where control messages go.
fn control() -> SocketAddrV4 {
    "239.1.1.1:7401".parse().unwrap()
}

const CHANNEL: &str = "239.255.128.1:7402";

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 7_411))
}

fn member(number: u8, groups: u64) -> Member {
    let key = SigningKey::from_seed([number; 32]);
    Member {
        certificate: Certificate::issue(&SigningKey::from_seed([99; 32]), key.public(), true, 1_000),
        name: name(&format!("web{number}")),
        datagram: address(number),
        http: address(number),
        text: address(number),
        priority: 100,
        processors: 1,
        free_memory: 0,
        free_disk: 0,
        groups: ListNumber(groups),
        leads: true,
        machine: Machine::default(),
        mtu: 1_500,
        sites: vec![SiteState { site: name("www"), version: None }],
    }
}

fn id(number: u8) -> NodeId {
    member(number, 0).node()
}

/// www is for these nodes.
fn list(number: u64, members: &[u8]) -> (GroupList, Vec<u8>) {
    let mut members: Vec<NodeId> = members.iter().map(|number| id(*number)).collect();
    members.sort_unstable();
    let channel = CHANNEL.parse().unwrap();
    let group = Group { name: name("eu"), channel, sites: vec![name("www")], members };
    let list = GroupList { number: ListNumber(number), segment: name("boston"), groups: vec![group] };
    let bytes = list.sign(&SigningKey::from_seed([98; 32]));
    (list, bytes)
}

fn notification(groups: u64) -> Notification {
    Notification {
        run: RunId(1),
        assignment: AssignmentId(1),
        site: name("www"),
        group: name("eu"),
        groups: ListNumber(groups),
        shape: Shape { name: ObjectName([0; 32]), command_len: 3_000, data_len: 0 },
        leader: id(1),
        source: address(77),
        others: Vec::new(),
        forward: Forwarding::Whole,
        last: true,
        quorum: None,
        bounds: Default::default(),
        expires: u64::MAX,
    }
}

/// Node 1 and the others of its segment, whom the test plays.
struct Scene {
    engine: Engine,
    now: Instant,
    seq: u64,
}

impl Scene {
    fn new(candidate: bool) -> Self {
        let setup = Setup {
            me: member(1, 0),
            segment: name("boston"),
            profile: Profile::LAN,
            boot: 1,
            home: control(),
            listed: candidate,
            charter: None,
            peers: Vec::new(),
            rate_start: 1_000_000,
            rate_max: u64::MAX,
            socket_bytes: 212_992,
            transport: Transport::default(),
            seed: 1,
        };
        Self { engine: Engine::new(Instant::ZERO, setup), now: Instant::ZERO, seq: 0 }
    }

    fn leader() -> Self {
        let mut scene = Self::new(true);
        while !scene.engine.election().is_leader() {
            scene.pass(50);
        }
        scene.outputs();
        scene
    }

    /// Lets so many milliseconds pass, deadline by deadline.
    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, 0);
        }
        self.now = end;
    }

    fn say(&mut self, from: u8, message: Message) {
        self.seq += 1;
        let sender = Sender { node: id(from), boot: 1, seq: self.seq, epoch: Epoch(9 << 16) };
        let certificate = Some(member(from, 0).certificate);
        self.engine.handle_message(self.now, 0, address(from), None, Opened { sender, certificate, message });
    }

    fn register(&mut self, from: u8, groups: u64) {
        self.say(
            from,
            Message::Register(Register {
                profile: member(from, groups),
                hears: Hears::ALL,
                charter: CharterId(0),
                heard_on: control(),
            }),
        );
    }

    fn alive(&mut self, from: u8, groups: u64) {
        let alive = LeaderAlive {
            priority: 900,
            members: 2,
            registered: 0,
            http_port: 1,
            groups: ListNumber(groups),
            charter: CharterId(0),
            channel: control(),
            moves_in_ms: 0,
            pointer: false,
            session: None,
        };
        self.say(from, Message::LeaderAlive(alive));
    }

    fn adopt(&mut self, number: u64, members: &[u8]) -> bool {
        let (list, bytes) = list(number, members);
        self.engine.handle_groups(self.now, list, bytes)
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    /// The leader has the assignment and nobody to serve: its own members are next.
    fn hold(&mut self) {
        self.engine.handle_object_complete(self.now, ObjectName([0; 32]));
        self.engine.handle_next(self.now, AssignmentId(1), Ok(NextReply::Nobody));
    }
}

fn announces(outputs: &[Output]) -> Vec<(Destination, &Announce)> {
    let announce = |output| match output {
        &Output::Multicast(channel, Message::Announce(ref announce)) => Some((channel, announce)),
        _ => None,
    };
    outputs.iter().filter_map(announce).collect()
}

#[test]
fn a_notification_waits_for_the_list_that_it_needs_and_the_ccm_is_asked_at_once() {
    let mut scene = Scene::leader();
    scene.adopt(4, &[1, 2]);
    scene.outputs();
    assert_eq!(scene.engine.handle_notification(scene.now, notification(5)), Ok(()));
    scene.pass(1);
    let outputs = scene.outputs();
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Uplink(UplinkBody::Segment(_)))),
        "{outputs:?}"
    );
    assert!(!outputs.iter().any(|output| matches!(output, Output::Fetch { .. })));
    assert_eq!(scene.engine.table_sizes().early, 1);

    assert!(scene.adopt(5, &[1, 2]));
    let outputs = scene.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Fetch { .. })), "{outputs:?}");
    assert_eq!(scene.engine.table_sizes().early, 0);
}

#[test]
fn a_session_goes_to_the_groups_channel_when_its_members_listen_there() {
    let mut scene = Scene::leader();
    scene.register(2, 0);
    scene.register(3, 0);
    scene.adopt(5, &[2]);
    scene.engine.handle_notification(scene.now, notification(5)).unwrap();
    scene.hold();
    scene.pass(100);
    assert!(announces(&scene.outputs()).is_empty(), "node 2 goes by an older list");
    // Node 3 does too, and is not in the group.
    scene.register(2, 5);
    let outputs = scene.outputs();
    let announced = announces(&outputs);
    let channel = Destination::Data(CHANNEL.parse().unwrap());
    assert!(!announced.is_empty() && announced.iter().all(|(to, _)| *to == channel), "{announced:?}");
    let (_, sender) = scene.engine.senders().next().unwrap();
    assert_eq!(sender.standing().members, 1);
}

#[test]
fn who_does_not_get_the_list_is_not_waited_for_without_end() {
    let mut scene = Scene::leader();
    scene.register(2, 0);
    scene.adopt(5, &[2]);
    scene.engine.handle_notification(scene.now, notification(5)).unwrap();
    scene.hold();
    scene.pass(999);
    assert!(announces(&scene.outputs()).is_empty());
    scene.pass(2);
    assert!(!announces(&scene.outputs()).is_empty());
}

#[test]
fn a_leader_outside_of_the_group_passes_on_and_stages_nothing() {
    let mut scene = Scene::leader();
    scene.adopt(5, &[2]);
    scene.register(2, 5);
    scene.engine.handle_notification(scene.now, notification(5)).unwrap();
    scene.hold();
    let outputs = scene.outputs();
    assert!(!announces(&outputs).is_empty());
    assert!(!outputs.iter().any(|output| matches!(output, Output::Stage { .. })), "{outputs:?}");

    let action = order::Action::Commit { assignment: AssignmentId(1) };
    let order =
        Order { order: OrderId(1), run: RunId(1), site: name("www"), action, at: None, expires: u64::MAX };
    let document = order.sign(&SigningKey::from_seed([98; 32]));
    scene.engine.handle_order(scene.now, &order, document).unwrap();
    let outputs = scene.outputs();
    let channel = Destination::Data(CHANNEL.parse().unwrap());
    assert!(outputs.iter().any(|o| matches!(o, Output::Multicast(to, Message::Order(_)) if *to == channel)));
    assert!(!outputs.iter().any(|output| matches!(output, Output::CarryOut { .. })), "{outputs:?}");
}

#[test]
fn without_a_list_a_leader_takes_no_order_and_asks_for_one() {
    let mut scene = Scene::leader();
    scene.pass(50);
    scene.outputs();
    let action = order::Action::Commit { assignment: AssignmentId(1) };
    let order =
        Order { order: OrderId(1), run: RunId(1), site: name("www"), action, at: None, expires: u64::MAX };
    let document = order.sign(&SigningKey::from_seed([98; 32]));
    let refused = scene.engine.handle_order(scene.now, &order, document).unwrap_err();
    assert!(refused.to_string().contains("list of groups"), "{refused}");
    scene.pass(1);
    assert!(scene.outputs().iter().any(|output| matches!(output, Output::Uplink(UplinkBody::Segment(_)))));
}

#[test]
fn a_member_gets_a_newer_list_from_its_leader_and_joins_what_it_says() {
    let mut scene = Scene::new(false);
    scene.alive(2, 0);
    scene.adopt(4, &[1]);
    let channels = [CHANNEL.parse().unwrap()].into();
    assert!(scene.outputs().contains(&Output::JoinData(channels)));
    scene.alive(2, 6);
    scene.pass(60);
    scene.alive(2, 6);
    scene.pass(60);
    let request = GroupsRequest { number: ListNumber(6), parts: Vec::new() };
    let ask = Output::Unicast(address(2), Message::GroupsRequest(request));
    assert!(scene.outputs().contains(&ask));

    let (_, bytes) = list(6, &[2]);
    let part = GroupsPart::of(&bytes, ListNumber(6), 0).unwrap();
    scene.say(3, Message::Groups(part));
    assert!(scene.outputs().contains(&Output::CheckGroups(bytes)), "whoever says it: its signature counts");
    assert!(scene.adopt(6, &[2]));
    let outputs = scene.outputs();
    assert!(outputs.contains(&Output::JoinData([].into())), "{outputs:?}");
    scene.pass(60);
    let registers = |output: &Output| match output {
        Output::Unicast(_, Message::Register(register)) => register.profile.groups == ListNumber(6),
        _ => false,
    };
    assert!(scene.outputs().iter().any(registers), "the leader is told what it goes by");
    assert!(!scene.adopt(5, &[1]));
    assert_eq!(scene.engine.counters().groups_refused, 1);
}

#[test]
fn a_new_leader_asks_a_member_that_has_a_newer_list() {
    let mut scene = Scene::leader();
    scene.adopt(4, &[1]);
    scene.outputs();
    scene.register(2, 6);
    scene.pass(120);
    let asks = |output: &Output| {
        matches!(output, Output::Unicast(to, Message::GroupsRequest(request))
            if *to == address(2) && request.number == ListNumber(6))
    };
    assert!(scene.outputs().iter().any(asks));

    // The other side: a member answers its leader, and nobody else.
    let mut scene = Scene::new(false);
    scene.adopt(6, &[1]);
    scene.alive(2, 4);
    scene.outputs();
    let request = || Message::GroupsRequest(GroupsRequest { number: ListNumber(6), parts: Vec::new() });
    scene.say(3, request());
    assert!(!scene.outputs().iter().any(|output| matches!(output, Output::Unicast(_, Message::Groups(_)))));
    scene.say(2, request());
    let outputs = scene.outputs();
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Unicast(to, Message::Groups(_)) if *to == address(2)))
    );
}
