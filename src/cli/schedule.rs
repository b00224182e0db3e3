//! `farmcast schedule add|list|show|remove|enable|disable|check`

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, count, date_time, printable};
use super::policy::{PolicyArgs, words};
use crate::ccm::api::types::{Enabled, LookAhead, NewSchedule, Schedule};
use std::process::ExitCode;

/// What can start a job: one of them.
const TRIGGERS: [&str; 5] = ["at", "cron", "on_change", "after", "on_trigger"];
/// Between two starts by a trigger, where nothing is said.
const GAP_S: u32 = 10;

#[derive(clap::Args)]
pub struct Trigger {
    /// Name that schedules wait for
    name: String,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// Let a job start by itself
    Add(Box<Add>),
    /// List the schedules and when they start next
    List,
    /// Show one schedule and what became of it when it was due last
    Show { name: String },
    /// Remove a schedule; jobs that it started go on
    Remove { name: String },
    /// Let a schedule start jobs again; what it missed is not made up for
    Enable { name: String },
    /// Keep a schedule, and let it start nothing
    Disable { name: String },
    /// Name conflicts, blackouts and freezes that starts will meet; exit code 1 where there are some
    Check {
        /// How far to look
        #[arg(long, default_value_t = 7, value_name = "N")]
        days: u32,
    },
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("trigger").required(true).args(TRIGGERS)))]
pub struct Add {
    /// Name of the schedule
    name: String,
    /// The site
    site: String,
    /// Once, at a time: 2026-11-22T03:00:00Z, or 2026-11-22T03:00 in --zone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Again and again: minute, hour, day of month, month, day of week; seconds may stand in front
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// When staging has changed and then rested for so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10")]
    on_change: Option<u32>,
    /// When a job of another site has ended: SITE (something is live), SITE:failed, SITE:any
    #[arg(long, value_name = "SITE[:END]")]
    after: Option<String>,
    /// When somebody calls this name: `farmcast trigger NAME`, or POST /v1/triggers/NAME
    #[arg(long, value_name = "NAME")]
    on_trigger: Option<String>,
    /// With --on-trigger: seconds at least between two starts; calls meanwhile come to one [default: 10]
    #[arg(long, value_name = "SECONDS", requires = "on_trigger")]
    gap: Option<u32>,
    /// Time zone of --at and --cron [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What starts: publish, synchronize, rollback or switch
    #[arg(long, default_value = "publish", value_name = "KIND")]
    kind: String,
    /// Where a switch goes
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
    /// A publish reads all files
    #[arg(long)]
    checksum: bool,
    /// A start that was missed is made up for within so many seconds [default: 300]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
    /// Add it, and let it start nothing yet
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Add(add) => {
            let schedule: Schedule = client.post_once("/v1/schedules", &add.wish()).await?;
            tell(output, &schedule)
        }
        Command::List => list(client, output).await,
        Command::Show { name } => {
            let schedule: Schedule = client.get(&path(name)).await?;
            if output.is_json() { tell(output, &schedule) } else { show(output, &schedule) }
        }
        Command::Remove { name } => {
            client.delete(&path(name)).await?;
            if !output.is_json() {
                output.line(&format!("schedule {}: removed", printable(name)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Enable { name } => enable(client, output, name, true).await,
        Command::Disable { name } => enable(client, output, name, false).await,
        Command::Check { days } => check(client, output, *days).await,
    }
}

impl Add {
    fn wish(&self) -> NewSchedule {
        let zone = || match &self.zone {
            Some(zone) => zone.clone(),
            None => jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned(),
        };
        let trigger = if let Some(time) = &self.at {
            let is_instant = time.ends_with('Z') || time.get(10..).is_some_and(|of| of.contains(['+', '-']));
            if is_instant { format!("at {time}") } else { format!("at {time} {}", zone()) }
        } else if let Some(expression) = &self.cron {
            format!("cron {} {expression}", zone())
        } else if let Some(seconds) = self.on_change {
            format!("change {seconds}")
        } else if let Some(name) = &self.on_trigger {
            format!("called {name} {}", self.gap.unwrap_or(GAP_S))
        } else {
            let after = self.after.as_deref().unwrap_or_default();
            let (site, end) = after.split_once(':').unwrap_or((after, "live"));
            format!("after {site} {end}")
        };
        NewSchedule {
            name: self.name.clone(),
            site: self.site.clone(),
            kind: self.kind.clone(),
            version: self.version,
            checksum: self.checksum,
            trigger,
            disabled: self.disabled,
            policy: self.policy.wish(),
            grace_s: self.grace,
        }
    }
}

/// `farmcast trigger`
pub async fn call(client: &Client, output: &Output, wish: &Trigger) -> Result<ExitCode, Failure> {
    let path = format!("/v1/triggers/{}", segment(&wish.name));
    let called: Vec<Schedule> = client.post(&path, &()).await?;
    if output.is_json() {
        output.value(&called)?;
        return Ok(ExitCode::SUCCESS);
    }
    for schedule in &called {
        let (name, kind, site) =
            (printable(&schedule.name), printable(&schedule.kind), printable(&schedule.site));
        output.line(&format!("schedule {name}: {kind} of {site}, {}", next(schedule)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/v1/schedules/{}", segment(name))
}

async fn enable(client: &Client, output: &Output, name: &str, enabled: bool) -> Result<ExitCode, Failure> {
    let schedule: Schedule = client.post(&format!("{}/enabled", path(name)), &Enabled { enabled }).await?;
    tell(output, &schedule)
}

fn tell(output: &Output, schedule: &Schedule) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.value(schedule)?;
    } else {
        let name = printable(&schedule.name);
        output.line(&format!("schedule {name}: {}, {}", printable(&schedule.trigger), next(schedule)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `next 2026-11-22 03:00:00`
fn next(schedule: &Schedule) -> String {
    match schedule {
        Schedule { enabled: false, .. } => "disabled".to_owned(),
        Schedule { next_ns: 0, .. } => "waiting".to_owned(),
        schedule => format!("next {}", date_time(schedule.next_ns)),
    }
}

async fn list(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let schedules: Vec<Schedule> = client.get("/v1/schedules").await?;
    if output.is_json() {
        output.value(&schedules)?;
        return Ok(ExitCode::SUCCESS);
    }
    if schedules.is_empty() {
        output.line("no schedules yet: `farmcast schedule add NAME SITE --cron '0 3 * * *'` makes one")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["schedule", "site", "kind", "starts", "next", ">job", "last"]);
    for schedule in &schedules {
        let state = if schedule.enabled { Tone::Plain } else { Tone::Warn };
        let job = if schedule.last_job == 0 { "-".to_owned() } else { schedule.last_job.to_string() };
        table.row([
            cell(&schedule.name),
            cell(&schedule.site),
            cell(&schedule.kind),
            cell(&schedule.trigger),
            (next(schedule).trim_start_matches("next ").to_owned(), state),
            cell(job),
            cell(&schedule.last_text),
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

fn show(output: &Output, schedule: &Schedule) -> Result<ExitCode, Failure> {
    output.line(&format!("schedule: {}", printable(&schedule.name)))?;
    output.line(&format!("   start: {} of {}", printable(&schedule.kind), printable(&schedule.site)))?;
    output.line(&format!("    when: {}, {}", printable(&schedule.trigger), next(schedule)))?;
    output.line(&format!("   grace: {}", count(schedule.grace_s.into(), "second")))?;
    output.line(&format!("  policy: {}", words(&schedule.policy)))?;
    if schedule.last_ns > 0 {
        let text = printable(&schedule.last_text);
        output.line(&format!("    last: {}: {text}", date_time(schedule.last_ns)))?;
    }
    if schedule.last_job > 0 {
        output.line(&format!("     job: {0}; `farmcast job show {0}`", schedule.last_job))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(client: &Client, output: &Output, days: u32) -> Result<ExitCode, Failure> {
    let ahead: LookAhead = client.get(&format!("/v1/lookahead?days={days}")).await?;
    if output.is_json() {
        output.value(&ahead)?;
    } else {
        let until = date_time(ahead.until_ns);
        if !ahead.findings.is_empty() {
            let mut table = Table::new(&["when", "schedule", "site", "meets", ">nodes", "because"]);
            for finding in &ahead.findings {
                let meets = format!("{} {}", finding.kind, finding.with);
                table.row([
                    cell(date_time(finding.at_ns)),
                    cell(&finding.schedule),
                    cell(&finding.site),
                    (meets, Tone::Warn),
                    cell(finding.nodes),
                    cell(&finding.text),
                ]);
            }
            output.table(&table)?;
        }
        let found = count(ahead.findings.len() as u64, "obstacle");
        output.line(&format!("{} until {until}: {found}", count(ahead.starts, "start")))?;
    }
    Ok(if ahead.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
