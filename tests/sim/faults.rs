//! What goes wrong and when, drawn before the world starts.

use crate::disk::Health;
use crate::network::CCM;
use crate::options::Options;
use crate::queue::Event;
use crate::world::World;
use farmcast::proto::random::Rng;
use farmcast::time::{Duration, Instant};

/// Whom a fault hits.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    Node(usize),
    /// Whoever leads this segment at that time.
    Leader(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Memory is lost, and with the power what the disk had not synced; it comes back after the span, or
    /// never.
    Crash {
        who: Who,
        power: bool,
        back: Option<Duration>,
    },
    /// As by SIGTERM; it comes back after the span.
    Stop(Who, Duration),
    Pause(Who, Duration),
    Start(usize),
    Resume(usize),
    Cut(usize, usize),
    Mend(usize, usize),
    /// Cuts, or mends, all links from nodes whose bit is set to the others, and those back unless it is to
    /// be one-way.
    Partition {
        side: u64,
        one_way: bool,
        cut: bool,
    },
    /// Everything from and to the node comes so late from now on.
    Lag(usize, Duration),
    /// The wall clock is set, by so many nanoseconds.
    Jump(Who, i64),
    Disk(usize, Health),
    CrashCcm(Duration),
    Publish,
}

impl Fault {
    /// A kill: the machine lives.
    pub const fn kill(who: Who, back: Duration) -> Self {
        Self::Crash { who, power: false, back: Some(back) }
    }
}

/// Fills the queue with the faults of the first phase.
pub fn schedule(options: &Options, rng: &mut Rng) -> Vec<(Instant, Fault)> {
    let trigger = options.profile().trigger;
    let length = trigger * options.rounds;
    let mut faults = Vec::new();
    let nodes = options.nodes as u64;
    let when = |rng: &mut Rng| Instant::ZERO + Duration::from_nanos(rng.below(length.as_nanos()));
    let span = |rng: &mut Rng| Duration::from_nanos(1 + rng.below(trigger.as_nanos() * 6));
    let who = |rng: &mut Rng| match rng.chance(0.5) {
        true => Who::Leader(rng.below(options.segments as u64) as usize),
        false => Who::Node(rng.below(nodes) as usize),
    };
    let count = options.faults;
    for n in 0..count.crashes {
        let back = (n >= count.stay_down as u64).then(|| span(rng));
        faults.push((when(rng), Fault::Crash { who: who(rng), power: rng.chance(0.3), back }));
    }
    for _ in 0..count.stops {
        faults.push((when(rng), Fault::Stop(who(rng), span(rng))));
    }
    for _ in 0..count.pauses {
        faults.push((when(rng), Fault::Pause(who(rng), span(rng))));
    }
    for _ in 0..count.partitions {
        let (at, lasts, side, one_way) = (when(rng), span(rng), rng.next_u64(), rng.chance(0.3));
        faults.push((at, Fault::Partition { side, one_way, cut: true }));
        faults.push((at + lasts, Fault::Partition { side, one_way, cut: false }));
    }
    for n in 0..count.one_way_cuts + count.uplink_cuts {
        let from = rng.below(nodes) as usize;
        let to = if n < count.one_way_cuts { rng.below(nodes) as usize } else { CCM };
        let (at, lasts) = (when(rng), span(rng));
        faults.push((at, Fault::Cut(from, to)));
        faults.push((at + lasts, Fault::Mend(from, to)));
    }
    for _ in 0..count.lags {
        let (at, lasts, node) = (when(rng), span(rng), rng.below(nodes) as usize);
        let lag = Duration::from_nanos(rng.below(trigger.as_nanos() * 2));
        faults.push((at, Fault::Lag(node, lag)));
        faults.push((at + lasts, Fault::Lag(node, Duration::ZERO)));
    }
    for _ in 0..count.jumps {
        faults.push((when(rng), Fault::Jump(who(rng), jump(rng))));
    }
    for _ in 0..count.disks {
        let (at, lasts, node) = (when(rng), span(rng), rng.below(nodes) as usize);
        let health = [Health::Slow, Health::Full, Health::Broken][rng.below(3) as usize];
        faults.push((at, Fault::Disk(node, health)));
        faults.push((at + lasts, Fault::Disk(node, Health::Fine)));
    }
    for _ in 0..count.ccm_crashes {
        faults.push((when(rng), Fault::CrashCcm(span(rng))));
    }
    for _ in 0..count.publishes {
        faults.push((when(rng), Fault::Publish));
    }
    faults
}

