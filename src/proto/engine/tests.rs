use super::*;
use crate::wire::assignment::Shape;
use crate::wire::control::Machine;
use crate::wire::id::Name;
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::session::Phase;

fn engine() -> Engine {
    let key = SigningKey::from_seed([1; 32]);
    let any = "127.0.0.1:1".parse().expect("an address");
    let me = Member {
        certificate: Certificate::issue(&key, key.public(), true, 100),
        name: Name::new("web1").expect("a name"),
        datagram: any,
        http: any,
        text: any,
        priority: 1,
        processors: 1,
        free_memory: 0,
        free_disk: 0,
        leads: true,
        machine: Machine::default(),
        sites: Vec::new(),
    };
    let setup = Setup {
        me,
        segment: Name::new("boston").expect("a name"),
        profile: Profile::LAN,
        boot: 1,
        home: "239.1.1.1:7".parse().expect("a channel"),
        listed: false,
        charter: None,
        rate_start: 1_000_000,
        rate_max: u64::MAX,
        payload: 1_400,
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
    }
}

/// The second one once ended the session whose frames were about to come: the shell forgot its key.
#[test]
fn two_announcements_in_one_batch_begin_one_session() {
    let mut engine = engine();
    engine.start_reception(Instant::ZERO, &announce(), |_| false);
    engine.start_reception(Instant::ZERO, &announce(), |_| false);
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    assert!(!outputs.contains(&Output::SessionOver(SessionId(7))), "{outputs:?}");
    assert_eq!(engine.receivers().count(), 1);
}
