//! How fast the kernel sends on a TCP connection, whatever waits in its buffer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// At most so many bytes per second leave from now on, but for the first ten segments of a connection; `None`: as TCP
/// likes.
///
/// # Errors
/// The kernel's: it is no socket.
pub fn set(socket: BorrowedFd<'_>, bytes_per_second: Option<u64>) -> io::Result<()> {
    // All ones is what the kernel takes for no bound.
    let rate: libc::c_ulong = bytes_per_second.unwrap_or(u64::MAX);
    // SAFETY: the kernel reads as many bytes as `rate` has, from where it lies.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const rate).cast(),
            size_of_val(&rate) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;
    use crate::time::Duration;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn what_waits_in_the_kernel_leaves_no_faster_than_it_may() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        set(sender.as_fd(), Some(10_000_000)).unwrap();
        let begun = clock::monotonic();
        let reader = std::thread::spawn(move || receiver.read_to_end(&mut Vec::new()).unwrap());
        sender.write_all(&[7; 3_000_000]).unwrap();
        drop(sender);
        assert_eq!(reader.join().unwrap(), 3_000_000);
        // Ten segments, here of 64 KiB, leave before the kernel begins to pace.
        let took = clock::monotonic().since(begun);
        assert!(took >= Duration::from_millis(200), "{took:?}");
        set(TcpStream::connect(listener.local_addr().unwrap()).unwrap().as_fd(), None).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(set(file.as_fd(), None).is_err());
    }
}
