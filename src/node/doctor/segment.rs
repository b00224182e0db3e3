//! The segment as this node sees it: interface, MTU, multicast both ways, who leads, who queries for IGMP.

mod igmp;

use super::{Finding, Report};
use crate::io::multicast::Group;
use crate::io::{clock, probe};
use crate::node::config::Config;
use crate::node::identity::Identity;
use crate::node::links::speed_of;
use crate::time::Duration;
use crate::wire::envelope::{ENVELOPE_MAGIC, Message, Opened, Sealer};
use crate::wire::id::NodeId;
use crate::wire::session::payload_for_mtu;
use crate::wire::{Malformed, envelope};
use netlink::{Link, Monitor};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A datagram that the kernel loops back to us comes at once.
const LOOP_PATIENCE: Duration = Duration::from_secs(1);
/// The control channel is listened to for so long, or for three leader-alives where that is longer.
const LISTEN: Duration = Duration::from_secs(2);
/// Payload and headers of the longest control message, as one IP packet.
const PACKET_MAX: u32 = envelope::MESSAGE_MAX as u32 + 28;
/// Addresses that a finding names; of more it gives the number.
const NAMED_MAX: usize = 3;

/// `follows`: the leader of whom the daemon that runs here knows, by whatever path.
pub fn check(config: &Config, identity: Option<Identity>, follows: Option<&str>, report: &mut Report) {
    let facts = interface_facts(&config.interface_name, config.interface);
    let name = &config.interface_name;
    report.add(judge_interface(name, config.interface, &facts));
    if let Ok(Facts { link: Some(link), .. }) = &facts {
        report.add(judge_mtu(link));
    }

    let group = *config.control_channel.ip();
    let mut memberships = None;
    let mut joined = || memberships = std::fs::read_to_string("/proc/net/igmp").ok();
    let took = probe::multicast_loop(group, config.interface, config.ttl, LOOP_PATIENCE, &mut joined);
    report.add(judge_loop(name, group, &took));

    let own = identity.as_ref().map(|identity| identity.certificate.node());
    let sealer = identity.map(|Identity { key, certificate, farm }| {
        let segment_key = farm.segment_key(&config.segment);
        Sealer::new(&config.segment, segment_key, key, certificate, farm.enroller)
    });
    let heard = listen(config, sealer.as_ref());
    let loopback = config.interface.is_loopback();
    let multicast_arrives = heard.as_ref().is_ok_and(|heard| heard.has_others(own));
    match &heard {
        Ok(heard) => report.add_all(judge_heard(config.segment.as_str(), own, heard, follows)),
        Err(error) => {
            let text = format!("{} cannot be joined: {error}", config.control_channel);
            let remedy = "free the port of network.control_channel, or choose another channel";
            report.add(Finding::fail("leader", text, remedy));
        }
    }
    let known = memberships.as_deref().and_then(|text| igmp::device(text, name));
    report.add(igmp::judge(
        name,
        loopback,
        igmp::bridge_of(name).as_ref(),
        known.as_ref(),
        multicast_arrives,
    ));
}

/// What the kernel says of the interface.
struct Facts {
    /// `None` where there is none of this name.
    link: Option<Link>,
    has_address: bool,
    /// Mbit/s, where the driver knows.
    speed: Option<u32>,
}

fn interface_facts(name: &str, address: Ipv4Addr) -> Result<Facts, String> {
    let snapshot = Monitor::open()
        .and_then(|mut monitor| monitor.snapshot())
        .map_err(|error| format!("netlink does not answer: {error}"))?;
    let link = snapshot.links.into_iter().find(|link| link.name == name);
    let index = link.as_ref().map(|link| link.index);
    let has = |found: &netlink::Address| Some(found.link) == index && found.address == IpAddr::V4(address);
    let has_address = snapshot.addresses.iter().any(has);
    Ok(Facts { has_address, speed: link.as_ref().and_then(speed_of), link })
}

