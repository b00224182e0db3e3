use super::*;
use crate::wire::id::{AssignmentId, Name, ObjectName, RunId, SessionId};
use crate::wire::session::{Repair, RepairWhen};

const PAYLOAD: usize = 1_436;
const START: Instant = Instant::from_nanos(1_000_000_000);

fn announce(data_len: u64, phase: Phase, pass: u16) -> Announce {
    Announce {
        session: SessionId(7),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: Name::new("www").expect("a good name"),
        group: Name::new("web").expect("a good name"),
        shape: Shape { name: ObjectName([0; 32]), command_len: 3_000, data_len },
        payload: PAYLOAD as u16,
        rate: 0,
        pass,
        phase,
        sent: 0,
        spread_ms: 10,
        counted: false,
        repair: Repair::Parity,
        repair_when: RepairWhen::PassEnd,
        nack_ms: 0,
    }
}

fn receiver(data_len: u64, held: impl Fn(u32) -> bool) -> Receiver {
    Receiver::new(START, ReceiverConfig::default(), &announce(data_len, Phase::Open, 0), 3, held)
}

fn header(block: u32, index: u16, sent: u32) -> FrameHeader {
    FrameHeader { session: SessionId(7), block, index, pass: 1, sent }
}

/// Feeds a frame of the right length.
fn feed(to: &mut Receiver, block: u32, index: u16, sent: u32) -> Placement {
    let len = to.shape().block(block).1;
    let k = to.head().source_frames(block);
    let short = len - usize::from(k - 1) * PAYLOAD;
    to.on_frame(START, &header(block, index, sent), if index + 1 == k { short } else { PAYLOAD })
}

