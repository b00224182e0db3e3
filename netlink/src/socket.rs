//! The netlink socket, and the two system calls about namespaces: the only unsafe code of this crate.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::Error;
use crate::message::{Malformed, Message, Messages, Request};

/// Room for one datagram. The kernel fills at most 32 KiB of a dump at a time, and one link with 100 virtual
/// functions can need more than the usual page.
const DATAGRAM_MAX: usize = 64 * 1024;
/// How long the kernel may take to answer, in seconds. It answers within the call, or something is broken.
const ANSWER_SECONDS: libc::time_t = 5;
/// How often a dump is begun again because the tables changed under it.
const DUMP_ATTEMPTS: u32 = 8;

/// Which part of the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, qdiscs.
    Route,
    /// Families with numbers given at run time, such as ethtool's.
    Generic,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of one datagram from the kernel.
    Datagram(usize),
    /// Nothing is waiting.
    Empty,
    /// The kernel had to drop messages, for we did not read fast enough (ENOBUFS).
    Overrun,
}

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket for requests; they wait for their answer.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Generic => libc::NETLINK_GENERIC,
        };
        let doing = "open netlink socket";
        let fd = create(number, 0).map_err(|error| Error::socket(doing, error))?;
        bind(&fd, 0).map_err(|error| Error::socket(doing, error))?;
        let wait = libc::timeval { tv_sec: ANSWER_SECONDS, tv_usec: 0 };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)
            .map_err(|error| Error::socket(doing, error))?;
        // The kernel's own sentence beside an error number, without an echo of the request. Older kernels have
        // neither and answer with the number alone.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = set_option(&fd, libc::SOL_NETLINK, option, &1);
        }
        Ok(Self { fd, sequence: 0, buffer: vec![0; DATAGRAM_MAX] })
    }

    /// A socket that never blocks and hears the multicast `groups` (`RTMGRP_*`); `buffer_bytes` is asked for
    /// as the kernel's queue (it doubles the figure, and may cut it to `net.core.rmem_max`).
    pub fn subscribe(groups: u32, buffer_bytes: Option<i32>) -> Result<Self, Error> {
        let doing = "subscribe to netlink events";
        let fd =
            create(libc::NETLINK_ROUTE, libc::SOCK_NONBLOCK).map_err(|error| Error::socket(doing, error))?;
        if let Some(bytes) = buffer_bytes {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes)
                .map_err(|error| Error::socket(doing, error))?;
        }
        bind(&fd, groups).map_err(|error| Error::socket(doing, error))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; DATAGRAM_MAX] })
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    pub fn execute(&mut self, request: &Request) -> Result<(), Error> {
        self.exchange(request, libc::NLM_F_ACK, |_| Ok(())).map(|_| ())
    }

    /// Sends a request and reads the one answer of kind `answer`; none if the kernel only acknowledges.
    pub fn ask<T>(
        &mut self,
        request: &Request,
        answer: u16,
        mut read: impl FnMut(Message<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        self.exchange(request, libc::NLM_F_ACK, |message| {
            if message.kind == answer {
                found = Some(read(message)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Sends a request for a whole table and reads every entry of kind `entry`. Begins again where the table
    /// changed meanwhile, for such an answer can miss entries.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        entry: u16,
        mut read: impl FnMut(Message<'_>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut entries = Vec::new();
            let steady = self.exchange(request, libc::NLM_F_DUMP, |message| {
                if message.kind == entry {
                    entries.push(read(message)?);
                }
                Ok(())
            })?;
            if steady {
                return Ok(entries);
            }
        }
        Err(Error::Unsteady { doing: request.doing })
    }

    /// Reads one datagram without sending anything.
    pub fn receive(&mut self, doing: &'static str) -> Result<(Received, &[u8]), Error> {
        let received = self.read().map_err(|error| Error::socket(doing, error))?;
        let length = if let Received::Datagram(length) = received { length } else { 0 };
        Ok((received, &self.buffer[..length]))
    }

    /// One request, all of its answers. True if the answer is of one piece.
    fn exchange(
        &mut self,
        request: &Request,
        flags: i32,
        mut read: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        let doing = request.doing;
        let malformed = |source| Error::Malformed { doing, source };
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.encode(self.sequence, flags);
        send(&self.fd, &bytes).map_err(|error| Error::socket(doing, error))?;
        let mut steady = true;
        loop {
            let length = match self.read().map_err(|error| Error::socket(doing, error))? {
                Received::Datagram(length) => length,
                Received::Overrun => return Err(Error::Unsteady { doing }),
                Received::Empty => {
                    return Err(Error::socket(doing, io::Error::from_raw_os_error(libc::ETIMEDOUT)));
                }
            };
            for message in Messages::new(&self.buffer[..length]) {
                let message = message.map_err(malformed)?;
                // An answer to an earlier request that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                steady &= message.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_NOOP => {}
                    // The end of a dump carries an error number as an error does, or nothing.
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        if i32::from(message.kind) == libc::NLMSG_DONE && message.payload.len() < 4 {
                            return Ok(steady);
                        }
                        return match message.verdict().map_err(malformed)? {
                            (0, _) => Ok(steady),
                            (number, said) => Err(Error::Refused {
                                doing,
                                source: io::Error::from_raw_os_error(number),
                                said,
                            }),
                        };
                    }
                    _ => read(message).map_err(malformed)?,
                }
            }
        }
    }

    /// Reads until a datagram comes from the kernel itself: any process may send to our port.
    fn read(&mut self) -> io::Result<Received> {
        loop {
            match receive_from(&self.fd, &mut self.buffer) {
                Ok((length, 0)) if length > self.buffer.len() => {
                    let what =
                        format!("an answer of {length} bytes, more than the {DATAGRAM_MAX} provided for");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Ok((length, 0)) => return Ok(Received::Datagram(length)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Empty),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn create(protocol: libc::c_int, flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn kernel_address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: sockaddr_nl is plain integers, for which zero is a value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    address
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;

fn bind(fd: &OwnedFd, groups: u32) -> io::Result<()> {
    let address = kernel_address(groups);
    // SAFETY: the address lives through the call and is as long as said.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) })?;
    Ok(())
}

fn set_option<T: Copy>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call and is as long as said; the kernel only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const *value).cast(), length) })?;
    Ok(())
}

fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let kernel = kernel_address(0);
    let address = (&raw const kernel).cast();
    // SAFETY: bytes and address live through the call and are as long as said; the kernel only reads them.
    let sent = unsafe {
        libc::sendto(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, address, ADDRESS_BYTES)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Length of the datagram, which may exceed the buffer, and the sender's port: 0 is the kernel.
fn receive_from(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
    let mut sender = kernel_address(0);
    let mut length = ADDRESS_BYTES;
    let address = (&raw mut sender).cast();
    // SAFETY: buffer, address and its length live through the call and are as long as said, and any bytes the
    // kernel writes are valid for their types.
    let received = unsafe {
        let bytes = buffer.as_mut_ptr().cast();
        libc::recvfrom(fd.as_raw_fd(), bytes, buffer.len(), libc::MSG_TRUNC, address, &raw mut length)
    };
    match usize::try_from(received) {
        Ok(received) => Ok((received, sender.nl_pid)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Moves the calling thread into a network namespace. Only `namespace.rs` calls it, on a thread of its own.
pub(crate) fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: no pointers are passed; the descriptor is open, for `namespace` owns it.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

/// Moves the calling thread into a new network namespace. Only `namespace.rs` calls it, on a thread of its own.
pub(crate) fn new_network_namespace() -> io::Result<()> {
    // SAFETY: no pointers are passed, and CLONE_NEWNET takes nothing from this thread that Rust relies on.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    Ok(())
}
