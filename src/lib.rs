//! The map of farmcast.
//!
//! Data flows one way: bytes become values (`wire`), values become decisions (`proto`, the pure files of
//! `ccm`), decisions become calls (`io`, `content`), and two programs put them together (`node` with its
//! second process `applier`; `ccm` with the operator's `cli`).
//!
//! | room | subject | may import |
//! |---|---|---|
//! | [`time`] | our instants and durations; no clock | - |
//! | [`logging`] | the log backend of both programs; no clock | - |
//! | [`wire`] | bytes and values: all that crosses a machine border or lies on disk | `time` |
//! | [`proto`] | values and decisions: pure machines | `time`, `wire` |
//! | [`content`] | trees of files, the same on both sides | `wire` |
//! | [`io`] | decisions and the kernel: the only unsafe code, clock and sockets | `time` |
//! | [`applier`] | the second process of a node: the only one that writes content | `time`, `content`, `wire`, `io` |
//! | [`node`] | the first process of a node: one loop | all above but `content`, and `netlink` |
//! | [`ccm`] | the controller | `time`, `wire`, `content`, pure parts of `proto` |
//! | [`cli`] | the operator's commands, and the demo | API types and the doors of `ccm`, `content`, `wire` |
//!
//! `tests/tidy.rs` enforces the table. Start reading with docs/ARCHITECTURE.md, which walks one publish
//! through the files.

pub mod content;
pub mod logging;
pub mod time;
pub mod wire;

#[cfg(feature = "node")]
pub mod applier;
#[cfg(feature = "node")]
pub mod io;
#[cfg(feature = "node")]
pub mod node;
pub mod proto;

#[cfg(feature = "ccm")]
pub mod ccm;
#[cfg(feature = "ccm")]
pub mod cli;
