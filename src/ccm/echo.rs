//! How far leaders are: round trips of ICMP echoes (GD-3). A datagram socket of the kernel's own for that needs no
//! privilege, where `net.ipv4.ping_group_range` holds a group of the controller's.

use super::clock::monotonic_ns;
use super::controller::{Controller, blocking};
use super::db::DbError;
use crate::wire::id::NodeId;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
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

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

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

/// Leaders as they are now, and where they are. IPv4 only, as the control channels.
fn leaders(store: &super::db::Store) -> Result<Vec<(NodeId, Ipv4Addr)>, DbError> {
    let leading: Vec<NodeId> = store.segments()?.iter().filter_map(|segment| segment.leader).collect();
    let nodes = store.nodes()?.into_iter().filter(|node| leading.contains(&node.id));
    let address = |ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None };
    let placed = nodes.filter_map(|node| Some((node.id, address(node.seen?.text.ip())?)));
    Ok(placed.take(LEADERS_MAX).collect())
}

/// Round trips to those that answer in time.
///
/// # Errors
/// Where no such socket may be had.
fn measure(addresses: &[Ipv4Addr], patience: Duration) -> io::Result<BTreeMap<Ipv4Addr, Duration>> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    let socket = UdpSocket::from(fd);
    let mut sent = Vec::new();
    for (seq, ip) in addresses.iter().enumerate() {
        let [high, low] = (seq as u16).to_be_bytes();
        // Checksum and identifier are the kernel's business.
        let request = [ECHO_REQUEST, 0, 0, 0, 0, 0, high, low];
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
                if let Some((ip, at)) = answered(&reply[..len], from, &sent) {
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
fn answered(reply: &[u8], from: SocketAddr, sent: &[(Ipv4Addr, u64)]) -> Option<(Ipv4Addr, u64)> {
    let [ECHO_REPLY, 0, _, _, _, _, high, low, ..] = *reply else { return None };
    let request = sent.get(usize::from(u16::from_be_bytes([high, low])))?;
    (from.ip() == IpAddr::V4(request.0)).then_some(*request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_answer_counts_for_the_request_that_it_names_and_from_whom_was_asked_only() {
        let now = 7;
        let (near, far) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let sent = [(near, now), (far, now)];
        let from = |ip| SocketAddr::from((ip, 0));
        let reply = [ECHO_REPLY, 0, 1, 2, 3, 4, 0, 1];
        assert_eq!(answered(&reply, from(far), &sent), Some((far, now)));
        assert_eq!(answered(&reply, from(near), &sent), None, "another was asked");
        assert_eq!(
            answered(&[ECHO_REPLY, 0, 1, 2, 3, 4, 0, 2], from(far), &sent),
            None,
            "nobody was asked that"
        );
        assert_eq!(answered(&[ECHO_REQUEST, 0, 1, 2, 3, 4, 0, 1], from(far), &sent), None);
        assert_eq!(answered(&reply[..7], from(far), &sent), None);
    }

    #[test]
    fn echoes_come_back_from_this_machine_and_silence_has_no_time() {
        let (here, nobody) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 77, 0, 1));
        match measure(&[here], PATIENCE) {
            Ok(times) => {
                assert!(times[&here] < PATIENCE);
                assert_eq!(measure(&[], PATIENCE).unwrap(), BTreeMap::new());
                // All of 127/8 answers where nothing filters it; what counts is that nobody else is named.
                let both = measure(&[nobody, here], Duration::from_millis(200)).unwrap();
                assert!(both.contains_key(&here) && both.len() <= 2, "{both:?}");
            }
            Err(error) => {
                let what = "SKIPPED, not shown here: ICMP echo without privilege";
                let _ = writeln!(io::stderr(), "{what}: {error}");
            }
        }
    }
}
