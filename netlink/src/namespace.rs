//! Network namespaces: each a machine of its own as far as links, addresses and sockets go.
//!
//! A namespace belongs to a thread, so whatever is done in one is done on a thread that lives for it only.
//! Child processes that such a thread starts are born in its namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;

use crate::error::Error;
use crate::socket::{enter_network_namespace, new_network_namespace};

/// An open network namespace; it lives until this is dropped and no process is left in it.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new, empty namespace: a loopback interface that is down, and nothing else. Needs CAP_SYS_ADMIN,
    /// which everybody has inside a user namespace of their own.
    pub fn create() -> Result<Self, Error> {
        let made = on_own_thread(|| {
            new_network_namespace()?;
            File::open("/proc/thread-self/ns/net")
        });
        made.map(|file| Self { file }).map_err(|error| Error::socket("create network namespace", error))
    }

    /// The namespace that the process `pid` is in.
    pub fn of_process(pid: u32) -> Result<Self, Error> {
        let file = File::open(format!("/proc/{pid}/ns/net"));
        file.map(|file| Self { file }).map_err(|error| Error::socket("open network namespace", error))
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        let file = File::open("/proc/thread-self/ns/net");
        file.map(|file| Self { file }).map_err(|error| Error::socket("open network namespace", error))
    }

    /// Runs `act` inside and returns what it returns: opens sockets, starts processes.
    ///
    /// # Errors
    /// If the namespace cannot be entered; then `act` is not called.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let inside = on_own_thread(|| {
            enter_network_namespace(&self.file)?;
            Ok(act())
        });
        inside.map_err(|error| Error::socket("enter network namespace", error))
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Runs `act` on a thread that ends with it; a panic in it goes on in the caller.
fn on_own_thread<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match scope.spawn(act).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
