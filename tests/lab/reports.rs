//! Reports by raw socket and by UDP: the same bytes, the same end (SR-2, design D8).

use crate::farm::{FLOODS, Farm};
use crate::harness::{LATER, noise};
use crate::world::in_lab;
use std::fs;

/// Sets how a node reports, before it starts.
fn report_by(farm: &Farm, at: usize, word: &str) {
    let config = &farm.members[at].node.config;
    let text = fs::read_to_string(config).expect("a configuration");
    let set = format!("[network]\nreports = \"{word}\"");
    fs::write(config, text.replace("[network]", &set)).expect("a configuration");
}

/// Four nodes that report as said go through three publishes, the last beside a saturated data channel.
fn publish_thrice(words: [&str; 4]) -> Farm {
    let mut farm = Farm::build(&[4], FLOODS, "");
    for (at, word) in words.into_iter().enumerate() {
        report_by(&farm, at, word);
    }
    farm.begin();
    farm.wait_until_whole();
    for (seed, len) in [(1, 10_000), (2, 1 << 20), (3, 8 << 20)] {
        farm.stage("noise", noise(seed, len));
        farm.publish_well();
    }
    farm
}

fn counters(farm: &Farm, name: &str) -> Vec<u64> {
    farm.members.iter().map(|member| member.node.counter(name)).collect()
}

#[test]
fn reports_go_by_raw_sockets_where_all_hear_them() {
    let name = "reports::reports_go_by_raw_sockets_where_all_hear_them";
    in_lab(name, &[], || {
        let farm = publish_thrice(["raw", "raw", "auto", "auto"]);
        let leader = farm.agreed_leader(0).expect("one leader");
        let (sent, received) = (counters(&farm, "raw_sent"), counters(&farm, "raw_received"));
        for (at, member) in farm.members.iter().enumerate() {
            assert!(member.node.log().contains("reports go by raw sockets"), "{}", member.node.log());
            assert!(at == leader || sent[at] > 0, "{sent:?}, {leader} leads");
        }
        assert!(received[leader] > 0, "{received:?}");
        assert_eq!(counters(&farm, "raw_garbage"), [0; 4]);
    });
}

/// A leader that has no raw socket never answers there: all goes by UDP, and nothing is late or lost.
#[test]
fn nodes_with_and_without_raw_sockets_are_one_segment() {
    let name = "reports::nodes_with_and_without_raw_sockets_are_one_segment";
    in_lab(name, &[], || {
        let farm = publish_thrice(["udp", "raw", "udp", "auto"]);
        let leader = farm.agreed_leader(0).expect("one leader");
        let (sent, received) = (counters(&farm, "raw_sent"), counters(&farm, "raw_received"));
        if [0, 2].contains(&leader) {
            assert_eq!((sent, received), (vec![0; 4], vec![0; 4]), "{leader} leads");
        } else {
            assert_eq!((sent[0], sent[2]), (0, 0));
            assert!(received[leader] > 0, "{received:?}, {leader} leads");
        }
    });
}

/// A node that may not have such a socket says so, and what to do; with `auto` it goes on by UDP.
#[test]
fn who_may_not_have_a_raw_socket_says_so_or_uses_udp() {
    let name = "reports::who_may_not_have_a_raw_socket_says_so_or_uses_udp";
    in_lab(name, &["setpriv"], || {
        let mut farm = Farm::build(&[2], FLOODS, "");
        for (at, word) in ["raw", "auto"].into_iter().enumerate() {
            report_by(&farm, at, word);
            let bounds = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", "--"];
            farm.members[at].node.wrapper.extend(bounds.map(std::ffi::OsString::from));
        }
        farm.members.iter_mut().for_each(|member| member.node.start());
        farm.wait("the one to go on", LATER, || {
            farm.members[1].node.log().contains("reports go by UDP: a raw socket is refused").then_some(())
        });
        farm.wait("the other to end", LATER, || {
            farm.members[0].node.log().contains("set network.reports to \"auto\" or \"udp\"").then_some(())
        });
    });
}
