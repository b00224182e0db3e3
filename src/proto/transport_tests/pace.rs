//! How fast a session is on links with a bottleneck, with delay and overtaking, and beside a slow member.

use super::world::{Link, Loss, Setup, World};
use super::{even, run};
use crate::time::{Duration, Instant};

/// 200 Mbit/s and what a switch buffers.
const NARROW: Option<(u64, u64)> = Some((25_000_000, 250_000));
const DATA: u32 = 12 << 20;

fn seconds(world: &World, member: usize) -> f64 {
    world.completed_at(member).expect("complete").since(Instant::ZERO).as_secs_f64()
}

/// Content per byte of link until the last member had all, so 0.957 would be all that the frames' headers leave.
fn goodput(seed: u64, link: Link, data: u32) -> (f64, World) {
    let setup = Setup { seed, members: 8, link, data_len: data.into(), content: false, ..Setup::default() };
    let world = run(setup);
    assert_eq!(world.finish().complete.len(), 8);
    let last = (0..8).map(|member| seconds(&world, member)).fold(0.0, f64::max);
    (f64::from(data) / last / 25e6, world)
}

#[test]
fn a_narrow_link_is_filled_without_being_told_its_speed() {
    for (loss, least) in [(0.0, 0.86), (0.01, 0.84), (0.05, 0.78)] {
        let link = Link { loss: Loss::Even(loss), capacity: NARROW, ..Link::LAN };
        let (goodput, _) = goodput(1, link, 24 << 20);
        assert!(goodput >= least, "{goodput:.3} of the link at loss {loss}");
    }
}

/// Frames that others overtake were once taken for lost: each was asked for at once. Later it was those that overtook
/// which made a link look short, and its own delay for a queue that never drained. Either way the rate fell to a
/// twentieth of the link.
#[test]
fn frames_that_overtake_others_are_not_taken_for_a_loss() {
    let delay = Duration::from_millis(18);
    let jitter = Duration::from_millis(2);
    for (loss, overtake, least) in [(0.0, 0.0, 0.6), (0.0, 0.01, 0.4), (0.01, 0.01, 0.3), (0.05, 0.05, 0.3)] {
        for seed in 1..=5 {
            let link = Link { delay, jitter, overtake, capacity: NARROW, ..even(loss) };
            let (goodput, world) = goodput(seed, link, DATA);
            let case = format!("seed {seed}, {overtake} overtake, loss {loss}");
            assert!(goodput >= least, "{goodput:.3} of the link, {case}");
            // The first rounds overflow the queue, for the speed of the link is not known yet, and what is lost there
            // is known to be lost only when it can no longer come late.
            assert!(world.overhead() < 2.7, "{:.3} sent, {case}", world.overhead());
        }
    }
}

fn with_slow(members: usize, slow: (usize, u64, u64), loss: f64) -> World {
    let link = Link { capacity: NARROW, ..even(loss) };
    run(Setup { members, link, slow, data_len: DATA.into(), content: false, ..Setup::default() })
}

/// LD-25: nobody waits for a member, only for the sender.
#[test]
fn one_member_with_a_slow_link_costs_the_others_little_and_gets_everything() {
    for loss in [0.0, 0.01] {
        for members in [2, 8] {
            let well = with_slow(members, (0, 0, 0), loss);
            for rate in [5_000_000, 12_000_000] {
                let ill = with_slow(members, (1, rate, 250_000), loss);
                assert_eq!(ill.finish().complete.len(), members);
                let last = |world: &World| (0..members - 1).map(|m| seconds(world, m)).fold(0.0, f64::max);
                let cost = last(&ill) / last(&well) - 1.0;
                assert!(cost < 0.45, "{cost:.3} of time, {members} members, {rate} bytes/s, loss {loss}");
            }
        }
    }
}

#[test]
fn a_bottleneck_of_half_the_members_sets_the_pace() {
    let world = with_slow(8, (4, 12_500_000, 250_000), 0.0);
    assert_eq!(world.finish().complete.len(), 8);
    assert!(world.overhead() < 1.1, "{:.3}", world.overhead());
}

#[test]
fn a_member_that_is_hardly_slower_sets_the_pace() {
    let world = with_slow(8, (1, 22_000_000, 250_000), 0.0);
    assert!(world.overhead() < 1.15, "{:.3}", world.overhead());
}
