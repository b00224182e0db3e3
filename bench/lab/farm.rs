//! A controller, a leader and members, and what one publish of one file took.
//!
//! Nobody is asked while it runs: the times are those of the files. The leader's spool was last written when
//! its pull was done, which is when its session begins; a member's spool when its last block came; a member's
//! file of the site changed last when the applier had staged it.

use crate::content::same;
use crate::local::Local;
use crate::process::{self, Running};
use crate::report::Measured;
use crate::segment::{Machine, Segment};
use crate::wait_for;
use farmcast::ccm::api::types::{Invite, Job, Node as NodeRow, Phase};
use farmcast::wire::console::{Line, Mark};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SITE: &str = "www";
/// Ethernet, IPv4 and UDP in front of every datagram.
const HEADERS: u64 = 42;
/// Ticks of /proc/PID/stat in a second (`USER_HZ`).
const TICKS: f64 = 100.0;

/// What only farmcast tells. Times are seconds since the leader's session began.
pub struct Details {
    /// The last member had received everything.
    pub received_seconds: f64,
    pub received: Vec<f64>,
    pub staged: Vec<f64>,
    /// The job as the operator sees it: composed, pulled, multicast, staged, live everywhere.
    pub publish_seconds: f64,
    /// The leader's pull from the controller; beside that little happens between start and session.
    pub pull_seconds: f64,
    /// Of the frames that the leader sent.
    pub repair_share: f64,
    pub passes: u64,
    /// Datagrams that members' sockets had no room for.
    pub socket_drops: u64,
    /// Of the leader and of all members, both processes of each.
    pub cpu: (f64, f64),
}

struct Node<'a> {
    machine: &'a Machine,
    dir: PathBuf,
    process: Running,
}

impl Node<'_> {
    fn live(&self) -> PathBuf {
        self.dir.join(SITE).join("live")
    }

    /// When the spool's object was last written, in seconds since 1970.
    fn spooled_at(&self) -> Result<f64, String> {
        let spool = self.dir.join("state/spool");
        let entries = fs::read_dir(&spool).map_err(|error| format!("{}: {error}", spool.display()))?;
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let objects = paths.filter(|path| path.extension().is_some_and(|extension| extension == "asg"));
        let meta = objects.filter_map(|path| fs::metadata(path).ok()).max_by_key(|meta| meta.len());
        let meta = meta.ok_or_else(|| format!("{}: no object", spool.display()))?;
        Ok(meta.mtime() as f64 + meta.mtime_nsec() as f64 / 1e9)
    }

    /// When its file of the site was last touched: staging sets mode and times at its end.
    fn staged_at(&self, name: &OsStr) -> Result<f64, String> {
        let path = self.live().join(name);
        let meta = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9)
    }

    fn counters(&self) -> Result<Vec<Line>, String> {
        let told = |error: std::io::Error| format!("the text port of {}: {error}", self.machine.address);
        let stream = UnixStream::connect(self.dir.join("s")).map_err(told)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(told)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(told)?);
        let mut lines = Vec::new();
        let mut read_reply = |lines: &mut Vec<Line>| loop {
            let mut text = Vec::new();
            reader.read_until(b'\n', &mut text).map_err(told)?;
            let text = text.strip_suffix(b"\n").ok_or("the text port closed the connection")?;
            let line = Line::parse(text).map_err(|error| format!("the text port: {error}"))?;
            let last = line.mark == Mark::Last;
            lines.push(line);
            if last {
                return Ok::<(), String>(());
            }
        };
        read_reply(&mut Vec::new())?;
        writeln!(&stream, "show counters").map_err(told)?;
        read_reply(&mut lines)?;
        Ok(lines)
    }

    fn cpu_seconds(&self) -> f64 {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let applier = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        applier.chain([pid]).map(cpu_of).sum()
    }
}

fn counter(lines: &[Line], name: &str) -> u64 {
    let row = lines.iter().find(|line| line.text("name") == Some(name));
    row.and_then(|line| line.text("value")?.parse().ok()).unwrap_or(0)
}

