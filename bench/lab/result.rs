//! What is printed: a JSON object per run of a tool and one that compares them, or a table for people.

use crate::links::Links;
use crate::publish::Details;
use serde_json::{Map, Value, json};

/// One run of one tool.
pub struct Measured {
    pub tool: &'static str,
    /// Until the last member had the file stored; of farmcast: verified and staged.
    pub seconds: f64,
    /// What the sender put on its link, with all headers.
    pub wire_bytes: u64,
    /// Members that hold the file, compared by hash after the measurement.
    pub completed: usize,
    /// Processor seconds of the sender's and of all members' processes.
    pub cpu_sender: f64,
    pub cpu_members: f64,
    /// What only farmcast tells.
    pub farm: Option<Details>,
}

/// What all runs of a scenario have in common, and how they are printed.
pub struct Sheet<'a> {
    pub scenario: &'static str,
    pub links: &'a Links,
    /// Of the content.
    pub bytes: u64,
    pub impairment: &'a str,
    pub json: bool,
}

impl Sheet<'_> {
    /// The line above the table.
    pub fn head(&self) {
        if !self.json {
            let rate = self.rate_mbit().map_or("no".to_owned(), |rate| format!("{rate} Mbit/s"));
            let Self { scenario, bytes, impairment, links, .. } = self;
            println!("{scenario}: {} members, {bytes} bytes, rate limit {rate}: {impairment}", links.members);
        }
    }

    /// An object with what is common, and more.
    pub fn object(&self, tool: &str, more: Value) -> Value {
        let mut object = json!({
            "scenario": self.scenario,
            "tool": tool,
            "members": self.links.members,
            "bytes": self.bytes,
            "rate_mbit": self.rate_mbit(),
            "loss_pct": self.links.loss,
            "mtu": self.links.payload_mtu,
            "impairment": self.impairment,
            "seed": self.links.seed,
        });
        if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        object
    }

    /// The object, or the sentence.
    pub fn print(&self, tool: &str, more: Value, sentence: &str) {
        if self.json {
            println!("{}", self.object(tool, more));
        } else {
            println!("{tool:<10} {sentence}");
        }
    }

    /// A tool that is not there.
    pub fn skipped(&self, tool: &str, why: &str) {
        self.print(tool, json!({ "skipped": why }), &format!("SKIPPED: {why}"));
    }

    /// The heads of what [`Self::run`] prints.
    pub fn columns(&self) {
        if !self.json {
            println!(
                "{:<10} {:>8} {:>7} {:>7} {:>6} {:>4} {:>7} {:>7}",
                "tool", "seconds", "MB/s", "link", "wire", "held", "cpu out", "cpu in"
            );
        }
    }

    /// One run of one tool.
    pub fn run(&self, run: u32, measured: &Measured) {
        if self.json {
            println!("{}", self.object(measured.tool, self.figures(run, measured)));
            return;
        }
        let line = |tool: &str, seconds: f64, rest: &str| {
            let share =
                self.link_share(seconds).map_or("-".to_owned(), |share| format!("{:.1} %", share * 1e2));
            println!(
                "{tool:<10} {seconds:>8.3} {:>7.1} {share:>7} {:>6.3} {:>4} {:>7.2} {:>7.2}{rest}",
                self.goodput(seconds),
                self.wire(measured),
                measured.completed,
                measured.cpu_sender,
                measured.cpu_members,
            );
        };
        match &measured.farm {
            None => line(measured.tool, measured.seconds, ""),
            Some(farm) => {
                line("  received", farm.received_seconds, "");
                let rest = format!(
                    "  repair {:.1} %, {} passes, {} drops, pulled in {:.2} s, published in {:.2} s",
                    farm.repair_share * 100.0,
                    farm.passes,
                    farm.socket_drops,
                    farm.pull_seconds,
                    farm.publish_seconds
                );
                line(measured.tool, measured.seconds, &rest);
            }
        }
    }

    fn figures(&self, run: u32, measured: &Measured) -> Value {
        let mut figures = json!({
            "run": run,
            "completed": measured.completed,
            "seconds": round(measured.seconds, 3),
            "goodput_mb_s": round(self.goodput(measured.seconds), 1),
            "link_share": self.link_share(measured.seconds).map(|share| round(share, 3)),
            "wire_per_byte": round(self.wire(measured), 3),
            "cpu_sender_s": round(measured.cpu_sender, 2),
            "cpu_members_s": round(measured.cpu_members, 2),
        });
        if let Some(farm) = &measured.farm {
            figures["passes"] = json!(farm.passes);
            figures["repair_share"] = json!(round(farm.repair_share, 4));
            figures["socket_drops"] = json!(farm.socket_drops);
            figures["received_seconds"] = json!(round(farm.received_seconds, 3));
            figures["received_mb_s"] = json!(round(self.goodput(farm.received_seconds), 1));
            figures["received_link_share"] =
                json!(self.link_share(farm.received_seconds).map(|share| round(share, 3)));
            figures["publish_seconds"] = json!(round(farm.publish_seconds, 3));
            figures["pull_seconds"] = json!(round(farm.pull_seconds, 3));
            figures["members_received_seconds"] = json!(rounded(&farm.received));
            figures["members_staged_seconds"] = json!(rounded(&farm.staged));
            if let Some(series) = &farm.series {
                figures["series"] = series.to_json();
            }
        }
        figures
    }

    /// Medians of all runs, and how many times as fast farmcast was as each of the others.
    pub fn compare(&self, all: &[Measured]) {
        let mut tools: Vec<&str> = Vec::new();
        for measured in all {
            if !tools.contains(&measured.tool) {
                tools.push(measured.tool);
            }
        }
        let of = |tool: &str, figure: fn(&Measured) -> f64| {
            median(all.iter().filter(|measured| measured.tool == tool).map(figure).collect())
        };
        let seconds = |measured: &Measured| measured.seconds;
        let received = |measured: &Measured| {
            measured.farm.as_ref().map_or(measured.seconds, |farm| farm.received_seconds)
        };
        let mut medians = Map::new();
        let (mut ratio, mut received_ratio) = (Map::new(), Map::new());
        let (own, own_received) = (of("farmcast", seconds), of("farmcast", received));
        for tool in &tools {
            let median_seconds = of(tool, seconds);
            let figures = json!({
                "seconds": round(median_seconds, 3),
                "goodput_mb_s": round(self.goodput(median_seconds), 1),
                "link_share": self.link_share(median_seconds).map(|share| round(share, 3)),
                "wire_per_byte":
                    round(of(tool, |measured| measured.wire_bytes as f64) / self.bytes as f64, 3),
                "cpu_sender_s": round(of(tool, |measured| measured.cpu_sender), 2),
                "cpu_members_s": round(of(tool, |measured| measured.cpu_members), 2),
            });
            medians.insert((*tool).to_owned(), figures);
            if *tool != "farmcast" && own.is_finite() {
                ratio.insert((*tool).to_owned(), json!(round(median_seconds / own, 2)));
                received_ratio.insert((*tool).to_owned(), json!(round(median_seconds / own_received, 2)));
            }
        }
        let runs = all.iter().filter(|measured| measured.tool == tools[0]).count();
        let words: Vec<String> = ratio
            .iter()
            .map(|(tool, times)| format!("{times} x {tool} ({} received)", received_ratio[tool]))
            .collect();
        let sentence = format!("medians of {runs}: {:.1} MB/s; {}", self.goodput(own), words.join(", "));
        let more = json!({
            "runs": runs, "median": medians, "ratio": ratio, "received_ratio": received_ratio,
        });
        self.print("farmcast", more, sentence.trim_end_matches("; "));
    }

    fn rate_mbit(&self) -> Option<f64> {
        self.links.rate.map(|rate| rate as f64 / 1e6)
    }

    /// Megabytes (of 10^6) of content a second.
    pub fn goodput(&self, seconds: f64) -> f64 {
        self.bytes as f64 / seconds / 1e6
    }

    fn link_share(&self, seconds: f64) -> Option<f64> {
        self.links.rate.map(|rate| self.bytes as f64 * 8.0 / seconds / rate as f64)
    }

    fn wire(&self, measured: &Measured) -> f64 {
        measured.wire_bytes as f64 / self.bytes as f64
    }
}

/// NaN of nothing.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => numbers[len / 2],
        len => f64::midpoint(numbers[len / 2 - 1], numbers[len / 2]),
    }
}

pub fn round(number: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (number * unit).round() / unit
}

pub fn rounded(numbers: &[f64]) -> Vec<f64> {
    numbers.iter().map(|number| round(*number, 3)).collect()
}
