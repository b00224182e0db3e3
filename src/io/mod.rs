//! Decisions become calls of the kernel. The only room with unsafe code, clock and sockets.

pub mod clock;
pub mod fault;
pub mod http;
pub mod mmap;
pub mod multicast;
pub mod notify;
pub mod pacing;
pub mod packet;
pub mod probe;
pub mod raw;
pub mod reactor;
pub mod signal;
pub mod stream;
pub mod tls;
