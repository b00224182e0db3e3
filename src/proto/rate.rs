//! How fast a session sends: a token bucket, and the law that sets its rate (design D5, LD-18).
//!
//! Loss alone does not tell a lossy link from a full queue, so the law asks the link. When the worst
//! member loses clearly more than it is known to lose anyway, the rate is cut to what arrived. If the loss
//! goes with it, the queue was full, and what arrived was the link's *capacity*. If the loss remains at the
//! lower rate, it is the link's own: remember it as *inherent*, go back to the rate before if it is light,
//! and grow on. While nothing was ever lost to a queue the rate doubles each round.
//!
//! Once the capacity is known the rate stays close to it, and the queue is watched as well: by how far the
//! members are behind what was sent. A queue that grows ends the growth and lowers the rate to what arrives
//! before anything is lost, which also leaves a competing TCP its room; but never below a part of the
//! capacity, or a queue that others keep full would stop us for good. With no queue the rate grows by
//! steps that become longer, for others may have gone.
//!
//! A round is as long as it takes each member to report once. A report counts for a round only by the
//! frames that were sent since the rate last changed.

use super::receiver::progress_interval;
use super::share::Share;
use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use crate::wire::session::Progress;
use std::collections::BTreeMap;

/// Bounds of a session's rate, in bytes of frames per second, and where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    pub start: u64,
    pub min: u64,
    pub max: u64,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self { start: 50_000_000, min: 1_000_000, max: 10_000_000_000 }
    }
}

/// Share of frames lost beyond the inherent loss that counts as a sign of a full queue.
const EXCESS: f64 = 0.02;
/// Loss that stays after a cut is the link's own if at least this share of it stays.
const STAYS: f64 = 0.6;
/// Inherent loss up to this share lets the rate go back to where it was. A larger one is more often a member
/// that cannot keep up, whose full buffer loses frames at the lower rate as well for a while.
const INHERENT_LIGHT: f64 = 0.15;
/// A cut goes a little below what arrived, so that the queue drains.
const DRAIN: f64 = 0.97;
/// Growth per round once a queue was seen full: at first, and at most after rounds without a queue.
const GROWTH: (f64, f64) = (0.01, 0.08);
/// Frames that wait longer than this wait in a queue, not in somebody's turn of a loop.
const QUEUE: Duration = Duration::from_millis(5);
/// The queue alone never brings the rate below this part of the capacity.
const QUEUE_FLOOR: f64 = 0.25;
/// Loss that is never taken for inherent: beyond it a session makes no headway anyway.
const INHERENT_MAX: f64 = 0.6;
/// Frames that a report must cover before its loss says anything.
const WINDOW_MIN: u32 = 64;
/// A member that receives less than this share of what the best receives does not slow the others: it
/// will be finished by unicast.
const HEALTHY: f64 = 0.25;
/// Least time of a round: shorter ones hold too few frames to judge a loss by.
const ROUND_MIN: Duration = Duration::from_millis(60);
/// Rounds without any report after which the rate is halved.
const SILENT_ROUNDS: u64 = 5;

/// Pace and rate of one session.
#[derive(Clone, Debug)]
pub struct Rate {
    bounds: RateConfig,
    /// Bytes on the wire of one frame.
    frame_len: u64,
    /// Bytes per second.
    rate: f64,
    /// What other sessions leave of it.
    limit: Option<f64>,
    /// Others have more than an even part of what there is.
    behind: bool,
    /// Bytes that may be sent at once, as of `filled`.
    tokens: f64,
    filled: Instant,
    round: Duration,
    round_ends: Instant,
    /// Frames sent when the rate last changed.
    epoch: u32,
    members: BTreeMap<NodeId, Window>,
    /// Loss of the link itself.
    inherent: f64,
    doubling: bool,
    cut: Option<Cut>,
    /// Bytes per second that arrived when a queue was last full.
    capacity: Option<f64>,
    /// Share by which the next round without a queue raises the rate.
    growth: f64,
    /// Frames sent and the time, when the round began; tells whether the pace was used.
    round_began: (Instant, u32),
    last_report: Instant,
}

/// What a member reported last, and in this round.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Frames seen and received at the beginning of what is judged.
    base: (u32, u32),
    latest: (u32, u32),
    known: bool,
    /// Fewest frames that it was behind, of the reports since the round began.
    behind: Option<u32>,
}

impl Window {
    /// Share lost, and whether only frames counted that were sent from `epoch` on; `None` if it says too little.
    fn loss(&self, epoch: u32) -> Option<(f64, bool)> {
        let frames = self.latest.0.wrapping_sub(self.base.0);
        let enough = frames >= WINDOW_MIN && self.latest.0.saturating_sub(epoch) >= frames / 2;
        let arrived = self.latest.1.wrapping_sub(self.base.1);
        enough.then(|| (1.0 - f64::from(arrived) / f64::from(frames), self.base.0 >= epoch))
    }
}

