//! `farmcast demo`: a farm on one machine, as an ordinary user, with nothing to set up and nothing left
//! behind. One controller and its nodes, each a process with its own sockets and directories, on loopback
//! multicast.
//!
//! [`story`] is what happens; this file is its frame: options, interruption, time limit, clearing up.

mod change;
mod copy;
mod farm;
mod place;
mod process;
mod report;
mod sample;
mod settings;
mod story;
mod text_port;

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, count};
use super::version;
use farm::Farm;
use place::Place;
use report::{Report, Summary};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use story::Story;
use tokio::signal::unix::{Signal, SignalKind, signal};

const SCHEMA: &str = "farmcast.demo/1";
/// Name of the demo's site.
const SITE: &str = "www";
/// With `--once` the whole ends within 30 s: this for the story, the rest for clearing up.
const ONCE_MAX: Duration = Duration::from_secs(25);
/// A site of one's own takes the time that it takes, within reason.
const ONCE_SOURCE_MAX: Duration = Duration::from_secs(600);
/// Between two looks at the processes while the farm serves.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Options {
    /// End after the story: 0 where all hashes agree, 1 otherwise, within 30 s (10 minutes with --source)
    #[arg(long)]
    once: bool,
    /// Segments of the farm
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    segments: u8,
    /// Nodes per segment
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Percentage of received datagrams that every node drops
    #[arg(long, value_name = "PCT", default_value_t = 0.0, value_parser = percentage)]
    loss: f64,
    /// Publish a copy of this directory rather than the sample site
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Work in this directory, which must be empty or new, and leave it as it is at the end
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Options {
    /// How long the story may take.
    fn limit(&self) -> Duration {
        match (self.once, &self.source) {
            (false, _) => Duration::MAX,
            (true, None) => ONCE_MAX,
            (true, Some(_)) => ONCE_SOURCE_MAX,
        }
    }
}

impl Options {
    fn segments(&self) -> usize {
        usize::from(self.segments)
    }

    /// Of each segment.
    fn nodes(&self) -> usize {
        usize::from(self.nodes)
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=50.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to 50".to_owned()),
    }
}

pub async fn run(options: &Options, output: &Output) -> Result<ExitCode, Failure> {
    // Before anything exists that would have to be removed.
    let mut stop_signals = StopSignals::listen()?;
    if let Some(source) = &options.source {
        std::fs::read_dir(source)
            .map_err(|error| Failure::Usage(format!("--source {}: {error}", source.display())))?;
    }
    let mut place = Place::make(options.keep.as_deref())?;
    let result = match apart(options.source.as_deref(), &place.dir) {
        Ok(()) => in_place(options, output, &mut place, &mut stop_signals).await,
        Err(failure) => Err(failure),
    };
    let removed = place.remove().await;
    let code = result.map_err(|failure| match failure {
        // Exit code 0 is for a story told to its end.
        Failure::Closed => {
            Failure::Ran("nobody reads the output: the demo is stopped and removed".to_owned())
        }
        failure => failure,
    })?;
    removed?;
    Ok(code)
}

/// A source that holds the demo's own directory would be copied into itself.
fn apart(source: Option<&Path>, dir: &Path) -> Result<(), Failure> {
    let source = source.and_then(|source| source.canonicalize().ok());
    match source {
        Some(source) if dir.starts_with(&source) => Err(Failure::Usage(format!(
            "--source {} holds the demo's own directory {}: name another with --keep DIR or TMPDIR",
            source.display(),
            dir.display()
        ))),
        _ => Ok(()),
    }
}