fn cpu_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; user and system time are the 14th and 15th word.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / TICKS
}

pub fn measure(
    tool: &'static str,
    program: &str,
    options: &Local,
    segment: &Segment,
    file: &Path,
    place: &Path,
) -> Result<Measured, String> {
    let dir = place.join("farmcast");
    let file_name = file.file_name().ok_or("a file without a name")?;
    let staging = dir.join("staging");
    let make = |path: &Path| fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()));
    make(&staging)?;
    fs::hard_link(file, staging.join(file_name))
        .map_err(|error| format!("{}: {error}", staging.display()))?;

    let socket = dir.join("ccm.s");
    let listen = format!("{}:7400", segment.controller);
    let farmcast =
        |words: &[&str]| process::run(Command::new(program).arg("--socket").arg(&socket).args(words));
    let mut init = Command::new(program);
    init.args(["ccm", "init", "--listen", &listen, "--dir"])
        .arg(dir.join("ccm"))
        .arg("--socket")
        .arg(&socket);
    process::run(&mut init)?;
    let config = dir.join("ccm/ccm.toml");
    let words = [OsStr::new("ccm"), OsStr::new("run"), OsStr::new("--config"), config.as_os_str()];
    let _controller = Running::farmcast(program, None, &words, &dir.join("ccm.log"))?;
    wait_for("the controller's socket", 20, || UnixStream::connect(&socket).ok())?;

    let mut nodes = Vec::new();
    for (number, machine) in std::iter::once(&segment.sender).chain(&segment.members).enumerate() {
        let home = dir.join(format!("node{number}"));
        make(&home)?;
        nodes.push(start_node(program, number, machine, &listen, home, || {
            farmcast(&["--json", "node", "invite"])
        })?);
    }
    let staging_text = staging.to_str().ok_or("a path that is not UTF-8")?;
    farmcast(&["site", "add", SITE, "--staging", staging_text])?;
    let whole = |rows: &[NodeRow]| {
        let here = rows.iter().filter(|row| row.state != "offline" && !row.sites.is_empty()).count();
        here == nodes.len() && rows.iter().any(|row| row.state == "leader")
    };
    wait_for("a leader that knows all members", 60, || {
        let rows: Vec<NodeRow> =
            serde_json::from_str(farmcast(&["--json", "node", "list"]).ok()?.trim()).ok()?;
        whole(&rows).then_some(())
    })?;

    let before = nodes[0].counters()?;
    let cpu_before: Vec<f64> = nodes.iter().map(Node::cpu_seconds).collect();
    let published =
        Command::new(program).arg("--socket").arg(&socket).args(["--json", "publish", SITE]).output();
    let published = published.map_err(|error| format!("cannot run farmcast: {error}"))?;
    let text = String::from_utf8_lossy(&published.stdout);
    let last = text.lines().last().unwrap_or_default();
    let job: Job = serde_json::from_str(last).map_err(|error| {
        format!("the publish said no job ({error}): {text}{}", String::from_utf8_lossy(&published.stderr))
    })?;
    let cpu: Vec<f64> =
        nodes.iter().zip(&cpu_before).map(|(node, before)| node.cpu_seconds() - before).collect();
    let after = nodes[0].counters()?;
    let grown = |name: &str| counter(&after, name) - counter(&before, name);
    let wire_bytes =
        grown("datagram_sent_bytes") + grown("datagrams_sent") * HEADERS + grown("http_served_bytes");
    let socket_drops: u64 = nodes[1..]
        .iter()
        .map(|node| node.counters().map_or(0, |lines| counter(&lines, "socket_drops")))
        .sum();
    if let Some(kept) = &options.keep_logs {
        keep_logs(&nodes, &dir, kept)?;
    }

    let mut ok = job.phase == Phase::Done;
    if !ok {
        eprintln!("lab: the publish ended as {:?}: {}", job.phase, job.text);
    }
    ok &= nodes.iter().all(|node| same(file, &node.live().join(file_name)));
    let began = nodes[0].spooled_at()?;
    let members = &nodes[1..];
    let received: Vec<f64> =
        members.iter().map(|node| Ok(node.spooled_at()? - began)).collect::<Result<_, String>>()?;
    let staged: Vec<f64> = members
        .iter()
        .map(|node| node.staged_at(file_name).map_or(Ok(f64::NAN), |at| Ok(at - began)))
        .collect::<Result<_, String>>()?;
    let last_of = |times: &[f64]| times.iter().copied().fold(f64::NAN, f64::max);
    let log = fs::read_to_string(nodes[0].dir.join("log")).unwrap_or_default();
    let (passes, frames, repair) = session(&log);
    let details = Details {
        received_seconds: last_of(&received),
        publish_seconds: (job.finished_ns.saturating_sub(job.started_ns)) as f64 / 1e9,
        pull_seconds: began - job.started_ns as f64 / 1e9,
        repair_share: if frames > 0 { repair as f64 / frames as f64 } else { 0.0 },
        passes,
        socket_drops,
        cpu: (cpu[0], cpu[1..].iter().sum()),
        received,
        staged,
    };
    let seconds = last_of(&details.staged);
    nodes.iter_mut().for_each(|node| node.process.stop());
    fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(Measured { tool, seconds, wire_bytes, ok, farm: Some(details) })
}

