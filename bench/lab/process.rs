//! Child processes of the lab, in whichever namespace they belong; each is killed by its id when its owner
//! goes.

use netlink::Namespace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

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
    /// Processor time of it and of those of its children that it waited for; known once it has ended.
    cpu_seconds: f64,
}

impl Running {
    /// What it says is appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
        let again = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(again).spawn();
        let child = child.map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
        Ok(Self { child, cpu_seconds: 0.0 })
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
        // The kernel adds a child's time to ours when it is waited for.
        let before = children_cpu();
        let status = self.child.try_wait().ok().flatten()?;
        self.cpu_seconds += children_cpu() - before;
        Some(status)
    }

    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        // One that has ended needs no signal.
        let _ = kill(pid, signal);
    }

    /// Waits for its end: true if it ended well.
    pub fn wait(&mut self, what: &str, seconds: u64) -> Result<bool, String> {
        crate::clock::wait_for(what, seconds, || self.ended()).map(|status| status.success())
    }

    /// Asks it to end, and waits a moment.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = crate::clock::wait_for("the end of a process", 5, || self.ended());
    }
}

fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel knows what our children used");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Whether a program is found on the PATH.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
