//! Whether multicast will go on to arrive: a switch that snoops IGMP forgets its listeners unless somebody
//! on the segment, the querier, asks for them from time to time.

use super::super::Finding;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// The bridge of this kernel that the interface is, or is a port of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    pub name: String,
    /// It forwards a group only to ports where somebody listens.
    pub snoops: bool,
    /// It asks by itself who listens.
    pub queries: bool,
}

/// An interface in /proc/net/igmp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// The version of the querier; 3 also where none was ever heard.
    pub version: u8,
    pub groups: Vec<Ipv4Addr>,
}

pub(super) fn bridge_of(interface: &str) -> Option<Bridge> {
    let class = Path::new("/sys/class/net");
    let itself = class.join(interface);
    let path = if itself.join("bridge").is_dir() {
        itself
    } else {
        class.join(fs::read_link(itself.join("master")).ok()?.file_name()?)
    };
    let is_on =
        |file: &str| fs::read_to_string(path.join("bridge").join(file)).ok().map(|text| text.trim() != "0");
    // A bond is a master too, and has none of these.
    let snoops = is_on("multicast_snooping")?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(Bridge { name, snoops, queries: is_on("multicast_querier")? })
}

/// Finds an interface in the text of /proc/net/igmp.
pub(super) fn device(text: &str, name: &str) -> Option<Device> {
    let mut lines = text.lines().skip(1);
    let head = lines.by_ref().find(|line| {
        line.starts_with(|c: char| c.is_ascii_digit()) && line.split_whitespace().nth(1) == Some(name)
    })?;
    let version = head.split_whitespace().last()?.strip_prefix('V')?.parse().ok()?;
    let groups = lines.take_while(|line| line.starts_with(char::is_whitespace));
    // The kernel prints the address as the number that its bytes are in memory.
    let group = |line: &str| {
        let number = u32::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    Some(Device { version, groups: groups.filter_map(group).collect() })
}

pub(super) fn judge(
    interface: &str,
    loopback: bool,
    bridge: Option<&Bridge>,
    device: Option<&Device>,
    multicast_arrives: bool,
) -> Finding {
    let what = "querier";
    if loopback {
        return Finding::ok(what, format!("{interface} is no network: nobody snoops"));
    }
    match (bridge, device) {
        (Some(Bridge { name, snoops: true, queries: false }), _) => Finding::warn(
            what,
            format!(
                "bridge {name} snoops and does not query: unless a router or switch does, multicast stops \
                 some four minutes after a node joins"
            ),
            format!("`ip link set {name} type bridge mcast_querier 1`, or mcast_snooping 0"),
        ),
        (Some(Bridge { name, snoops: true, queries: true }), _) => {
            Finding::ok(what, format!("bridge {name} snoops and queries"))
        }
        (Some(Bridge { name, snoops: false, .. }), _) => {
            Finding::ok(what, format!("bridge {name} does not snoop: it floods multicast"))
        }
        (None, Some(Device { version: version @ (1 | 2), .. })) => {
            Finding::ok(what, format!("one of IGMPv{version} was heard on {interface} of late"))
        }
        (None, _) if multicast_arrives => Finding::ok(
            what,
            format!(
                "multicast of others arrives on {interface} now; a querier of IGMPv3 cannot be seen from here"
            ),
        ),
        (None, _) => Finding::warn(
            what,
            format!(
                "whether the switch behind {interface} snoops, and somebody queries, cannot be seen from here"
            ),
            "see that the switch or a router is IGMP querier in this network, or switch snooping off",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Level;
    use super::*;

    const PROC: &str = "\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\teth0      :     2      V2
\t\t\t\t0146FFEF     1 0:00000000\t\t1
\t\t\t\t010000E0     1 0:00000000\t\t0
";

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernels_list_of_groups_is_read() {
        let eth0 = device(PROC, "eth0").unwrap();
        let groups = vec![Ipv4Addr::new(239, 255, 70, 1), Ipv4Addr::new(224, 0, 0, 1)];
        assert_eq!(eth0, Device { version: 2, groups });
        assert_eq!(device(PROC, "lo").unwrap().version, 3);
        assert_eq!(device(PROC, "eth1"), None);
        assert_eq!(device("", "lo"), None);
    }

    #[test]
    fn a_bridge_that_snoops_and_does_not_query_is_named_with_the_command_that_mends_it() {
        let bridge = |snoops, queries| Some(Bridge { name: "br0".to_owned(), snoops, queries });
        let device = |version| Some(Device { version, groups: Vec::new() });
        for (bridge, device, arrives, level, part) in [
            (bridge(true, false), device(3), true, Level::Warn, "br0 snoops and does not query"),
            (bridge(true, true), device(3), false, Level::Ok, "queries"),
            (bridge(false, false), device(3), false, Level::Ok, "floods"),
            (None, device(2), false, Level::Ok, "IGMPv2"),
            (None, device(3), true, Level::Ok, "cannot be seen"),
            (None, device(3), false, Level::Warn, "cannot be seen"),
            (None, None, false, Level::Warn, "cannot be seen"),
        ] {
            let finding = judge("eth0", false, bridge.as_ref(), device.as_ref(), arrives);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(part), "{finding:?}");
        }
        assert_eq!(judge("lo", true, None, None, false).level, Level::Ok);
        assert!(
            judge("p", false, bridge(true, false).as_ref(), None, true).remedy.contains("mcast_querier 1")
        );
    }

    #[test]
    fn the_loopback_is_on_no_bridge() {
        assert_eq!(bridge_of("lo"), None);
        assert_eq!(bridge_of("nosuch0"), None);
    }
}
