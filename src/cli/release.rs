//! `farmcast version list|rollback|switch` and `farmcast rollback`: the versions of a site.

use super::client::{Client, segment};
use super::failure::Failure;
use super::job;
use super::output::{Output, Table, Tone, cell, date_time, printable};
use crate::ccm::api::types::{NewJob, SiteVersion};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the versions of a site that were ever live, the newest first
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
    }
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
    }
    Ok(ExitCode::SUCCESS)
}
