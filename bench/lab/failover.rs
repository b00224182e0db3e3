//! The leader of a segment dies again and again: how long until another is accepted by all (EL-18, design
//! section 8). Before that, time in which nobody dies: how often the lead changes without need.

use crate::clock::wait_for;
use crate::farm::{Farm, Setup};
use crate::impair;
use crate::links::{Links, Offloads, Place};
use crate::node::{TextPort, number};
use crate::result::{Sheet, round};
use crate::segment::Segment;
use crate::{Scenario, process};
use farmcast::wire::console::Line;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Seconds after which a busy machine has failed.
const END: u64 = 60;
/// Between two questions to all: what the figures are exact to, beside the time of the questions.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(clap::Args)]
pub struct Failover {
    /// Nodes of the segment, all of which may lead.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(2..=64))]
    pub nodes: u8,
    /// Percent of packets that each node loses as they arrive.
    #[arg(long, default_value_t = 5.0, value_parser = crate::units::percent)]
    pub loss: f64,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub kills: u32,
    /// Seconds before the first kill in which nobody dies.
    #[arg(long, default_value_t = 60)]
    pub steady: u64,
    /// One JSON object for each kill, and one for all.
    #[arg(long)]
    pub json: bool,
    /// Copies the logs of farmcast's processes there.
    #[arg(long)]
    pub keep_logs: Option<PathBuf>,
}

impl Scenario for Failover {
    const NAME: &str = "failover";
    const ABOUT: &str = "The leader is killed again and again: time until all accept another";

    fn run(&self, dir: &Path) -> Result<(), String> {
        let links = Links {
            members: self.nodes - 1,
            rate: None,
            bottleneck: Place::Sender,
            queue: 256 << 10,
            loss: 0.0,
            burst: 1.0,
            delay: 0,
            jitter: 0,
            reorder: 0.0,
            payload_mtu: 1_500,
            offloads: Offloads::On,
            seed: 1,
        };
        let segment = Segment::build(links, dir)?;
        let lossy = Links { loss: self.loss, ..links };
        let impairment = format!("loss {} % by nft where each node receives", self.loss);
        let sheet =
            Sheet { scenario: Self::NAME, links: &lossy, bytes: 0, impairment: &impairment, json: self.json };
        let setup = Setup { all_lead: true, ..Setup::of(process::FARMCAST) };
        let mut farm = Farm::start(setup, &segment, dir.join("farm"))?;
        // Not while they join: that goes over TCP, and is not what is measured.
        for machine in segment.members.iter().chain([&segment.sender]) {
            impair::lose(machine, &lossy)?;
        }
        whole(&farm)?;
        self.steady(&farm, &sheet)?;
        let mut times = Vec::new();
        for kill in 0..self.kills {
            let (time, old, new) = fail_over(&mut farm)?;
            let more = json!({ "kill": kill, "accepted_ms": round(time, 1), "killed": old, "leads": new });
            sheet.print("farmcast", more, &format!("{old} killed: {new} accepted by all after {time:.0} ms"));
            times.push(time);
        }
        if !times.is_empty() {
            report(&sheet, times);
        }
        if let Some(kept) = &self.keep_logs {
            farm.keep_logs(kept)?;
        }
        farm.end()
    }
}

impl Failover {
    /// Changes of the leader, and doubts of members that one lives, while nothing is wrong.
    fn steady(&self, farm: &Farm<'_>, sheet: &Sheet<'_>) -> Result<(), String> {
        if self.steady == 0 {
            return Ok(());
        }
        let epoch = |farm: &Farm<'_>| whole(farm).map(|(_, epoch)| epoch);
        let doubts = |farm: &Farm<'_>| {
            let elections = farm.nodes.iter().map(|node| Ok(node.counters()?.get("elections")));
            elections.sum::<Result<u64, String>>()
        };
        let (reign, before) = (epoch(farm)?, doubts(farm)?);
        std::thread::sleep(Duration::from_secs(self.steady));
        let (changes, doubted) = (epoch(farm)? - reign, doubts(farm)? - before);
        let more = json!({ "steady_s": self.steady, "leader_changes": changes, "doubts": doubted });
        let sentence =
            format!("{} s without a kill: {changes} changes of the leader, {doubted} doubts", self.steady);
        sheet.print("farmcast", more, &sentence);
        Ok(())
    }
}

/// Waits until all agree and are registered; the place of the leader, and how many reigns there were.
fn whole(farm: &Farm<'_>) -> Result<(usize, u64), String> {
    wait_for("one leader whom all follow", END, || {
        let said: Vec<Line> =
            farm.nodes.iter().map(|node| first(&node.ask("show status").ok()?)).collect::<Option<_>>()?;
        let leader = accepted(&said)?;
        let registered = |line: &Line| line.text("registered") == Some("true");
        said.iter().all(registered).then_some((leader, number(&said[leader], "epoch")?))
    })
}

/// Kills the leader and starts it again once another is accepted. Milliseconds, and both names.
fn fail_over(farm: &mut Farm<'_>) -> Result<(f64, String, String), String> {
    let (old, _) = whole(farm)?;
    let rest: Vec<usize> = (0..farm.nodes.len()).filter(|at| *at != old).collect();
    let mut ports = rest.iter().map(|at| farm.nodes[*at].port()).collect::<Result<Vec<TextPort>, _>>()?;
    let name = farm.nodes[old].name.clone();
    let killed = Instant::now();
    farm.nodes[old].kill();
    let new = loop {
        let said =
            ports.iter_mut().map(|port| first(&port.ask("show status").ok()?)).collect::<Option<Vec<_>>>();
        let said = said.ok_or("a node that lives does not answer")?;
        if let Some(leader) = accepted(&said) {
            break rest[leader];
        }
        if killed.elapsed().as_secs() >= END {
            return Err(format!("nobody is accepted {END} s after {name} was killed"));
        }
        std::thread::sleep(PAUSE);
    };
    let time = killed.elapsed().as_secs_f64() * 1e3;
    drop(ports);
    let led = farm.nodes[new].name.clone();
    farm.nodes[old].start()?;
    Ok((time, name, led))
}

/// The one that leads, if all others follow it.
fn accepted(said: &[Line]) -> Option<usize> {
    let leads = |line: &Line| line.text("state") == Some("gl_is_me");
    let leader = said.iter().position(leads)?;
    let id = said[leader].text("node");
    let follows = |(at, line): (usize, &Line)| at == leader || (!leads(line) && line.text("leader") == id);
    said.iter().enumerate().all(follows).then_some(leader)
}

fn first(lines: &[Line]) -> Option<Line> {
    lines.first().cloned()
}

fn report(sheet: &Sheet<'_>, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    // The smallest value that so many percent do not exceed.
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    let (p50, p95, p99, max) = (at(50), at(95), at(99), at(100));
    let more = json!({
        "kills": times.len(), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "p99_ms": round(p99, 1),
        "max_ms": round(max, 1), "min_ms": round(times[0], 1),
    });
    let sentence = format!(
        "{} kills: accepted by all after p50 {p50:.0}, p95 {p95:.0}, p99 {p99:.0}, max {max:.0} ms",
        times.len()
    );
    sheet.print("farmcast", more, &sentence);
}
