//! The control channel as the operator moves it (EL-6, B-12): over restarts, leaders, and a network that does
//! not let the new group pass.

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, SOON};
use crate::world::in_lab;
use farmcast::ccm::api::types::SegmentDetail;

const MOVED: &str = "239.255.70.9:7401";
const BLOCKED: &str = "239.255.71.1:7401";

/// Waits until all nodes use the channel.
#[track_caller]
fn wait_for_channel(farm: &Farm, channel: &str) {
    farm.wait(&format!("control channel {channel}"), SOON, || {
        let uses =
            |at: usize| farm.members[at].node.ask("show status")[0].text("control_channel") == Some(channel);
        (0..farm.members.len()).all(uses).then_some(())
    });
}

fn show(farm: &Farm) -> SegmentDetail {
    farm.cli(&["--json", "segment", "show", "segment0"]).json()
}

#[test]
fn a_segment_moves_and_stays_together_whoever_starts_or_leads() {
    in_lab("steering::a_segment_moves_and_stays_together_whoever_starts_or_leads", &[], || {
        let mut farm = Farm::of(&[4], FLOODS, "");
        let home = show(&farm).segment.channel;
        let said = farm.cli(&["segment", "channel", "segment0", MOVED]);
        assert_eq!(said.code, Some(0), "{said:?}");
        wait_for_channel(&farm, MOVED);
        farm.stage("first", "one");
        farm.publish_well();

        // One starts anew and has lost what it kept: it is shown the way.
        let leader = farm.agreed_leader(0).expect("one leader");
        let member = (leader + 1) % 4;
        farm.members[member].node.kill();
        std::fs::remove_file(farm.members[member].node.state().join("charter")).expect("it was kept");
        farm.members[member].node.start();
        farm.wait_until_whole();
        wait_for_channel(&farm, MOVED);

        farm.members[leader].node.kill();
        let survivors = || (0..4).filter(|at| *at != leader);
        farm.wait("a new leader", SOON, || {
            let views: Vec<_> = survivors().map(|at| farm.members[at].view()).collect();
            (views.iter().filter(|view| view.state == "gl_is_me").count() == 1).then_some(())
        });
        farm.members[leader].node.start();
        farm.wait_until_whole();
        wait_for_channel(&farm, MOVED);

        // All at once: the charter on their disks says where to meet.
        (0..4).for_each(|at| farm.members[at].node.kill());
        (0..4).for_each(|at| farm.members[at].node.start());
        farm.wait_until_whole();
        wait_for_channel(&farm, MOVED);
        farm.stage("second", "two");
        farm.publish_well();

        let said = farm.cli(&["segment", "channel", "segment0", "--configured"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        wait_for_channel(&farm, &home);
        farm.wait("a report", LATER, || (show(&farm).segment.channel == home).then_some(()));
    });
}

#[test]
fn a_channel_that_does_not_pass_is_given_up_and_named() {
    in_lab("steering::a_channel_that_does_not_pass_is_given_up_and_named", &["nft"], || {
        let farm = Farm::of(&[3], FLOODS, "");
        let home = show(&farm).segment.channel;
        let leader = farm.agreed_leader(0).expect("one leader");
        let deaf = (leader + 1) % 3;
        // A firewall that was not told to let the new group pass.
        farm.members[deaf]
            .machine
            .sh("nft add table ip t && nft 'add chain ip t c { type filter hook input priority 0; }' \
             && nft add rule ip t c ip daddr 239.255.71.1 drop");
        let said = farm.cli(&["segment", "channel", "segment0", BLOCKED]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let log = &farm.members[leader].node;
        log.wait_for_log(&format!("control channel {BLOCKED} does not reach 1 members: back to {home}"));
        wait_for_channel(&farm, &home);
        let segment = farm.wait("a report", LATER, || {
            Some(show(&farm).segment).filter(|segment| segment.channel == home && segment.nodes_online == 3)
        });
        assert_eq!(segment.wanted_channel, BLOCKED, "what was decided, and what is");
        farm.stage("after", "all the same");
        farm.publish_well();
    });
}
