//! What the lab printed, line by line.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One line. What a scenario does not tell is absent.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    pub scenario: String,
    pub tool: String,
    pub members: u32,
    pub bytes: u64,
    pub rate_mbit: Option<f64>,
    #[serde(default)]
    pub mtu: u32,
    pub impairment: String,
    /// Why a tool was not measured.
    pub skipped: Option<String>,
    pub seconds: Option<f64>,
    pub goodput_mb_s: Option<f64>,
    pub link_share: Option<f64>,
    pub received_mb_s: Option<f64>,
    pub wire_per_byte: Option<f64>,
    pub completed: Option<u32>,
    pub cpu_sender_s: Option<f64>,
    pub cpu_members_s: Option<f64>,
    #[serde(default)]
    pub members_received_seconds: Vec<Option<f64>>,
    #[serde(default)]
    pub members_staged_seconds: Vec<Option<f64>>,
    /// How many times as fast farmcast was as each of the others; only in the line that compares.
    pub ratio: Option<Map<String, Value>>,
    pub series: Option<Series>,
    /// Everything else, for the table of figures.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What the leader said while it sent; arrays of one length.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    pub at_s: Vec<f64>,
    pub frames: Vec<f64>,
    pub repair_frames: Vec<f64>,
    pub rate_bytes_s: Vec<f64>,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    pub at_s: Vec<f64>,
    pub frames: Vec<f64>,
    /// Share of the blocks that are verified.
    pub verified: Vec<f64>,
}

/// Samples of a member over which its loss is counted.
const LATELY: usize = 6;

/// A point of a plot.
pub type Point = (f64, f64);

impl Run {
    /// Reads JSON lines; `name` is only for messages. Lines that are empty or begin with a letter are what people
    /// copy along, and passed over.
    pub fn read_all(name: &str, text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with('{'));
        lines
            .map(|(number, line)| {
                let run: Self = serde_json::from_str(line).map_err(|error| {
                    format!("{name}:{}: {error}; give lines that the lab printed with --json", number + 1)
                })?;
                run.check().map_err(|text| format!("{name}:{}: {text}", number + 1))?;
                Ok(run)
            })
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let Some(series) = &self.series else { return Ok(()) };
        let len = series.at_s.len();
        let own = [&series.frames, &series.repair_frames, &series.rate_bytes_s];
        let members = series.members.iter();
        let even = own.iter().all(|figures| figures.len() == len)
            && members.clone().all(|member| {
                member.frames.len() == member.at_s.len() && member.verified.len() == member.at_s.len()
            });
        if even { Ok(()) } else { Err("the arrays of a series are not of one length".to_owned()) }
    }

    /// Runs of one heading were made on the same links with the same content.
    pub fn heading(&self) -> String {
        let rate = self.rate_mbit.map_or("no rate limit".to_owned(), |rate| format!("{rate} Mbit/s"));
        format!(
            "{}: {} members, {} MiB, {rate}, {}",
            self.scenario,
            self.members,
            self.bytes >> 20,
            self.impairment
        )
    }
}

impl Series {
    /// Megabits a second that left, by frames of the link's MTU.
    pub fn rate(&self, mtu: u32) -> Vec<Point> {
        let bits = f64::from(mtu) * 8.0 / 1e6;
        slope(&self.at_s, &self.frames).into_iter().map(|(at, frames)| (at, frames * bits)).collect()
    }

    /// Megabits a second that the leader aimed at.
    pub fn aim(&self) -> Vec<Point> {
        self.at_s.iter().copied().zip(self.rate_bytes_s.iter().map(|rate| rate * 8.0 / 1e6)).collect()
    }

    /// Frames a second: of the first pass, and of later ones.
    pub fn frames(&self) -> [Vec<Point>; 2] {
        let first: Vec<f64> =
            self.frames.iter().zip(&self.repair_frames).map(|(all, repair)| all - repair).collect();
        [slope(&self.at_s, &first), slope(&self.at_s, &self.repair_frames)]
    }

    /// Percent of what was sent lately that a member's sockets did not give it: all that was lost on the way. Of
    /// the first moments a part is what was still under way.
    pub fn lost(&self, member: &Member) -> Vec<Point> {
        let points: Vec<(f64, f64, f64)> = member
            .at_s
            .iter()
            .zip(&member.frames)
            .filter_map(|(&at, &received)| Some((at, received, self.sent_at(at)?)))
            .collect();
        let windows = points.windows(LATELY.min(points.len().max(2)));
        windows
            .filter_map(|window| {
                let ((_, received_before, sent_before), (at, received, sent)) = (window[0], *window.last()?);
                let sent = sent - sent_before;
                (sent >= 1.0)
                    .then(|| (at, (1.0 - (received - received_before) / sent).clamp(0.0, 1.0) * 100.0))
            })
            .collect()
    }

    /// Frames that had been sent at a moment within the series.
    fn sent_at(&self, at: f64) -> Option<f64> {
        let after = self.at_s.iter().position(|time| *time >= at)?;
        let before = after.checked_sub(1)?;
        let part = (at - self.at_s[before]) / (self.at_s[after] - self.at_s[before]).max(1e-9);
        Some(self.frames[before] + part * (self.frames[after] - self.frames[before]))
    }
}

impl Member {
    /// Percent of the object that is verified.
    pub fn progress(&self) -> Vec<Point> {
        self.at_s.iter().copied().zip(self.verified.iter().map(|share| share * 100.0)).collect()
    }
}

/// What a count grew by, a second, between neighbours.
fn slope(at: &[f64], count: &[f64]) -> Vec<Point> {
    let pairs = at.windows(2).zip(count.windows(2));
    pairs
        .filter(|(at, _)| at[1] > at[0])
        .map(|(at, count)| (f64::midpoint(at[0], at[1]), (count[1] - count[0]).max(0.0) / (at[1] - at[0])))
        .collect()
}
