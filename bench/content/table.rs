//! Rounds of several tools, one after the other, and the medians that are printed.

use serde_json::{Map, Value, json};

pub struct Rounds {
    pub json: bool,
    pub runs: u32,
}

/// One run of one tool.
pub struct Run {
    pub seconds: f64,
    /// Bytes that it would send.
    pub bytes: u64,
    /// Most memory that its process held; 0 where that was not measured.
    pub peak: u64,
}

/// A tool by name, and a run of it; `None` where it is not installed.
pub type Tool<'a> = (&'a str, &'a mut dyn FnMut() -> Option<Run>);

impl Rounds {
    /// Runs each tool once per round and prints the median of each, with what all have in common. The first tool is
    /// the one that the others are compared with. `size` is what they read.
    pub fn measure(&self, scenario: &str, common: &Value, size: u64, tools: &mut [Tool<'_>]) {
        let mut runs: Vec<Vec<Run>> = tools.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.runs {
            for ((_, tool), runs) in tools.iter_mut().zip(&mut runs) {
                runs.extend(tool());
            }
        }
        let medians: Vec<Option<(f64, u64, u64)>> = runs.iter().map(|runs| median(runs)).collect();
        let own = medians[0].expect("our own runs were measured");
        for ((name, _), measured) in tools.iter().zip(medians) {
            let Some((seconds, bytes, peak)) = measured else {
                eprintln!("{name}: skipped, it is not installed");
                continue;
            };
            let mut row = Map::new();
            row.insert("scenario".into(), json!(scenario));
            row.extend(common.as_object().expect("it is one").clone());
            row.insert("tool".into(), json!(name));
            row.insert("seconds".into(), json!(rounded(seconds)));
            row.insert("mb_s".into(), json!((size as f64 / seconds / 1e6).round()));
            row.insert("bytes".into(), json!(bytes));
            row.insert("peak_bytes".into(), json!(peak));
            row.insert("runs".into(), json!(self.runs));
            row.insert("size_ratio".into(), json!(rounded(own.1 as f64 / bytes as f64)));
            row.insert("time_ratio".into(), json!(rounded(own.0 / seconds)));
            if self.json {
                println!("{}", Value::Object(row));
            } else {
                let what: Vec<String> =
                    common.as_object().into_iter().flatten().map(|(_, v)| v.to_string()).collect();
                println!(
                    "{scenario} {:<24} {name:<16} {seconds:>8.3} s {bytes:>12} bytes {:>6.1} MiB peak",
                    what.join(" "),
                    peak as f64 / 1_048_576.0
                );
            }
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn median(runs: &[Run]) -> Option<(f64, u64, u64)> {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let last = runs.last()?;
    Some((seconds[seconds.len() / 2], last.bytes, runs.iter().map(|run| run.peak).max()?))
}
