//! The targets, one file for each kind of bytes that come from outside.

mod assignment;
mod config;
mod console;
mod delta;
mod disk;
mod document;
mod frame;
mod http;
mod ipc;
mod join;
mod message;
mod netlink;
mod stage;
mod transport;

/// A parser, or a family of parsers that the first byte tells apart.
pub struct Target {
    pub name: &'static str,
    /// Whether the bytes were taken for a whole value.
    pub run: fn(&[u8]) -> bool,
    /// Values that are taken, made by our own encoders or captured.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "envelope", run: message::envelope, seeds: message::envelope_seeds },
    Target { name: "control", run: message::control, seeds: message::control_seeds },
    Target { name: "session", run: message::session, seeds: message::session_seeds },
    Target { name: "nack", run: message::nack, seeds: message::nack_seeds },
    Target { name: "report", run: document::report, seeds: document::report_seeds },
    Target { name: "order", run: document::order, seeds: document::order_seeds },
    Target { name: "notify", run: document::notify, seeds: document::notify_seeds },
    Target { name: "key-grant", run: document::key_grant, seeds: document::key_grant_seeds },
    Target { name: "uplink", run: document::uplink, seeds: document::uplink_seeds },
    Target { name: "join", run: join::run, seeds: join::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "assignment", run: assignment::run, seeds: assignment::seeds },
    Target { name: "command", run: assignment::command, seeds: assignment::command_seeds },
    Target { name: "delta", run: delta::run, seeds: delta::seeds },
    Target { name: "stage", run: stage::run, seeds: stage::seeds },
    Target { name: "console", run: console::run, seeds: console::seeds },
    Target { name: "farmcastd-toml", run: config::node, seeds: config::node_seeds },
    Target { name: "ccm-toml", run: config::ccm, seeds: config::ccm_seeds },
    Target { name: "http", run: http::run, seeds: http::seeds },
    Target { name: "netlink", run: netlink::run, seeds: netlink::seeds },
    Target { name: "ipc", run: ipc::run, seeds: ipc::seeds },
    Target { name: "spool", run: disk::spool, seeds: disk::spool_seeds },
    Target { name: "site", run: disk::site, seeds: disk::site_seeds },
    Target { name: "hashes", run: disk::hashes, seeds: disk::hashes_seeds },
    Target { name: "identity", run: disk::identity, seeds: disk::identity_seeds },
    Target { name: "transport", run: transport::run, seeds: transport::seeds },
];
