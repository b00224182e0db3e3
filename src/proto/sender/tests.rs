use super::*;
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, Name, ObjectName, RunId, SessionId};
use crate::wire::nack::{FrameRange, Lack};
use crate::wire::problem::Cause;

const START: Instant = Instant::ZERO;

fn head(command_len: u64, data_len: u64) -> Announce {
    Announce {
        session: SessionId(7),
        salt: [0; 16],
        run: RunId(1),
        assignment: AssignmentId(1),
        site: Name::new("www").expect("a good name"),
        group: Name::new("web").expect("a good name"),
        shape: Shape { name: ObjectName([0; 32]), command_len, data_len },
        payload: 1_436,
        rate: 0,
        pass: 0,
        phase: Phase::Open,
        sent: 0,
        spread_ms: 0,
        counted: false,
        repair: Repair::Parity,
        repair_when: RepairWhen::PassEnd,
        nack_ms: 0,
    }
}

fn nack(pass: u16, lacks: &[(u32, u32, u16)]) -> Nack {
    let lacks = lacks.iter().map(|&(first, count, lack)| Lack { first, count, lack }).collect();
    Nack { lacks, ..Nack::empty(SessionId(7), pass) }
}

/// A sender and its own clock.
struct Driver {
    sender: Sender,
    now: Instant,
    /// The last pass whose end was announced.
    asked: u16,
}

impl Driver {
    fn new(head: Announce, nodes: u64) -> Self {
        let nodes: Vec<NodeId> = (0..nodes).map(NodeId).collect();
        Self { sender: Sender::new(START, SenderConfig::default(), head, &nodes), now: START, asked: 0 }
    }

    fn next(&mut self) -> Action {
        loop {
            if let Some(action) = self.sender.poll(self.now) {
                return action;
            }
            let deadline = self.sender.next_deadline().expect("not over");
            assert!(deadline > self.now, "a deadline that is due brings an action");
            self.now = deadline;
        }
    }

    /// Frames up to the next question, as (block, index).
    fn pass(&mut self) -> Vec<(u32, u16)> {
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Action::Frames(run) => {
                    assert_eq!(
                        run.sent_first as usize,
                        self.sender.sent as usize - usize::from(run.count) + 1
                    );
                    frames.extend((0..run.count).map(|ahead| (run.block, run.first_index + ahead)));
                }
                Action::Announce(announce)
                    if announce.phase == Phase::PassEnd && announce.pass > self.asked =>
                {
                    self.asked = announce.pass;
                    return frames;
                }
                Action::Announce(_) => {}
                Action::Done(finish) => panic!("{finish:?}"),
            }
        }
    }

    fn finish(&mut self) -> Finish {
        loop {
            if let Action::Done(finish) = self.next() {
                assert_eq!((self.sender.poll(self.now), self.sender.next_deadline()), (None, None));
                return finish;
            }
        }
    }

    fn answer(&mut self, node: u64, lacks: &[(u32, u32, u16)]) {
        let pass = self.sender.head.pass;
        self.sender.on_nack(self.now, NodeId(node), &nack(pass, lacks));
    }
}

#[test]
fn a_session_opens_three_times_sends_all_in_order_and_closes_twice() {
    let mut driver = Driver::new(head(2_000, 262_144), 1);
    let mut story = Vec::new();
    loop {
        match driver.next() {
            Action::Announce(announce) => {
                story.push(format!("{:?} {}", announce.phase, announce.pass));
                if announce.phase == Phase::PassEnd {
                    driver.answer(0, &[]);
                }
            }
            Action::Frames(run) => {
                if run.first_index == 0 {
                    story.push(format!("block {} from 0", run.block));
                }
            }
            Action::Done(_) => break,
        }
    }
    let expected = [
        "Open 0",
        "Open 0",
        "Open 0",
        "Open 1",
        "block 0 from 0",
        "block 1 from 0",
        "PassEnd 1",
        "Close 1",
        "Close 1",
    ];
    assert_eq!(story, expected);
}

