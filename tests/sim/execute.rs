//! The controller's executor: asks the real planners, `ccm::distribute` and `ccm::rollout`, what follows
//! from what is written down, and does it, as `ccm/execute` does with real sockets.

use crate::ccm::{Ccm, Run, Seen};
use crate::groups::group;
use crate::node::{index_of, site};
use crate::queue::{Bearer, Document, Event};
use crate::world::Context;
use farmcast::ccm::api::types::Phase;
use farmcast::ccm::distribute::{
    Distribution, HandOut, Leader, Limits, Next, Ranking, SortKey, Source, Standing,
};
use farmcast::ccm::model::{IssuedOrder, NodeState, RunNode};
use farmcast::ccm::rollout::{self, Decision, OFFLINE_GRACE_NS};
use farmcast::time::{Duration, Instant};
use farmcast::wire::id::{Name, NodeId, OrderId, RunId};
use farmcast::wire::notify::{Forwarding, NextLeader, NextReply, NextRequest, Notification};
use farmcast::wire::order::{Action, Order};
use farmcast::wire::quorum::Quorum;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub const TURN: Duration = Duration::from_millis(100);
const FIRST_LEVEL: usize = 1;
const LEASE: Duration = Duration::from_secs(3);
const COMMIT_LEAD: Duration = Duration::from_millis(300);
/// After which reports are not waited for any more.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(20);
pub const ORDER_LIFE_S: u64 = 24 * 3_600;
const WAIT_MS: u16 = 100;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A leader that took a document is told again: it may have been restarted since.
const REPEAT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Delivery {
    to: NodeId,
    text: SocketAddr,
    document: Document,
    at: Instant,
    backoff: Duration,
}

/// At most one document per segment is on its way: the newest. As `ccm/execute/delivery.rs`.
#[derive(Debug)]
pub struct Deliveries(BTreeMap<Name, Delivery>);

impl Deliveries {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn send(&mut self, now: Instant, leader: &Leader, document: Document) {
        let (to, text) = (leader.node, leader.text);
        let delivery = Delivery { to, text, document, at: now, backoff: BACKOFF_FIRST };
        self.0.insert(leader.segment.clone(), delivery);
    }

    fn is_under_way(&self, leader: &Leader) -> bool {
        self.0.get(&leader.segment).is_some_and(|sent| sent.to == leader.node)
    }

    fn orders(&self, leader: &Leader) -> bool {
        let found = self.0.get(&leader.segment);
        found.is_some_and(|sent| sent.to == leader.node && matches!(sent.document, Document::Order(_)))
    }
}

/// What is written down of a run and of the farm around it.
struct Picture {
    nodes: Vec<RunNode>,
    all_online: bool,
    leaders: Vec<Leader>,
}

impl Ccm {
    /// Looks once at the run that is under way, or begins with the next.
    pub fn turn(&mut self, context: &mut Context) {
        if !self.is_up(context.now) {
            return;
        }
        let Some(index) = self.current() else {
            self.deliveries = Deliveries::new();
            return;
        };
        match self.run_mut(index).run.phase {
            Phase::Queued | Phase::Composing => self.compose(context, index),
            Phase::Distributing => self.distribute(context, index),
            Phase::Committing => self.commit(context, index),
            Phase::Done | Phase::Unchanged | Phase::Partial | Phase::Failed | Phase::Cancelled => {}
        }
        self.deliver(context);
    }

    /// The nodes that are online now are those that the run waits for.
    fn compose(&mut self, context: &mut Context, index: usize) {
        let now_ns = context.controller_ns();
        let online = self.known(context.now);
        let expect = |node: &NodeId| RunNode {
            node: *node,
            name: self.seen[node].member.name.clone(),
            segment: self.seen[node].segment.clone(),
            state: NodeState::Waiting,
            reason: String::new(),
            text: String::new(),
            changed_ns: now_ns,
            switched_ns: 0,
        };
        let nodes: Vec<RunNode> = online.iter().map(expect).collect();
        self.deliveries = Deliveries::new();
        let Run { run, nodes: expected, .. } = self.run_mut(index);
        if nodes.is_empty() {
            return end(context, run, Phase::Failed, "no node is online");
        }
        *expected = nodes;
        (run.phase, run.started_ns) = (Phase::Distributing, now_ns);
        if let Some(assignment) = &mut run.assignment {
            assignment.composed_ns = now_ns;
        }
        context.trace.say(context.now, || format!("run {} begins for {} nodes", run.id, expected.len()));
    }

    fn distribute(&mut self, context: &mut Context, index: usize) {
        let now_ns = context.controller_ns();
        let picture = self.picture(context, index);
        let patient = self.patient;
        let run = &mut self.run_mut(index).run;
        let deadline =
            run.assignment.map_or(0, |assignment| assignment.composed_ns) + REPORT_TIMEOUT.as_nanos();
        let decision = match run.order {
            Some(_) => rollout::while_committing(&picture.nodes, now_ns, deadline),
            None => rollout::while_staging(&picture.nodes, Quorum::All, picture.all_online, now_ns, deadline),
        };
        match decision {
            Decision::Commit => self.issue_commit(context, index),
            Decision::End(phase, text) if phase == Phase::Done || !patient => end(context, run, phase, &text),
            Decision::Wait | Decision::End(..) => self.hand_out(context, index, &picture),
        }
    }

