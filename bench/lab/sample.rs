//! What nodes say of a session while it runs: the leader every 50 ms, each member every 100 ms.
//!
//! Asking costs the nodes a little time, so figures that are compared are measured without it.

use crate::clock::now;
use crate::node::{Counters, Node, TextPort, number};
use crate::result::round;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const LEADER_PERIOD: Duration = Duration::from_millis(50);
/// Of the leader's periods: how many make one of the members'.
const MEMBERS_EVERY: u32 = 2;

/// What the leader said at a moment.
struct Sent {
    /// Seconds since 1970, later since the session began.
    at: f64,
    frames: u64,
    repair_frames: u64,
    /// The rate that it aims at, in bytes per second.
    rate: u64,
    complete: u64,
}

/// What a member had at a moment.
struct Held {
    at: f64,
    /// Frames that its sockets gave it since the sampler began.
    frames: u64,
    /// Blocks verified, of all.
    verified: u64,
    blocks: u64,
}

pub struct Series {
    sent: Vec<Sent>,
    members: Vec<Vec<Held>>,
}

pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Series, String>>,
}

impl Sampler {
    /// Begins to ask: the first node leads.
    pub fn start(nodes: &[Node<'_>]) -> Result<Self, String> {
        let ports: Vec<TextPort> = nodes.iter().map(Node::port).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Ok(Self { stop, thread: thread::spawn(move || sample(ports, &told)) })
    }

    pub fn stop(self) -> Result<Series, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the sampler panicked".to_owned())?
    }
}

fn sample(mut ports: Vec<TextPort>, stop: &AtomicBool) -> Result<Series, String> {
    let mut series = Series { sent: Vec::new(), members: ports[1..].iter().map(|_| Vec::new()).collect() };
    let mut first_frames = vec![None; series.members.len()];
    let start = Instant::now();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let (leader, members) = ports.split_first_mut().expect("a farm has a leader");
        for line in leader.ask("show sessions")?.iter().filter(|line| line.text("role") == Some("sender")) {
            let of = |key| number(line, key).unwrap_or(0);
            series.sent.push(Sent {
                at: now(),
                frames: of("frames_sent"),
                repair_frames: of("repair_frames"),
                rate: of("rate_bytes_s"),
                complete: of("complete"),
            });
        }
        if turn % MEMBERS_EVERY == 0 {
            for ((member, held), first) in members.iter_mut().zip(&mut series.members).zip(&mut first_frames)
            {
                let counters = Counters::new(member.ask("show counters")?);
                let frames = counters.get("frames_received");
                let before = *first.get_or_insert(frames);
                // An object that is complete has no session any more; the store still tells of it.
                let lines = member.ask("show store")?;
                if let Some(line) = lines.iter().find(|line| line.text("blocks_verified").is_some()) {
                    let of = |key| number(line, key).unwrap_or(0);
                    let (verified, blocks) = (of("blocks_verified"), of("blocks"));
                    held.push(Held { at: now(), frames: frames - before, verified, blocks });
                }
            }
        }
        turn += 1;
        thread::sleep((start + LEADER_PERIOD * turn).saturating_duration_since(Instant::now()));
    }
    Ok(series)
}

impl Series {
    /// The same with times counted from `began`, in seconds since 1970.
    pub fn since(mut self, began: f64) -> Self {
        self.sent.iter_mut().for_each(|sent| sent.at -= began);
        self.members.iter_mut().flatten().for_each(|held| held.at -= began);
        self
    }

    /// Arrays of equal length per figure, the leader's and each member's.
    pub fn to_json(&self) -> Value {
        let of = |figure: fn(&Sent) -> Value| -> Vec<Value> { self.sent.iter().map(figure).collect() };
        let members = self.members.iter().map(|held| {
            let of = |figure: fn(&Held) -> Value| -> Vec<Value> { held.iter().map(figure).collect() };
            json!({
                "at_s": of(|held| json!(round(held.at, 3))),
                "frames": of(|held| json!(held.frames)),
                "verified": of(|held| json!(round(held.verified as f64 / held.blocks.max(1) as f64, 4))),
            })
        });
        json!({
            "at_s": of(|sent| json!(round(sent.at, 3))),
            "frames": of(|sent| json!(sent.frames)),
            "repair_frames": of(|sent| json!(sent.repair_frames)),
            "rate_bytes_s": of(|sent| json!(sent.rate)),
            "complete": of(|sent| json!(sent.complete)),
            "members": members.collect::<Vec<_>>(),
        })
    }
}
