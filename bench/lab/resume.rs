//! kill -9 of members and of the leader while they send and receive, and what has to be fetched again.
//!
//! After each kill the lab compares the dead node's spool with the controller's object, block by block: what is
//! there in whole is *held*. The node is started again, and its store says which blocks it still counts on.
//! What it held and does not count on it would fetch twice.

use crate::clock::wait_for;
use crate::farm::{Farm, Setup};
use crate::links::Links;
use crate::node::{Node, number};
use crate::publish::SITE;
use crate::result::{Sheet, round};
use crate::segment::Segment;
use crate::{Scenario, content, process, units};
use farmcast::ccm::api::types::Phase;
use farmcast::proto::random::Rng;
use farmcast::wire::assignment::LEAF_LEN;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Of the kills, those of whoever leads.
const LEADERS: f64 = 0.3;
/// Milliseconds at most between one that is back and the next kill.
const PAUSE_MS: u64 = 300;
/// Seconds for a node to be back, and for a publish to end.
const BACK: u64 = 20;
const END: u64 = 180;

#[derive(clap::Args)]
pub struct Resume {
    #[command(flatten)]
    pub links: Links,
    /// Bytes of each file, a multiple of 256K: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "32M", value_parser = units::bytes)]
    pub size: u64,
    /// Kills in all; a new file is published whenever one is over.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub kills: u32,
    /// Upper bound of the nodes' own rate, in Mbit/s, so that a session lasts.
    #[arg(long, default_value_t = 80)]
    pub pace: u64,
    /// One JSON object per file, and one for all.
    #[arg(long)]
    pub json: bool,
}

/// What has been seen so far.
#[derive(Default)]
struct Tally {
    members_killed: u32,
    leaders_killed: u32,
    /// Kills of nodes that held a part of the object.
    midway: u32,
    /// Blocks that those held in whole, and which of them they would fetch again.
    held: u64,
    lost: u64,
    publishes: u32,
    /// Those that did not go live everywhere.
    failed: u32,
}

impl Tally {
    const fn kills(&self) -> u32 {
        self.members_killed + self.leaders_killed
    }
}

impl Scenario for Resume {
    const NAME: &str = "resume";
    const ABOUT: &str =
        "kill -9 of members and leaders during sessions: all hashes equal, nothing fetched twice";

    fn run(&self, dir: &Path) -> Result<(), String> {
        if self.size == 0 || !self.size.is_multiple_of(LEAF_LEN) {
            return Err(format!("--size is to be a multiple of {LEAF_LEN} bytes, as 32M"));
        }
        let segment = Segment::build(self.links, dir)?;
        let (scenario, impairment) = (Self::NAME, &segment.impairment);
        let sheet = Sheet { scenario, links: &self.links, bytes: self.size, impairment, json: self.json };
        sheet.head();
        let node_toml =
            format!("[transport]\nrate_start_mbit = {pace}\nrate_max_mbit = {pace}\n", pace = self.pace);
        let setup = Setup { all_lead: true, node_toml: &node_toml, ..Setup::of(process::FARMCAST) };
        let mut farm = Farm::start(setup, &segment, dir.join("farm"))?;
        let mut rng = Rng::new(self.links.seed);
        let mut tally = Tally::default();
        let start = Instant::now();
        let mut complete = 0;
        while tally.kills() < self.kills {
            let file = dir.join(format!("file{}", tally.publishes));
            content::write_noise(&file, rng.next_u64(), self.size)?;
            let before = tally.kills();
            let phase = self.publish(&mut farm, &file, &mut rng, &mut tally)?;
            let name = file.file_name().ok_or("a file without a name")?;
            let holds = |node: &&Node<'_>| content::same(&file, &node.live(SITE).join(name));
            complete = farm.nodes.iter().filter(holds).count();
            let killed = tally.kills() - before;
            let more = json!({
                "publish": tally.publishes, "phase": phase.to_string(), "kills": killed, "completed": complete,
                "blocks_held": tally.held, "blocks_fetched_twice": tally.lost,
            });
            let sentence = format!(
                "publish {}: {phase} after {killed} kills, {complete} of {} nodes hold it",
                tally.publishes,
                farm.nodes.len()
            );
            sheet.print("farmcast", more, &sentence);
            fs::remove_file(farm.staging(SITE).join(name)).map_err(|error| error.to_string())?;
            fs::remove_file(&file).map_err(|error| error.to_string())?;
        }
        let all = farm.nodes.len();
        let more = json!({
            "kills": tally.kills(), "members_killed": tally.members_killed,
            "leaders_killed": tally.leaders_killed, "killed_midway": tally.midway, "publishes": tally.publishes,
            "publishes_failed": tally.failed, "completed": complete,
            "blocks_held": tally.held, "blocks_fetched_twice": tally.lost,
            "seconds": round(start.elapsed().as_secs_f64(), 1),
        });
        let sentence = format!(
            "{} kills ({} of leaders) in {} publishes, {} of them failed; at the end {complete} of {all} nodes hold \
             the same; of {} blocks that {} nodes held, killed midway, {} would be fetched twice",
            tally.kills(),
            tally.leaders_killed,
            tally.publishes,
            tally.failed,
            tally.held,
            tally.midway,
            tally.lost
        );
        sheet.print("farmcast", more, &sentence);
        farm.end()?;
        if complete < all {
            return Err(format!("{complete} of {all} nodes hold the last file"));
        }
        Ok(())
    }
}