    fn hand_out(&mut self, context: &Context, index: usize, picture: &Picture) {
        let (now, now_ns) = (context.now, context.controller_ns());
        let id = self.run_mut(index).run.id;
        let mut due = Vec::new();
        if self.distribution.as_ref().is_none_or(|(of, _)| *of != id) {
            let leaders = picture.leaders.clone();
            let ranking = Ranking { keys: SortKey::DEFAULT.to_vec(), ..Ranking::default() };
            let limits =
                Limits { first_level: FIRST_LEVEL, lease_ns: LEASE.as_nanos(), forward: Forwarding::Whole };
            let mut distribution = Distribution::new(leaders, &ranking, limits);
            due.extend(distribution.start(now_ns));
            self.distribution = Some((id, distribution));
        }
        let Some((_, distribution)) = &mut self.distribution else { return };
        for leader in &picture.leaders {
            distribution.led_by(leader);
            let stored = |node: &RunNode| {
                node.node == leader.node && matches!(node.state, NodeState::Staged | NodeState::Live)
            };
            if picture.nodes.iter().any(stored) {
                distribution.stored(leader.node, now_ns);
            }
        }
        due.extend(distribution.expire(now_ns));
        for leader in &picture.leaders {
            if distribution.is_waiting(leader.node) {
                self.deliveries.0.remove(&leader.segment);
            }
            let open = |node: &RunNode| {
                node.segment == leader.segment
                    && matches!(node.state, NodeState::Waiting | NodeState::Missing)
            };
            if !self.deliveries.is_under_way(leader) && picture.nodes.iter().any(open) {
                due.extend(distribution.reminder(leader.node, now_ns));
            }
        }
        for hand_out in due {
            let document = Document::Notification(notification(context, self.run_mut(index), &hand_out));
            self.deliveries.send(now, &hand_out.leader, document);
        }
    }

    /// Every node that the run waits for has it ready, or the switch would not be everywhere (CO-8).
    fn issue_commit(&mut self, context: &mut Context, index: usize) {
        self.orders += 1;
        let (id, now) = (OrderId(self.orders), context.now);
        let at_ns = context.controller_ns() + COMMIT_LEAD.as_nanos();
        let run = self.run_mut(index);
        let assignment = run.object.assignment;
        let mut nodes = run.nodes.iter().map(|node| node.node);
        let unready = nodes.find(|node| !context.deeds.can_switch(*node, assignment));
        context.check(unready.is_none(), || {
            format!("the switch to {assignment} is ordered, and {unready:?} has it not ready")
        });
        let action = Action::Commit { assignment };
        let order = Order {
            order: id,
            run: run.run.id,
            site: site(),
            action,
            at: Some(at_ns),
            expires: at_ns / 1_000_000_000 + ORDER_LIFE_S,
        };
        let bytes = order.sign(&context.keys.director);
        run.run.order = Some(IssuedOrder { id, bytes, action, at_ns });
        run.run.phase = Phase::Committing;
        context.orders.insert(id, (assignment, now));
        context.trace.say(now, || format!("the CCM orders the switch to {assignment}"));
        self.commit(context, index);
    }

    fn commit(&mut self, context: &mut Context, index: usize) {
        let now_ns = context.controller_ns();
        let picture = self.picture(context, index);
        let patient = self.patient;
        let run = &mut self.run_mut(index).run;
        let Some(order) = run.order.clone() else { return };
        let deadline = order.at_ns + REPORT_TIMEOUT.as_nanos();
        match rollout::while_committing(&picture.nodes, now_ns, deadline) {
            Decision::End(phase, text) if phase == Phase::Done || !patient => {
                return end(context, run, phase, &text);
            }
            Decision::End(..) | Decision::Wait | Decision::Commit => {}
        }
        for leader in &picture.leaders {
            let open = picture.nodes.iter().any(|node| {
                node.segment == leader.segment && matches!(node.state, NodeState::Staged | NodeState::Missing)
            });
            if !open {
                self.deliveries.0.remove(&leader.segment);
            } else if !self.deliveries.orders(leader) {
                self.deliveries.send(context.now, leader, Document::Order(order.bytes.clone()));
            }
        }
    }

