//! How an assignment spreads over the leaders of many segments, against the time of one transfer.

use crate::Scenario;
use crate::apart::farm::{FLOODS, Farm, Ways};
use crate::apart::harness::noise;
use crate::apart::spread;
use crate::units;
use farmcast::ccm::api::types::Phase;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Tree {
    #[arg(long, default_value_t = 6)]
    segments: usize,
    /// Nodes of each segment
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    #[arg(long, default_value = "8M", value_parser = units::bytes)]
    size: u64,
    /// Into each segment, and out of the controller
    #[arg(long, default_value_t = 32)]
    mbit: u32,
    /// Milliseconds from a segment to the router, and back
    #[arg(long, default_value_t = 5)]
    delay_ms: u64,
    /// Leaders that the controller serves
    #[arg(long, default_value_t = 2)]
    first_level: u16,
    /// When leaders pass it on: `whole` or `verified`
    #[arg(long, default_value = "whole")]
    forward: String,
    /// One JSON object per leader, and one of the run
    #[arg(long)]
    json: bool,
}

impl Scenario for Tree {
    const NAME: &str = "tree";
    const ABOUT: &str = "An object over the leaders of many segments on slow and distant links";

    fn run(&self, _: &Path) -> Result<(), String> {
        let toml = format!("first_level = {}\nforward = {:?}", self.first_level, self.forward);
        let ways = Ways { mbit: self.mbit, delay: Duration::from_millis(self.delay_ms) };
        let mut farm = Farm::far_apart(&vec![self.nodes; self.segments], FLOODS, &toml, ways);
        farm.begin();
        farm.wait_until_whole();
        let size = usize::try_from(self.size).map_err(|error| error.to_string())?;
        farm.stage("noise", noise(1, size));
        let (before, served) = (farm.all_fetched(), farm.status().served_bytes);
        let began = Instant::now();
        let job = farm.publish_later().id;
        let tree = spread::Tree::follow(&farm, job, &before, began, |_| false);
        let job = farm.wait_for_end(job);
        if job.phase != Phase::Done {
            return Err(format!("the publish ended as {}: {}", job.phase, job.text));
        }
        farm.assert_live_is_staging();
        self.print(&tree, job.assignment_bytes, farm.status().served_bytes - served, began.elapsed());
        Ok(())
    }
}

impl Tree {
    fn print(&self, tree: &spread::Tree, bytes: u64, served: u64, live: Duration) {
        // Of the content alone, over a link that is otherwise idle.
        let transfer = bytes as f64 * 8.0 / (f64::from(self.mbit) * 1e6);
        let last = tree.stored.values().max().map_or(0.0, Duration::as_secs_f64);
        let copies = served as f64 / bytes as f64;
        if !self.json {
            print!("{}", tree.draw());
            println!(
                "one transfer of {bytes} bytes takes {transfer:.2} s; the last leader had it after {:.1} of them, \
                 all were live after {:.2} s; the controller sent {copies:.2} copies",
                last / transfer,
                live.as_secs_f64()
            );
            return;
        }
        for (segment, from) in &tree.sources {
            let from = from.map_or("controller".to_owned(), |parent| format!("segment{parent}"));
            let stored = tree.stored.get(segment).map(Duration::as_secs_f64);
            let (segment, depth) = (format!("segment{segment}"), tree.depth(*segment));
            let row = json!({ "scenario": "tree", "segment": segment, "from": from, "depth": depth,
                "seconds": stored });
            println!("{row}");
        }
        let row = json!({ "scenario": "tree", "segments": self.segments, "nodes": self.nodes, "bytes": bytes,
            "mbit": self.mbit, "delay_ms": self.delay_ms, "first_level": self.first_level,
            "forward": self.forward, "transfer_seconds": transfer, "last_leader_seconds": last,
            "transfers": last / transfer, "live_seconds": live.as_secs_f64(), "controller_bytes": served,
            "controller_copies": copies });
        println!("{row}");
    }
}
