//! A segment: a bridge, a namespace per machine, and what makes the links slow and bad.
//!
//! ```text
//!   controller --- bridge "lab" --- port0 === eth0 | sender
//!                        |--------- port1 === eth0 | member 1 ...
//! ```

use crate::process;
use clap::ValueEnum;
use netlink::bridge::Bridge;
use netlink::qdisc::{Chance, Impairment, TokenBucket};
use netlink::{Address, Error, Lab, Namespace};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// Bytes that the bottleneck sends at once; less than a segmented batch, so that it goes out packet by packet.
const BURST: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// The sender's own interface: its sockets feel the queue.
    Sender,
    /// A switch behind it: what does not fit is lost without a word.
    Ports,
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub members: u8,
    /// Bits per second.
    pub rate: Option<u64>,
    pub bottleneck: Place,
    /// Bytes.
    pub queue: u64,
    pub loss_pct: f64,
    pub mtu: u32,
    pub offloads: bool,
}

/// A machine of the segment.
pub struct Machine {
    pub namespace: Namespace,
    pub address: Ipv4Addr,
}

impl Machine {
    pub fn command(&self, program: &str) -> Command {
        process::inside(&self.namespace, program)
    }

    /// Bytes that left by its link, with Ethernet headers.
    pub fn sent_bytes(&self) -> Result<u64, String> {
        let read = || fs::read_to_string("/proc/thread-self/net/dev");
        let text = self.namespace.within(read).map_err(told)?.map_err(|error| error.to_string())?;
        let row = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let sent = row.and_then(|row| row.split_whitespace().nth(8)?.parse().ok());
        sent.ok_or_else(|| "no counters of eth0 in /proc/net/dev".to_owned())
    }
}

pub struct Segment {
    pub shape: Shape,
    /// Address of the controller, on the bridge itself.
    pub controller: Ipv4Addr,
    pub sender: Machine,
    pub members: Vec<Machine>,
    /// What makes the links slow and bad, in words.
    pub impairment: String,
}

impl Segment {
    /// Builds it in the namespace that the lab runs in.
    pub fn build(shape: Shape) -> Result<Self, String> {
        let mut lab = Lab::here().map_err(told)?;
        lab.create_bridge("lab", Bridge { snooping: false, querier: false }).map_err(told)?;
        let bridge = lab.link("lab").map_err(told)?.index;
        let controller = Ipv4Addr::new(10, 77, 0, 1);
        lab.set_mtu(bridge, shape.mtu).map_err(told)?;
        lab.set_up(bridge).map_err(told)?;
        let address = IpAddr::V4(controller);
        lab.add_address(Address { link: bridge, address, prefix: 24 }).map_err(told)?;
        let mut machines = Vec::new();
        for number in 0..=shape.members {
            machines.push(machine(&mut lab, bridge, number, &shape)?);
        }
        let impairment = impair(&mut lab, &shape, &machines)?;
        let sender = machines.remove(0);
        Ok(Self { shape, controller, sender, members: machines, impairment })
    }
}

fn machine(lab: &mut Lab, bridge: u32, number: u8, shape: &Shape) -> Result<Machine, String> {
    let namespace = Namespace::create().map_err(told)?;
    let port = format!("port{number}");
    lab.create_veth(&port, "eth0", Some(&namespace)).map_err(told)?;
    let index = lab.link(&port).map_err(told)?.index;
    lab.set_mtu(index, shape.mtu).map_err(told)?;
    lab.set_master(index, Some(bridge)).map_err(told)?;
    lab.set_up(index).map_err(told)?;
    let mut inside = Lab::inside(&namespace).map_err(told)?;
    let eth0 = inside.link("eth0").map_err(told)?.index;
    let lo = inside.link("lo").map_err(told)?.index;
    inside.set_mtu(eth0, shape.mtu).map_err(told)?;
    inside.set_up(lo).map_err(told)?;
    inside.set_up(eth0).map_err(told)?;
    let address = Ipv4Addr::new(10, 77, 0, 10 + number);
    let on_link = Address { link: eth0, address: IpAddr::V4(address), prefix: 24 };
    inside.add_address(on_link).map_err(told)?;
    inside.add_route(IpAddr::from([224, 0, 0, 0]), 4, eth0).map_err(told)?;
    let machine = Machine { namespace, address };
    if !shape.offloads {
        let off = ["tso", "gso", "gro", "tx-udp-segmentation"];
        let words = off.iter().flat_map(|name| [*name, "off"]);
        process::run(machine.command("ethtool").args(["-K", "eth0"]).args(words.clone()))?;
        process::run(Command::new("ethtool").args(["-K", &port]).args(words))?;
    }
    Ok(machine)
}

/// Slows and spoils the links, and says by what.
fn impair(lab: &mut Lab, shape: &Shape, machines: &[Machine]) -> Result<String, String> {
    let mut words = Vec::new();
    let ports = || (1..machines.len()).map(|number| format!("port{number}"));
    if let Some(rate) = shape.rate {
        let limit = u32::try_from(shape.queue).unwrap_or(u32::MAX).max(BURST);
        let bucket = TokenBucket { rate: rate / 8, burst: BURST, limit };
        match shape.bottleneck {
            Place::Sender => {
                let mut inside = Lab::inside(&machines[0].namespace).map_err(told)?;
                let eth0 = inside.link("eth0").map_err(told)?.index;
                inside.slow_down(eth0, bucket).map_err(told)?;
                words.push("tbf on the sender's link");
            }
            Place::Ports => {
                for port in ports() {
                    let index = lab.link(&port).map_err(told)?.index;
                    lab.slow_down(index, bucket).map_err(told)?;
                }
                words.push("tbf on the members' ports of the bridge");
            }
        }
    }
    if shape.loss_pct > 0.0 {
        let ports_are_free = shape.rate.is_none() || shape.bottleneck == Place::Sender;
        if ports_are_free && lose_by_netem(lab, shape.loss_pct, ports())? {
            words.push("loss by netem on the members' ports of the bridge");
        } else {
            for machine in &machines[1..] {
                lose_by_nft(machine, shape.loss_pct)?;
            }
            words.push("loss by nft numgen where members receive (no netem)");
        }
    }
    if words.is_empty() {
        words.push("none");
    }
    words.push(if shape.offloads { "offloads on" } else { "offloads off" });
    Ok(words.join(", "))
}

/// False where this kernel has no netem.
fn lose_by_netem(lab: &mut Lab, pct: f64, ports: impl Iterator<Item = String>) -> Result<bool, String> {
    for port in ports {
        let index = lab.link(&port).map_err(told)?.index;
        match lab.impair(index, Impairment { loss: Chance::percent(pct), ..Impairment::default() }) {
            Ok(()) => {}
            Err(Error::Unsupported { .. }) => return Ok(false),
            Err(error) => return Err(told(error)),
        }
    }
    Ok(true)
}

fn lose_by_nft(machine: &Machine, pct: f64) -> Result<(), String> {
    let share = (pct * 1_000.0).round() as u32;
    let rules = format!(
        "table ip lab {{ chain arriving {{ type filter hook prerouting priority -300; \
         iifname \"eth0\" numgen random mod 100000 < {share} drop; }}; }}"
    );
    process::run(machine.command("nft").arg(rules)).map(|_| ())
}

fn told(error: Error) -> String {
    error.to_string()
}