/// The rate before a cut, and the loss that led to it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    rate: f64,
    loss: f64,
    doubling: bool,
}

impl Rate {
    /// `frame_len` counts all bytes of a frame's datagram.
    pub fn new(
        now: Instant,
        bounds: RateConfig,
        frame_len: usize,
        spread_ms: u16,
        members: &[NodeId],
    ) -> Self {
        let round = (progress_interval(spread_ms) * 5 / 4).max(ROUND_MIN);
        let present = Window { known: true, ..Window::default() };
        Self {
            bounds,
            frame_len: frame_len as u64,
            rate: (bounds.start as f64).clamp(bounds.min as f64, bounds.max as f64),
            limit: None,
            behind: false,
            tokens: 0.0,
            filled: now,
            round,
            round_ends: now + round,
            epoch: 0,
            members: members.iter().map(|&member| (member, present)).collect(),
            inherent: 0.0,
            doubling: true,
            cut: None,
            capacity: None,
            growth: GROWTH.0,
            round_began: (now, 0),
            last_report: now,
        }
    }

    /// Bytes per second.
    pub const fn bytes_per_second(&self) -> u64 {
        self.rate as u64
    }

    /// Other sessions leave no more than this (see `share`); `None` while there are none.
    pub fn limit(&mut self, now: Instant, share: Option<Share>) {
        let limit = share.map(|share| share.bytes_per_second as f64);
        if limit != self.limit {
            self.fill(now);
            self.limit = limit;
        }
        self.behind = share.is_some_and(|share| share.is_behind);
    }

    /// The rate is one that others have found: it is not to be doubled any more.
    pub const fn settle(&mut self) {
        self.doubling = false;
    }

    /// Whether the rate was found, or is still being doubled.
    pub const fn is_settled(&self) -> bool {
        !self.doubling
    }

    /// Bytes per second that are sent.
    fn pace(&self) -> f64 {
        self.limit.map_or(self.rate, |limit| limit.min(self.rate).max(1.0))
    }

    /// Frames that may be sent now, up to `most`; 0 until a worthwhile batch is due.
    pub fn allow(&mut self, now: Instant, most: u16) -> u16 {
        self.fill(now);
        let frames = (self.tokens / self.frame_len as f64) as u64;
        if frames < self.batch(most) { 0 } else { frames.min(u64::from(most)) as u16 }
    }

    /// Notes that frames were sent.
    pub fn spend(&mut self, frames: u16) {
        self.tokens -= f64::from(frames) * self.frame_len as f64;
    }

    /// When `allow` will next say more than 0.
    pub fn ready_at(&self, most: u16) -> Instant {
        let lacking = (self.batch(most) * self.frame_len) as f64 - self.tokens;
        self.filled + Duration::from_nanos((lacking.max(0.0) / self.pace() * 1e9).ceil() as u64)
    }

    /// Sending begins (again) after a pause, `sent` frames into the session.
    pub fn resume(&mut self, now: Instant, sent: u32) {
        self.filled = now;
        self.tokens = self.tokens.max((self.batch(u16::MAX) * self.frame_len) as f64);
        self.start_round(now, sent);
        self.last_report = now;
    }

    pub fn join(&mut self, member: NodeId) {
        self.members.entry(member).or_default();
    }

    pub fn leave(&mut self, member: NodeId) {
        self.members.remove(&member);
    }

    /// Takes in a member's report; `sent` frames went out so far.
    pub fn on_progress(&mut self, now: Instant, sent: u32, from: NodeId, progress: &Progress) {
        let epoch = self.epoch;
        let Some(window) = self.members.get_mut(&from) else { return };
        self.last_report = now;
        let report = (progress.seen, progress.received);
        let frames = report.0.wrapping_sub(window.latest.0);
        let sane = frames < u32::MAX / 2 && report.1.wrapping_sub(window.latest.1) <= frames;
        if !window.known || !sane {
            // It came late, or began anew: it counts from here.
            window.base = report;
        } else if window.base.0 < epoch && window.latest.0 >= epoch {
            window.base = window.latest;
        }
        (window.latest, window.known) = (report, true);
        let behind = sent.saturating_sub(report.0);
        window.behind = Some(window.behind.map_or(behind, |least| least.min(behind)));
    }

    /// A pass ended, `sent` frames into the session: what its reports say counts at once. If it was too short
    /// for reports, `loss`, the share of its `frames` that the worst member lacks, stands for them (LD-18).
    pub fn on_pass(&mut self, now: Instant, sent: u32, frames: u32, loss: f64) {
        let at_one_rate = self.epoch <= sent.saturating_sub(frames);
        if !self.judge_reports(now, sent) && at_one_rate && frames >= WINDOW_MIN {
            self.judge(now, sent, loss, true);
        }
    }

