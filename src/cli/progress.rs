//! How a job stands, in one line; on a terminal that line renews itself.

use super::output::{bytes, clock_time, count, printable, span};
use crate::ccm::api::types::{Job, Phase};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// Between two plain lines, where stderr is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    /// `None` where stderr is no terminal or the reader wants JSON.
    line: Option<ProgressBar>,
    plain: bool,
    next_plain: Duration,
    distributing_since: Option<Duration>,
}

impl Progress {
    pub fn new(json: bool) -> Self {
        let terminal = stderr().is_terminal();
        let line = (terminal && !json).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.with_style(ProgressStyle::with_template("{wide_msg}").expect("the template is constant"))
        });
        Self { line, plain: !terminal && !json, next_plain: PLAIN_EVERY, distributing_since: None }
    }

    /// `elapsed`: since the watching began.
    pub fn update(&mut self, job: &Job, elapsed: Duration) {
        if job.phase == Phase::Distributing && self.distributing_since.is_none() {
            self.distributing_since = Some(elapsed);
        }
        let running = self.distributing_since.map(|since| elapsed.saturating_sub(since));
        if let Some(line) = &self.line {
            line.set_message(running_line(job, running));
        } else if self.plain && elapsed >= self.next_plain {
            eprintln!("{}", running_line(job, running));
            self.next_plain = elapsed + PLAIN_EVERY;
        }
    }

    /// Takes the renewing line away, so that the summary can stand in its place.
    pub fn clear(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

/// A job that runs, without a rate: `job 91 publish www  distributing  4/6 nodes  3.10/4.65 GiB  66 %`.
pub fn standing(job: &Job) -> String {
    running_line(job, None)
}

/// Bytes count as delivered where a node has received, verified and staged the whole assignment.
/// `running`: for how long it has been distributing.
fn running_line(job: &Job, running: Option<Duration>) -> String {
    let head = format!("job {} {} {}", job.id, printable(&job.kind), printable(&job.site));
    let done = match job.phase {
        Phase::Committing => job.nodes_live,
        _ => job.nodes_staged,
    };
    let mut line = format!("{head}  {}  {done}/{} nodes", phase_word(job.phase), job.nodes_total);
    let whole = job.assignment_bytes.saturating_mul(u64::from(job.nodes_total));
    // Of an update in parts the nodes are counted anew with each, and the parts before it are delivered.
    let each = whole / u64::from(job.parts.max(1));
    let here = job.assignment_bytes.saturating_mul(u64::from(job.nodes_staged.min(job.nodes_total)));
    let delivered = each * u64::from(job.part.saturating_sub(1)) + here / u64::from(job.parts.max(1));
    if job.parts > 1 && job.phase == Phase::Distributing {
        line += &format!("  part {}/{}", job.part, job.parts);
    }
    if whole == 0 {
        return line;
    }
    let percent = u128::from(delivered) * 100 / u128::from(whole);
    line += &format!("  {}/{}  {percent} %", bytes(delivered), bytes(whole));
    let seconds = running.map_or(0.0, |running| running.as_secs_f64());
    if job.phase == Phase::Distributing && delivered > 0 && seconds > 0.0 {
        let rate = delivered as f64 / seconds;
        let left = Duration::try_from_secs_f64((whole - delivered) as f64 / rate).unwrap_or(Duration::MAX);
        line += &format!("  {}/s  {} left", bytes(rate as u64), clock_time(left));
    }
    line
}

/// A job that is over, in one line.
pub fn summary(job: &Job) -> String {
    let head = format!("job {} {} {}", job.id, printable(&job.kind), printable(&job.site));
    let text = printable(&job.text);
    match job.phase {
        Phase::Unchanged if job.kind == "publish" => {
            format!("{head}: unchanged, {} live already, nothing sent", count(job.site_files, "file"))
        }
        Phase::Unchanged => format!("{head}: unchanged, {text}"),
        Phase::Done
            if job.assignment_kind.is_empty()
                && matches!(
                    job.kind.as_str(),
                    "publish" | "synchronize" | "restore" | "checkpoint" | "remove"
                ) =>
        {
            format!("{head}: done, {text}, {}", took(job))
        }
        Phase::Done if job.assignment_kind.is_empty() => {
            let spread = job.switch_spread_us.map_or_else(String::new, |micros| {
                format!(", switch spread {}", span(Duration::from_micros(micros)))
            });
            let (version, live, total) = (job.assignment, job.nodes_live, job.nodes_total);
            format!("{head}: done, version {version} live on {live}/{total} nodes{spread}, {}", took(job))
        }
        Phase::Failed if job.kind == "checkpoint" => format!("{head}: failed, {text}"),
        Phase::Done => {
            let changes = &job.changes;
            let files = count(changes.added + changes.changed + changes.metadata + changes.removed, "change");
            let spread = job.switch_spread_us.map_or_else(String::new, |micros| {
                format!(", switch spread {}", span(Duration::from_micros(micros)))
            });
            format!(
                "{head}: done, {files} live on {}/{} nodes, {} to send{spread}, {}",
                job.nodes_live,
                job.nodes_total,
                bytes(job.assignment_bytes),
                took(job)
            )
        }
        phase => {
            let word = phase_word(phase);
            format!("{head}: {word}, live on {}/{} nodes: {text}", job.nodes_live, job.nodes_total)
        }
    }
}

fn took(job: &Job) -> String {
    span(Duration::from_nanos(job.finished_ns.saturating_sub(job.created_ns)))
}

pub const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Composing => "composing",
        Phase::Distributing => "distributing",
        Phase::Committing => "committing",
        Phase::Done => "done",
        Phase::Unchanged => "unchanged",
        Phase::Partial => "partial",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::{Changes, Policy};

    fn job(phase: Phase) -> Job {
        Job {
            schema: "farmcast.job/1".to_owned(),
            id: 91,
            run: 91,
            kind: "publish".to_owned(),
            site: "www".to_owned(),
            schedule: String::new(),
            attempt: 1,
            policy: Policy::default(),
            phase,
            text: "no space on paris-2".to_owned(),
            assignment: 7,
            assignment_kind: "publish".to_owned(),
            changes: Changes { changed: 3, ..Changes::default() },
            assignment_bytes: 1 << 20,
            parts: 1,
            part: 1,
            changed_bytes: 1 << 20,
            site_files: 200,
            site_bytes: 13 << 20,
            nodes_total: 6,
            nodes_staged: 4,
            nodes_live: 0,
            nodes_failed: 0,
            switch_spread_us: Some(812),
            created_ns: 1_000_000_000,
            started_ns: 1_000_000_000,
            finished_ns: 1_940_000_000,
            bound: String::new(),
            nodes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_running_line_has_bytes_rate_nodes_and_time_left() {
        let line = running_line(&job(Phase::Distributing), Some(Duration::from_secs(2)));
        assert_eq!(
            line,
            "job 91 publish www  distributing  4/6 nodes  4.00 MiB/6.00 MiB  66 %  2.00 MiB/s  0:00:01 left"
        );
    }

    #[test]
    fn nothing_is_guessed_before_there_is_anything_to_measure() {
        let mut early = job(Phase::Distributing);
        early.nodes_staged = 0;
        assert_eq!(
            running_line(&early, Some(Duration::from_secs(2))),
            "job 91 publish www  distributing  0/6 nodes  0 B/6.00 MiB  0 %"
        );
        early.assignment_bytes = 0;
        assert_eq!(running_line(&early, None), "job 91 publish www  distributing  0/6 nodes");
    }

    #[test]
    fn the_summary_says_how_it_ended() {
        let mut over = job(Phase::Done);
        over.nodes_live = 6;
        assert_eq!(
            summary(&over),
            "job 91 publish www: done, 3 changes live on 6/6 nodes, 1.00 MiB to send, switch spread 812 us, 940 ms"
        );
        over.phase = Phase::Partial;
        over.nodes_live = 5;
        assert_eq!(summary(&over), "job 91 publish www: partial, live on 5/6 nodes: no space on paris-2");
        over.phase = Phase::Unchanged;
        assert!(summary(&over).ends_with("unchanged, 200 files live already, nothing sent"));
        let mut back =
            Job { kind: "rollback".to_owned(), assignment_kind: String::new(), ..job(Phase::Done) };
        (back.nodes_live, back.assignment) = (6, 7);
        assert_eq!(
            summary(&back),
            "job 91 rollback www: done, version 7 live on 6/6 nodes, switch spread 812 us, 940 ms"
        );
    }
}
