//! `farmcast notify list|test`: who is told of what happens.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, date_time, printable};
use crate::ccm::api::types::{NotifyTest, Receiver};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List whom ccm.toml names, what waits for them, and what keeps it from them
    List,
    /// Tell one of a test, once; exit code 1 where that fails
    Test { name: String },
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List => list(client, output).await,
        Command::Test { name } => test(client, output, name).await,
    }
}

async fn list(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let receivers: Vec<Receiver> = client.get("/v1/notify").await?;
    if output.is_json() {
        output.value(&receivers)?;
    } else if receivers.is_empty() {
        output.line("nobody is notified: ccm.toml has no [[notify]]")?;
    } else {
        let mut table =
            Table::new(&["name", "to", "events", ">waiting", ">tries", ">given up", "last", "failure"]);
        for receiver in &receivers {
            let events =
                if receiver.events.is_empty() { "all".to_owned() } else { receiver.events.join(" ") };
            let tone = if receiver.tries > 0 { Tone::Warn } else { Tone::Plain };
            table.row([
                cell(&receiver.name),
                cell(&receiver.to),
                cell(events),
                cell(receiver.waiting),
                cell(receiver.tries),
                cell(receiver.dropped),
                cell(date_time(receiver.delivered_ns)),
                (receiver.failure.clone(), tone),
            ]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(client: &Client, output: &Output, name: &str) -> Result<ExitCode, Failure> {
    let path = format!("/v1/notify/{}/test", segment(name));
    let test: NotifyTest = client.post_patiently(&path, &()).await?;
    if output.is_json() {
        output.value(&test)?;
    } else if test.ok {
        output.line(&format!("{}: told, in {} ms", printable(&test.name), test.took_ms))?;
    } else {
        return Err(Failure::Ran(format!("{}: {}", printable(&test.name), printable(&test.text))));
    }
    Ok(if test.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
