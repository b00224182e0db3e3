//! One event to one program, on its standard input.

use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// All of the environment that a program gets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What it says on standard error stands in the message where it fails.
const SAID_MAX: u64 = 4_096;
const LAST_WORD: Duration = Duration::from_millis(200);

/// Runs the program until it ends, at most for `limit`; then it and all that it started is killed. A sentence where it
/// failed.
pub async fn run(command: &[String], body: &str, limit: Duration) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no program is given")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let (group, stdin, stderr) = (child.id(), child.stdin.take(), child.stderr.take());
    let listening = tokio::spawn(async move {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(SAID_MAX).read_to_end(&mut said).await;
        }
        said
    });
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read it may still do what it is for.
            let _ = stdin.write_all(body.as_bytes()).await;
        }
    };
    let ended = tokio::time::timeout(limit, async { tokio::join!(write, child.wait()).1 }).await;
    let status = match ended {
        Ok(status) => status.map_err(|error| format!("{program}: {error}"))?,
        Err(_) => {
            kill(group);
            return Err(format!("{program} did not end within {} s and was killed", limit.as_secs()));
        }
    };
    // Whoever it left behind may hold its standard error open.
    let said = tokio::time::timeout(LAST_WORD, listening).await.ok().and_then(Result::ok).unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let last: String = last.chars().filter(|letter| !letter.is_control()).take(200).collect();
    Err(format!("{program} ended with {status}{}{last}", if last.is_empty() { "" } else { ": " }))
}

/// Kills a process, which has not been waited for, with all of its group.
fn kill(group: Option<u32>) {
    if let Some(pid) = group.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit_ms: u64) -> Result<(), String> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&words, "{\"id\":1}\n", Duration::from_millis(limit_ms)).await
    }

    #[tokio::test]
    async fn a_program_gets_the_event_and_an_empty_environment_and_says_why_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("cat > {0}; env | sort | cut -d= -f1 | tr '\\n' ' ' >> {0}", out.display());
        shell(&script, 20_000).await.unwrap();
        // The shell adds PWD and the like itself.
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(
            text.starts_with("{\"id\":1}\n") && text.contains("PATH") && !text.contains("HOME"),
            "{text}"
        );
        let failed = shell("echo first >&2; echo 'no route' >&2; exit 3", 20_000).await.unwrap_err();
        assert!(failed.contains("exit status: 3: no route"), "{failed}");
        let none = run(&["/no/such".to_owned()], "", Duration::from_secs(1)).await.unwrap_err();
        assert!(none.starts_with("/no/such: "), "{none}");
        // It closes its input at once.
        shell("exec 0<&-; exit 0", 20_000).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let hung = shell(&script, 500).await.unwrap_err();
        assert!(hung.contains("did not end within"), "{hung}");
        let child: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for _ in 0..400 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("what it started is still there");
    }
}
