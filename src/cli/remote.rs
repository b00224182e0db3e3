//! `farmcast ccm fingerprint|remote`: the controller's API over TLS.

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, printable};
use crate::ccm::api::types::Remote;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Print what clients pin of the controller's API over TLS
    Fingerprint,
    /// Show where the API answers over TLS, and what was refused there
    Remote,
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Fingerprint => fingerprint(client, output).await,
        Command::Remote => show(client, output).await,
    }
}

async fn fingerprint(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let remote: Remote = client.get("/v1/remote").await?;
    if remote.fingerprint.is_empty() {
        let text = "the API over TLS is off: set `api` in ccm.toml and start the controller again";
        return Err(Failure::Refused(text.to_owned()));
    }
    if output.is_json() {
        output.value(&remote)?;
    } else {
        output.line(&printable(&remote.fingerprint))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let remote: Remote = client.get("/v1/remote").await?;
    if output.is_json() {
        output.value(&remote)?;
    } else if remote.address.is_empty() {
        output.line("the API over TLS is off; `api` in ccm.toml turns it on")?;
    } else {
        let lines = [
            ("address", printable(&remote.address)),
            ("fingerprint", printable(&remote.fingerprint)),
            ("connections", remote.connections.to_string()),
            ("handshakes failed", remote.handshakes_failed.to_string()),
            ("turned away", remote.turned_away.to_string()),
            ("requests refused", remote.refused.to_string()),
        ];
        lines.iter().try_for_each(|(name, value)| output.line(&format!("{name:18} {value}")))?;
    }
    Ok(ExitCode::SUCCESS)
}
