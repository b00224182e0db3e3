//! Frames fit the interface, whatever its MTU is and becomes (LD-10).

use crate::farm::{FLOODS, Farm};
use crate::harness::noise;
use crate::world::{in_lab, lab_sh};
use farmcast::wire::session::payload_for_mtu;

const CONTENT: usize = 2 << 20;

#[test]
fn frames_follow_the_mtu_and_are_never_fragmented() {
    in_lab("mtu::frames_follow_the_mtu_and_are_never_fragmented", &[], || {
        let farm = Farm::of(&[2], FLOODS, "");
        for (seed, mtu) in [1_500, 9_000, 1_400].into_iter().enumerate() {
            // The switch first, and last: a packet must fit wherever it comes.
            let ends = || {
                for member in &farm.members {
                    lab_sh(&format!("ip link set {} mtu {mtu}", member.port));
                    member.machine.sh(&format!("ip link set eth0 mtu {mtu}"));
                    if mtu != 1_500 {
                        member.node.wait_for_log(&format!("MTU is {mtu}"));
                    }
                }
            };
            ends();
            farm.stage("noise", noise(seed as u64, CONTENT));
            let before = frames(&farm);
            farm.publish_well();
            let sent = frames(&farm) - before;
            let expected = (CONTENT as u64).div_ceil(payload_for_mtu(mtu) as u64);
            println!("mtu {mtu}: {sent} frames, {expected} expected");
            assert!(
                (expected..expected * 5 / 4 + 20).contains(&sent),
                "MTU {mtu}: {sent} frames, {expected} needed"
            );
        }
        for member in &farm.members {
            assert_eq!(member.machine.snmp("Ip:", "FragCreates"), 0, "{}", member.node.name);
            assert_eq!(member.machine.snmp("Ip:", "ReasmReqds"), 0, "{}", member.node.name);
        }
    });
}

fn frames(farm: &Farm) -> u64 {
    farm.members.iter().map(|member| member.node.counter("frames_sent")).sum()
}
