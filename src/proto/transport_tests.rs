//! One sender, many receivers, one virtual clock: the transport's machines against lossy links.
//!
//! The links drop (evenly or in bursts), delay, duplicate and reorder. Everything follows from the seed.

mod modes;
mod pace;
mod resume;
mod world;

use super::fec;
use super::rate::RateConfig;
use super::receiver::ReceiverConfig;
use super::sender::SenderConfig;
use crate::time::{Duration, Instant};
use std::fmt::Write;
use world::{Link, Loss, Setup, World};

fn even(loss: f64) -> Link {
    Link { loss: Loss::Even(loss), ..Link::LAN }
}

fn run(setup: Setup) -> World {
    let mut world = World::new(setup);
    world.run(Instant::ZERO + Duration::from_secs(60));
    world
}

/// Ends well: every member complete, every byte right.
fn assert_all_well(world: &World) {
    let finish = world.finish();
    assert_eq!(finish.complete.len(), world.members(), "{finish:?}");
    assert!((0..world.members()).all(|member| world.holds_all(member)), "content differs");
}

/// Members x loss -> frames sent per frame of the file, passes. Read a change of it as you read code.
const TABLE: &str = "\
members  loss %  frames/frame  passes
      1       0         1.000       1
      1       1         1.007       2
      1       5         1.057       2
      1      30         1.511       5
      8       0         1.000       1
      8       1         1.026       2
      8       5         1.083       3
      8      30         1.851       4
     40       0         1.000       1
     40       1         1.031       2
     40       5         1.113       3
     40      30         1.908       5
";

#[test]
fn overhead_and_passes_are_as_the_table_says() {
    let mut table = String::from("members  loss %  frames/frame  passes\n");
    for members in [1, 8, 40] {
        for loss in [0, 1, 5, 30] {
            let link = even(f64::from(loss) / 100.0);
            let content = members * loss <= 40;
            let world = run(Setup {
                members: members as usize,
                link,
                content,
                data_len: 600_000,
                ..Setup::default()
            });
            assert_all_well(&world);
            let passes = world.finish().passes;
            let _ = writeln!(table, "{members:7}  {loss:6}  {:12.3}  {passes:6}", world.overhead());
        }
    }
    assert_eq!(table, TABLE, "the table is now:\n{table}");
}

#[test]
fn a_thousand_members_that_lose_one_percent_cost_at_most_six_percent() {
    let setup =
        Setup { members: 1_000, link: even(0.01), data_len: 1 << 20, content: false, ..Setup::default() };
    let world = run(setup);
    assert_eq!(world.finish().complete.len(), 1_000);
    assert!(world.overhead() <= 1.06, "{}", world.overhead());
}

#[test]
fn bursts_duplicates_and_reordering_are_survived() {
    for seed in 0..4 {
        let link = Link {
            loss: Loss::Bursts {
                between: Duration::from_millis(10),
                lasting: Duration::from_millis(2),
                within: 0.9,
            },
            duplicate: 0.02,
            reorder: 0.05,
            ..Link::LAN
        };
        assert_all_well(&run(Setup { seed, members: 4, link, data_len: 400_001, ..Setup::default() }));
    }
}

#[test]
fn an_object_of_one_frame_arrives_over_a_link_that_drops_a_third() {
    for seed in 0..20 {
        let setup =
            Setup { seed, members: 5, link: even(0.33), command_len: 200, data_len: 0, ..Setup::default() };
        assert_all_well(&run(setup));
    }
}

#[test]
fn any_length_of_the_data_file_arrives() {
    for data_len in [0, 1, 1_435, 1_436, 1_437, 262_143, 262_144, 262_145, 524_288] {
        assert_all_well(&run(Setup { members: 2, link: even(0.05), data_len, ..Setup::default() }));
    }
}

