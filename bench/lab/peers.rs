//! The same file to the same members by other tools, each with its best settings on these links. Each stores
//! the file; only the lab checks it.

use crate::content::same;
use crate::process::{self, Running};
use crate::result::Measured;
use crate::segment::{Machine, Segment};
use clap::ValueEnum;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const GROUP: &str = "239.255.77.1";
const PRIVATE_GROUP: &str = "239.255.77.2";
const PORT: u16 = 7_900;
/// Seconds after which a tool that has not finished is given up.
const PATIENCE: u64 = 300;
/// For joins and sockets of receivers: none of the tools says when it is ready.
const READY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Udpcast,
    Uftp,
    /// A TCP copy per member, all at once.
    Tcp,
    /// An rsync daemon per member, whole files, all at once.
    Rsync,
}

impl Peer {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udpcast => "udpcast",
            Self::Uftp => "uftp",
            Self::Tcp => "tcp",
            Self::Rsync => "rsync",
        }
    }

    pub fn is_installed(self) -> bool {
        match self {
            Self::Udpcast => process::is_installed("udp-sender") && process::is_installed("udp-receiver"),
            Self::Uftp => process::is_installed("uftp") && process::is_installed("uftpd"),
            Self::Tcp => true,
            Self::Rsync => process::is_installed("rsync"),
        }
    }

    pub const fn advice(self) -> &'static str {
        match self {
            Self::Udpcast => "not installed: apt install udpcast",
            Self::Uftp => "not installed: apt install uftp",
            Self::Tcp => "is part of the lab",
            Self::Rsync => "not installed: apt install rsync",
        }
    }

    /// Its receivers are daemons: the sender's end is the file's end at everybody.
    const fn has_daemons(self) -> bool {
        matches!(self, Self::Uftp | Self::Rsync)
    }
}

pub fn measure(peer: Peer, segment: &Segment, file: &Path, place: &Path) -> Result<Measured, String> {
    let tool = peer.name();
    let dir = place.join(tool);
    make(&dir)?;
    let file_name = file.file_name().ok_or("a file without a name")?;

    let mut receivers = Vec::new();
    let mut stored = Vec::new();
    for (number, member) in segment.members.iter().enumerate() {
        let home = dir.join(format!("{number}"));
        make(&home)?;
        let target = home.join(file_name);
        let mut command = receiver(peer, number, member, &home, &target)?;
        receivers.push(Running::start(&mut command, &dir.join(format!("{number}.log")))?);
        stored.push(target);
    }
    std::thread::sleep(READY);

    let before = segment.sender.sent_bytes()?;
    let mut commands = senders(peer, segment, file)?;
    let log = dir.join("sender.log");
    let start = Instant::now();
    let mut senders: Vec<Running> =
        commands.iter_mut().map(|command| Running::start(command, &log)).collect::<Result<_, _>>()?;
    let mut well = true;
    let first = if peer.has_daemons() { &mut senders } else { &mut receivers };
    for process in first {
        well &= process.wait(tool, PATIENCE)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    if !peer.has_daemons() {
        for sender in &mut senders {
            well &= sender.wait(tool, PATIENCE)?;
        }
    }
    receivers.iter_mut().for_each(Running::stop);
    let wire_bytes = segment.sender.sent_bytes()? - before;
    let completed = stored.iter().filter(|path| same(file, path)).count();
    if !well || completed < stored.len() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        eprintln!("lab: {tool} delivered to {completed} of {}; its sender said:\n{said}", stored.len());
    }
    std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let cpu = |processes: &[Running]| processes.iter().map(Running::cpu_seconds).sum();
    let (cpu_sender, cpu_members) = (cpu(&senders), cpu(&receivers));
    Ok(Measured { tool, seconds, wire_bytes, completed, cpu_sender, cpu_members, farm: None })
}

