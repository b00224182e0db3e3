//! One node of the lab: its process, its text port, and what its files tell.

use crate::process::{self, Running};
use crate::segment::Machine;
use farmcast::wire::console::{Line, Mark};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ticks of /proc/PID/stat in a second (`USER_HZ`).
const TICKS: f64 = 100.0;

pub struct Node<'a> {
    pub name: String,
    pub machine: &'a Machine,
    pub dir: PathBuf,
    program: String,
    process: Option<Running>,
}

impl<'a> Node<'a> {
    /// A node that has joined, with its configuration in `dir`; it is not started.
    pub fn new(name: String, machine: &'a Machine, dir: PathBuf, program: &str) -> Self {
        Self { name, machine, dir, program: program.to_owned(), process: None }
    }

    pub fn start(&mut self) -> Result<(), String> {
        let config = self.dir.join("farmcastd.toml");
        let words = [OsStr::new("node"), OsStr::new("--config"), config.as_os_str()];
        let log = self.dir.join("log");
        self.process = Some(Running::farmcast(&self.program, Some(&self.machine.namespace), &words, &log)?);
        Ok(())
    }

    pub fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.stop();
        }
        self.process = None;
    }

    /// Ends it as a power cut would (SIGKILL); the applier goes with it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn process(&self) -> Result<&Running, String> {
        self.process.as_ref().ok_or_else(|| format!("{} does not run", self.name))
    }

    pub fn site(&self, site: &str) -> PathBuf {
        self.dir.join(site)
    }

    pub fn live(&self, site: &str) -> PathBuf {
        self.site(site).join("live")
    }

    pub fn spool(&self) -> PathBuf {
        self.dir.join("state/spool")
    }

    /// The object written last in the spool, and when that was, in seconds since 1970.
    pub fn newest_object(&self) -> Result<(PathBuf, f64), String> {
        let spool = self.spool();
        let entries = fs::read_dir(&spool).map_err(|error| format!("{}: {error}", spool.display()))?;
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let objects = paths.filter(|path| path.extension().is_some_and(|extension| extension == "asg"));
        let dated = objects.filter_map(|path| Some((written_at(&path).ok()?, path)));
        let newest = dated.max_by(|(one, _), (other, _)| one.total_cmp(other));
        newest.map(|(at, path)| (path, at)).ok_or_else(|| format!("{}: no object", spool.display()))
    }

    /// When this object's file in the spool was written last.
    pub fn spooled_at(&self, object: &Path) -> Result<f64, String> {
        let name = object.file_name().ok_or("an object without a name")?;
        written_at(&self.spool().join(name))
    }

    /// When a file of the site was touched last, live or staged: staging sets mode and times at its end.
    pub fn staged_at(&self, site: &str, name: &OsStr) -> Result<f64, String> {
        let staged = self.site(site).join(".farmcast/temp").join(name);
        let touched = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some(meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9)
        };
        let live = self.live(site).join(name);
        touched(&live).or_else(|| touched(&staged)).ok_or_else(|| format!("{}: no such file", live.display()))
    }

    /// When the file that is touched last in a whole live tree was, in seconds since 1970.
    pub fn newest_file(&self, site: &str) -> Result<f64, String> {
        newest(&self.live(site)).map_err(|error| format!("{}: {error}", self.live(site).display()))
    }

    /// Whether the file of the site is there as it is in staging, live or staged: it gets its time when it is whole.
    pub fn has_staged(&self, site: &str, source: &Path) -> bool {
        let Some(name) = source.file_name() else { return false };
        let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let places = [self.live(site).join(name), self.site(site).join(".farmcast/temp").join(name)];
        time(source).is_some_and(|wanted| places.iter().any(|path| time(path) == Some(wanted)))
    }

    /// Asks the text port and returns the lines of the reply.
    pub fn ask(&self, command: &str) -> Result<Vec<Line>, String> {
        self.port()?.ask(command)
    }

    pub fn port(&self) -> Result<TextPort, String> {
        TextPort::connect(&self.dir.join("s"))
    }

    pub fn counters(&self) -> Result<Counters, String> {
        self.ask("show counters").map(Counters::new)
    }

    /// User and system time of both its processes.
    pub fn cpu_seconds(&self) -> f64 {
        let Some(pid) = self.process.as_ref().map(Running::id) else { return 0.0 };
        self.applier().into_iter().chain([pid]).map(cpu_of).sum()
    }

    /// The process id of the applier.
    pub fn applier(&self) -> Option<u32> {
        let pid = self.process.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().find_map(|pid| pid.parse().ok())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

/// When a file's content changed last, in seconds since 1970.
fn written_at(path: &Path) -> Result<f64, String> {
    let meta = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(meta.mtime() as f64 + meta.mtime_nsec() as f64 / 1e9)
}

fn newest(dir: &Path) -> std::io::Result<f64> {
    let mut last = 0.0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let at = match meta.is_dir() {
            true => newest(&entry.path())?,
            false => meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9,
        };
        last = f64::max(last, at);
    }
    Ok(last)
}

fn cpu_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; user and system time are the 14th and 15th word.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// The lines of `show counters`.
pub struct Counters(Vec<Line>);

impl Counters {
    pub fn new(lines: Vec<Line>) -> Self {
        Self(lines)
    }

    /// 0 where the node has no such counter.
    pub fn get(&self, name: &str) -> u64 {
        let row = self.0.iter().find(|line| line.text("name") == Some(name));
        row.and_then(|line| number(line, "value")).unwrap_or(0)
    }

    /// One `name value` a line.
    pub fn text(&self) -> String {
        let rows = self.0.iter();
        rows.filter_map(|line| Some(format!("{} {}\n", line.text("name")?, line.text("value")?))).collect()
    }
}

/// A number of a line.
pub fn number(line: &Line, key: &str) -> Option<u64> {
    line.text(key)?.parse().ok()
}

/// An open session of a node's text port.
pub struct TextPort {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl TextPort {
    fn connect(path: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(path).map_err(|error| told(&error))?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| told(&error))?;
        let reader = BufReader::new(stream.try_clone().map_err(|error| told(&error))?);
        let mut port = Self { stream, reader };
        port.read_reply()?;
        Ok(port)
    }

    pub fn ask(&mut self, command: &str) -> Result<Vec<Line>, String> {
        writeln!(&self.stream, "{command}").map_err(|error| told(&error))?;
        self.read_reply()
    }

    fn read_reply(&mut self) -> Result<Vec<Line>, String> {
        let mut lines = Vec::new();
        loop {
            let mut text = Vec::new();
            self.reader.read_until(b'\n', &mut text).map_err(|error| told(&error))?;
            let text = text.strip_suffix(b"\n").ok_or("the text port closed the connection")?;
            let line = Line::parse(text).map_err(|error| format!("the text port: {error}"))?;
            let last = line.mark == Mark::Last;
            lines.push(line);
            if last {
                return Ok(lines);
            }
        }
    }
}

fn told(error: &std::io::Error) -> String {
    format!("a node's text port: {error}")
}

/// Joins a node with a token; its configuration is `config`.
pub fn join(program: &str, machine: &Machine, ccm: &str, token: &str, config: &Path) -> Result<(), String> {
    let mut join = machine.command(program);
    join.args(["node", "join", "--ccm", ccm, "--token", token, "--config"]).arg(config);
    process::run(&mut join).map(|_| ())
}
