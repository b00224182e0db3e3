//! Switches that keep multicast to themselves (LD-24, F28, F29): blocked between all, for one, one way, on one
//! channel only. The segment goes on by unicast, and back.

use crate::ccm::SEGMENT_TIMEOUT;
use crate::execute::REPORT_TIMEOUT;
use crate::faults::{Fault, Who};
use crate::options::Options;
use crate::sweep;
use crate::world::World;
use farmcast::proto::engine::Channel;
use farmcast::proto::random::Rng;
use farmcast::time::Duration;
use farmcast::wire::id::NodeId;

const SECOND: Duration = Duration::from_secs(1);
const BOTH: [Channel; 2] = [Channel::Control, Channel::Data];

fn world(seed: u64, options: Options) -> World {
    World::new(seed, options, std::env::var_os("SIM_SHOW").is_some())
}

/// A segment that has settled while multicast passed.
fn settled(seed: u64, options: Options) -> World {
    let mut world = world(seed, options);
    world.expect(SECOND * 5, World::settled).expect("a quiet segment settles");
    world
}

/// Multicast of the channels passes between two nodes only where `passes` says so.
fn block(world: &mut World, channels: &[Channel], passes: impl Fn(usize, usize) -> bool) {
    let nodes = world.nodes.len();
    for channel in channels {
        let blocked = &mut world.context.network.blocked[usize::from(*channel == Channel::Data)];
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        *blocked = pairs.filter(|(from, to)| from != to && !passes(*from, *to)).collect();
    }
}

fn copies(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.copies_sent).sum()
}

fn frames(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.frames_sent).sum()
}

/// Whom the leader knows its multicast not to reach, for so long that it has told.
fn named(world: &World) -> Vec<NodeId> {
    let leader = world.leader(0).expect("one leader");
    world.nodes[leader].engine().expect("it leads").reach().named().collect()
}

fn all_named(world: &World) -> Result<(), String> {
    let (named, all) = (named(world).len(), world.nodes.len() - 1);
    if named == all { Ok(()) } else { Err(format!("{named} of {all} are named")) }
}

#[track_caller]
fn publish_well(world: &mut World) {
    world.publish();
    world.expect(SECOND * 12, World::delivered).unwrap();
}

#[test]
fn nodes_that_never_heard_each_other_find_their_segment_by_the_ccm() {
    for (seed, nodes, loss) in [(1, 2, 0.0), (2, 5, 0.05), (3, 12, 0.05), (4, 24, 0.2)] {
        let mut options = Options::quiet(nodes);
        (options.weather.loss, options.followers) = (loss, nodes / 4);
        let mut world = world(seed, options);
        block(&mut world, &BOTH, |_, _| false);
        world.expect(SECOND * 8, World::settled).unwrap_or_else(|what| panic!("{nodes} nodes: {what}"));
        publish_well(&mut world);
        assert_eq!(frames(&world), 0, "nobody would hear a frame");
        world.expect(SECOND * 4, all_named).unwrap();
    }
}

/// And without that controller, by what they had heard before.
#[test]
fn multicast_that_stops_passing_costs_no_leader_and_comes_back_by_itself() {
    let mut world = settled(10, Options::quiet(12));
    publish_well(&mut world);
    let (leader, copies_before) = (world.leader(0), copies(&world));
    block(&mut world, &BOTH, |_, _| false);
    world.run(SECOND * 3).unwrap();
    assert_eq!(world.leader(0), leader, "the leader lives");
    assert_eq!(world.agreed(0).ok(), leader);
    assert_eq!(named(&world).len(), 11);
    let frames_before = frames(&world);
    publish_well(&mut world);
    assert_eq!(frames(&world), frames_before);
    assert!(copies(&world) > copies_before);

    // The querier appears.
    block(&mut world, &BOTH, |_, _| true);
    world.run(SECOND * 3).unwrap();
    assert_eq!(named(&world), []);
    let copies_before = copies(&world);
    publish_well(&mut world);
    assert!(frames(&world) > frames_before);
    assert_eq!(copies(&world), copies_before);
    assert_eq!(world.leader(0), leader);
}

