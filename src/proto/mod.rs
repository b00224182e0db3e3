//! Values and decisions: pure machines. Time, randomness and measurements are arguments; nothing here
//! reads a clock, draws a random number, touches a socket or a file (design D1).
//!
//! Every machine keeps one contract: inputs go in through `on_*`, actions come out of `poll` until it
//! returns `None`, and `next_deadline` says when to poll again though nothing came in.

pub mod aggregate;
pub mod arrivals;
pub mod fec;
pub mod members;
pub mod plan;
pub mod random;
pub mod rate;
pub mod receiver;
pub mod sender;

#[cfg(test)]
mod transport_tests;
