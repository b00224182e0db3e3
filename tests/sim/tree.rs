//! The transmission tree at work: the controller's planner and the machine of every leader, on links that are all
//! alike. Content flows evenly over each link, divided among those who fetch from it; messages take a tick.

use farmcast::ccm::distribute::{Distribution, HandOut, Leader, Limits, Next, Ranking, Source, Standing};
use farmcast::proto::forward::{Action, Event, Forward};
use farmcast::time::{Duration, Instant};
use farmcast::wire::assignment::Shape;
use farmcast::wire::id::{AssignmentId, ListNumber, Name, NodeId, ObjectName, RunId};
use farmcast::wire::notify::{Forwarding, NextLeader, NextReply, Notification};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// One transfer over a link that nobody else uses.
const TRANSFER: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
const LEASE: Duration = Duration::from_secs(100);
/// A leaf of an object of some 100 MiB.
const LEAF: f64 = 1.0 / 400.0;
/// As the controller answers.
const WAIT_MS: u16 = 100;
/// Stands for the controller as a source.
const CCM: usize = usize::MAX;

struct Site {
    forward: Option<Forward>,
    /// Whose content flows here now.
    source: Option<usize>,
    /// Part of the object that is here: 1 is all.
    has: f64,
    dead: bool,
}

enum Message {
    /// To a leader.
    Notify(HandOut),
    /// A leader asks the controller.
    Ask(usize, bool),
    Reply(usize, NextReply),
    Handed(usize),
}

struct Tree {
    now: Instant,
    plan: Distribution,
    forward: Forwarding,
    sites: Vec<Site>,
    /// What is under way, and since when.
    messages: VecDeque<(Instant, Message)>,
    /// What a leader is to be handed, by its text port.
    handing: BTreeMap<SocketAddr, HandOut>,
    /// Copies that left the controller.
    sent: f64,
    ends: Vec<Instant>,
}

fn leader(site: usize) -> Leader {
    let ip = [10, 0, (site / 250) as u8, (site % 250) as u8 + 1];
    Leader {
        segment: Name::new(&format!("s{site}")).expect("a name"),
        node: NodeId(site as u64),
        text: SocketAddr::from((ip, 1)),
        http: SocketAddr::from((ip, 2)),
        groups: ListNumber(0),
        standing: Standing::default(),
    }
}

fn site_of(http: SocketAddr) -> usize {
    let SocketAddr::V4(http) = http else { panic!("the leaders of this test have IPv4 addresses") };
    let [.., high, low] = http.ip().octets();
    usize::from(high) * 250 + usize::from(low) - 1
}

fn notification(hand_out: &HandOut, forward: Forwarding) -> Notification {
    let name = || Name::new("www").expect("a name");
    Notification {
        run: RunId(1),
        assignment: AssignmentId(2),
        site: name(),
        group: name(),
        groups: ListNumber(0),
        shape: Shape { name: ObjectName([0; 32]), command_len: 1_000, data_len: 0 },
        leader: hand_out.leader.node,
        source: match hand_out.source {
            Source::Controller => SocketAddr::from(([0, 0, 0, 0], 0)),
            Source::Leader(http) => http,
        },
        others: Vec::new(),
        forward,
        last: hand_out.last,
        quorum: None,
        bounds: Default::default(),
        expires: 0,
    }
}

impl Tree {
    fn new(leaders: usize, first_level: usize, forward: Forwarding) -> Self {
        let limits = Limits { first_level, lease_ns: LEASE.as_nanos(), forward };
        let ranking = Ranking::default();
        let site = |_| Site { forward: None, source: None, has: 0.0, dead: false };
        Self {
            now: Instant::ZERO,
            forward,
            plan: Distribution::new((0..leaders).map(leader).collect(), &ranking, limits),
            sites: (0..leaders).map(site).collect(),
            messages: VecDeque::new(),
            handing: BTreeMap::new(),
            sent: 0.0,
            ends: vec![Instant::ZERO; leaders],
        }
    }

    fn send(&mut self, message: Message) {
        self.messages.push_back((self.now, message));
    }

