//! A pair of sockets between two processes of one node: whole messages, each with at most one file
//! descriptor beside it.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One end of a connected `SOCK_SEQPACKET` pair.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A connected pair; both ends block and are closed on exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&self.0, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, on);
        fcntl(&self.0, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Sends one message, whole or not at all. `BrokenPipe` where the other end is closed.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
        loop {
            let sent = sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                rights.as_slice(),
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next message's length in `buffer` and its descriptor; `None` once the other end is closed.
    /// A message longer than `buffer` or with more than one descriptor is `InvalidData`.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
        let mut control = cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Ok(message) => break message,
                Err(Errno::EINTR) => {}
                // A peer that died with messages of ours unread.
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        if message.flags.intersects(MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more than one descriptor in a message"));
        }
        let mut fd = None;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                for raw in fds {
                    // SAFETY: the kernel just made `raw` for this process and nobody else holds it.
                    fd = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than any of ours"));
        }
        Ok(if message.bytes == 0 { None } else { Some((message.bytes, fd)) })
    }
}

impl From<OwnedFd> for PacketSocket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let (a, b) = PacketSocket::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"spool").unwrap();
        a.send(b"first", Some(file.as_fd())).unwrap();
        a.send(b"second", None).unwrap();
        let mut buffer = [0; 16];
        let (len, fd) = b.recv(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..len], b"first");
        let mut passed = std::fs::File::from(fd.unwrap());
        std::io::Seek::rewind(&mut passed).unwrap();
        let mut text = String::new();
        passed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "spool");
        let (len, fd) = b.recv(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..len], fd.is_none()), (&b"second"[..], true));
    }

    #[test]
    fn a_closed_end_ends_the_other() {
        let (a, b) = PacketSocket::pair().unwrap();
        drop(a);
        assert!(b.recv(&mut [0; 16]).unwrap().is_none());
        assert_eq!(b.send(b"x", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_too_long_is_refused_and_the_next_one_read() {
        let (a, b) = PacketSocket::pair().unwrap();
        a.send(&[1; 17], None).unwrap();
        a.send(&[2; 16], None).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(b.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(b.recv(&mut buffer).unwrap().unwrap().0, 16);
    }

    #[test]
    fn a_nonblocking_end_says_that_nothing_came() {
        let (a, _b) = PacketSocket::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.recv(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
