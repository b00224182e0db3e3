//! A publish over a network that loses every twentieth packet (LD-12..LD-19).

use crate::farm::{FLOODS, Farm};
use crate::harness::noise;
use crate::world::in_lab;

const CONTENT: usize = 20 << 20;

#[test]
fn five_percent_of_loss_everywhere_is_repaired() {
    in_lab("loss::five_percent_of_loss_everywhere_is_repaired", &["nft"], || {
        let farm = Farm::of(&[3], FLOODS, "");
        farm.stage("noise", noise(3, CONTENT));
        for member in &farm.members {
            // Single packets, so that each draws its own lot.
            member.machine.sh("ip link set eth0 gso_max_segs 1");
            member.machine.sh("nft add table netdev lab && \
                 nft 'add chain netdev lab in { type filter hook ingress device \"eth0\" priority 0; }' && \
                 nft add rule netdev lab in ip protocol udp numgen random mod 100 '<' 5 counter drop");
        }
        farm.publish_well();
        let dropped: Vec<u64> =
            farm.members.iter().map(|member| packets(&member.machine.sh("nft list ruleset"))).collect();
        let leader = farm.agreed_leader(0).expect("one leader");
        // Of some 14,000 frames; a member of a busy machine may be released and pull the rest, by TCP.
        for (at, dropped) in dropped.iter().enumerate().filter(|(at, _)| *at != leader) {
            assert!(*dropped > 50, "member {at} lost {dropped} packets\n{}", farm.logs());
        }
        let rebuilt: u64 = farm.members.iter().map(|member| member.node.counter("blocks_rebuilt")).sum();
        assert!(rebuilt > 0, "loss is repaired by parity");
    });
}

fn packets(ruleset: &str) -> u64 {
    let counter = ruleset.split("counter packets ").nth(1).expect("a counter");
    counter.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number")
}
