//! Farms in which nothing goes wrong but the odd datagram: nobody who leads is ever replaced (EL-14).
//!
//! A simulated year of `classic` and ten days of `lan`, added up over farms of three nodes that live at the
//! same time, each with a seed of its own, on all processors. `SIM_STEADY=1` lives all of it, some ten minutes
//! of two processors; without it a release build does a twentieth, a debug build a thousandth.

use crate::options::Options;
use crate::sweep;
use crate::world::World;
use farmcast::proto::engine::Engine;
use farmcast::time::Duration;

const FARMS: u64 = 24;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The part of the time that is left out: all but one of so many.
fn shrink() -> u64 {
    match (sweep::asked("SIM_STEADY"), cfg!(debug_assertions)) {
        (Some(1), _) => 1,
        (_, true) => 1_000,
        (_, false) => 20,
    }
}

/// What members and leaders went through in one farm after its first leader was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unrest {
    /// Leaders beyond the first.
    changes: u64,
    /// A member took its leader for gone, or a leader had to ask for its place.
    doubts: u64,
}

fn live(seed: u64, classic: bool, span: Duration) -> Result<Unrest, String> {
    let mut options = Options { classic, ..Options::quiet(3) };
    options.weather.loss = 0.01;
    let mut world = World::new(seed, options, false);
    world.expect(Duration::from_secs(60), World::settled)?;
    let doubts = |world: &World| -> u64 {
        world
            .nodes
            .iter()
            .filter_map(|node| node.engine())
            .map(|engine| Engine::counters(engine).elections)
            .sum()
    };
    let (leaders, before) = (world.leaders.len() as u64, doubts(&world));
    world.run(span)?;
    let (changes, doubts) = (world.leaders.len() as u64 - leaders, doubts(&world) - before);
    Ok(Unrest { changes, doubts })
}

/// All farms, on all processors.
fn add_up(name: &str, classic: bool, span: Duration) -> Unrest {
    let shrink = shrink();
    if shrink > 1 {
        sweep::tell(&format!("SKIPPED: {name}: all but 1/{shrink} of the time; SIM_STEADY=1 lives it all"));
    }
    let farms = sweep::each(FARMS, |seed| live(seed, classic, span / FARMS / shrink));
    farms.into_iter().fold(Unrest::default(), |sum, farm| {
        let farm = farm.expect("no promise is broken");
        Unrest { changes: sum.changes + farm.changes, doubts: sum.doubts + farm.doubts }
    })
}

#[test]
fn a_classic_leader_leads_for_a_year_at_one_percent_loss() {
    let name = "a_classic_leader_leads_for_a_year_at_one_percent_loss";
    assert_eq!(add_up(name, true, DAY * 365), Unrest::default());
}

#[test]
fn a_lan_leader_leads_for_ten_days_at_one_percent_loss() {
    let name = "a_lan_leader_leads_for_ten_days_at_one_percent_loss";
    assert_eq!(add_up(name, false, DAY * 10), Unrest::default());
}