fn after(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

/// The answer to the end of `pass`.
fn answer(of: &mut Receiver, pass: u16) -> Option<Nack> {
    of.on_announce(START, &announce(of.shape().data_len, Phase::PassEnd, pass));
    std::iter::from_fn(|| of.poll(after(13))).find_map(|action| match action {
        ReceiverAction::Nack(nack) => Some(nack),
        _ => None,
    })
}

fn lacks(nack: &Nack) -> Vec<(u32, u32, u16)> {
    nack.lacks.iter().map(|lack| (lack.first, lack.count, lack.lack)).collect()
}

#[test]
fn frames_go_where_their_bytes_belong() {
    let mut receiver = receiver(300_000, |_| false);
    assert_eq!(feed(&mut receiver, 1, 2, 1), Placement::Store { offset: 2 * PAYLOAD as u64 });
    assert_eq!(feed(&mut receiver, 2, 0, 2), Placement::Store { offset: 262_144 });
    // The command buffer stands behind the data, page-aligned.
    assert_eq!(feed(&mut receiver, 0, 2, 3), Placement::Store { offset: 303_104 + 2 * PAYLOAD as u64 });
    assert_eq!(feed(&mut receiver, 1, 200, 4), Placement::Parity { block: 1, index: 200 });
    assert_eq!(feed(&mut receiver, 1, 2, 5), Placement::Duplicate);
}

#[test]
fn frames_that_cannot_be_of_this_object_are_ignored() {
    let mut receiver = receiver(300_000, |_| false);
    let mut ignored = |header: FrameHeader, len| {
        assert_eq!(receiver.on_frame(START, &header, len), Placement::Ignore, "{header:?}, {len} bytes");
    };
    ignored(FrameHeader { session: SessionId(8), ..header(1, 0, 1) }, PAYLOAD);
    ignored(header(3, 0, 1), PAYLOAD);
    ignored(header(u32::MAX, 0, 1), PAYLOAD);
    ignored(header(1, 255, 1), PAYLOAD);
    ignored(header(1, u16::MAX, 1), PAYLOAD);
    ignored(header(1, 0, 1), PAYLOAD - 1);
    ignored(header(1, 0, 1), PAYLOAD + 1);
    ignored(header(0, 2, 1), PAYLOAD);
    ignored(header(0, 3, 1), 128);
    assert_eq!(receiver.arrivals.received(), 0);
}

#[test]
fn a_block_is_ready_with_any_k_frames_and_complete_when_all_are_verified() {
    let mut receiver = receiver(0, |_| false);
    for (sent, index) in [(1, 0), (2, 17), (3, 254)] {
        feed(&mut receiver, 0, index, sent);
    }
    assert_eq!(receiver.poll(START), Some(ReceiverAction::Ready { block: 0, missing: 2 }));
    assert_eq!(receiver.missing(0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(feed(&mut receiver, 0, 1, 4), Placement::Duplicate);
    assert_eq!(receiver.poll(START), None);
    assert_eq!(answer(&mut receiver, 1), None, "an empty answer waits for the hash");
    receiver.on_verified(after(14), 0, true);
    assert_eq!(receiver.poll(after(14)), Some(ReceiverAction::Complete));
    let Some(ReceiverAction::Nack(nack)) = receiver.poll(after(14)) else { panic!("no answer") };
    assert!(nack.is_complete() && nack.pass == 1);
}

#[test]
fn a_wrong_hash_drops_parity_first_and_then_the_whole_block() {
    let mut receiver = receiver(0, |_| false);
    let spoil = |receiver: &mut Receiver, indices: [u16; 3]| {
        for index in indices {
            feed(receiver, 0, index, 1);
        }
        let ready = receiver.poll(START);
        assert!(matches!(ready, Some(ReceiverAction::Ready { block: 0, .. })), "{ready:?}");
        receiver.on_verified(START, 0, false);
    };
    spoil(&mut receiver, [0, 1, 40]);
    assert_eq!(receiver.missing(0).collect::<Vec<_>>(), [2]);
    assert_eq!(lacks(&answer(&mut receiver, 1).expect("an answer")), [(0, 1, 1)]);
    assert_eq!(feed(&mut receiver, 0, 40, 1), Placement::Parity { block: 0, index: 40 });
    assert!(receiver.poll(START).is_some());
    receiver.on_verified(START, 0, false);
    assert_eq!(receiver.missing(0).collect::<Vec<_>>(), [0, 1, 2]);
    spoil(&mut receiver, [0, 1, 2]);
    assert_eq!(lacks(&answer(&mut receiver, 2).expect("an answer")), [(0, 1, 3)]);
}

#[test]
fn a_member_that_holds_all_answers_the_opening_and_one_that_holds_nothing_is_silent() {
    let mut whole = receiver(300_000, |_| true);
    assert_eq!(whole.poll(START), Some(ReceiverAction::Complete));
    let at = whole.next_deadline().expect("an answer is planned");
    assert!(at >= after(2) && at <= after(12), "{at}");
    assert!(
        matches!(whole.poll(at), Some(ReceiverAction::Nack(nack)) if nack.is_complete() && nack.pass == 0)
    );

    let mut nothing = receiver(300_000, |_| false);
    assert_eq!(nothing.poll(after(100)), None);

    let mut part = receiver(300_000, |block| block == 1);
    let Some(ReceiverAction::Nack(nack)) = part.poll(after(13)) else { panic!("no answer") };
    assert_eq!(lacks(&nack), [(0, 1, 3), (2, 1, 27)]);
}

#[test]
fn a_repeated_question_is_answered_again_only_after_the_spread() {
    let mut receiver = receiver(300_000, |_| false);
    assert!(answer(&mut receiver, 1).is_some());
    assert!(answer(&mut receiver, 1).is_none());
    receiver.on_announce(after(40), &announce(300_000, Phase::PassEnd, 1));
    assert!(matches!(receiver.poll(after(60)), Some(ReceiverAction::Nack(_))));
    assert!(answer(&mut receiver, 2).is_some());
    assert!(answer(&mut receiver, 1).is_none(), "an old question");
}

#[test]
fn answers_of_many_members_are_spread_evenly() {
    let mut early = 0;
    for seed in 0..1_000 {
        let question = announce(300_000, Phase::PassEnd, 1);
        let receiver = Receiver::new(START, ReceiverConfig::default(), &question, seed, |_| false);
        early += u32::from(receiver.next_deadline().expect("planned") < after(7));
    }
    assert!((420..580).contains(&early), "{early} of 1,000 in the first half");
}

#[test]
fn a_list_that_does_not_fit_is_coarsened_and_still_names_every_lack() {
    // A gigabyte at 1 % loss: nearly every block lacks something.
    let mut rng = Rng::new(4);
    let mut receiver = receiver(1 << 30, |_| false);
    let mut lost = 0_u64;
    for block in 0..receiver.shape().blocks() {
        let k = receiver.head().source_frames(block);
        for index in 0..k {
            if rng.chance(0.01) {
                lost += 1;
            } else {
                feed(&mut receiver, block, index, 1);
            }
        }
    }
    let nack = answer(&mut receiver, 1).expect("an answer");
    assert!(nack.lacks.len() <= Nack::LACKS_MAX && !nack.more);
    let mut named = vec![0; receiver.blocks.len()];
    for lack in &nack.lacks {
        named[lack.first as usize..(lack.first + lack.count) as usize].fill(lack.lack);
    }
    for (block, of) in receiver.blocks.iter().enumerate().filter(|(_, of)| of.stage == Stage::Lacking) {
        let lack = receiver.head.source_frames(block as u32) - of.frames();
        assert!(named[block] >= lack, "block {block} lacks {lack}, {} named", named[block]);
    }
    let asked: u64 = named.iter().map(|&lack| u64::from(lack)).sum();
    assert!(asked < 4 * lost, "{asked} asked for {lost} lost");
}

#[test]
fn progress_is_reported_while_frames_arrive_and_only_then() {
    let mut receiver = receiver(300_000, |_| false);
    feed(&mut receiver, 1, 0, 1);
    feed(&mut receiver, 1, 2, 3);
    let at = receiver.next_deadline().expect("planned");
    assert!(at >= after(5) && at <= after(10));
    let expected = Progress {
        session: SessionId(7),
        seen: 3,
        latest: 3,
        settled: 3,
        received: 2,
        dropped: 0,
        room: 141,
    };
    assert_eq!(receiver.poll(at), Some(ReceiverAction::Progress(expected)));
    assert_eq!(receiver.poll(at + Duration::from_millis(60)), None);
    assert_eq!(receiver.next_deadline(), Some(START + ReceiverConfig::default().patience));
}

#[test]
fn the_end_of_the_session_is_told_once() {
    let close = announce(300_000, Phase::Close, 3);
    let mut short = receiver(300_000, |_| false);
    short.on_announce(START, &close);
    assert_eq!(short.poll(START), Some(ReceiverAction::Abandoned));
    assert_eq!((short.poll(after(1)), short.next_deadline()), (None, None));
    assert_eq!(feed(&mut short, 1, 0, 1), Placement::Ignore);

    let mut whole = receiver(300_000, |_| true);
    whole.on_announce(START, &close);
    assert_eq!(whole.poll(START), Some(ReceiverAction::Complete));
    assert_eq!(whole.poll(START), Some(ReceiverAction::Over));
}

#[test]
fn a_session_that_closes_while_the_last_hash_is_taken_still_completes() {
    let mut receiver = receiver(0, |_| false);
    for index in 0..3 {
        feed(&mut receiver, 0, index, 1);
    }
    assert!(receiver.poll(START).is_some());
    receiver.on_announce(START, &announce(0, Phase::Close, 1));
    assert_eq!(receiver.poll(START), None);
    receiver.on_verified(after(1), 0, true);
    assert_eq!(receiver.poll(after(1)), Some(ReceiverAction::Complete));
    assert_eq!(receiver.poll(after(1)), Some(ReceiverAction::Over));
}

#[test]
fn a_silent_leader_is_waited_for_and_given_up_at_last() {
    let mut receiver = receiver(300_000, |_| false);
    assert_eq!(receiver.poll(after(29_999)), None);
    receiver.on_announce(after(29_999), &announce(300_000, Phase::Open, 0));
    assert_eq!(receiver.poll(after(59_998)), None);
    assert_eq!(receiver.poll(after(59_999)), Some(ReceiverAction::Abandoned));
}

#[test]
fn a_member_that_cannot_write_says_so_at_once_and_again_when_asked() {
    let mut receiver = receiver(300_000, |_| false);
    receiver.fail(START);
    assert!(matches!(receiver.poll(START), Some(ReceiverAction::Nack(nack)) if nack.failed));
    assert_eq!(feed(&mut receiver, 1, 0, 1), Placement::Duplicate);
    assert!(answer(&mut receiver, 1).expect("an answer").failed);
}

/// Prints what a frame costs on this machine; run it optimised, with `-- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn speed_of_a_frame_on_this_machine() {
    let mut receiver = receiver(1 << 30, |_| false);
    let start = std::time::Instant::now();
    let mut sent = 0;
    for block in 0..receiver.shape().blocks() {
        for index in 0..receiver.head().source_frames(block) {
            sent += 1;
            std::hint::black_box(feed(&mut receiver, block, index, sent));
        }
    }
    println!("{:.1} ns a frame", start.elapsed().as_nanos() as f64 / f64::from(sent));
}
