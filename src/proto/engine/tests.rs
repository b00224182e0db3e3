use super::*;
use crate::time::Duration;
use crate::wire::assignment::Shape;
use crate::wire::control::{self, LeaderAlive, SiteState};
use crate::wire::envelope::Sender;
use crate::wire::id::Name;
use crate::wire::report::Reason;
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::session::{Phase, Repair, RepairWhen};

fn engine() -> Engine {
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
        mtu: 1_500,
        sites: Vec::new(),
    };
    let setup = Setup {
        me,
        segment: Name::new("boston").expect("a name"),
        profile: Profile::LAN,
        candidate: false,
        peers: Vec::new(),
        rate_start: 1_000_000,
        rate_max: u64::MAX,
        socket_bytes: 212_992,
        transport: Transport::default(),
        seed: 1,
    };
    Engine::new(Instant::ZERO, setup)
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
        self.engine.handle_message(Instant::ZERO, 0, from, None, Opened { sender, certificate, message });
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
