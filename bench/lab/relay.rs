//! A cable with a delay, for kernels without netem: a program between two links that passes frames on.
//!
//! Frames from `far` to `near` wait as long as they are told, the others pass at once. It is a program on the
//! same processors and no netem; at 200 Mbit/s it takes some tenth of one. What it could not take is counted.

use crate::Scenario;
use crate::links::Links;
use crate::process::{self, Running};
use crate::segment::{Figure, figure, told};
use farmcast::proto::random::Rng;
use netlink::{Lab, Namespace};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The link towards the bridge, and the one towards the sender.
const NEAR: &str = "near";
const FAR: &str = "far";
/// Frames that may wait; more are dropped, as netem does.
const HELD_MAX: usize = 100_000;
/// Frames read from a link before the other one is looked at.
const TURN: usize = 64;
/// Bytes for frames that the kernel keeps for us.
const BUFFER: usize = 8 << 20;
/// `PACKET_OUTGOING`: what we sent ourselves, shown again.
const OUTGOING: u8 = 4;

/// The relay as the lab sees it.
pub struct Relayed {
    namespace: Namespace,
    _process: Running,
}

impl Relayed {
    /// Makes the cables between `port` and the link of the machine in `far`, and starts the relay between.
    pub fn plug(
        lab: &mut Lab,
        port: &str,
        machine: &Namespace,
        links: &Links,
        dir: &Path,
    ) -> Result<Self, String> {
        let namespace = Namespace::create().map_err(told)?;
        lab.create_veth(port, NEAR, Some(&namespace)).map_err(told)?;
        let mut inside = Lab::inside(&namespace).map_err(told)?;
        inside.create_veth(FAR, "eth0", Some(machine)).map_err(told)?;
        for name in [NEAR, FAR] {
            let index = inside.link(name).map_err(told)?.index;
            inside.set_mtu(index, links.payload_mtu).map_err(told)?;
            inside.set_up(index).map_err(told)?;
        }
        let own = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
        let mut command = process::inside(&namespace, own.to_str().ok_or("a path that is not UTF-8")?);
        let [delay, jitter, reorder, seed] = [
            links.delay.to_string(),
            links.jitter.to_string(),
            links.reorder.to_string(),
            links.seed.to_string(),
        ];
        command.args(["relay", "--delay-us", &delay, "--jitter-us", &jitter]);
        command.args(["--reorder", &reorder, "--seed", &seed]);
        let process = Running::start(&mut command, &dir.join("relay.log"))?;
        Ok(Self { namespace, _process: process })
    }

    /// Frames that came from the sender and did not leave towards the members.
    pub fn lost(&self) -> Result<u64, String> {
        let came = figure(&self.namespace, FAR, Figure::PacketsReceived)?;
        let left = figure(&self.namespace, NEAR, Figure::PacketsSent)?;
        Ok(came.saturating_sub(left))
    }
}

/// The program itself.
#[derive(clap::Args)]
pub struct Relay {
    #[arg(long)]
    delay_us: u64,
    #[arg(long)]
    jitter_us: u64,
    /// Percent of frames that do not wait.
    #[arg(long)]
    reorder: f64,
    #[arg(long)]
    seed: u64,
}

impl Scenario for Relay {
    const NAME: &str = "relay";
    const ABOUT: &str = "Passes frames on between two links, one way with a delay";
    const IN_LAB: bool = false;

    fn run(&self, _: &Path) -> Result<(), String> {
        let fail = |what: &'static str| move |errno: Errno| format!("the relay cannot {what}: {errno}");
        let near = open(NEAR).map_err(fail("open the link near"))?;
        let far = open(FAR).map_err(fail("open the link far"))?;
        let mut rng = Rng::new(self.seed);
        let mut waiting = Waiting::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let now = Instant::now();
            while let Some(frame) = waiting.due(now) {
                pass(&near, &frame);
            }
            for _ in 0..TURN {
                let Some(len) = read(&far, &mut buffer).map_err(fail("read"))? else { break };
                waiting.push(now + self.wait(&mut rng), &buffer[..len]);
            }
            for _ in 0..TURN {
                let Some(len) = read(&near, &mut buffer).map_err(fail("read"))? else { break };
                pass(&far, &buffer[..len]);
            }
            let left = waiting.next().map(|at| at.saturating_duration_since(Instant::now()));
            let mut links = [&near, &far].map(|link| PollFd::new(link.as_fd(), PollFlags::POLLIN));
            match ppoll(&mut links, left.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(fail("wait")(errno)),
            }
        }
    }
}

impl Relay {
    fn wait(&self, rng: &mut Rng) -> Duration {
        if rng.chance(self.reorder / 100.0) {
            return Duration::ZERO;
        }
        let spread = rng.below(2 * self.jitter_us + 1);
        Duration::from_micros((self.delay_us + spread).saturating_sub(self.jitter_us))
    }
}

/// A frame that waits. Compared first by its time, then by when it came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    leaves: Instant,
    serial: u64,
    bytes: Box<[u8]>,
}

#[derive(Default)]
struct Waiting {
    frames: BinaryHeap<Reverse<Frame>>,
    serial: u64,
}

impl Waiting {
    fn push(&mut self, leaves: Instant, bytes: &[u8]) {
        if self.frames.len() < HELD_MAX {
            self.serial += 1;
            self.frames.push(Reverse(Frame { leaves, serial: self.serial, bytes: bytes.into() }));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.frames.peek().map(|Reverse(frame)| frame.leaves)
    }

    fn due(&mut self, now: Instant) -> Option<Box<[u8]>> {
        self.next().filter(|leaves| *leaves <= now)?;
        self.frames.pop().map(|Reverse(frame)| frame.bytes)
    }
}

/// A socket that gets and sends the frames of one link as they are.
fn open(link: &str) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    let _ =
        setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &BUFFER));
    let mut addresses = getifaddrs()?.filter(|found| found.interface_name == link);
    let address = addresses.find_map(|found| found.address?.as_link_addr().copied()).ok_or(Errno::ENODEV)?;
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

/// The next frame that came from outside.
fn read(link: &OwnedFd, buffer: &mut [u8]) -> nix::Result<Option<usize>> {
    loop {
        match recvfrom::<LinkAddr>(link.as_raw_fd(), buffer) {
            Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
            Ok((len, _)) => return Ok(Some(len)),
            Err(Errno::EAGAIN) => return Ok(None),
            // A link that is down for a moment.
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What the link does not take is lost, as on any cable; the lab counts it.
fn pass(link: &OwnedFd, frame: &[u8]) {
    let _ = send(link.as_raw_fd(), frame, MsgFlags::empty());
}
