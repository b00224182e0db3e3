//! Decisions and the kernel: the only unsafe code, clock and sockets.

pub mod clock;
pub mod packet;