#[test]
fn a_leader_that_dies_where_multicast_is_blocked_is_replaced() {
    for seed in 20..26 {
        let mut options = Options::quiet(12);
        options.weather.loss = if seed % 2 == 0 { 0.05 } else { 0.0 };
        let mut world = settled(seed, options);
        block(&mut world, &BOTH, |_, _| false);
        world.run(SECOND * 3).unwrap();
        let old = world.agreed(0).expect("a leader");
        // Nor does the controller help.
        world.strike(Fault::kill(Who::Node(old), SECOND * 3_600));
        world.expect(SECOND * 5, |world| world.agreed(0).map(drop)).unwrap();
        world.expect(SECOND * 12, World::settled).unwrap();
        publish_well(&mut world);
    }
}

/// A bad port: the node hears nobody, is heard by nobody, or both. Each place in the ranking of priorities.
#[test]
fn a_single_node_behind_a_bad_port_takes_part() {
    type Passes = fn(usize, usize) -> bool;
    let ports: [(&str, Passes); 3] = [
        ("deaf", |_, to| to != 0),
        ("mute", |from, _| from != 0),
        ("deaf and mute", |from, to| from != 0 && to != 0),
    ];
    for (what, passes) in ports {
        for seed in 30..36 {
            let mut world = world(seed, Options::quiet(6));
            block(&mut world, &BOTH, passes);
            world
                .expect(SECOND * 10, World::settled)
                .unwrap_or_else(|failed| panic!("seed {seed}, a node that is {what}: {failed}"));
            publish_well(&mut world);
            let leader = world.leader(0).unwrap();
            world.run(SECOND * 10).unwrap();
            assert_eq!(world.leader(0), Some(leader), "seed {seed}, {what}: nobody disturbs the leader");
            world.strike(Fault::kill(Who::Node(leader), SECOND * 3_600));
            world
                .expect(SECOND * 12, World::settled)
                .unwrap_or_else(|failed| panic!("seed {seed}, a node that is {what}, later: {failed}"));
        }
    }
}

#[test]
fn two_halves_that_do_not_hear_each_other_become_one_segment() {
    for seed in 40..46 {
        let mut world = world(seed, Options::quiet(8));
        block(&mut world, &BOTH, |from, to| from % 2 == to % 2);
        world.expect(SECOND * 15, World::settled).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        publish_well(&mut world);
        assert!(frames(&world) > 0, "half of it hears the leader");
        assert_eq!(named(&world).len(), 4);
    }
}

#[test]
fn frames_that_a_switch_swallows_are_replaced_by_pulls() {
    let mut world = settled(50, Options { data_len: 300_000, ..Options::quiet(6) });
    let leader = world.leader(0).unwrap();
    let (cut, also) = ((leader + 1) % 6, (leader + 2) % 6);
    block(&mut world, &[Channel::Data], move |from, to| from != leader || (to != cut && to != also));
    world.run(SECOND * 3).unwrap();
    let mut unreached = [world.nodes[cut].id(), world.nodes[also].id()];
    unreached.sort_unstable();
    assert_eq!(named(&world), unreached);
    publish_well(&mut world);
    assert!(frames(&world) > 0);
    assert_eq!(world.leader(0), Some(leader));
}

/// The session is under way when frames stop passing.
#[test]
fn a_channel_that_is_blocked_in_mid_session_loses_no_run() {
    for (seed, after) in [(60, 0), (61, 20), (62, 60), (63, 150)] {
        let mut world = settled(seed, Options { data_len: 4 << 20, ..Options::quiet(5) });
        world.publish();
        world.run(Duration::from_millis(after)).unwrap();
        block(&mut world, &BOTH, |_, _| false);
        world.expect(SECOND * 20, World::delivered).unwrap_or_else(|what| panic!("after {after} ms: {what}"));
    }
}

/// B-17, T21: who only registers and never comes gets copies for a short time.
#[test]
fn copies_end_when_a_node_is_gone() {
    let mut world = settled(70, Options::quiet(4));
    block(&mut world, &BOTH, |_, _| false);
    world.run(SECOND * 3).unwrap();
    let leader = world.leader(0).unwrap();
    for node in (0..4).filter(|node| *node != leader) {
        world.strike(Fault::kill(Who::Node(node), SECOND * 3_600));
    }
    world.run(SECOND * 5).unwrap();
    let reach = |world: &World| world.nodes[leader].engine().map(|engine| engine.reach().deaf().count());
    assert_eq!(reach(&world), Some(0));
    // A leader that is alone asks whom it knew, and whom the CCM knew, further and further apart.
    let before = copies(&world);
    world.run(SECOND * 60).unwrap();
    assert!(copies(&world) - before <= 3 * 20, "{} questions in a minute", copies(&world) - before);
}

