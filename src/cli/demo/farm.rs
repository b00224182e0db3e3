//! The demo's farm: one controller and its nodes, each a process of its own.

use super::Options;
use super::place::{Place, cannot};
use super::process::{Process, ending};
use super::settings;
use crate::cli::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Segments are named after places, in this order.
pub const SEGMENTS: [&str; 8] = ["boston", "paris", "tokyo", "london", "sydney", "nairobi", "lima", "oslo"];
/// Until those that were asked to end are killed.
const GRACE: Duration = Duration::from_millis(1_500);
const JOIN_MAX: Duration = Duration::from_secs(8);
const INIT_MAX: Duration = Duration::from_secs(8);

pub struct Farm {
    dir: PathBuf,
    pub staging: PathBuf,
    pub ccm_socket: PathBuf,
    ccm: Option<Process>,
    pub members: Vec<Member>,
    loss_pct: f64,
}

/// A node of the farm, running or not.
pub struct Member {
    pub name: String,
    pub segment: &'static str,
    /// Everything of this node.
    dir: PathBuf,
    config: PathBuf,
    pub text_port: PathBuf,
    control_channel: SocketAddrV4,
    process: Option<Process>,
}

impl Member {
    fn site_root(&self) -> PathBuf {
        self.dir.join(super::SITE)
    }

    /// What a web server on this node would serve.
    pub fn live(&self) -> PathBuf {
        self.site_root().join("live")
    }

    fn start(&mut self) -> Result<(), Failure> {
        let arguments = [OsStr::new("node"), OsStr::new("--config"), self.config.as_os_str()];
        self.process = Some(Process::start(&self.name, &arguments, &self.dir.join("log"))?);
        Ok(())
    }
}

impl Farm {
    /// Draws channels and makes directories; starts nothing.
    pub fn plan(place: &Place, options: &Options) -> Result<Self, Failure> {
        let channels = settings::channels(options.segments())?;
        let mut members = Vec::new();
        for (segment, control_channel) in SEGMENTS.into_iter().zip(channels) {
            for number in 1..=options.nodes() {
                let name = format!("{segment}-{number}");
                let dir = place.dir.join(&name);
                members.push(Member {
                    config: dir.join("farmcastd.toml"),
                    text_port: place.socket(&format!("{name}.sock")),
                    process: None,
                    name,
                    segment,
                    dir,
                    control_channel,
                });
            }
        }
        let dirs = members
            .iter()
            .flat_map(|member| [member.dir.clone(), member.dir.join("state"), member.site_root()]);
        for dir in dirs.chain([place.dir.join("ccm")]) {
            fs::create_dir(&dir).map_err(|error| cannot("make", &dir, &error))?;
        }
        Ok(Self {
            staging: place.dir.join("staging"),
            ccm_socket: place.socket("ccm.sock"),
            dir: place.dir.clone(),
            ccm: None,
            members,
            loss_pct: options.loss,
        })
    }

    /// Makes the farm's keys and starts its controller, on a free port.
    pub async fn start_ccm(&mut self) -> Result<(), Failure> {
        let dir = self.dir.join("ccm");
        let socket = self.ccm_socket.as_os_str();
        let words = ["ccm", "init", "--listen", "127.0.0.1:0", "--dir"].map(OsString::from);
        let rest = [dir.as_os_str(), OsStr::new("--socket"), socket].map(OsString::from);
        self.command("ccm", &[&words[..], &rest[..]].concat(), INIT_MAX).await?;
        let config = dir.join("ccm.toml");
        make_tree(&config)?;
        let arguments = [OsStr::new("ccm"), OsStr::new("run"), OsStr::new("--config"), config.as_os_str()];
        self.ccm = Some(Process::start("ccm", &arguments, &dir.join("log"))?);
        Ok(())
    }

