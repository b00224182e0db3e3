//! Cases with a name: those that the sources leave open (requirements section 9), and those that seeds found.

use crate::disk::Health;
use crate::faults::{Fault, Who};
use crate::network::Weather;
use crate::node::{DATAGRAM, HOME, WALL_START, address};
use crate::options::{Options, Priorities};
use crate::queue::Input;
use crate::world::World;
use farmcast::ccm::api::types::Phase;
use farmcast::proto::election::State;
use farmcast::proto::engine::Channel;
use farmcast::time::Duration;
use farmcast::wire::control::LeaderClaim;
use farmcast::wire::envelope::Message;
use farmcast::wire::id::CharterId;
use std::cell::Cell;
use std::rc::Rc;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A settled segment.
fn segment(seed: u64, options: Options) -> World {
    let mut world = World::new(seed, options, std::env::var_os("SIM_SHOW").is_some());
    world.expect(SECOND * 5, World::settled).expect("a quiet segment settles");
    world
}

fn crash_leader(world: &mut World) -> usize {
    let leader = world.leader(0).expect("the segment has a leader");
    world.strike(Fault::kill(Who::Node(leader), SECOND * 3_600));
    leader
}

/// The strongest of the living by (priority, id).
fn strongest(world: &World) -> usize {
    let living = world.living(0).max_by_key(|node| (node.priority(), node.id()));
    living.expect("somebody lives").index
}

/// Runs until the state of some node is as asked; returns which.
fn wait_for(world: &mut World, wanted: impl Fn(&State) -> bool) -> usize {
    let end = world.context.now + SECOND * 10;
    let found = |world: &World| {
        world
            .living(0)
            .find(|node| node.engine().is_some_and(|engine| wanted(engine.election().state())))
            .map(|node| node.index)
    };
    let came = world.run_until(end, |world| found(world).is_some()).expect("no promise is broken");
    assert!(came, "no node came to that state");
    found(world).expect("it came")
}

/// EL-13, B-7: the sources deadlock here.
#[test]
fn equal_priorities_elect_one_leader() {
    let mut world = segment(1, Options { priorities: Priorities::Equal, ..Options::quiet(7) });
    for _ in 0..5 {
        crash_leader(&mut world);
        world.expect(SECOND * 2, |world| world.agreed(0).map(drop)).unwrap();
        assert_eq!(world.leader(0), Some(strongest(&world)));
    }
}

/// B-6, EL-18: the losers wait for a winner that never comes.
#[test]
fn a_front_runner_that_dies_in_mid_vote_is_replaced() {
    let mut world = segment(2, Options::quiet(7));
    let old = crash_leader(&mut world);
    let runner = wait_for(&mut world, |state| matches!(state, State::Voting { .. }));
    assert_ne!(runner, old);
    world.run(millis(100)).unwrap();
    world.strike(Fault::kill(Who::Node(runner), SECOND * 3_600));
    world.expect(SECOND * 3, |world| world.agreed(0).map(drop)).unwrap();
}

/// EL-16: the higher wins, and nobody is left without a leader.
#[test]
fn two_living_leaders_that_meet_agree_on_the_stronger() {
    let mut world = segment(3, Options::quiet(8));
    let half = 0b1010_1010;
    world.strike(Fault::Partition { side: half, one_way: false, cut: true });
    let leads =
        |world: &World| world.living(0).filter(|node| node.engine().unwrap().election().is_leader()).count();
    let end = world.context.now + SECOND * 5;
    assert!(world.run_until(end, |world| leads(world) == 2).unwrap(), "both halves elect a leader");
    world.strike(Fault::Partition { side: half, one_way: false, cut: false });
    world.expect(SECOND * 3, World::settled).unwrap();
    assert_eq!(world.leader(0), Some(strongest(&world)));
}

