//! What operators and the CCM decide of a segment, while the network is bad: its control channel (EL-6, B-12),
//! who may lead it (EL-3); and one identity on two machines.

use crate::faults::{Fault, Who};
use crate::network::Weather;
use crate::node::{DATAGRAM, HOME, address, segment_name};
use crate::options::Options;
use crate::sweep;
use crate::world::World;
use farmcast::proto::engine::Refusal;
use farmcast::proto::random::Rng;
use farmcast::time::Duration;
use farmcast::wire::charter::{Charter, Leaders};
use farmcast::wire::envelope::Message;
use farmcast::wire::id::{CharterId, Name, NodeId};
use std::net::SocketAddrV4;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn away(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new([239, 2, 2, number].into(), 7_401)
}

fn rain(loss: f64) -> Weather {
    Weather { loss, duplicate: 0.05, reorder: 0.1, late: millis(20), ..Weather::FINE }
}

/// A settled segment.
fn segment(seed: u64, options: Options) -> World {
    let mut world = World::new(seed, options, std::env::var_os("SIM_SHOW").is_some());
    world.expect(SECOND * 5, World::settled).expect("a quiet segment settles");
    world
}

/// All living nodes use this control channel.
fn on_channel(world: &World, channel: SocketAddrV4) -> Result<(), String> {
    for node in world.living(0) {
        let present = node.engine().expect("it lives").control_channel().present();
        if present != channel {
            return Err(format!("n{} uses {present}, not {channel}", node.index));
        }
    }
    Ok(())
}

/// They agree on a leader and on a channel, whichever.
fn together(world: &World) -> Result<(), String> {
    let leader = world.agreed(0)?;
    let present = world.nodes[leader].engine().expect("it leads").control_channel().present();
    on_channel(world, present)
}

fn order(world: &mut World, to: SocketAddrV4) -> Result<(), Refusal> {
    let leader = world.leader(0).expect("one leads");
    let World { nodes, context, .. } = world;
    nodes[leader].instruct(context, |engine, now| engine.handle_channel_order(now, to)).expect("it lives")
}

fn charter(number: u64, channel: Option<SocketAddrV4>, leaders: Option<Leaders>) -> Charter {
    let title = Name::new("east").expect("a name");
    Charter { number: CharterId(number), segment: segment_name(0), title, channel, leaders }
}

/// As the CCM does it: told to the leader until it takes it.
fn decree(world: &mut World, charter: &Charter) {
    let bytes = charter.sign(&world.context.keys.director);
    for _ in 0..100 {
        if let Some(leader) = world.leader(0) {
            let World { nodes, context, .. } = &mut *world;
            let tell = |engine: &mut farmcast::proto::engine::Engine, now| {
                engine.handle_charter(now, charter.clone(), bytes.clone())
            };
            if nodes[leader].instruct(context, tell) == Some(Ok(())) {
                return;
            }
        }
        world.run(millis(100)).expect("no promise is broken");
    }
    panic!("no leader takes the charter");
}

fn list(world: &World, nodes: &[usize], open_after: Option<u32>) -> Option<Leaders> {
    Some(Leaders { nodes: nodes.iter().map(|node| world.nodes[*node].id()).collect(), open_after })
}

fn has_charter(world: &World, number: u64) -> Result<(), String> {
    for node in world.living(0) {
        let has = node.engine().expect("it lives").charter().map_or(0, |charter| charter.number.0);
        if has != number {
            return Err(format!("n{} has charter {has}", node.index));
        }
    }
    Ok(())
}

#[test]
fn all_move_to_another_channel_and_back_without_an_election() {
    for (seed, loss) in [(1, 0.0), (2, 0.05), (3, 0.1), (4, 0.2)] {
        let mut world = segment(seed, Options::quiet(8));
        world.context.network.weather = Weather { loss, ..Weather::FINE };
        let elections = |world: &World| -> u64 {
            world.living(0).map(|node| node.engine().expect("it lives").counters().elections).sum()
        };
        let before = elections(&world);
        for to in [away(1), away(2), HOME] {
            order(&mut world, to).expect("the leader takes it");
            assert_eq!(
                order(&mut world, to),
                Err(Refusal::Channel(farmcast::proto::control_channel::Refused::Moving))
            );
            world.expect(SECOND, |world| on_channel(world, to)).unwrap();
            // Kept: everybody says that it hears the leader there.
            world.run(SECOND * 5).unwrap();
            on_channel(&world, to).unwrap();
        }
        if loss < 0.1 {
            assert_eq!(elections(&world), before, "at {loss}");
        }
        world.expect(SECOND * 3, World::settled).unwrap();
    }
}

