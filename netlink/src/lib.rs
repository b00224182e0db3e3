//! Links, addresses, routes and qdiscs of the Linux kernel, over rtnetlink.
//!
//! Two users: the daemon follows what happens to its links ([`monitor`], [`ethtool`]); the lab of the tests
//! and benches builds segments out of namespaces, veth pairs, bridges and qdiscs ([`lab`], [`namespace`]).
//!
//! [`message`] turns bytes into values and back and is all that reads what the kernel sent; [`link`],
//! [`address`], [`route`], [`ethtool`], [`veth`], [`bridge`] and [`qdisc`] each know one kind of message;
//! [`socket`] is the only file with unsafe code.

pub mod address;
pub mod bridge;
#[cfg(test)]
mod captures;
pub mod error;
pub mod ethtool;
pub mod lab;
pub mod link;
pub mod message;
pub mod monitor;
pub mod namespace;
pub mod qdisc;
pub mod route;
pub mod socket;
pub mod veth;

pub use address::Address;
pub use error::Error;
pub use lab::Lab;
pub use link::Link;
pub use monitor::{Event, Monitor, Snapshot};
pub use namespace::Namespace;
pub use socket::Socket;
