//! How fast an object is served: the object server of a node, and nginx with the same file for the same client, in
//! one run. Each server has one processor to itself, the client another.

use crate::Scenario;
use crate::clock::{now, wait_for};
use crate::process::{Running, is_installed, run};
use crate::units;
use farmcast::io::clock;
use farmcast::io::http::Server;
use farmcast::io::reactor::Reactor;
use mio::Token;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

const OURS: u16 = 7_501;
const NGINX: u16 = 7_502;
/// Ticks of a second in `/proc/PID/stat`, as on every Linux that we know.
const TICKS: f64 = 100.0;

#[derive(clap::Args)]
pub struct Pull {
    /// Bytes of the object
    #[arg(long, default_value = "512M", value_parser = units::bytes)]
    size: u64,
    /// Runs of each server, one after the other
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
}

/// A node's object server with one file, started by the lab itself.
#[derive(clap::Args)]
pub struct ServeObject {
    port: u16,
    file: PathBuf,
}

impl Scenario for ServeObject {
    const NAME: &str = "serve-object";
    const ABOUT: &str = "Serves one file as a node serves objects";
    const IN_LAB: bool = false;

    fn run(&self, _: &Path) -> Result<(), String> {
        self.serve().map_err(|error| error.to_string())
    }
}

impl ServeObject {
    fn serve(&self) -> std::io::Result<()> {
        let mut reactor = Reactor::new()?;
        let listener = mio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))?;
        let mut server = Server::new(listener, reactor.registry(), Token(0), 16)?;
        let len = fs::metadata(&self.file)?.len();
        loop {
            let events = reactor.wait(clock::monotonic(), server.deadline())?;
            for event in events {
                let now = clock::monotonic();
                if let Some(wanted) = server.handle_event(reactor.registry(), event.token, now)? {
                    let file = File::open(&self.file)?;
                    server.respond_file(reactor.registry(), wanted.key, file, len, now)?;
                }
            }
            server.expire(clock::monotonic());
        }
    }
}

/// One pull.
struct Measured {
    seconds: f64,
    /// Of the server.
    cpu_seconds: f64,
}

impl Scenario for Pull {
    const NAME: &str = "pull";
    const ABOUT: &str = "An object over HTTP, from a node's object server and from nginx";

    fn run(&self, dir: &Path) -> Result<(), String> {
        for tool in ["nginx", "curl", "taskset"] {
            if !is_installed(tool) {
                println!("pull       SKIPPED: no {tool} here");
                return Ok(());
            }
        }
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let (www, log) = (dir.join("www"), dir.join("servers.log"));
        fs::create_dir(&www)
            .and_then(|()| self.fill(&www.join("object")))
            .map_err(|error| error.to_string())?;
        let file = www.join("object");
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut ours = pinned(0, &own.to_string_lossy());
        ours.arg(ServeObject::NAME).arg(OURS.to_string()).arg(&file);
        let ours = Running::start(&mut ours, &log)?;
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_conf(dir)).map_err(|error| error.to_string())?;
        let mut nginx = pinned(0, "nginx");
        let nginx = Running::start(nginx.arg("-p").arg(dir).arg("-c").arg(&config), &log)?;
        for port in [OURS, NGINX] {
            wait_for("a server", 10, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
                .map_err(|error| format!("{error}: {}", fs::read_to_string(&log).unwrap_or_default()))?;
        }
        // The first of each is not counted.
        let servers = [("farmcast", &ours, OURS), ("nginx", &nginx, NGINX)];
        let mut rows: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=self.runs {
            for (row, (tool, server, port)) in rows.iter_mut().zip(servers) {
                let measured = self.pull(server, port)?;
                if round > 0 {
                    self.print(tool, &measured);
                    row.push(measured);
                }
            }
        }
        let speed = |row: &[Measured], of: fn(&Measured) -> f64| {
            let mut all: Vec<f64> = row.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            self.size as f64 / 1e6 / all[all.len() / 2]
        };
        let [ours, nginx] = rows.each_ref().map(|row| speed(row, |one| one.seconds));
        let [ours_cpu, nginx_cpu] = rows.each_ref().map(|row| speed(row, |one| one.cpu_seconds));
        let (ratio, by_cpu) = (ours / nginx, ours_cpu / nginx_cpu);
        if self.json {
            println!("{}", json!({ "scenario": "pull", "ratio": ratio, "ratio_by_cpu": by_cpu }));
        } else {
            println!(
                "ratio to nginx, by medians: {ratio:.2} of its MB/s, {by_cpu:.2} of its MB for a processor second"
            );
        }
        Ok(())
    }
}

impl Pull {
    fn fill(&self, path: &Path) -> std::io::Result<()> {
        let (mut file, block) = (File::create(path)?, vec![0x5a; 1 << 20]);
        let mut left = self.size;
        while left > 0 {
            let count = left.min(block.len() as u64);
            file.write_all(&block[..count as usize])?;
            left -= count;
        }
        Ok(())
    }

    fn pull(&self, server: &Running, port: u16) -> Result<Measured, String> {
        let url = format!("http://127.0.0.1:{port}/object");
        let (cpu, start) = (cpu_seconds(server.id())?, now());
        let mut curl = pinned(1, "curl");
        let got = run(curl.args(["-s", "-f", "-o", "/dev/null", "-w", "%{size_download}", &url]))?;
        let measured = Measured { seconds: now() - start, cpu_seconds: cpu_seconds(server.id())? - cpu };
        if got.trim() != self.size.to_string() {
            return Err(format!("{got} bytes came, not {}", self.size));
        }
        Ok(measured)
    }

    fn print(&self, tool: &str, measured: &Measured) {
        let (megabytes, Measured { seconds, cpu_seconds }) = (self.size as f64 / 1e6, measured);
        if self.json {
            let row = json!({ "scenario": "pull", "tool": tool, "bytes": self.size, "seconds": seconds,
                "cpu_server_s": cpu_seconds });
            println!("{row}");
        } else {
            println!(
                "{tool:<10} {:>8.0} MB/s {cpu_seconds:>6.2} processor s of the server",
                megabytes / seconds
            );
        }
    }
}

fn pinned(processor: u32, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(processor.to_string()).arg(program);
    command
}

/// Processor time of a process so far.
fn cpu_seconds(id: u32) -> Result<f64, String> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).map_err(|error| error.to_string())?;
    // Behind the name, which may hold anything: state is field 3, user time 14, system time 15.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(14) + ticks(15)) / TICKS)
}

/// One process, as fast as it goes.
fn nginx_conf(dir: &Path) -> String {
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};"))
        .join(" ");
    format!(
        "user root; daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;\n\
         error_log {dir}/nginx.log crit; events {{ worker_connections 64; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; {temporary}\n\
         server {{ listen 127.0.0.1:{NGINX}; root {dir}/www; }} }}\n"
    )
}
