//! The sending side of a session: what to announce, which frames to send, when it is over (LD-1..LD-20).
//!
//! ```text
//!  Opening --(answers awaited)--> Sending --(plan sent)--> Asking --(nothing lacks)--> Closing --> Over
//!     |                              ^                       |                            ^
//!     |                              +------- lacks ---------+                            |
//!     +------------------------- all hold the object already (LD-8) ----------------------+
//! ```
//! The plan of pass 1 is every source frame. The plan of a later pass is, per block, as many frames as the
//! worst member lacks: parity not sent before while there is some, then the block's frames over again.
//! Nobody waits for a member that is silent while others lack something (LD-25).

use super::aggregate::Aggregate;
use super::fec::SYMBOLS_MAX;
use super::rate::{Rate, RateConfig};
use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use crate::wire::nack::Nack;
use crate::wire::session::{Announce, FRAME_OVERHEAD, IP_UDP_OVERHEAD, Phase, Progress};
use std::collections::BTreeMap;

/// Frames of one batch at most: with frames of 1,500 bytes they fill one 64 KiB send.
pub const BATCH_MAX: u16 = 44;

/// How often the wait for silent members is doubled.
const IDLE_DOUBLINGS: u8 = 3;
/// A member that lost more of a pass than this came late; it says nothing about the link.
const LATE: f64 = 0.6;

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
    /// Questions in a row that a member may leave unanswered before it counts as missing.
    pub answer_tries: u8,
    /// Passes without progress after which a member is given up (LD-20).
    pub tries_max: u16,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            rate: RateConfig::default(),
            open_count: 3,
            open_interval: Duration::from_millis(10),
            announce_interval: Duration::from_millis(100),
            answer_margin: Duration::from_millis(30),
            answer_tries: 10,
            tries_max: 10,
        }
    }
}

/// Milliseconds over which so many members spread their answers (LD-13): about 2,000 answers a second,
/// up to a second.
pub fn spread_ms(members: usize) -> u16 {
    (5 + members / 2).min(1_000) as u16
}

/// Consecutive frames of a block, to be sent as they stand: source frames from the object's file, parity
/// frames computed by `fec::parity`.
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
    pub passes: u16,
    pub frames_sent: u32,
    /// Those of passes 2 and later.
    pub repair_frames: u32,
    pub nacks: u32,
    /// Bytes per second at the end: a good start for the next session with these members.
    pub rate: u64,
}

/// Where a session stands, for people and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub pass: u16,
    pub frames_sent: u32,
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
    /// The question is repeated once at `again`, for it may get lost; answers count until `until`.
    Asking {
        again: Option<Instant>,
        until: Instant,
    },
    Closing {
        left: u8,
        next: Instant,
    },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pending,
    Complete,
    Failed,
    Missing,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    status: Status,
    /// It answered the present question.
    answered: bool,
    /// It was there when the question was asked.
    asked: bool,
    /// Questions in a row that it left unanswered.
    silent: u8,
    /// Fewest frames it ever lacked, and passes since.
    least: u64,
    stalled: u16,
    /// Frames it lacks by its last answer.
    lacking: u64,
}

impl Member {
    const NEW: Self = Self {
        status: Status::Pending,
        answered: false,
        asked: false,
        silent: 0,
        least: u64::MAX,
        stalled: 0,
        lacking: 0,
    };
}

/// What remains to be sent of the block at hand.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    block: u32,
    left: u16,
}

/// One session as its leader sends it.
#[derive(Clone, Debug)]
pub struct Sender {
    config: SenderConfig,
    head: Announce,
    state: State,
    members: BTreeMap<NodeId, Member>,
    /// Members whose status is `Pending`.
    pending: u32,
    rate: Rate,
    /// What the present pass sends; while asking: what the next one will.
    plan: Aggregate,
    cursor: Cursor,
    /// Frames sent of each block.
    sent_of: Vec<u16>,
    sent: u32,
    sent_before_pass: u32,
    repair_frames: u32,
    source_frames: u64,
    nacks: u32,
    /// Questions in a row to which nobody named a lack.
    idle: u8,
    /// Share of a pass that the worst member lost, decaying.
    loss: f64,
    /// Passes in a row without progress, of the member with most.
    stalled: u16,
}

