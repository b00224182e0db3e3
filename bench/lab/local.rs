//! One file from a group leader to its members: received, verified, staged; by other tools too.

use crate::report::{Measured, Report};
use crate::segment::{self, Segment, Shape};
use crate::{Scenario, content, farm, peers, process, units};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Udpcast,
    Uftp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Offloads {
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
    pub members: u8,
    /// Bytes of the file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "256M", value_parser = units::bytes)]
    pub size: u64,
    /// Rate of the bottleneck: a number with kbit, mbit or gbit behind it.
    #[arg(long, value_parser = units::rate)]
    pub rate: Option<u64>,
    /// Where the rate is: the sender's own link, or the bridge's port of every member.
    #[arg(long, value_enum, default_value_t = segment::Place::Sender)]
    pub bottleneck: segment::Place,
    /// Bytes that may wait before the bottleneck.
    #[arg(long, default_value = "256K", value_parser = units::bytes)]
    pub queue: u64,
    /// Percent of packets that each member loses, independently.
    #[arg(long, default_value_t = 0.0, value_parser = units::percent)]
    pub loss: f64,
    /// Of the file's content. The kernel draws the losses from its own generator.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// MTU of all links, from which the payload of a frame follows.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1_280..=9_000))]
    pub payload_mtu: u32,
    /// Segmentation offload of the links.
    #[arg(long, value_enum, default_value_t = Offloads::Auto)]
    pub offloads: Offloads,
    /// Other tools to measure in the same run, on the same links.
    #[arg(long, value_enum)]
    pub peer: Vec<Peer>,
    /// Repeats of the whole.
    #[arg(long, default_value_t = 1)]
    pub runs: u32,
    /// Another build of farmcast, measured before this one in the same run: what a change has brought.
    #[arg(long)]
    pub against: Option<String>,
    /// Only the peers.
    #[arg(long)]
    pub peers_only: bool,
    /// One JSON object per tool and run.
    #[arg(long)]
    pub json: bool,
    /// Copies the logs of farmcast's processes there.
    #[arg(long)]
    pub keep_logs: Option<PathBuf>,
}

impl Scenario for Local {
    const NAME: &str = "local";
    const ABOUT: &str = "One file from a group leader to its members: received, verified, staged";

    fn run(&self, dir: &Path) -> Result<(), String> {
        run(self, dir)
    }
}

fn run(options: &Local, dir: &Path) -> Result<(), String> {
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
    content::write_noise(&file, options.seed, options.size)?;
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
