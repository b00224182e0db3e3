//! A segment: a bridge and a namespace per machine.
//!
//! ```text
//!   controller --- bridge "lab" --- port0 === (near, relay, far ===) eth0 | sender
//!                        |--------- port1 === eth0 | member 1 ...
//! ```

use crate::impair;
use crate::links::Links;
use crate::process;
use crate::relay::Relayed;
use netlink::bridge::Bridge;
use netlink::{Address, Error, Lab, Namespace};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

/// A machine of the segment.
pub struct Machine {
    pub namespace: Namespace,
    pub address: Ipv4Addr,
    /// Its end of the cable at the bridge.
    pub port: String,
}

impl Machine {
    pub fn command(&self, program: &str) -> Command {
        process::inside(&self.namespace, program)
    }

    /// Bytes that left by its link, with Ethernet headers.
    pub fn sent_bytes(&self) -> Result<u64, String> {
        figure(&self.namespace, "eth0", Figure::BytesSent)
    }
}

/// A column of /proc/net/dev, from 0.
#[derive(Clone, Copy)]
pub enum Figure {
    PacketsReceived = 1,
    BytesSent = 8,
    PacketsSent = 9,
}

/// What a link has counted.
pub fn figure(namespace: &Namespace, link: &str, figure: Figure) -> Result<u64, String> {
    let read = || fs::read_to_string("/proc/thread-self/net/dev");
    let text = namespace.within(read).map_err(told)?.map_err(|error| error.to_string())?;
    let row = text.lines().find_map(|line| line.trim().strip_prefix(link)?.strip_prefix(':'));
    let value = row.and_then(|row| row.split_whitespace().nth(figure as usize)?.parse().ok());
    value.ok_or_else(|| format!("no counters of {link} in /proc/net/dev"))
}

pub struct Segment {
    pub links: Links,
    /// Address of the controller, on the bridge itself.
    pub controller: Ipv4Addr,
    pub sender: Machine,
    pub members: Vec<Machine>,
    /// What makes the links slow and bad, in words.
    pub impairment: String,
    /// Delays what the sender sends, where the kernel cannot.
    pub relay: Option<Relayed>,
}

impl Segment {
    /// Builds it in the namespace that the lab runs in; `dir` takes the log of helpers.
    pub fn build(links: Links, dir: &Path) -> Result<Self, String> {
        let mut lab = Lab::here().map_err(told)?;
        lab.create_bridge("lab", Bridge { snooping: false, querier: false }).map_err(told)?;
        let bridge = lab.link("lab").map_err(told)?.index;
        let controller = Ipv4Addr::new(10, 77, 0, 1);
        lab.set_mtu(bridge, links.payload_mtu).map_err(told)?;
        lab.set_up(bridge).map_err(told)?;
        let address = IpAddr::V4(controller);
        lab.add_address(Address { link: bridge, address, prefix: 24 }).map_err(told)?;
        let netem = impair::has_netem(&mut lab, bridge)?;

        let mut machines = Vec::new();
        let mut relay = None;
        for number in 0..=links.members {
            let namespace = Namespace::create().map_err(told)?;
            let port = format!("port{number}");
            if number == 0 && impair::needs_relay(&links, netem) {
                relay = Some(Relayed::plug(&mut lab, &port, &namespace, &links, dir)?);
            } else {
                lab.create_veth(&port, "eth0", Some(&namespace)).map_err(told)?;
            }
            let index = lab.link(&port).map_err(told)?.index;
            lab.set_mtu(index, links.payload_mtu).map_err(told)?;
            lab.set_master(index, Some(bridge)).map_err(told)?;
            lab.set_up(index).map_err(told)?;
            let address = Ipv4Addr::new(10, 77, 0, 10 + number);
            set_up(&namespace, address, links.payload_mtu)?;
            let machine = Machine { namespace, address, port };
            if !links.offloads_on() {
                set_offloads_off(&machine, relay.is_some())?;
            }
            machines.push(machine);
        }
        let impairment = impair::spoil(&mut lab, &links, &machines, netem)?;
        let sender = machines.remove(0);
        Ok(Self { links, controller, sender, members: machines, impairment, relay })
    }
}

/// Brings up what a machine has: its loopback, its link, and the route for multicast.
fn set_up(namespace: &Namespace, address: Ipv4Addr, mtu: u32) -> Result<(), String> {
    let mut inside = Lab::inside(namespace).map_err(told)?;
    let eth0 = inside.link("eth0").map_err(told)?.index;
    let lo = inside.link("lo").map_err(told)?.index;
    inside.set_mtu(eth0, mtu).map_err(told)?;
    inside.set_up(lo).map_err(told)?;
    inside.set_up(eth0).map_err(told)?;
    let on_link = Address { link: eth0, address: IpAddr::V4(address), prefix: 24 };
    inside.add_address(on_link).map_err(told)?;
    inside.add_route(IpAddr::from([224, 0, 0, 0]), 4, eth0).map_err(told)
}

/// `sums`: the sums of packets too, for a relay passes them on as they are.
fn set_offloads_off(machine: &Machine, sums: bool) -> Result<(), String> {
    let mut off = vec!["tso", "gso", "gro", "tx-udp-segmentation"];
    if sums {
        off.push("tx");
    }
    let words: Vec<&str> = off.iter().flat_map(|name| [*name, "off"]).collect();
    process::run(machine.command("ethtool").args(["-K", "eth0"]).args(&words))?;
    process::run(Command::new("ethtool").args(["-K", &machine.port]).args(&words)).map(|_| ())
}

pub fn told(error: Error) -> String {
    error.to_string()
}
