//! `farmcast publish` and `farmcast job list|show|watch|pause|resume|cancel|retry|report`

use super::client::{Client, segment};
use super::clock::Stopwatch;
use super::failure::{Failure, PARTIAL};
use super::output::{Output, Table, Tone, bytes, cell, count, date_time, printable, span};
use super::pages;
use super::policy::{PolicyArgs, words};
use super::progress::{Progress, phase_word, summary};
use crate::ccm::api::types::{Job, JobLog, JobReport, NewJob, Phase};
use std::process::ExitCode;
use std::time::Duration;

/// Jobs of one answer.
const PAGE: u32 = 1_000;
/// How often a watched job is asked for.
const WATCH_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Publish {
    /// Name of the site
    site: String,
    /// Read all files of staging, also those whose size and time are as they were
    #[arg(long)]
    checksum: bool,
    /// Start the job and return at once
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Start although a freeze or a blackout is on; the reason goes into the history
    #[arg(long = "override", value_name = "REASON")]
    override_reason: Option<String>,
}

#[derive(clap::Args)]
pub struct Synchronize {
    /// Name of the site
    site: String,
    /// Only this node; may be given again
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// Start the job and return at once
    #[arg(long)]
    no_wait: bool,
}

#[derive(clap::Args)]
pub struct Remove {
    /// Name of the site
    site: String,
    /// Files and directories below live; without any, everything
    #[arg(value_name = "PATH", required_unless_present = "all")]
    paths: Vec<String>,
    /// All content of the site
    #[arg(long, conflicts_with = "paths")]
    all: bool,
    /// That it is meant: nodes stop to serve it at one instant
    #[arg(long)]
    yes: bool,
    /// Start the job and return at once
    #[arg(long)]
    no_wait: bool,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// List jobs, the newest first
    List {
        /// So many
        #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "all")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Only those before this number
        #[arg(long, value_name = "ID")]
        before: Option<u64>,
        /// All there are
        #[arg(long)]
        all: bool,
    },
    /// Show one job and its nodes
    Show { id: u64 },
    /// Follow a job until it is over; Ctrl-C leaves the job alone
    Watch { id: u64 },
    /// Have a job wait: nothing more is handed out, and nothing switches
    Pause { id: u64 },
    /// Let a job that is paused go on
    Resume { id: u64 },
    /// End a job before it switches; live is not touched anywhere
    Cancel { id: u64 },
    /// Try a job again that failed, was cancelled, or is live on some nodes only
    Retry {
        id: u64,
        /// Only bring those nodes to what is live that the job left behind
        #[arg(long)]
        failed_only: bool,
        /// Start and return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Show all attempts of a job, their nodes and what happened
    Report { id: u64 },
    /// Print the log of a job: what happened, when, and on which node
    Log { id: u64 },
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { limit, before, all } => list(client, output, (!all).then_some(*limit), *before).await,
        Command::Show { id } => show(client, output, *id).await,
        Command::Watch { id } => {
            let job = fetch(client, *id).await?;
            watch(client, output, job).await
        }
        Command::Pause { id } => wish(client, output, *id, "pause").await,
        Command::Resume { id } => wish(client, output, *id, "resume").await,
        Command::Cancel { id } => wish(client, output, *id, "cancel").await,
        Command::Retry { id, failed_only, no_wait } => {
            let word = if *failed_only { "retry-failed" } else { "retry" };
            if *no_wait {
                return wish(client, output, *id, word).await;
            }
            let job = client.post_once(&format!("/v1/jobs/{id}/{word}"), &()).await?;
            watch(client, output, job).await
        }
        Command::Report { id } => report(client, output, *id).await,
        Command::Log { id } => log(client, output, *id).await,
    }
}

