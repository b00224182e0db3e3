//! The configuration files of the demo's nodes, and the multicast channels they meet on.

use crate::cli::failure::Failure;
use serde::Serialize;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;

/// Below the ports that Linux hands out by itself (ip_local_port_range: from 32768).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const TRIES: usize = 1_000;

/// Draws control channels for `segments` segments that nobody on this machine uses: a random group of the
/// site-local range (RFC 2365) and a free port each. Data channels are the controller's business.
pub fn channels(segments: usize) -> Result<Vec<SocketAddrV4>, Failure> {
    let mut taken = BTreeSet::new();
    let mut port = || {
        for _ in 0..TRIES {
            let port = PORTS.start + u16::try_from(random() % PORTS.len() as u64).unwrap_or(0);
            // Whoever receives on the port already, for whatever group, is found by this.
            if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() && taken.insert(port) {
                return Ok(port);
            }
        }
        Err(Failure::Ran(format!("no free UDP port between {} and {}", PORTS.start, PORTS.end)))
    };
    (0..segments)
        .map(|_| {
            let [x, y, ..] = random().to_le_bytes();
            // .0 and .255 would be lawful, but some tools mistake them for broadcast.
            let group = Ipv4Addr::new(239, 255, x, y.clamp(1, 254));
            Ok(SocketAddrV4::new(group, port()?))
        })
        .collect()
}

/// A number that another demo does not draw; not for secrets.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// What sets one node apart from another.
pub struct Node<'a> {
    pub name: &'a str,
    pub segment: &'a str,
    pub ccm: &'a str,
    pub state: &'a Path,
    pub site_root: &'a Path,
    pub socket: &'a Path,
    pub control_channel: SocketAddrV4,
    pub loss_pct: f64,
    pub seed: u64,
}

/// The configuration file of a node.
pub fn node_file(node: &Node<'_>) -> String {
    let file = File {
        name: node.name,
        segment: node.segment,
        ccm: node.ccm,
        state_dir: node.state,
        network: Network {
            interface: Ipv4Addr::LOCALHOST,
            control_channel: node.control_channel,
            datagram_port: 0,
            http_port: 0,
            text_port: 0,
            ttl: 0,
        },
        control: Control { socket: node.socket },
        election: Election { profile: "lan" },
        site: [Site { name: super::SITE, root: node.site_root }],
        fault: (node.loss_pct > 0.0).then_some(Fault { loss_pct: node.loss_pct, seed: node.seed }),
        log: Log { level: "info" },
    };
    toml::to_string(&file).expect("the demo's paths are UTF-8 and every table has string keys")
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    segment: &'a str,
    ccm: &'a str,
    state_dir: &'a Path,
    network: Network,
    control: Control<'a>,
    election: Election,
    site: [Site<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
    log: Log,
}

#[derive(Serialize)]
struct Network {
    interface: Ipv4Addr,
    control_channel: SocketAddrV4,
    /// Port 0 takes a free one; the node tells the others which.
    datagram_port: u16,
    http_port: u16,
    text_port: u16,
    /// 0 keeps multicast on this machine.
    ttl: u8,
}

#[derive(Serialize)]
struct Control<'a> {
    socket: &'a Path,
}

#[derive(Serialize)]
struct Election {
    profile: &'static str,
}

#[derive(Serialize)]
struct Site<'a> {
    name: &'a str,
    root: &'a Path,
}

#[derive(Serialize)]
struct Fault {
    loss_pct: f64,
    seed: u64,
}

#[derive(Serialize)]
struct Log {
    level: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_demos_do_not_hear_each_other() {
        let drawn = [channels(8).expect("channels"), channels(8).expect("more channels")].concat();
        for one in &drawn {
            assert!(one.ip().is_multicast());
        }
        let ports: BTreeSet<_> = drawn[..8].iter().map(|channel| channel.port()).collect();
        assert_eq!(ports.len(), 8);
        let groups: BTreeSet<_> = drawn.iter().map(|channel| *channel.ip()).collect();
        assert!(groups.len() > 8, "random groups: {groups:?}");
    }

    #[test]
    fn a_node_file_is_toml_with_every_table() {
        let node = Node {
            name: "boston-1",
            segment: "boston",
            ccm: "127.0.0.1:7400",
            state: Path::new("/x/boston-1/state"),
            site_root: Path::new("/x/boston-1/www"),
            socket: Path::new("/x/sockets/boston-1.sock"),
            control_channel: channels(1).expect("channels")[0],
            loss_pct: 5.0,
            seed: 7,
        };
        let table: toml::Table = node_file(&node).parse().expect("TOML");
        assert_eq!(table["name"].as_str(), Some("boston-1"));
        assert_eq!(table["network"]["ttl"].as_integer(), Some(0));
        assert_eq!(table["site"][0]["root"].as_str(), Some("/x/boston-1/www"));
        assert_eq!(table["fault"]["loss_pct"].as_float(), Some(5.0));
        let faultless: toml::Table = node_file(&Node { loss_pct: 0.0, ..node }).parse().expect("TOML");
        assert!(!faultless.contains_key("fault"));
    }
}
