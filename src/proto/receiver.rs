//! The receiving side of a session: where each frame goes, what lacks, when to say so (LD-7, LD-11..13).
//!
//! The machine sees headers, never payload. The shell checks a frame's tag, asks [`Receiver::on_frame`]
//! where the payload belongs, writes it (many frames at once, if it likes), and then polls: a block that
//! has frames enough comes out as [`ReceiverAction::Ready`], to be rebuilt through `fec` if sources are
//! missing, hashed, and reported by [`Receiver::on_verified`].
//!
//! ```text
//!            k frames              hash is right
//!  lacking ------------> stored ------------------> verified
//!     ^                    |
//!     +--------------------+ hash is wrong: parity is dropped first, then all of the block (T19)
//! ```
//! A stored block does not lack. An empty list means that all is verified, nothing less.

use super::aggregate::{Bits, first_bits};
use super::arrivals::Arrivals;
use super::fec::SYMBOLS_MAX;
use super::gaps::Gaps;
use super::lacking::{self, Lacking};
use super::random::Rng;
use crate::time::{Duration, Instant};
use crate::wire::assignment::Shape;
use crate::wire::nack::Nack;
use crate::wire::session::{
    Announce, FRAME_OVERHEAD, FrameHeader, IP_UDP_OVERHEAD, Phase, Progress, source_frames,
};
use std::collections::VecDeque;

/// How a member behaves in every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Parity frames kept at a time over all blocks, until their block can be rebuilt. At least 255.
    pub parity_max: u32,
    /// Least wait before an answer, so that frames still in a queue are counted.
    pub settle: Duration,
    /// Silence of the sender after which the session is given up.
    pub patience: Duration,
    /// Bytes that the socket may hold before the process reads them, as the kernel counts them.
    pub socket_bytes: u32,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            parity_max: 16_384,
            settle: Duration::from_millis(2),
            patience: Duration::from_secs(30),
            socket_bytes: 425_984,
        }
    }
}

/// Reports in the time in which a socket would fill, where they go by count.
const REPORTS_PER_ROOM: u64 = 4;
/// Absence of frames after which what was not reported yet is.
const PAUSE: Duration = Duration::from_millis(2);

/// How often a member reports its progress in a session with this spread: members that are many report
/// less often each.
pub const fn progress_interval(spread_ms: u16) -> Duration {
    Duration::from_millis(if spread_ms > 10 { spread_ms as u64 } else { 10 })
}

/// Where the payload of a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into the object's file, at this offset.
    Store { offset: u64 },
    /// Into the shell's store of parity frames, until the block is rebuilt.
    Parity { block: u32, index: u16 },
    /// It was there before, or its block needs no more.
    Duplicate,
    /// Not of this session, not of this object, or there is no room for more parity.
    Ignore,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Enough frames of the block are there. If `missing` is not 0, rebuild the frames that
    /// [`Receiver::missing`] names from the parity frames kept for the block. Forget those, hash the
    /// block when the hash is known, and call [`Receiver::on_verified`].
    Ready { block: u32, missing: u16 },
    /// To be sent to the leader: what lacks (LD-12).
    Nack(Nack),
    /// To be sent to the leader: how fast frames arrive.
    Progress(Progress),
    /// Every block is verified (LD-21). The machine goes on answering the leader.
    Complete,
    /// The session ended and blocks lack; they can only come by unicast. The machine is spent.
    Abandoned,
    /// The session ended after `Complete`. The machine is spent.
    Over,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Lacking,
    Stored,
    Verified,
}

/// What is there of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// One bit per frame, source and parity.
    have: Bits,
    sources: u8,
    parities: u8,
    /// Room kept for its parity: all that it lacked when its first parity frame came.
    reserved: u8,
    stage: Stage,
    /// Its hash was wrong once already.
    spoiled: bool,
}

impl Block {
    const fn has(&self, index: u16) -> bool {
        self.have[index as usize / 64] >> (index % 64) & 1 == 1
    }

    const fn frames(&self) -> u16 {
        self.sources as u16 + self.parities as u16
    }

    fn drop_parities(&mut self, k: u16) {
        self.have = and(self.have, first_bits(k));
        self.parities = 0;
    }
}

fn and(a: Bits, b: Bits) -> Bits {
    std::array::from_fn(|at| a[at] & b[at])
}