fn start_node<'a>(
    program: &str,
    number: usize,
    machine: &'a Machine,
    ccm: &str,
    dir: PathBuf,
    invite: impl Fn() -> Result<String, String>,
) -> Result<Node<'a>, String> {
    // The first one is behind the shaped link, so it alone may lead.
    let leads = number == 0;
    let text = format!(
        "name = \"node{number}\"\nsegment = \"lab\"\nccm = \"{ccm}\"\nstate_dir = {:?}\n\
         [network]\ninterface = \"eth0\"\n[control]\nsocket = {:?}\n\
         [election]\ncan_lead = {leads}\nfactor = 1000\n[[site]]\nname = \"{SITE}\"\nroot = {:?}\n",
        dir.join("state"),
        dir.join("s"),
        dir.join(SITE),
    );
    let config = dir.join("farmcastd.toml");
    fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    let invite: Invite =
        serde_json::from_str(invite()?.trim()).map_err(|error| format!("the invitation: {error}"))?;
    let mut join = machine.command(program);
    join.args(["node", "join", "--ccm", ccm, "--token", &invite.token, "--config"]).arg(&config);
    process::run(&mut join)?;
    let words = [OsStr::new("node"), OsStr::new("--config"), config.as_os_str()];
    let process = Running::farmcast(program, Some(&machine.namespace), &words, &dir.join("log"))?;
    Ok(Node { machine, dir, process })
}

/// Passes, frames and repair frames of the leader's last session, from its log:
/// `assignment 1: 268435456 bytes to 8 members in 2 passes, 190000 frames, 1900 of them repair`.
fn session(log: &str) -> (u64, u64, u64) {
    let Some(line) = log.lines().rev().find(|line| line.contains(" of them repair")) else {
        return (0, 0, 0);
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = |unit: &str| {
        let at = words.iter().position(|word| word.trim_end_matches([',', ';']) == unit)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    (before("passes").unwrap_or(0), before("frames").unwrap_or(0), before("of").unwrap_or(0))
}

fn keep_logs(nodes: &[Node<'_>], dir: &Path, kept: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", kept.display());
    fs::create_dir_all(kept).map_err(cannot)?;
    for (number, node) in nodes.iter().enumerate() {
        fs::copy(node.dir.join("log"), kept.join(format!("node{number}.log"))).map_err(cannot)?;
        let lines = node.counters()?;
        let rows =
            lines.iter().filter_map(|line| Some(format!("{} {}\n", line.text("name")?, line.text("value")?)));
        fs::write(kept.join(format!("node{number}.counters")), rows.collect::<String>()).map_err(cannot)?;
    }
    fs::copy(dir.join("ccm.log"), kept.join("ccm.log")).map_err(cannot).map(|_| ())
}
