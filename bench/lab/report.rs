//! What is printed: a JSON object per run of a tool, or a table for people.

use crate::farm::Details;
use crate::local::Local;
use serde_json::{Value, json};

/// One run of one tool.
pub struct Measured {
    pub tool: &'static str,
    /// Until the last member had the file stored; of farmcast: verified and staged.
    pub seconds: f64,
    /// What the sender put on its link, with all headers.
    pub wire_bytes: u64,
    /// All members hold the file, compared by hash after the measurement.
    pub ok: bool,
    /// What only farmcast tells.
    pub farm: Option<Details>,
}

pub struct Report<'a> {
    options: &'a Local,
    impairment: &'a str,
    headed: bool,
}

impl<'a> Report<'a> {
    pub fn new(options: &'a Local, impairment: &'a str) -> Self {
        Self { options, impairment, headed: false }
    }

    /// `peers` are what it is compared with, of the same run.
    pub fn print(&mut self, measured: &Measured, peers: &[Measured]) {
        if self.options.json {
            println!("{}", self.object(measured, peers));
        } else {
            self.row(measured, peers);
        }
    }

    fn object(&self, measured: &Measured, peers: &[Measured]) -> Value {
        let options = self.options;
        let goodput = options.size as f64 / measured.seconds;
        let mut object = json!({
            "scenario": "local",
            "tool": measured.tool,
            "members": options.members,
            "bytes": options.size,
            "rate_mbit": options.rate.map(|rate| rate as f64 / 1e6),
            "loss_pct": options.loss,
            "mtu": options.payload_mtu,
            "impairment": self.impairment,
            "seconds": round(measured.seconds, 3),
            "goodput_mb_s": round(goodput / 1e6, 1),
            "link_share": options.rate.map(|rate| round(goodput * 8.0 / rate as f64, 3)),
            "wire_ratio": round(measured.wire_bytes as f64 / options.size as f64, 3),
            "ok": measured.ok,
            "seed": options.seed,
        });
        if let Some(farm) = &measured.farm {
            object["received_seconds"] = json!(round(farm.received_seconds, 3));
            object["received_goodput_mb_s"] =
                json!(round(options.size as f64 / farm.received_seconds / 1e6, 1));
            object["received_link_share"] = json!(
                options
                    .rate
                    .map(|rate| round(options.size as f64 * 8.0 / farm.received_seconds / rate as f64, 3))
            );
            object["publish_seconds"] = json!(round(farm.publish_seconds, 3));
            object["pull_seconds"] = json!(round(farm.pull_seconds, 3));
            object["repair_share"] = json!(round(farm.repair_share, 4));
            object["passes"] = json!(farm.passes);
            object["socket_drops"] = json!(farm.socket_drops);
            object["members_received_seconds"] = json!(rounded(&farm.received));
            object["members_staged_seconds"] = json!(rounded(&farm.staged));
            object["cpu_seconds"] =
                json!({ "leader": round(farm.cpu.0, 2), "members": round(farm.cpu.1, 2) });
            // How many times as fast as the peer, staged and received.
            for peer in peers {
                object[format!("ratio_{}", peer.tool)] = json!(round(peer.seconds / measured.seconds, 2));
                object[format!("received_ratio_{}", peer.tool)] =
                    json!(round(peer.seconds / farm.received_seconds, 2));
            }
        }
        object
    }

    fn row(&mut self, measured: &Measured, peers: &[Measured]) {
        let options = self.options;
        if !self.headed {
            self.headed = true;
            let rate = options.rate.map_or("no".to_owned(), |rate| format!("{} Mbit/s", rate as f64 / 1e6));
            println!(
                "{} members, {} bytes, rate limit {rate}, loss {} %: {}",
                options.members, options.size, options.loss, self.impairment
            );
            println!(
                "{:<10} {:>9} {:>9} {:>7} {:>7}  {:<4}",
                "tool", "seconds", "MB/s", "link", "wire", "ok"
            );
        }
        let line = |tool: &str, seconds: f64, rest: &str| {
            let goodput = options.size as f64 / seconds;
            let share =
                options.rate.map_or("-".to_owned(), |rate| format!("{:.1} %", goodput * 800.0 / rate as f64));
            let wire = measured.wire_bytes as f64 / options.size as f64;
            let ok = if measured.ok { "yes" } else { "NO" };
            println!(
                "{tool:<10} {seconds:>9.3} {:>9.1} {share:>7} {wire:>7.3}  {ok:<4}{rest}",
                goodput / 1e6
            );
        };
        let Some(farm) = &measured.farm else { return line(measured.tool, measured.seconds, "") };
        line("  received", farm.received_seconds, "");
        let mut rest = format!(
            " repair {:.1} %, {} passes, pulled in {:.2} s, published in {:.2} s",
            farm.repair_share * 100.0,
            farm.passes,
            farm.pull_seconds,
            farm.publish_seconds
        );
        for peer in peers {
            rest += &format!(
                ", {:.2} x {} ({:.2} received)",
                peer.seconds / measured.seconds,
                peer.tool,
                peer.seconds / farm.received_seconds
            );
        }
        line(measured.tool, measured.seconds, &rest);
    }
}

fn round(number: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (number * unit).round() / unit
}

fn rounded(numbers: &[f64]) -> Vec<f64> {
    numbers.iter().map(|number| round(*number, 3)).collect()
}
