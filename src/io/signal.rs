//! Signals as readable events.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM, SIGINT: end cleanly.
    Stop,
    /// SIGCHLD: a child has ended.
    ChildEnded,
}

#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals for this thread, and for threads and children made from now on, and reads them
    /// from a descriptor instead. SIGHUP is left alone; SIGPIPE is ignored by Rust's start-up.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        // A file that grows beyond its limit (RLIMIT_FSIZE) is an error of the write, as on a full disk.
        SigSet::from(Signal::SIGXFSZ).thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd })
    }

    /// The next signal that has arrived.
    pub fn read(&mut self) -> io::Result<Option<Request>> {
        let Some(info) = self.fd.read_signal()? else { return Ok(None) };
        let child = info.ssi_signo == Signal::SIGCHLD as u32;
        Ok(Some(if child { Request::ChildEnded } else { Request::Stop }))
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
