//! `farmcast events`: what happened, and what happens.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, cell, date_time, printable};
use super::pages;
use crate::ccm::api::types::Event;
use std::process::ExitCode;
use std::time::Duration;

/// Events of one answer.
const PAGE: u32 = 1_000;
const LIMIT: u32 = 50;
/// Before a stream that broke is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub struct Events {
    /// Go on with what happens, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Show so many: of the last events, or with --after of those that follow [default: 50, or all]
    #[arg(long, visible_alias = "last", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Show those after this number, the oldest first; 0 for the beginning of what is kept
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
}

pub async fn run(client: &Client, output: &Output, wish: &Events) -> Result<ExitCode, Failure> {
    let events = fetch(client, wish).await?;
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

/// What is asked for, the oldest first.
async fn fetch(client: &Client, wish: &Events) -> Result<Vec<Event>, Failure> {
    let path = "/v1/events";
    if let Some(after) = wish.after {
        let next = |page: &[Event]| page.last().map(|event| format!("after={}", event.id));
        let first = Some(format!("after={after}"));
        let pages = pages::fetch(client, path, (PAGE, wish.limit), first, next).await?;
        return Ok(pages.into_iter().flatten().collect());
    }
    let next = |page: &[Event]| page.first().map(|event| format!("before={}", event.id));
    let limit = Some(wish.limit.unwrap_or(LIMIT));
    let pages = pages::fetch(client, path, (PAGE, limit), None, next).await?;
    Ok(pages.into_iter().rev().flatten().collect())
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
