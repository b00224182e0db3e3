//! `farmcast group list|show|create|delete|add|remove`

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, count, printable};
use crate::ccm::api::types::{ChangeGroup, Group, GroupDetail, NewGroup};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the content groups
    List,
    /// Show a group: its nodes, segments and data channels
    Show { name: String },
    /// Make a group of chosen nodes; it serves a site after `farmcast site group SITE GROUP`
    Create {
        /// Name of the group: letters, digits, `.`, `_` and `-`
        name: String,
        #[arg(value_name = "NODE", help = NODES)]
        nodes: Vec<String>,
    },
    /// Delete a group that serves no site
    Delete { name: String },
    /// Add nodes to a group
    Add {
        name: String,
        #[arg(value_name = "NODE", required = true, help = NODES)]
        nodes: Vec<String>,
    },
    /// Remove nodes from a group, as they were added
    Remove {
        name: String,
        #[arg(value_name = "NODE", required = true, help = NODES)]
        nodes: Vec<String>,
    },
}

const NODES: &str =
    "A node's name, or segment:NAME for all nodes of a segment; `*` in either stands for any text";

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List => list(client, output).await?,
        Command::Show { name } => show(output, &client.get(&path(name)).await?)?,
        Command::Create { name, nodes } => {
            let wish = NewGroup { name: name.clone(), nodes: nodes.clone() };
            show(output, &client.post("/v1/groups", &wish).await?)?;
        }
        Command::Delete { name } => {
            client.delete(&path(name)).await?;
            if !output.is_json() {
                output.line(&format!("deleted group {}", printable(name)))?;
            }
        }
        Command::Add { name, nodes } => {
            let change = ChangeGroup { add: nodes.clone(), remove: Vec::new() };
            show(output, &client.post(&path(name), &change).await?)?;
        }
        Command::Remove { name, nodes } => {
            let change = ChangeGroup { add: Vec::new(), remove: nodes.clone() };
            show(output, &client.post(&path(name), &change).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/v1/groups/{}", segment(name))
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let groups: Vec<Group> = client.get("/v1/groups").await?;
    if output.is_json() {
        return output.value(&groups);
    }
    if groups.is_empty() {
        return output
            .line("no groups yet: every site has one; add one with `farmcast site add NAME --staging DIR`");
    }
    let mut table = Table::new(&["group", ">nodes", "chosen", "sites"]);
    for group in &groups {
        table.row([cell(&group.name), nodes(group), cell(chosen(group)), cell(group.sites.join(" "))]);
    }
    output.table(&table)
}

/// Online of all.
fn nodes(group: &Group) -> (String, Tone) {
    let tone = if group.nodes_online < group.nodes_total { Tone::Warn } else { Tone::Plain };
    (format!("{}/{}", group.nodes_online, group.nodes_total), tone)
}

fn chosen(group: &Group) -> String {
    match (group.default, group.chosen.is_empty()) {
        (true, _) => "all that host it".to_owned(),
        (false, true) => "nobody".to_owned(),
        (false, false) => group.chosen.join(" "),
    }
}

fn show(output: &Output, detail: &GroupDetail) -> Result<(), Failure> {
    if output.is_json() {
        return output.value(detail);
    }
    let group = &detail.group;
    let sites = if group.sites.is_empty() {
        format!("none: `farmcast site group SITE {}` gives it one", group.name)
    } else {
        group.sites.join(" ")
    };
    output.line(&format!(" group: {}", printable(&group.name)))?;
    output.line(&format!(" sites: {}", printable(&sites)))?;
    output.line(&format!("chosen: {}", printable(&chosen(group))))?;
    let (online, total) = (group.nodes_online, count(group.nodes_total.into(), "member"));
    output.line(&format!(" nodes: {total}, {online} online"))?;
    if !detail.segments.is_empty() {
        output.line("")?;
        let mut table = Table::new(&["segment", "data channel", ">members", ">list", ">current"]);
        for segment in &detail.segments {
            let tone = if segment.current < segment.members { Tone::Warn } else { Tone::Plain };
            let channel = if segment.channel.is_empty() { "-" } else { &segment.channel };
            table.row([
                cell(&segment.segment),
                cell(channel),
                cell(segment.members),
                cell(segment.list),
                (segment.current.to_string(), tone),
            ]);
        }
        output.table(&table)?;
    }
    if !detail.nodes.is_empty() {
        output.line("")?;
        let mut table = Table::new(&["node", "segment", "state", "hosts"]);
        for node in &detail.nodes {
            let state = match (node.online, node.member) {
                (_, false) if group.sites.is_empty() => cell("chosen"),
                (_, false) => ("hosts none of its sites".to_owned(), Tone::Warn),
                (true, true) => ("online".to_owned(), Tone::Good),
                (false, true) => ("offline".to_owned(), Tone::Bad),
            };
            table.row([cell(&node.name), cell(&node.segment), state, cell(node.sites.join(" "))]);
        }
        output.table(&table)?;
    }
    Ok(())
}
