//! The second process of a node: the only one that writes content (design 2).
//!
//! It has no network and trusts nothing that net says: what it stages is signed by the publisher, what
//! it switches is ordered by the director. Net starts it from its own binary and talks to it over its
//! standard input.

mod ahead;
pub mod apply;
pub mod ipc;
mod keys;
mod log;
mod place;
mod sandbox;
mod scrub;

use crate::wire::control::Profile;
use crate::wire::seal::PublicKey;
use apply::Applier;
use ipc::{Channel, Request, Service, SiteConfig};
use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};

/// The hidden subcommand by which the binary becomes the applier.
pub const SUBCOMMAND: &str = "applier";

/// Exit code of sysexits.h: an error in input or output, here of the socket.
const EX_IOERR: u8 = 74;

/// What the applier may touch and whom it obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sites and their directories; at most [`Profile::SITES_MAX`].
    pub sites: Vec<SiteConfig>,
    /// Signs assignments.
    pub publisher: PublicKey,
    /// Signs orders.
    pub director: PublicKey,
}

/// Starts the applier. The channel does not block; the first reply is [`ipc::Reply::Sites`].
pub fn spawn(config: &Config) -> io::Result<(Channel, Child)> {
    let (net, applier) = ipc::pair()?;
    // The command owns the applier's end and ends with this statement, so that the socket closes when the
    // child does.
    let mut child = Command::new(std::env::current_exe()?)
        .arg(SUBCOMMAND)
        .stdin(Stdio::from(OwnedFd::from(applier)))
        .spawn()?;
    if let Err(error) = configure(&net, config).and_then(|()| net.set_nonblocking(true)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok((net, child))
}

/// Sends what the applier must know first.
pub fn configure(net: &Channel, config: &Config) -> io::Result<()> {
    let sites = u16::try_from(config.sites.len())
        .ok()
        .filter(|&sites| usize::from(sites) <= Profile::SITES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more sites than a node may have"))?;
    let Config { publisher, director, .. } = *config;
    net.send(&Request::Configure { publisher, director, sites }, None)?;
    for site in &config.sites {
        net.send(&Request::Site(site.clone()), None)?;
    }
    Ok(())
}

/// The applier's whole life: its standard input is the socket; it ends when net closes the other end.
pub fn main() -> ExitCode {
    // A signal to the whole group or unit is net's to obey: it closes the socket, and we end between two
    // requests instead of within one.
    // A file that grows beyond its limit is an error of the write, as on a full disk, and no reason to die.
    let stops = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
    let ours = SigSet::from_iter(stops.into_iter().chain([Signal::SIGXFSZ]));
    let _ = ours.thread_block();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // Net ended while it started; it has said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            crate::logging::say(&format!("farmcast {SUBCOMMAND}: {error}"));
            ExitCode::from(EX_IOERR)
        }
    }
}

fn serve() -> io::Result<()> {
    let service = Service::from(io::stdin().as_fd().try_clone_to_owned()?);
    log::install(service.try_clone()?);
    let Some(applier) = Applier::start(service)? else { return Ok(()) };
    let reach = sandbox::enter(applier.roots());
    applier.log(::log::Level::Info, format!("the applier is {reach}"))?;
    applier.serve()
}
