//! Many small files: how fast members stage them, and how fast this machine makes as many files at all.

use crate::farm::{Farm, Setup};
use crate::links::Links;
use crate::peers::Peer;
use crate::publish::SITE;
use crate::result::{Sheet, round, rounded};
use crate::segment::Segment;
use crate::{Scenario, content, peers, process, units};
use farmcast::ccm::api::types::Phase;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Files of one directory.
const DIRECTORY: u64 = 500;

#[derive(clap::Args)]
pub struct Files {
    #[command(flatten)]
    pub links: Links,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub count: u64,
    /// Bytes of each: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "16K", value_parser = units::bytes)]
    pub size: u64,
    /// Measures an rsync daemon per member in the same run.
    #[arg(long)]
    pub rsync: bool,
    /// One JSON object per tool.
    #[arg(long)]
    pub json: bool,
}

impl Scenario for Files {
    const NAME: &str = "files";
    const ABOUT: &str = "Many small files: files a second staged on each member";

    fn run(&self, dir: &Path) -> Result<(), String> {
        let segment = Segment::build(self.links, dir)?;
        let (scenario, impairment) = (Self::NAME, &segment.impairment);
        let bytes = self.size * self.count;
        let sheet = Sheet { scenario, links: &self.links, bytes, impairment, json: self.json };
        sheet.head();
        let tree = dir.join("tree");
        self.write(&tree)?;
        let a_second = |seconds: f64| round(self.count as f64 / seconds, 0);

        // As many writers at once as there are nodes that stage, the leader among them.
        let limit = self.limit(&tree, dir, usize::from(self.links.members) + 1)?;
        let more = json!({ "files": self.count, "seconds": round(limit, 3), "files_s": a_second(limit) });
        let sentence = format!("{} files/s for each of all nodes at once, only written", a_second(limit));
        sheet.print("limit", more, &sentence);

        if self.rsync && !Peer::Rsync.is_installed() {
            sheet.skipped(Peer::Rsync.name(), Peer::Rsync.advice());
        } else if self.rsync {
            let place = dir.join("peer");
            fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
            let seconds = peers::measure_tree(&segment, &tree, &place)?;
            let more =
                json!({ "files": self.count, "seconds": round(seconds, 3), "files_s": a_second(seconds) });
            sheet.print("rsync", more, &format!("{} files/s, sent and stored", a_second(seconds)));
        }

        let farm = Farm::start(Setup::of(process::FARMCAST), &segment, dir.join("farm"))?;
        let staging = farm.staging(SITE).join("tree");
        fs::rename(&tree, &staging).map_err(|error| format!("{}: {error}", staging.display()))?;
        let job = farm.publish(SITE)?;
        if job.phase != Phase::Done {
            return Err(format!("the publish ended as {}: {}", job.phase, job.text));
        }
        let (object, began) = farm.nodes[0].newest_object()?;
        let mut received = Vec::new();
        let mut staged = Vec::new();
        for node in &farm.nodes[1..] {
            received.push(node.spooled_at(&object)? - began);
            // The last file is touched last: its mode and times are set when it is written.
            staged.push(node.newest_file(SITE)? - began);
        }
        let held = farm.nodes[1..].iter().filter(|node| count_files(&node.live(SITE)) == self.count).count();
        let last = staged.iter().copied().fold(0.0, f64::max);
        let more = json!({
            "files": self.count, "completed": held, "seconds": round(last, 3),
            "files_s": a_second(last), "limit_share": round(limit / last, 3),
            "members_received_seconds": rounded(&received), "members_staged_seconds": rounded(&staged),
        });
        let sentence = format!(
            "{} files/s from the session's start, {:.0} % of the limit; {held} members hold all",
            a_second(last),
            limit / last * 100.0
        );
        sheet.print("farmcast", more, &sentence);
        farm.end()
    }
}

impl Files {
    /// Makes the tree: files of noise, so that each has to be sent.
    fn write(&self, tree: &Path) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("{}: {error}", tree.display());
        for number in 0..self.count {
            let folder = tree.join(format!("{:04}", number / DIRECTORY));
            if number % DIRECTORY == 0 {
                fs::create_dir_all(&folder).map_err(cannot)?;
            }
            content::write_noise(&folder.join(format!("{number:07}")), self.links.seed + number, self.size)?;
        }
        Ok(())
    }

    /// Seconds until so many threads have each made a copy of the tree, one write per file.
    fn limit(&self, tree: &Path, dir: &Path, writers: usize) -> Result<f64, String> {
        let piece = fs::read(tree.join("0000/0000000")).map_err(|error| error.to_string())?;
        let copies = dir.join("copies");
        let make = |writer: usize| -> std::io::Result<()> {
            let copy = copies.join(writer.to_string());
            for number in 0..self.count {
                let folder = copy.join(format!("{:04}", number / DIRECTORY));
                if number % DIRECTORY == 0 {
                    fs::create_dir_all(&folder)?;
                }
                fs::write(folder.join(format!("{number:07}")), &piece)?;
            }
            Ok(())
        };
        let start = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || make(writer))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("writing does not panic"))
        })
        .map_err(|error| format!("{}: {error}", copies.display()))?;
        let seconds = start.elapsed().as_secs_f64();
        fs::remove_dir_all(&copies).map_err(|error| format!("{}: {error}", copies.display()))?;
        Ok(seconds)
    }
}

fn count_files(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 })
        .sum()
}