impl Resume {
    /// Publishes a file and kills meanwhile.
    fn publish(
        &self,
        farm: &mut Farm<'_>,
        file: &Path,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<Phase, String> {
        farm.stage(SITE, file)?;
        let job = farm.publish_later(SITE)?.id;
        tally.publishes += 1;
        let start = Instant::now();
        let mut phase = loop {
            thread::sleep(Duration::from_millis(rng.below(PAUSE_MS)));
            match farm.sending() {
                Some(leader) if tally.kills() < self.kills => kill_one(farm, leader, rng, tally)?,
                _ => {
                    let job = farm.job(job)?;
                    if job.phase.is_over() {
                        break job.phase;
                    }
                }
            }
            if start.elapsed().as_secs() > END {
                return Err(format!("not within {END} s: the end of job {job}"));
            }
        };
        if phase != Phase::Done {
            // One that was away for too long fails the run for all; the next try has to bring it to everybody.
            tally.failed += 1;
            farm.wait_until_whole()?;
            phase = farm.publish(SITE)?.phase;
        }
        Ok(phase)
    }
}

/// Kills a node, and waits until it has a leader again.
fn kill_one(farm: &mut Farm<'_>, leader: usize, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
    let count = farm.nodes.len();
    let leads = rng.chance(LEADERS);
    let at = if leads { leader } else { (leader + 1 + rng.below(count as u64 - 1) as usize) % count };
    let objects = farm.objects();
    let node = &mut farm.nodes[at];
    let Ok((object, _)) = node.newest_object() else { return Ok(()) };
    node.kill();
    *(if leads { &mut tally.leaders_killed } else { &mut tally.members_killed }) += 1;
    let name = object.file_name().ok_or("an object without a name")?;
    let (held, all) = held_blocks(&object, &objects.join(name))?;
    node.start()?;
    let name = object.file_stem().and_then(|name| name.to_str()).ok_or("an object's name is not UTF-8")?;
    let counted = wait_for("a node that was started again", BACK, || {
        let lines = node.ask("show store").ok()?;
        let row = lines.iter().find(|line| line.text("name") == Some(name));
        Some(row.and_then(|line| number(line, "blocks_verified")).unwrap_or(0))
    })?;
    if held < all {
        tally.midway += 1;
        tally.held += held;
        tally.lost += held.saturating_sub(counted);
    }
    wait_for("a node that has a leader again", BACK, || {
        let lines = node.ask("show status").ok()?;
        let status = lines.first()?;
        (status.text("registered") == Some("true") || status.text("state") == Some("gl_is_me")).then_some(())
    })
}

/// Blocks of an object that a spool's file has in whole, and all.
fn held_blocks(spooled: &Path, object: &Path) -> Result<(u64, u64), String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (spooled, object) = (read(spooled)?, read(object)?);
    let len = LEAF_LEN as usize;
    let pairs = spooled.chunks(len).zip(object.chunks(len));
    let held = pairs.filter(|(one, other)| one == other).count() as u64;
    Ok((held, object.chunks(len).len() as u64))
}
