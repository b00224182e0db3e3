//! One member that is slow or stuck, and what it costs the others (LD-25).
//!
//! The same farm publishes two files of one size: one while all are well, one while the last member is not.
//! Compared is when the others had their file staged.

use crate::clock::wait_for;
use crate::farm::{Farm, Setup};
use crate::links::Links;
use crate::node::Node;
use crate::publish::SITE;
use crate::result::{Sheet, median, round, rounded};
use crate::segment::{Segment, told};
use crate::{Scenario, content, impair, process, units};
use clap::ValueEnum;
use netlink::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Of the bottleneck, or of 1 Gbit/s where there is none: what a slow link still carries.
const LINK_SHARE: u64 = 5;
/// A slow processor: time that its processes may run, and time that they are stopped, by turns.
const RUNS: Duration = Duration::from_millis(5);
const RESTS: Duration = Duration::from_millis(20);
/// Seconds after which the others must have their file, however slow.
const PATIENCE: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trouble {
    /// Its port of the bridge carries a fifth.
    Link,
    /// Its processes run a fifth of the time.
    Cpu,
    /// Its processes are stopped (SIGSTOP) when the session begins, until the others are done.
    Stuck,
}

#[derive(clap::Args)]
pub struct Slow {
    #[command(flatten)]
    pub links: Links,
    /// Bytes of each file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "64M", value_parser = units::bytes)]
    pub size: u64,
    /// What is wrong with the last member.
    #[arg(long, value_enum, default_value_t = Trouble::Stuck)]
    pub trouble: Trouble,
    /// Pairs of files.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub runs: u32,
    /// One JSON object per run, and one that compares them.
    #[arg(long)]
    pub json: bool,
}

impl Scenario for Slow {
    const NAME: &str = "slow";
    const ABOUT: &str = "One slow or stuck member, and what it costs the others";

    fn run(&self, dir: &Path) -> Result<(), String> {
        if self.links.members < 2 {
            return Err("one member is slow: at least two are needed, give --members".to_owned());
        }
        let segment = Segment::build(self.links, dir)?;
        let scenario = Self::NAME;
        let impairment = &segment.impairment;
        let sheet = Sheet { scenario, links: &self.links, bytes: self.size, impairment, json: self.json };
        sheet.head();
        let (mut well, mut ill) = (Vec::new(), Vec::new());
        for run in 0..self.runs {
            // A farm of its own for each pair: what happened to a member does not carry over.
            let farm = Farm::start(Setup::of(process::FARMCAST), &segment, dir.join(format!("run{run}")))?;
            for (name, trouble) in [("well", None), ("ill", Some(self.trouble))] {
                let file = dir.join(format!("{name}{run}"));
                content::write_noise(&file, self.links.seed + u64::from(run), self.size)?;
                let staged = self.publish(&farm, &segment, &file, trouble)?;
                let last = staged.iter().copied().fold(0.0, f64::max);
                let word =
                    trouble.map_or("all well".to_owned(), |trouble| format!("{trouble:?}").to_lowercase());
                let more = json!({
                    "run": run, "trouble": word, "seconds": round(last, 3),
                    "goodput_mb_s": round(sheet.goodput(last), 1),
                    "others_staged_seconds": rounded(&staged), "completed": staged.len(),
                });
                sheet.print("farmcast", more, &format!("{word}: the others staged after {last:.3} s"));
                if trouble.is_some() {
                    ill.push(last)
                } else {
                    well.push(last)
                }
                std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            farm.end()?;
        }
        let cost = median(ill) / median(well) - 1.0;
        let more = json!({ "runs": self.runs, "cost_to_others": round(cost, 3) });
        sheet.print("farmcast", more, &format!("it costs the others {:.1} % of time", cost * 100.0));
        Ok(())
    }
}

impl Slow {
    /// Publishes a file; seconds from the beginning of the session until each of the others had it staged.
    fn publish(
        &self,
        farm: &Farm<'_>,
        segment: &Segment,
        file: &Path,
        trouble: Option<Trouble>,
    ) -> Result<Vec<f64>, String> {
        let name = file.file_name().ok_or("a file without a name")?;
        let (patient, others) = farm.nodes[1..].split_last().ok_or("no members")?;
        let machine = segment.members.last().ok_or("no members")?;
        farm.stage(SITE, file)?;
        let mut lab = Lab::here().map_err(told)?;
        if trouble == Some(Trouble::Link) {
            let rate = self.links.rate.unwrap_or(1_000_000_000) / LINK_SHARE;
            impair::slow_port(&mut lab, machine, rate, self.links.queue)?;
        }
        let stutter = (trouble == Some(Trouble::Cpu)).then(|| Stutter::start(patient)).transpose()?;
        let before = farm.nodes[0].counters()?.get("frames_sent");
        let job = farm.publish_later(SITE)?;
        if trouble == Some(Trouble::Stuck) {
            let mut port = farm.nodes[0].port()?;
            wait_for("the first frames", PATIENCE, || {
                let lines = port.ask("show counters").ok()?;
                (crate::node::Counters::new(lines).get("frames_sent") > before).then_some(())
            })?;
            signal(patient, Signal::SIGSTOP)?;
        }
        let source = farm.staging(SITE).join(name);
        let staged = wait_for("the others to stage", PATIENCE, || {
            others.iter().all(|node| node.has_staged(SITE, &source)).then_some(())
        });
        if trouble == Some(Trouble::Stuck) {
            signal(patient, Signal::SIGCONT)?;
        }
        if let Some(stutter) = stutter {
            stutter.stop();
        }
        if trouble == Some(Trouble::Link) {
            let port = lab.link(&machine.port).map_err(told)?.index;
            lab.restore(port).map_err(told)?;
        }
        staged?;
        let (_, began) = farm.nodes[0].newest_object()?;
        let staged = others.iter().map(|node| Ok(node.staged_at(SITE, name)? - began)).collect();
        farm.wait_for_end(job.id, PATIENCE)?;
        staged
    }
}

/// To both processes of a node.
fn signal(node: &Node<'_>, signal: Signal) -> Result<(), String> {
    let process = node.process()?;
    let applier = node.applier().ok_or_else(|| format!("{} has no applier", node.name))?;
    process.signal(signal);
    let pid = Pid::from_raw(i32::try_from(applier).map_err(|error| error.to_string())?);
    kill(pid, signal).map_err(|errno| format!("cannot signal an applier: {errno}"))
}

/// Stops and continues a node's processes by turns: a processor that is shared with others.
struct Stutter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stutter {
    fn start(node: &Node<'_>) -> Result<Self, String> {
        let applier = node.applier().ok_or_else(|| format!("{} has no applier", node.name))?;
        let pids = [node.process()?.id(), applier].map(|pid| Pid::from_raw(pid.cast_signed()));
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let all = |signal| {
                for pid in pids {
                    // One that has ended needs no signal.
                    let _ = kill(pid, signal);
                }
            };
            while !told.load(Ordering::Relaxed) {
                all(Signal::SIGSTOP);
                thread::sleep(RESTS);
                all(Signal::SIGCONT);
                thread::sleep(RUNS);
            }
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // It ends by itself, with its processes running.
        let _ = self.thread.join();
    }
}
