//! Six segments of four nodes behind slow and distant links: the tree of leaders, drawn; a first-level leader and the
//! controller killed in the middle (GD-4..GD-19, SR-12).

use crate::farm::{FLOODS, Farm, Ways};
use crate::harness::{SOON, noise};
use crate::spread::{Tree, sources};
use crate::world::in_lab;
use farmcast::ccm::api::types::{Job, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const SEGMENTS: usize = 6;
const NODES: usize = 4;
const CONTENT: usize = 4 << 20;
/// Of the router towards each segment, and of the controller: 4 MiB take two seconds.
const WAYS: Ways = Ways { mbit: 16, delay: Duration::from_millis(5) };

fn end_well(farm: &Farm, job: u64) -> Job {
    let job = farm.wait_for_end(job);
    assert_eq!(job.phase, Phase::Done, "{job:#?}\n{}", farm.logs());
    assert_eq!(job.nodes.len(), SEGMENTS * NODES);
    // No report is lost.
    assert!(job.nodes.iter().all(|node| node.state == "live"), "{job:#?}");
    farm.assert_live_is_staging();
    job
}

#[test]
fn a_tree_of_six_segments_outlives_a_leader_and_the_controller() {
    let name = "tree::a_tree_of_six_segments_outlives_a_leader_and_the_controller";
    in_lab(name, &["tc", "ethtool"], || {
        let toml = "first_level = 2\nreport_timeout_s = 40";
        let mut farm = Farm::far_apart(&[NODES; SEGMENTS], FLOODS, toml, WAYS);
        farm.begin();
        farm.wait_until_whole();

        // Undisturbed: two copies leave the controller, the others come from leaders.
        farm.stage("noise", noise(1, CONTENT));
        let (began, before) = (Instant::now(), farm.all_fetched());
        let job = farm.publish_later();
        let tree = Tree::follow(&farm, job.id, &before, began, |_| false);
        let job = end_well(&farm, job.id);
        println!("{}all live after {:.2} s", tree.draw(), began.elapsed().as_secs_f64());
        let bytes = job.assignment_bytes;
        assert_eq!(farm.status().served_bytes, 2 * bytes, "{}", tree.draw());
        let first: Vec<_> = tree.sources.iter().filter(|(_, from)| from.is_none()).collect();
        assert_eq!((first.len(), tree.sources.len()), (2, SEGMENTS), "{}", tree.draw());
        assert!((0..SEGMENTS).all(|segment| tree.depth(segment) <= 3), "{}", tree.draw());
        let leaders: BTreeSet<usize> =
            (0..SEGMENTS).map(|segment| farm.agreed_leader(segment).expect("one leader")).collect();
        for at in leaders.iter().copied() {
            assert_eq!(
                farm.fetched(at) - before[at],
                bytes,
                "{} fetched it once",
                farm.members[at].node.name
            );
        }

        // The controller, while some leaders hold it, some fetch and some wait: it goes on where it was.
        farm.stage("noise", noise(2, CONTENT));
        let (began, before) = (Instant::now(), farm.all_fetched());
        let job = farm.publish_later();
        Tree::follow(&farm, job.id, &before, began, |tree| {
            !tree.stored.is_empty() || fetching(&farm, &before) > 1
        });
        farm.restart_ccm();
        let tree = Tree::follow(&farm, job.id, &before, began, |_| false);
        end_well(&farm, job.id);
        println!("controller killed:\n{}all live after {:.2} s", tree.draw(), began.elapsed().as_secs_f64());
        for (at, before) in before.iter().enumerate() {
            let fetched = farm.fetched(at) - before;
            // What was verified before counts; the block that was on its way may come again.
            let most = if leaders.contains(&at) { bytes + (1 << 20) } else { bytes };
            assert!(fetched <= most, "{} received {fetched} of {bytes} bytes", farm.members[at].node.name);
        }

        // A first-level leader: its successor is served, by whoever holds it.
        farm.stage("noise", noise(3, CONTENT));
        let (began, before) = (Instant::now(), farm.all_fetched());
        let job = farm.publish_later();
        let mut killed = None;
        Tree::follow(&farm, job.id, &before, began, |_| {
            let first = sources(&farm, job.id).into_iter().find(|(_, from)| from.is_none());
            killed = first.and_then(|(segment, _)| {
                let at = farm.agreed_leader(segment)?;
                (farm.fetched(at) > before[at] + (1 << 18)).then_some((segment, at))
            });
            killed.is_some()
        });
        let (segment, leader) = killed.expect("a first-level leader in the middle of its transfer");
        farm.members[leader].node.kill();
        let survivors: Vec<usize> = farm.of_segment(segment).filter(|at| *at != leader).collect();
        let gone = Instant::now();
        farm.wait("a successor", SOON, || {
            let leads = |at: &usize| farm.members[*at].view().state == "gl_is_me";
            (survivors.iter().any(leads) || gone.elapsed() > Duration::from_secs(3)).then_some(())
        });
        farm.members[leader].node.start();
        end_well(&farm, job.id);
        let tree = Tree { sources: sources(&farm, job.id), stored: BTreeMap::new() };
        println!(
            "leader of segment{segment} killed:\n{}all live after {:.2} s",
            tree.draw(),
            began.elapsed().as_secs_f64()
        );
    });
}

/// Leaders that have begun to fetch.
fn fetching(farm: &Farm, before: &[u64]) -> usize {
    farm.all_fetched().iter().zip(before).filter(|(now, before)| now > before).count()
}