/// LD-4: no question is asked before the frames, and repair is as in any session.
#[test]
fn what_fits_in_one_block_is_sent_with_its_announcement_and_still_repaired() {
    let mut driver = Driver::new(head(2_000, 260_144), 2);
    assert!(driver.sender.head.shape.fits_one_block());
    let first = driver.next();
    assert!(
        matches!(&first, Action::Announce(head) if head.phase == Phase::Open && head.pass == 1),
        "{first:?}"
    );
    assert!(matches!(driver.next(), Action::Frames(run) if run.sent_first == 1), "and the frames at once");
    assert_eq!(driver.now, START);
    driver.pass();
    driver.answer(0, &[(1, 1, 2)]);
    // It missed the announcement and heard only the question.
    driver.answer(1, &[(0, 1, 2), (1, 1, 182)]);
    assert_eq!(driver.pass().len(), 2 + 182);
    driver.answer(0, &[]);
    driver.answer(1, &[]);
    let finish = driver.finish();
    assert_eq!((finish.complete.len(), finish.passes), (2, 2));
    assert!(!Driver::new(head(2_000, 260_145), 2).sender.head.shape.fits_one_block());
}

#[test]
fn if_all_hold_the_object_already_nothing_is_sent() {
    let mut driver = Driver::new(head(2_000, 300_000), 2);
    assert!(matches!(driver.next(), Action::Announce(_)));
    driver.answer(0, &[]);
    driver.answer(1, &[]);
    let finish = driver.finish();
    assert_eq!((finish.complete.len(), finish.frames_sent, finish.passes), (2, 0, 0));
}

#[test]
fn a_repair_is_fresh_parity_as_much_as_the_worst_member_lacks() {
    let mut driver = Driver::new(head(2_000, 600_000), 3);
    assert_eq!(driver.pass().len(), 2 + 183 + 183 + 53);
    driver.answer(0, &[(1, 1, 3)]);
    driver.answer(1, &[(1, 2, 2)]);
    driver.answer(2, &[]);
    assert_eq!(driver.pass(), [(1, 183), (1, 184), (1, 185), (2, 183), (2, 184)]);
    driver.answer(0, &[(1, 1, 1)]);
    driver.answer(1, &[]);
    assert_eq!(driver.pass(), [(1, 186)]);
    driver.answer(0, &[]);
    let finish = driver.finish();
    assert_eq!((finish.complete.len(), finish.passes, finish.repair_frames), (3, 3, 6));
}

#[test]
fn a_block_whose_parity_is_used_up_is_sent_over_again() {
    let mut driver = Driver::new(head(2_000, 262_144), 1);
    driver.pass();
    driver.answer(0, &[(1, 1, 70)]);
    let parity = driver.pass();
    let expected: Vec<(u32, u16)> = (183..255).chain(0..183).map(|index| (1, index)).collect();
    assert!(parity.len() >= 72 && parity == expected[..parity.len()], "{parity:?}");
    driver.answer(0, &[(1, 1, 30)]);
    let again = driver.pass();
    assert_eq!(again[0], expected[parity.len()], "it goes on where it was");
    // Not every repeated frame helps, so there are more of them than frames that lack.
    assert!(again.len() > 60 && again.len() <= 255, "{}", again.len());
}

#[test]
fn a_block_of_one_frame_is_resent_as_it_is() {
    let mut driver = Driver::new(head(500, 0), 1);
    assert_eq!(driver.pass(), [(0, 0)]);
    for _ in 0..5 {
        driver.answer(0, &[(0, 1, 1)]);
        assert_eq!(driver.pass(), [(0, 0)]);
    }
}

#[test]
fn a_silent_member_delays_nobody_else_and_is_missing_in_the_end() {
    let mut driver = Driver::new(head(2_000, 300_000), 2);
    driver.pass();
    let asked = driver.now;
    driver.answer(0, &[(1, 1, 1)]);
    assert_eq!(driver.pass(), [(1, 183)]);
    assert!(driver.now.since(asked) < Duration::from_millis(50));
    driver.answer(0, &[]);
    let finish = driver.finish();
    assert_eq!((finish.complete, finish.missing), (vec![NodeId(0)], vec![NodeId(1)]));
    assert!(driver.now.since(asked) > Duration::from_secs(1), "it had a fair chance");
}

