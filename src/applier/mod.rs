//! The second process of a node: the only one that writes content (design 2).
//!
//! It has no network and trusts nothing that net says: what it stages is signed by the publisher, what
//! it switches is ordered by the director. Net starts it from its own binary and talks to it over its
//! standard input.

pub mod ipc;

use crate::wire::id::Name;
use crate::wire::seal::PublicKey;
use ipc::{Channel, Request, Service};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

/// The hidden subcommand by which the binary becomes the applier.
pub const SUBCOMMAND: &str = "applier";

/// What the applier may touch and whom it obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sites and their directories; at most [`Profile::SITES_MAX`](crate::wire::control::Profile::SITES_MAX).
    pub sites: Vec<(Name, PathBuf)>,
    /// Signs assignments.
    pub publisher: PublicKey,
    /// Signs orders.
    pub director: PublicKey,
}

/// Starts the applier. The channel does not block; the first reply is [`ipc::Reply::Sites`].
pub fn spawn(config: &Config) -> io::Result<(Channel, Child)> {
    let (net, applier) = ipc::pair()?;
    // The command owns the applier's end and is dropped here, so that the socket closes with the child.
    let child = Command::new(std::env::current_exe()?)
        .arg(SUBCOMMAND)
        .stdin(Stdio::from(OwnedFd::from(applier)))
        .spawn()?;
    configure(&net, config)?;
    net.set_nonblocking(true)?;
    Ok((net, child))
}

/// Sends what the applier must know first.
pub fn configure(net: &Channel, config: &Config) -> io::Result<()> {
    let sites = u16::try_from(config.sites.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more sites than a node may have"))?;
    let Config { publisher, director, .. } = *config;
    net.send(&Request::Configure { publisher, director, sites }, None)?;
    for (name, root) in &config.sites {
        net.send(&Request::Site { name: name.clone(), root: root.clone() }, None)?;
    }
    Ok(())
}

/// The applier's whole life: its standard input is the socket; it ends when net closes the other end.
pub fn main() -> ExitCode {
    let service = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => Service::from(fd),
        Err(_) => return ExitCode::from(71),
    };
    match service.recv() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(74),
    }
}
