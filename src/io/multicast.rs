//! UDP sockets of a segment: multicast joined on one interface, sent and received in batches.
//!
//! A batch of frames goes out in one call with UDP_SEGMENT and comes in with UDP_GRO; the batch is what
//! makes the throughput (design D6). Where the kernel or the device refuses the offload, single datagrams
//! are sent instead and the socket remembers it.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Asked of the kernel for each socket; it grants at most twice `net.core.rmem_max`.
pub const RECEIVE_BUFFER: usize = 8 << 20;
/// DSCP "lower effort" (RFC 8622) as a TOS byte: bulk yields to everything else.
const TOS_LOWER_EFFORT: u32 = 0x04;
/// Bytes and segments of one batch that the kernel takes (measured; EMSGSIZE or EINVAL beyond).
const BATCH_BYTES_MAX: usize = 65_000;
/// Frames of one batch: what 1,500 byte frames need to fill it.
pub const BATCH_FRAMES_MAX: usize = 44;
/// Largest batch that the kernel delivers.
const RECEIVE_BYTES: usize = 65_536;

/// Datagrams that came from one sender at once: all of one length, but for the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub from: SocketAddr,
    bytes: &'a [u8],
    segment: usize,
}

impl<'a> Batch<'a> {
    /// A single datagram, however it came.
    pub fn one(from: SocketAddr, bytes: &'a [u8]) -> Self {
        Self { from, bytes, segment: bytes.len().max(1) }
    }

    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment)
    }

    /// Bytes of all of them.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A multicast group joined on an interface: receives only.
#[derive(Debug)]
pub struct Group {
    socket: UdpSocket,
    buffer: Box<[u8]>,
    group: Ipv4Addr,
    interface: Ipv4Addr,
    joined: bool,
    /// Datagrams that the kernel dropped for want of buffer, as it told last.
    pub overflows: u32,
}

impl Group {
    /// # Errors
    /// Those of the system; `AddrInUse` where another program holds the port without sharing it.
    pub fn join(group: SocketAddrV4, interface: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        // Several nodes on one machine (the demo, the lab) share the port; each gets every datagram.
        socket.set_reuse_address(true)?;
        // Bound to the group's own address, the socket hears nothing else that comes to the port.
        socket.bind(&group.into())?;
        socket.set_multicast_all_v4(false)?;
        socket.join_multicast_v4(group.ip(), &interface)?;
        prepare_receive(&socket);
        Ok(Self {
            socket: socket.into(),
            buffer: vec![0; RECEIVE_BYTES].into(),
            group: *group.ip(),
            interface,
            joined: true,
            overflows: 0,
        })
    }

    /// Leaves the group or joins it again; the socket stays.
    pub fn listen(&mut self, listen: bool) -> io::Result<()> {
        if listen != self.joined {
            if listen {
                self.socket.join_multicast_v4(&self.group, &self.interface)?;
            } else {
                self.socket.leave_multicast_v4(&self.group, &self.interface)?;
            }
            self.joined = listen;
        }
        Ok(())
    }

    /// Bytes that may wait unread, as the kernel granted them and as it counts them: with its own overhead.
    pub fn room(&self) -> u32 {
        let granted = SockRef::from(&self.socket).recv_buffer_size();
        granted.ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or(u32::MAX)
    }