#[test]
fn a_member_that_makes_no_progress_is_given_up_after_ten_passes() {
    let mut driver = Driver::new(head(2_000, 300_000), 1);
    let mut passes = 0;
    let finish = loop {
        match driver.next() {
            Action::Announce(announce) if announce.phase == Phase::PassEnd => {
                passes = announce.pass;
                driver.answer(0, &[(1, 1, 5)]);
            }
            Action::Done(finish) => break finish,
            Action::Announce(_) | Action::Frames(_) => {}
        }
    };
    assert_eq!((passes, finish.missing), (11, vec![NodeId(0)]));
}

#[test]
fn a_list_cut_short_counts_as_progress_while_it_moves_on() {
    let mut driver = Driver::new(head(2_000, 100 << 18), 1);
    driver.pass();
    for pass in 1..=24 {
        let mut answer = nack(pass, &[(u32::from(pass) * 4, 4, 1)]);
        answer.more = true;
        driver.sender.on_nack(driver.now, NodeId(0), &answer);
        assert_eq!(driver.pass().len(), 4, "pass {pass}");
    }
}

#[test]
fn answers_that_lie_are_bounded() {
    let mut driver = Driver::new(head(2_000, 300_000), 2);
    driver.pass();
    driver.sender.on_nack(driver.now, NodeId(99), &nack(1, &[(0, 3, 100)]));
    driver.sender.on_nack(driver.now, NodeId(0), &Nack { session: SessionId(8), ..nack(1, &[(0, 3, 100)]) });
    driver.sender.on_nack(driver.now, NodeId(0), &nack(0, &[(0, 3, 100)]));
    driver.sender.on_nack(driver.now, NodeId(0), &nack(2, &[(0, 3, 100)]));
    driver.sender.on_nack(driver.now, NodeId(0), &nack(1, &[(0, 1, 60_000), (500, 1, 1)]));
    driver.sender.on_nack(driver.now, NodeId(0), &nack(1, &[(1, 1, 1)]));
    driver.sender.on_nack(driver.now, NodeId(1), &nack(1, &[(0, 1, 1)]));
    let frames = driver.pass();
    assert!(frames.len() <= 4 && frames.iter().all(|frame| frame.0 == 0), "{frames:?}");
}

#[test]
fn members_come_fail_and_leave_while_frames_are_sent() {
    let mut driver = Driver::new(head(2_000, 600_000), 2);
    while !matches!(driver.next(), Action::Frames(_)) {}
    driver.sender.on_member_joined(NodeId(5));
    driver.sender.on_member_left(NodeId(0));
    driver.sender.on_nack(driver.now, NodeId(1), &Nack { failed: true, ..nack(0, &[]) });
    driver.pass();
    driver.answer(5, &[]);
    let finish = driver.finish();
    assert_eq!(finish.complete, [NodeId(5)]);
    assert_eq!((finish.failed, finish.missing), (vec![NodeId(1)], vec![NodeId(0)]));
}

#[test]
fn a_session_that_nobody_waits_for_ends_at_once() {
    let mut driver = Driver::new(head(2_000, 600_000), 2);
    while !matches!(driver.next(), Action::Frames(_)) {}
    driver.sender.stop(driver.now);
    let finish = driver.finish();
    assert_eq!((finish.missing.len(), finish.passes), (2, 1));
    assert_eq!(Driver::new(head(2_000, 0), 0).finish().frames_sent, 0);
}

