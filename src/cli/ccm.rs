//! `farmcast ccm init|run`: the one place where the command line starts the controller itself.

use crate::ccm;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a farm: its keys, its database and a commented configuration
    Init {
        /// Directory to put them into
        #[arg(long, default_value = "/etc/farmcast", value_name = "DIR")]
        dir: PathBuf,
        /// Address and port where nodes reach the controller
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<String>,
    },
    /// Run the controller in the foreground
    Run {
        #[arg(long, default_value = "/etc/farmcast/ccm.toml", value_name = "FILE")]
        config: PathBuf,
    },
}

/// `socket`: the global option; at `init` it is where the controller shall listen for commands.
pub fn run(command: &Command, socket: Option<&Path>) -> ExitCode {
    match command {
        Command::Init { dir, listen } => ccm::init(dir, listen.as_deref(), socket),
        Command::Run { config } => ccm::run(config),
    }
}
