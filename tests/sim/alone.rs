//! Nodes that go live each by itself (CO-11). A fifth of the seeds of `no_seed_breaks_a_promise` do so as well.

use crate::faults::{Fault, Who};
use crate::options::Options;
use crate::world::World;
use farmcast::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn settled(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, Options { alone: true, ..Options::quiet(nodes) }, false);
    world.expect(SECOND * 5, World::settled).expect("a quiet segment settles");
    world
}

#[test]
fn all_are_live_without_an_order_of_their_own_each_when_it_has_staged() {
    let mut world = settled(1, 8);
    for _ in 0..3 {
        let assignment = world.publish();
        world.expect(SECOND * 20, World::delivered).unwrap();
        let switched = world.nodes.iter().map(|node| world.context.deeds.switched_at(node.id(), assignment));
        let at: std::collections::BTreeSet<_> = switched.map(|at| at.expect("it is live")).collect();
        assert!(at.len() > 1, "nobody waits for the others");
    }
}

/// Killed at any point between the first byte and the answer, one after the other: each is live in the end, by the
/// same order.
#[test]
fn a_node_that_is_killed_meanwhile_goes_live_when_it_is_back() {
    for seed in 0..12 {
        let mut world = settled(seed, 5);
        let leader = world.leader(0).expect("a leader");
        world.publish();
        world.run(Duration::from_millis(seed * 25)).unwrap();
        world.ccm.patient = true;
        world.strike(Fault::kill(Who::Node((leader + 1) % 5), SECOND));
        world.expect(SECOND * 30, World::delivered).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}