/// No node pulls from a leader that serves enough already.
#[test]
fn a_leader_serves_so_many_pulls_at_once() {
    let mut world = settled(80, Options { data_len: 2 << 20, ..Options::quiet(24) });
    block(&mut world, &BOTH, |_, _| false);
    world.run(SECOND * 3).unwrap();
    world.publish();
    let most = std::cell::Cell::new(0);
    let end = world.context.now + SECOND * 20;
    let delivered = world.run_until(end, |world| {
        most.set(most.get().max(world.nodes.iter().filter(|node| node.pulls() > 0).count()));
        world.delivered().is_ok()
    });
    assert!(delivered.unwrap());
    // Those of the leader itself, from the CCM, come before.
    assert!(most.get() <= farmcast::proto::release::PULLS_MAX, "{} at once", most.get());
    assert!(most.get() > 1);
}

/// What a seed blocks: everything, one port, half of it, any directions at all; one channel or both.
fn draw(world: &mut World, rng: &mut Rng) {
    let channels = [&BOTH[..], &BOTH[..], &BOTH[..1], &BOTH[1..]][rng.below(4) as usize];
    let (side, port) = (rng.next_u64(), rng.below(world.nodes.len() as u64) as usize);
    let density = rng.below(1_000) as f64 / 1_000.0;
    let any: Vec<bool> = (0..64 * 64).map(|_| rng.chance(density)).collect();
    match rng.below(6) {
        0 => block(world, channels, |_, _| false),
        1 => block(world, channels, |from, to| side >> from & 1 == side >> to & 1),
        2 => block(world, channels, |from, _| from != port),
        3 => block(world, channels, |_, to| to != port),
        _ => block(world, channels, |from, to| any[from * 64 + to]),
    }
}

/// A farm that has gone through the faults of its seed, then goes on while some switch swallows multicast, then
/// with a switch that does not.
fn live(seed: u64) -> Result<(), String> {
    // By orders to all: docs/TESTING.md tells why.
    let options = Options { alone: false, ..Options::draw(seed) };
    let profile = options.profile();
    let mut world = world(seed, options);
    let mut rng = Rng::new(seed ^ 0xb10c);
    draw(&mut world, &mut rng);
    world.run(profile.trigger * world.options.rounds)?;
    world.heal();
    world.context.network.weather.loss = rng.below(6) as f64 / 100.0;
    draw(&mut world, &mut rng);
    let patience = profile.register_refresh * 5 + profile.concession * 12 + SEGMENT_TIMEOUT * 2;
    for swallowed in [true, false] {
        if !swallowed {
            block(&mut world, &BOTH, |_, _| true);
        }
        let said =
            |what| format!("multicast {}: {what}", if swallowed { "is blocked" } else { "passes again" });
        world.expect(patience, World::settled).map_err(said)?;
        let runs = world.options.faults.publishes;
        world.expect(REPORT_TIMEOUT * 2 * (runs + 1), World::idle).map_err(said)?;
        world.ccm.patient = true;
        world.publish();
        let reports = Duration::from_secs(30) + profile.report_unit * 30;
        world.expect(reports, World::delivered).map_err(said)?;
    }
    Ok(())
}

/// `SIM_SEED=n` replays one with `SIM_SHOW=1`.
#[test]
fn no_seed_is_stopped_by_a_switch() {
    let lives = match sweep::asked("SIM_SEED") {
        Some(seed) => vec![sweep::outcome(seed, || live(seed))],
        None => {
            let seeds = sweep::asked("SIM_SEEDS").map_or(20, |seeds| seeds / 10);
            sweep::each(seeds, |seed| sweep::outcome(seed, || live(seed)))
        }
    };
    let failed: Vec<String> = lives.iter().filter_map(|life| life.clone().err()).collect();
    assert!(failed.is_empty(), "{} of {} seeds:\n{}", failed.len(), lives.len(), failed.join("\n"));
}
