//! What the demo says: a line per step for people, or an object per step for programs.

use super::SCHEMA;
use crate::cli::clock::Stopwatch;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, bytes, count, span};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

pub struct Report<'a> {
    output: &'a Output,
    clock: Stopwatch,
}

/// The last object of `--json`. What was not measured, because the demo ended before, is null.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    schema: &'static str,
    step: &'static str,
    /// All steps were done and every hash agreed.
    pub ok: bool,
    pub segments: u64,
    pub nodes: u64,
    /// The site as first published.
    pub files: Option<u64>,
    pub bytes: Option<u64>,
    /// From asking for the first publish until it was live on every node.
    pub publish_ms: Option<u64>,
    /// Bytes that left the sockets of all nodes and of the controller during the first publish.
    pub wire_bytes: Option<u64>,
    /// The second publish: files that changed, their size, and what left the sockets.
    pub delta_files: Option<u64>,
    pub delta_bytes: Option<u64>,
    pub delta_wire_bytes: Option<u64>,
    /// Between the first and the last node's switch; the larger one of both publishes.
    pub switch_spread_us: Option<u64>,
    /// From killing a leader until its whole segment follows another.
    pub failover_ms: Option<u64>,
}

#[derive(Serialize)]
struct Step<T> {
    schema: &'static str,
    step: &'static str,
    elapsed_ms: u64,
    #[serde(flatten)]
    facts: T,
}

impl Summary {
    pub fn new(segments: usize, nodes: usize) -> Self {
        Self {
            schema: SCHEMA,
            step: "summary",
            segments: segments as u64,
            nodes: nodes as u64,
            ..Self::default()
        }
    }

    /// Keeps the larger spread.
    pub fn spread(&mut self, spread_us: Option<u64>) {
        self.switch_spread_us = self.switch_spread_us.max(spread_us);
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let spread = |micros| span(Duration::from_micros(micros));
        if let (Some(files), Some(size)) = (self.files, self.bytes) {
            let nodes = count(self.nodes, "node");
            let same = if self.ok { "identical on" } else { "NOT identical on" };
            lines.push(format!("  site       {}, {}, {same} {nodes}", count(files, "file"), bytes(size)));
        }
        if let (Some(ms), Some(wire), Some(size)) = (self.publish_ms, self.wire_bytes, self.bytes) {
            let copies = bytes(size.saturating_mul(self.nodes));
            lines.push(format!(
                "  publish    {}, {} sent ({} copies are {copies})",
                span(Duration::from_millis(ms)),
                bytes(wire),
                self.nodes
            ));
        }
        if let (Some(files), Some(size), Some(wire)) =
            (self.delta_files, self.delta_bytes, self.delta_wire_bytes)
        {
            let files = count(files, "changed file");
            lines.push(format!("  difference {files} of {}, {} sent", bytes(size), bytes(wire)));
        }
        lines.extend(self.switch_spread_us.map(|micros| format!("  switch     spread {}", spread(micros))));
        lines.extend(self.failover_ms.map(|ms| format!("  failover   {ms} ms")));
        lines
    }
}

impl<'a> Report<'a> {
    pub fn new(output: &'a Output) -> Self {
        Self { output, clock: Stopwatch::start() }
    }

    /// A line for people only.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() { Ok(()) } else { self.output.line(text) }
    }

    /// `text` for people, `facts` (a map) for programs.
    pub fn step<T: Serialize>(&self, step: &'static str, text: &str, facts: T) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.value(&Step {
                schema: SCHEMA,
                step,
                elapsed_ms: self.clock.elapsed_ms(),
                facts,
            });
        }
        self.output.line(&format!("[{:5.1}s] {text}", self.clock.elapsed().as_secs_f64()))
    }

    /// For programs; people read the failure on stderr.
    pub fn failed(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() { self.step("failed", text, json!({ "text": text })) } else { Ok(()) }
    }

    pub fn summary(&self, summary: &Summary) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.value(summary);
        }
        let lines = summary.lines();
        if !lines.is_empty() {
            self.output.line(if summary.ok { "measured:" } else { "measured until it failed:" })?;
        }
        lines.iter().try_for_each(|line| self.output.line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_exactly_the_promised_fields() {
        let text = serde_json::to_string(&Summary::new(2, 6)).expect("JSON");
        let fields = [
            "schema",
            "step",
            "ok",
            "segments",
            "nodes",
            "files",
            "bytes",
            "publish_ms",
            "wire_bytes",
            "delta_files",
            "delta_bytes",
            "delta_wire_bytes",
            "switch_spread_us",
            "failover_ms",
        ];
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(fields.len()));
        let places: Vec<_> = fields.iter().map(|field| text.find(&format!("\"{field}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
        assert!(text.starts_with(r#"{"schema":"farmcast.demo/1","step":"summary","ok":false,"#), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_not_printed() {
        let mut summary = Summary::new(2, 6);
        assert!(summary.lines().is_empty());
        (summary.files, summary.bytes, summary.ok) = (Some(200), Some(8 << 20), true);
        summary.spread(Some(812));
        summary.spread(None);
        assert_eq!(
            summary.lines(),
            ["  site       200 files, 8.00 MiB, identical on 6 nodes", "  switch     spread 812 us"]
        );
    }
}
