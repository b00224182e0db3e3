//! `farmcastd [--config FILE]`, `--check-config`, `--doctor`, `join`: the daemon's own command line.

use super::config::Config;
use super::doctor;
use super::fatal::Fatal;
use super::join::{self, JoinError};
use super::shell::Shell;
use crate::io::clock;
use crate::wire::join::Token;
use std::ffi::OsString;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::ExitCode;

const DEFAULT_CONFIG: &str = "/etc/farmcast/farmcastd.toml";
/// Bad arguments (LSB INVALIDARGUMENT): systemd does not restart for it.
const USAGE: u8 = 2;

const HELP: &str = "\
farmcastd: takes part in a farm as a node: receives content, puts it live, leads its segment if elected

  farmcastd [--config FILE]            run in the foreground
  farmcastd --check-config [--config FILE]
                                       check the configuration: exit 0, or 78 with FILE:LINE: MESSAGE
  farmcastd --doctor [--json] [--config FILE]
                                       check this machine, its network and its farm, and say what to do:
                                       a line `ok|warn|fail WHAT FINDING; REMEDY` each; exit 1 if one fails
  farmcastd join --ccm HOST:PORT --token TOKEN [--config FILE]
                                       join a farm; `farmcast node invite` prints this command
                                       (exit 69 where no controller answers)
  farmcastd --version | --help

FILE is /etc/farmcast/farmcastd.toml unless given.
";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run,
    CheckConfig,
    Doctor { json: bool },
    Join { ccm: String, token: String },
    Version,
    Help,
}

/// Runs the daemon or one of its commands with the arguments of the process; the word `node` in front,
/// by which `farmcast` gets here, is passed over; `farmcast doctor` gets here as it is.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).filter(|word| word != "node").collect();
    match parse(&arguments) {
        Ok((command, config)) => run(command, config),
        Err(text) => say(USAGE, &format!("farmcastd: {text}; see farmcastd --help")),
    }
}

fn run(command: Command, path: PathBuf) -> ExitCode {
    match command {
        Command::Help => return print(HELP),
        Command::Version => {
            let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("FARMCAST_REVISION"));
            return print(&format!("farmcastd {version} ({revision})\n"));
        }
        Command::Doctor { json } => return doctor::run(&path, json),
        Command::Run | Command::CheckConfig | Command::Join { .. } => {}
    }
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => return say(Fatal::CONFIG, &error.to_string()),
    };
    match command {
        Command::CheckConfig => print(&format!("{}: ok\n", path.display())),
        Command::Join { ccm, token } => {
            let Some(ccm) = ccm.to_socket_addrs().ok().and_then(|mut found| found.next()) else {
                return say(USAGE, &format!("--ccm {ccm:?} is no HOST:PORT"));
            };
            let Ok(token) = token.parse::<Token>() else {
                return say(USAGE, "--token is none: copy it whole, it begins with fcj1-");
            };
            match join::join(&config, ccm, &token) {
                Ok(identity) => {
                    let node = identity.certificate.node();
                    print(&format!("{} has joined as node {node}; start farmcastd now\n", config.name))
                }
                Err(error @ JoinError::Unreachable(_)) => say(Fatal::UNAVAILABLE, &error.to_string()),
                Err(error @ JoinError::Failed(_)) => say(Fatal::RUNTIME, &error.to_string()),
            }
        }
        Command::Run => {
            crate::logging::start(config.log_level, clock::wall_ns);
            match Shell::open(config) {
                Ok(shell) => shell.run(),
                Err(fatal) => {
                    log::error!("{}", fatal.text);
                    ExitCode::from(fatal.code)
                }
            }
        }
        Command::Help | Command::Version | Command::Doctor { .. } => ExitCode::SUCCESS,
    }
}

fn parse(arguments: &[OsString]) -> Result<(Command, PathBuf), String> {
    let (mut command, mut config) = (Command::Run, PathBuf::from(DEFAULT_CONFIG));
    let (mut ccm, mut token, mut json) = (None, None, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let mut value = |what: &str| words.next().ok_or_else(|| format!("{what} needs a value"));
        match text.as_ref() {
            "--config" | "-c" => config = value("--config")?.into(),
            "--check-config" | "-t" => command = Command::CheckConfig,
            "--doctor" | "doctor" => command = Command::Doctor { json },
            "--json" => json = true,
            "--version" | "-V" => command = Command::Version,
            "--help" | "-h" => command = Command::Help,
            "join" => command = Command::Join { ccm: String::new(), token: String::new() },
            "--ccm" => ccm = Some(value("--ccm")?.to_string_lossy().into_owned()),
            "--token" => token = Some(value("--token")?.to_string_lossy().into_owned()),
            _ => return Err(format!("{text:?} is no argument")),
        }
    }
    if json {
        let Command::Doctor { .. } = command else { return Err("--json goes with --doctor".to_owned()) };
        command = Command::Doctor { json };
    }
    if let Command::Join { .. } = command {
        let ccm = ccm.ok_or("join needs --ccm HOST:PORT")?;
        let token = token.ok_or("join needs --token TOKEN")?;
        command = Command::Join { ccm, token };
    } else if ccm.is_some() || token.is_some() {
        return Err("--ccm and --token go with join".to_owned());
    }
    Ok((command, config))
}

/// One line to standard output; a reader that has gone is no failure of ours.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// One line to standard error, and the exit code.
fn say(code: u8, text: &str) -> ExitCode {
    crate::logging::say(text);
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<(Command, PathBuf), String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_forms_that_help_shows_are_understood() {
        assert_eq!(parse_words(&[]).unwrap(), (Command::Run, DEFAULT_CONFIG.into()));
        assert_eq!(
            parse_words(&["--check-config", "--config", "x"]).unwrap(),
            (Command::CheckConfig, "x".into())
        );
        for words in [&["--doctor", "--json", "--config", "x"][..], &["--json", "-c", "x", "doctor"]] {
            assert_eq!(parse_words(words).unwrap(), (Command::Doctor { json: true }, "x".into()));
        }
        assert_eq!(parse_words(&["--doctor"]).unwrap().0, Command::Doctor { json: false });
        let join = parse_words(&["join", "--ccm", "h:1", "--token", "t"]).unwrap().0;
        assert_eq!(join, Command::Join { ccm: "h:1".to_owned(), token: "t".to_owned() });
    }

    #[test]
    fn anything_else_is_refused_with_the_word_at_fault() {
        for (words, at_fault) in [
            (&["--confg", "x"][..], "--confg"),
            (&["--config"], "--config"),
            (&["join", "--ccm", "h:1"], "--token"),
            (&["--token", "t"], "join"),
            (&["--json"], "--doctor"),
        ] {
            assert!(parse_words(words).unwrap_err().contains(at_fault), "{words:?}");
        }
    }
}
