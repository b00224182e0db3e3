//! A switch that keeps multicast from those who want it: noticed, named, and healed.

use crate::farm::Farm;
use crate::harness::{LATER, SOON};
use crate::world::{in_lab, lab_sh};
use netlink::bridge::Bridge;

/// What a switch does that snoops IGMP where nobody asks who listens.
const SNOOPS_IN_VAIN: Bridge = Bridge { snooping: true, querier: false };

#[test]
fn multicast_that_a_switch_swallows_is_named_in_the_status() {
    in_lab("snooping::multicast_that_a_switch_swallows_is_named_in_the_status", &["bridge"], || {
        let mut farm = Farm::build(&[3], SNOOPS_IN_VAIN, "");
        set_flooding(&farm, "off");
        farm.begin();
        let status = farm.wait("a verdict on multicast", LATER, || {
            Some(farm.status()).filter(|status| status.segments.first().is_some_and(|s| s.rivals.len() == 2))
        });
        let segment = &status.segments[0];
        assert!(
            status.verdict.starts_with("Multicast does not pass through segment segment0"),
            "{status:#?}"
        );
        for name in segment.rivals.iter().chain([&segment.leader_name]) {
            assert!(status.verdict.contains(name.as_str()), "{name}: {status:#?}");
        }
        assert!(status.action.contains("querier"), "{status:#?}");
        // The nodes' logs say it too, and not twice a second.
        let rival = farm.members.iter().find(|member| member.node.name == segment.rivals[0]).expect("a node");
        rival.node.wait_for_log("do not hear each other's multicast");
        let log = rival.node.log();
        assert!(log.matches("a report did not reach").count() <= 4, "{log}");

        set_flooding(&farm, "on");
        farm.wait_until_whole();
        farm.wait("another verdict", SOON, || (!farm.status().verdict.contains("Multicast")).then_some(()));
        farm.stage("after", "healed");
        farm.publish_well();
    });
}

fn set_flooding(farm: &Farm, flood: &str) {
    for member in &farm.members {
        lab_sh(&format!("bridge link set dev {} mcast_flood {flood}", member.port));
    }
}
