//! What a seed draws before anything runs: which faults are on and how strong (swarm testing). A world in
//! which everything fails at once hides what a single fault would show.

use crate::network::{Bursts, Weather};
use farmcast::proto::engine::Transport;
use farmcast::proto::profile::Profile;
use farmcast::proto::random::Rng;
use farmcast::time::Duration;
use farmcast::wire::quorum::Quorum;
use farmcast::wire::session::{Repair, RepairWhen};

/// Priorities of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priorities {
    Equal,
    Spread,
    /// Measured anew every two seconds.
    Drifting,
}

/// How many faults of each kind the first phase has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Killed, or without power.
    pub crashes: u64,
    /// Crashed nodes that never come back.
    pub stay_down: usize,
    pub pauses: u64,
    /// A daemon that is stopped says so and comes back.
    pub stops: u64,
    /// Between two halves, in both directions or in one.
    pub partitions: u64,
    /// Between two nodes, in one direction.
    pub one_way_cuts: u64,
    /// Between a node and the CCM.
    pub uplink_cuts: u64,
    /// Nodes that everything reaches late for a while.
    pub lags: u64,
    /// Wall clocks set forwards or backwards.
    pub jumps: u64,
    /// Disks that are slow, full or broken for a while.
    pub disks: u64,
    /// The CCM is killed and started again.
    pub ccm_crashes: u64,
    pub publishes: u64,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: usize,
    pub segments: usize,
    pub classic: bool,
    pub priorities: Priorities,
    /// Nodes that may not lead.
    pub followers: usize,
    pub weather: Weather,
    pub faults: Faults,
    /// Share of posts to the CCM that fail.
    pub post_loss: f64,
    /// Most that a node's clock is off at first, in nanoseconds.
    pub skew_ns: u64,
    pub command_len: u64,
    pub data_len: u64,
    /// How long the applier stages.
    pub staging: Duration,
    /// Length of the first phase in trigger times of the profile.
    pub rounds: u64,
    /// Nodes start within this span.
    pub start_within: Duration,
    /// Each node goes live by itself (CO-11).
    pub alone: bool,
    /// How leaders send.
    pub transport: Transport,
}

impl Options {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let nodes = 5 + rng.below(4) as usize;
        let mut some = |most: u64| if rng.chance(0.4) { 1 + rng.below(most) } else { 0 };
        let crashes = some(6);
        let faults = Faults {
            crashes,
            stay_down: some(2).min(crashes) as usize,
            pauses: some(5),
            stops: some(2),
            partitions: some(3),
            one_way_cuts: some(4),
            uplink_cuts: some(3),
            lags: some(3),
            jumps: some(4),
            disks: some(4),
            ccm_crashes: some(2),
            publishes: some(4),
        };
        let followers = some(2) as usize;
        let loss = if rng.chance(0.6) { 0.3 * rng.below(1_000) as f64 / 1_000.0 } else { 0.0 };
        let bursts = rng.chance(0.3).then(|| Bursts {
            between: Duration::from_millis(200 + rng.below(2_000)),
            lasting: Duration::from_millis(1 + rng.below(200)),
            within: 0.5 + 0.5 * rng.below(100) as f64 / 100.0,
        });
        let weather = Weather {
            loss,
            bursts,
            duplicate: if rng.chance(0.3) { 0.1 } else { 0.0 },
            replay: if rng.chance(0.2) { 0.02 } else { 0.0 },
            reorder: if rng.chance(0.4) { 0.2 } else { 0.0 },
            late: Duration::from_millis(1 + rng.below(60)),
            latency: Duration::from_micros(50 + rng.below(3_000)),
            spoil: if rng.chance(0.15) { 0.03 } else { 0.0 },
        };
        Self {
            nodes,
            segments: if rng.chance(0.2) { 2 + rng.below(2) as usize } else { 1 },
            classic: rng.chance(0.1),
            priorities: match rng.below(4) {
                0 => Priorities::Equal,
                1 => Priorities::Drifting,
                _ => Priorities::Spread,
            },
            followers,
            weather,
            faults,
            post_loss: if rng.chance(0.3) { 0.3 } else { 0.0 },
            skew_ns: if rng.chance(0.5) { 3_000_000_000 } else { 0 },
            command_len: 300 + rng.below(8_000),
            data_len: if rng.chance(0.3) { rng.below(500_000) } else { rng.below(40_000) },
            staging: Duration::from_millis(1 + rng.below(400)),
            rounds: 15 + rng.below(20),
            start_within: Duration::from_millis(500),
            alone: Rng::new(seed ^ 0xa10e).chance(0.2),
            transport: transport(&mut rng),
        }
    }

    /// A quiet farm, from which a regression or a measurement sets out.
    pub fn quiet(nodes: usize) -> Self {
        Self {
            nodes,
            segments: 1,
            classic: false,
            priorities: Priorities::Spread,
            followers: 0,
            weather: Weather::FINE,
            faults: Faults::default(),
            post_loss: 0.0,
            skew_ns: 0,
            command_len: 1_000,
            data_len: 20_000,
            staging: Duration::from_millis(20),
            rounds: 0,
            start_within: Duration::from_millis(500),
            alone: false,
            transport: Transport::default(),
        }
    }

    pub const fn profile(&self) -> Profile {
        if self.classic { Profile::CLASSIC } else { Profile::LAN }
    }
}

fn transport(rng: &mut Rng) -> Transport {
    let mut transport = Transport { announce_in_alive: rng.chance(0.5), ..Transport::default() };
    let sender = &mut transport.sender;
    if rng.chance(0.3) {
        sender.repair = Repair::Resend;
    }
    sender.repair_when = match rng.below(4) {
        0 => RepairWhen::Immediate,
        1 => RepairWhen::Timed,
        _ => RepairWhen::PassEnd,
    };
    if rng.chance(0.2) {
        sender.quorum = Quorum::Percent(50);
    }
    transport
}
