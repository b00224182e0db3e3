//! The operator's commands: a client of the CCM's API, one file per noun.
//!
//! Data goes to stdout, talk to stderr. With `--json` stdout carries the API's own values, one per line.
//! Exit codes are those of [`failure::Failure::code`].

mod assignment;
mod audit;
mod ccm;
mod child;
mod client;
mod clock;
mod db;
mod demo;
mod diff;
mod events;
mod failure;
mod group;
mod job;
mod manual;
mod node;
mod notify;
mod output;
mod pages;
mod plan;
mod policy;
mod progress;
mod release;
mod remote;
mod schedule;
mod segment;
mod site;
mod status;
mod token;
mod upload;
mod version;
mod window;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use client::Client;
use failure::Failure;
use output::{Colour, Output};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "farmcast",
    version = version::LINE,
    about = "Puts new content live on every server of a web farm at the same instant, or nowhere",
    after_help = "Exit codes: 0 done, 1 ran and failed, 2 usage, 3 live on some nodes only, 4 refused, \
                  5 not found, 69 no controller answers, 130 interrupted (a job goes on).",
    infer_subcommands = false
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Global {
    /// Unix socket of the controller [default: /run/farmcast/ccm.sock, else that of a running demo]
    #[arg(long, global = true, env = "FARMCAST_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A controller elsewhere, by its API over TLS: https://HOST:PORT
    #[arg(long, global = true, env = "FARMCAST_CCM", value_name = "URL", conflicts_with = "socket")]
    ccm: Option<String>,
    /// File with the token for --ccm [default: FARMCAST_TOKEN holds the token itself]
    #[arg(long, global = true, env = "FARMCAST_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Authorities in PEM, of which one must have signed the certificate of --ccm; or its certificate itself
    #[arg(long, global = true, env = "FARMCAST_CA", value_name = "FILE", conflicts_with = "fingerprint")]
    ca: Option<PathBuf>,
    /// The certificate of --ccm, as `farmcast ccm fingerprint` shows it there: sha256:...
    #[arg(long, global = true, env = "FARMCAST_FINGERPRINT", value_name = "SHA256")]
    fingerprint: Option<String>,
    /// Print JSON: the API's own values, one per line
    #[arg(long, global = true)]
    json: bool,
    /// When to colour (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    color: Colour,
}

