//! Leaders that are cut off, and leaders that meet (EL-7, EL-13, B-11).

use crate::farm::{FLOODS, Farm};
use crate::harness::{SOON, noise, tree};
use crate::world::{create_switch, in_lab, lab_sh};
use farmcast::ccm::api::types::Phase;
use std::time::Duration;

#[test]
fn a_leader_cut_off_while_it_sends_is_replaced_and_the_run_ends() {
    in_lab("leaders::a_leader_cut_off_while_it_sends_is_replaced_and_the_run_ends", &["tc"], || {
        let farm = Farm::of(&[4], FLOODS, "report_timeout_s = 10");
        farm.stage("first", "one");
        farm.publish_well();
        let before = tree(&farm.path("staging"));

        let leader = farm.agreed_leader(0).expect("one leader");
        farm.members[leader].machine.sh("tc qdisc add dev eth0 root tbf rate 50mbit burst 64k limit 256k");
        farm.stage("noise", noise(7, 20 << 20));
        let job = farm.publish_later();
        farm.wait("frames", SOON, || {
            (farm.members[leader].node.counter("frames_sent") > 1_000).then_some(())
        });
        farm.set_port(leader, false);
        let survivors = || (0..4).filter(|at| *at != leader);
        farm.wait("a new leader", SOON, || {
            let views: Vec<_> = survivors().map(|at| farm.members[at].view()).collect();
            (views.iter().filter(|view| view.state == "gl_is_me").count() == 1).then_some(())
        });
        let job = farm.wait_for_end(job.id);
        let lost = &farm.members[leader].node.name;
        match job.phase {
            Phase::Done => {}
            Phase::Failed => {
                assert!(job.text.contains(lost.as_str()), "it names {lost}: {job:#?}");
                for at in survivors() {
                    assert_eq!(tree(&farm.members[at].node.live()), before, "live is untouched");
                }
            }
            other => panic!("{other}: {job:#?}\n{}", farm.logs()),
        }

        farm.set_port(leader, true);
        farm.members[leader].machine.sh("tc qdisc del dev eth0 root");
        farm.wait_until_whole();
        farm.stage("second", "two");
        farm.publish_well();
    });
}

#[test]
fn two_leaders_that_meet_become_one() {
    in_lab("leaders::two_leaders_that_meet_become_one", &[], || {
        let farm = Farm::of(&[5], FLOODS, "");
        create_switch("island", FLOODS);
        // The last three keep their cables to each other, but lose the first two and the controller.
        for member in &farm.members[2..] {
            lab_sh(&format!("ip link set {} master island", member.port));
        }
        farm.wait("a leader on each side", SOON, || {
            let states: Vec<_> = farm.members.iter().map(|member| member.view()).collect();
            let leads = |range: std::ops::Range<usize>| {
                states[range].iter().filter(|view| view.state == "gl_is_me").count() == 1
            };
            (leads(0..2) && leads(2..5)).then_some(())
        });
        farm.wait("offline nodes", SOON, || {
            (farm.rows().iter().filter(|row| row.state == "offline").count() == 3).then_some(())
        });
        for member in &farm.members[2..] {
            lab_sh(&format!("ip link set {} master segment0", member.port));
        }
        farm.wait("one leader again", Duration::from_secs(10), || farm.agreed_leader(0));
        farm.wait_until_whole();
        farm.stage("after", "healed");
        farm.publish_well();
        let leader = farm.agreed_leader(0).expect("one leader");
        let members = farm.members[leader].node.ask("show members");
        assert_eq!(members.iter().filter(|line| line.text("id").is_some()).count(), 5, "{members:?}");
    });
}
