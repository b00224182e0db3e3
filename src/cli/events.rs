//! `farmcast events`: what happened, and what happens.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, cell, date_time, printable};
use crate::ccm::api::types::Event;
use std::process::ExitCode;
use std::time::Duration;

/// Before a stream that broke is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub struct Events {
    /// Go on with what happens, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Show so many of the last events
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    last: u32,
    /// Show those after this number, the oldest first
    #[arg(long, value_name = "ID", conflicts_with = "last")]
    after: Option<u64>,
}

pub async fn run(client: &Client, output: &Output, wish: &Events) -> Result<ExitCode, Failure> {
    let path = match wish.after {
        Some(after) => format!("/v1/events?after={after}&limit=1000"),
        None => format!("/v1/events?limit={}", wish.last),
    };
    let events: Vec<Event> = client.get(&path).await?;
    if wish.follow {
        let last = events.last().map_or(wish.after.unwrap_or(0), |event| event.id);
        events.iter().try_for_each(|event| line(output, event))?;
        return follow(client, output, last).await;
    }
    if output.is_json() {
        output.value(&events)?;
    } else if events.is_empty() {
        output.line("nothing has happened yet")?;
    } else {
        let mut table = Table::new(&[">id", "when", "subject", "what"]);
        for event in &events {
            let when = cell(date_time(event.at_ns));
            table.row([cell(event.id), when, cell(&event.subject), cell(&event.text)]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Goes on from an event. Where the controller is away for a while, what happened before and after is told all the
/// same.
async fn follow(client: &Client, output: &Output, mut last: u64) -> Result<ExitCode, Failure> {
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    let mut told = true;
    loop {
        let stream = client.events(last, |event: Event| {
            (last, told) = (event.id, true);
            line(output, &event)
        });
        let ended = tokio::select! {
            _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
            ended = stream => ended,
        };
        match ended {
            Err(Failure::Unreachable(text) | Failure::Lost(text)) if told => {
                eprintln!("farmcast: {text}; trying again")
            }
            Ok(()) | Err(Failure::Unreachable(_) | Failure::Lost(_)) => {}
            Err(failure) => return Err(failure),
        }
        told = false;
        tokio::select! {
            _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn line(output: &Output, event: &Event) -> Result<(), Failure> {
    match output.is_json() {
        true => output.value(event),
        false => {
            let (subject, text) = (printable(&event.subject), printable(&event.text));
            output.line(&format!("{}  {subject}: {text}", date_time(event.at_ns)))
        }
    }
}