async fn wish(client: &Client, output: &Output, id: u64, word: &str) -> Result<ExitCode, Failure> {
    let job: Job = client.post_once(&format!("/v1/jobs/{id}/{word}"), &()).await?;
    if output.is_json() {
        output.value(&job)?;
    } else {
        output.line(&format!("job {id} {}: {}", printable(&job.site), printable(&job.text)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn log(client: &Client, output: &Output, id: u64) -> Result<ExitCode, Failure> {
    let log: JobLog = client.get(&format!("/v1/jobs/{id}/log")).await?;
    match output.is_json() {
        true => output.value(&log)?,
        false => log.lines.iter().try_for_each(|line| output.line(&printable(line)))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn report(client: &Client, output: &Output, id: u64) -> Result<ExitCode, Failure> {
    let report: JobReport = client.get(&format!("/v1/jobs/{id}/report")).await?;
    if output.is_json() {
        output.value(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    for attempt in &report.attempts {
        output.line(&format!("attempt {}: {}", attempt.attempt, summary(attempt)))?;
    }
    if let Some(last) = report.attempts.last() {
        output.line("")?;
        describe(output, last)?;
    }
    output.line("")?;
    for event in &report.events {
        let (when, subject) = (date_time(event.at_ns), printable(&event.subject));
        output.line(&format!("{when}  {subject}: {}", printable(&event.text)))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn publish(client: &Client, output: &Output, publish: &Publish) -> Result<ExitCode, Failure> {
    let wish = NewJob {
        kind: "publish".to_owned(),
        site: publish.site.clone(),
        checksum: publish.checksum,
        policy: publish.policy.wish(),
        override_reason: publish.override_reason.clone().unwrap_or_default(),
        ..NewJob::default()
    };
    start(client, output, &wish, !publish.no_wait).await
}

pub async fn synchronize(
    client: &Client,
    output: &Output,
    synchronize: &Synchronize,
) -> Result<ExitCode, Failure> {
    let Synchronize { site, nodes, no_wait } = synchronize;
    let (kind, site, nodes) = ("synchronize".to_owned(), site.clone(), nodes.clone());
    let wish = NewJob { kind, site, nodes, ..NewJob::default() };
    start(client, output, &wish, !no_wait).await
}

pub async fn remove(client: &Client, output: &Output, wish: &Remove) -> Result<ExitCode, Failure> {
    if !wish.yes {
        let what = if wish.all { "all content".to_owned() } else { count(wish.paths.len() as u64, "path") };
        let site = printable(&wish.site);
        return Err(Failure::Usage(format!(
            "this takes {what} of {site} off every node that serves it: say --yes if that is meant"
        )));
    }
    let (kind, site, paths) = ("remove".to_owned(), wish.site.clone(), wish.paths.clone());
    start(client, output, &NewJob { kind, site, paths, ..NewJob::default() }, !wish.no_wait).await
}

/// Starts a job, and follows it to its end where that is wanted.
pub async fn start(client: &Client, output: &Output, wish: &NewJob, wait: bool) -> Result<ExitCode, Failure> {
    let job: Job = client.post_once("/v1/jobs", wish).await?;
    if wait {
        return watch(client, output, job).await;
    }
    if output.is_json() {
        output.value(&job)?;
    } else {
        let (id, kind, site) = (job.id, printable(&job.kind), printable(&job.site));
        output.line(&format!("job {id} {kind} {site} started; `farmcast job watch {id}`"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows a job to its end. The exit code says how it ended.
async fn watch(client: &Client, output: &Output, mut job: Job) -> Result<ExitCode, Failure> {
    let mut progress = Progress::new(output.is_json());
    let clock = Stopwatch::start();
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    while !job.phase.is_over() {
        progress.update(&job, clock.elapsed());
        tokio::select! {
            _ = &mut interrupt => {
                progress.clear();
                let id = job.id;
                return Err(Failure::Interrupted(format!("job {id} goes on; `farmcast job watch {id}`")));
            }
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        let next: Job = client.get_again(&format!("/v1/jobs/{}", job.id)).await?;
        if output.is_json() && next != job && !next.phase.is_over() {
            output.value(&next)?;
        }
        job = next;
    }
    progress.clear();
    finish(output, &job)
}

/// The last word on a job that is over: one line, and what went wrong where.
fn finish(output: &Output, job: &Job) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.value(job)?;
    } else {
        for warning in &job.warnings {
            eprintln!("warning: {}", printable(warning));
        }
        for node in job.nodes.iter().filter(|node| matches!(node.state.as_str(), "failed" | "missing")) {
            let why = if node.text.is_empty() { &node.reason } else { &node.text };
            eprintln!("{}: {}: {}", printable(&node.name), printable(&node.state), printable(why));
        }
        output.line(&summary(job))?;
    }
    Ok(match job.phase {
        Phase::Partial => ExitCode::from(PARTIAL),
        Phase::Failed | Phase::Cancelled => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

async fn fetch(client: &Client, id: u64) -> Result<Job, Failure> {
    client.get(&format!("/v1/jobs/{}", segment(&id.to_string()))).await
}

async fn list(
    client: &Client,
    output: &Output,
    limit: Option<u32>,
    before: Option<u64>,
) -> Result<ExitCode, Failure> {
    let cursor = |id: u64| format!("before={id}");
    let next = |page: &[Job]| page.last().map(|job| cursor(job.id));
    let pages = pages::fetch(client, "/v1/jobs", (PAGE, limit), before.map(cursor), next).await?;
    let mut jobs: Vec<Job> = pages.into_iter().flatten().collect();
    if output.is_json() {
        output.value(&jobs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        output.line("no jobs yet: `farmcast publish SITE` starts one")?;
        return Ok(ExitCode::SUCCESS);
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
    let mut table = Table::new(&[">job", "kind", "site", "phase", ">nodes", ">sent", ">spread", "started"]);
    for job in &jobs {
        table.row([
            cell(job.id),
            cell(&job.kind),
            cell(&job.site),
            (phase_word(job.phase).to_owned(), tone(job.phase)),
            cell(format!("{}/{}", job.nodes_live, job.nodes_total)),
            cell(bytes(job.assignment_bytes)),
            cell(spread(job)),
            cell(date_time(job.started_ns.max(job.created_ns))),
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, output: &Output, id: u64) -> Result<ExitCode, Failure> {
    let job = fetch(client, id).await?;
    if output.is_json() {
        output.value(&job)?;
    } else {
        describe(output, &job)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(output: &Output, job: &Job) -> Result<(), Failure> {
    let phase = output.tint(phase_word(job.phase), tone(job.phase));
    output.line(&format!("    job: {} {} {}", job.id, printable(&job.kind), printable(&job.site)))?;
    output.line(&format!("  phase: {phase}  {}", printable(&job.text)))?;
    if !job.bound.is_empty() {
        output.line(&format!("  bound: {}", printable(&job.bound)))?;
    }
    let changes = &job.changes;
    output.line(&format!(
        "changes: {} added, {} changed, {} metadata only, {} removed, {} left out",
        changes.added, changes.changed, changes.metadata, changes.removed, changes.left_out
    ))?;
    if job.assignment > 0 && job.assignment_kind.is_empty() {
        output.line(&format!("version: {}, which the nodes keep: nothing was sent", job.assignment))?;
    } else if job.assignment > 0 {
        output.line(&format!(
            "   sent: assignment {} ({}), {} for {} of changed files",
            job.assignment,
            printable(&job.assignment_kind),
            bytes(job.assignment_bytes),
            bytes(job.changed_bytes)
        ))?;
    }
    if job.parts > 1 {
        output.line(&format!("  parts: {} of {}, the last goes live", job.part, job.parts))?;
    }
    output.line(&format!("   site: {}, {}", count(job.site_files, "file"), bytes(job.site_bytes)))?;
    output.line(&format!("  times: {} to {}", date_time(job.started_ns), date_time(job.finished_ns)))?;
    output.line(&format!(" spread: {}", spread(job)))?;
    if !job.schedule.is_empty() {
        output.line(&format!(" starts: by schedule {}", printable(&job.schedule)))?;
    }
    output.line(&format!(" policy: {}, attempt {}", words(&job.policy), job.attempt))?;
    for warning in &job.warnings {
        output.line(&format!("warning: {}", printable(warning)))?;
    }
    if job.nodes.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["node", "segment", "state", "reason", "text"]);
    for node in &job.nodes {
        let tone = match node.state.as_str() {
            "live" => Tone::Good,
            "failed" | "missing" => Tone::Bad,
            _ => Tone::Plain,
        };
        let state = (node.state.clone(), tone);
        table.row([cell(&node.name), cell(&node.segment), state, cell(&node.reason), cell(&node.text)]);
    }
    output.line("")?;
    output.table(&table)
}

fn spread(job: &Job) -> String {
    job.switch_spread_us.map_or_else(|| "-".to_owned(), |micros| span(Duration::from_micros(micros)))
}

const fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Done | Phase::Unchanged => Tone::Good,
        Phase::Partial => Tone::Warn,
        Phase::Failed | Phase::Cancelled => Tone::Bad,
        Phase::Queued | Phase::Composing | Phase::Distributing | Phase::Committing => Tone::Plain,
    }
}
