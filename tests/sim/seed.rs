//! The life of one seed: faults and safety first, then a healed network and liveness.

use crate::ccm::SEGMENT_TIMEOUT;
use crate::disk::Health;
use crate::execute::REPORT_TIMEOUT;
use crate::faults::{Fault, Who, jump};
use crate::options::Options;
use crate::queue::Event;
use crate::world::World;
use farmcast::time::Duration;

/// What two runs of one seed must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub hash: u64,
    pub events: u64,
    /// From healing to one leader with all registered, at the earliest when nobody can doubt it any more, and
    /// from the publish to the last report.
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
    world.expect(patience, World::settled)?;
    // Who missed the leader until a moment ago may still ask for a vote, and a classic one takes longer than
    // the CCM waits for a segment in the middle of a run.
    world.run(profile.claim_max)?;
    let settled = world.expect(patience, World::settled)?.since(healed);
    world.expect(profile.segment_report * 3 + profile.register_refresh * 2, World::grouped)?;
    // Whatever was asked for in the storm is decided one way or the other, one run after the other.
    let runs = world.options.faults.publishes;
    world.expect(REPORT_TIMEOUT * 2 * (runs + 1), World::idle)?;
    let delivered = publish(&mut world)?;
    let survived = trial(&mut world)?;
    let trace = &world.context.trace;
    Ok(Life { hash: trace.hash(), events: trace.events(), settled, delivered, survived })
}

/// A run in a farm in which nothing is wrong: it goes live on all nodes that live.
fn publish(world: &mut World) -> Result<Duration, String> {
    let published = world.context.now;
    world.publish();
    let patience = Duration::from_secs(6) + world.options.profile().report_unit * 30;
    Ok(world.expect(patience, World::delivered)?.since(published))
}

/// A run during which one thing goes wrong, in light rain. Whatever mends by itself is borne with: the run
/// must still come to its end on all nodes. A disk that fails may fail the run, which then is live nowhere
/// or where the CCM says, and the next one is live everywhere.
fn trial(world: &mut World) -> Result<Duration, String> {
    let (now, segments) = (world.context.now, world.options.segments as u64);
    let (nodes, profile) = (world.nodes.len() as u64, world.options.profile());
    let rng = &mut world.context.rng;
    let node = rng.below(nodes) as usize;
    let who = match rng.chance(0.5) {
        true => Who::Leader(rng.below(segments) as usize),
        false => Who::Node(node),
    };
    let gone = Duration::from_nanos(1 + rng.below(4 * profile.register_refresh.as_nanos()));
    let (fault, fails) = match rng.below(8) {
        0 => (Fault::Stop(who, gone), false),
        1 => (Fault::Pause(who, gone), false),
        2 => (Fault::Jump(who, jump(rng)), false),
        3 => (Fault::Disk(node, Health::Slow), false),
        4 => (Fault::Disk(node, if rng.chance(0.5) { Health::Full } else { Health::Broken }), true),
        5 => (Fault::Crash { who, power: true, back: Some(gone) }, false),
        6 => (Fault::CrashCcm(gone), false),
        _ => (Fault::kill(who, gone), false),
    };
    // Most of the time while the run is under way.
    let at = now + Duration::from_nanos(rng.below(1_000_000_000 + profile.report_unit.as_nanos() * 10));
    world.context.network.weather.loss = rng.below(6) as f64 / 100.0;
    world.context.queue.push(at, Event::Fault(fault));
    world.ccm.patient = !fails;
    world.publish();
    let patience = Duration::from_secs(60) + profile.concession * 8 + profile.report_unit * 30;
    if !fails {
        return Ok(world.expect(patience, World::delivered)?.since(now));
    }
    world.expect(patience, World::decided)?;
    let decided = world.context.now;
    // It may have ended before its disk failed.
    world.run_until(at, |_| false)?;
    world.heal();
    world.run(profile.claim_max)?;
    let patience = profile.register_refresh * 5 + profile.concession * 4 + SEGMENT_TIMEOUT;
    world.expect(patience, World::settled)?;
    publish(world)?;
    Ok(decided.since(now))
}
