//! A controller and nodes of a segment: starting them, publishing, waiting.

use crate::clock::wait_for;
use crate::node::{self, Node, number};
use crate::process::{self, Running};
use crate::publish::SITE;
use crate::segment::Segment;
use farmcast::ccm::api::types::{Invite, Job, Node as NodeRow};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a farm is set up.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub program: &'a str,
    pub sites: &'a [&'a str],
    /// Whether every node may lead, or the first alone: the one behind the shaped link.
    pub all_lead: bool,
    /// More tables for the nodes' configuration.
    pub node_toml: &'a str,
}

impl<'a> Setup<'a> {
    /// One site; the first node leads.
    pub const fn of(program: &'a str) -> Self {
        Self { program, sites: &[SITE], all_lead: false, node_toml: "" }
    }
}

pub struct Farm<'a> {
    program: String,
    dir: PathBuf,
    socket: PathBuf,
    /// The sender's first, then the members'.
    pub nodes: Vec<Node<'a>>,
    _controller: Running,
}

impl<'a> Farm<'a> {
    /// Starts a farm below `dir`, which is made: returns when one node leads and the controller knows all.
    pub fn start(setup: Setup<'_>, segment: &'a Segment, dir: PathBuf) -> Result<Self, String> {
        let program = setup.program;
        make(&dir)?;
        let socket = dir.join("ccm.s");
        let listen = format!("{}:7400", segment.controller);
        let mut init = Command::new(program);
        init.args(["ccm", "init", "--listen", &listen, "--dir"]).arg(dir.join("ccm"));
        process::run(init.arg("--socket").arg(&socket))?;
        let config = dir.join("ccm/ccm.toml");
        let words = [OsStr::new("ccm"), OsStr::new("run"), OsStr::new("--config"), config.as_os_str()];
        let controller = Running::farmcast(program, None, &words, &dir.join("ccm.log"))?;
        wait_for("the controller's socket", 20, || UnixStream::connect(&socket).ok())?;

        let nodes = Vec::new();
        let mut farm = Self { program: program.to_owned(), dir, socket, nodes, _controller: controller };
        for number in 0..=segment.members.len() {
            let mut node = farm.join(number, setup, segment, &listen)?;
            node.start()?;
            farm.nodes.push(node);
        }
        for site in setup.sites {
            let staging = farm.staging(site);
            make(&staging)?;
            farm.cli(&[
                "site",
                "add",
                site,
                "--staging",
                staging.to_str().ok_or("a path that is not UTF-8")?,
            ])?;
        }
        farm.wait_until_whole()?;
        Ok(farm)
    }

    fn join(
        &self,
        number: usize,
        setup: Setup<'_>,
        segment: &'a Segment,
        ccm: &str,
    ) -> Result<Node<'a>, String> {
        let machine = if number == 0 { &segment.sender } else { &segment.members[number - 1] };
        let name = format!("node{number}");
        let dir = self.dir.join(&name);
        make(&dir)?;
        let mut text = format!(
            "name = \"{name}\"\nsegment = \"lab\"\nccm = \"{ccm}\"\nstate_dir = {:?}\n\
             [network]\ninterface = \"eth0\"\n[control]\nsocket = {:?}\n\
             [election]\ncan_lead = {}\nfactor = {}\n",
            dir.join("state"),
            dir.join("s"),
            number == 0 || setup.all_lead,
            if number == 0 { 1_000 } else { 100 },
        );
        text += setup.node_toml;
        for site in setup.sites {
            text += &format!("[[site]]\nname = \"{site}\"\nroot = {:?}\n", dir.join(site));
        }
        let config = dir.join("farmcastd.toml");
        fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        let invite = self.cli(&["--json", "node", "invite"])?;
        let invite: Invite =
            serde_json::from_str(invite.trim()).map_err(|error| format!("the invitation: {error}"))?;
        node::join(setup.program, machine, ccm, &invite.token, &config)?;
        Ok(Node::new(name, machine, dir, setup.program))
    }

    /// Where an operator puts what the site is to hold.
    pub fn staging(&self, site: &str) -> PathBuf {
        self.dir.join("staging").join(site)
    }

    /// Puts a file into staging, under its own name.
    pub fn stage(&self, site: &str, file: &Path) -> Result<(), String> {
        let to = self.staging(site).join(file.file_name().ok_or("a file without a name")?);
        fs::hard_link(file, &to).map_err(|error| format!("{}: {error}", to.display()))
    }

    /// Where the controller keeps its objects.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("ccm/objects")
    }

    /// The node that leads a session now.
    pub fn sending(&self) -> Option<usize> {
        let sends = |node: &Node<'_>| {
            let lines = node.ask("show status").ok()?;
            number(lines.first()?, "sending")
        };
        self.nodes.iter().position(|node| sends(node).is_some_and(|sessions| sessions > 0))
    }

    /// A command of the operator; what it printed.
    pub fn cli(&self, words: &[&str]) -> Result<String, String> {
        process::run(&mut self.command(words))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(&self.socket).args(words);
        command
    }

    /// Publishes a site and waits for the end of the job, whatever it is.
    pub fn publish(&self, site: &str) -> Result<Job, String> {
        self.read_job(&["--json", "publish", site])
    }

    /// Starts a publish and returns at once.
    pub fn publish_later(&self, site: &str) -> Result<Job, String> {
        self.read_job(&["--json", "publish", site, "--no-wait"])
    }

    pub fn job(&self, id: u64) -> Result<Job, String> {
        self.read_job(&["--json", "job", "show", &id.to_string()])
    }

    /// A job that failed ends the command with an error code, and is printed all the same.
    fn read_job(&self, words: &[&str]) -> Result<Job, String> {
        let said = self.command(words).output().map_err(|error| format!("cannot run farmcast: {error}"))?;
        let text = String::from_utf8_lossy(&said.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|error| {
            format!("{words:?} told no job ({error}): {text}{}", String::from_utf8_lossy(&said.stderr))
        })
    }

    /// Waits until a job is over.
    pub fn wait_for_end(&self, job: u64, seconds: u64) -> Result<Job, String> {
        wait_for("the end of the job", seconds, || self.job(job).ok().filter(|job| job.phase.is_over()))
    }

    /// Waits until the controller knows all nodes, with their sites, and one of them as leader.
    pub fn wait_until_whole(&self) -> Result<(), String> {
        wait_for("a leader that knows all members", 60, || {
            let rows: Vec<NodeRow> =
                serde_json::from_str(self.cli(&["--json", "node", "list"]).ok()?.trim()).ok()?;
            let here = rows.iter().filter(|row| row.state != "offline" && !row.sites.is_empty()).count();
            let leads = rows.iter().any(|row| row.state == "leader");
            (here == self.nodes.len() && leads).then_some(())
        })
    }

    /// Copies logs and counters of all processes to `kept`.
    pub fn keep_logs(&self, kept: &Path) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("{}: {error}", kept.display());
        fs::create_dir_all(kept).map_err(cannot)?;
        for node in &self.nodes {
            fs::write(kept.join(format!("{}.log", node.name)), node.log()).map_err(cannot)?;
            let counters = node.counters()?.text();
            fs::write(kept.join(format!("{}.counters", node.name)), counters).map_err(cannot)?;
        }
        fs::copy(self.dir.join("ccm.log"), kept.join("ccm.log")).map_err(cannot).map(|_| ())
    }

    /// Ends all nodes and the controller, and removes everything.
    pub fn end(mut self) -> Result<(), String> {
        self.nodes.iter_mut().for_each(Node::stop);
        let dir = self.dir.clone();
        drop(self);
        fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))
    }
}

fn make(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}
