//! The sending side of a session: what to announce, which frames to send, when it is over (LD-1..LD-20).
//!
//! ```text
//!  Opening --(answers awaited)--> Sending --(plan sent)--> Asking --(nothing lacks)--> Closing --> Over
//!     |                              ^                       |                            ^
//!     |                              +------- lacks ---------+                            |
//!     +------------------------- all hold the object already (LD-8) ----------------------+
//! ```
//! An assignment that fits in one block begins with Sending: it takes no session to be opened (LD-4). Where
//! members tell unasked what they lack, the pass that runs repairs it at once, or the next one, which then
//! follows without a question (LD-15, LD-16).
//!
//! What a pass sends is the subject of `plan`, at which pace that of `rate`, who is done that of `members`.
//! Nobody waits for a member that is silent while others lack something (LD-25).

use super::arrivals::expand;
use super::members::{Allowance, Members, Patience, Status};
use super::plan::{Effort, Plan};
use super::rate::{Rate, RateConfig};
use super::share::Share;
use super::suppress::Suppress;
use super::window::{COUNTED_MAX, Window};
use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use crate::wire::nack::Nack;
use crate::wire::problem::Straggler;
use crate::wire::quorum::Quorum;
use crate::wire::session::{
    Announce, FRAME_OVERHEAD, IP_UDP_OVERHEAD, Phase, Progress, RATE_MAX, Repair, RepairWhen, SPREAD_MAX_MS,
};

/// Frames of one batch at most: with frames of 1,500 bytes they fill one 64 KiB send.
pub const BATCH_MAX: u16 = 44;

/// Questions left unanswered after which a member is no longer waited for while others lack something.
const PARDON: u8 = 2;
/// How often the wait for silent members is doubled.
const IDLE_DOUBLINGS: u8 = 3;
/// Least milliseconds between two lists of a member that tells of gaps at once.
const IMMEDIATE_MS: u16 = 10;
/// A member that lost more of a pass than this came late; it says nothing about the link.
const LATE: f64 = 0.6;

/// A session sends its object so often at most, and so many frames more, for small objects.
const OBJECTS_MAX: u64 = 8;
const SMALL_MAX: u64 = 2_048;

/// How a leader behaves in every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderConfig {
    pub rate: RateConfig,
    /// Announcements of the opening; members prepare their spool meanwhile.
    pub open_count: u8,
    /// Least time between them.
    pub open_interval: Duration,
    /// Between announcements while frames are sent, for those who missed the opening or came late.
    pub announce_interval: Duration,
    /// Added to the spread of answers: the way there and back, and a member's busy moment.
    pub answer_margin: Duration,
    /// How long a member may be silent before it counts as missing.
    pub patience: Patience,
    /// Passes without progress after which a member is given up (LD-20).
    pub tries_max: u16,
    /// Members that must have everything before the session may end without the others (LD-19).
    pub quorum: Quorum,
    pub repair: Repair,
    pub repair_when: RepairWhen,
    /// Between two lists of a member in a session that repairs by time; more where members are many.
    pub nack_interval: Duration,
    /// What one member may cause.
    pub allowance: Allowance,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            rate: RateConfig::default(),
            open_count: 3,
            open_interval: Duration::from_millis(10),
            announce_interval: Duration::from_millis(100),
            answer_margin: Duration::from_millis(30),
            patience: Patience { questions: 10, span: Duration::from_secs(2) },
            tries_max: 10,
            quorum: Quorum::All,
            repair: Repair::Parity,
            repair_when: RepairWhen::Immediate,
            nack_interval: Duration::from_millis(100),
            allowance: Allowance { lists_per_second: 100, objects: 4, frames: 256 },
        }
    }
}

/// Milliseconds over which so many members spread their answers (LD-13): about 4,000 answers a second,
/// up to a second.
pub fn spread_ms(members: usize) -> u16 {
    (5 + members / 4).min(SPREAD_MAX_MS.into()) as u16
}

/// Least milliseconds between two lists of one member while a pass runs; 0 where it waits to be asked.
fn nack_ms(config: &SenderConfig, spread_ms: u16) -> u16 {
    let least = spread_ms.saturating_mul(2);
    match config.repair_when {
        RepairWhen::PassEnd => 0,
        RepairWhen::Immediate => least.max(IMMEDIATE_MS),
        RepairWhen::Timed => {
            least.max(u16::try_from(config.nack_interval.as_millis()).unwrap_or(u16::MAX)).max(1)
        }
    }
}