async fn in_place(
    options: &Options,
    output: &Output,
    place: &mut Place,
    stop_signals: &mut StopSignals,
) -> Result<ExitCode, Failure> {
    let report = Report::new(output);
    let mut farm = Farm::plan(place, options)?;
    let client = Client::new(farm.ccm_socket.clone());
    let mut summary = Summary::new(options.segments(), farm.members.len());
    let stop = Arc::new(AtomicBool::new(false));
    begin(&report, &farm, options, &place.dir)?;

    let mut story = Story {
        options,
        farm: &mut farm,
        client: &client,
        report: &report,
        summary: &mut summary,
        stop: Arc::clone(&stop),
    };
    let limit = options.limit();
    let told = tokio::select! {
        told = tell(&mut story, place) => told,
        () = stop_signals.recv() => {
            Err(Failure::Interrupted("interrupted: the demo is stopped and removed".to_owned()))
        }
        () = tokio::time::sleep(limit) => {
            let limit = limit.as_secs();
            Err(Failure::Ran(format!("not done within {limit} s; a larger site needs the demo without --once")))
        }
    };
    stop.store(true, Ordering::Relaxed);
    summary.ok = told.is_ok();
    let result = match told {
        Ok(named) => match report.summary(&summary) {
            Ok(()) if options.once => Ok(ExitCode::SUCCESS),
            Ok(()) => serve(&report, &mut farm, named, stop_signals).await,
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(tell_failure(failure, &report, &summary, &mut farm)),
    };
    farm.stop().await;
    result
}

fn begin(report: &Report<'_>, farm: &Farm, options: &Options, dir: &Path) -> Result<(), Failure> {
    let (nodes, segments) = (farm.members.len(), options.segments());
    report.line(&format!(
        "farmcast demo {}: {} in {} on loopback multicast, no root needed",
        version::LINE,
        count(nodes as u64, "node"),
        count(segments as u64, "segment")
    ))?;
    report.line(&format!("  directory  {}", dir.display()))?;
    if options.loss > 0.0 {
        report.line(&format!("  loss       {} % of the datagrams that each node receives", options.loss))?;
    }
    let facts = json!({
        "version": version::VERSION,
        "revision": version::REVISION,
        "segments": segments,
        "nodes": nodes,
        "loss_pct": options.loss,
        "dir": dir,
        "socket": farm.ccm_socket,
    });
    report.step("start", "starting the controller", facts)
}

/// Returns whether the command line finds the demo without `--socket`.
async fn tell(story: &mut Story<'_>, place: &mut Place) -> Result<bool, Failure> {
    story.start().await?;
    let named = place.announce(&story.farm.ccm_socket);
    story.first_publish().await?;
    story.lose_a_leader().await?;
    story.second_publish().await?;
    Ok(named)
}

/// Says on stderr what helps to understand a failure; on stdout the summary as far as it goes.
fn tell_failure(failure: Failure, report: &Report<'_>, summary: &Summary, farm: &mut Farm) -> Failure {
    if let Failure::Closed = failure {
        return failure;
    }
    let said = report.failed(&failure.to_string()).and_then(|()| report.summary(summary));
    if let Err(closed) = said {
        return closed;
    }
    if !matches!(failure, Failure::Interrupted(_)) {
        for line in farm.last_words() {
            eprintln!("  {}", super::output::printable(&line));
        }
    }
    failure
}

/// Leaves the farm at work until the user has enough. `named`: the command line finds it by itself.
async fn serve(
    report: &Report<'_>,
    farm: &mut Farm,
    named: bool,
    stop_signals: &mut StopSignals,
) -> Result<ExitCode, Failure> {
    let program = match named {
        true => "farmcast".to_owned(),
        false => format!("farmcast --socket {}", farm.ccm_socket.display()),
    };
    report.line("the farm is at work; in another terminal:")?;
    report.line(&format!("  {program} status"))?;
    report.line(&format!("  {program} node list"))?;
    report.line(&format!("  edit files in {}", farm.staging.display()))?;
    report.line(&format!("  {program} publish {SITE}"))?;
    if let Some(member) = farm.members.first() {
        report.line(&format!("  see them live in {}", member.live().display()))?;
    }
    report.line("Ctrl-C stops and removes everything")?;
    let mut told = String::new();
    loop {
        tokio::select! {
            () = stop_signals.recv() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(failure) = farm.check() {
            let text = failure.to_string();
            if text != told {
                eprintln!("farmcast: {text}; the rest of the farm goes on");
                told = text;
            }
        }
    }
}

/// The signals that end a demo in order.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Ran(format!("cannot listen for signals: {error}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn recv(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_nothing_could_survive_is_refused() {
        assert_eq!(percentage("5"), Ok(5.0));
        for bad in ["-1", "51", "NaN", "inf", "much"] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_around_the_demo_itself_is_refused() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let inside = base.path().canonicalize().expect("it is there").join("demo");
        assert_eq!(apart(Some(base.path()), &inside).err().map(|failure| failure.code()), Some(2));
        assert!(apart(None, &inside).is_ok());
        assert!(apart(Some(Path::new("/usr")), &inside).is_ok());
    }
}
