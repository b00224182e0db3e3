//! demo
use super::failure::Failure;
use super::output::Output;
use std::process::ExitCode;
#[derive(clap::Args)]
pub struct Options {}
pub async fn run(_options: &Options, _output: &Output) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}
