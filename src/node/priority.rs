//! What speaks for a node as leader of its segment, term by term (EL-12, RG-9). Pure.
//!
//! Each term measures one thing on a scale from 0 to its weight; the sum of the points, times the operator's
//! factor, is the priority. Sizes count by their logarithm: twice the memory is the same step anywhere.

use crate::proto::election::PRIORITY_SCALE;
use crate::time::{Duration, Instant};

/// A leader is trusted fully after leading for so long ...
const TENURE_FULL: Duration = Duration::from_secs(3_600);
/// ... and what it earned is forgotten so long after it stopped (EL-14).
const TENURE_FADES: Duration = Duration::from_secs(600);

/// What was measured on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merits {
    pub processors: u16,
    /// Bytes.
    pub free_memory: u64,
    /// Bytes.
    pub free_disk: u64,
    /// Load average over one minute, in hundredths.
    pub load_pct: u32,
    /// Mbit/s of the interface, where its driver knows.
    pub nic_mbit: Option<u32>,
    pub tenure: Tenure,
    /// How it has fared of late, in percent (see `reliability`).
    pub reliability_pct: u32,
    /// Sites of which a version is live, and all that the node serves.
    pub sites_live: u16,
    pub sites: u16,
}

/// One row of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub name: &'static str,
    /// As measured; `None` where it cannot be, and then the other terms share its weight.
    pub value: Option<u64>,
    pub unit: &'static str,
    /// Most points that it could give.
    pub weight: u32,
    pub points: u32,
}

/// A priority with its explanation: the points of all terms, times `factor` percent, within 1 and
/// [`PRIORITY_SCALE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    pub terms: [Term; 8],
    pub factor: u32,
    pub total: u32,
}

impl Merits {
    /// The priority at the operator's `factor` in percent; 100 changes nothing.
    pub fn priority(&self, factor: u32) -> Priority {
        let busy = f64::from(self.load_pct) / 100.0 / f64::from(self.processors.max(1));
        let idle = 1.0 - busy.min(1.0);
        let held = f64::from(self.sites_live) / f64::from(self.sites.max(1));
        let reliable = f64::from(self.reliability_pct.min(100)) / 100.0;
        let nic = self.nic_mbit.map(u64::from);
        let log = |value: u64, least, most| (Some(value), Some(logarithmic(value, least, most)));
        // Their weights add up to the scale.
        let measured = [
            Measured::new("processors", "", 200, log(self.processors.into(), 1, 128)),
            Measured::new("memory", "bytes", 150, log(self.free_memory, 64 << 20, 256 << 30)),
            Measured::new("disk", "bytes", 100, log(self.free_disk, 1 << 30, 16 << 40)),
            Measured::new("idle", "percent", 200, (Some((idle * 100.0) as u64), Some(idle))),
            Measured::new("nic", "mbit_s", 100, nic.map_or((None, None), |mbit| log(mbit, 10, 100_000))),
            Measured::new("leading", "s", 100, self.tenure.measured()),
            Measured::new("reliability", "percent", 100, (Some(self.reliability_pct.into()), Some(reliable))),
            Measured::new("content", "sites", 50, (Some(self.sites_live.into()), Some(held))),
        ];
        let known = measured.iter().filter(|one| one.share.is_some()).map(|one| one.weight).sum();
        let terms = measured.map(|one| one.term(known));
        let points: u64 = terms.iter().map(|term| u64::from(term.points)).sum();
        let total = (points * u64::from(factor) / 100).clamp(1, PRIORITY_SCALE.into()) as u32;
        Priority { terms, factor, total }
    }
}

/// A term before its weight is known: that depends on what could be measured beside it.
struct Measured {
    name: &'static str,
    unit: &'static str,
    weight: u32,
    value: Option<u64>,
    /// 0 to 1.
    share: Option<f64>,
}

impl Measured {
    const fn new(
        name: &'static str,
        unit: &'static str,
        weight: u32,
        (value, share): (Option<u64>, Option<f64>),
    ) -> Self {
        Self { name, unit, weight, value, share }
    }

    /// The term, where all that was measured weighs `known` together.
    fn term(self, known: u32) -> Term {
        let Self { name, unit, weight, value, share } = self;
        let weight = if share.is_some() { weight * PRIORITY_SCALE / known } else { 0 };
        let points = (share.unwrap_or(0.0) * f64::from(weight)).round() as u32;
        Term { name, value, unit, weight, points }
    }
}

/// 0 at `least` and below, 1 at `most` and above, by the logarithm between.
fn logarithmic(value: u64, least: u64, most: u64) -> f64 {
    let value = value.clamp(least, most) as f64;
    (value / least as f64).log2() / (most as f64 / least as f64).log2()
}

/// How long a node has led, and how long ago that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// Of the term that lasts, or of the last one.
    led: Duration,
    /// Since its end; zero while it leads.
    ago: Duration,
}

impl Tenure {
    fn measured(self) -> (Option<u64>, Option<f64>) {
        (Some(self.led.as_millis() / 1_000), Some(self.share()))
    }

    fn share(self) -> f64 {
        let earned = (self.led.as_secs_f64() / TENURE_FULL.as_secs_f64()).min(1.0);
        let left = 1.0 - (self.ago.as_secs_f64() / TENURE_FADES.as_secs_f64()).min(1.0);
        earned * left
    }
}

/// Keeps the time that a node leads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    /// Begin of the last term, and when the node was last seen to lead.
    term: Option<(Instant, Instant)>,
    leads: bool,
}

