//! Reports of many members on one document: they all end their work at the same instant, and none of them floods the
//! leader (SR-9, H-11).

use farmcast::proto::collect::{Action, Collector};
use farmcast::proto::profile::Profile;
use farmcast::proto::random::Rng;
use farmcast::proto::reporter::Reporter;
use farmcast::time::{Duration, Instant};
use farmcast::wire::id::{AssignmentId, Name, NodeId, RunId};
use farmcast::wire::report::{StatusRequest, Subject};
use std::collections::BTreeMap;

const SUBJECT: Subject = Subject::Assignment { run: RunId(1), assignment: AssignmentId(2) };
/// What counts as "at once".
const WINDOW: Duration = Duration::from_millis(100);
const LATENCY: Duration = Duration::from_micros(200);
const TICK: Duration = Duration::from_millis(2);

struct Figures {
    /// Reports that arrived, each as often as it did.
    arrived: Vec<Instant>,
    /// When the leader had them all.
    all: Instant,
}

impl Figures {
    /// Most reports within one window.
    fn peak(&self) -> usize {
        let within = |start: Instant| {
            self.arrived.iter().filter(|at| **at >= start && at.since(start) < WINDOW).count()
        };
        self.arrived.iter().map(|start| within(*start)).max().unwrap_or(0)
    }
}

/// So many members end their work now; a share of their reports, and of requests to them, is lost.
fn collect(members: u64, loss: f64, seed: u64) -> Figures {
    let (mut rng, profile) = (Rng::new(seed), Profile::LAN);
    let mut now = Instant::ZERO;
    let name = |name: &str| Name::new(name).expect("a name");
    let nodes = (1..=members).map(NodeId);
    let mut collector = Collector::new(now, SUBJECT, name("www"), name("s"), nodes.clone(), profile);
    let mut reporters: BTreeMap<NodeId, Reporter> =
        nodes.map(|node| (node, Reporter::new(profile))).collect();
    for reporter in reporters.values_mut() {
        reporter.on_done(now, SUBJECT, vec![1], members as usize, rng.next_u64());
    }
    let (mut arrived, mut open) = (Vec::new(), members);
    while open > 0 {
        assert!(now < Instant::ZERO + Duration::from_secs(60), "{open} reports are missing");
        for (node, reporter) in &mut reporters {
            for report in reporter.on_timeout(now) {
                if !rng.chance(loss) {
                    open -= u64::from(collector.wants(*node));
                    collector.on_report(now + LATENCY, *node, report);
                    arrived.push(now + LATENCY);
                }
            }
        }
        let mut ask = |rng: &mut Rng, node: NodeId, request: &StatusRequest| {
            if request.asks(node) && !rng.chance(loss) {
                let chance = rng.next_u64();
                reporters.get_mut(&node).expect("a member").on_request(now, request, chance);
            }
        };
        for action in collector.on_timeout(now) {
            match action {
                Action::AskOne(node, request) => ask(&mut rng, node, &request),
                Action::AskAll(request) => (1..=members).for_each(|n| ask(&mut rng, NodeId(n), &request)),
                Action::Report(_) => {}
            }
        }
        now += TICK;
    }
    Figures { arrived, all: now }
}

/// Undelayed, all reports of a segment come within one window.
#[test]
fn reports_of_two_hundred_members_come_in_a_tenth_of_the_flood_and_within_five_seconds() {
    for seed in 0..5 {
        for loss in [0.0, 0.01, 0.05] {
            let figures = collect(200, loss, seed);
            let what = format!("seed {seed}, loss {loss}: peak {}, all by {}", figures.peak(), figures.all);
            assert!(figures.peak() < 20, "{what}");
            assert!(figures.all < Instant::ZERO + Duration::from_secs(5), "{what}");
        }
    }
}

#[test]
fn few_members_report_at_once_and_a_thousand_still_come_in_a_tenth_of_the_flood() {
    for (members, peak, seconds) in [(8, 8, 1), (50, 20, 2), (1_000, 99, 8)] {
        let figures = collect(members, 0.01, 7);
        let what = format!("{members} members: peak {}, all by {}", figures.peak(), figures.all);
        assert!(figures.peak() <= peak, "{what}");
        assert!(figures.all < Instant::ZERO + Duration::from_secs(seconds), "{what}");
    }
}
