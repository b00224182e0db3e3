//! Reports of members by raw socket and by UDP, beside a data channel that is full: how many come at once, and how
//! long until each member's first is there. Seen on the leader's cable.

use crate::Scenario;
use crate::apart::delay::{OUTGOING, open};
use crate::apart::farm::{FLOODS, Farm};
use crate::apart::harness::{LATER, noise};
use crate::units;
use farmcast::ccm::api::types::{Job, Phase};
use farmcast::wire::envelope::ENVELOPE_MAGIC;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, recvfrom};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BULK: &str = "bulk";
const SLOT: Duration = Duration::from_millis(100);
/// Lengths of headers: Ethernet, IP without options, UDP, and that of reports by raw socket.
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const RAW: usize = farmcast::io::raw::HEADER_LEN;
/// What a status report begins with: `magic (2) | version (1) | kind (1)` of a message (PROTOCOL.md).
const STATUS: u8 = 10;

#[derive(clap::Args)]
pub struct Reports {
    /// Nodes of the segment
    #[arg(long, default_value_t = 12)]
    nodes: usize,
    /// Of the leader's link
    #[arg(long, default_value_t = 40)]
    mbit: u32,
    /// Bytes of the other site, whose session fills the data channel meanwhile
    #[arg(long, default_value = "64M", value_parser = units::bytes)]
    bulk: u64,
    /// One JSON object per transport
    #[arg(long)]
    json: bool,
}

/// What was seen of one publish.
struct Seen {
    reports: usize,
    /// Most within 100 ms.
    peak: usize,
    /// From the first member's first report to the last member's.
    spread: Duration,
    /// From the order to publish to the last member's first report.
    last: Duration,
    live: Duration,
    /// The other session still ran at the end.
    beside: bool,
}

impl Scenario for Reports {
    const NAME: &str = "reports";
    const ABOUT: &str = "Reports by raw socket and by UDP beside a full data channel";

    fn run(&self, _: &Path) -> Result<(), String> {
        for transport in ["raw", "udp"] {
            let seen = self.measure(transport)?;
            self.print(transport, &seen);
        }
        Ok(())
    }
}

impl Reports {
    fn measure(&self, transport: &str) -> Result<Seen, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut farm = Farm::build(&[self.nodes], FLOODS, "");
        for member in &farm.members {
            let config = &member.node.config;
            let set = format!("[network]\nreports = {transport:?}");
            let mut toml = fs::read_to_string(config).map_err(text)?.replace("[network]", &set);
            toml += &format!("[[site]]\nname = {BULK:?}\nroot = {:?}\n", member.node.dir.join(BULK));
            fs::write(config, toml).map_err(text)?;
        }
        farm.begin();
        let staging = farm.path("bulk-staging");
        fs::create_dir(&staging).map_err(text)?;
        let staged = staging.to_str().ok_or("a path that is not UTF-8")?;
        farm.cli(&["site", "add", BULK, "--staging", staged]);
        farm.wait_until_whole();
        let leader = farm.agreed_leader(0).ok_or("no leader")?;
        let (machine, port) = (&farm.members[leader].machine, &farm.members[leader].port);
        machine.sh(&format!("tc qdisc add dev eth0 root tbf rate {}mbit burst 64k limit 256k", self.mbit));

        let size = usize::try_from(self.bulk).map_err(|error| error.to_string())?;
        fs::write(staging.join("noise"), noise(2, size)).map_err(text)?;
        let bulk: Job = farm.cli(&["--json", "publish", BULK, "--no-wait"]).json();
        let sent = || farm.members[leader].node.counter("frames_sent");
        let before = sent();
        farm.wait("a session that fills the data channel", LATER, || (sent() > before + 1_000).then_some(()));

        farm.stage("noise", noise(1, 100_000));
        let watch = Watch::start(port);
        let began = Instant::now();
        let job = farm.publish_later();
        let job = farm.wait_for_end(job.id);
        let live = began.elapsed();
        let reports = watch.end();
        let beside = !farm.job(bulk.id).phase.is_over();
        if job.phase != Phase::Done {
            return Err(format!("the publish ended as {}: {}", job.phase, job.text));
        }
        farm.wait_for_end(bulk.id);
        drop(farm);
        crate::apart::world::lab_sh("ip link del backbone && ip link del segment0");
        let mut first = BTreeMap::new();
        for (at, from) in &reports {
            first.entry(*from).or_insert(*at);
        }
        if first.len() + 1 != self.nodes {
            return Err(format!("reports of {} members were seen, of {}", first.len(), self.nodes - 1));
        }
        let (start, last) = (first.values().min().copied(), first.values().max().copied());
        let (start, last) = start.zip(last).ok_or("no report was seen")?;
        Ok(Seen {
            reports: reports.len(),
            peak: peak(&reports),
            spread: last - start,
            last: last - began,
            live,
            beside,
        })
    }

    fn print(&self, transport: &str, seen: &Seen) {
        let Seen { reports, peak, spread, last, live, beside } = seen;
        let [spread, last, live] = [spread, last, live].map(Duration::as_secs_f64);
        if self.json {
            let row = json!({ "scenario": "reports", "transport": transport, "nodes": self.nodes,
                "mbit": self.mbit, "reports": reports, "peak_in_100_ms": peak, "spread_seconds": spread,
                "last_report_seconds": last, "live_seconds": live, "bulk_ran_to_the_end": beside });
            println!("{row}");
        } else {
            let bulk = if *beside { "" } else { "; the other session was over before" };
            println!(
                "{transport:<4} {reports} reports, at most {peak} in 100 ms; the first of each within \
                 {spread:.2} s, all there {last:.2} s after the command; live after {live:.2} s{bulk}"
            );
        }
    }
}

/// Most reports within 100 ms.
fn peak(reports: &[(Instant, Ipv4Addr)]) -> usize {
    let within = |start: Instant| reports.iter().filter(|(at, _)| *at >= start && *at < start + SLOT).count();
    reports.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
}

/// Notes the reports that go down a cable of the lab.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Ipv4Addr)>>,
}

impl Watch {
    fn start(port: &str) -> Self {
        let (link, over) = (open(port), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            while !flag.load(Ordering::Relaxed) {
                let _ = poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50_u8));
                loop {
                    match recvfrom::<LinkAddr>(link.as_raw_fd(), &mut buffer) {
                        Ok((len, Some(from))) if from.pkttype() == OUTGOING => {
                            seen.extend(reporter(&buffer[..len]).map(|from| (Instant::now(), from)));
                        }
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(_) => break,
                    }
                }
            }
            seen
        });
        Self { over, thread }
    }

    fn end(self) -> Vec<(Instant, Ipv4Addr)> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only watches")
    }
}

/// Who sent a status report, if the frame is one.
fn reporter(frame: &[u8]) -> Option<Ipv4Addr> {
    let ip = frame.get(ETHERNET..)?;
    let header = match *ip.get(9)? {
        17 => UDP,
        253 => RAW,
        _ => return None,
    };
    let message = ip.get(IP + header..)?;
    let is_status = message.starts_with(&ENVELOPE_MAGIC) && message.get(3) == Some(&STATUS);
    let from: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
    is_status.then(|| Ipv4Addr::from(from))
}
