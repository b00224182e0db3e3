//! The lab's hands: makes links, wires them up and makes them slow or bad, in one network namespace.
//!
//! Needs CAP_NET_ADMIN there, which everybody has in a namespace of their own (`unshare -Urn`).

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use crate::address::{self, Address};
use crate::bridge::{self, Bridge};
use crate::error::Error;
use crate::link::{Link, check_name, fixed, link_named, links};
use crate::message::Request;
use crate::namespace::Namespace;
use crate::qdisc::{self, Impairment, TokenBucket};
use crate::route;
use crate::socket::{Protocol, Socket};
use crate::veth;

/// Works on the links of one namespace.
#[derive(Debug)]
pub struct Lab {
    socket: Socket,
}

impl Lab {
    /// Works in the calling thread's namespace.
    pub fn here() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Works in the given namespace, from wherever it is called later.
    pub fn inside(namespace: &Namespace) -> Result<Self, Error> {
        namespace.within(Self::here)?
    }

    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        links(&mut self.socket)
    }

    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        link_named(&mut self.socket, name)
    }

    /// Makes a cable; the far end is born in `far`, or else here.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the kernel has no veth.
    pub fn create_veth(&mut self, name: &str, peer: &str, far: Option<&Namespace>) -> Result<(), Error> {
        let request = veth::create(check_name(name)?, check_name(peer)?, far.map(AsRawFd::as_raw_fd));
        self.socket.execute(&request).map_err(|error| error.unsupported_if(&NO_KIND, "veth links"))
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the kernel has no bridges.
    pub fn create_bridge(&mut self, name: &str, how: Bridge) -> Result<(), Error> {
        let request = bridge::create(check_name(name)?, how);
        self.socket.execute(&request).map_err(|error| error.unsupported_if(&NO_KIND, "bridges"))
    }

    /// Deletes a link; of a veth pair both ends go.
    pub fn delete(&mut self, link: u32) -> Result<(), Error> {
        let mut request = Request::new("delete link", libc::RTM_DELLINK, 0);
        request.fixed(&fixed(link, 0, 0));
        self.socket.execute(&request)
    }

    pub fn set_up(&mut self, link: u32) -> Result<(), Error> {
        let flag = libc::IFF_UP as u32;
        self.change("set link up", fixed(link, flag, flag), |_| {})
    }

    pub fn set_down(&mut self, link: u32) -> Result<(), Error> {
        self.change("set link down", fixed(link, 0, libc::IFF_UP as u32), |_| {})
    }

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<(), Error> {
        self.change("set MTU", fixed(link, 0, 0), |request| {
            request.u32(libc::IFLA_MTU, mtu);
        })
    }

    /// Plugs a link into a bridge, or pulls it out of whichever it is in.
    pub fn set_master(&mut self, link: u32, bridge: Option<u32>) -> Result<(), Error> {
        self.change("set master of link", fixed(link, 0, 0), |request| {
            request.u32(libc::IFLA_MASTER, bridge.unwrap_or(0));
        })
    }

    /// Moves a link to another namespace; it arrives down and without addresses.
    pub fn move_to(&mut self, link: u32, namespace: &Namespace) -> Result<(), Error> {
        self.change("move link to namespace", fixed(link, 0, 0), |request| {
            request.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        })
    }

    /// Moves a link to the namespace of the process `pid`.
    pub fn move_to_process(&mut self, link: u32, pid: u32) -> Result<(), Error> {
        self.change("move link to process", fixed(link, 0, 0), |request| {
            request.u32(libc::IFLA_NET_NS_PID, pid);
        })
    }

    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        address::addresses(&mut self.socket)
    }

    pub fn add_address(&mut self, address: Address) -> Result<(), Error> {
        self.socket.execute(&address::add(&address))
    }

    pub fn remove_address(&mut self, address: Address) -> Result<(), Error> {
        self.socket.execute(&address::remove(&address))
    }

    /// Sends a network out by a link: `224.0.0.0/4` for multicast, `0.0.0.0/0` for all that is left.
    pub fn add_route(&mut self, network: IpAddr, prefix: u8, link: u32) -> Result<(), Error> {
        self.socket.execute(&route::add((network, prefix), link))
    }

    /// Slows a link down, in place of any other qdisc.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the kernel has no tbf.
    pub fn slow_down(&mut self, link: u32, bucket: TokenBucket) -> Result<(), Error> {
        let done = self.socket.execute(&qdisc::token_bucket(link, bucket));
        done.map_err(|error| error.unsupported_if(&NO_QDISC, "qdisc tbf (sch_tbf)"))
    }

    /// Makes a link lose, delay, double, swap or damage what it sends, in place of any other qdisc.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the kernel has no netem.
    pub fn impair(&mut self, link: u32, bad: Impairment) -> Result<(), Error> {
        let done = self.socket.execute(&qdisc::impairment(link, bad));
        done.map_err(|error| error.unsupported_if(&NO_QDISC, "qdisc netem (sch_netem)"))
    }

    /// Takes away what [`Self::slow_down`] or [`Self::impair`] put there.
    pub fn restore(&mut self, link: u32) -> Result<(), Error> {
        self.socket.execute(&qdisc::remove(link))
    }

    fn change(
        &mut self,
        doing: &'static str,
        fixed: [u8; crate::link::FIXED_BYTES],
        describe: impl FnOnce(&mut Request),
    ) -> Result<(), Error> {
        let mut request = Request::new(doing, libc::RTM_NEWLINK, 0);
        request.fixed(&fixed);
        describe(&mut request);
        self.socket.execute(&request)
    }
}

/// What the kernel answers where it has no such kind of link.
const NO_KIND: [i32; 1] = [libc::EOPNOTSUPP];
/// What the kernel answers where it has no such qdisc.
const NO_QDISC: [i32; 1] = [libc::ENOENT];
