use super::*;
use crate::time::Duration;
use crate::wire::assignment::Shape;
use crate::wire::bound::{Bound, Bounds, Step};
use crate::wire::control::{self, LeaderAlive, Machine, SiteState};
use crate::wire::envelope::Sender;
use crate::wire::groups::{Group, GroupList};
use crate::wire::id::{CharterId, Name};
use crate::wire::nack::Nack;
use crate::wire::notify::{Forwarding, NextReply};
use crate::wire::quorum::Quorum;
use crate::wire::report::Reason;
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::session::{Phase, Repair, RepairWhen};

fn channel() -> SocketAddrV4 {
    SocketAddrV4::new([239, 1, 1, 1].into(), 7)
}

fn setup() -> Setup {
    let key = SigningKey::from_seed([1; 32]);
    let any = "127.0.0.1:1".parse().expect("an address");
    let me = control::Profile {
        certificate: Certificate::issue(&key, key.public(), true, 100),
        name: Name::new("web1").expect("a name"),
        datagram: any,
        http: any,
        text: any,
        priority: 1,
        processors: 1,
        free_memory: 0,
        free_disk: 0,
        groups: ListNumber(0),
        leads: true,
        machine: Machine::default(),
        mtu: 1_500,
        sites: Vec::new(),
    };
    Setup {
        me,
        segment: Name::new("boston").expect("a name"),
        profile: Profile::LAN,
        boot: 1,
        home: channel(),
        listed: false,
        charter: None,
        peers: Vec::new(),
        rate_start: 1_000_000,
        rate_max: u64::MAX,
        socket_bytes: 212_992,
        transport: Transport::default(),
        seed: 1,
    }
}

fn engine() -> Engine {
    Engine::new(Instant::ZERO, setup())
}

fn announce() -> Announce {
    Announce {
        session: SessionId(7),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: Name::new("www").expect("a name"),
        group: Name::new("web").expect("a name"),
        shape: Shape { name: ObjectName([0; 32]), command_len: 3_000, data_len: 300_000 },
        payload: 1_400,
        rate: 0,
        pass: 0,
        phase: Phase::Open,
        sent: 0,
        spread_ms: 10,
        counted: false,
        repair: Repair::Parity,
        repair_when: RepairWhen::PassEnd,
        nack_ms: 0,
    }
}

fn register(engine: &mut Engine, now: Instant, profile: control::Profile) {
    let (from, node) = (profile.datagram, profile.node());
    let (charter, heard_on) = (CharterId(0), channel());
    let register = control::Register { profile, hears: Hears::ALL, charter, heard_on };
    let sender = Sender { node, boot: 1, seq: 1, epoch: Epoch::default() };
    engine.on_register(now, from, &sender, register);
}

const LEADER: NodeId = NodeId(9);

/// An engine that serves the announced site and hears node 9, which leads.
struct Member {
    engine: Engine,
    seq: u64,
}

impl Member {
    fn new() -> Self {
        let mut member = Self { engine: engine(), seq: 0 };
        member.engine.me.sites = vec![SiteState { site: Name::new("www").expect("a name"), version: None }];
        member.hear_alive(None);
        assert_eq!(member.engine.election().leader(), Some(LEADER));
        member
    }

    fn hear_alive(&mut self, session: Option<Announce>) {
        let alive = LeaderAlive {
            priority: 1,
            members: 1,
            registered: 0,
            http_port: 80,
            groups: ListNumber(0),
            charter: CharterId(0),
            channel: channel(),
            moves_in_ms: 0,
            pointer: false,
            session,
        };
        self.hear(Message::LeaderAlive(alive));
    }