/// Seconds for a tree by rsync, to all members at once.
pub fn measure_tree(segment: &Segment, tree: &Path, place: &Path) -> Result<f64, String> {
    let mut daemons = Vec::new();
    for (number, member) in segment.members.iter().enumerate() {
        let home = place.join(format!("{number}"));
        make(&home)?;
        let mut command = receiver(Peer::Rsync, number, member, &home, &home)?;
        daemons.push(Running::start(&mut command, &home.with_extension("log"))?);
    }
    std::thread::sleep(READY);
    let start = Instant::now();
    let log = place.join("sender.log");
    let mut senders = Vec::new();
    for member in &segment.members {
        let mut command = rsync(segment, tree, member);
        senders.push(Running::start(command.arg("--recursive"), &log)?);
    }
    for sender in &mut senders {
        if !sender.wait("rsync", PATIENCE)? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("rsync failed; it said:\n{said}"));
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn receiver(
    peer: Peer,
    number: usize,
    member: &Machine,
    home: &Path,
    target: &Path,
) -> Result<Command, String> {
    Ok(match peer {
        Peer::Udpcast => {
            let mut command = member.command("udp-receiver");
            command.args(["--nokbd", "--interface", "eth0", "--rcvbuf", "4194304", "--no-progress"]);
            command.args(["--exit-wait", "50", "--nosync", "--file"]).arg(target);
            command
        }
        Peer::Uftp => {
            let uid = format!("{:#010x}", number + 1);
            let mut command = member.command("uftpd");
            command.args(["-d", "-I", "eth0", "-U", &uid, "-M", GROUP, "-B", "4194304", "-D"]).arg(home);
            command
        }
        Peer::Tcp => {
            let mut command = member.command(&own_program()?);
            command.arg("copy-in").arg(PORT.to_string()).arg(target);
            command
        }
        Peer::Rsync => {
            let config = home.with_extension("conf");
            let text = format!("[to]\npath = {}\nread only = no\nuse chroot = no\n", home.display());
            std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
            // As root it would want to become somebody else, which a user namespace does not allow.
            let mut command = member.command("unshare");
            command.args(["--user", "--map-user=1000", "--", "rsync", "--daemon", "--no-detach"]);
            command.args(["--port", &PORT.to_string(), "--config"]).arg(config);
            command
        }
    })
}

/// One process, or one per member.
fn senders(peer: Peer, segment: &Segment, file: &Path) -> Result<Vec<Command>, String> {
    let members = segment.members.len();
    Ok(match peer {
        Peer::Udpcast => {
            let mut command = segment.sender.command("udp-sender");
            command.args(["--nokbd", "--interface", "eth0", "--no-progress", "--mcast-data-address", GROUP]);
            command.args(["--min-receivers", &members.to_string(), "--full-duplex", "--max-wait", "3"]);
            command.args(["--slice-size", "1024", "--rexmit-hello-interval", "50", "--file"]).arg(file);
            vec![command]
        }
        Peer::Uftp => {
            let ids: Vec<String> = (1..=members).map(|number| format!("{number:#010x}")).collect();
            // It has to be told the rate: 95 % of the link leaves room for headers; -1 is as fast as it can.
            let rate =
                segment.links.rate.map_or("-1".to_owned(), |rate| (rate / 1_000 * 95 / 100).to_string());
            let mut command = segment.sender.command("uftp");
            command.args(["-I", "eth0", "-M", GROUP, "-P", PRIVATE_GROUP, "-B", "4194304", "-b", "1400"]);
            command.args(["-H", &ids.join(","), "-r", "0.05:0.01:15.0", "-R", &rate]).arg(file);
            vec![command]
        }
        Peer::Tcp => {
            let mut command = segment.sender.command(&own_program()?);
            command.arg("copy-out").arg(file);
            command.args(segment.members.iter().map(|member| format!("{}:{PORT}", member.address)));
            vec![command]
        }
        Peer::Rsync => segment.members.iter().map(|member| rsync(segment, file, member)).collect(),
    })
}

fn rsync(segment: &Segment, from: &Path, member: &Machine) -> Command {
    let mut command = segment.sender.command("rsync");
    command.args(["--whole-file", "--inplace"]).arg(from);
    command.arg(format!("rsync://{}:{PORT}/to/", member.address));
    command
}

fn own_program() -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
    own.to_str().map(str::to_owned).ok_or_else(|| "the own program's path is not UTF-8".to_owned())
}

fn make(dir: &Path) -> Result<(), String> {
    std::fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))
}
