//! The lab: a segment of real processes on one machine, measured (`cargo bench --bench lab -- local`).
//!
//! Members live in network namespaces behind a bridge, the sender's link is slowed by tbf, loss is made by
//! netem or, where the kernel has none, by nft. No root: the lab starts itself again inside a user, mount
//! and network namespace of its own (`unshare` of util-linux), with a tmpfs that goes with it.
//!
//! Scenarios, one file each, stand in [`SCENARIOS`]. What they share:
//!
//! - `links.rs`, `segment.rs`: machines and cables; `impair.rs`, `relay.rs`: what makes them slow and bad
//! - `content.rs`: what is sent; `clock.rs`: waiting
//! - `farm.rs`, `node.rs`: a controller and nodes; `publish.rs`: what one publish took; `sample.rs`: how it went
//! - `peers.rs`: the same file by other tools; `copy.rs`: parallel TCP copies, which every machine has
//! - `apart.rs`: several segments behind a router, as the tests have them
//! - `result.rs`: what is printed
#![expect(clippy::disallowed_methods, reason = "a bench measures real time and waits for real processes")]

mod apart;
mod clock;
mod content;
mod copy;
mod failover;
mod farm;
mod files;
mod impair;
mod links;
mod local;
mod node;
mod peers;
mod process;
mod publish;
mod pull;
mod relay;
mod reports;
mod result;
mod resume;
mod sample;
mod segment;
mod share;
mod slow;
mod tree;
mod two;
mod units;

use clap::{Arg, ArgAction, ArgMatches, Command as Words};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Set in the lab's own namespaces: the directory to work in.
const INSIDE: &str = "FARMCAST_LAB_DIR";

/// Something that can be measured. Its fields are its options on the command line.
trait Scenario: clap::Args {
    const NAME: &str;
    const ABOUT: &str;
    /// False for the programs that the lab starts for itself: they run where they are, and are not listed.
    const IN_LAB: bool = true;

    /// Measures and prints. `dir` is an empty directory in memory; of what is no scenario, the current one.
    fn run(&self, dir: &Path) -> Result<(), String>;
}

/// One line per scenario.
const SCENARIOS: &[Entry] = &[
    entry::<local::Local>(),
    entry::<slow::Slow>(),
    entry::<share::Share>(),
    entry::<files::Files>(),
    entry::<two::Two>(),
    entry::<resume::Resume>(),
    entry::<failover::Failover>(),
    entry::<pull::Pull>(),
    entry::<tree::Tree>(),
    entry::<reports::Reports>(),
    entry::<pull::ServeObject>(),
    entry::<copy::CopyOut>(),
    entry::<copy::CopyIn>(),
    entry::<relay::Relay>(),
];

struct Entry {
    name: &'static str,
    about: &'static str,
    in_lab: bool,
    options: fn(Words) -> Words,
    run: fn(&ArgMatches, &Path) -> Result<(), String>,
}

const fn entry<S: Scenario>() -> Entry {
    Entry {
        name: S::NAME,
        about: S::ABOUT,
        in_lab: S::IN_LAB,
        options: S::augment_args,
        run: |matches, dir| S::from_arg_matches(matches).map_err(|error| error.to_string())?.run(dir),
    }
}

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`; it means nothing here.
    let bench = Arg::new("bench").long("bench").hide(true).global(true).action(ArgAction::SetTrue);
    let about = "Measures farmcast and its peers on a segment made of namespaces";
    let words = SCENARIOS.iter().fold(Words::new("lab").about(about).arg(bench), |words, entry| {
        let scenario = (entry.options)(Words::new(entry.name)).about(entry.about).hide(!entry.in_lab);
        words.subcommand(scenario)
    });
    let matches = words.get_matches();
    let chosen = matches
        .subcommand()
        .and_then(|(name, options)| Some((SCENARIOS.iter().find(|entry| entry.name == name)?, options)));
    let done = match (chosen, std::env::var_os(INSIDE)) {
        (None, _) => {
            println!("lab: no scenario given; see `cargo bench --bench lab -- --help` and bench/README.md");
            Ok(())
        }
        (Some((entry, options)), _) if !entry.in_lab => (entry.run)(options, Path::new(".")),
        (Some(_), None) => enter(),
        (Some((entry, options)), Some(dir)) => {
            prepare(Path::new(&dir)).and_then(|()| (entry.run)(options, Path::new(&dir)))
        }
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

/// What every scenario finds in the lab's namespaces: a place in memory, and a loopback.
fn prepare(dir: &Path) -> Result<(), String> {
    process::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=90%", "lab"]).arg(dir))?;
    process::run(Command::new("ip").args(["link", "set", "lo", "up"])).map(|_| ())
}
