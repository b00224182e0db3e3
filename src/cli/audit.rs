//! `farmcast audit`: who changed what, and who was refused.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, date_time};
use super::pages;
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
    let before = |id: u64| format!("before={id}");
    let next = |page: &[AuditEntry]| page.last().map(|entry| before(entry.id));
    let limit = (PAGE, Some(wish.limit));
    let pages = pages::fetch(client, "/v1/audit", limit, wish.before.map(before), next).await?;
    let mut entries: Vec<AuditEntry> = pages.into_iter().flatten().collect();
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
