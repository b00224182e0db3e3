//! A switch that keeps multicast from those who want it: noticed, named, lived with, and healed.

use crate::farm::Farm;
use crate::harness::{FARMCAST, LATER, SOON, noise, run};
use crate::world::{in_lab, lab_sh};
use farmcast::ccm::api::types::Status;
use netlink::bridge::Bridge;
use std::time::{Duration, Instant};

/// What a switch does that snoops IGMP where nobody asks who listens.
const SNOOPS_IN_VAIN: Bridge = Bridge { snooping: true, querier: false };
/// From the start of the nodes, or from the fault, to the verdict: some seconds, and 10 are allowed; but the machine
/// may be busy with other tests.
const NAMED_WITHIN: Duration = Duration::from_secs(30);

/// All of a first start: nobody has heard of anybody.
#[test]
fn multicast_that_a_switch_swallows_is_named_and_replaced_until_it_passes() {
    in_lab(
        "snooping::multicast_that_a_switch_swallows_is_named_and_replaced_until_it_passes",
        &["bridge"],
        || {
            let mut farm = Farm::build(&[4], SNOOPS_IN_VAIN, "");
            (0..4).for_each(|at| set_flooding(&farm, at, "off"));
            let start = Instant::now();
            farm.begin();
            let status = wait_for_verdict(&farm, 3);
            assert!(start.elapsed() < NAMED_WITHIN, "{:?}: {status:#?}", start.elapsed());
            assert!(status.action.contains("querier"), "{status:#?}");
            farm.wait_until_whole();
            let leader = farm.agreed_leader(0).expect("one leader");
            assert!(!status.segments[0].by_unicast.contains(&farm.members[leader].node.name));
            // The nodes' logs say it too, and not twice a second; so does `show status`.
            farm.members[leader].node.wait_for_log("our multicast does not reach member");
            let other = &farm.members[(leader + 1) % 4].node;
            other.wait_for_log("does not arrive here: going on by unicast");
            assert!(other.log().matches("does not arrive here").count() <= 2, "{}", other.log());
            assert_eq!(other.ask("show status")[0].text("multicast"), Some("blocked"));
            let said = doctor(&farm, (leader + 1) % 4);
            let line = line_of(&said, "reach");
            assert!(
                line.starts_with("warn") && line.contains("on either channel: the node goes on by unicast"),
                "{said}"
            );
            assert!(line_of(&said, "leader").starts_with("ok"), "the daemon follows one: {said}");
            // A member that a busy machine held up has to register again first.
            farm.wait("the leader's doctor names three", LATER, || {
                line_of(&doctor(&farm, leader), "reach").contains("does not reach 3 members").then_some(())
            });

            farm.stage("before", "by unicast");
            farm.publish_well();
            let frames =
                || farm.members.iter().map(|member| member.node.counter("frames_received")).sum::<u64>();
            assert_eq!(frames(), 0, "no frame can have passed");
            assert_eq!(farm.members[leader].node.counter("members_released"), 3);
            assert_eq!(farm.members[leader].node.counter("frames_sent"), 0, "none was sent in vain");

            // The querier is switched on, and the switch learns who listens.
            lab_sh("ip link set segment0 type bridge mcast_querier 1 mcast_query_response_interval 100");
            farm.wait("another verdict", LATER, || {
                let status = farm.status();
                (!status.verdict.contains("Multicast") && status.segments[0].by_unicast.is_empty())
                    .then_some(())
            });
            assert_eq!(farm.agreed_leader(0), Some(leader), "the leader stays");
            let copies = farm.members[leader].node.counter("copies_sent");
            farm.stage("after", noise(1, 200_000));
            farm.publish_well();
            assert!(frames() > 3 * 100, "{} frames\n{}", frames(), farm.logs());
            assert_eq!(farm.members[leader].node.counter("copies_sent"), copies, "nobody needs copies");
            assert_eq!(farm.members[leader].node.counter("members_released"), 3);
            assert_eq!(other.ask("show status")[0].text("multicast"), Some("passes"));
            for at in 0..4 {
                farm.wait("a doctor that finds all well", LATER, || {
                    let said = doctor(&farm, at);
                    let well = ["reach", "leader"].map(|what| line_of(&said, what).starts_with("ok"));
                    (well == [true; 2]).then_some(())
                });
            }
        },
    );
}

