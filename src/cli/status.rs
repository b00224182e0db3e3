//! `farmcast status`: the farm at a glance, what is wrong first, in the manner of `zpool status`.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, count, date_time, printable};
use super::progress;
use crate::ccm::api::types::Status;
use std::process::ExitCode;

pub async fn show(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let status: Status = client.get("/v1/status").await?;
    if output.is_json() {
        output.value(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tone = match (status.nodes_online, status.nodes_total) {
        (online, total) if online == total && status.action.is_empty() => Tone::Good,
        (0, _) => Tone::Bad,
        _ => Tone::Warn,
    };
    output.line(&format!("status: {}", output.tint(&printable(&status.verdict), tone)))?;
    if !status.action.is_empty() {
        output.line(&format!("action: {}", printable(&status.action)))?;
    }
    output.line(&format!(
        " nodes: {}/{} online in {}",
        status.nodes_online,
        status.nodes_total,
        count(status.segments.len() as u64, "segment")
    ))?;
    output.line(&format!(
        "   ccm: {} ({}) at {}, {} served",
        printable(&status.version),
        printable(&status.revision),
        printable(&status.listen),
        bytes(status.served_bytes)
    ))?;
    segments(&status, output)?;
    sites(&status, output)?;
    for (index, job) in status.running.iter().enumerate() {
        if index == 0 {
            output.line("")?;
        }
        output.line(&progress::standing(job))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn segments(status: &Status, output: &Output) -> Result<(), Failure> {
    if status.segments.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["segment", ">nodes", "leader", ">epoch", "last report"]);
    for segment in &status.segments {
        let whole = segment.nodes_online == segment.nodes_total;
        let nodes = format!("{}/{}", segment.nodes_online, segment.nodes_total);
        table.row([
            cell(&segment.name),
            (nodes, if whole { Tone::Plain } else { Tone::Warn }),
            super::segment::leader(segment),
            cell(segment.epoch),
            cell(date_time(segment.reported_ns)),
        ]);
    }
    output.line("")?;
    output.table(&table)
}

fn sites(status: &Status, output: &Output) -> Result<(), Failure> {
    if status.sites.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.table(&super::site::table(&status.sites))
}
