//! `farmcast plan`: what a publish would do, and what would be in its way.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, count, printable};
use crate::ccm::api::types::{Plan, PlanNode};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Wish {
    /// Name of the site
    site: String,
}

/// Exit code 0 where a publish would start now, 1 where something is in its way.
pub async fn run(client: &Client, output: &Output, wish: &Wish) -> Result<ExitCode, Failure> {
    let plan: Plan = client.get_patiently(&format!("/v1/sites/{}/plan", segment(&wish.site))).await?;
    if output.is_json() {
        output.value(&plan)?;
    } else {
        show(output, &plan)?;
    }
    Ok(if plan.obstacles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(output: &Output, plan: &Plan) -> Result<(), Failure> {
    let site = printable(&plan.site);
    output.line(&format!(
        "   site: {site}, {}, {}",
        count(plan.site_files, "file"),
        bytes(plan.site_bytes)
    ))?;
    let changes = &plan.changes;
    output.line(&format!(
        "changes: {} added, {} changed, {} metadata only, {} removed, {} left out; {} of content",
        changes.added,
        changes.changed,
        changes.metadata,
        changes.removed,
        changes.left_out,
        bytes(plan.changed_bytes)
    ))?;
    let what = match plan.kind.as_str() {
        "unchanged" => "nothing would be sent".to_owned(),
        "publish" => format!("the difference to version {}", plan.version),
        "synchronize" => {
            format!("what some nodes lack of version {0}, then the difference to it", plan.version)
        }
        _ => "the whole site, for nobody has a version that counts".to_owned(),
    };
    output.line(&format!("   send: {what}"))?;
    let split = match plan.parts {
        0 | 1 => "one assignment".to_owned(),
        parts => format!("some {parts} parts of at most {}", bytes(plan.assignment_max)),
    };
    output.line(&format!(
        "   wire: at most {} in {split}, {} over all links",
        bytes(plan.assignment_bytes),
        bytes(plan.wire_bytes)
    ))?;
    if !plan.bound.is_empty() {
        output.line(&format!("  bound: {}", printable(&plan.bound)))?;
    }
    for obstacle in &plan.obstacles {
        output.line(&output.tint(&format!("in the way: {}", printable(obstacle)), Tone::Warn))?;
    }
    if plan.nodes.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["node", "segment", "state", ">version", ">needs", ">free"]);
    for node in &plan.nodes {
        let free = (bytes(node.free_bytes), if node.fits { Tone::Plain } else { Tone::Bad });
        table.row([
            cell(&node.name),
            cell(&node.segment),
            (node.state.clone(), tone(node)),
            cell(node.version),
            cell(bytes(node.needs_bytes)),
            free,
        ]);
    }
    output.line("")?;
    output.table(&table)
}

fn tone(node: &PlanNode) -> Tone {
    match node.state.as_str() {
        "current" => Tone::Good,
        "offline" => Tone::Bad,
        _ => Tone::Warn,
    }
}