/// B-3: the first to claim is not the one to lead.
#[test]
fn a_weak_claim_that_comes_first_does_not_win() {
    let mut world = segment(4, Options::quiet(6));
    let old = world.leader(0).unwrap();
    let weak =
        world.living(0).filter(|node| node.index != old).min_by_key(|node| node.priority()).unwrap().index;
    // The others hear their leader a little longer: it claims before they miss it.
    let now = world.context.now;
    world.context.lose_message = Some(Box::new(move |at, from, to, message| {
        from == old && to == weak && at > now && matches!(message, Message::LeaderAlive(_))
    }));
    world.run(millis(150)).unwrap();
    crash_leader(&mut world);
    world.expect(SECOND * 3, |world| world.agreed(0).map(drop)).unwrap();
    assert_eq!(world.leader(0), Some(strongest(&world)));
}

/// LD-19: a new leader goes on with the session, and sends no block that all have verified.
#[test]
fn a_leader_that_dies_in_mid_session_is_replaced_and_verified_blocks_are_not_sent_again() {
    let data_len = 8 * 256 * 1024;
    let mut world = segment(5, Options { data_len, ..Options::quiet(5) });
    world.publish();
    let old = world.leader(0).unwrap();
    let half = |world: &World| {
        let name = world.ccm.run().unwrap().object.shape.name;
        world.living(0).all(|node| (0..4).all(|block| node.disk.is_verified(&name, block)))
    };
    let end = world.context.now + SECOND * 5;
    assert!(world.run_until(end, half).unwrap(), "half of the session passes");
    let name = world.ccm.run().unwrap().object.shape.name;
    assert!(!world.living(0).any(|node| node.index != old && node.disk.is_complete(&name)));
    let back = SECOND * 2;
    world.strike(Fault::kill(Who::Node(old), back));
    world.expect(SECOND * 15, World::delivered).unwrap();
    let new = world.leader(0).unwrap();
    assert_ne!(new, old);
    let again = (0..4).filter(|block| world.nodes[new].blocks_sent.contains(&(name, *block)));
    assert_eq!(again.collect::<Vec<u32>>(), Vec::<u32>::new(), "blocks that all had verified");
    assert!(world.nodes[new].frames_sent > 0);
}

/// LD-22.
#[test]
fn the_last_frame_is_lost_and_recovered() {
    let mut world = segment(6, Options { data_len: 0, command_len: 6_000, ..Options::quiet(5) });
    let lost = Rc::new(Cell::new(0));
    let count = Rc::clone(&lost);
    world.context.lose_frame = Some(Box::new(move |_, _, _, header| {
        let last = header.pass == 1 && header.index == 4;
        count.set(count.get() + u32::from(last));
        last
    }));
    world.publish();
    world.expect(SECOND * 3, World::delivered).unwrap();
    assert_eq!(lost.get(), 4);
}

/// LD-20, LD-24, SR-15: whom multicast does not reach is named to the CCM, and pulls.
#[test]
fn a_member_that_gets_no_frames_is_a_problem_report_and_ends_by_unicast() {
    let mut world = segment(16, Options { data_len: 600_000, ..Options::quiet(5) });
    let leader = world.leader(0).unwrap();
    let deaf = (leader + 1) % 5;
    let node = world.nodes[deaf].id();
    world.context.lose_frame = Some(Box::new(move |_, _, to, _| to == deaf));
    world.publish();
    world.expect(SECOND * 20, World::delivered).unwrap();
    let problem = world.ccm.problems.first().expect("the CCM was told");
    assert_eq!((problem.participants, problem.needed, problem.complete), (4, 4, 3));
    let named: Vec<_> = problem.stragglers.iter().map(|straggler| straggler.node).collect();
    assert_eq!(named, [node]);
    assert!(problem.stragglers[0].lacks.is_some_and(|frames| frames > 400), "{problem:?}");
}

/// SR-8.
#[test]
fn all_reports_are_lost_at_first_and_asked_for() {
    let mut world = segment(7, Options::quiet(6));
    let until = world.context.now + SECOND;
    world.context.lose_message =
        Some(Box::new(move |at, _, _, message| at < until && matches!(message, Message::Status(_))));
    world.publish();
    world.expect(SECOND * 8, World::delivered).unwrap();
}

