//! What this kernel and this interface can do, tried out on sockets that nobody else uses.

use super::clock;
use super::multicast::{Group, Unicast};
use super::reactor::Reactor;
use crate::time::{Duration, Instant};
use mio::Token;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

/// Which batches of UDP datagrams the kernel takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// UDP_SEGMENT: one call sends many datagrams.
    pub send: bool,
    /// UDP_GRO: one call receives many.
    pub receive: bool,
}

fn udp() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))
}

/// Bytes of receive buffer that a UDP socket gets which asks for `bytes`, in the measure in which it asks.
pub fn granted_receive_buffer(bytes: usize) -> io::Result<usize> {
    let socket = udp()?;
    socket.set_recv_buffer_size(bytes)?;
    // The kernel doubles what it grants, to have room for its own notes, and tells the double.
    Ok(socket.recv_buffer_size()? / 2)
}

pub fn offloads() -> io::Result<Offloads> {
    let socket = udp()?;
    Ok(Offloads {
        send: setsockopt(&socket, sockopt::UdpGsoSegment, &1_400).is_ok(),
        receive: setsockopt(&socket, sockopt::UdpGroSegment, &true).is_ok(),
    })
}

/// Sends one datagram to `group` on a port of our own, so that nobody who listens to the group there hears
/// it, and waits up to `patience` until it comes back by the loop of the interface. While it waits,
/// `joined` is asked once. Returns the time that it took; `None` where it did not come.
///
/// # Errors
/// Those of the system: no such address, no route, a group that cannot be joined.
pub fn multicast_loop(
    group: Ipv4Addr,
    interface: Ipv4Addr,
    ttl: u32,
    patience: Duration,
    joined: &mut dyn FnMut(),
) -> io::Result<Option<Duration>> {
    let mut sender = Unicast::bind(interface, 0, ttl)?;
    let SocketAddr::V4(own) = sender.local_addr()? else {
        return Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    };
    let channel = SocketAddrV4::new(group, own.port());
    let mut receiver = Group::join(channel, interface)?;
    joined();
    let start = clock::monotonic();
    let word = start.as_nanos().to_be_bytes();
    sender.send(SocketAddr::V4(channel), &word)?;
    let mut took = None;
    listen(&mut receiver, start + patience, &mut |from, datagram| {
        if from == SocketAddr::V4(own) && datagram == word {
            took = Some(clock::monotonic().since(start));
        }
        took.is_some()
    })?;
    Ok(took)
}

/// Hands what comes to a group to `take`, until it says that it has enough or `deadline` passes.
pub fn listen(
    group: &mut Group,
    deadline: Instant,
    take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool,
) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    reactor.watch_fd(group.as_raw_fd(), Token(0))?;
    let mut enough = false;
    loop {
        while !enough
            && group.receive(&mut |batch| {
                batch.datagrams().for_each(|datagram| enough |= take(batch.from, datagram));
            })?
        {}
        let now = clock::monotonic();
        if enough || now >= deadline {
            return Ok(());
        }
        reactor.wait(now, Some(deadline))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_by_the_loopback_interface() {
        let mut joined = false;
        let group = Ipv4Addr::new(239, 255, 72, 1);
        let patience = Duration::from_secs(5);
        let took = multicast_loop(group, Ipv4Addr::LOCALHOST, 0, patience, &mut || joined = true).unwrap();
        assert!(took.is_some_and(|took| took < patience) && joined);
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error_and_not_silence() {
        let nowhere = Ipv4Addr::new(192, 0, 2, 1);
        let group = Ipv4Addr::new(239, 255, 72, 2);
        assert!(multicast_loop(group, nowhere, 0, Duration::from_secs(5), &mut || ()).is_err());
    }

    #[test]
    fn listening_ends_at_its_deadline() {
        let holder = Unicast::bind(Ipv4Addr::LOCALHOST, 0, 0).unwrap();
        let channel = SocketAddrV4::new(Ipv4Addr::new(239, 255, 72, 3), holder.local_addr().unwrap().port());
        let mut group = Group::join(channel, Ipv4Addr::LOCALHOST).unwrap();
        let deadline = clock::monotonic() + Duration::from_millis(30);
        listen(&mut group, deadline, &mut |_, _| false).unwrap();
        assert!(clock::monotonic() >= deadline);
    }

    #[test]
    fn a_small_buffer_is_granted_as_asked() {
        assert_eq!(granted_receive_buffer(64 << 10).unwrap(), 64 << 10);
    }
}