/// Consecutive frames of a block, either all source frames, from the object's file, or all parity frames,
/// computed by `fec::parity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRun {
    pub block: u32,
    pub first_index: u16,
    /// 1..=[`BATCH_MAX`].
    pub count: u16,
    pub pass: u16,
    /// The first frame's `sent`; each further one is one more.
    pub sent_first: u32,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sign and multicast.
    Announce(Announce),
    /// Multicast these frames, then poll again.
    Frames(FrameRun),
    /// The session is over; the machine is spent.
    Done(Finish),
}

/// How a session ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Members that hold every block.
    pub complete: Vec<NodeId>,
    /// Members that gave up (no space, say).
    pub failed: Vec<NodeId>,
    /// Members that fell silent, made no progress or left (LD-20); they finish by unicast.
    pub missing: Vec<NodeId>,
    /// Members that took part to the end, and how many of them it took (LD-19).
    pub participants: u32,
    pub needed: u32,
    /// Those of them that do not have everything, and what each lacks.
    pub stragglers: Vec<Straggler>,
    pub passes: u16,
    pub frames_sent: u64,
    /// Those of passes 2 and later.
    pub repair_frames: u64,
    pub nacks: u32,
    /// Bytes per second at the end: a good start for the next session with these members.
    pub rate: u64,
}

impl Finish {
    /// Enough members have everything.
    pub fn reached_quorum(&self) -> bool {
        self.complete.len() as u64 >= u64::from(self.needed)
    }
}

/// Where a session stands, for people and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub pass: u16,
    pub frames_sent: u64,
    /// Those of passes 2 and later.
    pub repair_frames: u64,
    /// Source frames of the whole object.
    pub source_frames: u64,
    /// Bytes per second.
    pub rate: u64,
    pub members: u32,
    pub complete: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next announcement or, when none is left, the first pass is due at `next`.
    Opening {
        left: u8,
        next: Instant,
    },
    Sending {
        announce: Instant,
    },
    /// The question is repeated once at `again`, for it may get lost; answers count until `until`. From `most`
    /// on those of most members are enough to go on with.
    Asking {
        again: Option<Instant>,
        most: Instant,
        until: Instant,
    },
    Closing {
        left: u8,
        next: Instant,
    },
    Over,
}

/// One session as its leader sends it.
#[derive(Clone, Debug)]
pub struct Sender {
    config: SenderConfig,
    head: Announce,
    state: State,
    members: Members,
    rate: Rate,
    window: Window,
    /// What the present pass sends, and what the next one will.
    plan: Plan,
    /// What lists that come while a pass runs may ask for; without blocks where none are asked for.
    suppress: Suppress,
    /// Frames that left. On the wire it has 32 bits, which is 6 TB of frames of 1,500 bytes.
    sent: u64,
    sent_before_pass: u64,
    repair_frames: u64,
    source_frames: u64,
    nacks: u32,
    /// Questions in a row to which nobody named a lack.
    idle: u8,
    /// Share of a pass that the worst member lost, decaying.
    loss: f64,
    /// Frames handed out before have not left yet.
    held: bool,
}

impl Sender {
    /// Opens a session, or begins to send what fits in one block at once. `head` gives session, salt, run,
    /// assignment, site, group, shape and payload; the sender fills in the rest. `participants` do not include
    /// the leader itself.
    pub fn new(now: Instant, config: SenderConfig, head: Announce, participants: &[NodeId]) -> Self {
        let spread_ms = spread_ms(participants.len());
        let frame_len = usize::from(head.payload) + FRAME_OVERHEAD + IP_UDP_OVERHEAD;
        let plan = Plan::new(head.shape, head.payload, config.repair);
        let told_early = if config.repair_when == RepairWhen::PassEnd { 0 } else { head.shape.blocks() };
        let counted = participants.len() <= COUNTED_MAX;
        let mut sender = Self {
            config,
            state: State::Opening { left: config.open_count, next: now },
            members: Members::new(participants),
            rate: Rate::new(now, config.rate, frame_len, spread_ms, participants),
            window: Window::new(now, counted, participants),
            source_frames: plan.source_frames(),
            plan,
            suppress: Suppress::new(told_early),
            sent: 0,
            sent_before_pass: 0,
            repair_frames: 0,
            nacks: 0,
            idle: 0,
            loss: 0.0,
            held: false,
            head: Announce {
                pass: 0,
                phase: Phase::Open,
                rate: 0,
                sent: 0,
                spread_ms,
                counted,
                repair: config.repair,
                repair_when: config.repair_when,
                nack_ms: nack_ms(&config, spread_ms),
                ..head
            },
        };
        if sender.head.shape.fits_one_block() && !sender.members.settled() {
            sender.plan.fill();
            sender.begin_pass(now, Effort { first: true, ..Effort::default() });
        }
        sender
    }