/// Found by seeds: it was asked for its report, and nobody told it on what.
#[test]
fn a_member_that_restarts_before_it_staged_is_told_again() {
    let mut world = segment(8, Options { staging: SECOND, ..Options::quiet(5) });
    world.publish();
    let leader = world.leader(0).unwrap();
    let member = (leader + 1) % 5;
    let end = world.context.now + SECOND * 3;
    let over = |world: &World| {
        let name = world.ccm.run().unwrap().object.shape.name;
        world.nodes[member].disk.is_complete(&name)
            && world.nodes[leader].engine().unwrap().senders().next().is_none()
    };
    assert!(world.run_until(end, over).unwrap(), "the session ends");
    world.run(millis(100)).unwrap();
    world.strike(Fault::kill(Who::Node(member), millis(200)));
    world.expect(SECOND * 10, World::delivered).unwrap();
}

/// Found by seeds: whoever registers after the session got neither content nor question.
#[test]
fn a_member_that_registers_after_the_session_takes_part_in_the_run() {
    let mut world = segment(9, Options::quiet(5));
    let leader = world.leader(0).unwrap();
    let late = (leader + 1) % 5;
    world.strike(Fault::Pause(Who::Node(late), SECOND * 6));
    // Its leader takes it for gone, the CCM does not know yet.
    let end = world.context.now + SECOND * 5;
    let gone = |world: &World| world.nodes[leader].engine().unwrap().segment().len() == 4;
    world.ccm.patient = true;
    world.publish();
    assert!(world.run_until(end, gone).unwrap(), "silence is noticed");
    world.expect(SECOND * 15, World::delivered).unwrap();
}

/// Found by seeds: an older run's session ended late and took the place of what the next had staged.
#[test]
fn what_is_left_of_an_older_run_does_not_displace_the_next() {
    let mut world = segment(10, Options::quiet(5));
    let leader = world.leader(0).unwrap();
    let (cut_off, full) = ((leader + 1) % 5, (leader + 2) % 5);
    let first = Rc::new(Cell::new(true));
    let holding = Rc::clone(&first);
    world.context.lose_frame = Some(Box::new(move |_, _, to, _| holding.get() && to == cut_off));
    world.strike(Fault::Disk(full, Health::Full));
    world.publish();
    world.expect(SECOND * 5, World::decided).unwrap();
    assert_eq!(world.ccm.last_run().unwrap().run.phase, Phase::Failed);
    first.set(false);
    world.strike(Fault::Disk(full, Health::Fine));
    world.publish();
    world.expect(SECOND * 8, World::delivered).unwrap();
}

/// Found by seeds: a follower that once heard a later epoch ignored every leader since, for ever.
#[test]
fn a_follower_gives_up_waiting_for_a_leader_of_a_lost_epoch() {
    let mut world = segment(11, Options { followers: 1, ..Options::quiet(4) });
    let follower = 0;
    // All who know the epochs so far lose their memory, but the follower.
    for node in 1..4 {
        world.strike(Fault::kill(Who::Node(node), millis(10)));
    }
    world.expect(SECOND * 5, |world| world.agreed(0).map(drop)).unwrap();
    assert!(world.nodes[follower].engine().unwrap().election().leader().is_some());
}

/// A run in a storm ends as well, if more slowly.
#[test]
fn a_run_comes_to_its_end_at_thirty_percent_loss() {
    let weather = Weather { loss: 0.3, duplicate: 0.1, reorder: 0.3, late: millis(20), ..Weather::FINE };
    let mut world = segment(12, Options { data_len: 300_000, ..Options::quiet(8) });
    world.context.network.weather = weather;
    world.publish();
    world.expect(SECOND * 30, World::delivered).unwrap();
}

