//! `farmcast segment list|show|rename|channel|leader|refresh`

use super::client::{Client, segment as path_of};
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, date_time, printable};
use crate::ccm::api::types::{NewChannel, NewLeaders, NewTitle, Segment, SegmentDetail};
use serde::Serialize;
use std::process::ExitCode;

/// Seconds that the list of leaders has before the others vote, where nothing else is said.
const OPEN_AFTER_S: u32 = 30;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the segments
    List,
    /// Show a segment: its leader, its nodes, what was decided of it, what happened in it last
    Show {
        /// Its name, or its id in the configuration of its nodes
        segment: String,
    },
    /// Give a segment another name; its id stays
    Rename {
        segment: String,
        /// Letters, digits, `.`, `_` and `-`
        name: String,
    },
    /// Move a segment to another control channel
    Channel(Channel),
    /// Say which nodes may lead a segment
    Leader(Leader),
    /// Have the leader ask its nodes and report at once
    Refresh { segment: String },
}

#[derive(clap::Args)]
pub struct Channel {
    segment: String,
    /// Multicast group and port, as 239.255.70.3:7401
    #[arg(required_unless_present = "configured", value_name = "ADDRESS:PORT")]
    channel: Option<String>,
    /// Back to the channel of the nodes' configuration
    #[arg(long, conflicts_with = "channel")]
    configured: bool,
}

#[derive(clap::Args)]
pub struct Leader {
    segment: String,
    /// Names of the nodes that may lead
    #[arg(required_unless_present = "any", value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
    /// Any node may lead again, as its own configuration says
    #[arg(long, conflicts_with_all = ["nodes", "strict", "open_after"])]
    any: bool,
    /// With none of them there, the segment stays without a leader
    #[arg(long, conflicts_with = "open_after")]
    strict: bool,
    /// Seconds without any of them after which the others vote [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    open_after: Option<u32>,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List => list(client, output).await,
        Command::Show { segment } => {
            let detail: SegmentDetail = client.get(&format!("/v1/segments/{}", path_of(segment))).await?;
            show(output, &detail)
        }
        Command::Rename { segment, name } => {
            let wish = NewTitle { name: name.clone() };
            change(client, output, segment, "name", &wish).await
        }
        Command::Channel(channel) => {
            let wish = NewChannel { channel: channel.channel.clone().unwrap_or_default() };
            change(client, output, &channel.segment, "channel", &wish).await
        }
        Command::Leader(leader) => {
            let open_after_s = (!leader.strict).then(|| leader.open_after.unwrap_or(OPEN_AFTER_S));
            let wish = NewLeaders { nodes: leader.nodes.clone(), open_after_s };
            change(client, output, &leader.segment, "leaders", &wish).await
        }
        Command::Refresh { segment } => {
            let path = format!("/v1/segments/{}/refresh", path_of(segment));
            let detail: SegmentDetail = client.post(&path, &()).await?;
            show(output, &detail)
        }
    }
}

