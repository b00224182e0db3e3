//! `farmcast ccm init|run`: the one place where the command line starts the controller itself.

use super::failure::Failure;
use super::output::Output;
use super::remote;
use crate::ccm::{InitError, InitOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// sysexits(3): something is wrong with the configuration.
const EX_CONFIG: u8 = 78;

#[derive(clap::Subcommand)]
pub enum Command {
    #[command(flatten)]
    Local(Local),
    #[command(flatten)]
    Remote(remote::Command),
}

/// What needs no controller that runs.
#[derive(clap::Subcommand)]
pub enum Local {
    /// Make a farm: its keys, its database and a commented configuration
    Init {
        /// Directory to put them into
        #[arg(long, default_value = "/var/lib/farmcast/ccm", value_name = "DIR")]
        dir: PathBuf,
        /// Address and port on which the controller listens for nodes; port 0 takes any free one
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
        /// Address under which nodes reach it, where that is another one
        #[arg(long, value_name = "ADDR:PORT")]
        advertise: Option<SocketAddr>,
        /// Address and port on which the API answers over TLS; without it only the Unix socket does
        #[arg(long, value_name = "ADDR:PORT")]
        api: Option<SocketAddr>,
    },
    /// Run the controller in the foreground
    Run {
        #[arg(long, default_value = "/var/lib/farmcast/ccm/ccm.toml", value_name = "FILE")]
        config: PathBuf,
        /// Only check the configuration: exit 0, or 78 with FILE:LINE: MESSAGE
        #[arg(long)]
        check_config: bool,
    },
}

/// `socket`: the global option; at `init` it is where the controller shall listen for commands.
pub fn run(command: &Local, socket: Option<&Path>, output: &Output) -> Result<ExitCode, Failure> {
    match command {
        Local::Init { dir, listen, advertise, api } => {
            let socket = socket.map(Path::to_owned);
            let options = InitOptions { listen: *listen, advertise: *advertise, socket, api: *api };
            init(dir, &options, output)
        }
        Local::Run { config, check_config: false } => Ok(crate::ccm::run(config)),
        Local::Run { config, check_config: true } => check(config, output),
    }
}

fn check(config: &Path, output: &Output) -> Result<ExitCode, Failure> {
    match crate::ccm::Config::load(config) {
        Ok(_) => {
            output.line(&format!("{}: ok", config.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(EX_CONFIG))
        }
    }
}

fn init(dir: &Path, options: &InitOptions, output: &Output) -> Result<ExitCode, Failure> {
    let config = crate::ccm::init(dir, options).map_err(|error| match error {
        InitError::Exists(_) => Failure::Refused(error.to_string()),
        _ => Failure::Ran(error.to_string()),
    })?;
    if output.is_json() {
        output.value(&serde_json::json!({ "schema": "farmcast.init/1", "config": config }))?;
    } else {
        let config = config.display();
        output
            .line(&format!("made a farm; start its controller with `farmcast ccm run --config {config}`"))?;
    }
    Ok(ExitCode::SUCCESS)
}
