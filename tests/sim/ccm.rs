//! A small CCM: who leads where by the segment reports, one run at a time, orders once all have staged.
//!
//! It believes reports by the rules of `ccm/db/segments.rs` and repeats documents to leaders as
//! `ccm/execute/delivery.rs` does, notifications as well.

use crate::groups::Lists;
use crate::node::{DATAGRAM, HTTP, TEXT, WALL_START, address, site};
use crate::object::Object;
use crate::queue::{Document, Event};
use crate::world::Context;
use farmcast::time::{Duration, Instant};
use farmcast::wire::control::Peer;
use farmcast::wire::id::{Epoch, ListNumber, Name, NodeId, OrderId, RunId};
use farmcast::wire::notify::{NextLeader, NextRequest, Notification, Seek, UplinkBody};
use farmcast::wire::order::{Action, Order};
use farmcast::wire::problem::Problem;
use farmcast::wire::report::{Outcome, RunReport, SegmentReport, StatusReport, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A leader that says nothing for so long is not believed to lead any more.
pub const SEGMENT_TIMEOUT: Duration = Duration::from_secs(10);
const SEEKS: Duration = Duration::from_secs(20);
pub const TICK: Duration = Duration::from_millis(100);
const REPEAT: Duration = Duration::from_secs(2);
/// How long the second segment waits for the first to hand on.
const LEASE: Duration = Duration::from_secs(3);
const COMMIT_LEAD: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct Segment {
    name: Name,
    leader: Option<usize>,
    epoch: Epoch,
    reported: Instant,
    members: BTreeSet<NodeId>,
    /// When its leader is told again of the run, and whom that was told to.
    tell_at: Instant,
    told: Option<usize>,
}

#[derive(Debug)]
pub struct Run {
    pub id: RunId,
    pub object: Rc<Object>,
    pub expected: BTreeSet<NodeId>,
    pub staged: BTreeSet<NodeId>,
    pub live: BTreeMap<NodeId, u64>,
    pub failed: BTreeMap<NodeId, String>,
    pub missing: BTreeSet<NodeId>,
    published: Instant,
    order: Option<(OrderId, u64, Vec<u8>)>,
    /// Segments that may be told: the first at once, the others when a leader asks.
    open: usize,
}

#[derive(Debug)]
pub struct Ccm {
    ids: Vec<NodeId>,
    segments: Vec<Segment>,
    runs: Vec<Run>,
    orders: u64,
    pub lists: Lists,
    /// Sessions that ended without their quorum, as leaders told.
    pub problems: Vec<Problem>,
    /// Nodes that looked for their segment of late.
    seekers: BTreeMap<usize, (Name, Instant)>,
}

/// What a node is answered.
#[derive(Debug)]
pub enum Answer {
    Taken,
    /// Another leads.
    Refused,
    Next(Option<NextLeader>),
    Peers(Vec<Peer>),
    /// The newest list of content groups.
    Groups(Vec<u8>),
}

impl Ccm {
    pub fn new(ids: Vec<NodeId>, names: impl IntoIterator<Item = Name>) -> Self {
        let segment = |name| Segment {
            name,
            leader: None,
            epoch: Epoch(0),
            reported: Instant::ZERO,
            members: BTreeSet::new(),
            tell_at: Instant::ZERO,
            told: None,
        };
        Self {
            ids,
            segments: names.into_iter().map(segment).collect(),
            runs: Vec::new(),
            orders: 0,
            lists: Lists::default(),
            problems: Vec::new(),
            seekers: BTreeMap::new(),
        }
    }

    /// The run that is under way, or the last one.
    pub fn run(&self) -> Option<&Run> {
        self.runs.last()
    }

    pub fn leader(&self, segment: usize) -> Option<usize> {
        self.segments[segment].leader
    }

    pub fn known(&self) -> BTreeSet<NodeId> {
        self.segments.iter().flat_map(|segment| segment.members.iter().copied()).collect()
    }

    /// Begins a run for all nodes that are online; what ran before is over.
    pub fn publish(&mut self, now: Instant, object: Rc<Object>) {
        let id = RunId(self.runs.len() as u64 + 1);
        self.runs.push(Run {
            id,
            object,
            expected: self.known(),
            staged: BTreeSet::new(),
            live: BTreeMap::new(),
            failed: BTreeMap::new(),
            missing: BTreeSet::new(),
            published: now,
            order: None,
            open: 1,
        });
        for segment in &mut self.segments {
            (segment.tell_at, segment.told) = (now, None);
        }
    }

    /// A post of a node, and the answer.
    pub fn on_post(&mut self, context: &mut Context, from: usize, body: &UplinkBody) -> Answer {
        match body {
            UplinkBody::Segment(report) => self.on_segment(context, from, report),
            UplinkBody::Run(report) => {
                self.on_report(context, report);
                Answer::Taken
            }
            UplinkBody::Problem(problem) => {
                self.problems.push(problem.clone());
                Answer::Taken
            }
            UplinkBody::Next(request) => Answer::Next(self.next_leader(context, from, *request)),
            UplinkBody::Seek(seek) => Answer::Peers(self.on_seek(context.now, from, seek)),
        }
    }

    /// Who is in a segment: its leader, others that ask, members.
    fn on_seek(&mut self, now: Instant, from: usize, seek: &Seek) -> Vec<Peer> {
        self.seekers.retain(|_, (_, at)| now.since(*at) < SEEKS);
        self.seekers.insert(from, (seek.segment.clone(), now));
        let segment = self.segments.iter().find(|segment| segment.name == seek.segment);
        let members = segment.into_iter().flat_map(|segment| &segment.members);
        let members = members.filter_map(|id| self.ids.iter().position(|other| other == id));
        let seekers = self.seekers.iter().filter(|(_, (name, _))| *name == seek.segment);
        let all = segment.and_then(|segment| segment.leader).into_iter();
        let all = all.chain(seekers.map(|(node, _)| *node)).chain(members).filter(|node| *node != from);
        all.map(|node| Peer { node: self.ids[node], datagram: address(node, DATAGRAM) }).collect()
    }

    fn on_segment(&mut self, context: &Context, from: usize, report: &SegmentReport) -> Answer {
        let now = context.now;
        let of_it = |segment: &Segment| segment.name == report.segment;
        let Some(index) = self.segments.iter().position(of_it) else { return Answer::Refused };
        let segment = &mut self.segments[index];
        let silent = now.since(segment.reported) > SEGMENT_TIMEOUT;
        let other = segment.leader.is_some_and(|leader| leader != from);
        if !silent && (report.epoch < segment.epoch || (report.epoch == segment.epoch && other)) {
            return Answer::Refused;
        }
        (segment.leader, segment.epoch, segment.reported) = (Some(from), report.epoch, now);
        segment.members = report.members.iter().map(farmcast::wire::control::Profile::node).collect();
        if segment.told != Some(from) {
            segment.tell_at = now;
        }
        self.lists.refresh(&context.keys.director, index, segment.members.iter().copied());
        let leader = report.members.iter().find(|member| member.node() == self.ids[from]);
        let known = leader.map_or(ListNumber(0), |leader| leader.groups);
        self.lists.newer(index, known).map_or(Answer::Taken, Answer::Groups)
    }

    fn on_report(&mut self, context: &mut Context, report: &RunReport) {
        let Some(run) = self.runs.last_mut().filter(|run| run.id == report.subject.run()) else { return };
        run.missing = report.missing.iter().copied().collect();
        for bytes in &report.reports {
            let report = StatusReport::peek(bytes).expect("nodes sign whole reports");
            match (report.subject, report.outcome) {
                (Subject::Assignment { .. }, Outcome::Staged) => {
                    run.failed.remove(&report.node);
                    run.staged.insert(report.node);
                }
                (Subject::Order { .. }, Outcome::Switched { at }) => {
                    let ordered = run.order.is_some();
                    context.check(ordered, || format!("{} switched before the order", report.node));
                    run.failed.remove(&report.node);
                    run.live.entry(report.node).or_insert(at);
                }
                (_, Outcome::Failed { reason, text }) => {
                    run.failed.insert(report.node, format!("{reason}: {text}"));
                }
                (subject, outcome) => {
                    context.check(false, || format!("{outcome:?} is no answer to {subject:?}"));
                }
            }
        }
        if run.order.is_none() && !run.expected.is_empty() && run.expected.is_subset(&run.staged) {
            self.commit(context);
        }
    }

    fn commit(&mut self, context: &mut Context) {
        self.orders += 1;
        let (id, now) = (OrderId(self.orders), context.now);
        let at = WALL_START + now.as_nanos() + COMMIT_LEAD.as_nanos();
        let Some(run) = self.runs.last_mut() else { return };
        let assignment = run.object.assignment;
        let action = Action::Commit { assignment };
        let order = Order { order: id, run: run.id, site: site(), action, at: Some(at), expires: u64::MAX };
        run.order = Some((id, at, order.sign(&context.keys.director)));
        run.failed.clear();
        context.orders.insert(id, (assignment, now));
        context.trace.say(now, || format!("the CCM orders the switch to {assignment}"));
        for segment in &mut self.segments {
            segment.tell_at = now;
        }
    }

    /// Tells leaders what they have to be told.
    pub fn tick(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(run) = self.runs.last_mut() else { return };
        if now >= run.published + LEASE {
            run.open = self.segments.len();
        }
        let done = run.expected.iter().all(|node| run.live.contains_key(node));
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let Some(leader) = segment.leader else { continue };
            if done || now < segment.tell_at || (index >= run.open && run.order.is_none()) {
                continue;
            }
            segment.tell_at = now + REPEAT;
            segment.told = Some(leader);
            let document = match &run.order {
                Some((_, _, bytes)) => Document::Order(bytes.clone()),
                None => {
                    let list = self.lists.number(index);
                    Document::Notification(notification(context, run, self.ids[leader], list, None))
                }
            };
            let at = now + context.delay();
            context.queue.push(at, Event::Document { node: leader, document, from: None });
        }
    }

    /// A leader took the document, or did not.
    pub fn on_told(&mut self, now: Instant, node: usize, taken: bool) {
        if taken {
            return;
        }
        for segment in self.segments.iter_mut().filter(|segment| segment.leader == Some(node)) {
            segment.tell_at = now + TICK;
        }
    }

    fn next_leader(&mut self, context: &mut Context, from: usize, asked: NextRequest) -> Option<NextLeader> {
        let run = self.runs.last_mut().filter(|run| run.id == asked.run)?;
        if run.open >= self.segments.len() {
            return None;
        }
        let leader = self.segments[run.open].leader?;
        let list = self.lists.number(run.open);
        run.open += 1;
        let (segment, id) = (&mut self.segments[run.open - 1], self.ids[leader]);
        // Told by the one who asks; if that fails, by the CCM after a while.
        (segment.tell_at, segment.told) = (context.now + REPEAT, Some(leader));
        let notification = notification(context, run, id, list, Some(from));
        Some(NextLeader { text: address(leader, TEXT), notification })
    }
}

fn notification(
    context: &Context,
    run: &Run,
    leader: NodeId,
    groups: ListNumber,
    source: Option<usize>,
) -> Vec<u8> {
    let notification = Notification {
        run: run.id,
        assignment: run.object.assignment,
        site: site(),
        group: Name::new("web").expect("a good name"),
        groups,
        shape: run.object.shape,
        leader,
        source: source.map_or_else(|| "10.9.9.9:80".parse().expect("an address"), |node| address(node, HTTP)),
        last: false,
        quorum: None,
        expires: u64::MAX,
    };
    notification.sign(&context.keys.director)
}