    /// Until every leader that lives has a copy and serves its own members.
    fn run(&mut self, mut strike: impl FnMut(&mut Self)) {
        for hand_out in self.plan.start(0) {
            self.send(Message::Notify(hand_out));
        }
        let over = |site: &Site| site.dead || site.forward.as_ref().is_some_and(Forward::is_distributing);
        while !self.sites.iter().all(over) {
            assert!(self.now < Instant::ZERO + TRANSFER * 100, "no end");
            self.now += TICK;
            strike(self);
            for hand_out in self.plan.expire(self.now.as_nanos()) {
                self.send(Message::Notify(hand_out));
            }
            while let Some((_, message)) = self.messages.pop_front_if(|(since, _)| *since < self.now) {
                self.deliver(message);
            }
            self.flow();
            for site in 0..self.sites.len() {
                let due = |forward: &Forward| forward.next_deadline().is_some_and(|at| at <= self.now);
                if self.sites[site].forward.as_ref().is_some_and(due) {
                    self.step(site, Event::Timeout);
                }
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Notify(hand_out) => {
                let site = hand_out.leader.node.0 as usize;
                if self.sites[site].dead {
                    return;
                }
                let told = notification(&hand_out, self.forward);
                let action = match &mut self.sites[site].forward {
                    Some(forward) => forward.renotify(told),
                    none => {
                        *none = Some(Forward::new(told));
                        Some(Action::Fetch)
                    }
                };
                self.act(site, action);
            }
            Message::Ask(site, whole) => {
                let next = self.plan.next(NodeId(site as u64), whole, self.now.as_nanos());
                let reply = match next {
                    Next::Serve(hand_out) => {
                        let text = hand_out.leader.text;
                        self.handing.insert(text, *hand_out);
                        NextReply::Serve(NextLeader { text, notification: Vec::new() })
                    }
                    Next::Wait => NextReply::Wait { millis: WAIT_MS },
                    Next::Nobody => NextReply::Nobody,
                };
                self.send(Message::Reply(site, reply));
            }
            Message::Reply(site, reply) => self.step(site, Event::Next(reply)),
            Message::Handed(site) => self.step(site, Event::Handed),
        }
    }

    fn step(&mut self, site: usize, event: Event) {
        if self.sites[site].dead {
            return;
        }
        let now = self.now;
        let action = self.sites[site].forward.as_mut().and_then(|forward| forward.step(now, event));
        self.act(site, action);
    }

    fn act(&mut self, site: usize, action: Option<Action>) {
        match action {
            None | Some(Action::Distribute) => {}
            Some(Action::Fetch) => {
                let source = self.sites[site].forward.as_ref().map(|forward| forward.notification().source);
                let source = source.expect("it was notified");
                self.sites[site].source = Some(if source.port() == 0 { CCM } else { site_of(source) });
            }
            Some(Action::Ask(request)) => self.send(Message::Ask(site, request.whole)),
            Some(Action::Hand(next)) => {
                if let Some(hand_out) = self.handing.remove(&next.text) {
                    self.send(Message::Notify(hand_out));
                }
                self.send(Message::Handed(site));
            }
        }
    }

    /// One tick of content over all links.
    fn flow(&mut self) {
        let mut takers: BTreeMap<usize, u32> = BTreeMap::new();
        let flows = |site: &Site| if site.dead || site.has >= 1.0 { None } else { site.source };
        for source in self.sites.iter().filter_map(flows) {
            *takers.entry(source).or_default() += 1;
        }
        let before: Vec<(f64, bool)> = self.sites.iter().map(|site| (site.has, site.dead)).collect();
        let tick = TICK.as_secs_f64() / TRANSFER.as_secs_f64();
        for site in 0..self.sites.len() {
            let Some(source) = flows(&self.sites[site]) else { continue };
            let there = match before.get(source) {
                None => 1.0,
                Some((_, true)) => continue,
                // Whole leaves only.
                Some((has, false)) if *has < 1.0 => (*has / LEAF).floor() * LEAF,
                Some((has, false)) => *has,
            };
            let has = &mut self.sites[site].has;
            let more = (tick / f64::from(takers[&source])).min(there - *has).max(0.0);
            *has += more;
            if source == CCM {
                self.sent += more;
            }
            let begun = *has >= LEAF;
            if *has > 1.0 - 1e-9 {
                (*has, self.ends[site]) = (1.0, self.now);
                self.step(site, Event::Stored);
            } else if begun {
                self.step(site, Event::Begun);
            }
        }
    }

    /// When the last leader had its copy, in transfers.
    fn took(&self) -> f64 {
        self.ends.iter().max().expect("leaders").since(Instant::ZERO).as_secs_f64() / TRANSFER.as_secs_f64()
    }
}

/// Of one transfer, what questions and answers between two rounds may cost.
const SLACK: f64 = 0.01;

/// H-7, GD-5: all that hold a copy serve one each, so the holders double.
#[test]
fn sixty_four_leaders_have_their_copies_in_seven_transfers() {
    for first_level in [1, 2, 4] {
        let mut tree = Tree::new(64, first_level, Forwarding::Whole);
        tree.run(|_| {});
        let rounds = f64::from(64_u32.ilog2() + 1);
        // While the controller divides its link, nobody else serves: then the holders are so many at once.
        let at_first = first_level as f64 - f64::from(first_level.ilog2()) - 1.0;
        let most = (rounds + at_first) * (1.0 + SLACK);
        assert!(tree.took() <= most, "{first_level}: {} transfers, not {most}", tree.took());
        let sent = tree.sent;
        assert!((sent - first_level as f64).abs() < 1e-6, "{first_level} at first, {sent} copies sent");
    }
}

#[test]
fn three_hundred_leaders_have_their_copies_in_ten_transfers() {
    let mut tree = Tree::new(300, 1, Forwarding::Whole);
    tree.run(|_| {});
    assert!(tree.took() <= 10.0 * (1.0 + SLACK), "{} transfers", tree.took());
    assert!((tree.sent - 1.0).abs() < 1e-6, "{} copies sent", tree.sent);
}

/// A first-level leader dies in mid transfer of its first child: that one gets another source, and what it had
/// counts; the controller sends no more than the rest of it.
#[test]
fn a_leader_that_dies_in_mid_transfer_costs_the_others_a_lease() {
    let mut tree = Tree::new(16, 1, Forwarding::Whole);
    let death = Instant::ZERO + TRANSFER + TRANSFER / 2;
    tree.run(|tree| tree.sites[0].dead |= tree.now >= death);
    let rounds = 5.0 + LEASE.as_secs_f64() / TRANSFER.as_secs_f64();
    assert!(tree.took() <= (rounds + 0.5) * (1.0 + SLACK), "{} transfers", tree.took());
    assert!(tree.sent < 1.6, "{} copies sent", tree.sent);
    assert!(tree.sites.iter().all(|site| site.dead || site.has >= 1.0));
}

/// Cut-through: a leader passes on each leaf when it is verified.
#[test]
fn sixty_four_leaders_that_pass_on_what_is_verified_have_their_copies_in_two_transfers() {
    let mut tree = Tree::new(64, 1, Forwarding::Verified);
    tree.run(|_| {});
    assert!(tree.took() <= 2.0, "{} transfers", tree.took());
    assert!((tree.sent - 1.0).abs() < 1e-6, "{} copies sent", tree.sent);
}

/// All that is behind it in the chain gets another source, and what it had counts.
#[test]
fn a_chain_that_breaks_in_the_middle_is_mended() {
    let mut tree = Tree::new(16, 1, Forwarding::Verified);
    let death = Instant::ZERO + TRANSFER / 2;
    tree.run(|tree| tree.sites[3].dead |= tree.now >= death);
    assert!(tree.sites.iter().all(|site| site.dead || site.has >= 1.0));
    assert!(tree.took() < 10.0, "{} transfers", tree.took());
    assert!(tree.sent < 2.5, "{} copies sent", tree.sent);
}