async fn list(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let segments: Vec<Segment> = client.get("/v1/segments").await?;
    if output.is_json() {
        output.value(&segments)?;
        return Ok(ExitCode::SUCCESS);
    }
    if segments.is_empty() {
        output.line("no segments yet: they appear with the first report of a leader")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["segment", "id", ">nodes", "leader", "may lead", "control channel", "last report"]);
    for segment in &segments {
        table.row([
            cell(&segment.name),
            cell(&segment.id),
            nodes(segment),
            leader(segment),
            cell(may_lead(segment)),
            channel(segment),
            cell(date_time(segment.reported_ns)),
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

/// Sends a decision and says what it was and how far it has got.
async fn change(
    client: &Client,
    output: &Output,
    segment: &str,
    what: &str,
    wish: &impl Serialize,
) -> Result<ExitCode, Failure> {
    let path = format!("/v1/segments/{}/{what}", path_of(segment));
    let detail: SegmentDetail = client.post(&path, wish).await?;
    if output.is_json() {
        output.value(&detail)?;
    } else {
        let segment = &detail.segment;
        let (name, number) = (printable(&segment.name), segment.charter);
        output.line(&format!(
            "{name}: decided as charter {number}; `farmcast segment show {name}` follows it"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(output: &Output, detail: &SegmentDetail) -> Result<ExitCode, Failure> {
    if output.is_json() {
        output.value(detail)?;
        return Ok(ExitCode::SUCCESS);
    }
    let segment = &detail.segment;
    let line = |what: &str, text: &str| output.line(&format!("{what:>15}: {text}"));
    line("segment", &format!("{} (id {})", printable(&segment.name), printable(&segment.id)))?;
    line("leader", &format!("{}, epoch {}", printable(&leader(segment).0), segment.epoch))?;
    line("may lead", &printable(&may_lead(segment)))?;
    line("control channel", &printable(&channel(segment).0))?;
    line("nodes", &nodes(segment).0)?;
    let charter = match (segment.charter, segment.charter_reported) {
        (0, 0) => "nothing was decided yet".to_owned(),
        (decided, reported) if reported < decided => format!("{decided}, on its way to the leader"),
        (_, reported) if segment.nodes_behind > 0 => {
            format!("{reported}, on its way to {} nodes", segment.nodes_behind)
        }
        (_, reported) => format!("{reported}, all nodes have it"),
    };
    line("charter", &charter)?;
    line("last report", &date_time(segment.reported_ns))?;
    for twin in &segment.twins {
        line("twin", &output.tint(&format!("{}, which keeps silent", printable(twin)), Tone::Bad))?;
    }
    let headings = [
        "node",
        "state",
        ">priority",
        ">cpus",
        ">mhz",
        ">load",
        ">conns",
        ">free disk",
        "address",
        "location",
    ];
    let mut table = Table::new(&headings);
    for node in &detail.nodes {
        let tone = match node.state.as_str() {
            "leader" => Tone::Good,
            "offline" => Tone::Bad,
            _ => Tone::Plain,
        };
        table.row([
            cell(&node.name),
            (node.state.clone(), tone),
            cell(node.priority),
            cell(node.processors),
            cell(node.cpu_mhz),
            cell(format!("{}.{:02}", node.load_pct / 100, node.load_pct % 100)),
            cell(node.connections),
            cell(bytes(node.free_disk_bytes)),
            cell(&node.datagram),
            cell(&node.location),
        ]);
    }
    output.line("")?;
    output.table(&table)?;
    if !detail.events.is_empty() {
        output.line("")?;
        let mut table = Table::new(&["when", "what", "happened"]);
        for event in &detail.events {
            table.row([cell(date_time(event.at_ns)), cell(&event.subject), cell(&event.text)]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn nodes(segment: &Segment) -> (String, Tone) {
    let whole = segment.nodes_online == segment.nodes_total;
    let text = format!("{}/{}", segment.nodes_online, segment.nodes_total);
    (text, if whole { Tone::Plain } else { Tone::Warn })
}

pub fn leader(segment: &Segment) -> (String, Tone) {
    match (segment.leader.as_str(), segment.leader_name.as_str()) {
        ("", _) => ("none".to_owned(), Tone::Bad),
        (id, "") => cell(id),
        (_, name) => cell(name),
    }
}

fn may_lead(segment: &Segment) -> String {
    match (segment.leaders.is_empty(), segment.open_after_s) {
        (true, _) => "any".to_owned(),
        (false, None) => format!("{}, nobody else", segment.leaders.join(" ")),
        (false, Some(seconds)) => format!("{}, others after {seconds} s", segment.leaders.join(" ")),
    }
}

fn channel(segment: &Segment) -> (String, Tone) {
    if segment.wanted_channel.is_empty() || segment.wanted_channel == segment.channel {
        return cell(&segment.channel);
    }
    (format!("{} (wanted: {})", segment.channel, segment.wanted_channel), Tone::Warn)
}