    /// The announcement as it would be sent now.
    pub const fn head(&self) -> &Announce {
        &self.head
    }

    pub fn standing(&self) -> Standing {
        Standing {
            pass: self.head.pass,
            frames_sent: self.sent,
            repair_frames: self.repair_frames,
            source_frames: self.source_frames,
            rate: self.rate.bytes_per_second(),
            members: self.members.total(),
            complete: self.members.count(Status::Complete),
        }
    }

    /// Takes in a member's answer, or what it tells unasked (LD-12, LD-14..LD-16).
    pub fn on_nack(&mut self, now: Instant, from: NodeId, nack: &Nack) {
        if nack.session != self.head.session || !self.members.heard(from) {
            return;
        }
        let asking = matches!(self.state, State::Asking { .. } | State::Opening { .. });
        let sending = matches!(self.state, State::Sending { .. });
        let settled = expand(self.sent, nack.seen);
        let is_new = nack.pass == self.head.pass && settled <= self.sent;
        let is_behind = self.rate.laggards().is_left(from);
        // Answers that are owed are few; what comes beside them is counted.
        let owed = asking && is_new && !is_behind && !nack.early && self.members.owes_answer(from, nack.part);
        if !owed && !self.members.allow(now, from, self.config.allowance) {
            return;
        }
        self.nacks += 1;
        if nack.failed {
            self.members.set(from, Status::Failed);
            self.forget(from);
        } else if nack.is_complete() {
            self.members.set(from, Status::Complete);
            self.forget(from);
        } else if nack.early {
            if sending && is_new && !is_behind && self.members.is_pending(from) {
                let frames = self.take_early(nack, settled);
                self.members.claim(from, frames, self.source_frames, self.config.allowance);
            }
        } else if owed {
            let lacking = self.plan.merge(nack, |_| true);
            let unnamed = if nack.part + 1 == nack.parts { self.plan.unnamed(nack) } else { 0 };
            self.members.answer(from, nack.part, nack.parts, lacking, unnamed);
            self.members.claim(from, lacking, self.source_frames, self.config.allowance);
        }
    }

    /// What a member lacks of blocks that had their turn in this pass. Returns in how many frames, without those
    /// of which it cannot know yet.
    fn take_early(&mut self, nack: &Nack, settled: u64) -> u64 {
        let suppress = &self.suppress;
        match self.config.repair_when {
            RepairWhen::PassEnd => 0,
            RepairWhen::Immediate => self.plan.merge_urgent(nack, |block| suppress.counts(block, settled)),
            RepairWhen::Timed => self.plan.merge(nack, |block| suppress.counts(block, settled)),
        }
    }

    /// Takes in a member's report of how it receives (design D5).
    pub fn on_progress(&mut self, now: Instant, from: NodeId, progress: &Progress) {
        if progress.session == self.head.session && expand(self.sent, progress.seen) <= self.sent {
            self.rate.on_progress(now, from, progress);
            self.window.on_progress(now, self.sent, from, progress);
        }
    }

    /// Ends rounds and waits that are due, and leaves behind who holds back all others (LD-25).
    fn turn(&mut self, now: Instant) {
        self.rate.turn(now, self.sent);
        self.window.set_on_links(self.rate.on_links());
        self.window.turn(now, self.sent);
        for node in self.window.slow().filter(|node| !self.rate.laggards().is_left(*node)).collect::<Vec<_>>()
        {
            self.rate.leave_behind(now, node);
        }
        for node in self.rate.laggards().left() {
            self.window.leave_behind(node);
        }
    }

    /// When all others have everything, those who were left behind get what they lack.
    fn recall_the_last(&mut self) {
        let mut left = self.rate.laggards().left().filter(|node| self.members.is_pending(*node));
        let pending = self.members.count(Status::Pending) as usize;
        if left.next().is_some() && left.count() + 1 == pending {
            self.rate.recall();
            self.window.recall();
        }
    }

    /// A member came while the session runs; it learns all from the next announcement (LD-22).
    pub fn on_member_joined(&mut self, node: NodeId) {
        self.members.join(node);
        self.rate.join(node);
        self.window.join(node, self.sent);
    }

    /// A member left or died: nobody waits for it any more.
    pub fn on_member_left(&mut self, node: NodeId) {
        self.members.leave(node);
        self.forget(node);
    }

    /// Neither rate nor window follow a member that gets nothing more.
    fn forget(&mut self, node: NodeId) {
        self.rate.leave(node);
        self.window.leave(node);
        self.recall_the_last();
    }

