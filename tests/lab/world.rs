//! Machines and cables: namespaces, bridges, veth pairs.

use netlink::bridge::Bridge;
use netlink::{Address, Lab, Namespace};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::harness::{SOON, Said, run, wait_for};

const INSIDE: &str = "FARMCAST_LAB_INSIDE";
static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Runs `body` in a user, network and mount namespace of its own, by starting this test binary again for the
/// test `name` alone. `tools` are programs that the case needs beside `ip`.
pub fn in_lab(name: &str, tools: &[&str], body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Err(reason) = lab_works(tools) {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Past the capture of the test harness, so that nobody takes a skipped case for a passed one.
        let _ = writeln!(std::io::stderr(), "SKIPPED, not shown here ({count} so far): {name}: {reason}");
        return;
    }
    let own = std::env::current_exe().expect("a running program knows its file");
    let stalls = Stalls::watch();
    let output = Command::new("unshare")
        .arg("-Urnm")
        .arg(own)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare has just been there");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let stall = stalls.longest();
    let passed = output.status.success() && text.contains("1 passed");
    if !passed && stall > STALL_MAX {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let reason = format!("it failed while the machine stood still for {stall:?}; run it on a quiet one");
        let _ = writeln!(std::io::stderr(), "SKIPPED, not shown here ({count} so far): {name}: {reason}");
        return;
    }
    assert!(passed, "inside the namespace, longest stall {stall:?}:\n{text}");
    if std::env::var_os("FARMCAST_LAB_VERBOSE").is_some() {
        println!("{text}");
    }
}

/// A machine that runs nobody for so long loses leaders whatever the code does: a node here misses its leader after
/// 1,400 ms (`harness::ELECTION`), and several processes need their turns within that.
const STALL_MAX: Duration = Duration::from_millis(500);

/// Watches how late a sleeper wakes: where the machine is busy or its host gives it no time, cases that live by the
/// timers of the network cannot be judged.
struct Stalls {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<Duration>,
}

impl Stalls {
    fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let watcher = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !flag.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(NAP);
                longest = longest.max(start.elapsed().saturating_sub(NAP));
            }
            longest
        });
        Self { over, watcher }
    }

    fn longest(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("it only sleeps")
    }
}

fn lab_works(tools: &[&str]) -> Result<(), String> {
    for tool in [&["ip", "nsenter"], tools].concat() {
        Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| format!("no `{tool}` here: {error}"))?;
    }
    let script =
        "ip link add sw0 type bridge && ip link add c0 type veth peer name c1 && mount -t tmpfs t /srv";
    let probe = Command::new("unshare").args(["-Urnm", "sh", "-c", script]).output();
    match probe {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("no `unshare` here: {error}")),
    }
}

/// A machine: a network namespace, kept by a process that ends with the test.
pub struct Machine {
    pub name: String,
    anchor: Child,
    with_files: bool,
}

impl Machine {
    /// A machine with the files of this one.
    pub fn new(name: &str) -> Self {
        Self::boot(name, &["--net"], "")
    }

    /// A machine with /etc, /run, /srv and /var/lib of its own, all empty.
    pub fn with_own_files(name: &str) -> Self {
        let mounts = "for d in /etc /run /srv /var/lib; do mount -t tmpfs lab $d || exit 1; done; ";
        Self::boot(name, &["--net", "--mount"], mounts)
    }

    fn boot(name: &str, namespaces: &[&str], prepare: &str) -> Self {
        // `cat` waits for the end of its input: the death of the test, however it comes.
        let script = format!("{prepare}ip link set lo up && echo up && exec cat");
        let mut anchor = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let mut said = BufReader::new(anchor.stdout.take().expect("it is a pipe"));
        said.read_line(&mut line).expect("the machine says that it is up");
        assert_eq!(line, "up\n", "machine {name}");
        Self { name: name.to_owned(), anchor, with_files: namespaces.len() > 1 }
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::of_process(self.anchor.id()).expect("its process lives")
    }

    pub fn links(&self) -> Lab {
        Lab::inside(&self.namespace()).expect("a netlink socket")
    }

    /// What goes before a command line so that it runs on this machine.
    pub fn wrapper(&self) -> Vec<OsString> {
        let id = self.anchor.id().to_string();
        let mut words = vec!["nsenter", "--target", &id, "--net"];
        words.extend(self.with_files.then_some("--mount"));
        words.into_iter().map(OsString::from).collect()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let wrapper = self.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(words).env_remove("FARMCAST_SOCKET").env_remove("NOTIFY_SOCKET");
        command
    }

    /// Runs a command line of the shell on this machine, which must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let said = run(self.command(&["sh", "-c", script]), SOON);
        assert_eq!(said.code, Some(0), "{}: {script}: {said:?}", self.name);
        said.stdout
    }

    pub fn set_link(&self, up: bool) {
        let mut links = self.links();
        let eth0 = links.link("eth0").expect("eth0").index;
        if up { links.set_up(eth0) } else { links.set_down(eth0) }.expect("the link changes");
    }

    /// A figure of `/proc/net/snmp`, which is this machine's own.
    pub fn snmp(&self, section: &str, name: &str) -> u64 {
        let path = format!("/proc/{}/net/snmp", self.anchor.id());
        let text = std::fs::read_to_string(path).expect("/proc/net/snmp");
        let mut rows = text.lines().filter(|line| line.starts_with(section));
        let names = rows.next().expect("the section").split_whitespace();
        let values = rows.next().expect("its values").split_whitespace();
        let found = names.zip(values).find(|(known, _)| *known == name).expect("the figure");
        found.1.parse().expect("a number")
    }

    /// A file of this machine as its processes see it.
    pub fn file(&self, path: &str) -> std::path::PathBuf {
        format!("/proc/{}/root{path}", self.anchor.id()).into()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

/// A bridge in the lab's own namespace: a switch that nobody but its cables knows.
pub fn create_switch(name: &str, how: Bridge) {
    let mut lab = Lab::here().expect("a netlink socket");
    lab.create_bridge(name, how).expect("a bridge");
    let bridge = lab.link(name).expect("it was made").index;
    lab.set_up(bridge).expect("it comes up");
}

/// A cable from `switch` to `interface` of a machine; its end at the switch is called `port`.
pub fn plug(machine: &Machine, interface: &str, switch: &str, port: &str, address: Ipv4Addr) {
    let mut lab = Lab::here().expect("a netlink socket");
    lab.create_veth(port, interface, Some(&machine.namespace())).expect("a cable");
    let bridge = lab.link(switch).expect("the switch").index;
    let near = lab.link(port).expect("it was made").index;
    lab.set_master(near, Some(bridge)).expect("it is plugged in");
    lab.set_up(near).expect("it comes up");
    let mut inside = machine.links();
    let far = inside.link(interface).expect("it was made").index;
    inside.add_address(Address { link: far, address: IpAddr::V4(address), prefix: 24 }).expect("an address");
    inside.set_up(far).expect("it comes up");
    wait_for("the cable's carrier", SOON, || inside.link(interface).ok().filter(|link| link.running));
}

/// A command in the lab's own namespace, where the switches are.
#[track_caller]
pub fn lab_sh(script: &str) -> Said {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let said = run(command, SOON);
    assert_eq!(said.code, Some(0), "{script}: {said:?}");
    said
}
