//! The real programs on real networks: machines that are network namespaces, joined by bridges, with loss,
//! slow links, cables pulled out, and switches that keep multicast to themselves.
//!
//! Every case runs in a user and network namespace of its own: no root is needed, and nothing of this machine
//! is touched. Where that is not possible the cases say so on standard error and count as skipped.
#![cfg(all(feature = "node", feature = "ccm"))]
#![expect(clippy::disallowed_methods, reason = "it waits for other processes, outside of any loop")]

mod delay;
mod farm;
#[path = "../farm/harness.rs"]
#[allow(dead_code, reason = "shared with tests/farm, which uses the rest")]
mod harness;
mod world;

mod bandwidth;
mod groups;
mod leaders;
mod links;
mod loss;
mod mtu;
mod readme;
mod reports;
mod resume;
mod segments;
mod snooping;
mod spread;
mod staging;
mod steering;
mod tree;
