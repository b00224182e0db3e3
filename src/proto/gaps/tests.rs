use super::*;
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, Name, ObjectName, RunId, SessionId};
use crate::wire::session::{Phase, Repair};

fn gaps(repair_when: RepairWhen, nack_ms: u16) -> Gaps {
    let name = Name::new("www").expect("a name");
    let announce = Announce {
        session: SessionId(7),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: name.clone(),
        group: name,
        shape: Shape { name: ObjectName([0; 32]), command_len: 3_000, data_len: 0 },
        payload: 1_436,
        rate: 0,
        pass: 0,
        phase: Phase::Open,
        sent: 0,
        spread_ms: 10,
        counted: false,
        repair: Repair::Parity,
        repair_when,
        nack_ms,
    };
    Gaps::new(&announce)
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A frame comes in its turn: all before it have arrived or are lost.
fn frame(gaps: &mut Gaps, now: Instant, pass: u16, block: u32, lacking: &[u32]) {
    let mut rng = Rng::new(1);
    gaps.on_frame(now, pass, block, 7, &mut rng);
    gaps.on_settled(now, 7, &mut rng, |block| lacking.contains(&block));
}

#[test]
fn a_block_that_lacks_something_is_told_of_when_the_next_one_comes() {
    let mut gaps = gaps(RepairWhen::Immediate, 20);
    frame(&mut gaps, at(0), 1, 0, &[0, 1]);
    assert_eq!(gaps.due(), None, "its turn is not over");
    frame(&mut gaps, at(1), 1, 1, &[1]);
    assert_eq!(gaps.due(), None, "it was whole");
    frame(&mut gaps, at(2), 1, 2, &[1, 2]);
    let due = gaps.due().expect("a gap has shown");
    assert!(due >= at(2) && due <= at(12), "{due}");
    assert!(!gaps.take_due(at(1)) && gaps.take_due(due));
    assert_eq!(gaps.front(), 2);
    gaps.on_told(due);
    assert_eq!(gaps.due(), Some(due + Duration::from_millis(20)), "again, if the gap stays");
}

#[test]
fn a_block_that_others_overtake_lacks_nothing_until_its_frames_are_settled() {
    let mut gaps = gaps(RepairWhen::Immediate, 20);
    let mut rng = Rng::new(1);
    gaps.on_frame(at(0), 1, 0, 1, &mut rng);
    gaps.on_frame(at(1), 1, 2, 300, &mut rng);
    gaps.on_settled(at(1), 40, &mut rng, |_| true);
    assert!((gaps.due(), gaps.front()) == (None, 0) && gaps.waits());
    gaps.on_settled(at(9), 299, &mut rng, |block| block == 1);
    assert!(gaps.due().is_some() && gaps.front() == 2 && !gaps.waits());
}

#[test]
fn what_comes_late_or_of_an_older_pass_moves_nothing() {
    let mut gaps = gaps(RepairWhen::Immediate, 20);
    frame(&mut gaps, at(0), 2, 5, &[]);
    frame(&mut gaps, at(0), 2, 3, &[]);
    frame(&mut gaps, at(0), 1, 9, &[]);
    assert_eq!((gaps.pass(), gaps.front()), (2, 5));
    frame(&mut gaps, at(0), 3, 1, &[]);
    assert_eq!((gaps.pass(), gaps.front()), (3, 1), "every pass begins anew");
}

#[test]
fn by_time_a_list_is_due_at_intervals_while_frames_arrive() {
    let mut gaps = gaps(RepairWhen::Timed, 100);
    frame(&mut gaps, at(0), 1, 0, &[]);
    let first = gaps.due().expect("by time");
    assert!(first >= at(50) && first <= at(100));
    assert!(gaps.take_due(first));
    gaps.on_told(first);
    assert_eq!(gaps.due(), None, "nothing arrives");
    frame(&mut gaps, at(300), 1, 4, &[]);
    assert!(gaps.due().expect("again") >= at(350));
    gaps.on_question();
    assert_eq!(gaps.due(), None);
}

#[test]
fn nothing_is_told_unasked_unless_the_announcement_says_so() {
    for mut gaps in [gaps(RepairWhen::PassEnd, 20), gaps(RepairWhen::Timed, 0)] {
        assert!(!gaps.is_on());
        frame(&mut gaps, at(0), 1, 3, &[0, 1, 2]);
        assert_eq!(gaps.due(), None);
    }
}
