//! `farmcast version list|rollback|switch|checkpoint|restore|verify` and `farmcast rollback`: the versions of a site.

use super::client::{Client, segment};
use super::failure::Failure;
use super::job;
use super::output::{Output, Table, Tone, bytes, cell, count, date_time, printable};
use crate::ccm::api::types::{Checkpoint, CheckpointReport, NewJob, SiteVersion};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the versions of a site that were ever live, and its checkpoints, the newest first
    List { site: String },
    /// Put the version before the live one live again, on all nodes at one instant
    Rollback(Rollback),
    /// Put a version that is kept live again, on all nodes at one instant
    Switch {
        site: String,
        /// A version of `farmcast version list`; 0: what was live before the first publish
        version: u64,
        /// Start the job and return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Copy what is live to the checkpoints of the controller; no node takes part
    Checkpoint {
        site: String,
        /// What to call it
        #[arg(long)]
        name: Option<String>,
        /// Start the job and return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Put a checkpoint live as a new version, on all nodes at one instant; staging is left alone
    Restore {
        site: String,
        /// Its number or name, as in `farmcast version list`
        checkpoint: String,
        /// Start the job and return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Read all of a checkpoint, and name what of it cannot be brought back; exit code 1 where there is such
    Verify {
        site: String,
        /// Its number or name, as in `farmcast version list`
        checkpoint: String,
    },
}

#[derive(clap::Args)]
pub struct Rollback {
    /// Name of the site
    site: String,
    /// Start the job and return at once
    #[arg(long)]
    no_wait: bool,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { site } => list(client, output, site).await,
        Command::Rollback(wish) => rollback(client, output, wish).await,
        Command::Switch { site, version, no_wait } => {
            let wish = NewJob {
                kind: "switch".to_owned(),
                site: site.clone(),
                version: Some(*version),
                ..NewJob::default()
            };
            job::start(client, output, &wish, !no_wait).await
        }
        Command::Checkpoint { site, name, no_wait } => {
            let wish = NewJob {
                kind: "checkpoint".to_owned(),
                site: site.clone(),
                name: name.clone().unwrap_or_default(),
                ..NewJob::default()
            };
            job::start(client, output, &wish, !no_wait).await
        }
        Command::Restore { site, checkpoint, no_wait } => {
            let wish = NewJob {
                kind: "restore".to_owned(),
                site: site.clone(),
                checkpoint: Some(find(client, site, checkpoint).await?),
                ..NewJob::default()
            };
            job::start(client, output, &wish, !no_wait).await
        }
        Command::Verify { site, checkpoint } => verify(client, output, site, checkpoint).await,
    }
}

async fn checkpoints(client: &Client, site: &str) -> Result<Vec<Checkpoint>, Failure> {
    client.get(&format!("/v1/sites/{}/checkpoints", segment(site))).await
}

/// The number of a checkpoint that is called so.
async fn find(client: &Client, site: &str, checkpoint: &str) -> Result<u64, Failure> {
    let all = checkpoints(client, site).await?;
    let is_meant = |of: &&Checkpoint| of.name == checkpoint || of.number.to_string() == checkpoint;
    all.iter().find(is_meant).map(|of| of.number).ok_or_else(|| {
        Failure::NotFound(format!(
            "{} has no checkpoint {}; `farmcast version list` has them",
            printable(site),
            printable(checkpoint)
        ))
    })
}

async fn verify(client: &Client, output: &Output, site: &str, checkpoint: &str) -> Result<ExitCode, Failure> {
    let number = find(client, site, checkpoint).await?;
    let path = format!("/v1/sites/{}/checkpoints/{number}/verify", segment(site));
    let report: CheckpointReport = client.get_patiently(&path).await?;
    let is_whole = report.flaws.is_empty() && report.problem.is_empty();
    if output.is_json() {
        output.value(&report)?;
    } else if is_whole {
        let files = count(report.files, "file");
        output.line(&format!("checkpoint {number} of {}: {files}, whole", printable(site)))?;
    } else {
        for flaw in &report.flaws {
            output.line(&format!(
                "{}: chunk {}: {}",
                printable(&flaw.path),
                flaw.chunk,
                printable(&flaw.flaw)
            ))?;
        }
        if report.more > 0 {
            output.line(&format!("and {} more", report.more))?;
        }
        if !report.problem.is_empty() {
            output.line(&printable(&report.problem))?;
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub async fn rollback(client: &Client, output: &Output, wish: &Rollback) -> Result<ExitCode, Failure> {
    let job = NewJob { kind: "rollback".to_owned(), site: wish.site.clone(), ..NewJob::default() };
    job::start(client, output, &job, !wish.no_wait).await
}

async fn list(client: &Client, output: &Output, site: &str) -> Result<ExitCode, Failure> {
    let versions: Vec<SiteVersion> = client.get(&format!("/v1/sites/{}/versions", segment(site))).await?;
    if output.is_json() {
        output.value(&versions)?;
    } else if versions.is_empty() {
        output.line("no versions yet: `farmcast publish SITE` makes the first")?;
    } else {
        let mut table = Table::new(&[">version", "state", "committed", "details"]);
        for version in &versions {
            let state = match version {
                SiteVersion { live: true, .. } => ("live".to_owned(), Tone::Good),
                SiteVersion { kept: true, .. } => cell("kept"),
                _ => cell("gone"),
            };
            let (number, committed) = (cell(version.version), cell(date_time(version.committed_ns)));
            table.row([number, state, committed, cell(printable(&version.details))]);
        }
        output.table(&table)?;
        let checkpoints = checkpoints(client, site).await?;
        if !checkpoints.is_empty() {
            let mut table =
                Table::new(&[">checkpoint", "name", ">of version", "made", ">files", ">bytes", ">new"]);
            for made in &checkpoints {
                table.row([
                    cell(made.number),
                    cell(printable(&made.name)),
                    cell(made.version),
                    cell(date_time(made.created_ns)),
                    cell(made.files),
                    cell(bytes(made.bytes)),
                    cell(bytes(made.stored_bytes)),
                ]);
            }
            output.line("")?;
            output.table(&table)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
