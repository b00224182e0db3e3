//! The links between nodes: loss, bursts of it, latency, lags, duplicates, replays, reordering, cuts. Each
//! direction of each pair is a link with a weather of its own.

use farmcast::proto::engine::Channel;
use farmcast::proto::random::Rng;
use farmcast::time::{Duration, Instant};
use std::collections::BTreeSet;

/// How late a replayed datagram comes at most.
const REPLAY_AFTER: Duration = Duration::from_secs(20);

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
    /// Chance that a datagram comes a second time, long after.
    pub replay: f64,
    /// Chance that a datagram is late by up to `late`.
    pub reorder: f64,
    pub late: Duration,
    pub latency: Duration,
    /// Chance that a batch of frames, or a pull, carries a wrong byte which its tag does not betray: bad
    /// memory of the sender, or a member that means ill.
    pub spoil: f64,
}

impl Weather {
    pub const FINE: Self = Self {
        loss: 0.0,
        bursts: None,
        duplicate: 0.0,
        replay: 0.0,
        reorder: 0.0,
        late: Duration::ZERO,
        latency: Duration::from_micros(100),
        spoil: 0.0,
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
    /// By directed pair; empty where the weather knows no bursts.
    bursts: Vec<Burst>,
    /// Directed pairs that nothing passes.
    cut: BTreeSet<(usize, usize)>,
    /// Directed pairs that no multicast passes: on the control channel, on the data channel.
    pub blocked: [BTreeSet<(usize, usize)>; 2],
    /// What reaches this node, or leaves it, is so late.
    lags: Vec<Duration>,
}

/// Stands for the CCM in a pair.
pub const CCM: usize = usize::MAX;

impl Network {
    pub fn new(nodes: usize, weather: Weather) -> Self {
        let calm = Burst { raging: true, turns: Instant::ZERO };
        let bursts = if weather.bursts.is_some() { vec![calm; nodes * nodes] } else { Vec::new() };
        let lags = vec![Duration::ZERO; nodes];
        Self { nodes, weather, bursts, cut: BTreeSet::new(), blocked: Default::default(), lags }
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    pub fn set_lag(&mut self, node: usize, lag: Duration) {
        self.lags[node] = lag;
    }

    /// All links are whole and fine.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.blocked = Default::default();
        self.lags.fill(Duration::ZERO);
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
        if self.cut.contains(&(from, to)) || self.is_lost(now, from, to, rng) {
            return [None, None];
        }
        let lag = self.lags[from] + self.lags[to];
        let first = now + lag + self.delay(rng);
        let again = if rng.chance(self.weather.replay) {
            Some(first + Duration::from_nanos(rng.below(REPLAY_AFTER.as_nanos())))
        } else {
            rng.chance(self.weather.duplicate).then(|| now + lag + self.delay(rng))
        };
        [Some(first), again]
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

    /// How long a datagram, or an exchange over a stream, takes.
    pub fn delay(&self, rng: &mut Rng) -> Duration {
        let latency = self.weather.latency.as_nanos();
        let late = if rng.chance(self.weather.reorder) { self.weather.late.as_nanos() } else { 0 };
        Duration::from_nanos(latency + rng.below(latency / 2) + rng.below(late))
    }
}