    /// Bytes per second that the members could take, while there is something to send.
    pub fn wants(&self) -> Option<u64> {
        let sends = matches!(self.state, State::Sending { .. }) && self.plan.has_work();
        sends.then(|| self.rate.bytes_per_second())
    }

    /// Other sessions leave no more than this; `None` while there are none.
    pub fn limit_rate(&mut self, now: Instant, share: Option<Share>) {
        self.rate.limit(now, share);
    }

    /// What an operator lets the session have; `None` where that is not bounded.
    pub fn bound_rate(&mut self, now: Instant, bytes_per_second: Option<u64>) {
        self.rate.bound(now, bytes_per_second);
    }

    /// Whether the rate was found.
    pub const fn has_found_rate(&self) -> bool {
        self.rate.is_settled()
    }

    /// It begins at a rate that others have found.
    pub const fn take_found_rate(&mut self) {
        self.rate.settle();
    }

    /// The sockets hold back frames that were handed out, or do so no more. Until they have left there is
    /// nothing to be sent, and nobody can be asked what it lacks.
    pub const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Ends the session early; whoever is not complete counts as missing.
    pub fn stop(&mut self, now: Instant) {
        if !matches!(self.state, State::Closing { .. } | State::Over) {
            self.close(now);
        }
    }

    /// The next thing to do. Call it until it returns `None`, after each input and at `next_deadline`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        loop {
            match self.state {
                State::Opening { left, next } => {
                    if self.members.settled() {
                        self.close(now);
                    } else if now < next {
                        return None;
                    } else if left > 0 {
                        let spread = Duration::from_millis(self.head.spread_ms.into());
                        let wait = self.config.open_interval.max(spread / 2);
                        self.state = State::Opening { left: left - 1, next: now + wait };
                        return Some(self.announce(Phase::Open));
                    } else {
                        // Every source frame, unless all who lack something said which blocks (LD-7).
                        if !self.members.all_known() {
                            self.plan.fill();
                        }
                        self.begin_pass(now, Effort { first: true, ..Effort::default() });
                    }
                }
                State::Sending { announce } => {
                    if self.members.settled() || self.sent >= self.costs_max() {
                        self.close(now);
                    } else if now >= announce {
                        self.state = State::Sending { announce: now + self.config.announce_interval };
                        return Some(self.announce(Phase::Open));
                    } else if self.held {
                        return None;
                    } else if !self.plan.has_work() {
                        if !self.plan.is_empty() {
                            // Members told meanwhile what they lack: nobody has to be asked (LD-15).
                            self.begin_pass(now, Effort { loss: self.loss, ..Effort::default() });
                            continue;
                        }
                        self.idle = 0;
                        return Some(self.ask(now));
                    } else {
                        self.turn(now);
                        return self.next_run(now).map(Action::Frames);
                    }
                }
                State::Asking { again, most, until } => {
                    let goes_on = now >= most && !self.plan.is_empty() && self.members.most_answered();
                    if self.members.settled() {
                        self.close(now);
                    } else if self.all_answered() || goes_on || now >= until {
                        if let Some(question) = self.conclude_pass(now) {
                            return Some(question);
                        }
                    } else if again.is_some_and(|again| now >= again) {
                        self.state = State::Asking { again: None, most, until };
                        return Some(self.announce(Phase::PassEnd));
                    } else {
                        return None;
                    }
                }
                State::Closing { left, next } => {
                    if now < next {
                        return None;
                    }
                    if left == 0 {
                        self.state = State::Over;
                        return Some(Action::Done(self.finish()));
                    }
                    let wait = self.config.open_interval;
                    self.state =
                        State::Closing { left: left - 1, next: if left > 1 { now + wait } else { now } };
                    return Some(self.announce(Phase::Close));
                }
                State::Over => return None,
            }
        }
    }

    /// When to poll again, though nothing came in.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Opening { next, .. } | State::Closing { next, .. } => Some(next),
            State::Sending { announce } if self.held => Some(announce),
            State::Sending { announce } => {
                let due = self.window.deadline().unwrap_or_else(|| self.rate.paced().ready_at(BATCH_MAX));
                Some(due.min(announce))
            }
            State::Asking { again, most, until } => {
                let most = if self.plan.is_empty() || !self.members.most_answered() { until } else { most };
                Some(again.unwrap_or(until).min(most).min(until))
            }
            State::Over => None,
        }
    }

    /// Frames after which the session is over, whoever lacks what: it is cheaper by unicast then, and no crowd of
    /// members that mean harm can make it cost more.
    const fn costs_max(&self) -> u64 {
        self.source_frames * OBJECTS_MAX + SMALL_MAX
    }

    /// While others lack something nobody waits for those who were silent before.
    fn all_answered(&self) -> bool {
        self.members.all_answered(if self.plan.is_empty() { u8::MAX } else { PARDON })
    }

    fn announce(&mut self, phase: Phase) -> Action {
        self.head.phase = phase;
        self.head.sent = self.sent as u32;
        self.head.rate = self.rate.bytes_per_second().min(RATE_MAX);
        Action::Announce(self.head.clone())
    }

    fn begin_pass(&mut self, now: Instant, effort: Effort) {
        self.head.pass += 1;
        self.sent_before_pass = self.sent;
        self.plan.begin(effort);
        self.suppress.on_pass();
        self.rate.resume(now, self.sent);
        // Whoever missed the opening would miss all of the first pass: it is told once more right before it.
        let wait = if effort.first { Duration::ZERO } else { self.config.announce_interval };
        self.state = State::Sending { announce: now + wait };
    }

    fn next_run(&mut self, now: Instant) -> Option<FrameRun> {
        let allowed = match self.rate.pace().allow(now, BATCH_MAX) {
            0 => 0,
            due => self.window.allow(now, self.sent, due),
        };
        let (stretch, is_repair) = self.plan.advance(allowed)?;
        let (block, first_index, count) = stretch;
        self.rate.spend(now, self.sent + 1, count);
        let sent_first = (self.sent + 1) as u32;
        self.sent += u64::from(count);
        self.suppress.on_sent(block, self.sent);
        if is_repair {
            self.suppress.on_repaired(block, count, self.plan.sources(block));
        }
        if is_repair || self.head.pass > 1 {
            self.repair_frames += u64::from(count);
        }
        Some(FrameRun { block, first_index, count, pass: self.head.pass, sent_first })
    }

    /// Asks all members what they lack.
    fn ask(&mut self, now: Instant) -> Action {
        self.plan.clear();
        self.members.ask();
        for node in self.rate.laggards().left() {
            self.members.excuse(node);
        }
        let spread = Duration::from_millis(self.head.spread_ms.into());
        // Whoever stays silent may be busy: it is asked at ever longer intervals. Whose answer was lost while
        // others lack something has use for the next pass as well, and is asked again behind it.
        let answers = spread + spread / 3;
        let patience = (answers + self.config.answer_margin) * (1 << self.idle.min(IDLE_DOUBLINGS));
        self.state = State::Asking {
            again: Some(now + spread / 3),
            most: now + answers + self.config.answer_margin / 4,
            until: now + patience,
        };
        self.announce(Phase::PassEnd)
    }

    /// Draws the conclusion from the answers: another pass, or the same question once more.
    fn conclude_pass(&mut self, now: Instant) -> Option<Action> {
        let sent = self.sent - self.sent_before_pass;
        let late = (sent as f64 * LATE) as u64;
        let outcome = self.members.conclude(now, self.config.patience, self.config.tries_max, late);
        self.recall_the_last();
        let enough = self.members.count(Status::Complete) >= self.needed();
        if self.members.settled() || enough || self.head.pass == u16::MAX {
            self.close(now);
            return None;
        }
        if self.plan.is_empty() {
            self.idle = self.idle.saturating_add(1);
            return Some(self.ask(now));
        }
        let loss = outcome.worst as f64 / sent.max(1) as f64;
        self.rate.on_pass(now, self.sent, sent, loss);
        self.loss = loss.max(self.loss / 2.0);
        self.begin_pass(now, Effort { first: false, loss: self.loss, stalled: outcome.stalled });
        None
    }

    fn close(&mut self, now: Instant) {
        self.state = State::Closing { left: 2, next: now };
    }

    /// Members that must have everything (LD-19).
    fn needed(&self) -> u32 {
        self.config.quorum.needed(self.members.participants())
    }

    fn finish(&self) -> Finish {
        let mut missing = self.members.with(Status::Missing);
        missing.extend(self.members.with(Status::Left));
        missing.extend(self.members.with(Status::Pending));
        missing.sort_unstable();
        Finish {
            complete: self.members.with(Status::Complete),
            failed: self.members.with(Status::Failed),
            missing,
            participants: self.members.participants(),
            needed: self.needed(),
            stragglers: self.members.stragglers(),
            passes: self.head.pass,
            frames_sent: self.sent,
            repair_frames: self.repair_frames,
            nacks: self.nacks,
            rate: self.rate.bytes_per_second(),
        }
    }
}

#[cfg(test)]
mod tests;