#[test]
fn members_that_hold_the_object_are_sent_nothing() {
    let world = run(Setup { members: 5, held: |_, _| true, ..Setup::default() });
    assert_all_well(&world);
    assert_eq!(world.finish().frames_sent, 0);
}

#[test]
fn a_session_resumed_by_another_leader_sends_only_what_somebody_lacks() {
    // Five data blocks and the command buffer; each member holds all but two.
    let held = |member: usize, block| block != 1 && block != 2 + member as u32 % 2;
    let world = run(Setup { members: 4, data_len: 5 * 262_144, held, ..Setup::default() });
    assert_all_well(&world);
    assert_eq!(world.finish().frames_sent, 3 * 183);
}

#[test]
fn a_member_that_joins_late_gets_everything() {
    let mut world = World::new(Setup {
        members: 3,
        link: even(0.01),
        data_len: 4 << 20,
        content: false,
        ..Setup::default()
    });
    world.run(Instant::ZERO + Duration::from_millis(60));
    assert!(world.standing().frames_sent > 1_000, "{:?}", world.standing());
    world.join();
    world.run(Instant::ZERO + Duration::from_secs(60));
    assert_all_well(&world);
}

#[test]
fn a_member_that_dies_is_named_and_stalls_nobody() {
    let mut world = World::new(Setup { members: 4, link: even(0.01), data_len: 2 << 20, ..Setup::default() });
    world.run(Instant::ZERO + Duration::from_millis(50));
    world.kill(2);
    world.run(Instant::ZERO + Duration::from_secs(60));
    assert_eq!(world.finish().missing, [World::node(2)]);
    assert_eq!(world.finish().complete.len(), 3);
    let alive = world.completed_at(0).expect("complete");
    assert!(alive < Instant::ZERO + Duration::from_millis(400), "{alive}");
}

#[test]
fn a_member_without_space_says_so_and_the_others_finish() {
    let mut world = World::new(Setup { members: 3, link: even(0.05), data_len: 1 << 20, ..Setup::default() });
    world.run(Instant::ZERO + Duration::from_millis(50));
    world.fail(1);
    world.run(Instant::ZERO + Duration::from_secs(60));
    assert_eq!(world.finish().failed, [World::node(1)]);
    assert_eq!(world.finish().complete.len(), 2);
}

#[test]
fn a_polluted_parity_frame_costs_a_pass_and_not_the_object() {
    let setup = Setup { members: 3, link: even(0.05), data_len: 600_000, pollute: 3, ..Setup::default() };
    let world = run(setup);
    assert_all_well(&world);
    assert!(world.spoiled() > 0);
}

#[test]
fn hashes_that_come_late_delay_the_answer_and_cause_no_resending() {
    let setup = Setup {
        members: 3,
        link: even(0.0),
        data_len: 600_000,
        hash_delay: Duration::from_millis(200),
        ..Setup::default()
    };
    let world = run(setup);
    assert_all_well(&world);
    assert!((world.overhead() - 1.0).abs() < 1e-9);
}

#[test]
fn little_room_for_parity_slows_but_never_stops_a_member() {
    let receiver = ReceiverConfig { parity_max: 255, ..ReceiverConfig::default() };
    let setup = Setup { members: 2, link: even(0.35), data_len: 5 << 18, receiver, ..Setup::default() };
    assert_all_well(&run(setup));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = || {
        let link = even(0.07);
        let setup =
            Setup { seed: 99, members: 7, link, data_len: 500_000, content: false, ..Setup::default() };
        let world = run(setup);
        (world.finish().clone(), world.ended_at())
    };
    assert_eq!(story(), story());
}

#[test]
fn the_defaults_fit_together() {
    let (sender, receiver) = (SenderConfig::default(), ReceiverConfig::default());
    assert!(receiver.settle < sender.answer_margin, "an answer must come within the margin");
    let RateConfig { start, min, max } = sender.rate;
    assert!(min < start && start < max);
    assert!(receiver.parity_max >= u32::from(fec::SYMBOLS_MAX));
}