#[test]
fn latecomers_hear_of_the_session_while_frames_are_sent() {
    let mut driver = Driver::new(head(2_000, 40 << 20), 1);
    let mut heard = Vec::new();
    while heard.len() < 5 {
        if let Action::Announce(announce) = driver.next()
            && announce.pass == 1
        {
            assert_eq!(announce.phase, Phase::Open);
            heard.push(driver.now);
        }
    }
    for pair in heard.windows(2) {
        let apart = pair[1].since(pair[0]).as_millis();
        assert!((100..=110).contains(&apart), "{apart} ms apart");
    }
}

#[test]
fn answers_are_spread_by_the_number_of_members() {
    assert_eq!((spread_ms(3), spread_ms(8), spread_ms(1_000), spread_ms(100_000)), (5, 7, 255, 1_000));
}

/// A leader behind a slow link once asked what lacks while the frames still waited in its own socket.
#[test]
fn nobody_is_asked_while_frames_wait_for_the_socket() {
    let mut driver = Driver::new(head(1_000, 0), 2);
    loop {
        if let Action::Frames(_) = driver.next() {
            break;
        }
    }
    driver.sender.hold(true);
    for _ in 0..5 {
        let action = driver.next();
        assert!(matches!(&action, Action::Announce(head) if head.phase == Phase::Open), "{action:?}");
    }
    driver.sender.hold(false);
    let asks = matches!(driver.next(), Action::Announce(head) if head.phase == Phase::PassEnd);
    assert!(asks, "the frames have left");
}

fn with(config: SenderConfig, nodes: u64) -> Driver {
    let ids: Vec<NodeId> = (0..nodes).map(NodeId).collect();
    let sender = Sender::new(START, config, head(2_000, 600_000), &ids);
    Driver { sender, now: START, asked: 0 }
}

/// A list sent while the pass runs, by somebody who has seen so many frames.
fn early(seen: u64, lacks: &[(u32, u32, u16)]) -> Nack {
    Nack { early: true, seen: seen as u32, ..nack(1, lacks) }
}

/// Lets it send until so many frames are out; returns what went out, as (block, index).
fn until_sent(driver: &mut Driver, sent: u64) -> Vec<(u32, u16)> {
    let mut frames = Vec::new();
    while driver.sender.sent < sent {
        if let Action::Frames(run) = driver.next() {
            frames.extend((0..run.count).map(|ahead| (run.block, run.first_index + ahead)));
        }
    }
    frames
}

/// LD-19.
#[test]
fn a_session_ends_when_its_quorum_has_everything() {
    for (quorum, needed) in [(Quorum::Percent(50), 2), (Quorum::Count(3), 3)] {
        let mut driver = with(SenderConfig { quorum, ..SenderConfig::default() }, 4);
        driver.pass();
        let asked = driver.now;
        (0..needed).for_each(|node| driver.answer(node, &[]));
        // The others are silent: nobody waits until they are given up.
        let finish = driver.finish();
        assert!(driver.now.since(asked) < Duration::from_millis(100));
        assert!(finish.reached_quorum() && finish.needed == needed as u32, "{finish:?}");
        assert_eq!(finish.missing.len() as u64, 4 - needed);
    }
}

/// LD-20, SR-15.
#[test]
fn a_session_without_its_quorum_names_who_lacks_what_and_why() {
    let config = SenderConfig { quorum: Quorum::Percent(80), tries_max: 3, ..SenderConfig::default() };
    let mut driver = with(config, 5);
    let finish = loop {
        match driver.next() {
            Action::Announce(announce) if announce.phase == Phase::PassEnd => {
                driver.answer(0, &[]);
                driver.answer(1, &[(1, 1, 7)]);
                driver.sender.on_nack(
                    driver.now,
                    NodeId(2),
                    &Nack { failed: true, ..nack(announce.pass, &[]) },
                );
                driver.sender.on_member_left(NodeId(4));
            }
            Action::Done(finish) => break finish,
            Action::Announce(_) | Action::Frames(_) => {}
        }
    };
    assert!(!finish.reached_quorum());
    // Four took part, for one left; four of them are needed, rounded up, and one is complete.
    assert_eq!((finish.participants, finish.needed, finish.complete), (4, 4, vec![NodeId(0)]));
    let told: Vec<_> = finish.stragglers.iter().map(|of| (of.node.0, of.cause, of.lacks)).collect();
    assert_eq!(told, [(1, Cause::NoProgress, Some(7)), (2, Cause::Failed, None), (3, Cause::Silent, None)]);
}

