//! A TCP flow from the sender to the first member, and a session beside it: what each gets of the bottleneck.

use crate::clock::now;
use crate::farm::{Farm, Setup};
use crate::links::Links;
use crate::publish::SITE;
use crate::result::{Sheet, round};
use crate::segment::{Segment, told};
use crate::{Scenario, content, process, units};
use farmcast::ccm::api::types::Phase;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PORT: u16 = 7_950;
/// Time for the flow to find its rate, and time over which it is measured alone.
const WARM_UP: Duration = Duration::from_secs(2);
const ALONE: Duration = Duration::from_secs(3);
/// Between two notes of how much has arrived.
const NOTE: Duration = Duration::from_millis(10);

#[derive(clap::Args)]
pub struct Share {
    #[command(flatten)]
    pub links: Links,
    /// Bytes of each file: a number with K, M or G (of 1,024) behind it.
    #[arg(long, default_value = "64M", value_parser = units::bytes)]
    pub size: u64,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

impl Scenario for Share {
    const NAME: &str = "share";
    const ABOUT: &str = "A session and a TCP flow over one bottleneck: what each gets";

    fn run(&self, dir: &Path) -> Result<(), String> {
        let Some(rate) = self.links.rate else {
            return Err("there is nothing to share without a bottleneck: give --rate".to_owned());
        };
        let segment = Segment::build(self.links, dir)?;
        let (scenario, impairment) = (Self::NAME, &segment.impairment);
        let sheet = Sheet { scenario, links: &self.links, bytes: self.size, impairment, json: self.json };
        sheet.head();
        let farm = Farm::start(Setup::of(process::FARMCAST), &segment, dir.join("farm"))?;

        let (began, ours_alone) = self.publish(&farm, dir, "alone")?;
        let ours_alone_mbit = mbit(self.size, ours_alone - began);
        let flow = Flow::start(&segment)?;
        thread::sleep(WARM_UP);
        let from = now();
        thread::sleep(ALONE);
        let tcp_alone = flow.mbit(from, now());
        let (began, ended) = self.publish(&farm, dir, "beside")?;
        let tcp = flow.mbit(began, ended);
        let ours = mbit(self.size, ended - began);
        flow.stop();

        let link = rate as f64 / 1e6;
        let more = json!({
            "seconds": round(ended - began, 3), "ours_alone_mbit": round(ours_alone_mbit, 1),
            "tcp_alone_mbit": round(tcp_alone, 1), "ours_mbit": round(ours, 1), "tcp_mbit": round(tcp, 1),
            "ours_share": round(ours / link, 3), "tcp_share": round(tcp / link, 3),
            "tcp_of_fair_share": round(tcp / (tcp_alone / 2.0), 3),
        });
        let sentence = format!(
            "alone: ours {ours_alone_mbit:.0}, TCP {tcp_alone:.0} Mbit/s; together: ours {ours:.0}, TCP {tcp:.0} \
             ({:.0} % of half of what it had)",
            tcp / (tcp_alone / 2.0) * 100.0
        );
        sheet.print("farmcast", more, &sentence);
        farm.end()
    }
}

impl Share {
    /// When the session began, and when the last member had received all.
    fn publish(&self, farm: &Farm<'_>, dir: &Path, name: &str) -> Result<(f64, f64), String> {
        let file = dir.join(name);
        content::write_noise(&file, self.links.seed + name.len() as u64, self.size)?;
        farm.stage(SITE, &file)?;
        let job = farm.publish(SITE)?;
        if job.phase != Phase::Done {
            return Err(format!("the publish ended as {}: {}", job.phase, job.text));
        }
        let (object, began) = farm.nodes[0].newest_object()?;
        let times = farm.nodes[1..].iter().map(|node| node.spooled_at(&object));
        let ended = times.collect::<Result<Vec<_>, _>>()?.into_iter().fold(began, f64::max);
        Ok((began, ended))
    }
}

fn mbit(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds / 1e6
}

/// Bytes that had arrived at moments, in seconds since 1970.
type Notes = Arc<Mutex<Vec<(f64, u64)>>>;

/// A connection that carries as much as it can.
struct Flow {
    notes: Notes,
    end: TcpStream,
    threads: [JoinHandle<()>; 2],
}

impl Flow {
    fn start(segment: &Segment) -> Result<Self, String> {
        let fail = |error: std::io::Error| format!("the TCP flow: {error}");
        let member = &segment.members[0];
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT));
        let listener = member.namespace.within(listen).map_err(told)?.map_err(fail)?;
        let connect = || TcpStream::connect((member.address, PORT));
        let mut out = segment.sender.namespace.within(connect).map_err(told)?.map_err(fail)?;
        let (mut into, _) = listener.accept().map_err(fail)?;
        let end = out.try_clone().map_err(fail)?;
        let notes = Notes::default();
        let noted = Arc::clone(&notes);
        let sender = thread::spawn(move || {
            let piece = vec![0; 1 << 16];
            // It ends when the connection is shut down.
            while out.write_all(&piece).is_ok() {}
        });
        let receiver = thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            let (mut total, mut last) = (0, 0.0);
            while let Ok(len @ 1..) = into.read(&mut piece) {
                total += len as u64;
                let at = now();
                if at - last >= NOTE.as_secs_f64() {
                    last = at;
                    noted.lock().expect("nobody panics with the notes").push((at, total));
                }
            }
        });
        Ok(Self { notes, end, threads: [sender, receiver] })
    }

    /// What arrived between two moments.
    fn mbit(&self, from: f64, until: f64) -> f64 {
        let notes = self.notes.lock().expect("nobody panics with the notes");
        let at =
            |moment: f64| notes.iter().rev().find(|(at, _)| *at <= moment).map_or(0, |(_, total)| *total);
        mbit(at(until) - at(from), until - from)
    }

    fn stop(self) {
        // Where it is down already there is nothing to end.
        let _ = self.end.shutdown(Shutdown::Both);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
