//! How far leaders are: round trips of ICMP echoes (GD-3). A datagram socket of the kernel's own for that needs no
//! privilege, where `net.ipv4.ping_group_range` holds a group of the controller's.

use super::clock::monotonic_ns;
use super::controller::{Controller, blocking};
use super::db::DbError;
use crate::wire::id::NodeId;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// From one measuring to the next.
const PERIOD: Duration = Duration::from_secs(30);
/// The first comes when leaders have had the time to report.
const FIRST: Duration = Duration::from_secs(3);
/// How long echoes are waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Leaders that are measured in one go: sequence numbers tell them apart.
const LEADERS_MAX: usize = 4_096;

/// What differs between the two protocols.
struct Family {
    address: AddressFamily,
    protocol: SockProtocol,
    request: u8,
    reply: u8,
}

/// RFC 792 and RFC 4443.
const FAMILIES: [Family; 2] = [
    Family { address: AddressFamily::Inet, protocol: SockProtocol::Icmp, request: 8, reply: 0 },
    Family { address: AddressFamily::Inet6, protocol: SockProtocol::IcmpV6, request: 128, reply: 129 },
];

impl Family {
    fn has(&self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == (self.address == AddressFamily::Inet)
    }
}

/// Measures again and again; ends, and says so, where the kernel does not let us.
pub async fn watch(controller: Arc<Controller>) {
    tokio::time::sleep(FIRST).await;
    loop {
        match controller.store(|store| leaders(store)).await {
            Ok(leaders) => {
                let known = leaders.clone();
                let addresses =
                    move || measure(&leaders.iter().map(|(_, ip)| *ip).collect::<Vec<_>>(), PATIENCE);
                match blocking(addresses).await {
                    Ok(times) => {
                        let micros =
                            |ip| times.get(ip).map(|time| time.as_micros().min(u32::MAX.into()) as u32);
                        let delays = known.iter().map(|(node, ip)| (*node, micros(ip)));
                        let new = controller.paths().note_delays(delays);
                        if new > 0 {
                            log::info!("echoes of {new} more leaders came back: their distance is known");
                        }
                    }
                    Err(error) => {
                        log::info!(
                            "no distance by ICMP echo: {error}; leaders are sorted without it, unless \
                             net.ipv4.ping_group_range holds a group of this process"
                        );
                        return;
                    }
                }
            }
            Err(error) => log::warn!("leaders are not measured: {error}"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Leaders as they are now, and where they are.
fn leaders(store: &super::db::Store) -> Result<Vec<(NodeId, IpAddr)>, DbError> {
    let leading = store.segments()?.into_iter().filter_map(|segment| segment.leader).take(LEADERS_MAX);
    let mut placed = Vec::new();
    for id in leading {
        let seen = store.node(id)?.and_then(|node| node.seen);
        placed.extend(seen.map(|seen| (id, seen.text.ip())));
    }
    Ok(placed)
}

/// Round trips to those that answer in time.
///
/// # Errors
/// Where no such socket may be had.
fn measure(addresses: &[IpAddr], patience: Duration) -> io::Result<BTreeMap<IpAddr, Duration>> {
    let mut times = BTreeMap::new();
    for family in &FAMILIES {
        let mine: Vec<IpAddr> = addresses.iter().copied().filter(|ip| family.has(ip)).collect();
        if !mine.is_empty() {
            times.extend(measure_family(family, &mine, patience)?);
        }
    }
    Ok(times)
}

fn measure_family(
    family: &Family,
    addresses: &[IpAddr],
    patience: Duration,
) -> io::Result<BTreeMap<IpAddr, Duration>> {
    let fd = socket(family.address, SockType::Datagram, SockFlag::SOCK_CLOEXEC, family.protocol)?;
    let socket = UdpSocket::from(fd);
    let mut sent = Vec::new();
    for (seq, ip) in addresses.iter().enumerate() {
        let [high, low] = (seq as u16).to_be_bytes();
        // Checksum and identifier are the kernel's business.
        let request = [family.request, 0, 0, 0, 0, 0, high, low];
        sent.push((*ip, monotonic_ns()));
        // Who cannot be reached does not answer.
        let _ = socket.send_to(&request, SocketAddr::from((*ip, 0)));
    }
    let (mut times, end) = (BTreeMap::new(), monotonic_ns() + patience.as_nanos() as u64);
    while times.len() < addresses.len() {
        let left = Duration::from_nanos(end.saturating_sub(monotonic_ns()));
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let mut reply = [0; 64];
        match socket.recv_from(&mut reply) {
            Ok((len, from)) => {
                let now = monotonic_ns();
                if let Some((ip, at)) = answered(family, &reply[..len], from, &sent) {
                    times.entry(ip).or_insert(Duration::from_nanos(now.saturating_sub(at)));
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            // An answer that some host is not reachable comes as an error of the socket.
            Err(_) => {}
        }
    }
    Ok(times)
}

/// Which request this answers.
fn answered(
    family: &Family,
    reply: &[u8],
    from: SocketAddr,
    sent: &[(IpAddr, u64)],
) -> Option<(IpAddr, u64)> {
    let [kind, 0, _, _, _, _, high, low, ..] = *reply else { return None };
    let request = sent.get(usize::from(u16::from_be_bytes([high, low])))?;
    (kind == family.reply && from.ip() == request.0).then_some(*request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_answer_counts_for_the_request_that_it_names_and_from_whom_was_asked_only() {
        let now = 7;
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for (family, near, far) in
            [(&FAMILIES[0], ip("10.0.0.1"), ip("10.0.0.2")), (&FAMILIES[1], ip("fd00::1"), ip("fd00::2"))]
        {
            let sent = [(near, now), (far, now)];
            let from = |ip| SocketAddr::from((ip, 0));
            let reply = [family.reply, 0, 1, 2, 3, 4, 0, 1];
            let answered = |reply: &[u8], by| answered(family, reply, from(by), &sent);
            assert_eq!(answered(&reply, far), Some((far, now)));
            assert_eq!(answered(&reply, near), None, "another was asked");
            assert_eq!(answered(&[family.reply, 0, 1, 2, 3, 4, 0, 2], far), None, "nobody was asked that");
            assert_eq!(answered(&[family.request, 0, 1, 2, 3, 4, 0, 1], far), None);
            assert_eq!(answered(&reply[..7], far), None);
        }
    }

    #[test]
    fn echoes_come_back_from_this_machine_and_silence_has_no_time() {
        for (here, nobody) in [("127.0.0.1", "127.77.0.1"), ("::1", "::2")] {
            let (here, nobody): (IpAddr, IpAddr) = (here.parse().unwrap(), nobody.parse().unwrap());
            let skip = |why: &dyn std::fmt::Display| {
                let what = "SKIPPED, not shown here: ICMP echo without privilege";
                let _ = writeln!(io::stderr(), "{what} to {here}: {why}");
            };
            if let Err(error) = UdpSocket::bind((here, 0)) {
                skip(&error);
                continue;
            }
            match measure(&[here], PATIENCE) {
                Ok(times) => {
                    assert!(times[&here] < PATIENCE);
                    assert_eq!(measure(&[], PATIENCE).unwrap(), BTreeMap::new());
                    // All of 127/8 answers where nothing filters it; what counts is that nobody else is named.
                    let both = measure(&[nobody, here], Duration::from_millis(200)).unwrap();
                    assert!(both.contains_key(&here) && both.len() <= 2, "{both:?}");
                }
                Err(error) => skip(&error),
            }
        }
    }
}