impl Sender {
    /// Opens a session. `head` gives session, salt, run, assignment, site, group, shape and payload; the
    /// sender fills in the rest. `participants` do not include the leader itself.
    pub fn new(now: Instant, config: SenderConfig, head: Announce, participants: &[NodeId]) -> Self {
        let blocks = head.shape.blocks();
        let spread_ms = spread_ms(participants.len());
        let frame_len = usize::from(head.payload) + FRAME_OVERHEAD + IP_UDP_OVERHEAD;
        let source_frames = (0..blocks).map(|block| u64::from(head.source_frames(block))).sum();
        let mut sender = Self {
            config,
            state: State::Opening { left: config.open_count, next: now },
            members: participants.iter().map(|&node| (node, Member { asked: true, ..Member::NEW })).collect(),
            pending: 0,
            rate: Rate::new(now, config.rate, frame_len, spread_ms, participants),
            plan: Aggregate::new(blocks),
            cursor: Cursor::default(),
            sent_of: vec![0; blocks as usize],
            sent: 0,
            sent_before_pass: 0,
            repair_frames: 0,
            source_frames,
            nacks: 0,
            idle: 0,
            loss: 0.0,
            stalled: 0,
            head: Announce { pass: 0, phase: Phase::Open, rate: 0, sent: 0, spread_ms, ..head },
        };
        sender.count_pending();
        sender
    }

    pub fn standing(&self) -> Standing {
        Standing {
            pass: self.head.pass,
            frames_sent: self.sent,
            source_frames: self.source_frames,
            rate: self.rate.bytes_per_second(),
            members: self.members.len() as u32,
            complete: self.count(Status::Complete),
        }
    }

    /// Takes in a member's answer (LD-12, LD-14).
    pub fn on_nack(&mut self, from: NodeId, nack: &Nack) {
        let asking = matches!(self.state, State::Asking { .. } | State::Opening { .. });
        let Some(member) = self.members.get_mut(&from) else { return };
        if nack.session != self.head.session {
            return;
        }
        self.nacks += 1;
        member.silent = 0;
        if nack.failed || nack.is_complete() {
            member.status = if nack.failed { Status::Failed } else { Status::Complete };
            self.count_pending();
        } else if asking
            && nack.pass == self.head.pass
            && !member.answered
            && member.status == Status::Pending
        {
            member.answered = true;
            let named = self.plan.merge(nack);
            let end = nack.lacks.last().map_or(0, |lack| lack.first.saturating_add(lack.count));
            // What the list had no room for counts as if all of it were lacking.
            let unnamed = if nack.more { (self.sent_of.len() as u64).saturating_sub(end.into()) } else { 0 };
            member.lacking = named + unnamed * u64::from(SYMBOLS_MAX);
        }
    }

    /// Takes in a member's report of how it receives (design D5).
    pub fn on_progress(&mut self, now: Instant, from: NodeId, progress: &Progress) {
        if progress.session == self.head.session && progress.seen <= self.sent {
            self.rate.on_progress(now, from, progress);
        }
    }

    /// A member came while the session runs; it learns all from the next announcement (LD-22).
    pub fn on_member_joined(&mut self, node: NodeId) {
        let member = self.members.entry(node).or_insert(Member::NEW);
        if member.status == Status::Missing {
            *member = Member::NEW;
        }
        self.count_pending();
        self.rate.join(node);
    }

