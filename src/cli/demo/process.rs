//! One process of the demo's farm: started, watched, ended; what it says goes to a file.

use crate::cli::child;
use crate::cli::clock::Stopwatch;
use crate::cli::failure::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Between two looks at a process that is asked to end.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// As much of a log is read to find its last lines.
const TAIL_BYTES_MAX: u64 = 16 << 10;

pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this program again with `arguments`; the new process dies with this one.
    pub fn start<A: AsRef<OsStr>>(name: &str, arguments: &[A], log: &Path) -> Result<Self, Failure> {
        let fail = |what: &str, error| Failure::Ran(format!("cannot {what} for {name}: {error}"));
        let program = std::env::current_exe().map_err(|error| fail("find the program", error))?;
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|error| fail("open the log", error))?;
        let copy = file.try_clone().map_err(|error| fail("open the log", error))?;
        let child = Command::new(program)
            .arg(child::WORD)
            .arg(std::process::id().to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            // A Ctrl-C on the terminal is for the demo alone, which then stops its farm in order.
            .process_group(0)
            .spawn()
            .map_err(|error| fail("start a process", error))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, at most for `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let clock = Stopwatch::start();
        loop {
            let ended = self.ended();
            if ended.is_some() || clock.elapsed() >= limit {
                return ended;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGTERM: a leader then says goodbye to its segment.
    pub fn ask_to_end(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended already, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines of its log, `lines` at most.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `exit status 78`, `signal 9`
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

fn tail(log: &Path, lines: usize) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_and_a_missing_log_has_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        assert!(tail(&log, 3).is_empty());
        let lines: Vec<_> = (0..10_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&log, lines.join("\n") + "\n\n").expect("a log");
        assert_eq!(tail(&log, 2), ["line 9998", "line 9999"]);
    }
}
