//! `farmcast freeze on|off|show` and `farmcast blackout add|list|remove`: times in which jobs do not start; `farmcast
//! bandwidth add|list|remove`: times in which little is sent.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, date_time, printable};
use crate::ccm::api::types::{NewWindow, Window};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Freeze {
    /// From now on no job starts; those that have begun go on
    On {
        /// Of this site only
        #[arg(long, value_name = "SITE")]
        site: Option<String>,
        /// Why: shown to whoever waits
        #[arg(long)]
        reason: String,
    },
    /// Jobs start again; those that waited start now
    Off {
        /// Of this site only
        #[arg(long, value_name = "SITE")]
        site: Option<String>,
    },
    /// Show what is frozen; exit code 1 where something is
    Show,
}

#[derive(clap::Subcommand)]
pub enum Blackout {
    /// Keep jobs from starting at certain times
    Add(Add),
    /// List blackouts and freezes
    List,
    /// Remove a blackout
    Remove { name: String },
}

#[derive(clap::Subcommand)]
pub enum Bandwidth {
    /// Bound what each machine sends of content, at certain times or until it is lifted
    Add(Bounding),
    /// List bandwidth windows
    List,
    /// Lift a bound
    Remove { name: String },
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("opens").args(["at", "cron"])))]
pub struct Bounding {
    /// Name of the window
    name: String,
    /// How much each machine may send: 50mbit, 2gbit
    #[arg(long, value_name = "RATE", value_parser = mbit)]
    rate: u64,
    /// It begins once, at a time: 2026-12-24T12:00:00Z, or 2026-12-24T12:00 in --zone [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// It begins again and again: minute, hour, day of month, month, day of week
    #[arg(long, value_name = "EXPRESSION", requires = "lasts")]
    cron: Option<String>,
    /// Time zone of --at and --cron [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// How long it lasts: 90s, 45m, 8h, 3d [default: until it is removed]
    #[arg(id = "lasts", long = "for", value_name = "SPAN", value_parser = seconds)]
    lasts: Option<u64>,
    /// What is sent of this site only
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Why: shown with the jobs that it slows down
    #[arg(long)]
    reason: String,
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("opens").required(true).args(["at", "cron"])))]
pub struct Add {
    /// Name of the blackout
    name: String,
    /// It begins once, at a time: 2026-12-24T12:00:00Z, or 2026-12-24T12:00 in --zone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// It begins again and again: minute, hour, day of month, month, day of week
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Time zone of --at and --cron [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// How long it lasts: 90s, 45m, 8h, 3d
    #[arg(long = "for", value_name = "SPAN", value_parser = seconds)]
    lasts: u64,
    /// Of this site only
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Why: shown to whoever waits
    #[arg(long)]
    reason: String,
}

/// The name of the freeze of a site, or of the farm.
fn freeze_name(site: Option<&String>) -> String {
    site.map_or_else(|| "freeze".to_owned(), |site| format!("freeze-{site}"))
}

pub async fn freeze(client: &Client, output: &Output, command: &Freeze) -> Result<ExitCode, Failure> {
    match command {
        Freeze::On { site, reason } => {
            let wish = NewWindow {
                name: freeze_name(site.as_ref()),
                site: site.clone().unwrap_or_default(),
                opens: String::new(),
                lasts_s: None,
                rate_mbit: None,
                reason: reason.clone(),
            };
            tell(output, &client.post_once("/v1/windows", &wish).await?)
        }
        Freeze::Off { site } => remove(client, output, &freeze_name(site.as_ref())).await,
        Freeze::Show => {
            let windows: Vec<Window> = client.get("/v1/windows").await?;
            let open: Vec<Window> =
                windows.into_iter().filter(|of| of.open && of.rate_mbit.is_none()).collect();
            if output.is_json() {
                output.value(&open)?;
            } else if open.is_empty() {
                output.line("nothing is frozen")?;
            } else {
                output.table(&table(&open))?;
            }
            Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

pub async fn blackout(client: &Client, output: &Output, command: &Blackout) -> Result<ExitCode, Failure> {
    match command {
        Blackout::Add(add) => tell(output, &client.post_once("/v1/windows", &add.wish()).await?),
        Blackout::List => {
            let mut windows: Vec<Window> = client.get("/v1/windows").await?;
            windows.retain(|window| window.rate_mbit.is_none());
            list(output, &windows, "no blackouts, and nothing is frozen")
        }
        Blackout::Remove { name } => remove(client, output, name).await,
    }
}

pub async fn bandwidth(client: &Client, output: &Output, command: &Bandwidth) -> Result<ExitCode, Failure> {
    match command {
        Bandwidth::Add(add) => tell(output, &client.post_once("/v1/windows", &add.wish()).await?),
        Bandwidth::List => {
            let mut windows: Vec<Window> = client.get("/v1/windows").await?;
            windows.retain(|window| window.rate_mbit.is_some());
            list(output, &windows, "nothing bounds what is sent")
        }
        Bandwidth::Remove { name } => remove(client, output, name).await,
    }
}

fn list(output: &Output, windows: &[Window], none: &str) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.value(&windows)?;
    } else if windows.is_empty() {
        output.line(none)?;
    } else {
        output.table(&table(windows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// When a window opens, as the API takes it; empty for now.
fn opens(at: Option<&String>, cron: Option<&String>, zone: Option<&String>) -> String {
    let zone = || match zone {
        Some(zone) => zone.clone(),
        None => jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned(),
    };
    match (at, cron) {
        (Some(time), _) if time.ends_with('Z') => format!("at {time}"),
        (Some(time), _) => format!("at {time} {}", zone()),
        (None, Some(cron)) => format!("cron {} {cron}", zone()),
        (None, None) => String::new(),
    }
}

impl Add {
    fn wish(&self) -> NewWindow {
        NewWindow {
            name: self.name.clone(),
            site: self.site.clone().unwrap_or_default(),
            opens: opens(self.at.as_ref(), self.cron.as_ref(), self.zone.as_ref()),
            lasts_s: Some(self.lasts),
            rate_mbit: None,
            reason: self.reason.clone(),
        }
    }
}

impl Bounding {
    fn wish(&self) -> NewWindow {
        NewWindow {
            name: self.name.clone(),
            site: self.site.clone().unwrap_or_default(),
            opens: opens(self.at.as_ref(), self.cron.as_ref(), self.zone.as_ref()),
            lasts_s: self.lasts,
            rate_mbit: Some(self.rate),
            reason: self.reason.clone(),
        }
    }
}

async fn remove(client: &Client, output: &Output, name: &str) -> Result<ExitCode, Failure> {
    client.delete(&format!("/v1/windows/{}", segment(name))).await?;
    if !output.is_json() {
        output.line(&format!("{}: lifted", printable(name)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(output: &Output, window: &Window) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.value(window)?;
    } else {
        let of = if window.site.is_empty() { "every site" } else { &window.site };
        let (name, opens) = (printable(&window.name), printable(&window.opens));
        let (of, lasts) = (printable(of), lasts(window));
        output.line(&match window.rate_mbit {
            None => format!("{name}: jobs of {of} do not start, {opens}, {lasts}"),
            Some(rate) => format!("{name}: of {of} no more than {rate} Mbit/s is sent, {opens}, {lasts}"),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lasts(window: &Window) -> String {
    window.lasts_s.map_or_else(|| "until it is lifted".to_owned(), |seconds| format!("for {seconds} s"))
}

fn table(windows: &[Window]) -> Table {
    let mut table = Table::new(&["name", "site", ">Mbit/s", "begins", "lasts", "now", "reason"]);
    for window in windows {
        let now = match window {
            Window { open: false, .. } => cell("-"),
            Window { until_ns: 0, .. } => ("on".to_owned(), Tone::Warn),
            window => (format!("until {}", date_time(window.until_ns)), Tone::Warn),
        };
        table.row([
            cell(&window.name),
            cell(if window.site.is_empty() { "*" } else { &window.site }),
            cell(window.rate_mbit.map_or_else(|| "-".to_owned(), |rate| rate.to_string())),
            cell(&window.opens),
            cell(lasts(window)),
            now,
            cell(&window.reason),
        ]);
    }
    table
}

/// Reads `90s`, `45m`, `8h`, `3d`.
pub fn seconds(text: &str) -> Result<u64, String> {
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| format!("{text:?} is no span: give a number and s, m, h or d, as 45m"))
}

/// Reads `50mbit`, `2gbit`; in Mbit/s.
fn mbit(text: &str) -> Result<u64, String> {
    let number = |end: &str| text.strip_suffix(end).and_then(|number| number.parse::<u64>().ok());
    let rate = number("mbit").or_else(|| number("gbit")?.checked_mul(1_000));
    rate.filter(|rate| (1..=400_000).contains(rate))
        .ok_or_else(|| format!("{text:?} is no rate from 1mbit to 400gbit, as 50mbit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_whole_number_of_mbit_or_gbit() {
        for (text, expected) in [("1mbit", Some(1)), ("50mbit", Some(50)), ("2gbit", Some(2_000))] {
            assert_eq!(mbit(text).ok(), expected);
        }
        for text in ["", "50", "mbit", "0mbit", "-1mbit", "1.5mbit", "401gbit", "50 mbit", "50mbits"] {
            assert!(mbit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, expected) in
            [("90s", Some(90)), ("45m", Some(2_700)), ("8h", Some(28_800)), ("3d", Some(259_200))]
        {
            assert_eq!(seconds(text).ok(), expected);
        }
        for text in ["", "8", "h", "-1h", "0s", "1w", "99999999999999999999d", "8 h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
