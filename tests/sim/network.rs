//! The links between nodes: loss, bursts of it, latency, duplicates, reordering, cuts. Each direction of
//! each pair is a link with a weather of its own.

use farmcast::proto::engine::Channel;
use farmcast::proto::random::Rng;
use farmcast::time::{Duration, Instant};
use std::collections::BTreeSet;

/// Gilbert-Elliott: mean spans between and of bursts, and the loss within one.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    pub between: Duration,
    pub lasting: Duration,
    pub within: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: f64,
    pub bursts: Option<Bursts>,
    pub duplicate: f64,
    /// Chance that a datagram is late by up to `late`.
    pub reorder: f64,
    pub late: Duration,
    pub latency: Duration,
}

impl Weather {
    pub const FINE: Self = Self {
        loss: 0.0,
        bursts: None,
        duplicate: 0.0,
        reorder: 0.0,
        late: Duration::ZERO,
        latency: Duration::from_micros(100),
    };
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    raging: bool,
    turns: Instant,
}

#[derive(Debug)]
pub struct Network {
    nodes: usize,
    pub weather: Weather,
    bursts: Vec<Burst>,
    /// Directed pairs that nothing passes.
    cut: BTreeSet<(usize, usize)>,
    /// Directed pairs that no multicast passes: on the control channel, on the data channel.
    pub blocked: [BTreeSet<(usize, usize)>; 2],
    pub sent: u64,
    pub lost: u64,
}

/// Stands for the CCM in a pair.
pub const CCM: usize = usize::MAX;

impl Network {
    pub fn new(nodes: usize, weather: Weather) -> Self {
        let calm = Burst { raging: true, turns: Instant::ZERO };
        Self {
            nodes,
            weather,
            bursts: vec![calm; nodes * nodes],
            cut: BTreeSet::new(),
            blocked: Default::default(),
            sent: 0,
            lost: 0,
        }
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    /// All links are whole and fine.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.blocked = Default::default();
        self.weather = Weather::FINE;
    }

    /// Whether a switch keeps multicast of the channel from getting from one to the other.
    pub fn blocks(&self, channel: Channel, from: usize, to: usize) -> bool {
        self.blocked[usize::from(channel == Channel::Data)].contains(&(from, to))
    }

    /// Whether a stream between the two can live.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }

    /// When copies of a datagram arrive: none, one, or two.
    pub fn arrivals(&mut self, now: Instant, from: usize, to: usize, rng: &mut Rng) -> [Option<Instant>; 2] {
        self.sent += 1;
        if self.cut.contains(&(from, to)) || self.is_lost(now, from, to, rng) {
            self.lost += 1;
            return [None, None];
        }
        let again = rng.chance(self.weather.duplicate);
        [Some(now + self.delay(rng)), again.then(|| now + self.delay(rng))]
    }

    fn is_lost(&mut self, now: Instant, from: usize, to: usize, rng: &mut Rng) -> bool {
        if rng.chance(self.weather.loss) {
            return true;
        }
        let Some(bursts) = self.weather.bursts else { return false };
        let burst = &mut self.bursts[from * self.nodes + to];
        while now >= burst.turns {
            burst.raging ^= true;
            let mean = if burst.raging { bursts.lasting } else { bursts.between };
            burst.turns += Duration::from_nanos(1 + rng.below(2 * mean.as_nanos()));
        }
        burst.raging && rng.chance(bursts.within)
    }

    pub fn delay(&self, rng: &mut Rng) -> Duration {
        let latency = self.weather.latency.as_nanos();
        let late = if rng.chance(self.weather.reorder) { self.weather.late.as_nanos() } else { 0 };
        Duration::from_nanos(latency + rng.below(latency / 2) + rng.below(late))
    }
}
