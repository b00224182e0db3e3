//! `farmcast db status|backup|restore`

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Table, Tone, bytes, cell, count};
use crate::ccm::api::types::{Backup, Database, NewBackup};
use crate::ccm::{Config, RestoreError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show version, size, tables and numbers of the database, and check it; exit code 1 where it is damaged
    Status {
        /// Look at this file, such as a backup, instead of asking the controller
        file: Option<PathBuf>,
    },
    /// Write a copy of the database while the controller goes on
    Backup {
        /// A new file on the controller's machine, in a directory that the controller may write
        file: PathBuf,
    },
    /// Bring the database back from a backup, with the controller stopped; the present one is kept beside it
    Restore {
        /// A backup of this farm
        file: PathBuf,
        /// The controller's configuration
        #[arg(long, default_value = "/var/lib/farmcast/ccm/ccm.toml", value_name = "FILE")]
        config: PathBuf,
    },
}

pub async fn run(client: &Client, output: &Output, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Status { file: None } => {
            let database: Database = client.get_patiently("/v1/database").await?;
            show(output, &database)
        }
        Command::Status { file: Some(file) } => {
            let database = crate::ccm::inspect(file).map_err(|error| Failure::Ran(error.to_string()))?;
            show(output, &database)
        }
        Command::Backup { file } => backup(client, output, file).await,
        Command::Restore { file, config } => restore(output, file, config),
    }
}

fn show(output: &Output, database: &Database) -> Result<ExitCode, Failure> {
    // A check that time ended found nothing so far.
    let sound = matches!(database.integrity.as_str(), "ok" | "unfinished");
    if output.is_json() {
        output.value(database)?;
    } else {
        let integrity = match database.integrity.as_str() {
            "ok" => output.tint("sound", Tone::Good),
            "unfinished" => "sound as far as it was checked in time".to_owned(),
            damage => output.tint(&format!("DAMAGED: {damage}; see `farmcast db restore`"), Tone::Bad),
        };
        output.line(&format!("{}: {integrity}", database.file))?;
        let version = match database.version == database.program_version {
            true => format!("version {}", database.version),
            false => {
                format!("version {} (this program writes {})", database.version, database.program_version)
            }
        };
        output.line(&format!(
            "{version}, {} and {} not yet in it, {} free in it",
            bytes(database.bytes),
            bytes(database.log_bytes),
            bytes(database.free_bytes)
        ))?;
        let mut table = Table::new(&["table", ">rows"]);
        database.tables.iter().for_each(|row| table.row([cell(&row.name), cell(row.rows)]));
        output.table(&table)?;
        let mut table = Table::new(&["numbers of", ">last"]);
        database.numbers.iter().for_each(|row| table.row([cell(&row.name), cell(row.last)]));
        output.table(&table)?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn backup(client: &Client, output: &Output, file: &Path) -> Result<ExitCode, Failure> {
    let absolute =
        std::path::absolute(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    let Some(text) = absolute.to_str() else {
        return Err(Failure::Usage(format!("{}: only names in UTF-8 are possible here", file.display())));
    };
    let done: Backup =
        client.post_patiently("/v1/database/backup", &NewBackup { file: text.to_owned() }).await?;
    if output.is_json() {
        output.value(&done)?;
    } else {
        output.line(&format!(
            "{}: {}; keep it with the directory `keys` of the controller, without which it is of no use",
            done.file,
            bytes(done.bytes)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn restore(output: &Output, file: &Path, config: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(config).map_err(|error| Failure::Usage(error.to_string()))?;
    let done = crate::ccm::restore(&config, file).map_err(|error| match error {
        RestoreError::Lock(_) | RestoreError::Db(_) => Failure::Refused(error.to_string()),
        RestoreError::Keys(_) | RestoreError::Io { .. } => Failure::Ran(error.to_string()),
    })?;
    let replaced = done.replaced.as_ref().map(|path| path.display().to_string());
    if output.is_json() {
        output.value(&serde_json::json!({
            "schema": "farmcast.restore/1", "file": done.file, "replaced": replaced, "ended_runs": done.ended_runs,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(&format!("{}: brought back; start the controller", done.file.display()))?;
    if let Some(replaced) = replaced {
        output.line(&format!("what was there before is {replaced}"))?;
    }
    if done.ended_runs > 0 {
        output.line(&format!(
            "{} of the backup will not go on: publish again what is wanted",
            count(done.ended_runs as u64, "run")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