    fn hear(&mut self, message: Message) {
        self.seq += 1;
        let key = SigningKey::from_seed([9; 32]);
        let certificate = Some(Certificate::issue(&key, key.public(), true, 100));
        let sender = Sender { node: LEADER, boot: 1, seq: self.seq, epoch: Epoch(1 << 16) };
        let from = "127.0.0.1:9".parse().expect("an address");
        self.engine.handle_message(
            Instant::ZERO,
            0,
            from,
            Some(Channel::Control),
            Opened { sender, certificate, message },
        );
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    /// Receptions that are asked for among what is to be done.
    fn receptions(&mut self) -> usize {
        self.outputs().iter().filter(|output| matches!(output, Output::Receive { .. })).count()
    }
}

/// The second one once ended the session whose frames were about to come: the shell forgot its key.
#[test]
fn two_announcements_in_one_batch_begin_one_session() {
    let mut member = Member::new();
    member.hear(Message::Announce(announce()));
    // The question of the pass that the first one announced lies behind it in the batch.
    member.hear(Message::Announce(Announce { phase: Phase::PassEnd, pass: 1, ..announce() }));
    assert_eq!(member.receptions(), 1);
    member.engine.start_reception(Instant::ZERO, &announce(), |_| false);
    member.engine.start_reception(Instant::ZERO, &announce(), |_| false);
    member.hear(Message::Announce(announce()));
    let outputs = member.outputs();
    let again = |output: &Output| matches!(output, Output::SessionOver(_) | Output::Receive { .. });
    assert!(!outputs.iter().any(again), "{outputs:?}");
    assert_eq!(member.engine.receivers().count(), 1);
    // The question was heard although the reception had not begun.
    member.engine.handle_timeout(Instant::ZERO + Duration::from_millis(20), 0);
    let asked = |output: &Output| matches!(output, Output::Unicast(_, Message::Nack(nack)) if nack.pass == 1);
    assert!(member.outputs().iter().any(asked));
}

/// JT-5: what brings along those that lack something costs the others nothing.
#[test]
fn what_a_node_has_live_it_does_not_receive_again() {
    let mut member = Member::new();
    let live =
        |version| SiteState { site: Name::new("www").expect("a name"), version: Some(AssignmentId(version)) };
    member.engine.me.sites = vec![live(1)];
    member.hear(Message::Announce(announce()));
    assert_eq!((member.receptions(), member.engine.tasks.len()), (0, 0));
    member.engine.me.sites = vec![live(2)];
    member.hear(Message::Announce(announce()));
    assert_eq!(member.receptions(), 1);
}

/// AS-13: a part is of no use to who has all of it live.
#[test]
fn a_part_of_what_a_node_has_live_it_does_not_receive() {
    let mut member = Member::new();
    let live =
        |version| SiteState { site: Name::new("www").expect("a name"), version: Some(AssignmentId(version)) };
    let part = || Announce { assignment: announce().assignment.part_of(3), ..announce() };
    member.engine.me.sites = vec![live(announce().assignment.0)];
    member.hear(Message::Announce(part()));
    assert_eq!((member.receptions(), member.engine.tasks.len()), (0, 0));
    member.engine.me.sites = vec![live(announce().assignment.0 + 1)];
    member.hear(Message::Announce(part()));
    assert_eq!(member.receptions(), 1);
}

#[test]
fn a_reception_without_room_is_asked_for_again_by_the_next_announcement() {
    let mut member = Member::new();
    for _ in 0..2 {
        member.hear(Message::Announce(announce()));
        assert_eq!(member.receptions(), 1);
        member.engine.handle_no_room(&announce(), Reason::NoSpace, "full".to_owned());
    }
}

/// LD-6.
#[test]
fn a_session_is_heard_of_in_the_leaders_sign_of_life() {
    let mut member = Member::new();
    member.hear_alive(Some(announce()));
    assert_eq!(member.receptions(), 1);
}

/// D3: a frame is never fragmented, so whoever cannot take it whole does not take part.
#[test]
fn a_session_of_frames_that_the_interface_does_not_take_is_pulled_instead() {
    let mut member = Member::new();
    member.hear(Message::Announce(Announce { payload: 1_437, ..announce() }));
    let outputs = member.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Fetch { .. })), "{outputs:?}");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Receive { .. })));
}

