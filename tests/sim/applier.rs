//! The stand-in of a node's applier: one request after the other, each takes its time, and what is staged
//! and live outlives every crash. It refuses what the real one refuses (`applier/apply.rs`,
//! `content/site.rs`), and waits for the instant of an order as that does.

use crate::disk::Health;
use crate::node::Node;
use crate::queue::Input;
use crate::world::Context;
use farmcast::time::Duration;
use farmcast::wire::assignment::Shape;
use farmcast::wire::id::{AssignmentId, OrderId, RunId};
use farmcast::wire::order::Order;
use farmcast::wire::report::{Outcome, Reason, Subject};
use std::collections::VecDeque;

/// Orders for an instant further ahead are refused.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What a slow disk adds to a step at most.
const SLOW_MAX: Duration = Duration::from_secs(4);
/// Syncing the switch.
const SYNC: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub enum Request {
    Stage {
        run: RunId,
        assignment: AssignmentId,
        shape: Shape,
        /// The CCM's clock minus this machine's monotonic one, as net knew it then.
        offset_ns: i64,
    },
    Order {
        order: Order,
        offset_ns: i64,
    },
}

/// What it is at.
#[derive(Clone, Debug)]
enum Step {
    Staging(Request),
    /// For the instant of the order; whoever asked is answered on this.
    Waiting(Order, i64, Subject),
    /// The exchange is done, or was before, and the answer is on its way.
    Answering(Subject, Outcome),
}

#[derive(Debug, Default)]
pub struct Applier {
    queue: VecDeque<Request>,
    step: Option<(u64, Step)>,
    /// In `temp`, ready to be switched.
    pub staged: Option<AssignmentId>,
    pub live: Option<AssignmentId>,
    /// The last order that was carried out.
    last: OrderId,
}

impl Applier {
    /// It ends with its node; what is on the disk stays.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.step = None;
    }
}

impl Node {
    pub fn ask_applier(&mut self, context: &mut Context, request: Request) {
        self.applier.queue.push_back(request);
        self.go_on(context);
    }

    /// The step with this serial number has come to its end.
    pub fn on_applier(&mut self, context: &mut Context, serial: u64) {
        let Some((_, step)) = self.applier.step.take_if(|(current, _)| *current == serial) else { return };
        match step {
            Step::Staging(Request::Stage { run, assignment, shape, offset_ns }) => {
                let outcome = self.staged(context, assignment, &shape);
                let subject = Subject::Assignment { run, assignment };
                match context.object(&shape.name).order.clone() {
                    Some(order) if outcome == Outcome::Staged => {
                        self.prepare(context, order, offset_ns, subject);
                    }
                    _ => self.report(context, subject, outcome),
                }
            }
            Step::Staging(Request::Order { .. }) => {}
            Step::Waiting(order, offset_ns, subject) => self.exchange(context, &order, offset_ns, subject),
            Step::Answering(subject, outcome) => {
                if matches!(outcome, Outcome::Switched { .. }) {
                    self.measure(context);
                }
                self.report(context, subject, outcome);
            }
        }
        self.go_on(context);
    }

    /// Begins with the next request if none is under way.
    fn go_on(&mut self, context: &mut Context) {
        if self.applier.step.is_some() {
            return;
        }
        let Some(request) = self.applier.queue.pop_front() else { return };
        match request {
            Request::Stage { assignment, .. } => {
                let there = self.applier.staged == Some(assignment) || self.applier.live == Some(assignment);
                let takes = if there {
                    Duration::ZERO
                } else {
                    self.applier.staged = None;
                    context.deeds.unstaged(self.id());
                    self.staging + Duration::from_nanos(context.rng.below(self.staging.as_nanos()))
                };
                self.begin(context, takes, Step::Staging(request));
            }
            Request::Order { order, offset_ns } => {
                let subject = Subject::Order { run: order.run, order: order.order };
                self.prepare(context, order, offset_ns, subject);
            }
        }
    }

