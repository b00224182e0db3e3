//! Farms of the largest size that is promised: they agree, and a run goes live on all of them. Whole only in
//! release builds; a debug build runs them at a tenth of the size.

use crate::faults::{Fault, Who};
use crate::options::Options;
use crate::sweep;
use crate::world::World;
use farmcast::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const SHRINK: usize = if cfg!(debug_assertions) { 10 } else { 1 };

fn large(name: &str, nodes: usize, segments: usize) -> World {
    if SHRINK > 1 {
        let what = format!("its full size; this debug build runs {nodes} nodes");
        sweep::tell(&format!("SKIPPED: {name}: {what}"));
    }
    let mut options = Options { segments, ..Options::quiet(nodes) };
    options.weather.loss = 0.01;
    World::new(7, options, false)
}

/// One leader each, everybody registered and knowing it, all known to the CCM; then again without those who
/// led; then a run.
fn agree_and_publish(mut world: World) {
    world.expect(SECOND * 30, World::settled).unwrap();
    for segment in 0..world.options.segments {
        world.strike(Fault::kill(Who::Leader(segment), SECOND * 3_600));
    }
    world.expect(SECOND * 30, World::settled).unwrap();
    world.publish();
    world.expect(SECOND * 20, World::delivered).unwrap();
}

#[test]
fn a_thousand_nodes_in_one_segment_agree_and_go_live() {
    agree_and_publish(large("a_thousand_nodes_in_one_segment_agree_and_go_live", 1_000 / SHRINK, 1));
}

/// GD-23.
#[test]
fn five_thousand_nodes_in_three_hundred_segments_agree_and_go_live() {
    let segments = 300 / SHRINK;
    let name = "five_thousand_nodes_in_three_hundred_segments_agree_and_go_live";
    agree_and_publish(large(name, segments * 17, segments));
}