/// A farm that ran well, while the switch forgets its listeners; then its leader dies.
#[test]
fn multicast_that_stops_passing_costs_neither_the_leader_nor_its_successor() {
    in_lab(
        "snooping::multicast_that_stops_passing_costs_neither_the_leader_nor_its_successor",
        &["bridge"],
        || {
            let mut farm = Farm::of(&[4], SNOOPS_IN_VAIN, "");
            let leader = farm.agreed_leader(0).expect("a leader");
            // Its neighbours are known to every node, and kept.
            let member = &farm.members[(leader + 1) % 4].node;
            farm.wait("the peers on disk", SOON, || member.state().join("peers").exists().then_some(()));
            let start = Instant::now();
            (0..4).for_each(|at| set_flooding(&farm, at, "off"));
            wait_for_verdict(&farm, 3);
            assert!(start.elapsed() < NAMED_WITHIN, "{:?}", start.elapsed());
            assert_eq!(farm.agreed_leader(0), Some(leader));
            assert_eq!(member.counter("elections"), 0, "{}", farm.logs());
            farm.stage("one", "by unicast");
            farm.publish_well();

            farm.members[leader].node.kill();
            farm.wait("another leader", LATER, || {
                let views = farm.members.iter().enumerate().filter(|(at, _)| *at != leader);
                let views: Vec<_> = views.map(|(_, member)| member.view()).collect();
                let lead = views.iter().filter(|view| view.state == "gl_is_me").count();
                (lead == 1 && views.iter().all(|view| view.leader == views[0].leader)).then_some(())
            });
            farm.members[leader].node.start();
            farm.wait_until_whole();
            farm.stage("two", "by unicast still");
            farm.publish_well();
        },
    );
}

/// One port is bad, the others are well: frames to those, a pull for this one.
#[test]
fn one_port_that_multicast_does_not_leave_is_served_alone() {
    in_lab("snooping::one_port_that_multicast_does_not_leave_is_served_alone", &["bridge"], || {
        let farm = Farm::of(&[3], SNOOPS_IN_VAIN, "");
        let leader = farm.agreed_leader(0).expect("a leader");
        let (deaf, well) = ((leader + 1) % 3, (leader + 2) % 3);
        set_flooding(&farm, deaf, "off");
        let status = wait_for_verdict(&farm, 1);
        assert_eq!(status.segments[0].by_unicast, [farm.members[deaf].node.name.clone()]);
        farm.stage("content", noise(1, 200_000));
        farm.publish_well();
        let frames = |at: usize| farm.members[at].node.counter("frames_received");
        assert!(frames(well) > 100, "{}", frames(well));
        assert_eq!(frames(deaf), 0);
        assert!(farm.members[deaf].node.counter("fetched_bytes") > 0);
        assert_eq!(farm.members[well].node.counter("fetched_bytes"), 0);
        assert_eq!(farm.agreed_leader(0), Some(leader));
    });
}

#[track_caller]
fn wait_for_verdict(farm: &Farm, by_unicast: usize) -> Status {
    let status = farm.wait("a verdict on multicast", LATER, || {
        let whole = |status: &Status| {
            status.segments.first().is_some_and(|segment| segment.by_unicast.len() == by_unicast)
        };
        Some(farm.status()).filter(whole)
    });
    assert!(status.verdict.contains("Multicast does not pass through segment segment0"), "{status:#?}");
    for name in &status.segments[0].by_unicast {
        assert!(status.verdict.contains(name.as_str()), "{name}: {status:#?}");
    }
    status
}

/// Whether the port of a member gets multicast for which the switch knows no listeners.
fn set_flooding(farm: &Farm, member: usize, flood: &str) {
    lab_sh(&format!("bridge link set dev {} mcast_flood {flood}", farm.members[member].port));
}

/// What the doctor says on a member's machine; it must find nothing that fails.
#[track_caller]
fn doctor(farm: &Farm, member: usize) -> String {
    let member = &farm.members[member];
    let config = member.node.config.to_str().expect("UTF-8");
    let said = run(member.machine.command(&[FARMCAST, "doctor", "--config", config]), SOON);
    println!("{}:\n{}", member.node.name, said.stdout);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

#[track_caller]
fn line_of<'a>(said: &'a str, what: &str) -> &'a str {
    let of = |line: &&str| line.split_whitespace().nth(1) == Some(what);
    said.lines().find(of).unwrap_or_else(|| panic!("nothing of {what}: {said}"))
}