fn judge_interface(name: &str, address: Ipv4Addr, facts: &Result<Facts, String>) -> Finding {
    let what = "interface";
    let Facts { link, has_address, speed } = match facts {
        Ok(facts) => facts,
        Err(text) => {
            let remedy = "allow AF_NETLINK sockets; until then an MTU of 1500 is assumed";
            return Finding::warn(what, text.as_str(), remedy);
        }
    };
    let Some(link) = link else {
        return Finding::fail(what, format!("there is no {name}"), "see `ip link`, set network.interface");
    };
    let speed = speed.map_or(String::new(), |mbit| format!(", {mbit} Mbit/s"));
    match link {
        Link { up: false, .. } => {
            Finding::fail(what, format!("{name} is switched off"), format!("`ip link set {name} up`"))
        }
        Link { running: false, .. } => {
            Finding::fail(what, format!("{name} is up and has no carrier"), "see its cable, switch or peer")
        }
        _ if !has_address => Finding::fail(
            what,
            format!("{name} does not have {address}"),
            "see `ip -4 address`, set network.interface",
        ),
        Link { multicast: false, loopback: false, .. } => Finding::fail(
            what,
            format!("{name} does not carry multicast"),
            format!("`ip link set {name} multicast on`, or choose another interface"),
        ),
        _ => Finding::ok(what, format!("{name} is up and has {address}{speed}")),
    }
}

fn judge_mtu(link: &Link) -> Finding {
    let (what, mtu, name) = ("mtu", link.mtu, &link.name);
    let payload = payload_for_mtu(mtu as usize);
    let text = format!("{mtu} bytes on {name}, frames carry {payload}");
    match mtu {
        ..PACKET_MAX => Finding::warn(
            what,
            format!("{text}; control messages of up to {PACKET_MAX} bytes travel in fragments"),
            format!("raise the MTU of all nodes of the segment to {PACKET_MAX}"),
        ),
        PACKET_MAX => Finding::ok(what, text),
        _ if link.loopback => Finding::ok(what, text),
        _ => {
            Finding::ok(what, format!("{text}; the switch and all nodes of the segment must take that much"))
        }
    }
}

fn judge_loop(name: &str, group: Ipv4Addr, took: &io::Result<Option<Duration>>) -> Finding {
    let what = "multicast";
    match took {
        Ok(Some(took)) => {
            let took = took.as_micros();
            Finding::ok(what, format!("sent to {group} by {name} and heard again after {took} us"))
        }
        Ok(None) => Finding::fail(
            what,
            format!("what was sent to {group} by {name} did not come back within {LOOP_PATIENCE}"),
            "let the firewall of this machine pass UDP to and from the group (sysconfig/farmcast.nft)",
        ),
        Err(error) => Finding::fail(
            what,
            format!("{group} cannot be used on {name}: {error}"),
            "see `ip route get` for the group, igmp_max_memberships and the firewall's output rules",
        ),
    }
}

/// A leader whose leader-alive was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leader {
    addr: SocketAddr,
    /// Nodes registered with it, itself among them.
    members: u16,
}

/// What came on the control channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    leaders: BTreeMap<NodeId, Leader>,
    /// Nodes of our segment that said anything at all.
    speakers: BTreeSet<NodeId>,
    /// Senders of messages of other segments.
    foreign: BTreeSet<IpAddr>,
    /// Senders who name our segment and do not have its key.
    wrong_key: BTreeSet<IpAddr>,
    /// Senders of messages that cannot be read for another reason: another version, or damage.
    odd: BTreeSet<IpAddr>,
    /// Messages that we, without an identity, can only count.
    sealed: u64,
}

impl Heard {
    fn take(&mut self, from: SocketAddr, opened: Result<Opened, Malformed>) {
        match opened {
            Ok(Opened { sender, message, .. }) => {
                self.speakers.insert(sender.node);
                match message {
                    Message::LeaderAlive(alive) if alive.priority > 0 => {
                        self.leaders.insert(sender.node, Leader { addr: from, members: alive.members });
                    }
                    // It resigns.
                    Message::LeaderAlive(_) => {
                        self.leaders.remove(&sender.node);
                    }
                    _ => {}
                }
            }
            Err(Malformed::Unknown("segment")) => {
                self.foreign.insert(from.ip());
            }
            Err(Malformed::Forged(_)) => {
                self.wrong_key.insert(from.ip());
            }
            Err(_) => {
                self.odd.insert(from.ip());
            }
        }
    }

