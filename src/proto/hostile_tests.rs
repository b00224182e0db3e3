//! A member of the segment that means harm: it holds the keys, so its lists are heard. What they can cost is bounded.

use super::random::Rng;
use super::sender::{Action, Sender, SenderConfig};
use crate::time::{Duration, Instant};
use crate::wire::assignment::{LEAF_LEN, Shape};
use crate::wire::id::{AssignmentId, Name, NodeId, ObjectName, RunId, SessionId};
use crate::wire::nack::{FrameRange, Lack, Nack};
use crate::wire::session::{Announce, Phase, Repair, RepairWhen};

const LEAVES: u64 = 12;
const BLOCKS: u32 = LEAVES as u32 + 1;
/// Frames of the whole object.
const SOURCES: u64 = LEAVES * 183 + 1;

fn announce() -> Announce {
    Announce {
        session: SessionId(1),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: Name::new("www").unwrap(),
        group: Name::new("www").unwrap(),
        shape: Shape { name: ObjectName([0; 32]), command_len: 1_000, data_len: LEAVES * LEAF_LEN },
        payload: 1_436,
        rate: 0,
        pass: 0,
        phase: Phase::Open,
        sent: 0,
        spread_ms: 0,
        counted: true,
        repair: Repair::Parity,
        repair_when: RepairWhen::PassEnd,
        nack_ms: 0,
    }
}

/// What a member says it lacks, the `round`th time.
type Claim = fn(round: u64, head: &Announce) -> Nack;

fn list(head: &Announce, lacks: Vec<Lack>) -> Nack {
    let ranges = match head.repair {
        Repair::Parity => vec![],
        Repair::Resend => vec![FrameRange { block: 0, first: 0, count: u32::MAX }],
    };
    Nack { seen: head.sent, lacks, ranges, ..Nack::empty(head.session, head.pass) }
}

const CLAIMS: [(&str, Claim); 5] = [
    ("everything", |_, head| list(head, vec![Lack { first: 0, count: u32::MAX, lack: u16::MAX }])),
    ("everything, a frame less each time", |round, head| {
        let rest = Lack { first: 1, count: BLOCKS - 1, lack: 183 };
        list(head, vec![Lack { first: 0, count: 1, lack: 183 - (round % 183) as u16 }, rest])
    }),
    ("a frame of each block", |_, head| list(head, vec![Lack { first: 0, count: BLOCKS, lack: 1 }])),
    ("one block", |round, head| list(head, vec![Lack { first: round as u32 % BLOCKS, count: 1, lack: 183 }])),
    ("anything", |round, head| {
        let mut rng = Rng::new(round);
        let (first, lack) = (rng.below(BLOCKS.into()) as u32, 1 + rng.below(300) as u16);
        list(head, vec![Lack { first, count: 1 + rng.below(60) as u32, lack }])
    }),
];

/// Sends a session to these members. Each millisecond each of the first `hostile` says this many times what `claim`
/// makes up, asked or unasked, early or not; the others have everything. Returns frames sent and how long it took.
fn storm(
    config: SenderConfig,
    members: u64,
    hostile: u64,
    a_millisecond: u64,
    claim: Claim,
) -> (u64, Duration) {
    let nodes: Vec<NodeId> = (0..members).map(NodeId).collect();
    let mut now = Instant::ZERO;
    let mut sender = Sender::new(now, config, announce(), &nodes);
    let (mut frames, mut round) = (0, 0);
    while now < Instant::ZERO + Duration::from_secs(3_600) {
        while let Some(action) = sender.poll(now) {
            match action {
                Action::Frames(run) => frames += u64::from(run.count),
                Action::Announce(head) if head.phase == Phase::PassEnd => {
                    for node in hostile..members {
                        sender.on_nack(now, NodeId(node), &Nack::empty(head.session, head.pass));
                    }
                }
                Action::Announce(_) => {}
                Action::Done(_) => return (frames, now.since(Instant::ZERO)),
            }
        }
        for node in 0..hostile {
            for _ in 0..a_millisecond {
                round += 1;
                let nack = claim(round, sender.head());
                sender.on_nack(now, NodeId(node), &Nack { early: round % 2 == 0, ..nack });
            }
        }
        now += Duration::from_millis(1);
    }
    panic!("the session does not end: {frames} frames");
}

fn modes() -> impl Iterator<Item = SenderConfig> {
    let whens = [RepairWhen::PassEnd, RepairWhen::Immediate, RepairWhen::Timed];
    let repairs = [Repair::Parity, Repair::Resend];
    repairs.into_iter().flat_map(move |repair| {
        whens.map(|repair_when| SenderConfig { repair, repair_when, ..SenderConfig::default() })
    })
}

/// The bound is that of `sender`: eight times the object and 2,048 frames.
#[test]
fn a_storm_of_lists_raises_the_traffic_of_a_session_to_a_bound_and_no_further() {
    let mut worst = (0, String::new());
    for config in modes() {
        for (name, claim) in CLAIMS {
            for (hostile, rate) in [(1, 1), (1, 50), (8, 2)] {
                let (frames, spent) = storm(config, 8, hostile, rate, claim);
                let (repair, when) = (config.repair, config.repair_when);
                let told = format!("{hostile} members, {rate}/ms: {name}, {repair:?} {when:?}, {spent}");
                worst = worst.max((frames, told));
            }
        }
    }
    // A batch that was handed out is sent.
    assert!(worst.0 <= 8 * SOURCES + 2_048 + 44, "{worst:?}");
    assert!(worst.0 > 3 * SOURCES, "nothing was made of the lists: {worst:?}");
}

/// One member alone may ask for four times the object; with that comes what is sent beside, for loss to be expected.
#[test]
fn one_hostile_member_is_released_before_it_costs_much() {
    for config in modes() {
        for (name, claim) in CLAIMS {
            let (frames, _) = storm(config, 1_000, 1, 20, claim);
            assert!(frames <= 7 * SOURCES, "{name}: {frames} {:?} {:?}", config.repair, config.repair_when);
        }
    }
}

/// The others are served meanwhile: whoever is honest has the object when the session is over.
#[test]
fn a_storm_ends_no_session_of_others() {
    let config = SenderConfig::default();
    let mut sender = Sender::new(Instant::ZERO, config, announce(), &[NodeId(0), NodeId(1)]);
    let mut now = Instant::ZERO;
    let finish = loop {
        match sender.poll(now) {
            Some(Action::Done(finish)) => break finish,
            Some(Action::Announce(head)) if head.phase == Phase::PassEnd => {
                sender.on_nack(now, NodeId(1), &Nack::empty(head.session, head.pass));
            }
            Some(_) => {}
            None => {
                for _ in 0..100 {
                    let claim = (CLAIMS[0].1)(0, sender.head());
                    // Its own, and in the name of one that is no member.
                    sender.on_nack(now, NodeId(0), &claim);
                    sender.on_nack(now, NodeId(7), &claim);
                }
                now += Duration::from_millis(1);
            }
        }
    };
    assert_eq!((finish.complete, finish.missing), (vec![NodeId(1)], vec![NodeId(0)]));
}
