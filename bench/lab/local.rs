//! One file from a group leader to its members: received, verified, staged; by other tools too.

use crate::links::Links;
use crate::peers::{self, Peer};
use crate::result::{Measured, Sheet};
use crate::segment::Segment;
use crate::{Scenario, content, process, publish, units};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Local {
    #[command(flatten)]
    pub links: Links,
    /// Bytes of the file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "256M", value_parser = units::bytes)]
    pub size: u64,
    /// Other tools to measure in the same run, on the same links.
    #[arg(long, value_enum)]
    pub peer: Vec<Peer>,
    /// Repeats of the whole: one run of each tool after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Another build of farmcast, measured before this one in the same run: what a change has brought.
    #[arg(long)]
    pub against: Option<String>,
    /// Only the peers.
    #[arg(long)]
    pub peers_only: bool,
    /// Asks the nodes while they work, for the plots of bench/report.
    #[arg(long)]
    pub series: bool,
    /// One JSON object per tool and run, and one that compares them.
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
        let segment = Segment::build(self.links, dir)?;
        let file = dir.join("file");
        content::write_noise(&file, self.links.seed, self.size)?;
        let sheet = Sheet {
            scenario: Self::NAME,
            links: &self.links,
            bytes: self.size,
            impairment: &segment.impairment,
            json: self.json,
        };
        sheet.head();
        let (here, missing): (Vec<Peer>, Vec<Peer>) = self.peer.iter().partition(|peer| peer.is_installed());
        for peer in missing {
            sheet.skipped(peer.name(), peer.advice());
        }
        sheet.columns();
        let mut all: Vec<Measured> = Vec::new();
        for run in 0..self.runs {
            let place = dir.join(format!("run{run}"));
            std::fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
            let mut note = |measured: Measured| {
                sheet.run(run, &measured);
                all.push(measured);
            };
            for &peer in &here {
                note(peers::measure(peer, &segment, &file, &place)?);
            }
            if !self.peers_only {
                if let Some(other) = &self.against {
                    note(publish::measure("before", other, self, &segment, &file, &place)?);
                }
                note(publish::measure("farmcast", process::FARMCAST, self, &segment, &file, &place)?);
            }
            std::fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        }
        if let Some(relay) = &segment.relay {
            let lost = relay.lost()?;
            sheet.print(
                "relay",
                serde_json::json!({ "relay_lost_frames": lost }),
                &format!("lost {lost} frames"),
            );
        }
        if !all.is_empty() {
            sheet.compare(&all);
        }
        Ok(())
    }
}
