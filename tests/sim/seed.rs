//! The life of one seed: faults and safety first, then a healed network and liveness.

use crate::ccm::SEGMENT_TIMEOUT;
use crate::faults::{Fault, Who};
use crate::options::Options;
use crate::queue::Event;
use crate::world::World;
use farmcast::time::Duration;

/// What two runs of one seed must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub hash: u64,
    pub events: u64,
    /// From healing to one leader with all registered, and from the publish to the last report.
    pub settled: Duration,
    pub delivered: Duration,
    /// From the publish to the last report where something went wrong meanwhile.
    pub survived: Duration,
}

/// Lives a seed through.
///
/// # Errors
/// The first promise that was broken.
pub fn live(seed: u64, print: bool) -> Result<Life, String> {
    let options = Options::draw(seed);
    let profile = options.profile();
    let mut world = World::new(seed, options, print);
    world.run(profile.trigger * world.options.rounds)?;
    world.heal();
    let healed = world.context.now;
    // A member that died just now is borne with for three and a half refreshes, a vote takes a few rounds, and
    // the CCM believes the leader of a later epoch for a while, though it is gone with all who know of it.
    let patience = profile.register_refresh * 5 + profile.concession * 4 + SEGMENT_TIMEOUT;
    let settled = world.expect(patience, World::settled)?.since(healed);
    world.expect(profile.segment_report * 3 + profile.register_refresh * 2, World::grouped)?;
    let published = world.context.now;
    world.publish();
    let patience = Duration::from_secs(6) + profile.report_unit * 30;
    let delivered = world.expect(patience, World::delivered)?.since(published);
    let survived = trial(&mut world)?;
    let trace = &world.context.trace;
    Ok(Life { hash: trace.hash(), events: trace.events(), settled, delivered, survived })
}

/// A run during which one thing goes wrong, in light rain: it must still come to its end on all nodes.
fn trial(world: &mut World) -> Result<Duration, String> {
    let (now, segments) = (world.context.now, world.options.segments as u64);
    let (nodes, profile) = (world.nodes.len() as u64, world.options.profile());
    let rng = &mut world.context.rng;
    let who = match rng.chance(0.5) {
        true => Who::Leader(rng.below(segments) as usize),
        false => Who::Node(rng.below(nodes) as usize),
    };
    let gone = Duration::from_nanos(1 + rng.below(4 * profile.register_refresh.as_nanos()));
    let fault = match rng.below(4) {
        0 => Fault::Stop(who, gone),
        1 => Fault::Pause(who, gone),
        _ => Fault::Crash(who, Some(gone)),
    };
    // Most of the time while the run is under way.
    let at = now + Duration::from_nanos(rng.below(1_000_000_000 + profile.report_unit.as_nanos() * 10));
    world.context.network.weather.loss = rng.below(6) as f64 / 100.0;
    world.context.queue.push(at, Event::Fault(fault));
    world.publish();
    let patience = Duration::from_secs(30) + profile.concession * 8 + profile.report_unit * 30;
    Ok(world.expect(patience, World::delivered)?.since(now))
}