/// An engine that leads, with members of these MTUs that serve the site, itself on 9,000.
fn leader(mtus: &[u16]) -> (Engine, Instant) {
    let setup = Setup { me: profile(1, 9_000), listed: true, ..setup() };
    let mut engine = Engine::new(Instant::ZERO, setup);
    let mut now = Instant::ZERO;
    while !engine.election().is_leader() {
        now = engine.next_deadline().expect("it is a candidate").max(now);
        engine.handle_timeout(now, 0);
    }
    engine.handle_groups(now, group_list(), Vec::new());
    for (at, mtu) in mtus.iter().enumerate() {
        register(&mut engine, now, profile(at as u8 + 10, *mtu));
    }
    (engine, now)
}

/// One group for both sites, with every node of this page.
fn group_list() -> GroupList {
    let mut members: Vec<NodeId> = (1..=30).map(|seed| profile(seed, 1_500).node()).collect();
    members.sort_unstable();
    let name = |text| Name::new(text).expect("a name");
    let channel = "239.255.128.1:7402".parse().expect("an address");
    let group = Group { name: name("web"), channel, sites: vec![name("shop"), name("www")], members };
    GroupList { number: ListNumber(1), segment: name("boston"), groups: vec![group] }
}

fn profile(seed: u8, mtu: u16) -> control::Profile {
    let key = SigningKey::from_seed([seed; 32]);
    let site = SiteState { site: Name::new("www").expect("a name"), version: None };
    let certificate = Certificate::issue(&key, key.public(), true, 100);
    control::Profile { certificate, mtu, groups: ListNumber(1), sites: vec![site], ..setup().me }
}

fn notification(engine: &Engine, run: u64, quorum: Option<Quorum>) -> Notification {
    let name = |n: u64| ObjectName([n as u8; 32]);
    Notification {
        groups: ListNumber(1),
        run: RunId(run),
        assignment: AssignmentId(run),
        site: Name::new("www").expect("a name"),
        group: Name::new("web").expect("a name"),
        shape: Shape { name: name(run), command_len: 3_000, data_len: 300_000 },
        leader: engine.node(),
        source: "127.0.0.1:1".parse().expect("an address"),
        others: Vec::new(),
        forward: Forwarding::Whole,
        last: true,
        quorum,
        bounds: Default::default(),
        expires: u64::MAX,
    }
}

/// Brings the engine to announce a session; returns what it announces.
fn open_session(engine: &mut Engine, now: Instant, run: u64, quorum: Option<Quorum>) -> Option<Announce> {
    let notification = notification(engine, run, quorum);
    let (assignment, name) = (notification.assignment, notification.shape.name);
    engine.handle_notification(now, notification).expect("it leads");
    engine.handle_object_complete(now, name);
    engine.handle_next(now, assignment, Ok(NextReply::Nobody));
    let (_, sender) = engine.senders().find(|(_, sender)| sender.head().run == RunId(run))?;
    Some(sender.head().clone())
}