/// B-12: the order is repeated, and still somebody may hear none of the announcements.
#[test]
fn a_member_that_hears_no_announcement_finds_the_segment_from_home() {
    let mut world = segment(5, Options::quiet(5));
    let leader = world.leader(0).unwrap();
    let deaf = (leader + 1) % 5;
    world.context.lose_message = Some(Box::new(move |_, _, to, message| {
        to == deaf && matches!(message, Message::LeaderAlive(alive) if alive.moves_in_ms > 0)
    }));
    order(&mut world, away(1)).unwrap();
    world.expect(millis(600), |world| on_channel(world, away(1))).unwrap();
    world.run(SECOND * 5).unwrap();
    on_channel(&world, away(1)).unwrap();
    world.settled().unwrap();
}

/// The channel survives the leader: those who moved stay together.
#[test]
fn the_channel_survives_leaders_that_crash_and_leaders_that_stop() {
    let mut world = segment(6, Options::quiet(7));
    world.context.network.weather = rain(0.05);
    order(&mut world, away(1)).unwrap();
    world.expect(SECOND, |world| on_channel(world, away(1))).unwrap();
    world.run(SECOND * 5).unwrap();
    for round in 0..3 {
        let who = Who::Leader(0);
        let fault = if round == 1 { Fault::Stop(who, SECOND) } else { Fault::kill(who, SECOND) };
        let old = world.leader(0).unwrap();
        world.strike(fault);
        world.expect(SECOND * 3, |world| world.agreed(0).map(drop)).unwrap();
        assert_ne!(world.leader(0), Some(old), "round {round}");
        on_channel(&world, away(1)).unwrap_or_else(|what| panic!("round {round}: {what}"));
        // The one that comes back knows nothing, and is shown the way.
        world.run(SECOND).unwrap();
        world.expect(SECOND * 5, World::settled).unwrap();
        on_channel(&world, away(1)).unwrap_or_else(|what| panic!("round {round}, with all: {what}"));
    }
}

/// Leaders point from home to where they are: a node that starts finds its segment in heavy loss as well.
#[test]
fn a_node_that_restarts_finds_its_segment_on_the_other_channel() {
    for (seed, loss, classic) in [(7, 0.0, false), (8, 0.1, false), (9, 0.3, false), (10, 0.1, true)] {
        let mut world = World::new(seed, Options { classic, ..Options::quiet(6) }, false);
        world.expect(SECOND * 60, World::settled).unwrap();
        order(&mut world, away(1)).unwrap();
        world.expect(SECOND * 20, |world| on_channel(world, away(1))).unwrap();
        world.run(if classic { SECOND * 60 } else { SECOND * 5 }).unwrap();
        world.context.network.weather = rain(loss);
        for _ in 0..3 {
            let member = (world.leader(0).unwrap_or(0) + 1) % 6;
            world.strike(Fault::kill(Who::Node(member), millis(300)));
            world.run(millis(400)).unwrap();
            world.expect(SECOND * 60, together).unwrap();
            on_channel(&world, away(1)).unwrap_or_else(|what| panic!("{loss}: {what}"));
        }
    }
}