/// How far a wall clock is set: seconds, an hour, or years, forwards or backwards.
pub fn jump(rng: &mut Rng) -> i64 {
    let most: u64 = [5, 3_600, 100_000_000][rng.below(3) as usize] * 1_000_000_000;
    rng.below(2 * most) as i64 - most as i64
}

impl World {
    pub fn strike(&mut self, fault: Fault) {
        let now = self.context.now;
        self.context.trace.say(now, || format!("{fault:?}"));
        match fault {
            Fault::Crash { who, power, back } => {
                let Some(node) = self.find(who).filter(|node| back.is_some() || self.may_stay_down(*node))
                else {
                    return;
                };
                self.nodes[node].crash(&mut self.context, power);
                if let Some(span) = back {
                    self.context.queue.push(now + span, Event::Fault(Fault::Start(node)));
                } else {
                    self.down_for_good.push(node);
                }
            }
            Fault::Stop(who, span) => {
                let Some(node) = self.find(who) else { return };
                self.nodes[node].stop(&mut self.context);
                self.context.queue.push(now + span, Event::Fault(Fault::Start(node)));
            }
            Fault::Pause(who, span) => {
                let Some(node) = self.find(who) else { return };
                self.nodes[node].pause();
                self.context.queue.push(now + span, Event::Fault(Fault::Resume(node)));
            }
            Fault::Start(node) => {
                if !self.nodes[node].is_alive() && !self.down_for_good.contains(&node) {
                    self.nodes[node].start(&mut self.context);
                }
            }
            Fault::Resume(node) => self.nodes[node].resume(&mut self.context),
            Fault::Cut(from, to) => self.context.network.cut(from, to),
            Fault::Mend(from, to) => self.context.network.mend(from, to),
            Fault::Partition { side, one_way, cut } => self.partition(side, one_way, cut),
            Fault::Lag(node, lag) => self.context.network.set_lag(node, lag),
            Fault::Jump(who, by_ns) => {
                let Some(node) = self.find(who) else { return };
                self.nodes[node].jump(by_ns);
            }
            Fault::Disk(node, health) => self.nodes[node].disk.health = health,
            Fault::CrashCcm(span) => self.ccm.crash(now, span),
            Fault::Publish => {
                self.publish();
            }
        }
    }

    fn partition(&mut self, side: u64, one_way: bool, cut: bool) {
        let nodes = self.nodes.len();
        let network = &mut self.context.network;
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            let (sends, hears) = (side >> from & 1, side >> to & 1);
            if sends != hears && (sends == 1 || !one_way) {
                if cut { network.cut(from, to) } else { network.mend(from, to) }
            }
        }
    }

    fn find(&self, who: Who) -> Option<usize> {
        let node = match who {
            Who::Node(node) => Some(node),
            Who::Leader(segment) => self.leader(segment),
        };
        node.filter(|node| self.nodes[*node].is_alive())
    }

    /// Every segment keeps a node that may lead.
    fn may_stay_down(&self, node: usize) -> bool {
        let segment = self.nodes[node].segment;
        let stays = |other: &usize| *other != node && !self.down_for_good.contains(other);
        let mut others = (0..self.nodes.len()).filter(stays).map(|other| &self.nodes[other]);
        others.any(|other| other.segment == segment && other.candidate)
    }

    /// The end of the first phase: all links and disks are fine, all nodes run, but those that stay down.
    pub fn heal(&mut self) {
        self.context.trace.say(self.context.now, || "everything heals".to_owned());
        self.context.network.heal();
        self.context.post_loss = 0.0;
        self.ccm.down_until = self.ccm.down_until.min(self.context.now);
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.health = Health::Fine;
            self.nodes[node].resume(&mut self.context);
            self.strike(Fault::Start(node));
        }
    }
}
