//! Datagrams of an IP protocol of their own, past UDP (design D8): a raw socket with a filter in the kernel. They
//! share neither port nor buffer with anything else, so that no flood of frames takes their place.
//!
//! ```text
//! magic (2) | version (1) | kind (1) | to port (2) | from port (2) | nonce (8) | checksum (4) | payload
//! ```
//! Ports are those of the nodes' UDP sockets: they tell nodes of one machine apart, and who receives takes the sender
//! for what it is over UDP. The protocol has no ports and no checksum of its own, hence both here.

use crate::time::{Duration, Instant};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};
use xxhash_rust::xxh3::xxh3_64;

/// For experiments and whoever agrees on it (RFC 3692).
pub const PROTOCOL: i32 = 253;
const MAGIC: u16 = 0xfca5;
const VERSION: u8 = 1;
pub const HEADER_LEN: usize = 20;
/// Longest payload that a path of 1,500 bytes takes whole.
pub const PAYLOAD_MAX: usize = 1_500 - 20 - HEADER_LEN;
/// Asked of the kernel for the socket: reports of a large segment.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A peer that answered is believed to hear us so long ...
const HEARS: Duration = Duration::from_secs(6);
/// ... and is asked again after this, so that it never has to be doubted while it lives.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Between two questions to one that does not answer.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// Peers remembered; a node has one leader.
const PEERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Payload = 0,
    /// "Do you hear me here?" The answer repeats the nonce, which nobody else can guess.
    Hello = 1,
    Echo = 2,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug)]
struct Peer {
    nonce: u64,
    asked: Instant,
    heard: Option<Instant>,
    /// Something was sent to it that it has not asked for again.
    sent: bool,
}

/// What came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub sent: u64,
    pub received: u64,
    /// Datagrams with a wrong checksum or of another version.
    pub garbage: u64,
}

#[derive(Debug)]
pub struct Raw {
    socket: Socket,
    port: u16,
    peers: BTreeMap<SocketAddr, Peer>,
    pub counters: Counters,
}

impl Raw {
    /// On this address, for the node whose UDP socket has this port.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW.
    pub fn open(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(PROTOCOL)))?;
        socket.attach_filter(&filter(port))?;
        socket.bind(&SocketAddrV4::new(address, 0).into())?;
        // What came between opening and the filter would pass for ours.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Self { socket, port, peers: BTreeMap::new(), counters: Counters::default() })
    }

    /// Whether the peer hears us here, as far as we know. Asks it where that is not known for sure.
    pub fn reaches(&mut self, to: SocketAddr, now: Instant, nonce: impl FnOnce() -> u64) -> bool {
        if !self.peers.contains_key(&to) && self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        let known = self.peers.get(&to).copied();
        let heard = known.and_then(|peer| peer.heard).filter(|at| now.since(*at) < HEARS);
        let pause = if heard.is_some() { ASK_AGAIN } else { ASK_PAUSE };
        if known.is_none_or(|peer| now.since(peer.asked) >= pause) {
            let nonce = nonce();
            let sent = known.is_some_and(|peer| peer.sent);
            self.peers.insert(to, Peer { nonce, asked: now, heard, sent });
            // If it is lost, it is asked again.
            let _ = self.send_kind(to, Kind::Hello, nonce, &[]);
        }
        heard.is_some()
    }

    /// The peer asks. Had we sent it something here, it may not hear us any more.
    pub fn doubt(&mut self, peer: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(&peer)
            && std::mem::take(&mut peer.sent)
        {
            peer.heard = None;
        }
    }

    /// Sends a datagram, of at most [`PAYLOAD_MAX`] bytes of payload.
    pub fn send(&mut self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        self.send_kind(to, Kind::Payload, 0, payload)?;
        self.counters.sent += 1;
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.sent = true;
        }
        Ok(())
    }

    fn send_kind(&self, to: SocketAddr, kind: Kind, nonce: u64, payload: &[u8]) -> io::Result<()> {
        let datagram = pack(kind, to.port(), self.port, nonce, payload);
        self.socket.send_to(&datagram, &SocketAddr::new(to.ip(), 0).into()).map(drop)
    }

    /// The next datagram, handed to `take` with its sender. False where nothing was waiting.
    pub fn receive(&mut self, now: Instant, take: &mut dyn FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 2_048];
        let (len, from) = match self.socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) };
        let (Some(ip), Some(packet)) = (from.as_socket_ipv4(), unpack(bytes, self.port)) else {
            self.counters.garbage += 1;
            return Ok(true);
        };
        let from = SocketAddr::from((*ip.ip(), packet.from));
        match packet.kind {
            Kind::Payload => {
                self.counters.received += 1;
                take(from, packet.payload);
            }
            // If it is lost, it is asked again.
            Kind::Hello => drop(self.send_kind(from, Kind::Echo, packet.nonce, &[])),
            Kind::Echo => {
                if let Some(peer) = self.peers.get_mut(&from)
                    && peer.nonce == packet.nonce
                {
                    peer.heard = Some(now);
                }
            }
        }
        Ok(true)
    }
}

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

struct Packet<'a> {
    kind: Kind,
    from: u16,
    nonce: u64,
    payload: &'a [u8],
}

fn pack(kind: Kind, to: u16, from: u16, nonce: u64, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEADER_LEN + payload.len());
    datagram.extend_from_slice(&MAGIC.to_be_bytes());
    datagram.extend_from_slice(&[VERSION, kind as u8]);
    datagram.extend_from_slice(&to.to_be_bytes());
    datagram.extend_from_slice(&from.to_be_bytes());
    datagram.extend_from_slice(&nonce.to_be_bytes());
    datagram.extend_from_slice(&[0; 4]);
    datagram.extend_from_slice(payload);
    let checksum = checksum(&datagram);
    datagram[16..20].copy_from_slice(&checksum);
    datagram
}

