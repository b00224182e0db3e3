//! What goes wrong and when, drawn before the world starts.

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
    /// Memory is lost; it comes back after the span, or never.
    Crash(Who, Option<Duration>),
    /// As by SIGTERM; it comes back after the span.
    Stop(Who, Duration),
    Pause(Who, Duration),
    Start(usize),
    Resume(usize),
    Cut(usize, usize),
    Mend(usize, usize),
    /// Cuts, or mends, all links between nodes whose bit is set and the others.
    Partition(u64, bool),
    Publish,
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
    for n in 0..options.crashes {
        let back = (n >= options.stay_down as u64).then(|| span(rng));
        faults.push((when(rng), Fault::Crash(who(rng), back)));
    }
    for _ in 0..options.stops {
        faults.push((when(rng), Fault::Stop(who(rng), span(rng))));
    }
    for _ in 0..options.pauses {
        faults.push((when(rng), Fault::Pause(who(rng), span(rng))));
    }
    for _ in 0..options.partitions {
        let (at, lasts, side) = (when(rng), span(rng), rng.next_u64());
        faults.push((at, Fault::Partition(side, true)));
        faults.push((at + lasts, Fault::Partition(side, false)));
    }
    for n in 0..options.one_way_cuts + options.uplink_cuts {
        let from = rng.below(nodes) as usize;
        let to = if n < options.one_way_cuts { rng.below(nodes) as usize } else { CCM };
        let (at, lasts) = (when(rng), span(rng));
        faults.push((at, Fault::Cut(from, to)));
        faults.push((at + lasts, Fault::Mend(from, to)));
    }
    for _ in 0..options.runs {
        faults.push((when(rng), Fault::Publish));
    }
    faults
}

impl World {
    pub fn strike(&mut self, fault: Fault) {
        let now = self.context.now;
        self.context.trace.say(now, || format!("{fault:?}"));
        match fault {
            Fault::Crash(who, back) => {
                let Some(node) = self.find(who).filter(|node| back.is_some() || self.may_stay_down(*node))
                else {
                    return;
                };
                self.nodes[node].crash();
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
            Fault::Partition(side, cut) => self.partition(side, cut),
            Fault::Publish => {
                self.publish();
            }
        }
    }

    fn partition(&mut self, side: u64, cut: bool) {
        let nodes = self.nodes.len();
        let network = &mut self.context.network;
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            if side >> from & 1 != side >> to & 1 {
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

    /// The end of the first phase: all links are fine, all nodes run, but those that stay down.
    pub fn heal(&mut self) {
        self.context.trace.say(self.context.now, || "everything heals".to_owned());
        self.context.network.heal();
        self.context.post_loss = 0.0;
        for node in 0..self.nodes.len() {
            self.nodes[node].resume(&mut self.context);
            self.strike(Fault::Start(node));
        }
    }
}