    /// The next batch of datagrams, handed to `take`. False where nothing was waiting.
    pub fn receive(&mut self, take: &mut dyn FnMut(Batch<'_>)) -> io::Result<bool> {
        receive(self.socket.as_raw_fd(), &mut self.buffer, &mut self.overflows, take)
    }

    /// Joins anew: the interface was down, is another of the same name, or has another address now.
    pub fn rejoin(&self, before: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        let SocketAddr::V4(group) = self.socket.local_addr()? else { return Ok(()) };
        // Of a membership that went with its interface the socket still thinks that it has it.
        let _ = self.socket.leave_multicast_v4(group.ip(), &before);
        self.socket.join_multicast_v4(group.ip(), &interface)
    }
}

impl AsRawFd for Group {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The node's own address: unicast both ways, and the source of the messages that it multicasts.
#[derive(Debug)]
pub struct Unicast {
    socket: UdpSocket,
    buffer: Box<[u8]>,
    pub overflows: u32,
    /// Bytes of UDP payload that left through this socket.
    pub sent_bytes: u64,
    pub sent_datagrams: u64,
}

/// Where frames leave. A socket of its own, for its buffer is full most of the time while a session runs and
/// a message that found no room in it would be lost.
#[derive(Debug)]
pub struct Bulk {
    socket: UdpSocket,
    /// The kernel segments batches for us; false once it refused.
    segmentation: bool,
    /// Bytes of UDP payload that left through this socket.
    pub sent_bytes: u64,
    pub sent_datagrams: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    All,
    /// The socket's buffer is full after this many frames: send the rest when it is writable.
    Full(usize),
}

impl Unicast {
    /// `port` 0 takes any free one. `ttl` bounds how far multicast goes: 0 stays on this machine.
    pub fn bind(interface: Ipv4Addr, port: u16, ttl: u32) -> io::Result<Self> {
        let socket = sender(interface, port, ttl)?;
        prepare_receive(&socket);
        Ok(Self {
            socket: socket.into(),
            buffer: vec![0; RECEIVE_BYTES].into(),
            overflows: 0,
            sent_bytes: 0,
            sent_datagrams: 0,
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Multicasts by this interface from now on, which may be another of the same address.
    pub fn set_interface(&self, interface: Ipv4Addr) -> io::Result<()> {
        SockRef::from(&self.socket).set_multicast_if_v4(&interface)
    }

    /// As [`Group::receive`].
    pub fn receive(&mut self, take: &mut dyn FnMut(Batch<'_>)) -> io::Result<bool> {
        receive(self.socket.as_raw_fd(), &mut self.buffer, &mut self.overflows, take)
    }

    /// Sends one datagram. A full socket buffer is reported as loss is on the network: not at all.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send_to(datagram, to) {
            Ok(sent) => {
                self.sent_bytes += sent as u64;
                self.sent_datagrams += 1;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // An ICMP answer to an earlier datagram: its receiver is gone, which its silence tells too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Bulk {
    /// `ttl` as with [`Unicast::bind`].
    pub fn bind(interface: Ipv4Addr, ttl: u32) -> io::Result<Self> {
        let socket = sender(interface, 0, ttl)?;
        socket.set_tos_v4(TOS_LOWER_EFFORT)?;
        Ok(Self { socket: socket.into(), segmentation: true, sent_bytes: 0, sent_datagrams: 0 })
    }

    /// Multicasts by this interface from now on, which may be another of the same address.
    pub fn set_interface(&self, interface: Ipv4Addr) -> io::Result<()> {
        SockRef::from(&self.socket).set_multicast_if_v4(&interface)
    }

    /// Sends frames, each a header and a payload that lies elsewhere. All but the last are of one length.
    pub fn send_frames(&mut self, to: SocketAddrV4, frames: &[(&[u8], &[u8])]) -> io::Result<Sent> {
        let Some((header, payload)) = frames.first() else { return Ok(Sent::All) };
        let len = header.len() + payload.len();
        let per_batch = (BATCH_BYTES_MAX / len).clamp(1, BATCH_FRAMES_MAX);
        let address = SockaddrIn::from(to);
        let mut done = 0;
        for batch in frames.chunks(per_batch) {
            if self.segmentation && batch.len() > 1 {
                match self.send_segmented(&address, batch, len) {
                    Ok(()) => {
                        done += batch.len();
                        continue;
                    }
                    Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(Sent::Full(done)),
                    // No offload for this device or kernel: one by one from now on.
                    Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EMSGSIZE) => {
                        log::info!("UDP segmentation is refused here: sending frames one by one");
                        self.segmentation = false;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            for (header, payload) in batch {
                let slices = [IoSlice::new(header), IoSlice::new(payload)];
                match sendmsg(self.socket.as_raw_fd(), &slices, &[], MsgFlags::empty(), Some(&address)) {
                    Ok(sent) => {
                        self.sent_bytes += sent as u64;
                        self.sent_datagrams += 1;
                        done += 1;
                    }
                    Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(Sent::Full(done)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Sent::All)
    }

    fn send_segmented(&mut self, to: &SockaddrIn, batch: &[(&[u8], &[u8])], len: usize) -> nix::Result<()> {
        let mut slices = arrayvec::ArrayVec::<IoSlice<'_>, { 2 * BATCH_FRAMES_MAX }>::new();
        for (header, payload) in batch {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(payload));
        }
        let segment = len as u16;
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let sent = sendmsg(self.socket.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(to))?;
        self.sent_bytes += sent as u64;
        self.sent_datagrams += batch.len() as u64;
        Ok(())
    }
}

impl AsRawFd for Unicast {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn sender(interface: Ipv4Addr, port: u16, ttl: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.bind(&SocketAddrV4::new(interface, port).into())?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_ttl_v4(ttl)?;
    // The other nodes of a machine that runs several (the demo, the tests) hear us by this.
    socket.set_multicast_loop_v4(true)?;
    Ok(socket)
}

/// Large buffers, batches, drop counts: each is a gain where the kernel grants it and none is needed.
fn prepare_receive(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    let _ = setsockopt(socket, sockopt::RxqOvfl, &1);
}

fn receive(
    fd: RawFd,
    buffer: &mut [u8],
    overflows: &mut u32,
    take: &mut dyn FnMut(Batch<'_>),
) -> io::Result<bool> {
    let mut control = cmsg_space!(i32, u32);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut control), MsgFlags::empty());
    let (from, len, segment) = match received {
        Ok(message) => {
            let mut segment = None;
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::UdpGroSegments(size) => segment = usize::try_from(size).ok(),
                    ControlMessageOwned::RxqOvfl(count) => *overflows = count,
                    _ => {}
                }
            }
            let Some(from) = message.address else { return Ok(true) };
            (SocketAddrV4::from(from), message.bytes, segment)
        }
        Err(Errno::EAGAIN) => return Ok(false),
        Err(Errno::EINTR | Errno::ECONNREFUSED) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let segment = segment.unwrap_or(len).max(1);
    take(Batch { from: SocketAddr::V4(from), bytes: &buffer[..len], segment });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(fd: &impl AsRawFd) {
        let mut poll = mio::Poll::new().unwrap();
        let fd = fd.as_raw_fd();
        let token = mio::Token(0);
        poll.registry().register(&mut mio::unix::SourceFd(&fd), token, mio::Interest::READABLE).unwrap();
        poll.poll(&mut mio::Events::with_capacity(1), Some(std::time::Duration::from_secs(5))).unwrap();
    }

    #[test]
    fn a_batch_of_frames_arrives_as_the_single_datagrams_that_it_was() {
        let mut sender = Bulk::bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        // The port of a socket that we hold is nobody else's group port.
        let SocketAddr::V4(own) = sender.socket.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 71, 9), own.port());
        let mut first = Group::join(group, Ipv4Addr::LOCALHOST).unwrap();
        let mut second = Group::join(group, Ipv4Addr::LOCALHOST).unwrap();

        let payloads: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; if n == 99 { 10 } else { 1_000 }]).collect();
        let headers: Vec<[u8; 4]> = (0..100_u32).map(u32::to_be_bytes).collect();
        let frames: Vec<(&[u8], &[u8])> =
            headers.iter().zip(&payloads).map(|(header, payload)| (&header[..], &payload[..])).collect();
        assert_eq!(sender.send_frames(group, &frames).unwrap(), Sent::All);
        assert_eq!(sender.sent_datagrams, 100);

        for receiver in [&mut first, &mut second] {
            let mut got = Vec::new();
            while got.len() < 100 {
                wait(receiver);
                while receiver
                    .receive(&mut |batch| {
                        assert_eq!(batch.from, SocketAddr::V4(own));
                        got.extend(batch.datagrams().map(<[u8]>::to_vec));
                    })
                    .unwrap()
                {}
            }
            for (n, datagram) in got.iter().enumerate() {
                assert_eq!(datagram[..4], headers[n]);
                assert_eq!(datagram[4..], payloads[n][..]);
            }
        }
    }
}
