//! Values become decisions. Pure machines: time, chance and measurements are arguments, so that a
//! simulator can run a whole farm in one thread and replay it from a seed (design D1).
//!
//! Each machine answers events with actions and names the instant at which it wants to be asked again;
//! `engine` composes the machines of a node and only routes between them.

pub mod activation;
pub mod aggregate;
pub mod arrivals;
pub mod bound;
pub mod collect;
pub mod control_channel;
pub mod election;
pub mod engine;
pub mod fec;
pub mod forward;
pub mod freshness;
pub mod gaps;
pub mod groups;
pub mod lacking;
pub mod laggards;
pub mod members;
pub mod pace;
pub mod plan;
pub mod profile;
pub mod pull;
pub mod random;
pub mod rate;
pub mod reach;
pub mod receiver;
pub mod reception;
pub mod registration;
pub mod release;
pub mod reporter;
pub mod seek;
pub mod segment;
pub mod sender;
pub mod share;
pub mod suppress;
pub mod twins;
pub mod window;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod transport_tests;
