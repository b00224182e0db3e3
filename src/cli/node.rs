//! `farmcast node list|invite|verify|remove`

mod verify;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, date_time, printable};
use super::pages;
use crate::ccm::api::types::{Invite, NewInvite, Node};
use std::process::ExitCode;
use verify::Verify;

/// Nodes of one answer.
const PAGE: u32 = 1_000;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the nodes of the farm
    List {
        /// So many, by name [default: all]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only those whose names follow on this one
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Make a one-time token with which a node joins the farm
    Invite(NewNode),
    /// Compare all that a node has live of a site with what was signed; exit code 1 where something differs
    Verify(Verify),
    /// Take a node out of the farm for good; its name is free then
    Remove {
        name: String,
        /// Even while it is online: it stays in its segment until it is stopped, but nothing it says counts
        #[arg(long)]
        force: bool,
    },
}

#[derive(clap::Args)]
pub struct NewNode {
    /// Name that the node must join with; any where it is left out
    name: Option<String>,
    /// The node must never become leader of its segment
    #[arg(long)]
    no_lead: bool,
    /// Seconds after which the token is void
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    expires: u64,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { limit, after } => list(client, output, *limit, after.as_deref()).await,
        Command::Invite(node) => invite(client, output, node).await,
        Command::Verify(wish) => verify::run(client, output, wish).await,
        Command::Remove { name, force } => remove(client, output, name, *force).await,
    }
}

async fn remove(client: &Client, output: &Output, name: &str, force: bool) -> Result<ExitCode, Failure> {
    let query = if force { "?force=true" } else { "" };
    client.delete(&format!("/v1/nodes/{}{query}", segment(name))).await?;
    if output.is_json() {
        output.value(&serde_json::json!({ "schema": "farmcast.removed/1", "node": name }))?;
    } else {
        output.line(&format!("{}: removed; it comes back only with a new invite", printable(name)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    client: &Client,
    output: &Output,
    limit: Option<u32>,
    after: Option<&str>,
) -> Result<ExitCode, Failure> {
    let cursor = |name: &str| format!("after={}", segment(name));
    let next = |page: &[Node]| page.last().map(|node| cursor(&node.name));
    let pages = pages::fetch(client, "/v1/nodes", (PAGE, limit), after.map(cursor), next).await?;
    let nodes: Vec<Node> = pages.into_iter().flatten().collect();
    if output.is_json() {
        output.value(&nodes)?;
        return Ok(ExitCode::SUCCESS);
    }
    if nodes.is_empty() {
        output.line("no nodes yet: `farmcast node invite` makes a token with which one joins")?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = ["name", "segment", "state", ">priority", "sites", "address", ">free disk", "last seen"];
    let mut table = Table::new(&headings);
    for node in &nodes {
        let tone = match node.state.as_str() {
            "leader" => Tone::Good,
            "offline" => Tone::Bad,
            _ => Tone::Plain,
        };
        table.row([
            cell(&node.name),
            cell(&node.segment),
            (node.state.clone(), tone),
            cell(node.priority),
            sites(node),
            cell(&node.datagram),
            cell(bytes(node.free_disk_bytes)),
            cell(date_time(node.seen_ns)),
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

fn sites(node: &Node) -> (String, Tone) {
    let words = node.sites.iter().map(|site| {
        let version = if site.version == 0 { "none".to_owned() } else { site.version.to_string() };
        format!("{}:{version}{}", site.site, if site.stale { "(stale)" } else { "" })
    });
    let stale = node.sites.iter().any(|site| site.stale);
    (words.collect::<Vec<_>>().join(" "), if stale { Tone::Warn } else { Tone::Plain })
}

async fn invite(client: &Client, output: &Output, node: &NewNode) -> Result<ExitCode, Failure> {
    let wish = NewInvite {
        node: node.name.clone().unwrap_or_default(),
        can_lead: !node.no_lead,
        expires_s: node.expires,
    };
    let invite: Invite = client.post("/v1/invites", &wish).await?;
    if output.is_json() {
        output.value(&invite)?;
    } else {
        eprintln!("On the new node, within {} s (the token is good for one node):", node.expires);
        output.line(&printable(&invite.command))?;
    }
    Ok(ExitCode::SUCCESS)
}
