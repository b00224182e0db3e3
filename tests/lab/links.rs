//! An interface goes down, comes up, loses its address, is taken away: the node survives without a restart.

use crate::farm::{FLOODS, Farm, Member};
use crate::harness::{SOON, noise};
use crate::world::{in_lab, lab_sh, plug};
use netlink::Address;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// From the return of an interface to membership.
const BACK: Duration = Duration::from_secs(8);

#[test]
fn a_member_whose_interface_was_down_is_a_member_again() {
    in_lab("links::a_member_whose_interface_was_down_is_a_member_again", &[], || {
        let mut farm = Farm::of(&[3], FLOODS, "");
        for leads in [false, true] {
            let leader = farm.agreed_leader(0).expect("one leader");
            let at = if leads { leader } else { (leader + 1) % 3 };
            farm.members[at].machine.set_link(false);
            wait_until_offline(&farm, at);
            farm.members[at].machine.set_link(true);
            farm.members[at].machine.sh("ip route replace default via 10.0.0.1");
            wait_until_back(&farm);
        }
        farm.stage("after", noise(5, 100_000));
        farm.publish_well();
        farm.members.iter_mut().for_each(|member| member.node.assert_runs());
    });
}

#[test]
fn an_address_that_goes_and_comes_is_used_again() {
    in_lab("links::an_address_that_goes_and_comes_is_used_again", &[], || {
        let mut farm = Farm::of(&[3], FLOODS, "");
        let at = (farm.agreed_leader(0).expect("one leader") + 1) % 3;
        let mut links = farm.members[at].machine.links();
        let link = links.link("eth0").expect("eth0").index;
        let address = Address { link, address: own_address(at), prefix: 24 };
        links.remove_address(address).expect("it goes");
        wait_until_offline(&farm, at);
        links.add_address(address).expect("it comes");
        farm.members[at].machine.sh("ip route replace default via 10.0.0.1");
        wait_until_back(&farm);

        // Another address, as DHCP may give out.
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 77));
        links.remove_address(address).expect("it goes");
        wait_until_offline(&farm, at);
        links.add_address(Address { address: other, ..address }).expect("it comes");
        farm.members[at].machine.sh("ip route replace default via 10.0.0.1");
        wait_until_back(&farm);
        farm.wait("its new address", SOON, || {
            let name = &farm.members[at].node.name;
            farm.rows().into_iter().find(|row| row.name == *name && row.http == format!("{other}:7412"))
        });
        farm.stage("moved", noise(7, 100_000));
        farm.publish_well();

        // The whole interface: its successor has another index.
        lab_sh(&format!("ip link delete {}", farm.members[at].port));
        wait_until_offline(&farm, at);
        let Member { machine, port, .. } = &farm.members[at];
        let IpAddr::V4(own) = other else { unreachable!("IPv4") };
        plug(machine, "eth0", "segment0", port, own);
        machine.sh("ip route replace default via 10.0.0.1");
        wait_until_back(&farm);

        farm.stage("after", noise(6, 100_000));
        farm.publish_well();
        farm.members.iter_mut().for_each(|member| member.node.assert_runs());
    });
}

fn own_address(at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10 + at as u8))
}

fn wait_until_offline(farm: &Farm, at: usize) {
    farm.wait("an offline node", SOON, || {
        let name = &farm.members[at].node.name;
        farm.rows().into_iter().find(|row| row.name == *name && row.state == "offline")
    });
}

fn wait_until_back(farm: &Farm) {
    farm.wait("one leader and all its members online", BACK, || {
        let whole = farm.rows().iter().all(|row| row.state != "offline");
        (whole && farm.agreed_leader(0).is_some()).then_some(())
    });
}
