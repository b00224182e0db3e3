//! A member stages what has come while the rest still arrives.

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, noise};
use crate::world::in_lab;
use farmcast::ccm::api::types::Phase;

const FIRST: usize = 4 << 20;
const SECOND: usize = 12 << 20;

#[test]
fn a_member_stages_the_first_file_while_the_second_still_arrives() {
    in_lab("staging::a_member_stages_the_first_file_while_the_second_still_arrives", &["tc"], || {
        let farm = Farm::of(&[2], FLOODS, "");
        for member in &farm.members {
            // 16 MiB at 24 Mbit/s take six seconds.
            member.machine.sh("tc qdisc add dev eth0 root tbf rate 24mbit burst 64k limit 256k");
        }
        farm.stage("a", noise(1, FIRST));
        farm.stage("b", noise(2, SECOND));
        let job = farm.publish_later();
        let member = &farm.members[1 - farm.agreed_leader(0).expect("one leader")];
        let staged = member.node.root().join(".farmcast/temp/a");
        farm.wait("the first file", LATER, || {
            staged.metadata().is_ok_and(|found| found.len() == FIRST as u64).then_some(())
        });
        // One object, and the last line of the reply.
        let lines = member.node.ask("show store");
        let [object, _] = &lines[..] else { panic!("one object: {lines:?}") };
        let blocks = |key| object.text(key).and_then(|text| text.parse::<u64>().ok()).expect("a number");
        assert!(blocks("blocks_verified") < blocks("blocks"), "{lines:?}");
        assert!(!member.node.live().join("a").exists());
        let end = farm.wait_for_end(job.id);
        assert_eq!(end.phase, Phase::Done, "{end:#?}\n{}", farm.logs());
        farm.assert_live_is_staging();
    });
}