    /// As `read_picture` of `ccm/execute/distributing.rs`: who is out of every report for long is missing.
    fn picture(&mut self, context: &Context, index: usize) -> Picture {
        let (now, now_ns) = (context.now, context.controller_ns());
        let online = self.known(now);
        let mut nodes = self.run_mut(index).nodes.clone();
        for entry in nodes.iter_mut().filter(|entry| !online.contains(&entry.node)) {
            let last = self.seen.get(&entry.node).map_or(Instant::ZERO, |seen| seen.at).max(self.started);
            if now.since(last).as_nanos() >= OFFLINE_GRACE_NS {
                rollout::note_missing(&self.run_mut(index).run, entry, "went offline", now_ns);
            }
        }
        let Run { run, object, .. } = self.run_mut(index);
        let (alone, assignment) =
            (run.phase == Phase::Distributing && run.order.is_some(), object.assignment);
        let is_open = |entry: &&mut RunNode| match entry.state {
            NodeState::Waiting => true,
            NodeState::Missing => online.contains(&entry.node),
            NodeState::Staged | NodeState::Live | NodeState::Failed => false,
        };
        for entry in nodes.iter_mut().filter(|entry| alone && is_open(entry)) {
            let sites = self.seen.get(&entry.node).map(|seen| seen.member.sites.iter());
            if sites.into_iter().flatten().any(|state| state.version == Some(assignment)) {
                (entry.state, entry.switched_ns) = (NodeState::Live, now_ns);
            }
        }
        self.run_mut(index).nodes.clone_from(&nodes);
        let wanted: BTreeSet<&Name> = nodes.iter().map(|node| &node.segment).collect();
        let leads = |segment: &&Name| self.leader(segment, now).and_then(|node| self.seen.get(&node));
        let leaders = wanted.iter().filter_map(leads).map(|seen| self.as_leader(seen)).collect();
        let all_online = nodes.iter().all(|node| online.contains(&node.node));
        Picture { leaders, all_online, nodes }
    }

    fn as_leader(&self, seen: &Seen) -> Leader {
        let member = &seen.member;
        Leader {
            segment: seen.segment.clone(),
            node: member.node(),
            text: member.text,
            http: member.http,
            groups: self.lists.number(&seen.segment),
            standing: Standing {
                processors: member.processors,
                priority: member.priority,
                machine: member.machine.clone(),
                ..Standing::default()
            },
        }
    }

    /// Sends what is due.
    fn deliver(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(index) = self.current() else { return };
        let id = self.run_mut(index).run.id;
        for delivery in self.deliveries.0.values_mut().filter(|delivery| delivery.at <= now) {
            // Until the answer says otherwise.
            delivery.at = now + REPEAT;
            let node = index_of(delivery.text).expect("nodes name themselves");
            let (document, from) = (delivery.document.clone(), Bearer::Ccm(id));
            let at = now + context.delay();
            context.queue.push(at, Event::Document { node, document, from });
        }
    }

    /// A leader took a document of this run, or did not.
    pub fn on_told(&mut self, now: Instant, run: RunId, text: SocketAddr, taken: bool) {
        let current = self.current().map(|index| self.run_mut(index).run.id);
        let told = |delivery: &&mut Delivery| delivery.text == text && current == Some(run);
        for delivery in self.deliveries.0.values_mut().filter(told) {
            if taken {
                (delivery.at, delivery.backoff) = (now + REPEAT, BACKOFF_FIRST);
            } else {
                delivery.at = now + delivery.backoff;
                delivery.backoff = (delivery.backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    /// Answers a leader that holds a copy: whom it may serve next.
    pub(crate) fn next_leader(&mut self, context: &Context, from: NodeId, asked: NextRequest) -> NextReply {
        let now_ns = context.controller_ns();
        let Some((of, distribution)) = &mut self.distribution else { return NextReply::Nobody };
        if *of != asked.run {
            return NextReply::Nobody;
        }
        match distribution.next(from, asked.whole, now_ns) {
            Next::Serve(hand_out) => {
                let index = self.current().filter(|index| self.run_mut(*index).run.id == asked.run);
                let Some(index) = index else { return NextReply::Nobody };
                let notification = notification(context, self.run_mut(index), &hand_out);
                NextReply::Serve(NextLeader { text: hand_out.leader.text, notification })
            }
            Next::Wait => NextReply::Wait { millis: WAIT_MS },
            Next::Nobody => NextReply::Nobody,
        }
    }
}

/// A run is over. One that failed before the order has touched nothing (CO-8).
fn end(context: &mut Context, run: &mut farmcast::ccm::model::Run, phase: Phase, text: &str) {
    (run.phase, run.text, run.finished_ns) = (phase, text.to_owned(), context.controller_ns());
    if let Some(assignment) = run.assignment.filter(|_| run.order.is_none()) {
        let touched = context.deeds.is_live_anywhere(assignment.id);
        context.check(!touched, || format!("{} failed, and is live somewhere", assignment.id));
    }
    context.trace.say(context.now, || format!("run {} is over, {phase}: {text}", run.id));
}

fn notification(context: &Context, run: &Run, hand_out: &HandOut) -> Vec<u8> {
    let notification = Notification {
        run: run.run.id,
        assignment: run.object.assignment,
        site: site(),
        group: group(),
        groups: hand_out.leader.groups,
        shape: run.object.shape,
        leader: hand_out.leader.node,
        source: match hand_out.source {
            Source::Controller => "192.168.0.1:80".parse().expect("an address"),
            Source::Leader(http) => http,
        },
        others: Vec::new(),
        forward: Forwarding::Whole,
        last: hand_out.last,
        quorum: None,
        bounds: Default::default(),
        expires: u64::MAX,
    };
    notification.sign(&context.keys.director)
}
