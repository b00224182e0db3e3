//! `farmcast audit`: who changed what, and who was refused.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, date_time};
use crate::ccm::api::types::AuditEntry;
use std::process::ExitCode;

/// Entries of one answer.
const PAGE: u32 = 1_000;

#[derive(clap::Args)]
pub struct Audit {
    /// Show so many of the last entries
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only those before this number
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
}

pub async fn run(client: &Client, output: &Output, wish: &Audit) -> Result<ExitCode, Failure> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    let (mut before, mut left) = (wish.before, wish.limit);
    while left > 0 {
        let count = left.min(PAGE);
        let cursor = before.map_or_else(String::new, |id| format!("&before={id}"));
        let page: Vec<AuditEntry> = client.get(&format!("/v1/audit?limit={count}{cursor}")).await?;
        let Some(last) = page.last() else { break };
        (before, left) = (Some(last.id), left - count.min(u32::try_from(page.len()).unwrap_or(count)));
        entries.extend(page);
    }
    entries.reverse();
    if output.is_json() {
        output.value(&entries)?;
    } else if entries.is_empty() {
        output.line("nothing was changed, and nobody refused")?;
    } else {
        let headings = [">id", "when", "who", "from", ">count", ">status", "what", "site", "detail"];
        let mut table = Table::new(&headings);
        for entry in &entries {
            let who = match entry.who.as_str() {
                "" => "?",
                who => who,
            };
            let status = match entry.status {
                0 => ("?".to_owned(), Tone::Warn),
                status if entry.refused => (status.to_string(), Tone::Bad),
                status => cell(status),
            };
            table.row([
                cell(entry.id),
                cell(date_time(entry.at_ns)),
                cell(who),
                cell(&entry.origin),
                cell(entry.count),
                status,
                cell(format!("{} {}", entry.method, entry.route)),
                cell(if entry.site.is_empty() { "-" } else { &entry.site }),
                cell(&entry.detail),
            ]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}