/// AS-13: a leader is told of a part when the one before it is decided.
#[test]
fn the_next_part_of_a_run_ends_the_work_on_the_one_before() {
    let (mut engine, now) = leader(&[1_500]);
    let whole = notification(&engine, 1, None);
    let part = |number: u16| {
        let shape = Shape { name: ObjectName([100 + number as u8; 32]), ..whole.shape };
        Notification { assignment: whole.assignment.part_of(number), shape, ..whole.clone() }
    };
    for new in [part(1), part(2), whole.clone()] {
        let (assignment, name) = (new.assignment, new.shape.name);
        engine.handle_notification(now, new).expect("it leads");
        engine.handle_object_complete(now, name);
        engine.handle_next(now, assignment, Ok(NextReply::Nobody));
        let subject = Subject::Assignment { run: RunId(1), assignment };
        assert_eq!(engine.collectors.keys().collect::<Vec<_>>(), [&subject]);
        assert_eq!(engine.forwards.keys().collect::<Vec<_>>(), [&assignment]);
        assert_eq!(engine.object_of(RunId(1), assignment), Some(name));
        let runs = |sender: &crate::proto::sender::Sender| sender.head().phase != Phase::Close;
        let sent: Vec<_> =
            engine.senders().filter(|(_, of)| runs(of)).map(|(_, of)| of.head().assignment).collect();
        assert_eq!(sent.last(), Some(&assignment), "{sent:?}");
        while engine.poll_output().is_some() {}
    }
}

#[test]
fn frames_are_as_long_as_the_smallest_mtu_of_those_who_take_part_allows() {
    for (mtus, payload) in [
        (&[9_000, 9_000][..], 8_936),
        (&[9_000, 1_500], 1_436),
        (&[65_535, 4_000, 9_000], 3_936),
        // An interface below the smallest payload does not take part.
        (&[9_000, 576], 8_936),
    ] {
        let (mut engine, now) = leader(mtus);
        let announce = open_session(&mut engine, now, 1, None).expect("a session");
        assert_eq!(announce.payload, payload, "{mtus:?}");
    }
    let (mut engine, now) = leader(&[576]);
    assert_eq!(open_session(&mut engine, now, 1, None), None);
}

#[test]
fn a_member_of_a_smaller_mtu_takes_no_part_in_a_session_that_runs_and_the_next_one_fits_it() {
    let (mut engine, now) = leader(&[9_000, 9_000]);
    let members = |engine: &Engine, run| {
        let (_, sender) =
            engine.senders().find(|(_, sender)| sender.head().run == RunId(run)).expect("a session");
        (sender.standing().members, sender.head().payload)
    };
    open_session(&mut engine, now, 1, None);
    register(&mut engine, now, profile(20, 1_500));
    assert_eq!(members(&engine, 1), (2, 8_936), "it came too late for jumbo frames");
    register(&mut engine, now, profile(21, 9_000));
    assert_eq!(members(&engine, 1), (3, 8_936));
    // One whose interface shrinks is waited for no more: the session ends with the others.
    register(&mut engine, now, profile(10, 1_500));
    let (_, sender) = engine.senders().next().expect("a session");
    assert_eq!(sender.standing().members, 3);
    assert_eq!(members(&engine, 1).1, 8_936);
    open_session(&mut engine, now, 2, None);
    assert_eq!(members(&engine, 2), (4, 1_436));
}

/// LD-6: a copy, of each session in turn, and never a question.
#[test]
fn a_leader_alive_carries_the_sessions_that_run() {
    let (mut engine, now) = leader(&[1_500]);
    assert_eq!(engine.session_in_alive(), None);
    open_session(&mut engine, now, 1, None);
    let other = Notification { site: Name::new("shop").expect("a name"), ..notification(&engine, 2, None) };
    let mut shop = profile(30, 1_500);
    shop.sites[0].site = other.site.clone();
    register(&mut engine, now, shop);
    engine.handle_notification(now, other).expect("it leads");
    engine.handle_object_complete(now, ObjectName([2; 32]));
    engine.handle_next(now, AssignmentId(2), Ok(NextReply::Nobody));
    let mut runs: Vec<u64> =
        (0..4).filter_map(|_| engine.session_in_alive()).map(|announce| announce.run.0).collect();
    runs.sort_unstable();
    assert_eq!(runs, [1, 1, 2, 2]);
    engine.transport.announce_in_alive = false;
    assert_eq!(engine.session_in_alive(), None);
}

