//! The life of one seed: faults and safety first, then a healed network and liveness.

use crate::ccm::SEGMENT_TIMEOUT;
use crate::options::Options;
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
    let published = world.context.now;
    world.publish();
    let patience = Duration::from_secs(6) + profile.report_unit * 30;
    let delivered = world.expect(patience, World::delivered)?.since(published);
    let trace = &world.context.trace;
    Ok(Life { hash: trace.hash(), events: trace.events(), settled, delivered })
}