    /// Ends a round if it is due; `sent` frames went out so far. Call it while frames are being sent.
    pub fn turn(&mut self, now: Instant, sent: u32) {
        if now < self.round_ends || self.judge_reports(now, sent) {
            return;
        }
        if now.since(self.last_report) >= self.round * SILENT_ROUNDS {
            self.last_report = now;
            self.doubling = false;
            self.set(now, sent, self.rate / 2.0);
        } else {
            self.round_ends = now + self.round / 4;
        }
    }

    /// Judges by the worst healthy member that reported in this round; false if none did.
    fn judge_reports(&mut self, now: Instant, sent: u32) -> bool {
        let best = self.losses().fold(1.0, |best: f64, (loss, _)| best.min(loss));
        let healthy = |loss: f64| (1.0 - loss) >= (1.0 - best) * HEALTHY;
        // After a cut only frames of the lower rate can tell what the cut did.
        let after_cut = self.cut.is_some();
        let worst = self
            .losses()
            .filter(|&(loss, pure)| healthy(loss) && (pure || !after_cut))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((loss, pure)) = worst {
            self.judge(now, sent, loss, pure);
        }
        worst.is_some()
    }

    fn losses(&self) -> impl Iterator<Item = (f64, bool)> {
        self.members.values().filter_map(|window| window.loss(self.epoch))
    }

    /// The law: what a loss of this share at the present rate means.
    fn judge(&mut self, now: Instant, sent: u32, loss: f64, pure: bool) {
        if let Some(cut) = self.cut.take() {
            if loss >= cut.loss * STAYS && loss <= INHERENT_MAX {
                self.inherent = self.inherent.max(loss);
                let light = loss <= INHERENT_LIGHT;
                self.doubling = cut.doubling && light;
                self.set(now, sent, if light { cut.rate } else { self.rate * (1.0 + GROWTH.1) });
                return;
            }
            // The loss went with the rate: what arrived then is what the link carries.
            self.doubling = false;
            self.capacity = Some(self.rate / DRAIN);
            self.inherent += (loss - self.inherent) / 2.0;
        }
        let excess = 1.0 - (1.0 - loss) / (1.0 - self.inherent);
        // So much the inherent loss of one round differs from its mean by chance.
        let (began, before) = self.round_began;
        let frames = f64::from(sent.saturating_sub(before));
        if excess > EXCESS + (self.inherent / frames.max(1.0)).sqrt() {
            self.cut = pure.then_some(Cut { rate: self.rate, loss, doubling: self.doubling });
            self.doubling &= pure;
            self.growth = GROWTH.0;
            self.set(now, sent, self.rate * (1.0 - excess) * DRAIN);
            return;
        }
        if loss < self.inherent {
            self.inherent += (loss - self.inherent) / 4.0;
        }
        // A pace that was not used proves nothing about a higher one.
        let used = frames * self.frame_len as f64;
        if used < 0.7 * self.pace() * now.since(began).as_secs_f64() {
            self.start_round(now, sent);
        } else if self.doubling {
            self.set(now, sent, self.rate * 2.0);
        } else if let Some(capacity) = self.capacity
            && self.is_queued()
        {
            self.growth = GROWTH.0;
            self.set(now, sent, (self.rate * DRAIN).max(capacity * QUEUE_FLOOR).min(self.rate));
        } else {
            // Who is behind others gains on them, or a bad beginning would last.
            let growth = if self.behind { 2.0 * self.growth } else { self.growth };
            self.set(now, sent, self.rate * (1.0 + growth));
            self.growth = (self.growth * 1.25).min(GROWTH.1);
        }
    }

    /// Whether frames wait in a queue before some healthy member.
    fn is_queued(&self) -> bool {
        let most = self.members.values().filter_map(|window| window.behind).max().unwrap_or(0);
        f64::from(most) * self.frame_len as f64 > self.rate * QUEUE.as_secs_f64()
    }

    fn set(&mut self, now: Instant, sent: u32, rate: f64) {
        self.fill(now);
        self.rate = rate.clamp(self.bounds.min as f64, self.bounds.max as f64);
        self.epoch = sent;
        self.start_round(now, sent);
    }

    fn start_round(&mut self, now: Instant, sent: u32) {
        self.round_ends = now + self.round;
        self.round_began = (now, sent);
        for window in self.members.values_mut() {
            (window.base, window.behind) = (window.latest, None);
        }
    }

    fn fill(&mut self, now: Instant) {
        let earned = self.pace() * now.since(self.filled).as_secs_f64();
        self.filled = now;
        // Two milliseconds make up for a loop that wakes late; more would be a burst.
        let depth = (self.pace() * 0.002).max((2 * self.batch(u16::MAX) * self.frame_len) as f64);
        self.tokens = (self.tokens + earned).min(depth);
    }

    /// Frames worth a system call: what half a millisecond brings, at least one, at most a full batch.
    fn batch(&self, most: u16) -> u64 {
        let half = (self.pace() * 0.0005) as u64 / self.frame_len;
        half.clamp(1, super::sender::BATCH_MAX.into()).min(u64::from(most)).max(1)
    }
}

#[cfg(test)]
mod tests;