/// LD-20, SR-15; and the notification's quorum goes before the leader's own.
#[test]
fn a_session_without_its_quorum_is_told_to_the_ccm_and_told_again_if_that_failed() {
    for (quorum, told) in [(None, true), (Some(Quorum::Count(1)), false)] {
        let (mut engine, mut now) = leader(&[1_500, 1_500]);
        let announce = open_session(&mut engine, now, 1, quorum).expect("a session");
        let complete = profile(10, 1_500).node();
        let mut problems = Vec::new();
        for _ in 0..20_000 {
            now = engine.next_deadline().expect("there is always something").max(now);
            if let Some(sender) = engine.senders.get_mut(&announce.session) {
                sender.on_nack(now, complete, &Nack::empty(announce.session, 1));
            }
            engine.handle_timeout(now, 0);
            problems.extend(std::iter::from_fn(|| engine.poll_output()).filter_map(|output| match output {
                Output::Uplink(UplinkBody::Problem(problem)) => Some(problem),
                _ => None,
            }));
            if engine.senders.is_empty() {
                break;
            }
        }
        assert!(engine.senders.is_empty(), "the silent member was given up");
        assert_eq!(problems.len(), usize::from(told), "{quorum:?}");
        let Some(problem) = problems.pop() else { continue };
        assert_eq!((problem.participants, problem.needed, problem.complete), (2, 2, 1));
        assert_eq!(problem.stragglers[0].node, profile(11, 1_500).node());
        engine.handle_uplink_failed(now, &UplinkBody::Problem(problem.clone()));
        assert!(engine.next_deadline().expect("again") <= now + Profile::LAN.segment_report);
        engine.tell_problems(now + Duration::from_secs(2));
        let again = std::iter::from_fn(|| engine.poll_output()).last();
        assert_eq!(again, Some(Output::Uplink(UplinkBody::Problem(problem))));
    }
}

/// Bandwidth windows: sessions and what is given to others divide what the newest notification allows, by the CCM's
/// clock.
#[test]
fn sessions_and_answers_divide_what_the_node_may_send() {
    let (mut engine, now) = leader(&[1_500]);
    let open =
        |engine: &mut Engine, run: u64| open_session(engine, now, run, None).expect("a session").session;
    let first = open(&mut engine, 1);
    let rate = |engine: &Engine, of| {
        engine.senders().find(|(session, _)| *session == of).expect("it runs").1.standing().rate
    };
    let free = rate(&engine, first);
    let bound = |farm, site| Bound { farm, site };
    let step = |from_ns, bound| Step { from_ns, bound };
    let told = |engine: &mut Engine, run, bounds| {
        let again = Notification { bounds: Bounds(bounds), ..notification(engine, run, None) };
        engine.handle_notification(now, again).expect("it leads");
    };
    // The first holds while nobody knows the CCM's time.
    let steps =
        vec![step(5_000_000_000, bound(Some(1_000_000), None)), step(9_000_000_000, Bound::default())];
    told(&mut engine, 1, steps.clone());
    assert_eq!(rate(&engine, first), 1_000_000);
    let (object, other) = (ObjectName([1; 32]), ObjectName([77; 32]));
    assert_eq!(engine.handle_serving(now, vec![object, other, object]), [Some(333_333), None, Some(333_333)]);
    engine.handle_timeout(now, 0);
    assert_eq!(rate(&engine, first), 333_333);
    assert_eq!(engine.handle_serving(now, Vec::new()), []);
    // Then its steps come by that time.
    engine.handle_controller_clock(now, now.as_nanos(), 9_000_000_001, now.as_nanos());
    engine.handle_timeout(now, 0);
    assert_eq!(rate(&engine, first), free);
    told(&mut engine, 1, vec![step(1, bound(Some(1_000_000), Some(50_000)))]);
    assert_eq!(rate(&engine, first), 50_000, "a bound below the least rate of a session");
    told(&mut engine, 1, Vec::new());
    assert_eq!(rate(&engine, first), free, "the window was lifted");
}
