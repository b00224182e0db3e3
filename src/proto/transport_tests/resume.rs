//! Nothing is fetched twice but what was open: members that restart, leaders that change, members that come late.

use super::world::{Loss, Setup, World};
use super::{assert_all_well, even};
use crate::proto::sender::SenderConfig;
use crate::time::{Duration, Instant};
use crate::wire::session::{Repair, RepairWhen};

const ALL_MODES: [(Repair, RepairWhen); 6] = [
    (Repair::Parity, RepairWhen::PassEnd),
    (Repair::Parity, RepairWhen::Immediate),
    (Repair::Parity, RepairWhen::Timed),
    (Repair::Resend, RepairWhen::PassEnd),
    (Repair::Resend, RepairWhen::Immediate),
    (Repair::Resend, RepairWhen::Timed),
];

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// 4 MiB, which take some 80 ms.
fn world(seed: u64, loss: f64, (repair, repair_when): (Repair, RepairWhen)) -> World {
    let sender = SenderConfig { repair, repair_when, ..SenderConfig::default() };
    World::new(Setup { seed, members: 3, link: even(loss), data_len: 4 << 20, sender, ..Setup::default() })
}

fn end(world: &mut World) {
    world.run(at(60_000));
    assert_all_well(world);
}

#[test]
fn a_member_that_restarts_in_mid_session_fetches_again_only_what_was_open() {
    for mode in ALL_MODES {
        for (seed, loss) in [(1, 0.0), (2, 0.01), (3, 0.05)] {
            let mut world = world(seed, loss, mode);
            world.run(at(70));
            world.kill(1);
            let before = world.fetched(1);
            world.run(at(90));
            let open = world.restart(1);
            end(&mut world);
            assert!(before > 500 && open < before, "{before} fetched, {open} of them open");
            assert_eq!(world.fetched(1), world.source_frames() + open, "{mode:?} at loss {loss}");
            // Without loss no more than the block at hand was open.
            assert!(loss > 0.0 || open <= 183, "{open}");
            assert_eq!(world.fetched(0), world.source_frames());
        }
    }
}

#[test]
fn another_leader_goes_on_in_mid_block_and_only_parity_is_lost() {
    for mode in ALL_MODES {
        for (seed, loss) in [(1, 0.0), (2, 0.01), (3, 0.05)] {
            let mut world = world(seed, loss, mode);
            world.run(at(60));
            let before: Vec<u32> = (0..3).map(|member| world.fetched(member)).collect();
            let parities: Vec<u32> = (0..3).map(|member| world.parities(member)).collect();
            world.replace_leader();
            end(&mut world);
            for member in 0..3 {
                let expected = world.source_frames() + parities[member];
                assert!(before[member] > 500, "{before:?}");
                assert_eq!(world.fetched(member), expected, "{mode:?} at loss {loss}");
            }
            // The new leader sent what nobody had, and what each lost.
            let sent = world.finish().frames_sent;
            let rest = world.source_frames() - before.iter().min().expect("three");
            assert!(
                (sent as f64) < f64::from(rest) * 1.5 + 400.0,
                "{sent} sent for {rest}: {mode:?}, {loss}"
            );
        }
    }
}

#[test]
fn a_member_that_joins_late_fetches_everything_once_and_the_others_nothing_more() {
    for mode in ALL_MODES {
        for (seed, loss) in [(1, 0.0), (2, 0.01)] {
            let mut world = world(seed, loss, mode);
            world.run(at(70));
            world.join();
            end(&mut world);
            for member in 0..4 {
                assert_eq!(world.fetched(member), world.source_frames(), "{member}: {mode:?} at loss {loss}");
            }
        }
    }
}

#[test]
fn members_and_leader_that_fail_again_and_again_still_end_well() {
    for (seed, mode) in ALL_MODES.into_iter().enumerate() {
        let mut world = world(seed as u64, 0.02, mode);
        for step in 0..6 {
            world.run(at(50 + step * 40));
            world.kill(step as usize % 3);
            world.run(at(60 + step * 40));
            world.restart(step as usize % 3);
            if step % 2 == 1 {
                world.replace_leader();
            }
        }
        end(&mut world);
    }
}

#[test]
fn bursts_are_survived_in_every_mode() {
    for (repair, repair_when) in ALL_MODES {
        let bursts = Loss::Bursts {
            between: Duration::from_millis(10),
            lasting: Duration::from_millis(2),
            within: 0.9,
        };
        let link = super::Link { loss: bursts, duplicate: 0.02, reorder: 0.05, ..super::Link::LAN };
        let sender = SenderConfig { repair, repair_when, ..SenderConfig::default() };
        let mut world =
            World::new(Setup { seed: 4, members: 4, link, data_len: 1_000_001, sender, ..Setup::default() });
        end(&mut world);
    }
}
