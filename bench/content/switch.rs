//! The instant of a switch, for trees of several sizes, beside exchanging a symbolic link by `rename`.

use crate::stage::assignment;
use crate::table::Rounds;
use crate::trees::{grow, scratch};
use farmcast::content::site::Site;
use farmcast::wire::id::{AssignmentId, OrderId};
use farmcast::wire::order::Action;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

/// Switches of one round.
const SWITCHES: u64 = 100;

pub fn run(rounds: &Rounds, place: &Path, files: u32) {
    for files in [files / 100, files] {
        let scratch = scratch(place);
        let scratch = scratch.path();
        let staging = scratch.join("staging");
        grow(&staging, files.max(1));
        let mut site = Site::open(&scratch.join("site")).expect("the place is ours");
        let mut order = 0;
        let mut carry_out = |site: &mut Site, action: Action| {
            order += 1;
            let prepared = site.prepare(OrderId(order), action, 0).expect("it is there");
            let start = Instant::now();
            let mut exchanged = 0.0;
            prepared
                .exchange(|| {
                    exchanged = start.elapsed().as_secs_f64();
                    0
                })
                .expect("it is exchanged");
            exchanged * 1e6
        };
        let mut base = None;
        for number in [1, 2] {
            let (buffer, data) = assignment(scratch, &staging, number, base);
            site.stage(&buffer, &data).expect("it is staged");
            carry_out(&mut site, Action::Commit { assignment: AssignmentId(number) });
            fs::write(staging.join("index.html"), format!("version {number}")).expect("the place has room");
            base = Some((number, site.live_path()));
        }
        let switches = (0..u64::from(rounds.runs) * SWITCHES)
            .map(|at| carry_out(&mut site, Action::Switch { assignment: AssignmentId(1 + at % 2) }));
        tell(rounds, files, "farmcast", switches.collect());
        let links = (0..u64::from(rounds.runs) * SWITCHES).map(|_| rename_link(scratch));
        tell(rounds, files, "rename of a link", links.collect());
    }
}

/// What a deployment by symbolic link does at its instant; in microseconds.
fn rename_link(scratch: &Path) -> f64 {
    let (new, current) = (scratch.join("new"), scratch.join("current"));
    symlink("site", &new).expect("the place is ours");
    let start = Instant::now();
    fs::rename(&new, &current).expect("the place is ours");
    start.elapsed().as_secs_f64() * 1e6
}

fn tell(rounds: &Rounds, files: u32, tool: &str, mut micros: Vec<f64>) {
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize].round();
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    let count = micros.len();
    if rounds.json {
        println!(
            "{}",
            json!({ "scenario": "switch", "files": files, "tool": tool, "p50_us": p50, "p99_us": p99,
                    "max_us": max, "switches": count })
        );
    } else {
        println!(
            "switch {files:<8} {tool:<18} p50 {p50:>6} us  p99 {p99:>6} us  max {max:>6} us  of {count}"
        );
    }
}