/// A switch that drops the new group: the segment is not lost for it.
#[test]
fn a_channel_that_does_not_reach_everybody_is_given_up() {
    let mut world = segment(11, Options::quiet(6));
    let leader = world.leader(0).unwrap();
    let cut_off = (leader + 2) % 6;
    // What is sent on another channel than home does not get there: neither leader-alives nor claims.
    world.context.lose_message = Some(Box::new(move |_, _, to, message| match message {
        Message::LeaderAlive(alive) => {
            to == cut_off && alive.channel != HOME && alive.moves_in_ms == 0 && !alive.pointer
        }
        _ => false,
    }));
    order(&mut world, away(1)).unwrap();
    world.expect(SECOND, |world| on_channel(world, away(1))).unwrap();
    world.expect(SECOND * 10, |world| on_channel(world, HOME)).unwrap();
    world.run(SECOND * 6).unwrap();
    on_channel(&world, HOME).unwrap();
    world.settled().unwrap();
}

#[test]
fn halves_on_different_channels_come_together() {
    for seed in 12..18 {
        let mut world = segment(seed, Options::quiet(8));
        let half = 0b1010_1010;
        world.strike(Fault::Partition { side: half, one_way: false, cut: true });
        world.run(SECOND * 2).unwrap();
        // Each half has its own leader, and each goes its own way.
        let leaders: Vec<usize> = world
            .living(0)
            .filter(|node| node.engine().unwrap().election().is_leader())
            .map(|node| node.index)
            .collect();
        assert_eq!(leaders.len(), 2);
        for (number, leader) in leaders.iter().enumerate() {
            let World { nodes, context, .. } = &mut world;
            let to = away(number as u8 + 1);
            let told = nodes[*leader].instruct(context, |engine, now| engine.handle_channel_order(now, to));
            assert_eq!(told, Some(Ok(())));
        }
        world.run(SECOND * 6).unwrap();
        world.strike(Fault::Partition { side: half, one_way: false, cut: false });
        world.expect(SECOND * 5, together).unwrap();
        world.expect(SECOND * 5, World::settled).unwrap();
    }
}

/// EL-6 from the CCM: the charter is kept, so that a segment that went down as a whole starts where it was.
#[test]
fn a_channel_of_the_charter_survives_the_whole_segment() {
    let mut world = segment(18, Options::quiet(5));
    decree(&mut world, &charter(1, Some(away(1)), None));
    world.expect(SECOND, |world| on_channel(world, away(1))).unwrap();
    assert_eq!(order(&mut world, away(2)), Err(Refusal::Chartered));
    world.run(SECOND * 5).unwrap();
    (0..5).for_each(|node| world.strike(Fault::kill(Who::Node(node), SECOND)));
    world.run(SECOND + millis(1)).unwrap();
    world.expect(SECOND * 5, World::settled).unwrap();
    on_channel(&world, away(1)).unwrap();
    decree(&mut world, &charter(2, None, None));
    world.expect(SECOND, |world| on_channel(world, HOME)).unwrap();
}

/// EL-3: whoever leads hands over to the list, and the list alone leads as long as one of it lives.
#[test]
fn the_list_of_the_charter_leads_whatever_the_priorities() {
    for (seed, loss) in [(19, 0.0), (20, 0.1)] {
        let mut world = segment(seed, Options::quiet(6));
        world.context.network.weather = rain(loss);
        let old = world.leader(0).unwrap();
        let weakest: Vec<usize> = {
            let mut others: Vec<_> = world.living(0).filter(|node| node.index != old).collect();
            others.sort_by_key(|node| node.priority());
            others.iter().take(2).map(|node| node.index).collect()
        };
        let leaders = list(&world, &weakest, Some(3));
        decree(&mut world, &charter(1, None, leaders));
        world.expect(SECOND * 5, |world| has_charter(world, 1)).unwrap();
        let led_by = |world: &World, node: usize| match world.agreed(0)? {
            leader if leader == node => Ok(()),
            leader => Err(format!("n{leader} leads")),
        };
        // The stronger of the two; the weaker may have had its registration through first.
        world.expect(SECOND * 5, |world| led_by(world, weakest[1])).unwrap();
        world.expect(SECOND * 5, World::settled).unwrap();
        world.strike(Fault::kill(Who::Node(weakest[1]), SECOND * 3_600));
        world.expect(SECOND * 3, |world| world.agreed(0).map(drop)).unwrap();
        assert_eq!(world.leader(0), Some(weakest[0]));
        // With none of it alive the others vote, but not at once; and they make room for it.
        world.strike(Fault::kill(Who::Node(weakest[0]), SECOND * 10));
        world.run(SECOND * 2 + millis(900)).unwrap();
        assert_eq!(world.leader(0), None, "the list has its time");
        world.expect(SECOND * 4, |world| world.agreed(0).map(drop)).unwrap();
        assert!(!weakest.contains(&world.leader(0).unwrap()));
        // It comes back, and is handed the segment.
        world.expect(SECOND * 15, |world| led_by(world, weakest[0])).unwrap();
    }
}