impl Service {
    /// Takes in whether the node leads now; to be called often enough for the figures to mean something.
    pub fn observe(&mut self, now: Instant, leads: bool) -> Tenure {
        self.term = match self.term {
            Some((begin, _)) if leads && self.leads => Some((begin, now)),
            _ if leads => Some((now, now)),
            term => term,
        };
        self.leads = leads;
        self.term
            .map_or(Tenure::default(), |(begin, end)| Tenure { led: end.since(begin), ago: now.since(end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Merits = Merits {
        processors: 2,
        free_memory: 1 << 30,
        free_disk: 10 << 30,
        load_pct: 0,
        nic_mbit: Some(1_000),
        tenure: Tenure { led: Duration::ZERO, ago: Duration::ZERO },
        reliability_pct: 90,
        sites_live: 1,
        sites: 1,
    };
    const LARGE: Merits = Merits { processors: 64, free_memory: 128 << 30, free_disk: 4 << 40, ..SMALL };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_better_machine_has_the_higher_priority_and_the_operator_the_last_word() {
        let total = |merits: Merits, factor| merits.priority(factor).total;
        assert!(total(SMALL, 100) < total(LARGE, 100));
        assert!(total(Merits { load_pct: 6_400, ..LARGE }, 100) < total(LARGE, 100));
        assert!(total(LARGE, 10) < total(SMALL, 100));
        assert_eq!(total(LARGE, 0), 1);
        assert_eq!(total(LARGE, u32::MAX), PRIORITY_SCALE);
        assert_eq!(total(Merits::default(), 100), 222, "idle counts, and nothing else does");
    }

    #[test]
    fn each_term_alone_moves_its_own_points_and_no_others() {
        let led = |seconds| Tenure { led: Duration::from_secs(seconds), ago: Duration::ZERO };
        for (name, better, value, unit) in [
            ("processors", Merits { processors: 4, ..SMALL }, 4, ""),
            ("memory", Merits { free_memory: 4 << 30, ..SMALL }, 4 << 30, "bytes"),
            ("disk", Merits { free_disk: 1 << 40, ..SMALL }, 1 << 40, "bytes"),
            ("nic", Merits { nic_mbit: Some(10_000), ..SMALL }, 10_000, "mbit_s"),
            ("leading", Merits { tenure: led(1_800), ..SMALL }, 1_800, "s"),
            ("reliability", Merits { reliability_pct: 100, ..SMALL }, 100, "percent"),
        ] {
            let (before, after) = (SMALL.priority(100), better.priority(100));
            assert!(after.total > before.total, "{name}");
            for (before, after) in before.terms.iter().zip(&after.terms) {
                assert_eq!(before.weight, after.weight, "{name}");
                if after.name == name {
                    assert!(after.points > before.points, "{name}");
                    assert_eq!((after.value, after.unit), (Some(value), unit));
                } else {
                    assert_eq!(before, after, "{name}");
                }
            }
        }
        // Worse, where the small machine has the best already.
        for (name, worse) in [
            ("idle", Merits { load_pct: 100, ..SMALL }),
            ("content", Merits { sites_live: 0, ..SMALL }),
            ("content", Merits { sites: 2, ..SMALL }),
        ] {
            let points = |merits: Merits| {
                let terms = merits.priority(100).terms;
                terms.iter().find(|term| term.name == name).unwrap().points
            };
            assert!(points(worse) < points(SMALL), "{name}");
        }
    }

    #[test]
    fn the_points_add_up_to_the_total_and_the_weights_to_the_scale() {
        for merits in [SMALL, LARGE, Merits::default(), Merits { nic_mbit: None, ..LARGE }] {
            for factor in [1, 50, 100, 150] {
                let Priority { terms, total, .. } = merits.priority(factor);
                let points: u32 = terms.iter().map(|term| term.points).sum();
                assert_eq!(total, (points * factor / 100).clamp(1, PRIORITY_SCALE), "{merits:?}");
                let weights: u32 = terms.iter().map(|term| term.weight).sum();
                assert!((PRIORITY_SCALE - 8..=PRIORITY_SCALE).contains(&weights), "{weights}");
                assert!(terms.iter().all(|term| term.points <= term.weight));
            }
        }
    }

    /// Else nodes on a virtual interface, whose driver knows no speed, would never lead.
    #[test]
    fn an_unknown_speed_neither_helps_nor_hurts() {
        let unknown = Merits { nic_mbit: None, ..SMALL }.priority(100);
        let slow = Merits { nic_mbit: Some(10), ..SMALL }.priority(100);
        let fast = Merits { nic_mbit: Some(100_000), ..SMALL }.priority(100);
        assert!(slow.total < unknown.total && unknown.total < fast.total);
        let nic = unknown.terms.iter().find(|term| term.name == "nic").unwrap();
        assert_eq!((nic.value, nic.weight, nic.points), (None, 0, 0));
    }

    #[test]
    fn what_a_leader_has_earned_fades_after_it_stopped() {
        let mut service = Service::default();
        assert_eq!(service.observe(at(0), false).share(), 0.0);
        assert_eq!(service.observe(at(10), true).share(), 0.0);
        let half = service.observe(at(1_810), true);
        assert_eq!((half.led, half.share()), (Duration::from_secs(1_800), 0.5));
        assert_eq!(service.observe(at(5_000), true).share(), 1.0);
        assert_eq!(service.observe(at(5_300), false).share(), 0.5);
        assert_eq!(service.observe(at(5_600), false).share(), 0.0);
        assert_eq!(service.observe(at(9_000), false).share(), 0.0);
        // A new term begins from nothing.
        assert_eq!(service.observe(at(9_010), true).share(), 0.0);
    }
}
