//! The lab: a segment of real processes on one machine, measured (`cargo bench --bench lab -- local`).
//!
//! Members live in network namespaces behind a bridge, the sender's link is slowed by tbf, loss is made by
//! netem or, where the kernel has none, by nft. No root: the lab starts itself again inside a user, mount
//! and network namespace of its own (`unshare` of util-linux), with a tmpfs that goes with it.
//!
//! - `segment.rs`: links, rates, losses
//! - `farm.rs`: a controller and nodes, and what one publish took
//! - `peers.rs`: the same file by other tools
//! - `copy.rs`: parallel TCP copies, the tool that every machine has
//! - `report.rs`: what is printed
#![expect(clippy::disallowed_methods, reason = "a bench measures real time and waits for real processes")]

mod copy;
mod farm;
mod peers;
mod process;
mod report;
mod segment;

use clap::{Parser, Subcommand, ValueEnum};
use report::{Measured, Report};
use segment::{Segment, Shape};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Set in the lab's own namespaces: the directory to work in.
const INSIDE: &str = "FARMCAST_LAB_DIR";

#[derive(Parser)]
#[command(name = "lab", about = "Measures farmcast and its peers on a segment made of namespaces")]
struct Options {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// One file from a group leader to its members: received, verified, staged.
    Local(Local),
    /// The two ends of the TCP peer, started by the lab itself.
    #[command(hide = true)]
    CopyOut { file: PathBuf, to: Vec<std::net::SocketAddr> },
    #[command(hide = true)]
    CopyIn { port: u16, file: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Udpcast,
    Uftp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Offloads {
    /// On where nothing impairs the links, else off.
    Auto,
    On,
    /// Every packet on the links is of wire size.
    Off,
}

#[derive(clap::Args)]
pub struct Local {
    /// Receivers, without the sender.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=200))]
    members: u8,
    /// Bytes of the file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "256M", value_parser = bytes)]
    size: u64,
    /// Rate of the bottleneck: a number with kbit, mbit or gbit behind it.
    #[arg(long, value_parser = rate)]
    rate: Option<u64>,
    /// Where the rate is: the sender's own link, or the bridge's port of every member.
    #[arg(long, value_enum, default_value_t = segment::Place::Sender)]
    bottleneck: segment::Place,
    /// Bytes that may wait before the bottleneck.
    #[arg(long, default_value = "256K", value_parser = bytes)]
    queue: u64,
    /// Percent of packets that each member loses, independently.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    loss: f64,
    /// Of the file's content. The kernel draws the losses from its own generator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// MTU of all links, from which the payload of a frame follows.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1_280..=9_000))]
    payload_mtu: u32,
    /// Segmentation offload of the links.
    #[arg(long, value_enum, default_value_t = Offloads::Auto)]
    offloads: Offloads,
    /// Other tools to measure in the same run, on the same links.
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
    /// Repeats of the whole.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Another build of farmcast, measured before this one in the same run: what a change has brought.
    #[arg(long)]
    against: Option<String>,
    /// Only the peers.
    #[arg(long)]
    peers_only: bool,
    /// One JSON object per tool and run.
    #[arg(long)]
    json: bool,
    /// Copies the logs of farmcast's processes there.
    #[arg(long)]
    keep_logs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Options::parse().scenario {
        None => {
            println!("lab: no scenario given; see `cargo bench --bench lab -- --help` and bench/README.md");
            Ok(())
        }
        Some(Scenario::Local(local)) => match std::env::var_os(INSIDE) {
            Some(dir) => run_local(&local, Path::new(&dir)),
            None => enter(),
        },
        Some(Scenario::CopyOut { file, to }) => copy::send(&file, &to),
        Some(Scenario::CopyIn { port, file }) => copy::receive(port, &file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("lab: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again, with the same arguments, in namespaces of its own.
fn enter() -> Result<(), String> {
    let dir = tempfile::Builder::new().prefix("lab").tempdir();
    let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
    let own = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
    let unshare = ["--user", "--map-root-user", "--net", "--mount", "--"];
    let mut command = Command::new("unshare");
    command.args(unshare).arg(own).args(std::env::args_os().skip(1));
    command.env(INSIDE, dir.path()).env_remove("FARMCAST_SOCKET");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("inside the namespaces: {status}")),
        Err(error) => Err(format!("cannot run `unshare` (util-linux): {error}")),
    }
}

fn run_local(options: &Local, dir: &Path) -> Result<(), String> {
    process::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=90%", "lab"]).arg(dir))?;
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let offloads = match options.offloads {
        Offloads::On => true,
        Offloads::Off => false,
        Offloads::Auto => options.rate.is_none() && options.loss == 0.0,
    };
    let shape = Shape {
        members: options.members,
        rate: options.rate,
        bottleneck: options.bottleneck,
        queue: options.queue,
        loss_pct: options.loss,
        mtu: options.payload_mtu,
        offloads,
    };
    let segment = Segment::build(shape)?;
    let file = dir.join("file");
    write_noise(&file, options.seed, options.size)?;
    let mut report = Report::new(options, &segment.impairment);
    for run in 0..options.runs {
        let place = dir.join(format!("run{run}"));
        std::fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let mut measured: Vec<Measured> = Vec::new();
        for &peer in &options.peer {
            let result = peers::measure(peer, &segment, &file, &place)?;
            report.print(&result, &[]);
            measured.push(result);
        }
        if !options.peers_only {
            if let Some(other) = &options.against {
                let result = farm::measure("before", other, options, &segment, &file, &place)?;
                report.print(&result, &[]);
                measured.push(result);
            }
            let result = farm::measure("farmcast", process::FARMCAST, options, &segment, &file, &place)?;
            report.print(&result, &measured);
        }
        std::fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    Ok(())
}

/// Bytes that nothing compresses, the same for the same seed.
fn write_noise(path: &Path, seed: u64, len: u64) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::create(path).map_err(cannot)?;
    let mut source = blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof();
    let mut piece = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let now = left.min(piece.len() as u64) as usize;
        source.fill(&mut piece[..now]);
        std::io::Write::write_all(&mut file, &piece[..now]).map_err(cannot)?;
        left -= now as u64;
    }
    Ok(())
}

/// Whether two files hold the same bytes.
fn same(one: &Path, other: &Path) -> bool {
    let hash = |path: &Path| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path).ok()?).ok().map(|hasher| hasher.finalize())
    };
    hash(one).is_some_and(|hash_one| hash(other) == Some(hash_one))
}

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err("a number with K, M or G behind it, as 256M".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a number with K, M or G behind it, as 256M".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Bits per second.
fn rate(text: &str) -> Result<u64, String> {
    let text = text.to_ascii_lowercase();
    let advice = "a number with kbit, mbit or gbit behind it, as 200mbit";
    let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (digits, unit) = found.ok_or(advice)?;
    let number: u64 = digits.parse().map_err(|_| advice)?;
    number.checked_mul(*unit).filter(|rate| *rate > 0).ok_or_else(|| advice.to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number of percent".to_owned())?;
    if (0.0..=90.0).contains(&number) { Ok(number) } else { Err("between 0 and 90".to_owned()) }
}

/// Waits until `look` finds something; the limit is generous, for a busy machine.
fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed().as_secs() >= seconds {
            return Err(format!("not within {seconds} s: {what}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
