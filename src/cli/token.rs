//! `farmcast token create|list|revoke`

use super::client::{Client, segment};
use super::failure::Failure;
use super::output::{Output, Table, Tone, cell, date_time, printable};
use super::window::seconds;
use crate::ccm::api::types::{MadeToken, NewToken, Token};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a token; its secret is printed this once
    Create(Create),
    /// List tokens: what each is good for, until when, and when it was used last
    List,
    /// Revoke a token: from now on it lets nobody in
    Revoke { name: String },
}

#[derive(clap::Args)]
pub struct Create {
    /// Name of the token, for lists and the audit
    name: String,
    /// What it is good for; each role may what those before it may
    #[arg(long, value_name = "viewer|creator|operator|admin")]
    role: String,
    /// Only for this site; may be given again [default: the whole farm]
    #[arg(long = "site", value_name = "SITE")]
    sites: Vec<String>,
    /// For how long: 12h, 30d
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = seconds)]
    expires: u64,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(wish) => create(client, output, wish).await,
        Command::List => list(client, output).await,
        Command::Revoke { name } => {
            client.delete(&format!("/v1/tokens/{}", segment(name))).await?;
            if !output.is_json() {
                output.line(&format!("{}: revoked", printable(name)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create(client: &Client, output: &Output, wish: &Create) -> Result<ExitCode, Failure> {
    let wish = NewToken {
        name: wish.name.clone(),
        role: wish.role.clone(),
        sites: wish.sites.clone(),
        expires_s: wish.expires,
    };
    let made: MadeToken = client.post("/v1/tokens", &wish).await?;
    if output.is_json() {
        output.value(&made)?;
    } else {
        let until = date_time(made.token.expires_ns);
        eprintln!("{} of {} until {until}; keep it, it is not shown again:", wish.role, sites(&made.token));
        output.line(&printable(&made.secret))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let tokens: Vec<Token> = client.get("/v1/tokens").await?;
    if output.is_json() {
        output.value(&tokens)?;
        return Ok(ExitCode::SUCCESS);
    }
    if tokens.is_empty() {
        output.line("no tokens: `farmcast token create` makes one")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["name", "role", "sites", "state", "expires", "made by", "last used"]);
    for token in &tokens {
        let tone = if token.state == "valid" { Tone::Plain } else { Tone::Warn };
        table.row([
            cell(&token.name),
            cell(&token.role),
            cell(sites(token)),
            (token.state.clone(), tone),
            cell(date_time(token.expires_ns)),
            cell(&token.created_by),
            cell(date_time(token.used_ns)),
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

fn sites(token: &Token) -> String {
    if token.sites.is_empty() { "the whole farm".to_owned() } else { printable(&token.sites.join(" ")) }
}