/// LD-15: at once, and not again for a list that cannot know of it.
#[test]
fn a_gap_that_is_told_at_once_is_repaired_before_the_pass_goes_on_and_only_once() {
    let config = SenderConfig { repair_when: RepairWhen::Immediate, ..SenderConfig::default() };
    let mut driver = with(config, 3);
    until_sent(&mut driver, 250);
    let seen = driver.sender.sent;
    driver.sender.on_nack(driver.now, NodeId(0), &early(seen, &[(1, 1, 2)]));
    // Another one lost something else of it, and sees the same repair.
    driver.sender.on_nack(driver.now, NodeId(1), &early(seen, &[(1, 1, 1)]));
    let frames = until_sent(&mut driver, 380);
    let repaired: Vec<_> = frames.iter().filter(|(block, _)| *block == 1).collect();
    assert_eq!(repaired, [&(1, 183), &(1, 184)]);
    driver.sender.on_nack(driver.now, NodeId(2), &early(seen, &[(1, 1, 2)]));
    let rest = driver.pass();
    assert!(!rest.iter().any(|(block, _)| *block == 1), "{rest:?}");
    (0..3).for_each(|node| driver.answer(node, &[]));
    assert_eq!((driver.finish().passes, driver.sender.repair_frames), (1, 2));
}

/// LD-15, LD-16: the pass goes on, and the next one follows without a question.
#[test]
fn what_members_tell_by_time_is_sent_in_a_pass_that_follows_unasked() {
    let config = SenderConfig { repair_when: RepairWhen::Timed, ..SenderConfig::default() };
    let mut driver = with(config, 2);
    assert_eq!(driver.sender.head.nack_ms, 100);
    until_sent(&mut driver, 300);
    driver.sender.on_nack(driver.now, NodeId(0), &early(300, &[(0, 1, 1), (1, 1, 4)]));
    driver.sender.on_nack(driver.now, NodeId(1), &early(300, &[(1, 1, 3)]));
    let rest = driver.pass();
    let repaired = &rest[rest.len() - 5..];
    assert_eq!(repaired, [(0, 2), (1, 183), (1, 184), (1, 185), (1, 186)]);
    assert_eq!(driver.sender.head.pass, 2, "asked once, behind both passes");
}

#[test]
fn lists_while_a_pass_runs_are_passed_over_where_nobody_was_told_to_send_them() {
    let config = SenderConfig { repair_when: RepairWhen::PassEnd, ..SenderConfig::default() };
    let mut driver = with(config, 2);
    until_sent(&mut driver, 300);
    driver.sender.on_nack(driver.now, NodeId(0), &early(300, &[(1, 1, 9)]));
    let rest = driver.pass();
    assert!(rest.iter().all(|(_, index)| *index < 183), "{rest:?}");
}