/// Found by seeds: a leader that staged while its vote was reopened never counted itself (B-11).
#[test]
fn a_leader_that_reports_in_a_reopened_vote_counts_itself() {
    let mut world = segment(13, Options { staging: millis(400), ..Options::quiet(5) });
    world.publish();
    let leader = world.leader(0).unwrap();
    let end = world.context.now + SECOND * 3;
    let staged = |world: &World| world.nodes.iter().any(|node| node.applier.staged.is_some());
    assert!(world.run_until(end, staged).unwrap(), "somebody stages");
    let weak = LeaderClaim { priority: 1, charter: CharterId(0), channel: HOME };
    // A claim every 20 ms keeps the vote open until all have staged.
    for _ in 0..40 {
        let claim = world.nodes[(leader + 1) % 5].seal(Message::LeaderClaim(weak));
        let from = address((leader + 1) % 5, DATAGRAM);
        world.nodes[leader].on_input(&mut world.context, Input::Message(from, Some(Channel::Control), claim));
        world.run(millis(20)).unwrap();
    }
    world.expect(SECOND * 8, World::delivered).unwrap();
}

/// How far each node's switch of the last run was from the instant of the order, in nanoseconds.
fn spread(world: &World) -> Vec<u64> {
    let run = world.ccm.last_run().unwrap();
    let at = run.run.order.as_ref().unwrap().at_ns;
    let switched = |node: &farmcast::ccm::model::RunNode| {
        world.context.deeds.switched_at(node.node, run.object.assignment).unwrap().as_nanos() + WALL_START
    };
    run.nodes.iter().map(|node| switched(node).abs_diff(at)).collect()
}

/// Found by seeds: a clock that was set misled its node, and a leader's misled the whole segment.
#[test]
fn clocks_that_are_set_move_no_switch() {
    let mut world = segment(14, Options { skew_ns: 3_000_000_000, ..Options::quiet(6) });
    world.run(SECOND * 3).unwrap();
    world.publish();
    let leader = world.leader(0).unwrap();
    let hour = 3_600_000_000_000;
    for (node, by_ns) in [(leader, -hour), (leader + 1, hour), (leader + 2, -1_500_000_000), (leader + 3, 50)]
    {
        world.strike(Fault::Jump(Who::Node(node % 6), by_ns));
        world.run(millis(20)).unwrap();
    }
    world.expect(SECOND * 3, World::delivered).unwrap();
    let off = spread(&world);
    assert!(off.iter().all(|off| *off < 1_000_000), "off by {off:?} ns");
}

/// Found by seeds: it refused the order as expired, or as years ahead, before it had asked for the time.
#[test]
fn a_node_that_starts_with_a_wrong_clock_waits_for_the_time_before_it_switches() {
    for by_ns in [-100_000_000_000_000_000, 100_000_000_000_000_000] {
        let mut world = segment(15, Options::quiet(5));
        world.ccm.patient = true;
        world.publish();
        let end = world.context.now + SECOND * 5;
        let ordered = |world: &World| world.ccm.run().unwrap().run.phase == Phase::Committing;
        assert!(world.run_until(end, ordered).unwrap(), "the order goes out");
        let member = (world.leader(0).unwrap() + 1) % 5;
        world.strike(Fault::Jump(Who::Node(member), by_ns));
        world.strike(Fault::kill(Who::Node(member), millis(100)));
        world.expect(SECOND * 10, World::delivered).unwrap();
    }
}

/// Found by seeds: classic leaders reported as seldom as the CCM takes a silent segment offline.
#[test]
fn a_classic_segment_is_online_without_a_break() {
    let mut options = Options { classic: true, ..Options::quiet(4) };
    (options.weather.reorder, options.weather.late) = (0.5, millis(300));
    let mut world = World::new(16, options, false);
    world.expect(SECOND * 40, World::settled).unwrap();
    let end = world.context.now + SECOND * 600;
    let away = |world: &World| world.ccm_leader(0).is_none();
    assert!(!world.run_until(end, away).unwrap(), "the CCM believes in no leader");
}