/// One session as one member receives it.
#[derive(Clone, Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    head: Announce,
    rng: Rng,
    blocks: Vec<Block>,
    lacking: u32,
    stored: u32,
    /// Room for parity that blocks which still lack have reserved.
    reserved: u32,
    /// Stored and not yet handed out. Has room for every block from the start.
    ready: VecDeque<u32>,
    arrivals: Arrivals,
    heard: Instant,
    /// When the last frame came.
    arrived: Instant,
    /// When to answer, and which pass; `None` when answered.
    answer: Option<(Instant, u16)>,
    /// Parts of an answer that are still to be handed out.
    parts: VecDeque<Nack>,
    gaps: Gaps,
    /// Before this a repeated question for the same pass is no new one.
    answered: Option<(Instant, u16)>,
    progress_at: Option<Instant>,
    /// Frames that the sender sent since the last report, as far as those tell that came. One that overtook hundreds
    /// counts for few: a report of its arrival tells a delay that the link does not have.
    unreported: u64,
    /// Batches that the socket dropped, as of the session's begin and now.
    dropped: (Option<u32>, u32),
    closing: bool,
    failed: bool,
    told: Told,
}

/// What was already said to the shell at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Complete,
    End,
}

impl Receiver {
    /// Takes part in the session that `announce` opens, in whatever phase it is. `held` names the blocks
    /// that are verified already; `seed` spreads this member's answers among those of others.
    pub fn new(
        now: Instant,
        config: ReceiverConfig,
        announce: &Announce,
        seed: u64,
        held: impl Fn(u32) -> bool,
    ) -> Self {
        let count = announce.shape.blocks();
        let stage = |block| if held(block) { Stage::Verified } else { Stage::Lacking };
        let blocks: Vec<Block> =
            (0..count).map(|block| Block { stage: stage(block), ..Block::default() }).collect();
        let lacking = blocks.iter().filter(|block| block.stage == Stage::Lacking).count() as u32;
        let mut receiver = Self {
            config,
            head: announce.clone(),
            rng: Rng::new(seed),
            blocks,
            lacking,
            stored: 0,
            reserved: 0,
            ready: VecDeque::with_capacity(lacking as usize),
            arrivals: Arrivals::new(config.settle),
            heard: now,
            arrived: now,
            answer: None,
            parts: VecDeque::new(),
            gaps: Gaps::new(announce),
            answered: None,
            progress_at: None,
            unreported: 0,
            dropped: (None, 0),
            closing: false,
            failed: false,
            told: Told::Nothing,
        };
        receiver.on_announce(now, announce);
        receiver
    }

    /// Takes over what arrived of the same object in another session, whose leader is gone: the source frames of
    /// blocks that are not whole lie where they belong. Parity does not, nor frames of another length.
    pub fn go_on_from(&mut self, now: Instant, before: &Self) {
        if before.head.shape != self.head.shape || before.head.payload != self.head.payload {
            return;
        }
        let mut took = false;
        for (block, old) in before.blocks.iter().enumerate() {
            let k = self.head.source_frames(block as u32);
            let new = &mut self.blocks[block];
            let have = and(old.have, first_bits(k));
            // What was stored may have been rebuilt: then its sources are all there, and its hash decides.
            if new.stage != Stage::Lacking || old.stage == Stage::Verified || have == Bits::default() {
                continue;
            }
            took = true;
            (new.have, new.spoiled) = (have, old.spoiled);
            new.sources = have.iter().map(|word| word.count_ones() as u8).sum();
            if new.frames() >= k {
                new.stage = Stage::Stored;
                self.lacking -= 1;
                self.stored += 1;
                self.ready.push_back(block as u32);
            }
        }
        if took && self.head.phase == Phase::Open && self.head.pass == 0 {
            self.ask(now, 0, self.head.spread_ms);
        }
    }

    /// The announcement that the session began with.
    pub const fn head(&self) -> &Announce {
        &self.head
    }

    pub const fn shape(&self) -> &Shape {
        &self.head.shape
    }

    /// Blocks that are verified.
    pub fn verified(&self) -> u32 {
        self.blocks.len() as u32 - self.lacking - self.stored
    }

    /// Whether every block is verified.
    pub const fn is_complete(&self) -> bool {
        self.lacking == 0 && self.stored == 0
    }

