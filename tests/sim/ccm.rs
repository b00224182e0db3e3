//! The simulated controller: what it has written down of segments, nodes and runs, and how it takes in what
//! leaders say. It believes by the rules of `ccm/db/segments.rs`, counts reports by `ccm/rollout.rs`, and
//! leaves all decisions to the real planners, which `execute.rs` drives.

use crate::execute::{Deliveries, ORDER_LIFE_S};
use crate::groups::Lists;
use crate::node::site;
use crate::object::Object;
use crate::world::Context;
use farmcast::ccm::api::types::Phase;
use farmcast::ccm::distribute::Distribution;
use farmcast::ccm::model::{Assignment, IssuedOrder, JobKind, NodeState, RunNode, SEGMENT_TIMEOUT_NS};
use farmcast::ccm::{model, rollout};
use farmcast::time::{Duration, Instant};
use farmcast::wire::assignment::Kind;
use farmcast::wire::control::{Peer, Profile as Member};
use farmcast::wire::id::{AssignmentId, Epoch, JobId, ListNumber, Name, NodeId, OrderId, RunId};
use farmcast::wire::notify::{NextReply, Seek, UplinkBody};
use farmcast::wire::order::{Action, Order};
use farmcast::wire::problem::Problem;
use farmcast::wire::report::{Outcome, RunReport, SegmentReport, StatusReport, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// A leader that says nothing for so long is not believed to lead any more.
pub const SEGMENT_TIMEOUT: Duration = Duration::from_nanos(SEGMENT_TIMEOUT_NS);

const SEEKS: Duration = Duration::from_secs(20);

/// What a node is answered.
#[derive(Debug)]
pub enum Answer {
    Taken,
    /// Another leads.
    Refused,
    Next(NextReply),
    Peers(Vec<Peer>),
    /// The newest list of content groups.
    Groups(Vec<u8>),
}

/// A segment, as its leader reported it last.
#[derive(Debug)]
pub struct Segment {
    leader: Option<NodeId>,
    epoch: Epoch,
    reported: Instant,
}

/// A node, as it stood in a report last.
#[derive(Clone, Debug)]
pub struct Seen {
    pub segment: Name,
    pub online: bool,
    pub at: Instant,
    pub member: Member,
}

#[derive(Debug)]
pub struct Run {
    pub run: model::Run,
    pub nodes: Vec<RunNode>,
    pub object: Rc<Object>,
}

#[derive(Debug)]
pub struct Ccm {
    pub(crate) segments: BTreeMap<Name, Segment>,
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    runs: Vec<Run>,
    pub lists: Lists,
    /// Nodes that looked for their segment of late: which, where they are, and when.
    seekers: BTreeMap<NodeId, (Name, SocketAddr, Instant)>,
    /// Sessions that ended without their quorum, as leaders told.
    pub problems: Vec<Problem>,
    pub(crate) orders: u64,
    /// It does not give up a run whose nodes are late: what would be called lost must come all the same, or
    /// the machines would live on being given up.
    pub patient: bool,
    // What a crash takes with it.
    pub(crate) distribution: Option<(RunId, Distribution)>,
    pub(crate) deliveries: Deliveries,
    pub(crate) started: Instant,
    pub(crate) down_until: Instant,
    pub(crate) turns: bool,
}

impl Ccm {
    pub const fn new() -> Self {
        Self {
            segments: BTreeMap::new(),
            seen: BTreeMap::new(),
            runs: Vec::new(),
            lists: Lists::new(),
            seekers: BTreeMap::new(),
            problems: Vec::new(),
            orders: 0,
            patient: false,
            distribution: None,
            deliveries: Deliveries::new(),
            started: Instant::ZERO,
            down_until: Instant::ZERO,
            turns: false,
        }
    }

    /// Killed, and started again after the span: only what it wrote down stays.
    pub fn crash(&mut self, now: Instant, span: Duration) {
        (self.distribution, self.deliveries) = (None, Deliveries::new());
        self.seekers.clear();
        (self.down_until, self.started) = (now + span, now + span);
    }

    pub fn is_up(&self, now: Instant) -> bool {
        now >= self.down_until
    }

    /// The run that is under way, or the last one.
    pub fn run(&self) -> Option<&Run> {
        self.current().map(|index| &self.runs[index]).or(self.runs.last())
    }

    pub fn last_run(&self) -> Option<&Run> {
        self.runs.last()
    }

    pub fn is_idle(&self) -> bool {
        self.current().is_none()
    }

    /// One run at a time, in the order in which they were asked for.
    pub(crate) fn current(&self) -> Option<usize> {
        self.runs.iter().position(|run| !run.run.phase.is_over())
    }

    pub(crate) fn run_mut(&mut self, index: usize) -> &mut Run {
        &mut self.runs[index]
    }

    pub fn leader(&self, segment: &Name, now: Instant) -> Option<NodeId> {
        let segment = self.segments.get(segment)?;
        segment.leader.filter(|_| now.since(segment.reported) <= SEGMENT_TIMEOUT)
    }

    /// Nodes that are online.
    pub fn known(&self, now: Instant) -> BTreeSet<NodeId> {
        self.seen.iter().filter(|(_, seen)| self.is_online(seen, now)).map(|(node, _)| *node).collect()
    }

    pub(crate) fn is_online(&self, seen: &Seen, now: Instant) -> bool {
        seen.online && self.leader(&seen.segment, now).is_some()
    }

    /// An operator asks for a run.
    pub fn publish(&mut self, now_ns: u64, assignment: AssignmentId, object: Rc<Object>) {
        let shape = object.shape;
        let order = object.order.as_ref().map(|order| IssuedOrder {
            id: order.order,
            bytes: Vec::new(),
            action: order.action,
            at_ns: now_ns,
        });
        let composed =
            Assignment { id: assignment, kind: Kind::Replicate, base: None, shape, composed_ns: 0 };
        let run = model::Run {
            id: RunId(self.runs.len() as u64 + 1),
            job: JobId(self.runs.len() as u64 + 1),
            kind: JobKind::Publish { checksum: false },
            site: site(),
            only: Vec::new(),
            phase: Phase::Queued,
            text: String::new(),
            created_ns: now_ns,
            started_ns: 0,
            finished_ns: 0,
            composition: None,
            assignment: Some(composed),
            parts: model::Parts::default(),
            order,
            terms: model::Terms::default(),
        };
        self.runs.push(Run { run, nodes: Vec::new(), object });
    }

    /// The order that travels inside what is published next, as `ccm/permission.rs`.
    pub fn permission(&mut self, context: &mut Context, assignment: AssignmentId) -> Order {
        self.orders += 1;
        let (order, run) = (OrderId(self.orders), RunId(self.runs.len() as u64 + 1));
        context.orders.insert(order, (assignment, context.now));
        let expires = context.controller_ns() / 1_000_000_000 + ORDER_LIFE_S;
        Order { order, run, site: site(), action: Action::Commit { assignment }, at: None, expires }
    }

    /// A post of a node, and the answer.
    pub fn on_post(&mut self, context: &mut Context, from: NodeId, body: &UplinkBody) -> Answer {
        match body {
            UplinkBody::Segment(report) => return self.on_segment(context, from, report),
            UplinkBody::Run(report) => self.on_report(context, from, report),
            UplinkBody::Problem(problem) => self.on_problem(context, from, problem),
            UplinkBody::Next(request) => return Answer::Next(self.next_leader(context, from, *request)),
            UplinkBody::Key(_) => {}
            UplinkBody::Seek(seek) => return Answer::Peers(self.on_seek(context.now, from, seek)),
        }
        Answer::Taken
    }

    /// Who is in a segment: its leader, others that ask, members.
    fn on_seek(&mut self, now: Instant, from: NodeId, seek: &Seek) -> Vec<Peer> {
        self.seekers.retain(|_, (_, _, at)| now.since(*at) < SEEKS);
        self.seekers.insert(from, (seek.segment.clone(), seek.datagram, now));
        let leader = self.leader(&seek.segment, now).and_then(|node| Some((node, self.seen.get(&node)?)));
        let leader = leader.map(|(node, seen)| Peer { node, datagram: seen.member.datagram });
        let seekers = self.seekers.iter().filter(|(_, (segment, ..))| *segment == seek.segment);
        let seekers = seekers.map(|(node, (_, datagram, _))| Peer { node: *node, datagram: *datagram });
        let members = self.seen.iter().filter(|(_, seen)| seen.segment == seek.segment);
        let members = members.map(|(node, seen)| Peer { node: *node, datagram: seen.member.datagram });
        leader.into_iter().chain(seekers).chain(members).filter(|peer| peer.node != from).collect()
    }

    fn on_segment(&mut self, context: &Context, from: NodeId, report: &SegmentReport) -> Answer {
        let now = context.now;
        let known = self.segments.get(&report.segment);
        let believed = known.and_then(|known| Some((self.leader(&report.segment, now)?, known.epoch)));
        if let Some((leader, epoch)) = believed
            && (report.epoch < epoch || (report.epoch == epoch && leader != from))
        {
            return Answer::Refused;
        }
        let segment = Segment { leader: Some(from), epoch: report.epoch, reported: now };
        self.segments.insert(report.segment.clone(), segment);
        for seen in self.seen.values_mut().filter(|seen| seen.segment == report.segment) {
            seen.online = false;
        }
        for member in &report.members {
            let seen =
                Seen { segment: report.segment.clone(), online: true, at: now, member: member.clone() };
            self.seen.insert(member.node(), seen);
        }
        let nodes = report.members.iter().map(Member::node);
        self.lists.refresh(&context.keys.director, &report.segment, nodes);
        let leader = report.members.iter().find(|member| member.node() == from);
        let known = leader.map_or(ListNumber(0), |leader| leader.groups);
        self.lists.newer(&report.segment, known).map_or(Answer::Taken, Answer::Groups)
    }

    fn on_report(&mut self, context: &mut Context, from: NodeId, report: &RunReport) {
        let now_ns = context.controller_ns();
        let leads = self.leader(&report.segment, context.now) == Some(from);
        let Some(run) = self.runs.iter_mut().find(|run| run.run.id == report.subject.run()) else { return };
        if run.run.phase.is_over() {
            return;
        }
        let Run { run, nodes, object } = run;
        for bytes in &report.reports {
            let said = StatusReport::peek(bytes).expect("nodes sign whole reports");
            check_truth(context, &said, object);
            if let Some(node) = nodes.iter_mut().find(|node| node.node == said.node) {
                rollout::note_report(run, node, &said.subject, &said.outcome, now_ns);
            }
        }
        for missing in report.missing.iter().filter(|_| leads) {
            if let Some(node) = nodes.iter_mut().find(|node| node.node == *missing) {
                rollout::note_missing(run, node, "did not answer its leader", now_ns);
            }
        }
    }

    /// A session ended without its quorum: what the nodes report themselves decides.
    fn on_problem(&mut self, context: &Context, from: NodeId, problem: &Problem) {
        let leads = self.leader(&problem.segment, context.now) == Some(from);
        let runs = self.runs.iter_mut().filter(|run| run.run.id == problem.run && !run.run.phase.is_over());
        for run in runs.filter(|_| leads) {
            let told = rollout::note_problem(&mut run.nodes, problem);
            context.trace.say(context.now, || format!("the CCM hears of {}: {told}", run.run.id));
            self.problems.push(problem.clone());
        }
    }

    /// Whether all nodes of a run are in this state.
    pub fn all(run: &Run, state: NodeState) -> bool {
        run.nodes.iter().all(|node| node.state == state)
    }
}

/// A node reports what it did, and nothing else (H-1).
fn check_truth(context: &mut Context, said: &StatusReport, object: &Object) {
    let (node, assignment, alone) = (said.node, object.assignment, object.order.is_some());
    let true_word = match (said.subject, &said.outcome) {
        (Subject::Assignment { assignment, .. }, Outcome::Staged) => {
            !alone && context.deeds.has_staged(node, assignment)
        }
        (Subject::Order { .. }, Outcome::Switched { .. }) => context.deeds.has_switched(node, assignment),
        // It goes live by the order within, and only by that.
        (Subject::Assignment { assignment, .. }, Outcome::Switched { .. }) => {
            alone && context.deeds.has_switched(node, assignment)
        }
        (_, Outcome::Failed { .. }) => true,
        (Subject::Order { .. }, Outcome::Staged) => false,
    };
    context.check(true_word, || format!("{node} reports what it did not do: {said:?}"));
}