/// Over all of it, with four zero bytes where it stands itself.
fn checksum(datagram: &[u8]) -> [u8; 4] {
    (xxh3_64(datagram) as u32).to_be_bytes()
}

/// Of an IP datagram with its header. `None`: not ours, or damaged.
fn unpack(ip: &[u8], port: u16) -> Option<Packet<'_>> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let datagram = ip.get(header..)?;
    let (head, payload) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let mut plain = datagram.to_vec();
    plain[16..20].fill(0);
    if half(0) != MAGIC || head[2] != VERSION || half(4) != port || checksum(&plain) != head[16..20] {
        return None;
    }
    let kind = match head[3] {
        0 => Kind::Payload,
        1 => Kind::Hello,
        2 => Kind::Echo,
        _ => return None,
    };
    let nonce = u64::from_be_bytes(head[8..16].try_into().expect("eight bytes"));
    Some(Packet { kind, from: half(6), nonce, payload })
}

/// What the kernel lets through: our magic, to our port. The rest costs us no wake-up.
fn filter(port: u16) -> [SockFilter; 7] {
    const LDX_IP_HEADER_LEN: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH: X = 4 * (byte & 0xf)
    const LD_HALF_FROM_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        SockFilter::new(LDX_IP_HEADER_LEN, 0, 0, 0),
        SockFilter::new(LD_HALF_FROM_X, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, MAGIC.into()),
        SockFilter::new(LD_HALF_FROM_X, 0, 0, 4),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, port.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel hands it over: behind an IP header, here one with an option.
    fn with_ip(datagram: &[u8]) -> Vec<u8> {
        let mut ip = vec![0; 24];
        ip[0] = 0x46;
        ip.extend_from_slice(datagram);
        ip
    }

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else() {
        let datagram = pack(Kind::Payload, 7_411, 7_412, 9, b"report");
        let ip = with_ip(&datagram);
        let packet = unpack(&ip, 7_411).unwrap();
        assert_eq!((packet.kind, packet.from, packet.nonce), (Kind::Payload, 7_412, 9));
        assert_eq!(packet.payload, b"report");
        assert!(unpack(&ip, 7_413).is_none(), "it is for another node of this machine");
        for at in 24..ip.len() {
            let mut damaged = ip.clone();
            damaged[at] ^= 4;
            assert!(unpack(&damaged, 7_411).is_none(), "byte {at}");
        }
        for len in 0..ip.len() {
            assert!(unpack(&ip[..len], 7_411).is_none(), "{len} bytes");
        }
        let hello = with_ip(&pack(Kind::Hello, 1, 2, u64::MAX, &[]));
        assert_eq!(unpack(&hello, 1).map(|packet| packet.nonce), Some(u64::MAX));
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Two nodes of this machine, where it may have raw sockets.
    fn pair() -> Option<(Raw, Raw)> {
        match Raw::open(Ipv4Addr::LOCALHOST, 11).and_then(|a| Ok((a, Raw::open(Ipv4Addr::LOCALHOST, 12)?))) {
            Ok(pair) => Some(pair),
            Err(error) => {
                use std::io::Write;
                let _ = writeln!(io::stderr(), "SKIPPED, not shown here: raw sockets: {error}");
                None
            }
        }
    }

    fn drain(raw: &mut Raw, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        while raw.receive(now, &mut |from, payload| all.push((from, payload.to_vec()))).unwrap() {}
        all
    }

    #[test]
    fn a_peer_is_sent_to_when_it_has_answered_and_not_when_it_is_doubted() {
        let Some((mut a, mut b)) = pair() else { return };
        let nonce = || 77;
        assert!(!a.reaches(addr(12), at(0), nonce), "nothing is known of it");
        assert_eq!(drain(&mut b, at(0)), [], "a question is no report");
        assert_eq!(drain(&mut a, at(0)), []);
        assert!(a.reaches(addr(12), at(1), nonce));
        a.send(addr(12), b"one").unwrap();
        a.send(addr(12), b"two").unwrap();
        assert_eq!(drain(&mut b, at(1)), [(addr(11), b"one".to_vec()), (addr(11), b"two".to_vec())]);
        assert_eq!((a.counters.sent, b.counters.received, b.counters.garbage), (2, 2, 0));
        a.doubt(addr(12));
        assert!(!a.reaches(addr(12), at(1), nonce));
        assert!(!a.reaches(addr(12), at(3), nonce), "it is asked again");
        drain(&mut b, at(3));
        drain(&mut a, at(3));
        assert!(a.reaches(addr(12), at(4), nonce));
        a.doubt(addr(12));
        assert!(a.reaches(addr(12), at(4), nonce), "nothing was sent there since");
        // An answer to a question that was not asked says nothing.
        b.send_kind(addr(11), Kind::Echo, 78, &[]).unwrap();
        drop(b);
        drain(&mut a, at(8));
        assert!(!a.reaches(addr(12), at(10), nonce), "it has not answered for long");
    }

    #[test]
    fn the_kernel_keeps_from_us_what_is_not_for_us() {
        let Some((mut a, mut b)) = pair() else { return };
        a.send(addr(13), b"to a third").unwrap();
        let stranger = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(PROTOCOL))).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
        stranger.send_to(&[0; 64], &to).unwrap();
        assert_eq!(drain(&mut b, at(0)), []);
        assert_eq!(b.counters, Counters::default(), "not even counted");
        let mut damaged = pack(Kind::Payload, 12, 11, 0, b"report");
        damaged[HEADER_LEN] ^= 1;
        stranger.send_to(&damaged, &to).unwrap();
        assert_eq!(drain(&mut b, at(0)), []);
        assert_eq!(b.counters.garbage, 1);
    }
}