    /// Source frames of the block that have not arrived, in ascending order.
    pub fn missing(&self, block: u32) -> impl Iterator<Item = u16> + '_ {
        let of = self.blocks[block as usize];
        (0..self.head.source_frames(block)).filter(move |&index| !of.has(index))
    }

    /// Says where the payload of a frame belongs. The frame's tag has been checked. Once this says
    /// `Store` or `Parity` the frame counts as there: write it before the next `poll`.
    pub fn on_frame(&mut self, now: Instant, header: &FrameHeader, payload_len: usize) -> Placement {
        if header.session != self.head.session || header.index >= SYMBOLS_MAX || self.told == Told::End {
            return Placement::Ignore;
        }
        if header.block as usize >= self.blocks.len() {
            return Placement::Ignore;
        }
        let frame_len = usize::from(self.head.payload);
        let (start, block_len) = self.head.shape.block(header.block);
        let k = source_frames(block_len, frame_len);
        let within = usize::from(header.index) * frame_len;
        let expected = if header.index < k { frame_len.min(block_len - within) } else { frame_len };
        if payload_len != expected {
            return Placement::Ignore;
        }
        (self.heard, self.arrived) = (now, now);
        let seen = self.arrivals.seen();
        let number = self.arrivals.note(now, header.sent);
        self.unreported += number.saturating_sub(seen).clamp(1, Arrivals::JUMP);
        if self.progress_at.is_none() {
            let interval = progress_interval(self.head.spread_ms);
            self.progress_at = Some(now + interval / 2 + self.rng_span(interval / 2));
        }
        if self.gaps.is_on() {
            self.gaps.on_frame(now, header.pass, header.block, number, &mut self.rng);
        }
        let block = &mut self.blocks[header.block as usize];
        if self.failed || block.stage != Stage::Lacking || block.has(header.index) {
            return Placement::Duplicate;
        }
        let placement = if header.index < k {
            block.sources += 1;
            Placement::Store { offset: start + within as u64 }
        } else {
            if block.reserved == 0 {
                // All or nothing: blocks that each held a part of what they need would block one another.
                let lack = k - u16::from(block.sources);
                if self.reserved + u32::from(lack) > self.config.parity_max.max(SYMBOLS_MAX.into()) {
                    return Placement::Ignore;
                }
                block.reserved = lack as u8;
                self.reserved += u32::from(lack);
            }
            block.parities += 1;
            Placement::Parity { block: header.block, index: header.index }
        };
        block.have[usize::from(header.index) / 64] |= 1 << (header.index % 64);
        if block.frames() >= k {
            block.stage = Stage::Stored;
            self.reserved -= u32::from(block.reserved);
            block.reserved = 0;
            self.lacking -= 1;
            self.stored += 1;
            self.ready.push_back(header.block);
        }
        placement
    }

    /// Takes in a repeated announcement of the session; one of another session is passed over.
    pub fn on_announce(&mut self, now: Instant, announce: &Announce) {
        if announce.session != self.head.session || self.told == Told::End {
            return;
        }
        self.heard = now;
        match announce.phase {
            // Whoever lacks everything takes part silently (LD-7); so do all once frames are sent.
            Phase::Open if self.verified() == 0 || announce.pass > 0 => {}
            Phase::Open => self.ask(now, 0, announce.spread_ms),
            Phase::PassEnd => self.ask(now, announce.pass, announce.spread_ms),
            Phase::Close => self.closing = true,
        }
    }

    /// Batches of frames that the socket had no room for since the node's start.
    pub fn on_drops(&mut self, dropped: u32) {
        self.dropped = (self.dropped.0.or(Some(dropped)), dropped);
    }

    /// Frames that the socket has room for. The kernel counts about twice a frame's bytes for one that came alone.
    fn room(&self) -> u16 {
        let frame = 2 * (usize::from(self.head.payload) + FRAME_OVERHEAD + IP_UDP_OVERHEAD) as u32;
        (self.config.socket_bytes / frame).clamp(1, u16::MAX.into()) as u16
    }

    /// The block was hashed. With a wrong hash its parity is dropped, or all of it if no parity was used or
    /// it was spoiled before: it lacks again (T19).
    pub fn on_verified(&mut self, now: Instant, block: u32, right: bool) {
        let k = self.head.source_frames(block);
        let of = &mut self.blocks[block as usize];
        if of.stage != Stage::Stored {
            return;
        }
        self.stored -= 1;
        if right {
            of.stage = Stage::Verified;
        } else {
            if of.parities == 0 || of.spoiled {
                *of = Block::default();
            } else {
                of.drop_parities(k);
                of.stage = Stage::Lacking;
            }
            of.spoiled = true;
            self.lacking += 1;
            self.ready.retain(|&ready| ready != block);
        }
        self.heard = self.heard.max(now);
    }

    /// Nothing can be written any more: tell the leader, and take no more frames.
    pub fn fail(&mut self, now: Instant) {
        self.failed = true;
        self.answer = Some((now, self.answered.map_or(0, |(_, pass)| pass)));
    }

    /// The next thing to do. Call it until it returns `None`, after each input and at `next_deadline`.
    pub fn poll(&mut self, now: Instant) -> Option<ReceiverAction> {
        if self.told == Told::End {
            return None;
        }
        if let Some(block) = self.ready.pop_front() {
            let missing = self.head.source_frames(block) - u16::from(self.blocks[block as usize].sources);
            return Some(ReceiverAction::Ready { block, missing });
        }
        if self.is_complete() && self.told == Told::Nothing {
            self.told = Told::Complete;
            return Some(ReceiverAction::Complete);
        }
        self.arrivals.settle(now);
        let blocks = &self.blocks;
        let lacks = |block: u32| blocks[block as usize].stage == Stage::Lacking;
        self.gaps.on_settled(now, self.arrivals.settled(), &mut self.rng, lacks);
        self.answer_if_due(now);
        if let Some(part) = self.parts.pop_front() {
            return Some(ReceiverAction::Nack(part));
        }
        let waits_for_hash = self.lacking == 0 && self.stored > 0;
        if (self.closing && !waits_for_hash) || now.since(self.heard) >= self.config.patience {
            let whole = self.told == Told::Complete;
            self.told = Told::End;
            return Some(if whole { ReceiverAction::Over } else { ReceiverAction::Abandoned });
        }
        self.due_progress(now).map(ReceiverAction::Progress)
    }

    /// When to poll again, though nothing came in.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.told == Told::End {
            return None;
        }
        let answer = self.answer.map(|(at, _)| at).filter(|_| self.may_answer());
        let patience = self.heard + self.config.patience;
        let settles = if self.gaps.waits() { self.arrivals.settles_at() } else { None };
        let others = [answer, self.gaps.due(), settles, self.progress_at, self.pause_ends(), Some(patience)];
        others.into_iter().flatten().min()
    }

    /// Plans the answer to the question what lacks after `pass`.
    fn ask(&mut self, now: Instant, pass: u16, spread_ms: u16) {
        let spread = Duration::from_millis(spread_ms.into());
        if self.answer.is_some_and(|(_, asked)| asked >= pass)
            || self.answered.is_some_and(|(until, asked)| asked > pass || (asked == pass && now < until))
        {
            return;
        }
        self.gaps.on_question();
        self.answer = Some((now + self.arrivals.allowance() + self.rng_span(spread), pass));
        self.answered = Some((now + spread, pass));
    }

    /// An answer that would say "complete" waits for the last hash.
    const fn may_answer(&self) -> bool {
        self.failed || self.lacking > 0 || self.stored == 0
    }

    fn answer_if_due(&mut self, now: Instant) {
        let bare =
            |pass| Nack { seen: self.arrivals.settled() as u32, ..Nack::empty(self.head.session, pass) };
        if let Some((at, pass)) = self.answer
            && now >= at
            && self.may_answer()
        {
            let bare = bare(pass);
            self.answer = None;
            if self.failed {
                self.parts.push_back(Nack { failed: true, ..bare });
            } else {
                self.parts.extend(self.tell(&bare, self.blocks.len() as u32));
            }
        } else if self.gaps.take_due(now) && !self.failed {
            let bare = Nack { early: true, ..bare(self.gaps.pass()) };
            let list = self.tell(&bare, self.gaps.front());
            if list.iter().any(|part| !part.lacks.is_empty() || !part.ranges.is_empty()) {
                self.gaps.on_told(now);
                self.parts.extend(list);
            }
        }
    }

    fn due_progress(&mut self, now: Instant) -> Option<Progress> {
        let is_much = self.head.counted && self.unreported >= u64::from(self.room()) / REPORTS_PER_ROOM;
        let pauses = self.pause_ends().is_some_and(|at| now >= at);
        if now < self.progress_at? && !is_much && !pauses {
            return None;
        }
        if self.unreported == 0 {
            // Nothing arrived since: the next frame starts the clock again.
            self.progress_at = None;
            return None;
        }
        self.progress_at = Some(now + progress_interval(self.head.spread_ms));
        self.unreported = 0;
        Some(Progress {
            session: self.head.session,
            // The low bits: the sender knows the others.
            seen: self.arrivals.seen() as u32,
            latest: self.arrivals.latest() as u32,
            settled: self.arrivals.settled() as u32,
            received: self.arrivals.received() as u32,
            dropped: self.dropped.1.wrapping_sub(self.dropped.0.unwrap_or(self.dropped.1)),
            room: self.room(),
        })
    }

    /// When frames have been absent for so long that the sender may wait for a report, which may be lost.
    fn pause_ends(&self) -> Option<Instant> {
        let unreported = self.head.counted && self.unreported > 0;
        unreported.then(|| self.arrived + PAUSE)
    }

    fn rng_span(&mut self, span: Duration) -> Duration {
        Duration::from_nanos(self.rng.below(span.as_nanos()))
    }

    /// What lacks of the blocks below `end`, in as many messages as it takes.
    fn tell(&self, bare: &Nack, end: u32) -> Vec<Nack> {
        let lacking = |block: u32| {
            let of = &self.blocks[block as usize];
            let k = self.head.source_frames(block);
            let all = first_bits(k);
            let missing = std::array::from_fn(|at| all[at] & !of.have[at]);
            let frames = k.saturating_sub(of.frames());
            (of.stage == Stage::Lacking).then_some(Lacking { block, sources: k, frames, missing })
        };
        let object = self.head.shape.file_len() / u64::from(self.head.payload);
        lacking::tell(bare, self.head.repair, (0..end).filter_map(lacking), object)
    }
}

#[cfg(test)]
mod tests;
