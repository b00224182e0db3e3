//! Two segments behind a router that passes no multicast: leaders serve each other (GD-11..GD-18).

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, noise};
use crate::world::in_lab;
use farmcast::ccm::api::types::Phase;
use std::fs;
use std::time::Instant;

const CONTENT: usize = 3 << 20;

#[test]
fn the_controller_sends_one_copy_and_a_leader_serves_the_next() {
    in_lab("segments::the_controller_sends_one_copy_and_a_leader_serves_the_next", &[], || {
        let farm = Farm::of(&[3, 3], FLOODS, "first_level = 1");
        farm.stage("noise", noise(1, CONTENT));
        let job = farm.publish_well();

        let bytes = job.assignment_bytes;
        assert!(bytes > CONTENT as u64, "{job:#?}");
        assert_eq!(farm.status().served_bytes, bytes, "one copy leaves the controller");
        let leaders = [0, 1].map(|segment| farm.agreed_leader(segment).expect("one leader"));
        let of_leaders = |counter| leaders.map(|at| farm.members[at].node.counter(counter));
        // Whichever came first, served the other.
        let mut served = of_leaders("http_served_bytes");
        served.sort_unstable();
        assert_eq!(served, [0, bytes], "one copy passes between the leaders");
        assert_eq!(of_leaders("fetched_bytes"), [bytes, bytes]);
        for at in (0..farm.members.len()).filter(|at| !leaders.contains(at)) {
            let member = &farm.members[at].node;
            assert_eq!(member.counter("fetched_bytes"), 0, "{} has it by multicast", member.name);
            assert!(member.counter("frames_stored") > 0, "{}", member.name);
        }
    });
}

/// GD-4, and the distance of GD-3: an operator says who comes first, and echoes measure how far leaders are.
#[test]
fn an_operator_orders_the_segments_and_echoes_measure_them() {
    let name = "segments::an_operator_orders_the_segments_and_echoes_measure_them";
    in_lab(name, &[], || {
        let toml = "first_level = 1\nleader_order = [\"segment1\", \"segment0\"]";
        let mut farm = Farm::build(&[1, 1], FLOODS, toml);
        farm.allow_echoes();
        farm.begin();
        farm.wait_until_whole();
        let log = farm.path("ccm.log");
        let said = |what: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(what)).then_some(());
        farm.wait("echoes", LATER, || said("more leaders came back"));
        farm.stage("noise", noise(1, CONTENT));
        let job = farm.publish_well();
        farm.wait("the order", LATER, || said("leaders are served in the order segment1, segment0"));
        let served = [0, 1].map(|at| farm.members[at].node.counter("http_served_bytes"));
        assert_eq!(served, [0, job.assignment_bytes], "the first in the order serves the other");
        assert_eq!(farm.status().served_bytes, job.assignment_bytes, "one copy leaves the controller");
    });
}

/// Cut-through: over links of one rate the second segment has its copy little after the first, not after twice the
/// time, for its leader pulls what the first has verified while the rest still comes.
#[test]
fn a_leader_passes_on_what_is_verified_while_the_rest_still_comes() {
    let name = "segments::a_leader_passes_on_what_is_verified_while_the_rest_still_comes";
    in_lab(name, &["tc"], || {
        let toml = "first_level = 1\nforward = \"verified\"\nleader_order = [\"segment0\", \"segment1\"]";
        let farm = Farm::of(&[1, 1], FLOODS, toml);
        // The way of the content: out of the controller, then out of the first leader.
        for machine in [farm.control(), &farm.members[0].machine] {
            machine.sh("tc qdisc add dev eth0 root tbf rate 16mbit burst 64k limit 256k");
        }
        farm.stage("noise", noise(3, CONTENT * 2));
        let began = Instant::now();
        let job = farm.publish_later();
        let arrived = |at: usize| farm.members[at].node.counter("fetched_bytes");
        let overlaps = farm.wait("both to fetch at once", LATER, || {
            let (first, second) = (arrived(0), arrived(1));
            (second > 0).then_some(first < job_bytes(&farm, job.id))
        });
        assert!(overlaps, "the second began when the first had all");
        let job = farm.wait_for_end(job.id);
        assert_eq!(job.phase, Phase::Done, "{job:#?}\n{}", farm.logs());
        println!("{} bytes over two links of 16 Mbit/s in {:?}", job.assignment_bytes, began.elapsed());
        farm.assert_live_is_staging();
        assert_eq!(farm.status().served_bytes, job.assignment_bytes, "one copy leaves the controller");
        assert_eq!(farm.members[0].node.counter("http_served_bytes"), job.assignment_bytes);
    });
}

fn job_bytes(farm: &Farm, id: u64) -> u64 {
    farm.job(id).assignment_bytes
}