    fn has_others(&self, own: Option<NodeId>) -> bool {
        self.speakers.iter().any(|node| Some(*node) != own)
    }
}

fn listen(config: &Config, sealer: Option<&Sealer>) -> io::Result<Heard> {
    let mut group = Group::join(config.control_channel, config.interface)?;
    let mut heard = Heard::default();
    let span = LISTEN.max(config.profile.alive_period * 3);
    probe::listen(&mut group, clock::monotonic() + span, &mut |from, datagram| {
        match sealer {
            Some(sealer) => heard.take(from, sealer.open(datagram)),
            None => heard.sealed += u64::from(datagram.starts_with(&ENVELOPE_MAGIC)),
        }
        false
    })?;
    Ok(heard)
}

fn judge_heard(segment: &str, own: Option<NodeId>, heard: &Heard, follows: Option<&str>) -> Vec<Finding> {
    let Heard { leaders, foreign, wrong_key, odd, .. } = heard;
    let mut findings = vec![judge_leaders(segment, own, heard, follows)];
    if !wrong_key.is_empty() && !leaders.is_empty() {
        findings.push(Finding::warn(
            "keys",
            format!("{} speaks as segment {segment} without its key", named(wrong_key)),
            "see which farm it joined; another farm needs another segment name or control_channel",
        ));
    }
    if !foreign.is_empty() {
        findings.push(Finding::warn(
            "channel",
            format!("other segments speak on it too: {}", named(foreign)),
            "give each segment that shares a switch a network.control_channel of its own",
        ));
    }
    if !odd.is_empty() {
        findings.push(Finding::warn(
            "strangers",
            format!("what comes from {} cannot be read", named(odd)),
            "see what it runs: another version of farmcast, or another program on this channel",
        ));
    }
    findings
}

fn judge_leaders(segment: &str, own: Option<NodeId>, heard: &Heard, follows: Option<&str>) -> Finding {
    let what = "leader";
    let mut leaders = heard.leaders.iter();
    match (leaders.next(), leaders.next()) {
        (Some((first, _)), Some((second, _))) => Finding::warn(
            what,
            format!("{} nodes lead {segment}, {first} and {second} among them", heard.leaders.len()),
            "run it again: if it stays so, they do not hear each other; see firewalls and the IGMP querier",
        ),
        (Some((node, Leader { members, .. })), None) if Some(*node) == own => match members {
            0 | 1 => Finding::warn(
                what,
                format!("this node leads {segment} and nobody is registered with it"),
                "right for the only node of a segment; else see that all have this segment and control_channel, \
                 their firewalls, and the IGMP querier",
            ),
            _ => Finding::ok(what, format!("this node leads the {members} nodes of {segment}")),
        },
        (Some((node, Leader { addr, members })), None) => {
            Finding::ok(what, format!("{node} at {addr} leads the {members} nodes of {segment}"))
        }
        (None, _) if own.is_none() && heard.sealed > 0 => Finding::warn(
            what,
            format!("{} messages came, which cannot be read without an identity", heard.sealed),
            "join, then run it again",
        ),
        (None, _) if !heard.wrong_key.is_empty() => Finding::fail(
            what,
            format!("{} speaks as segment {segment} and its key is not ours", named(&heard.wrong_key)),
            "another farm has this segment name and control_channel: change one; or join the farm of the others",
        ),
        (None, _) if let Some(leader) = follows => Finding::ok(
            what,
            format!(
                "{leader} leads {segment}, as the daemon here knows by unicast: no multicast of it was heard"
            ),
        ),
        (None, _) => Finding::warn(
            what,
            format!("no leader of {segment} was heard"),
            "right while no node runs; else see can_lead and election.leaders of the others, firewalls, and the \
             IGMP querier",
        ),
    }
}

/// The first few of some addresses.
fn named(addresses: &BTreeSet<IpAddr>) -> String {
    let first: Vec<String> = addresses.iter().take(NAMED_MAX).map(IpAddr::to_string).collect();
    match addresses.len().saturating_sub(NAMED_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests;