/// EL-3, strict: better no leader than one that is not on the list.
#[test]
fn a_strict_list_of_which_nobody_lives_leaves_the_segment_without_a_leader() {
    let mut world = segment(21, Options::quiet(5));
    let strangers = Some(Leaders { nodes: vec![NodeId(1)], open_after: None });
    decree(&mut world, &charter(1, None, strangers));
    world.run(SECOND * 5).unwrap();
    has_charter(&world, 1).unwrap();
    let leads = |world: &World| world.living(0).any(|node| node.engine().unwrap().election().is_leader());
    assert!(!leads(&world));
    world.run(SECOND * 60).unwrap();
    assert!(!leads(&world), "for good");
}

/// The one that was down when it was decided neither leads nor brings back the old charter.
#[test]
fn a_node_that_missed_a_charter_gets_it_and_one_with_a_newer_one_hands_it_on() {
    let mut world = segment(22, Options::quiet(5));
    let strongest = world.living(0).max_by_key(|node| node.priority()).unwrap().index;
    let listed: Vec<usize> = (0..5).filter(|node| *node != strongest).take(1).collect();
    world.strike(Fault::kill(Who::Node(strongest), SECOND * 8));
    world.expect(SECOND * 5, |world| world.agreed(0).map(drop)).unwrap();
    let leaders = list(&world, &listed, None);
    decree(&mut world, &charter(7, None, leaders));
    world.run(SECOND * 10).unwrap();
    has_charter(&world, 7).unwrap();
    assert_eq!(world.agreed(0), Ok(listed[0]));
    // A restored database of the CCM counts from below: what it sends is refused.
    let old = charter(6, None, None);
    let bytes = old.sign(&world.context.keys.director);
    let World { nodes, context, .. } = &mut world;
    let told = nodes[listed[0]].instruct(context, |engine, now| engine.handle_charter(now, old, bytes));
    assert_eq!(told, Some(Err(Refusal::Superseded)));
}

/// What an operator does at some moment, or the CCM: a charter, a move, or nothing.
fn steer(world: &mut World, rng: &mut Rng, number: &mut u64) {
    let Some(leader) = world.leader(0) else { return };
    let to = [HOME, away(1), away(2)][rng.below(3) as usize];
    let kind = rng.below(3);
    let all: Vec<NodeId> = world.nodes.iter().filter(|node| node.candidate).map(|n| n.id()).collect();
    let some = all.iter().copied().filter(|_| rng.chance(0.6)).collect::<Vec<_>>();
    let leaders = (!some.is_empty() && rng.chance(0.5))
        .then(|| Leaders { nodes: some, open_after: Some(1 + rng.below(2) as u32) });
    let World { nodes, context, .. } = world;
    if kind == 0 {
        *number += 1;
        let charter = charter(*number, rng.chance(0.5).then_some(to), leaders);
        let bytes = charter.sign(&context.keys.director);
        nodes[leader].instruct(context, |engine, now| engine.handle_charter(now, charter, bytes));
    } else if kind == 1 {
        nodes[leader].instruct(context, |engine, now| engine.handle_channel_order(now, to));
    }
}

/// Whoever is on the list and may lead does, if one lives.
fn led_by_the_list(world: &World) -> Result<(), String> {
    let leader = world.agreed(0)?;
    let Some(charter) = world.nodes[leader].engine().expect("it leads").charter() else { return Ok(()) };
    let may = world.living(0).any(|node| node.candidate && charter.lists(node.id()));
    if may && !charter.lists(world.nodes[leader].id()) {
        return Err(format!("n{leader} leads, and is not on the list"));
    }
    Ok(())
}