/// T20: whoever says whatever, traffic is bounded and the others are served.
#[test]
fn a_storm_of_lists_raises_traffic_by_no_more_than_its_allowance() {
    for repair_when in [RepairWhen::PassEnd, RepairWhen::Immediate, RepairWhen::Timed] {
        for repair in [Repair::Parity, Repair::Resend] {
            let mut driver = with(SenderConfig { repair, repair_when, ..SenderConfig::default() }, 3);
            let object = driver.sender.source_frames;
            let all = FrameRange { block: 0, first: 0, count: u32::MAX };
            let mut shrinking = 183;
            let finish = loop {
                // Node 2 claims to lack everything, over and over; node 1 a little less each time.
                for _ in 0..50 {
                    let (pass, seen) = (driver.sender.head.pass, driver.sender.sent);
                    for early in [true, false] {
                        let greedy = Nack {
                            early,
                            seen: seen as u32,
                            ranges: vec![all],
                            ..nack(pass, &[(0, u32::MAX, 255)])
                        };
                        driver.sender.on_nack(driver.now, NodeId(2), &greedy);
                    }
                }
                match driver.next() {
                    Action::Announce(announce) if announce.phase == Phase::PassEnd => {
                        driver.answer(0, &[]);
                        shrinking -= 1;
                        driver.answer(1, &[(1, 2, shrinking)]);
                    }
                    Action::Done(finish) => break finish,
                    Action::Announce(_) | Action::Frames(_) => {}
                }
            };
            assert_eq!(finish.complete, [NodeId(0)]);
            let causes: Vec<Cause> = finish.stragglers.iter().map(|straggler| straggler.cause).collect();
            assert_eq!(causes, [Cause::TooCostly, Cause::TooCostly]);
            let most = object * (1 + 2 * (4 + 2));
            assert!(finish.frames_sent < most, "{} frames: {finish:?}", finish.frames_sent);
            assert!(finish.nacks < 2_000, "{} lists read", finish.nacks);
        }
    }
}

#[test]
fn an_answer_in_parts_counts_when_all_have_come_and_as_far_as_they_came() {
    let config = SenderConfig { repair: Repair::Resend, ..SenderConfig::default() };
    let mut driver = with(config, 1);
    driver.pass();
    let part = |part, block| {
        let ranges = vec![FrameRange { block, first: 3, count: 2 }];
        Nack { part, parts: 2, ranges, ..nack(1, &[]) }
    };
    driver.sender.on_nack(driver.now, NodeId(0), &part(0, 1));
    driver.sender.on_nack(driver.now, NodeId(0), &part(0, 1));
    driver.sender.on_nack(driver.now, NodeId(0), &part(1, 2));
    assert_eq!(driver.pass(), [(1, 3), (1, 4), (2, 3), (2, 4)]);
    driver.sender.on_nack(driver.now, NodeId(0), &Nack { pass: 2, ..part(1, 2) });
    assert_eq!(driver.pass(), [(2, 3), (2, 4)], "the other part was lost");
}

/// Whose answer was lost has use for the next pass as well.
#[test]
fn a_lost_answer_does_not_hold_up_those_that_came() {
    let mut driver = with(SenderConfig::default(), 4);
    driver.pass();
    let asked = driver.now;
    (0..3).for_each(|node| driver.answer(node, &[(1, 1, 1)]));
    driver.pass();
    assert!(driver.now.since(asked) < Duration::from_millis(20), "{}", driver.now.since(asked).as_millis());
}

/// Bandwidth windows: whatever frames wait, no more leave than may, below the least rate of a session too.
#[test]
fn a_session_sends_no_more_than_it_may_from_the_first_frame_on() {
    let mut driver = Driver::new(head(3_000, 8 << 20), 3);
    let frame = 1_436 + (FRAME_OVERHEAD + IP_UDP_OVERHEAD) as u64;
    let mut sent = 0;
    let mut run = |driver: &mut Driver, bound: Option<u64>, millis: u64| {
        driver.sender.bound_rate(driver.now, bound);
        let (before, end) = (sent, driver.now + Duration::from_millis(millis));
        while driver.now < end {
            match driver.sender.poll(driver.now) {
                Some(Action::Frames(run)) => sent += u64::from(run.count) * frame,
                Some(_) => {}
                None => driver.now = driver.sender.next_deadline().expect("it goes on").min(end),
            }
        }
        sent - before
    };
    let slow = run(&mut driver, Some(125_000), 8_000);
    assert!((800_000..=1_003_000).contains(&slow), "{slow} bytes in 8 s");
    let fast = run(&mut driver, None, 100);
    assert!(fast > 90_000, "{fast} bytes in 100 ms at the least rate that nobody bounds");
    let slow = run(&mut driver, Some(250_000), 4_000);
    assert!((800_000..=1_130_000).contains(&slow), "{slow} bytes in 4 s");
}