    /// A member left or died: nobody waits for it any more.
    pub fn on_member_left(&mut self, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node)
            && member.status == Status::Pending
        {
            member.status = Status::Missing;
        }
        self.count_pending();
        self.rate.leave(node);
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
                    if self.settled() {
                        self.close(now);
                    } else if now < next {
                        return None;
                    } else if left > 0 {
                        let spread = Duration::from_millis(self.head.spread_ms.into());
                        let wait = self.config.open_interval.max(spread / 2);
                        self.state = State::Opening { left: left - 1, next: now + wait };
                        return Some(self.announce(Phase::Open));
                    } else {
                        self.plan_first_pass();
                        self.begin_pass(now);
                    }
                }
                State::Sending { announce } => {
                    if self.settled() {
                        self.close(now);
                    } else if !self.find_work() {
                        self.idle = 0;
                        return Some(self.ask(now));
                    } else if now >= announce {
                        self.state = State::Sending { announce: now + self.config.announce_interval };
                        return Some(self.announce(Phase::Open));
                    } else {
                        self.rate.turn(now, self.sent);
                        return self.next_run(now).map(Action::Frames);
                    }
                }
                State::Asking { again, until } => {
                    if self.settled() {
                        self.close(now);
                    } else if self.all_answered() || now >= until {
                        if let Some(question) = self.conclude_pass(now) {
                            return Some(question);
                        }
                    } else if again.is_some_and(|again| now >= again) {
                        self.state = State::Asking { again: None, until };
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
            State::Sending { announce } => Some(self.rate.ready_at(BATCH_MAX).min(announce)),
            State::Asking { again, until } => Some(again.map_or(until, |again| again.min(until))),
            State::Over => None,
        }
    }

    fn count(&self, status: Status) -> u32 {
        self.members.values().filter(|member| member.status == status).count() as u32
    }

    fn count_pending(&mut self) {
        self.pending = self.count(Status::Pending);
    }

    /// Nobody is left who could get more.
    const fn settled(&self) -> bool {
        self.pending == 0
    }

    fn all_answered(&self) -> bool {
        let owes = |member: &Member| member.status == Status::Pending && member.asked && !member.answered;
        !self.members.values().any(owes)
    }

    fn announce(&mut self, phase: Phase) -> Action {
        self.head.phase = phase;
        self.head.sent = self.sent;
        self.head.rate = self.rate.bytes_per_second();
        Action::Announce(self.head.clone())
    }

    /// Every source frame, unless all who lack something said already which blocks (LD-7).
    fn plan_first_pass(&mut self) {
        let pending = || self.members.values().filter(|member| member.status == Status::Pending);
        let all_said = pending().all(|member| member.answered);
        let known = self.plan.clone();
        let head = &self.head;
        self.plan.fill(|block| if all_said { known.lack(block) } else { head.source_frames(block) });
        self.clamp_plan();
    }

    /// A block never needs more frames than it has.
    fn clamp_plan(&mut self) {
        let head = &self.head;
        let asked = self.plan.clone();
        self.plan.fill(|block| asked.lack(block).min(head.source_frames(block)));
    }

    fn begin_pass(&mut self, now: Instant) {
        self.head.pass += 1;
        self.sent_before_pass = self.sent;
        self.cursor = Cursor::default();
        self.rate.resume(now, self.sent);
        self.state = State::Sending { announce: now + self.config.announce_interval };
        if let Some(block) = self.plan.next_lacking(0) {
            self.cursor = Cursor { block, left: self.wanted(block) };
        }
    }

    /// Puts the cursor on a block of the plan that is not sent yet; false when the pass is over.
    fn find_work(&mut self) -> bool {
        if self.cursor.left > 0 {
            return true;
        }
        match self.plan.next_lacking(self.cursor.block + 1) {
            Some(block) => {
                self.cursor = Cursor { block, left: self.wanted(block) };
                true
            }
            None => false,
        }
    }

    /// Frames that a block can have. One source frame is its own parity.
    fn symbols(&self, block: u32) -> u16 {
        if self.head.source_frames(block) == 1 { 1 } else { SYMBOLS_MAX }
    }

    /// Frames of a block that this pass sends.
    fn wanted(&self, block: u32) -> u16 {
        let lack = f64::from(self.plan.lack(block));
        if self.head.pass <= 1 {
            return self.plan.lack(block);
        }
        let (k, symbols) = (self.head.source_frames(block), self.symbols(block));
        let fresh = symbols.saturating_sub(self.sent_of[block as usize]);
        // As many more as will be lost on the way, rounded down.
        let wanted = lack + (lack * self.loss / (1.0 - self.loss)).floor();
        if wanted <= f64::from(fresh) {
            return wanted as u16;
        }
        // The rest are frames sent before; a member has use only for those that it lost.
        let lost = f64::from(symbols - k) + lack;
        let again = (wanted - f64::from(fresh)) * f64::from(symbols) / lost;
        // Losses come in bursts: a member that got nowhere needs more than the average says.
        let again = again * f64::from(1_u16 << self.stalled.min(8));
        fresh + (again.ceil() as u16).min(symbols)
    }

    fn next_run(&mut self, now: Instant) -> Option<FrameRun> {
        let allowed = self.rate.allow(now, BATCH_MAX);
        if allowed == 0 {
            return None;
        }
        let block = self.cursor.block;
        let symbols = self.symbols(block);
        let sent_of = &mut self.sent_of[block as usize];
        let first_index = *sent_of % symbols;
        let k = self.head.source_frames(block);
        let end = if first_index < k { k } else { symbols };
        let count = allowed.min(self.cursor.left).min(end - first_index);
        *sent_of += count;
        if *sent_of >= 2 * symbols {
            // Keeps the place in the cycle and that all were sent once, without ever overflowing.
            *sent_of -= symbols;
        }
        self.cursor.left -= count;
        let sent_first = self.sent.wrapping_add(1);
        self.sent = self.sent.wrapping_add(count.into());
        if self.head.pass > 1 {
            self.repair_frames += u32::from(count);
        }
        self.rate.spend(count);
        Some(FrameRun { block, first_index, count, pass: self.head.pass, sent_first })
    }

    /// Asks all members what they lack.
    fn ask(&mut self, now: Instant) -> Action {
        self.plan.clear();
        for member in self.members.values_mut() {
            (member.asked, member.answered) = (true, false);
        }
        let spread = Duration::from_millis(self.head.spread_ms.into());
        // Whoever stays silent may be busy: it is asked at ever longer intervals.
        let patience =
            (spread + spread / 3 + self.config.answer_margin) * (1 << self.idle.min(IDLE_DOUBLINGS));
        self.state = State::Asking { again: Some(now + spread / 3), until: now + patience };
        self.announce(Phase::PassEnd)
    }

    /// Draws the conclusion from the answers: another pass, or the same question once more.
    fn conclude_pass(&mut self, now: Instant) -> Option<Action> {
        let sent = self.sent - self.sent_before_pass;
        let late = (f64::from(sent) * LATE) as u64;
        let mut worst = 0;
        for member in self.members.values_mut().filter(|member| member.status == Status::Pending) {
            if !member.answered {
                member.silent += u8::from(member.asked);
                if member.silent >= self.config.answer_tries {
                    member.status = Status::Missing;
                }
            } else if member.lacking < member.least {
                (member.least, member.stalled) = (member.lacking, 0);
            } else {
                member.stalled += 1;
                if member.stalled >= self.config.tries_max {
                    member.status = Status::Missing;
                }
            }
            if member.answered && member.lacking <= late {
                worst = worst.max(member.lacking);
            }
        }
        self.count_pending();
        if self.settled() || self.head.pass == u16::MAX {
            self.close(now);
            return None;
        }
        if self.plan.is_empty() {
            self.idle = self.idle.saturating_add(1);
            return Some(self.ask(now));
        }
        let loss = worst as f64 / f64::from(sent.max(1));
        let pending = self.members.values().filter(|member| member.status == Status::Pending);
        self.stalled = pending.map(|member| member.stalled).max().unwrap_or(0);
        self.rate.on_pass(now, self.sent, sent, loss);
        self.loss = loss.max(self.loss / 2.0);
        self.clamp_plan();
        self.begin_pass(now);
        None
    }

    fn close(&mut self, now: Instant) {
        self.state = State::Closing { left: 2, next: now };
    }

    fn finish(&self) -> Finish {
        let with = |wanted: &[Status]| {
            let of = self.members.iter().filter(|(_, member)| wanted.contains(&member.status));
            of.map(|(&node, _)| node).collect()
        };
        Finish {
            complete: with(&[Status::Complete]),
            failed: with(&[Status::Failed]),
            missing: with(&[Status::Missing, Status::Pending]),
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
