//! Decisions and the kernel: the only unsafe code, clock and sockets.

pub mod http;
pub mod notify;
pub mod stream;
