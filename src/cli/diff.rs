//! `farmcast diff`: what a publish would change.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, printable};
use crate::ccm::api::types::{DiffEntry, SiteDiff};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Diff {
    /// Name of the site
    site: String,
    /// Print paths only
    #[arg(long, conflicts_with_all = ["stat", "patch"])]
    name_only: bool,
    /// Print sizes before and after
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
    /// Show what differs in text files, of the first 100 and up to 256 KiB each
    #[arg(long)]
    patch: bool,
}

/// Exit code 0 where staging equals what is live, 1 where a publish would change something.
pub async fn run(client: &Client, output: &Output, wish: &Diff) -> Result<ExitCode, Failure> {
    let path = format!("/v1/sites/{}/diff?patch={}", segment(&wish.site), wish.patch);
    let diff: SiteDiff = client.get_patiently(&path).await?;
    if output.is_json() {
        output.value(&diff)?;
    } else {
        show(output, wish, &diff)?;
    }
    Ok(if diff.entries.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(output: &Output, wish: &Diff, diff: &SiteDiff) -> Result<(), Failure> {
    if wish.stat {
        stat(output, diff)?;
    } else {
        for entry in &diff.entries {
            let path = printable(&entry.path);
            match wish.name_only {
                true => output.line(&path)?,
                false => output.line(&format!("{} {path}", letter(entry)))?,
            }
            if wish.patch {
                patch(output, entry)?;
            }
        }
    }
    let site = printable(&diff.site);
    if wish.name_only {
        if diff.more > 0 {
            eprintln!("and {} more", diff.more);
        }
        return Ok(());
    }
    if diff.more > 0 {
        output.line(&format!("and {} more", diff.more))?;
    }
    let live = match diff.version {
        0 => "nothing, for no version is live yet".to_owned(),
        version => format!("version {version}"),
    };
    if diff.entries.is_empty() {
        return output.line(&format!("staging of {site} equals {live}"));
    }
    let changes = &diff.changes;
    output.line(&format!(
        "staging of {site} against {live}: {} added, {} changed, {} metadata only, {} removed, {} left out",
        changes.added, changes.changed, changes.metadata, changes.removed, changes.left_out
    ))
}

fn stat(output: &Output, diff: &SiteDiff) -> Result<(), Failure> {
    let mut table = Table::new(&["change", ">before", ">after", "path"]);
    let size = |size: Option<u64>| cell(size.map_or_else(|| "-".to_owned(), bytes));
    for entry in &diff.entries {
        table.row([
            (entry.change.clone(), tone(entry)),
            size(entry.old_bytes),
            size(entry.new_bytes),
            cell(&entry.path),
        ]);
    }
    if diff.entries.is_empty() { Ok(()) } else { output.table(&table) }
}

fn patch(output: &Output, entry: &DiffEntry) -> Result<(), Failure> {
    if let (Some(old), Some(new)) = (entry.old_mode, entry.new_mode)
        && old != new
    {
        output.line(&format!("  mode {old:04o} -> {new:04o}"))?;
    }
    if !entry.note.is_empty() {
        output.line(&format!("  ({})", printable(&entry.note)))?;
    }
    for line in entry.patch.lines() {
        let tone = match line.as_bytes().first() {
            Some(b'+') => Tone::Good,
            Some(b'-') => Tone::Bad,
            _ => Tone::Plain,
        };
        let clean: Vec<String> = line.split('\t').map(printable).collect();
        output.line(&output.tint(&clean.join("\t"), tone))?;
    }
    Ok(())
}

fn letter(entry: &DiffEntry) -> char {
    match entry.change.as_str() {
        "added" => 'A',
        "removed" => 'D',
        "metadata" => 'm',
        "replaced" => 'T',
        _ => 'M',
    }
}

fn tone(entry: &DiffEntry) -> Tone {
    match entry.change.as_str() {
        "added" => Tone::Good,
        "removed" => Tone::Bad,
        _ => Tone::Plain,
    }
}
