//! `farmcast child PARENT ARGUMENT...` (hidden): becomes `farmcast ARGUMENT...`, which dies with its parent.
//!
//! The demo starts every process of its farm through this door, so that none survives it, however it ends.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::failure::Failure;

/// The first argument that opens this door.
pub const WORD: &str = "child";

pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = arguments.next().and_then(|text| text.to_str()?.parse::<i32>().ok());
    let Some(parent) = parent else {
        return Failure::Usage("`child` is for `farmcast demo` only".to_owned()).report();
    };
    become_child(parent, arguments).report()
}

/// Returns only where it fails.
fn become_child(parent: i32, arguments: impl Iterator<Item = OsString>) -> Failure {
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return Failure::Ran(format!("cannot ask to die with the parent: {error}"));
    }
    // The parent may have died before the request: then nobody will send the signal.
    if getppid().as_raw() != parent {
        return Failure::Ran("the parent has gone".to_owned());
    }
    // The request survives exec.
    match std::env::current_exe() {
        Ok(program) => {
            Failure::Ran(format!("cannot start: {}", Command::new(program).args(arguments).exec()))
        }
        Err(error) => Failure::Ran(format!("cannot find the own program: {error}")),
    }
}
