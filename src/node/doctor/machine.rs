//! The kernel under a node: buffers, groups, offloads, capabilities.

use super::Finding;
use crate::io::multicast::RECEIVE_BUFFER;
use crate::io::probe::{self, Offloads};
use std::io;

/// Where the sysctls of a node are explained and set.
const SYSCTLS: &str = "sysconfig/60-farmcast.conf";
/// Bit of CAP_NET_RAW in a capability set (linux/capability.h).
const CAP_NET_RAW: u32 = 13;

pub fn check() -> [Finding; 4] {
    let memberships = std::fs::read_to_string("/proc/sys/net/ipv4/igmp_max_memberships");
    let status = std::fs::read_to_string("/proc/self/status");
    [
        judge_buffer(probe::granted_receive_buffer(RECEIVE_BUFFER)),
        judge_memberships(memberships.ok().and_then(|text| text.trim().parse().ok())),
        judge_offloads(probe::offloads()),
        judge_capabilities(status.ok().as_deref().and_then(effective_capabilities)),
    ]
}

fn judge_buffer(granted: io::Result<usize>) -> Finding {
    let what = "buffer";
    match granted {
        Ok(granted) if granted >= RECEIVE_BUFFER => {
            Finding::ok(what, format!("sockets get the {} MiB that they ask for", RECEIVE_BUFFER >> 20))
        }
        Ok(granted) => Finding::warn(
            what,
            format!(
                "sockets ask for {} KiB of receive buffer and get {}: bursts are lost and repaired",
                RECEIVE_BUFFER >> 10,
                granted >> 10
            ),
            format!(
                "raise net.core.rmem_max to {RECEIVE_BUFFER} or more: install {SYSCTLS} below \
                 /usr/lib/sysctl.d and run `sysctl --system`"
            ),
        ),
        Err(error) => Finding::fail(what, format!("no UDP socket can be made: {error}"), "see `ulimit -n`"),
    }
}

fn judge_memberships(most: Option<u32>) -> Finding {
    let what = "memberships";
    match most {
        Some(0) => Finding::fail(
            what,
            "net.ipv4.igmp_max_memberships is 0: no multicast group can be joined",
            format!("set it to 20, the kernel's default, or install {SYSCTLS}"),
        ),
        // Each channel has a socket of its own.
        Some(most) => Finding::ok(what, format!("a socket may join {most} groups, and needs one")),
        None => Finding::warn(
            what,
            "net.ipv4.igmp_max_memberships cannot be read",
            "see that /proc/sys is mounted, or read it on the host of the container",
        ),
    }
}

fn judge_offloads(offloads: io::Result<Offloads>) -> Finding {
    let what = "offloads";
    let lacks = |name: &str| {
        Finding::warn(
            what,
            format!("the kernel has no {name}: each datagram costs a call of its own"),
            "use Linux 5.0 or later for full speed; everything works without",
        )
    };
    match offloads {
        Ok(Offloads { send: true, receive: true }) => {
            Finding::ok(what, "the kernel batches UDP both ways (UDP_SEGMENT, UDP_GRO)")
        }
        Ok(Offloads { send: false, receive: true }) => lacks("UDP_SEGMENT"),
        Ok(Offloads { send: true, receive: false }) => lacks("UDP_GRO"),
        Ok(Offloads { send: false, receive: false }) => lacks("UDP_SEGMENT and no UDP_GRO"),
        Err(error) => Finding::fail(what, format!("no UDP socket can be made: {error}"), "see `ulimit -n`"),
    }
}

fn judge_capabilities(effective: Option<u64>) -> Finding {
    let what = "capabilities";
    match effective {
        Some(set) if set >> CAP_NET_RAW & 1 == 1 => Finding::ok(
            what,
            "CAP_NET_RAW is there and not used: it would carry reports past the data on a raw socket, and \
             this version sends them by UDP",
        ),
        Some(_) => Finding::ok(what, "no CAP_NET_RAW, and none is needed: reports travel by UDP"),
        None => Finding::ok(what, "cannot be read; none is needed"),
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn less_buffer_than_asked_for_names_the_sysctl_and_the_file_that_sets_it() {
        let cases = [
            (RECEIVE_BUFFER, Level::Ok, ""),
            (RECEIVE_BUFFER * 2, Level::Ok, ""),
            (212_992, Level::Warn, "net.core.rmem_max"),
            (212_992, Level::Warn, "60-farmcast.conf"),
        ];
        for (granted, level, remedy) in cases {
            let finding = judge_buffer(Ok(granted));
            assert_eq!(finding.level, level, "{granted}");
            assert!(finding.remedy.contains(remedy), "{finding:?}");
        }
        assert_eq!(judge_buffer(Err(io::ErrorKind::Other.into())).level, Level::Fail);
    }

    #[test]
    fn a_kernel_that_lets_nobody_join_fails() {
        for (most, level) in
            [(Some(0), Level::Fail), (Some(1), Level::Ok), (Some(20), Level::Ok), (None, Level::Warn)]
        {
            assert_eq!(judge_memberships(most).level, level, "{most:?}");
        }
    }

    #[test]
    fn a_missing_offload_is_named() {
        for (send, receive, level, part) in [
            (true, true, Level::Ok, "both ways"),
            (false, true, Level::Warn, "UDP_SEGMENT:"),
            (true, false, Level::Warn, "UDP_GRO:"),
            (false, false, Level::Warn, "UDP_SEGMENT and no UDP_GRO"),
        ] {
            let finding = judge_offloads(Ok(Offloads { send, receive }));
            assert_eq!(finding.level, level);
            assert!(finding.text.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn the_capability_is_read_from_the_effective_set() {
        let with = effective_capabilities("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000002000\n");
        assert_eq!(with, Some(1 << CAP_NET_RAW));
        assert_eq!(effective_capabilities("CapEff:\tzz\n"), None);
        assert!(judge_capabilities(with).text.starts_with("CAP_NET_RAW is there"));
        assert!(judge_capabilities(Some(!(1 << CAP_NET_RAW))).text.starts_with("no CAP_NET_RAW"));
    }

    #[test]
    fn this_machine_answers_every_question() {
        assert!(check().iter().all(|finding| finding.level != Level::Fail), "{:?}", check());
    }
}
