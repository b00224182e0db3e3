//! The net process of a node: one loop that owns every socket and parses every byte of the network.

pub mod config;
pub mod console;
pub mod identity;
pub mod store;
pub mod verbs;
