//! Child processes of the lab, in whichever namespace they belong; each is killed by its id when its owner
//! goes.

use netlink::Namespace;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

pub const FARMCAST: &str = env!("CARGO_BIN_EXE_farmcast");

/// Runs a program to its end and returns what it printed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = format!("{} {}", text.trim(), errors.trim());
    Err(format!("{name} {:?}: {}: {}", command.get_args().collect::<Vec<_>>(), output.status, said.trim()))
}

/// The words that run a program in a namespace. The process itself enters: a thread of ours that did would
/// be the parent whose end its child is to die with.
pub fn inside(namespace: &Namespace, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    let handle = format!("--net=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    command.arg(handle).arg("--").arg(program);
    command
}

/// A process that does not outlive its owner.
pub struct Running {
    child: Child,
    started: Instant,
}

impl Running {
    /// What it says is appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
        let again = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(again).spawn();
        let child = child.map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
        Ok(Self { child, started })
    }

    /// `farmcast ARGUMENTS`, which dies with the lab however that ends.
    pub fn farmcast(
        program: &str,
        namespace: Option<&Namespace>,
        arguments: &[&OsStr],
        log: &Path,
    ) -> Result<Self, String> {
        let mut command = match namespace {
            Some(namespace) => inside(namespace, program),
            None => Command::new(program),
        };
        command.arg("child").arg(std::process::id().to_string()).args(arguments).env_remove("NOTIFY_SOCKET");
        Self::start(&mut command, log)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; seconds since its start.
    pub fn wait(&mut self, what: &str, seconds: u64) -> Result<(f64, bool), String> {
        let status = crate::wait_for(what, seconds, || self.ended())?;
        Ok((self.started.elapsed().as_secs_f64(), status.success()))
    }

    /// Asks it to end, and waits a moment.
    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = crate::wait_for("the end of a process", 5, || self.ended());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
