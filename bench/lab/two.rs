//! Two sessions at once, of two sites to the same members, and how fairly they share (LD-2).

use crate::clock::{now, wait_for};
use crate::farm::{Farm, Setup};
use crate::links::Links;
use crate::node::number;
use crate::result::{Sheet, round};
use crate::segment::Segment;
use crate::{Scenario, content, process, units};
use farmcast::ccm::api::types::Phase;
use serde_json::json;
use std::path::Path;

const SITES: [&str; 2] = ["one", "two"];
/// Seconds for both.
const END: u64 = 300;

#[derive(clap::Args)]
pub struct Two {
    #[command(flatten)]
    pub links: Links,
    /// Bytes of each file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "64M", value_parser = units::bytes)]
    pub size: u64,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

impl Scenario for Two {
    const NAME: &str = "two";
    const ABOUT: &str = "Two sites published at once: what one session takes from the other";

    fn run(&self, dir: &Path) -> Result<(), String> {
        let segment = Segment::build(self.links, dir)?;
        let (scenario, impairment) = (Self::NAME, &segment.impairment);
        let bytes = self.size * 2;
        let sheet = Sheet { scenario, links: &self.links, bytes, impairment, json: self.json };
        sheet.head();
        let setup = Setup { sites: &SITES, ..Setup::of(process::FARMCAST) };
        let farm = Farm::start(setup, &segment, dir.join("farm"))?;

        let alone = self.publish(&farm, dir, "alone", &SITES[..1])?;
        let both = self.publish(&farm, dir, "both", &SITES)?;
        let last = both.ended.iter().copied().fold(0.0, f64::max);
        let first = both.ended.iter().copied().fold(f64::INFINITY, f64::min);
        let more = json!({
            "seconds": round(last, 3), "goodput_mb_s": round(sheet.goodput(last), 1),
            "alone_seconds": round(alone.ended[0], 3), "first_seconds": round(first, 3),
            "first_of_last": round(first / last, 3), "overlap": round(both.overlap, 3),
            "against_one_after_the_other": round(alone.ended[0] * 2.0 / last, 3),
        });
        let sentence = format!(
            "one alone {:.2} s; two at once {first:.2} and {last:.2} s, {:.1} MB/s together, {:.0} % of the time both \
             were sent",
            alone.ended[0],
            sheet.goodput(last),
            both.overlap * 100.0
        );
        sheet.print("farmcast", more, &sentence);
        farm.end()
    }
}

/// What a publish of one or two sites took.
struct Published {
    /// Seconds from the first frame until each site was staged everywhere.
    ended: Vec<f64>,
    /// Of the moments at which the leader sent, the share at which it sent for two.
    overlap: f64,
}

impl Two {
    fn publish(&self, farm: &Farm<'_>, dir: &Path, name: &str, sites: &[&str]) -> Result<Published, String> {
        let mut jobs = Vec::new();
        for (at, site) in sites.iter().enumerate() {
            let file = dir.join(name);
            content::write_noise(&file, self.links.seed + at as u64, self.size)?;
            farm.stage(site, &file)?;
            std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        for site in sites {
            jobs.push(farm.publish_later(site)?.id);
        }
        let mut port = farm.nodes[0].port()?;
        let (mut began, mut one, mut two) = (None, 0_u32, 0_u32);
        wait_for("the end of all sessions", END, || {
            let sending = number(port.ask("show status").ok()?.first()?, "sending")?;
            if sending > 0 && began.is_none() {
                began = Some(now());
            }
            one += u32::from(sending > 0);
            two += u32::from(sending > 1);
            let staged = |site: &&str| {
                let source = farm.staging(site).join(name);
                farm.nodes.iter().all(|node| node.has_staged(site, &source))
            };
            sites.iter().all(staged).then_some(())
        })?;
        for job in jobs {
            let job = farm.wait_for_end(job, END)?;
            if job.phase != Phase::Done {
                return Err(format!("the publish ended as {}: {}", job.phase, job.text));
            }
        }
        let began = began.ok_or("no session was seen")?;
        let ended = |site: &&str| {
            let times = farm.nodes[1..].iter().map(|node| node.staged_at(site, name.as_ref()));
            let last = times.collect::<Result<Vec<_>, _>>()?.into_iter().fold(began, f64::max);
            Ok(last - began)
        };
        let ended = sites.iter().map(ended).collect::<Result<_, String>>()?;
        Ok(Published { ended, overlap: f64::from(two) / f64::from(one.max(1)) })
    }
}
