//! The controller of a large farm after a year: what questions, reports and turns take, and what it holds in memory.
//!
//! `cargo bench --bench ccm -- [--json] [--nodes 10000] [--dir DIR]`: a real `farmcast ccm run` on a database that is
//! made up first, asked over its sockets while the leaders of all segments report as they do, once a second each.
#![allow(clippy::disallowed_methods, reason = "who measures looks at the clock and waits")]

use clap::Parser;
use farmcast::ccm::InitOptions;
use farmcast::ccm::sample::{Sample, Size, turns};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(name = "ccm", about = "Measures the controller of a large farm")]
struct Options {
    #[arg(long, default_value_t = 10_000)]
    nodes: u32,
    #[arg(long, default_value_t = 300)]
    segments: u32,
    #[arg(long, default_value_t = 1_000)]
    jobs: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Where the farm is made; a new directory below it, which is removed.
    #[arg(long, default_value = "/tmp")]
    dir: PathBuf,
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The controller, which ends with its owner.
struct Ccm(Child);

impl Drop for Ccm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("ccm: {text}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let dir = tempfile::Builder::new().prefix("ccm-bench").tempdir_in(&options.dir).map_err(|e| words(&e))?;
    let (socket, port) = (dir.path().join("s"), free_port()?);
    let listen: SocketAddr = ([127, 0, 0, 1], port).into();
    let init = InitOptions { listen: Some(listen), socket: Some(socket.clone()), ..InitOptions::default() };
    let size =
        Size { segments: options.segments, sites: 10, jobs: options.jobs, schedules: 1_000, events: 200_000 };
    let farm = dir.path().join("ccm");
    let sample = Sample::make(&farm, options.nodes, size, &init).map_err(|e| words(&e))?;
    let database = std::fs::metadata(farm.join("ccm.db")).map_err(|e| words(&e))?.len();

    let mut ccm = start(&farm, &socket)?;
    let mut seq = 0;
    let mut leaders = Leaders::new(listen, &sample, options.segments)?;
    // Everybody is there before anything is measured.
    leaders.round(&mut seq)?;
    for (what, path) in [("status", "/v1/status"), ("job list", "/v1/jobs")] {
        let mut took = Vec::new();
        let end = Instant::now() + Duration::from_secs(options.seconds);
        let mut next = Instant::now();
        let mut answer = 0;
        while Instant::now() < end {
            // As in a farm: each segment reports once a second.
            if Instant::now() >= next {
                leaders.one(&mut seq)?;
                next += Duration::from_secs(1) / options.segments;
            }
            let began = Instant::now();
            answer = get(&socket, path)?;
            took.push(began.elapsed().as_nanos() as u64);
        }
        show(options, what, &mut took, &[("answer_bytes", answer as f64)]);
    }
    let (mut took, mut nodes) = (Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let (one, members) = leaders.one(&mut seq)?;
        took.push(one);
        nodes += members;
    }
    let seconds = began.elapsed().as_secs_f64();
    let per_second =
        [("reports_per_s", took.len() as f64 / seconds), ("nodes_reported_per_s", nodes as f64 / seconds)];
    show(options, "report", &mut took, &per_second);
    let rss = resident(ccm.0.id())?;
    ccm.0.kill().map_err(|e| words(&e))?;
    drop(ccm);

    let epoch = clock();
    let mut took = turns(&farm, 200, clock).map_err(|e| words(&e))?;
    assert!(clock() > epoch, "the clock runs");
    show(options, "scheduling turn", &mut took, &[]);
    let figures = [("rss_bytes", rss as f64), ("database_bytes", database as f64)];
    show(options, "memory", &mut Vec::new(), &figures);
    Ok(())
}

/// Nanoseconds since the first call.
fn clock() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn start(farm: &Path, socket: &Path) -> Result<Ccm, String> {
    let config = farm.join("ccm.toml");
    let program = env!("CARGO_BIN_EXE_farmcast");
    let command = Command::new(program)
        .args(["ccm", "run", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut ccm = Ccm(command.map_err(|error| error.to_string())?);
    let began = Instant::now();
    while UnixStream::connect(socket).is_err() {
        let ended = ccm.0.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || began.elapsed() > Duration::from_secs(60) {
            return Err(format!("the controller does not start: {ended:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ccm)
}

/// One connection over which the reports of all segments go, one segment after the other.
struct Leaders<'a> {
    stream: BufReader<TcpStream>,
    sample: &'a Sample,
    segments: u32,
    next: u32,
}

impl<'a> Leaders<'a> {
    fn new(listen: SocketAddr, sample: &'a Sample, segments: u32) -> Result<Self, String> {
        let stream = TcpStream::connect(listen).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream: BufReader::new(stream), sample, segments, next: 0 })
    }

    fn round(&mut self, seq: &mut u64) -> Result<(), String> {
        (0..self.segments).try_for_each(|_| self.one(seq).map(drop))
    }

    /// The report of the next segment: nanoseconds until it was answered, and how many nodes it is about.
    fn one(&mut self, seq: &mut u64) -> Result<(u64, usize), String> {
        let fail = |error: std::io::Error| format!("report: {error}");
        *seq += 1;
        let (body, members) = self.sample.report(self.next, *seq);
        self.next = (self.next + 1) % self.segments;
        let head = format!("POST /v1/uplink HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        let began = Instant::now();
        self.stream.get_mut().write_all(&[head.as_bytes(), &body].concat()).map_err(fail)?;
        let (status, length) = head_of(&mut self.stream)?;
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).map_err(fail)?;
        let took = began.elapsed().as_nanos() as u64;
        if status / 100 != 2 {
            return Err(format!("a report was answered with {status}: {}", String::from_utf8_lossy(&rest)));
        }
        Ok((took, members))
    }
}

/// Asks for a resource; bytes of the answer.
fn get(socket: &Path, path: &str) -> Result<usize, String> {
    let fail = |error: std::io::Error| format!("{path}: {error}");
    let mut stream = BufReader::new(UnixStream::connect(socket).map_err(fail)?);
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).map_err(fail)?;
    let (status, length) = head_of(&mut stream)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(fail)?;
    if status == 200 { Ok(length) } else { Err(format!("{path}: answered with {status}")) }
}

/// Status and length of an answer.
fn head_of(stream: &mut impl BufRead) -> Result<(u16, usize), String> {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the connection ended".to_owned());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            return Ok((status, length));
        }
        if let Some(code) = line.strip_prefix("http/1.1 ") {
            status = code.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().unwrap_or(0);
        }
    }
}

fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|addr| addr.port()).map_err(|error| error.to_string())
}

/// Bytes of memory that a process holds.
fn resident(pid: u32) -> Result<u64, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
    kib.map(|kib| kib << 10).map_err(|error| format!("VmHWM: {error}"))
}

fn show(options: &Options, what: &str, took: &mut [u64], figures: &[(&str, f64)]) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    let mut all = Vec::new();
    if !took.is_empty() {
        all.push(("count", took.len() as f64));
        all.extend([("p50_ms", at(0.5)), ("p99_ms", at(0.99)), ("max_ms", at(1.0))]);
    }
    all.extend_from_slice(figures);
    if options.json {
        let mut object = serde_json::json!({ "what": what, "nodes": options.nodes, "jobs": options.jobs });
        for (name, value) in all {
            object[name] = value.into();
        }
        println!("{object}");
    } else {
        let words: Vec<String> = all.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        println!("{what}: {}", words.join(", "));
    }
}