/// The life of a seed in its bad weather, with moves and charters among the faults.
fn live(seed: u64) -> Result<(), String> {
    let options = Options { segments: 1, ..Options::draw(seed) };
    let (profile, rounds) = (options.profile(), options.rounds);
    let mut world = World::new(seed, options, std::env::var_os("SIM_SHOW").is_some());
    let (mut rng, mut number) = (Rng::new(seed ^ 0x57ee2), 0);
    for _ in 0..8 {
        world.run(profile.trigger * rounds / 8)?;
        steer(&mut world, &mut rng, &mut number);
    }
    world.heal();
    let patience = profile.register_refresh * 10 + profile.concession * 8 + SECOND * 15;
    world.expect(patience, |world| world.settled().and_then(|()| together(world)))?;
    let numbers = world.living(0).map(|node| node.engine().unwrap().charter().map_or(0, |c| c.number.0));
    let highest = numbers.max().unwrap_or(0);
    world.expect(patience, |world| has_charter(world, highest))?;
    world.expect(patience, led_by_the_list)?;
    Ok(())
}

/// `SIM_SEED=n` replays one with `SIM_SHOW=1`.
#[test]
fn no_seed_is_torn_apart_by_moves_and_charters() {
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

/// Bad input: one identity on two machines. One of them keeps silent, both know, and nothing breaks.
#[test]
fn of_two_machines_with_one_identity_one_keeps_silent_and_both_know() {
    for (seed, boot_ahead) in [(23, false), (24, true)] {
        let mut world = World::new(seed, Options::quiet(6), std::env::var_os("SIM_SHOW").is_some());
        world.strike(Fault::Crash { who: Who::Node(5), power: false, back: None });
        world.run(SECOND * 2).unwrap();
        world.nodes[5].crash(&mut world.context, false);
        world.run(SECOND * 5).unwrap();
        let leader = world.leader(0).unwrap();
        let original = (0..5).find(|node| *node != leader).unwrap();
        let (left, right) = world.nodes.split_at_mut(5);
        right[0].copy(&left[original]);
        if boot_ahead {
            // Started once more often than the original.
            right[0].start(&mut world.context);
            right[0].crash(&mut world.context, false);
        }
        // As often as the original: its own start is one of them.
        if !boot_ahead {
            let World { nodes, context, .. } = &mut world;
            nodes[original].crash(context, false);
            nodes[original].start(context);
            // The original is there first.
            world.run(SECOND * 2).unwrap();
        }
        world.nodes[5].start(&mut world.context);
        let elsewhere =
            |world: &World, node: usize| world.nodes[node].engine().unwrap().twin(world.context.now);
        let both = |world: &World| -> Result<(), String> {
            let (a, b) = (elsewhere(world, original), elsewhere(world, 5));
            if (a, b) == (Some(address(5, DATAGRAM)), Some(address(original, DATAGRAM))) {
                Ok(())
            } else {
                Err(format!("the original knows of {a:?}, the copy of {b:?}"))
            }
        };
        world.expect(SECOND * 10, both).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        let aside = |world: &World, node: usize| world.nodes[node].engine().unwrap().is_aside();
        let silent: Vec<usize> = [original, 5].into_iter().filter(|node| aside(&world, *node)).collect();
        assert_eq!(silent, [if boot_ahead { original } else { 5 }], "seed {seed}");
        // A run is not disturbed, and the segment has one leader all the time.
        world.run(SECOND * 12).unwrap();
        assert!(world.leader(0).is_some());
        assert_eq!([original, 5].into_iter().filter(|node| aside(&world, *node)).count(), 1);
        // With the copy gone the original is itself again.
        let gone = if boot_ahead { 5 } else { silent[0] };
        let stays = if gone == 5 { original } else { 5 };
        world.nodes[gone].crash(&mut world.context, false);
        world
            .expect(SECOND * 15, |world| {
                let engine = world.nodes[stays].engine().unwrap();
                if engine.is_aside() || !engine.is_registered() { Err("not yet".to_owned()) } else { Ok(()) }
            })
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}
