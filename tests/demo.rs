//! The demo as a newcomer runs it: the real binary, real processes, real multicast on the loopback.
#![cfg(all(feature = "node", feature = "ccm"))]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// `--once` promises 30 s; the rest is for a machine that is busy with other tests.
const ONCE_MAX: Duration = Duration::from_secs(45);
/// For things that take moments.
const SOON: Duration = Duration::from_secs(15);

/// A demo with a temporary directory of its own, and no way to find another's socket.
fn demo(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmcast"));
    command.arg("demo").args(arguments);
    surround(&mut command, dir);
    command
}

fn surround(command: &mut Command, dir: &TempDir) {
    let runtime = dir.path().join("run");
    fs::create_dir_all(&runtime).expect("a runtime directory");
    let work = dir.path().join("tmp");
    fs::create_dir_all(&work).expect("a temporary directory");
    command.env("TMPDIR", work).env("XDG_RUNTIME_DIR", runtime).env_remove("FARMCAST_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Waits for the end, at most `limit`; then kills it and fails.
fn output_within(limit: Duration, child: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(limit) else {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("not done within {limit:?}");
    };
    waiter.join().expect("the waiter ends").expect("the receiver is there");
    output.expect("the process ends")
}

/// A demo that goes on serving; killed where a test fails before it has ended it.
struct Serving(Option<Child>);

impl Serving {
    fn start(dir: &TempDir, arguments: &[&str]) -> Self {
        Self(Some(demo(dir, arguments).spawn().expect("the demo starts")))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it has not been ended")
    }

    /// SIGTERM, and its last words.
    fn end(mut self) -> Output {
        let child = self.0.take().expect("it has not been ended");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        output_within(SOON, child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn steps(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an object per line")).collect()
}

fn said(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status)
}

/// Command lines of living processes that have `mark` in them.
fn processes_with(mark: &Path) -> Vec<String> {
    let mark = mark.to_str().expect("UTF-8");
    let entries = fs::read_dir("/proc").expect("proc is mounted").filter_map(Result::ok);
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = command_lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    texts.filter(|line| line.contains(mark)).collect()
}

/// Waits until no process and no directory of the demo is left.
fn assert_nothing_remains(dir: &TempDir, directories_too: bool) {
    let (_keep, ticks) = mpsc::channel::<()>();
    let work = dir.path().join("tmp");
    let mut left = Vec::new();
    for _ in 0..100 {
        left = processes_with(&work);
        if directories_too {
            let entries = fs::read_dir(&work).expect("the temporary directory").filter_map(Result::ok);
            left.extend(entries.map(|entry| entry.path().display().to_string()));
            let links = fs::read_dir(dir.path().join("run")).expect("the runtime directory");
            left.extend(links.filter_map(Result::ok).map(|entry| entry.path().display().to_string()));
        }
        if left.is_empty() {
            return;
        }
        let _ = ticks.recv_timeout(Duration::from_millis(50));
    }
    panic!("left behind: {left:#?}");
}

fn number(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("{field} is no number in {summary}"))
}

#[test]
fn the_story_runs_to_its_end_with_plausible_figures_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let child = demo(&dir, &["--once", "--json"]).spawn().expect("the demo starts");
    let output = output_within(ONCE_MAX, child);
    assert!(output.status.success(), "{}", said(&output));
    let steps = steps(&output);
    let names: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    let story = [
        "start",
        "controller",
        "elected",
        "elected",
        "publish",
        "verify",
        "failover",
        "restart",
        "change",
        "delta",
        "verify",
        "summary",
    ];
    assert_eq!(names, story);
    assert!(steps.iter().all(|step| step["schema"] == "farmcast.demo/1"));

    let summary = steps.last().expect("a summary");
    assert_eq!(summary.as_object().map(serde_json::Map::len), Some(14), "{summary}");
    assert_eq!(summary["ok"], true);
    assert_eq!((number(summary, "segments"), number(summary, "nodes")), (2, 6));
    assert_eq!(number(summary, "files"), 200);
    let (bytes, wire) = (number(summary, "bytes"), number(summary, "wire_bytes"));
    // Two leaders fetch it and multicast it once each; six separate copies would be 6 times the bytes. The
    // sample hardly compresses, but for its texts.
    assert!(bytes > 5 << 20 && wire > bytes && wire < 6 * bytes, "{wire} bytes sent for {bytes}");
    assert_eq!(number(summary, "delta_files"), 3);
    let (delta, delta_wire) = (number(summary, "delta_bytes"), number(summary, "delta_wire_bytes"));
    assert!(delta > 0 && delta < bytes / 10, "{delta} of {bytes} changed");
    assert!(delta_wire > 0 && delta_wire < wire / 4, "{delta_wire} bytes sent for a difference of {delta}");
    assert!((1..30_000).contains(&number(summary, "publish_ms")));
    assert!((1..10_000).contains(&number(summary, "failover_ms")));
    assert!(number(summary, "switch_spread_us") < 1_000_000);
    assert_nothing_remains(&dir, true);
}

#[test]
fn it_needs_neither_home_nor_terminal_nor_stdin_and_survives_loss() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for home in [Some("/proc"), None] {
        let mut shell = Command::new("sh");
        let line = "exec \"$0\" demo --once --json --segments 1 --nodes 2 --loss 5 <&-";
        shell.args(["-c", line, env!("CARGO_BIN_EXE_farmcast")]);
        surround(&mut shell, &dir);
        match home {
            Some(home) => shell.env("HOME", home),
            None => shell.env_remove("HOME"),
        };
        let output = output_within(ONCE_MAX, shell.spawn().expect("a shell"));
        assert!(output.status.success(), "HOME {home:?}: {}", said(&output));
        assert_eq!(steps(&output).last().map(|summary| summary["ok"].clone()), Some(Value::Bool(true)));
        assert_nothing_remains(&dir, true);
    }
}

#[test]
fn a_source_is_published_and_never_touched() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("a/empty")).expect("directories");
    for number in 0..20 {
        fs::write(source.join(format!("a/{number}.html")), format!("page {number}\n")).expect("a page");
    }
    std::os::unix::fs::symlink("a/1.html", source.join("index.html")).expect("a link");
    let before = farmcast::content::tree::hash_tree(&source).expect("a hash");
    let path = source.to_str().expect("UTF-8").to_owned();
    let arguments = ["--once", "--json", "--segments", "1", "--nodes", "2", "--source", &path];
    let output = output_within(ONCE_MAX, demo(&dir, &arguments).spawn().expect("the demo starts"));
    assert!(output.status.success(), "{}", said(&output));
    let summary = steps(&output).pop().expect("a summary");
    assert_eq!((number(&summary, "files"), number(&summary, "delta_files")), (before.files, 3));
    assert_eq!(farmcast::content::tree::hash_tree(&source).expect("a hash").hash, before.hash);
}