    fn begin(&mut self, context: &mut Context, takes: Duration, step: Step) {
        let slow = if self.disk.health == Health::Slow { context.rng.below(SLOW_MAX.as_nanos()) } else { 0 };
        let waits = matches!(step, Step::Waiting(..));
        let takes = takes + Duration::from_nanos(if waits { 0 } else { slow });
        let serial = context.serial();
        self.applier.step = Some((serial, step));
        context.push_local(self, context.now + takes, Input::Applier(serial));
    }

    fn staged(&mut self, context: &mut Context, assignment: AssignmentId, shape: &Shape) -> Outcome {
        let failed = |reason, text: &str| Outcome::Failed { reason, text: text.to_owned() };
        match self.disk.health {
            Health::Full => return failed(Reason::NoSpace, "the disk is full"),
            Health::Broken => return failed(Reason::System, "the disk fails"),
            Health::Fine | Health::Slow => {}
        }
        if self.applier.live != Some(assignment) {
            let equal = self.disk.equals(&context.object(&shape.name));
            context.check(equal, || format!("n{} is to stage {assignment} with other content", self.index));
            self.applier.staged = Some(assignment);
        }
        context.deeds.staged(self.id(), assignment);
        Outcome::Staged
    }

    fn prepare(&mut self, context: &mut Context, order: Order, offset_ns: i64, subject: Subject) {
        let issued = context.orders.get(&order.order).is_some_and(|(_, at)| *at <= context.now);
        context.check(issued, || format!("n{} carries out an order that nobody gave", self.index));
        let assignment = order.action.assignment();
        let last = self.applier.last;
        let now = context.now.as_nanos().saturating_add_signed(offset_ns);
        let wait = Duration::from_nanos(order.at.unwrap_or(0).saturating_sub(now));
        let failed = |reason, text: String| Outcome::Failed { reason, text };
        let outcome = if now / 1_000_000_000 > order.expires && order.order != last {
            failed(Reason::OldOrder, "the order has expired".to_owned())
        } else if wait > WAIT_MAX {
            failed(Reason::System, format!("its instant is {wait} ahead"))
        } else if order.order < last || (order.order == last && self.applier.live != Some(assignment)) {
            failed(Reason::OldOrder, format!("{last} was carried out"))
        } else if self.applier.live == Some(assignment) {
            self.applier.last = order.order;
            Outcome::Switched { at: now }
        } else if self.applier.staged != Some(assignment) {
            failed(Reason::NotStaged, format!("{assignment} is not staged, {:?} is", self.applier.staged))
        } else if self.disk.health == Health::Broken {
            failed(Reason::System, "recording the intent to switch".to_owned())
        } else {
            return self.begin(context, wait, Step::Waiting(order, offset_ns, subject));
        };
        self.begin(context, Duration::ZERO, Step::Answering(subject, outcome));
    }

    /// The one system call by which readers find the new tree; what comes after may be cut short, and the
    /// journal finishes it.
    fn exchange(&mut self, context: &mut Context, order: &Order, offset_ns: i64, subject: Subject) {
        let assignment = order.action.assignment();
        let ordered = context.orders.get(&order.order).is_some_and(|(of, _)| *of == assignment);
        context.check(ordered, || format!("n{} switches to {assignment} without an order", self.index));
        let staged = self.applier.staged.take();
        context.check(staged == Some(assignment), || {
            format!("n{} switches to {assignment}, but {staged:?} is staged", self.index)
        });
        (self.applier.live, self.applier.last) = (Some(assignment), order.order);
        context.deeds.switched(self.id(), assignment, context.now);
        let at = context.now.as_nanos().saturating_add_signed(offset_ns);
        let takes = Duration::from_nanos(context.rng.below(SYNC.as_nanos()));
        self.begin(context, takes, Step::Answering(subject, Outcome::Switched { at }));
    }
}