/// Found by seeds: a CCM that asks for the reports faster than they are due never got them.
#[test]
fn a_ccm_that_restarts_in_a_classic_run_gets_the_reports_again() {
    let options = Options { classic: true, staging: millis(300), ..Options::quiet(4) };
    let mut world = World::new(17, options, false);
    world.expect(SECOND * 40, World::settled).unwrap();
    world.publish();
    world.run(millis(200)).unwrap();
    world.strike(Fault::CrashCcm(SECOND * 5));
    world.expect(SECOND * 19, World::delivered).unwrap();
}

/// Found by seeds: it had the notification from another leader, who does not repeat it.
#[test]
fn a_leader_that_another_one_told_and_that_restarts_is_told_again() {
    let mut tried = 0;
    for seed in 18..28 {
        let mut world = segment(seed, Options { segments: 2, staging: SECOND, ..Options::quiet(6) });
        let leader = world.leader(1).unwrap();
        world.publish();
        let staged = |world: &World| world.nodes[leader].applier.staged.is_some();
        let end = world.context.now + SECOND * 4;
        assert!(world.run_until(end, staged).unwrap(), "the second leader stages");
        world.run(millis(200)).unwrap();
        let waits = world.segment(1).any(|node| node.applier.staged.is_none());
        world.strike(Fault::kill(Who::Node(leader), millis(10)));
        world.expect(SECOND * 15, World::delivered).unwrap();
        tried += u32::from(waits && world.leader(1) == Some(leader));
    }
    assert!(tried > 0, "none came back as leader while others staged");
}

/// H-1: what hashes wrong is never staged, and is asked for until it hashes right.
#[test]
fn a_leader_with_bad_memory_spoils_no_content() {
    let mut world = segment(19, Options { data_len: 600_000, ..Options::quiet(5) });
    world.context.network.weather.spoil = 0.1;
    world.publish();
    world.expect(SECOND * 15, World::delivered).unwrap();
}

/// CO-8: all or nowhere.
#[test]
fn a_disk_that_is_full_or_fails_leaves_live_alone_everywhere() {
    for health in [Health::Full, Health::Broken] {
        let mut world = segment(20, Options::quiet(5));
        world.strike(Fault::Disk(3, health));
        world.publish();
        world.expect(SECOND * 8, World::decided).unwrap();
        let run = world.ccm.last_run().unwrap();
        assert_eq!(run.run.phase, Phase::Failed);
        assert!(run.run.text.contains("web3"), "{}", run.run.text);
        assert!(world.nodes.iter().all(|node| node.applier.live.is_none()));
        world.strike(Fault::Disk(3, Health::Fine));
        world.publish();
        world.expect(SECOND * 3, World::delivered).unwrap();
    }
}

/// F9: what a power cut left of the spool counts only where it hashes right.
#[test]
fn a_member_that_loses_its_power_keeps_what_it_staged_and_nothing_unproven() {
    let mut world = segment(21, Options { data_len: 800_000, staging: millis(300), ..Options::quiet(5) });
    world.publish();
    let member = (world.leader(0).unwrap() + 1) % 5;
    let end = world.context.now + SECOND * 3;
    let some = |world: &World| {
        let name = world.ccm.run().unwrap().object.shape.name;
        world.nodes[member].disk.is_verified(&name, 1)
    };
    assert!(world.run_until(end, some).unwrap(), "frames arrive");
    let (who, back) = (Who::Node(member), Some(millis(200)));
    world.strike(Fault::Crash { who, power: true, back });
    world.expect(SECOND * 10, World::delivered).unwrap();
    world.strike(Fault::Crash { who, power: true, back });
    let live = world.nodes[member].applier.live;
    assert_eq!(live, Some(world.ccm.last_run().unwrap().object.assignment));
    world.expect(SECOND * 10, World::settled).unwrap();
}