#[test]
fn a_serving_demo_answers_the_command_line_and_a_signal_removes_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut serving = Serving::start(&dir, &["--json", "--segments", "1", "--nodes", "2"]);
    let steps = read_until_summary(serving.child());
    assert_eq!(steps.last().map(|summary| summary["ok"].clone()), Some(Value::Bool(true)), "{steps:#?}");

    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmcast"));
        command.args(arguments);
        surround(&mut command, &dir);
        output_within(SOON, command.spawn().expect("the command starts"))
    };
    let json = |arguments: &[&str]| -> Value {
        let output = ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).expect("one JSON value")
    };
    assert_eq!(json(&["status", "--json"])["nodes_online"], 2);
    assert_eq!(json(&["node", "list", "--json"]).as_array().map(Vec::len), Some(2));
    assert_eq!(json(&["job", "list", "--json"]).as_array().map(Vec::len), Some(2));
    assert_eq!(json(&["job", "show", "1", "--json"])["phase"], "done");
    assert_eq!(json(&["site", "list", "--json"])[0]["name"], "www");
    assert!(ask(&["status"]).status.success());
    let unchanged = ask(&["publish", "www"]);
    assert!(unchanged.status.success(), "{}", said(&unchanged));
    assert!(said(&unchanged).contains("unchanged"), "{}", said(&unchanged));
    assert_eq!(ask(&["publish", "nowhere"]).status.code(), Some(5));
    assert_eq!(ask(&["job", "show", "4711"]).status.code(), Some(5));
    assert_eq!(ask(&["job", "watch", "1"]).status.code(), Some(0));

    let output = serving.end();
    assert!(output.status.success(), "{}", said(&output));
    assert_nothing_remains(&dir, true);
    assert_eq!(ask(&["status"]).status.code(), Some(69));
}

#[test]
fn no_process_survives_a_demo_that_is_killed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut serving = Serving::start(&dir, &["--json", "--segments", "1", "--nodes", "2"]);
    read_until_summary(serving.child());
    assert!(processes_with(&dir.path().join("tmp")).len() >= 3, "a controller and two nodes");
    drop(serving);
    assert_nothing_remains(&dir, false);
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let arguments = ["--once", "--json", "--segments", "1", "--nodes", "2"];
    let demos = dirs.each_ref().map(|dir| demo(dir, &arguments).spawn().expect("the demo starts"));
    for (dir, child) in dirs.iter().zip(demos) {
        let output = output_within(ONCE_MAX, child);
        assert!(output.status.success(), "{}", said(&output));
        assert_nothing_remains(dir, true);
    }
}

#[test]
fn a_story_that_nobody_reads_is_no_success() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child =
        demo(&dir, &["--once", "--segments", "1", "--nodes", "2"]).spawn().expect("the demo starts");
    drop(child.stdout.take());
    let output = output_within(ONCE_MAX, child);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    assert_nothing_remains(&dir, true);
}

#[test]
fn a_wrong_option_ends_with_one_clear_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("missing");
    let missing = missing.to_str().expect("UTF-8");
    let full = dir.path().to_str().expect("UTF-8").to_owned();
    let cases: [(&[&str], &str); 3] = [
        (&["--source", missing], "--source"),
        (&["--keep", &full], "not empty"),
        (&["--source", "/"], "holds the demo's own directory"),
    ];
    for (arguments, words) in cases {
        let output = output_within(SOON, demo(&dir, arguments).spawn().expect("the demo starts"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(stderr.contains(words) && stderr.lines().count() == 1, "{stderr}");
    }
    assert_nothing_remains(&dir, true);
}

/// Reads steps up to the summary; the process goes on.
fn read_until_summary(child: &mut Child) -> Vec<Value> {
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let (sender, receiver) = mpsc::channel();
    // Goes on reading, so that the demo never finds its reader gone; ends with the demo.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut steps: Vec<Value> = Vec::new();
    while steps.last().is_none_or(|step| step["step"] != "summary") {
        match receiver.recv_timeout(ONCE_MAX) {
            Ok(line) => steps.push(serde_json::from_str(&line).expect("an object per line")),
            Err(error) => panic!("no summary: {error}; so far {steps:#?}"),
        }
    }
    steps
}