impl Global {
    /// How the controller of this command line is reached. Nothing is connected yet.
    fn client(&self) -> Result<Client, Failure> {
        let Some(url) = &self.ccm else {
            return Ok(Client::new(self.socket.clone().unwrap_or_else(client::default_socket)));
        };
        let trust = client::Trust::new(self.ca.as_deref(), self.fingerprint.as_deref())?;
        let token = client::token(self.token_file.as_deref())?;
        Ok(Client::over_tls(client::Secure::new(url, &trust, token)?))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Show how the farm is and what to do about it (the default command)
    Status,
    /// Publish a site: put what is in its staging directory live on every node
    Publish(job::Publish),
    /// Send a directory or a file into the staging of a site; the same command goes on where one was interrupted
    Upload(upload::Wish),
    /// Bring nodes that lack the version that is live to it, each by what it lacks
    Synchronize(job::Synchronize),
    /// Take files, directories or all content of a site off its nodes, at one instant; staging is left alone
    Remove(job::Remove),
    /// Show what a publish would change; exit code 1 where it would, 0 where staging equals what is live
    Diff(diff::Diff),
    /// Show what a publish would send, which nodes are behind, and what is in the way; exit code 1 where something is
    Plan(plan::Wish),
    /// List and verify nodes, invite new ones, remove old ones; `node --config FILE`, `node join` and `node doctor`
    /// run, join and check a node here
    #[command(subcommand)]
    Node(node::Command),
    /// List, add and remove content groups and their nodes: who gets which site
    #[command(subcommand)]
    Group(group::Command),
    /// List, show, rename and steer segments
    #[command(subcommand)]
    Segment(segment::Command),
    /// List and add sites, give them their content group
    #[command(subcommand)]
    Site(site::Command),
    /// List, show and watch jobs
    #[command(subcommand)]
    Job(job::Command),
    /// Let jobs start by themselves: by the clock, on a change of staging, after another job
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Say from outside that it is time: starts what waits by `schedule add --on-trigger NAME`
    Trigger(schedule::Trigger),
    /// Show what happened, and with --follow what happens
    Events(events::Events),
    /// Show who changed what, and who was refused; the newest last
    Audit(audit::Audit),
    /// Make, list and revoke the tokens by which the controller is operated from elsewhere
    #[command(subcommand)]
    Token(token::Command),
    /// List who is notified, and test it
    #[command(subcommand)]
    Notify(notify::Command),
    /// Keep jobs from starting until it is lifted
    #[command(subcommand)]
    Freeze(window::Freeze),
    /// Keep jobs from starting at certain times
    #[command(subcommand)]
    Blackout(window::Blackout),
    /// Bound what is sent of content at certain times
    #[command(subcommand)]
    Bandwidth(window::Bandwidth),
    /// Inspect and verify the files of assignments, without a controller
    #[command(subcommand)]
    Assignment(assignment::Command),
    /// Show a whole farm at work on this machine: no root, no set-up, nothing left behind
    Demo(demo::Options),
    /// Make and run a controller
    #[command(subcommand)]
    Ccm(ccm::Command),
    /// Look at the database of the controller, back it up, bring it back
    #[command(subcommand)]
    Db(db::Command),
    /// Go back to the version before the live one (short for `version rollback`)
    Rollback(release::Rollback),
    /// Print the completions of a shell
    Completions(manual::Completions),
    /// Write the manual pages of all commands into a directory
    Man(manual::Man),
    /// Print version and revision of this program; list, roll back and switch the versions of a site
    Version {
        #[command(subcommand)]
        command: Option<release::Command>,
    },
}

/// Whether the arguments behind `farmcast node` ask the controller about nodes, rather than run one here.
pub fn is_node_query(arguments: &[OsString]) -> bool {
    let asks = |word: &OsString| {
        ["list", "invite", "remove", "verify", "help", "--help", "-h"].iter().any(|verb| word == verb)
    };
    arguments.is_empty() || arguments.first().is_some_and(asks) || {
        let is_option = |word: &OsString| word.to_string_lossy().starts_with("--json");
        arguments.first().is_some_and(is_option) && arguments.get(1).is_some_and(asks)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == child::WORD) {
        return child::run(std::env::args_os().skip(2));
    }
    let cli = match Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let output = Output::new(cli.global.json, cli.global.color);
    match run(cli, &output) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli, output: &Output) -> Result<ExitCode, Failure> {
    let client = || cli.global.client();
    match cli.command.unwrap_or(Command::Status) {
        Command::Status => wait_for(status::show(&client()?, output)),
        Command::Publish(publish) => wait_for(job::publish(&client()?, output, &publish)),
        Command::Upload(wish) => wait_for(upload::run(&client()?, output, &wish)),
        Command::Synchronize(wish) => wait_for(job::synchronize(&client()?, output, &wish)),
        Command::Remove(wish) => wait_for(job::remove(&client()?, output, &wish)),
        Command::Diff(wish) => wait_for(diff::run(&client()?, output, &wish)),
        Command::Plan(wish) => wait_for(plan::run(&client()?, output, &wish)),
        Command::Node(command) => wait_for(node::run(&client()?, output, &command)),
        Command::Group(command) => wait_for(group::run(&client()?, output, &command)),
        Command::Segment(command) => wait_for(segment::run(&client()?, output, &command)),
        Command::Site(command) => wait_for(site::run(&client()?, output, &command)),
        Command::Job(command) => wait_for(job::run(&client()?, output, &command)),
        Command::Schedule(command) => wait_for(schedule::run(&client()?, output, &command)),
        Command::Trigger(wish) => wait_for(schedule::call(&client()?, output, &wish)),
        Command::Events(wish) => wait_for(events::run(&client()?, output, &wish)),
        Command::Notify(command) => wait_for(notify::run(&client()?, output, &command)),
        Command::Audit(wish) => wait_for(audit::run(&client()?, output, &wish)),
        Command::Token(command) => wait_for(token::run(&client()?, output, &command)),
        Command::Freeze(command) => wait_for(window::freeze(&client()?, output, &command)),
        Command::Blackout(command) => wait_for(window::blackout(&client()?, output, &command)),
        Command::Bandwidth(command) => wait_for(window::bandwidth(&client()?, output, &command)),
        Command::Assignment(command) => assignment::run(output, &command),
        Command::Demo(options) => wait_for(demo::run(&options, output)),
        Command::Ccm(ccm::Command::Remote(command)) => wait_for(remote::run(&client()?, output, &command)),
        Command::Ccm(ccm::Command::Local(command)) => {
            ccm::run(&command, cli.global.socket.as_deref(), output)
        }
        Command::Db(command) => wait_for(db::run(&client()?, output, &command)),
        Command::Rollback(wish) => wait_for(release::rollback(&client()?, output, &wish)),
        Command::Completions(wish) => manual::completions(Cli::command(), &wish),
        Command::Man(wish) => manual::man(Cli::command(), output, &wish),
        Command::Version { command: Some(command) } => wait_for(release::run(&client()?, output, &command)),
        Command::Version { command: None } => version::show(output).map(|()| ExitCode::SUCCESS),
    }
}

/// One thread is enough for a client, and the demo's children die with the thread that started them.
fn wait_for(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Ran(format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn node_queries_go_to_the_controller_and_the_rest_runs_a_node() {
        for query in ["list", "invite web1", "verify web1 www", "remove web1", "--json list", "--help", ""] {
            assert!(is_node_query(&words(query)), "{query}");
        }
        for daemon in ["--config list", "join --ccm 10.0.0.1:7400", "--check-config"] {
            assert!(!is_node_query(&words(daemon)), "{daemon}");
        }
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in ["farmcast --json node list", "farmcast node list --json"] {
            let cli = Cli::try_parse_from(words(line)).expect("both places are valid");
            assert!(cli.global.json, "{line}");
        }
        assert!(Cli::try_parse_from(words("farmcast")).expect("status is the default").command.is_none());
    }
}
