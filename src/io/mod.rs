//! Decisions become calls of the kernel. The only room with unsafe code, clock and sockets.

pub mod clock;
pub mod fault;
pub mod mmap;
pub mod multicast;
pub mod reactor;
pub mod signal;
