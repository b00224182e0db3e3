//! Cables on which frames take their time, for kernels without netem: a thread passes frames on between two links.

use netlink::Lab;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, socket,
};
use nix::sys::time::TimeSpec;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Frames that may wait on one way; more are lost, as on any cable.
const HELD_MAX: usize = 10_000;
/// Frames read from a link before the next one is looked at.
const TURN: usize = 64;
/// `PACKET_OUTGOING`: what we sent ourselves, shown again.
pub const OUTGOING: u8 = 4;

/// All delayed cables of a lab, until it is dropped.
pub struct Delays {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One way of a cable: its ends, and what is on its way.
struct Way {
    from: usize,
    to: usize,
    held: VecDeque<(Instant, Box<[u8]>)>,
}

impl Delays {
    /// Passes frames on between the links of each pair, which are here and up, each way after `delay`.
    pub fn start(pairs: &[[String; 2]], delay: Duration) -> Self {
        let links: Vec<OwnedFd> = pairs.iter().flatten().map(|name| open(name)).collect();
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = std::thread::spawn(move || relay(&links, delay, &flag));
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Delays {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the relay goes on to the end");
    }
}

/// A link that lies here, brought up.
pub fn bring_up(name: &str) {
    let mut lab = Lab::here().expect("a netlink socket");
    let index = lab.link(name).expect("it was made").index;
    lab.set_up(index).expect("it comes up");
}

fn relay(links: &[OwnedFd], delay: Duration, over: &AtomicBool) {
    let way = |from: usize| Way { from, to: from ^ 1, held: VecDeque::new() };
    let mut ways: Vec<Way> = (0..links.len()).map(way).collect();
    let mut buffer = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        for way in &mut ways {
            for _ in 0..TURN {
                let Some(len) = read(&links[way.from], &mut buffer) else { break };
                if way.held.len() < HELD_MAX {
                    way.held.push_back((Instant::now() + delay, buffer[..len].into()));
                }
            }
            let now = Instant::now();
            while let Some((_, frame)) = way.held.pop_front_if(|(due, _)| *due <= now) {
                // What the link does not take is lost.
                let _ = send(links[way.to].as_raw_fd(), &frame, MsgFlags::empty());
            }
        }
        let next = ways.iter().filter_map(|way| way.held.front().map(|(due, _)| *due)).min();
        let left =
            next.map_or(Duration::from_millis(100), |due| due.saturating_duration_since(Instant::now()));
        let mut wanted: Vec<_> =
            links.iter().map(|link| PollFd::new(link.as_fd(), PollFlags::POLLIN)).collect();
        match ppoll(&mut wanted, Some(TimeSpec::from_duration(left)), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("the relay cannot wait: {errno}"),
        }
    }
}

/// A socket that gets and sends the frames of one link as they are.
pub fn open(link: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd =
        socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("a packet socket");
    let mut addresses =
        getifaddrs().expect("the links of the lab").filter(|found| found.interface_name == link);
    let address = addresses.find_map(|found| found.address?.as_link_addr().copied()).expect("the link");
    bind(fd.as_raw_fd(), &address).expect("bound to the link");
    fd
}

/// The next frame that came from outside.
fn read(link: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match recvfrom::<LinkAddr>(link.as_raw_fd(), buffer) {
            Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
            Ok((len, _)) => return Some(len),
            Err(Errno::EAGAIN) => return None,
            // A link that is down for a moment.
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(errno) => panic!("the relay cannot read: {errno}"),
        }
    }
}
