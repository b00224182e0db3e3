//! What one publish of one file took.
//!
//! Unless a series is wanted nobody is asked while it runs: the times are those of the files. The leader's
//! spool was last written when its pull was done, which is when its session begins; a member's spool when its
//! last block came; a member's file of the site changed last when the applier had staged it.

use crate::content::same;
use crate::farm::{Farm, Setup};
use crate::local::Local;
use crate::node::Node;
use crate::result::Measured;
use crate::sample::{Sampler, Series};
use crate::segment::Segment;
use farmcast::ccm::api::types::Phase;
use std::path::Path;

pub const SITE: &str = "www";
/// Ethernet, IPv4 and UDP in front of every datagram.
const HEADERS: u64 = 42;

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
    /// What was asked for meanwhile, with `--series`.
    pub series: Option<Series>,
}

pub fn measure(
    tool: &'static str,
    program: &str,
    options: &Local,
    segment: &Segment,
    file: &Path,
    place: &Path,
) -> Result<Measured, String> {
    let file_name = file.file_name().ok_or("a file without a name")?;
    let farm = Farm::start(Setup::of(program), segment, place.join("farmcast"))?;
    farm.stage(SITE, file)?;

    let nodes = &farm.nodes;
    let before = nodes[0].counters()?;
    let cpu_before: Vec<f64> = nodes.iter().map(Node::cpu_seconds).collect();
    let sampler = if options.series { Some(Sampler::start(nodes)?) } else { None };
    let job = farm.publish(SITE)?;
    let cpu: Vec<f64> =
        nodes.iter().zip(&cpu_before).map(|(node, before)| node.cpu_seconds() - before).collect();
    let series = sampler.map(Sampler::stop).transpose()?;
    let after = nodes[0].counters()?;
    let grown = |name: &str| after.get(name) - before.get(name);
    let wire_bytes =
        grown("datagram_sent_bytes") + grown("datagrams_sent") * HEADERS + grown("http_served_bytes");
    let members = &nodes[1..];
    let drops = members.iter().map(|node| node.counters().map_or(0, |counters| counters.get("socket_drops")));
    let socket_drops = drops.sum();
    if let Some(kept) = &options.keep_logs {
        farm.keep_logs(kept)?;
    }
    if job.phase != Phase::Done {
        eprintln!("lab: the publish ended as {:?}: {}", job.phase, job.text);
    }
    let completed = members.iter().filter(|node| same(file, &node.live(SITE).join(file_name))).count();

    let (object, began) = nodes[0].newest_object()?;
    let received: Vec<f64> =
        members.iter().map(|node| Ok(node.spooled_at(&object)? - began)).collect::<Result<_, String>>()?;
    let staged: Vec<f64> = members
        .iter()
        .map(|node| node.staged_at(SITE, file_name).map_or(f64::NAN, |at| at - began))
        .collect();
    let last_of = |times: &[f64]| times.iter().copied().fold(f64::NAN, f64::max);
    let told = LastSession::read(&nodes[0].log());
    let details = Details {
        received_seconds: last_of(&received),
        publish_seconds: (job.finished_ns.saturating_sub(job.started_ns)) as f64 / 1e9,
        pull_seconds: began - job.started_ns as f64 / 1e9,
        repair_share: if told.frames > 0 { told.repair as f64 / told.frames as f64 } else { 0.0 },
        passes: told.passes,
        socket_drops,
        series: series.map(|series| series.since(began)),
        received,
        staged,
    };
    let seconds = last_of(&details.staged);
    farm.end()?;
    let (cpu_sender, cpu_members) = (cpu[0], cpu[1..].iter().sum());
    Ok(Measured { tool, seconds, wire_bytes, completed, cpu_sender, cpu_members, farm: Some(details) })
}

/// What a leader's log says of its last session.
#[derive(Clone, Copy, Default)]
pub struct LastSession {
    pub passes: u64,
    pub frames: u64,
    /// Frames of passes after the first.
    pub repair: u64,
}

impl LastSession {
    /// `assignment 1: 268435456 bytes to 8 members in 2 passes, 190000 frames, 1900 of them repair`.
    pub fn read(log: &str) -> Self {
        let Some(line) = log.lines().rev().find(|line| line.contains(" of them repair")) else {
            return Self::default();
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = |unit: &str| {
            let at = words.iter().position(|word| word.trim_end_matches([',', ';']) == unit)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        let [passes, frames, repair] = ["passes", "frames", "of"].map(|unit| before(unit).unwrap_or(0));
        Self { passes, frames, repair }
    }
}
