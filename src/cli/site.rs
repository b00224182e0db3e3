//! `farmcast site list|show|add|filter|group`

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, bytes, cell, count, printable};
use super::policy::{self, SitePolicyArgs};
use crate::ccm::api::types::{Filter, NewSite, Site, SiteGroup};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the sites
    List,
    /// Show one site and what of its staging is picked up
    Show { site: String },
    /// Add a site, published from a directory of the controller's machine
    Add {
        /// Name of the site: letters, digits, `.`, `_` and `-`
        name: String,
        /// Directory that holds what shall be live
        #[arg(long, value_name = "DIR")]
        staging: PathBuf,
        #[command(flatten)]
        rules: Rules,
    },
    /// Say anew what of staging is picked up, from the next publish on; what was said before no longer holds
    Filter {
        site: String,
        #[command(flatten)]
        rules: Rules,
        /// Pick up everything
        #[arg(long, conflicts_with_all = ["exclude", "include", "types"])]
        clear: bool,
    },
    /// Choose the content group that serves a site
    Group {
        site: String,
        /// A group that `farmcast group create` made
        #[arg(required_unless_present = "default")]
        group: Option<String>,
        /// The site's default group: every node that hosts it
        #[arg(long, conflicts_with = "group")]
        default: bool,
    },
    /// Show what jobs of a site go by; with options, set it: what is not given goes back to its default
    Policy {
        site: String,
        #[command(flatten)]
        policy: SitePolicyArgs,
        /// Every default again
        #[arg(long)]
        default: bool,
    },
}

/// What of staging is picked up; patterns as in a `.gitignore`. Each may be given again.
#[derive(Clone, Debug, clap::Args)]
pub struct Rules {
    /// Leave out what fits
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Pick up only what fits, or lies in a directory that does
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Pick up only files whose name ends in `.ENDING`
    #[arg(long = "only-type", value_name = "ENDING")]
    types: Vec<String>,
}

impl Rules {
    fn filter(&self) -> Filter {
        let Self { exclude, include, types } = self.clone();
        Filter { exclude, include, types }
    }
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List => list(client, output).await,
        Command::Show { site } => show(client, output, site).await,
        Command::Add { name, staging, rules } => add(client, output, name, staging, rules.filter()).await,
        Command::Filter { site, rules, clear } => {
            set_filter(client, output, site, rules.filter(), *clear).await
        }
        Command::Group { site, group, .. } => {
            set_group(client, output, site, group.as_deref().unwrap_or_default()).await
        }
        Command::Policy { site, policy, default } => {
            policy::run(client, output, site, policy, *default).await
        }
    }
}

async fn list(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let sites: Vec<Site> = client.get("/v1/sites").await?;
    if output.is_json() {
        output.value(&sites)?;
    } else if sites.is_empty() {
        output.line("no sites yet: add one with `farmcast site add NAME --staging DIR`")?;
    } else {
        output.table(&table(&sites))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, output: &Output, site: &str) -> Result<ExitCode, Failure> {
    let site: Site = client.get(&format!("/v1/sites/{}", segment(site))).await?;
    if output.is_json() {
        output.value(&site)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(&format!("   site: {}", printable(&site.name)))?;
    output.line(&format!("staging: {}", printable(&site.staging)))?;
    let version = if site.version == 0 { "none".to_owned() } else { site.version.to_string() };
    let (files, size) = (count(site.files, "file"), bytes(site.bytes));
    output.line(&format!("version: {version}, {files}, {size}"))?;
    output.line(&format!("  group: {}", printable(&site.group)))?;
    output.line(&format!(" filter: {}", rules(&site.filter)))?;
    Ok(ExitCode::SUCCESS)
}

/// The rules as they are typed.
fn rules(filter: &Filter) -> String {
    if filter.is_empty() {
        return "none, everything is picked up".to_owned();
    }
    let kinds =
        [("--exclude", &filter.exclude), ("--include", &filter.include), ("--only-type", &filter.types)];
    let each = kinds.iter().flat_map(|(option, rules)| rules.iter().map(move |rule| (option, rule)));
    let words: Vec<String> = each.map(|(option, rule)| format!("{option} '{}'", printable(rule))).collect();
    words.join(" ")
}

async fn set_filter(
    client: &Client,
    output: &Output,
    site: &str,
    filter: Filter,
    clear: bool,
) -> Result<ExitCode, Failure> {
    if filter.is_empty() && !clear {
        return Err(Failure::Usage("give --exclude, --include or --only-type, or --clear".to_owned()));
    }
    let site: Site = client.post(&format!("/v1/sites/{}/filter", segment(site)), &filter).await?;
    if output.is_json() {
        output.value(&site)?;
    } else {
        let name = printable(&site.name);
        let line = format!("{name}: {}; `farmcast diff {name}` shows what follows", rules(&site.filter));
        output.line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(
    client: &Client,
    output: &Output,
    name: &str,
    staging: &Path,
    filter: Filter,
) -> Result<ExitCode, Failure> {
    let wish = NewSite { name: name.to_owned(), staging: absolute(staging)?, filter };
    let site: Site = client.post("/v1/sites", &wish).await?;
    if output.is_json() {
        output.value(&site)?;
    } else {
        let (name, staging) = (printable(&site.name), printable(&site.staging));
        output.line(&format!("added site {name}, published from {staging}: `farmcast publish {name}`"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn set_group(client: &Client, output: &Output, site: &str, group: &str) -> Result<ExitCode, Failure> {
    let wish = SiteGroup { group: group.to_owned() };
    let site: Site = client.post(&format!("/v1/sites/{}/group", segment(site)), &wish).await?;
    if output.is_json() {
        output.value(&site)?;
    } else {
        let (name, group) = (printable(&site.name), printable(&site.group));
        output.line(&format!("group {group} serves site {name} from its next publish on"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The API wants an absolute path, for the controller stands elsewhere in the tree than the user does.
fn absolute(staging: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(staging)
        .map_err(|error| Failure::Usage(format!("staging {}: {error}", staging.display())))?;
    path.into_os_string().into_string().map_err(|path| {
        Failure::Usage(format!(
            "staging {}: its path must be UTF-8 (what is in it need not be)",
            path.display()
        ))
    })
}

pub fn table(sites: &[Site]) -> Table {
    let mut table = Table::new(&["site", ">version", ">files", ">size", "group", "filter", "staging"]);
    for site in sites {
        let version = if site.version == 0 { "none".to_owned() } else { site.version.to_string() };
        let size = bytes(site.bytes);
        let staging = cell(&site.staging);
        table.row([
            cell(&site.name),
            cell(version),
            cell(site.files),
            cell(size),
            cell(&site.group),
            cell(if site.filter.is_empty() { "-" } else { "yes" }),
            staging,
        ]);
    }
    table
}