    /// Lets the nodes join with their tokens (in the order of `members`), all at once, and starts them.
    pub async fn start_members(&mut self, ccm: &str, tokens: &[String]) -> Result<(), Failure> {
        for (seed, member) in (1..).zip(&self.members) {
            let text = settings::node_file(&settings::Node {
                name: &member.name,
                segment: member.segment,
                ccm,
                state: &member.dir.join("state"),
                site_root: &member.site_root(),
                socket: &member.text_port,
                control_channel: member.control_channel,
                loss_pct: self.loss_pct,
                seed,
            });
            fs::write(&member.config, text).map_err(|error| cannot("write", &member.config, &error))?;
        }
        let mut joins = Vec::new();
        for (member, token) in self.members.iter().zip(tokens) {
            let words = ["node", "join", "--ccm", ccm, "--token", token, "--config"].map(OsStr::new);
            let arguments = [&words[..], &[member.config.as_os_str()]].concat();
            joins.push(Process::start(&member.name, &arguments, &member.dir.join("log"))?);
        }
        for join in &mut joins {
            succeeded(join, "join the farm", JOIN_MAX).await?;
        }
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Runs one command to its end.
    async fn command(&self, name: &str, arguments: &[OsString], limit: Duration) -> Result<(), Failure> {
        let mut process = Process::start(name, arguments, &self.dir.join(name).join("log"))?;
        succeeded(&mut process, "set up", limit).await
    }

    /// SIGKILL, as a machine that loses power.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    pub fn restart(&mut self, index: usize) -> Result<(), Failure> {
        self.members[index].start()
    }

    /// An error where a process that should run has ended.
    pub fn check(&mut self) -> Result<(), Failure> {
        let members = self.members.iter_mut().filter_map(|member| member.process.as_mut());
        for process in self.ccm.iter_mut().chain(members) {
            if let Some(status) = process.ended() {
                return Err(Failure::Ran(format!("{} ended unasked: {}", process.name, ending(status))));
            }
        }
        Ok(())
    }

    /// What helps to understand a failure: the last words of the controller and of whoever has ended, and
    /// complaints of the others.
    pub fn last_words(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        let members = self.members.iter_mut().filter_map(|member| member.process.as_mut());
        for (index, process) in self.ccm.iter_mut().chain(members).enumerate() {
            let tail = process.tail(200);
            let chosen: Vec<_> = if index == 0 || process.ended().is_some() {
                tail.iter().rev().take(6).rev().collect()
            } else {
                let complains = |line: &&String| {
                    let line = line.to_ascii_lowercase();
                    ["warn", "error", "<3>", "<4>", "panic"].iter().any(|word| line.contains(word))
                };
                tail.iter().rev().filter(complains).take(2).collect::<Vec<_>>().into_iter().rev().collect()
            };
            words.extend(chosen.iter().map(|line| format!("{}: {line}", process.name)));
        }
        words
    }

    /// Asks every process to end, and kills those that have not after a moment. Nodes end first, so that
    /// none complains about a missing controller.
    pub async fn stop(&mut self) {
        let members: Vec<_> = self.members.iter_mut().filter_map(|member| member.process.take()).collect();
        for group in [members, self.ccm.take().into_iter().collect()] {
            group.iter().for_each(Process::ask_to_end);
            let ends = async {
                for mut process in group {
                    process.wait(GRACE).await;
                }
            };
            // Whoever still runs is killed as its `Process` is dropped.
            let _ = tokio::time::timeout(GRACE, ends).await;
        }
    }
}

/// Waits for the good end of a command.
async fn succeeded(process: &mut Process, what: &str, limit: Duration) -> Result<(), Failure> {
    let name = process.name.clone();
    let why = match process.wait(limit).await {
        Some(status) if status.success() => return Ok(()),
        Some(status) => ending(status),
        None => format!("no end within {} s", limit.as_secs()),
    };
    let last = process.tail(1).pop().map_or_else(String::new, |line| format!(": {line}"));
    Err(Failure::Ran(format!("{name} could not {what} ({why}){last}")))
}

/// Two segments are few enough for the controller to serve both itself. Here it serves one, so that the demo
/// shows how leaders hand an assignment on.
fn make_tree(config: &Path) -> Result<(), Failure> {
    let append = || OpenOptions::new().append(true).open(config)?.write_all(b"first_level = 1\n");
    append().map_err(|error| cannot("write", config, &error))
}
