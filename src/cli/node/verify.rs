//! `farmcast node verify`: what a node has live, against what was signed.

use crate::ccm::api::types::{NewJob, Node, NodeReport, VerifyNode};
use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::job;
use crate::cli::output::{Output, Table, cell, count, printable};
use std::process::ExitCode;
use std::time::Duration;

/// How often the controller is asked whether it has heard of a doubt, and for how long.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ASK_MAX: u32 = 80;

#[derive(clap::Args)]
pub struct Verify {
    /// Name of the node
    node: String,
    /// Name of the site
    site: String,
    /// Where something differs, have the node brought all of the version that is live, and verify again
    #[arg(long)]
    repair: bool,
}

pub async fn run(client: &Client, output: &Output, wish: &Verify) -> Result<ExitCode, Failure> {
    let mut report = ask(client, wish, wish.repair).await?;
    if wish.repair && !is_right(&report) {
        show(output, &report)?;
        wait_for_doubt(client, wish).await?;
        let job = NewJob {
            kind: "synchronize".to_owned(),
            site: wish.site.clone(),
            nodes: vec![wish.node.clone()],
            ..NewJob::default()
        };
        job::start(client, output, &job, true).await?;
        report = ask(client, wish, false).await?;
    }
    show(output, &report)?;
    Ok(if is_right(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(client: &Client, wish: &Verify, doubt: bool) -> Result<NodeReport, Failure> {
    let path = format!("/v1/nodes/{}/verify", segment(&wish.node));
    client.post_patiently(&path, &VerifyNode { site: wish.site.clone(), doubt }).await
}

/// Waits until the controller knows that the node's site has no version any more: what it is to be brought follows from
/// that.
async fn wait_for_doubt(client: &Client, wish: &Verify) -> Result<(), Failure> {
    for _ in 0..ASK_MAX {
        let nodes: Vec<Node> = client.get("/v1/nodes").await?;
        let node = nodes.iter().find(|node| node.name == wish.node);
        if node.is_some_and(|node| node.sites.iter().any(|site| site.site == wish.site && site.version == 0))
        {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    let text = format!("{} does not report that its site is in doubt; try again", printable(&wish.node));
    Err(Failure::Ran(text))
}

fn is_right(report: &NodeReport) -> bool {
    report.flaws.is_empty() && report.more == 0 && report.problem.is_empty()
}

fn show(output: &Output, report: &NodeReport) -> Result<(), Failure> {
    if output.is_json() {
        return output.value(report);
    }
    let head = format!("{} {} version {}", printable(&report.node), printable(&report.site), report.version);
    if is_right(report) {
        return output.line(&format!("{head}: as it was signed, {}", count(report.bytes, "byte")));
    }
    if !report.flaws.is_empty() {
        let mut table = Table::new(&["differs", "path"]);
        for flaw in &report.flaws {
            table.row([cell(printable(&flaw.what)), cell(printable(&flaw.path))]);
        }
        output.table(&table)?;
    }
    if report.more > 0 {
        output.line(&format!("and {} more", report.more))?;
    }
    if report.problem.is_empty() {
        output.line(&format!("{head}: not as it was signed"))
    } else {
        output.line(&format!("{head}: cannot be compared: {}", printable(&report.problem)))
    }
}
