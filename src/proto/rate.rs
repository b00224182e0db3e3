//! The law that sets a session's rate (design D5, LD-18).
//!
//! Loss alone does not tell a lossy link from a full queue, so the law asks the link. When the worst
//! member loses clearly more than it is known to lose anyway, the rate is cut to what arrived. If the loss
//! goes with it, the queue was full, and what arrived was the link's *capacity*. If the loss remains at the
//! lower rate, it is the link's own: remember it as *inherent*, go back to the rate before if it is light,
//! and grow on. If the frames come after all, others had only overtaken them: the rate is what it was. While
//! nothing was ever lost to a queue the rate doubles each round.
//!
//! Once the capacity is known the rate stays close to it, and the queue is watched as well: by how much longer
//! frames take than they take at least. A queue that grows ends the growth and lowers the rate to what
//! arrives before anything is lost, and one that does not drain then lowers it further, which leaves a competing
//! TCP its room; but never below a part of the capacity, or a queue that others keep full would stop us for good.
//! With no queue the rate grows by steps that become longer, for others may have gone.
//!
//! Few members that alone press for a lower rate are left behind (see `laggards`). A round is as long as it
//! takes each member to report once. A report counts for a round only by the frames that were sent since the
//! rate last changed.

use super::laggards::{Laggards, Press};
use super::pace::Pace;
use super::receiver::progress_interval;
use super::reception::{Departures, Loss, Reception};
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
/// Share of frames lost that is heavy: half as much more could be sent without the one who loses it.
const HEAVY: f64 = 0.2;
/// A rate below this part of what it was before somebody pressed is low.
const LOW: f64 = 0.8;
/// How many times as much as usual somebody must lose or wait to have a bottleneck of its own.
const APART: f64 = 2.0;
/// Loss that stays after a cut is the link's own if at least this share of it stays.
const STAYS: f64 = 0.6;
/// What becomes so many times as much after a cut is not the link's own.
const RISES: f64 = 1.5;
/// Inherent loss up to this share lets the rate go back to where it was. A larger one is more often a member
/// that cannot keep up, whose full buffer loses frames at the lower rate as well for a while.
const INHERENT_LIGHT: f64 = 0.15;
/// A cut goes a little below what arrived, so that the queue drains.
const DRAIN: f64 = 0.97;
/// What is left of the rate when the queue did not drain by [`DRAINS`] in [`DRAIN_ROUNDS`]: somebody else keeps it
/// full.
const YIELD: f64 = 0.8;
const DRAIN_ROUNDS: u8 = 3;
const DRAINS: Duration = Duration::from_millis(2);
/// A pace was used if so much of it was.
const USED: f64 = 0.7;
/// It is cut as if at least this part of it had been used.
const USED_MIN: f64 = 0.25;
/// Growth per round once a queue was seen full: at first, and at most after rounds without a queue.
const GROWTH: (f64, f64) = (0.01, 0.08);
/// Frames that wait longer than this wait in a queue, not in somebody's turn of a loop.
const QUEUE: Duration = Duration::from_millis(5);
/// The queue alone never brings the rate below this part of the capacity.
const QUEUE_FLOOR: f64 = 0.4;
/// Deviations from the mean that the worst of some members seldom exceeds.
const SELDOM: f64 = 2.0;
/// What a link that lost nothing of late may lose nevertheless.
const INHERENT_LEAST: f64 = 0.005;
/// Loss that is never taken for inherent: beyond it a session makes no headway anyway.
const INHERENT_MAX: f64 = 0.6;
/// Frames that a pass must have before its loss says anything.
const PASS_MIN: u64 = 64;
/// A member that receives less than this share of what the best receives does not slow the others: it
/// will be finished by unicast.
const HEALTHY: f64 = 0.25;
/// Least time of a round: shorter ones hold too few frames to judge a loss by.
const ROUND_MIN: Duration = Duration::from_millis(60);
/// Rounds without any report after which the rate is halved.
const SILENT_ROUNDS: u64 = 5;

/// Rate of one session.
#[derive(Clone, Debug)]
pub struct Rate {
    bounds: RateConfig,
    /// Bytes on the wire of one frame.
    frame_len: f64,
    /// Bytes per second.
    rate: f64,
    pace: Pace,
    /// What other sessions leave of it.
    limit: Option<f64>,
    /// What an operator lets it have at most, for now.
    bound: Option<f64>,
    /// Others have more than an even part of what there is.
    behind: bool,
    round: Duration,
    round_ends: Instant,
    /// Frames sent when the rate last changed.
    epoch: u64,
    departures: Departures,
    members: BTreeMap<NodeId, Reception>,
    laggards: Laggards,
    /// Room to sort what members lost, or how long their frames waited.
    sorted: Vec<f64>,
    /// Loss of the link itself.
    inherent: f64,
    doubling: bool,
    cut: Option<Cut>,
    /// Bytes per second that arrived when a queue was last full.
    capacity: Option<f64>,
    /// How long frames waited in the queue, if they did, and rounds since.
    queued: Option<(Duration, u8)>,
    /// The rate, and whether it was being doubled, before few members pressed for a lower one.
    unpressed: Option<(f64, bool)>,
    /// Share by which the next round without a queue raises the rate.
    growth: f64,
    /// Frames sent and the time, when the round began; tells whether the pace was used.
    round_began: (Instant, u64),
    last_report: Instant,
}

/// The rate before a cut, and the loss that led to it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    rate: f64,
    loss: f64,
    doubling: bool,
    /// Who lost so many frames, and how many of its frames had come late before.
    by: Option<(NodeId, u64, u64)>,
}

/// The worst loss of a round.
#[derive(Clone, Copy, Debug)]
struct Worst {
    loss: f64,
    pure: bool,
    by: Option<(NodeId, u64, u64)>,
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
        let rate = (bounds.start as f64).clamp(bounds.min as f64, bounds.max as f64);
        Self {
            bounds,
            frame_len: frame_len as f64,
            rate,
            pace: Pace::new(now, frame_len, rate),
            limit: None,
            bound: None,
            behind: false,
            round,
            round_ends: now + round,
            epoch: 0,
            departures: Departures::default(),
            members: members.iter().map(|&member| (member, Reception::present())).collect(),
            laggards: Laggards::default(),
            sorted: Vec::with_capacity(members.len()),
            inherent: 0.0,
            doubling: true,
            cut: None,
            capacity: None,
            queued: None,
            unpressed: None,
            growth: GROWTH.0,
            round_began: (now, 0),
            last_report: now,
        }
    }

    /// Bytes per second.
    pub fn bytes_per_second(&self) -> u64 {
        self.bound.map_or(self.rate, |bound| bound.min(self.rate)) as u64
    }

    /// No more than so many bytes per second from now on, however much the members could take. What was found of
    /// their links is kept for the time when it ends.
    pub fn bound(&mut self, now: Instant, bytes_per_second: Option<u64>) {
        let bound = bytes_per_second.map(|rate| rate as f64);
        if bound != self.bound {
            self.bound = bound;
            self.set_pace(now);
        }
    }

    /// Other sessions leave no more than this (see `share`); `None` while there are none.
    pub fn limit(&mut self, now: Instant, share: Option<Share>) {
        let limit = share.map(|share| share.bytes_per_second as f64);
        if limit != self.limit {
            self.limit = limit;
            self.set_pace(now);
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

    /// When frames may leave at this rate.
    pub const fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// The same, to be looked at.
    pub const fn paced(&self) -> &Pace {
        &self.pace
    }

    /// Notes that frames leave, the first of them with this number.
    pub fn spend(&mut self, now: Instant, first: u64, frames: u16) {
        self.pace.spend(frames);
        self.departures.note(now, first);
    }

    /// Sending begins (again) after a pause, `sent` frames into the session.
    pub fn resume(&mut self, now: Instant, sent: u64) {
        self.pace.resume(now);
        self.start_round(now, sent);
        self.last_report = now;
    }

    pub fn join(&mut self, member: NodeId) {
        self.members.entry(member).or_default();
    }

    pub fn leave(&mut self, member: NodeId) {
        self.members.remove(&member);
    }

    /// Members that are left behind.
    pub const fn laggards(&self) -> &Laggards {
        &self.laggards
    }

    /// This member is too slow for the others: the rate follows it no more.
    pub fn leave_behind(&mut self, now: Instant, member: NodeId) {
        let (began, _) = self.round_began;
        let got = self.members.get(&member).map_or(0.0, |of| self.bytes_got(of, now, began));
        self.laggards.leave(member, got);
        self.forget_laggards();
    }

    /// What was learned of the links was learned of those that are left behind.
    fn forget_laggards(&mut self) {
        (self.cut, self.capacity, self.queued) = (None, None, None);
        self.growth = GROWTH.1;
        if let Some((rate, doubling)) = self.unpressed.take() {
            (self.rate, self.doubling) = (rate.min(self.rate * 2.0).max(self.rate), doubling);
        }
    }

    /// All members count again.
    pub fn recall(&mut self) {
        self.laggards.recall();
    }

    /// Takes in a member's report.
    pub fn on_progress(&mut self, now: Instant, from: NodeId, progress: &Progress) {
        let Some(member) = self.members.get_mut(&from) else { return };
        self.last_report = now;
        member.note(now, &self.departures, self.epoch, progress);
    }

    /// Frames that are on the links, and in no queue: what arrives in the time that frames take to the member to
    /// which they take longest. Little is nothing, for it may be somebody's turn of a loop.
    pub fn on_links(&self) -> u32 {
        let counted = self.counted().filter_map(|(_, member)| member.least_delay());
        let delay = counted.max().map_or(Duration::ZERO, |delay| delay - delay.min(QUEUE));
        (self.pace.rate() * delay.as_secs_f64() / self.frame_len) as u32
    }

    /// A pass ended, `sent` frames into the session: what its reports say counts at once. If it was too short
    /// for reports, `loss`, the share of its `frames` that the worst member lacks, stands for them (LD-18).
    pub fn on_pass(&mut self, now: Instant, sent: u64, frames: u64, loss: f64) {
        let at_one_rate = self.epoch <= sent.saturating_sub(frames);
        if !self.judge_reports(now, sent) && at_one_rate && frames >= PASS_MIN {
            self.judge(now, sent, Worst { loss, pure: true, by: None });
        }
    }

    /// Ends a round if it is due; `sent` frames went out so far. Call it while frames are being sent.
    pub fn turn(&mut self, now: Instant, sent: u64) {
        if let Some(Cut { rate, doubling, by: Some((member, lost, late)), .. }) = self.cut
            && let Some(member) = self.members.get(&member)
            && (member.late() - late) * 2 > lost
        {
            // What was taken for lost has come: it had only been overtaken.
            (self.cut, self.doubling) = (None, doubling);
            self.set(now, sent, rate);
        }
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

    /// Those that the rate follows.
    fn counted(&self) -> impl Iterator<Item = (NodeId, &Reception)> {
        let all = self.members.iter().map(|(&node, member)| (node, member));
        all.filter(|(node, _)| !self.laggards.is_left(*node))
    }

    /// Judges by the worst healthy member that reported in this round; false if none did.
    fn judge_reports(&mut self, now: Instant, sent: u64) -> bool {
        let losses = || {
            let loss = |(node, member): (NodeId, &Reception)| {
                member.loss(self.epoch).map(|loss| (node, loss, member.late()))
            };
            self.counted().filter_map(loss)
        };
        let best = losses().fold(1.0, |best: f64, (_, loss, _)| best.min(loss.share));
        let healthy = |loss: Loss| (1.0 - loss.share) >= (1.0 - best) * HEALTHY;
        // After a cut only frames of the lower rate can tell what the cut did.
        let after_cut = self.cut.is_some();
        let worst = losses()
            .filter(|(_, loss, _)| healthy(*loss) && (loss.pure || !after_cut))
            .max_by(|a, b| a.1.share.total_cmp(&b.1.share));
        let Some((node, loss, late)) = worst else { return false };
        let (began, before) = self.round_began;
        let enough = EXCESS + self.chance(sent - before);
        let mut all = std::mem::take(&mut self.sorted);
        let lost = |member: &Reception| member.loss(self.epoch).map_or(0.0, |loss| self.excess(loss.share));
        let waits = |member: &Reception| member.queueing().map_or(0.0, |delay| delay.as_secs_f64());
        let [usual_loss, usual_wait] = [&lost as &dyn Fn(&Reception) -> f64, &waits].map(|of| {
            all.clear();
            all.extend(self.counted().map(|(_, member)| of(member)));
            all.sort_unstable_by(f64::total_cmp);
            all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
        });
        let press = |(node, member): (NodeId, &Reception)| {
            let (loss, wait) = (lost(member), waits(member));
            let [loses, queues] = [loss > enough, wait > QUEUE.as_secs_f64()];
            let alone =
                loses && loss > usual_loss * APART + enough || queues && wait > (usual_wait + 1e-3) * APART;
            let got = self.bytes_got(member, now, began);
            (loses || queues).then_some(Press { node, alone, heavy: loss > HEAVY, got })
        };
        let presses: Vec<Press> = self.counted().filter_map(press).collect();
        let members = self.counted().count();
        self.sorted = all;
        let is_low = self.unpressed.is_some_and(|(rate, _)| self.rate < rate * LOW);
        if self.laggards.on_round(members, &presses, is_low) {
            self.forget_laggards();
            self.set(now, sent, self.rate);
            return true;
        }
        if !self.laggards.is_pressed() {
            self.unpressed = Some((self.rate, self.doubling));
        }
        self.judge(
            now,
            sent,
            Worst { loss: loss.share, pure: loss.pure, by: Some((node, loss.frames, late)) },
        );
        true
    }

    fn bytes_got(&self, member: &Reception, now: Instant, since: Instant) -> f64 {
        member.arrived() as f64 * self.frame_len / now.since(since).as_secs_f64().max(1e-3)
    }

    /// Share lost beyond the inherent loss.
    fn excess(&self, loss: f64) -> f64 {
        1.0 - (1.0 - loss) / (1.0 - self.inherent)
    }

    /// So much the inherent loss of so many frames differs from its mean by chance, seldom more.
    fn chance(&self, frames: u64) -> f64 {
        SELDOM * (self.inherent.max(INHERENT_LEAST) / frames.max(1) as f64).sqrt()
    }

    /// The law: what a loss of this share at the present rate means.
    fn judge(&mut self, now: Instant, sent: u64, Worst { loss, pure, by }: Worst) {
        let (began, before) = self.round_began;
        let frames = sent.saturating_sub(before);
        if let Some(cut) = self.cut.take() {
            let (least, most) = (cut.loss * STAYS, cut.loss * RISES + EXCESS + self.chance(frames));
            if loss >= least && loss <= most && loss <= INHERENT_MAX {
                self.inherent = self.inherent.max(loss);
                let light = loss <= INHERENT_LIGHT;
                self.doubling = cut.doubling && light;
                self.set(now, sent, if light { cut.rate } else { self.rate * (1.0 + GROWTH.1) });
                return;
            }
            // No link loses more of less. A queue that was filling is full now, and the first cut was too small.
            if loss < least {
                // The loss went with the rate: what arrived then is what the link carries.
                self.doubling = false;
                self.capacity = Some(self.rate / DRAIN);
                self.inherent += (loss - self.inherent) / 2.0;
                self.laggards.on_capacity(self.rate);
            }
        }
        let used = frames as f64 * self.frame_len / now.since(began).as_secs_f64().max(1e-3);
        let excess = self.excess(loss);
        if excess > EXCESS + self.chance(frames) {
            self.cut = pure.then_some(Cut { rate: self.rate, loss, doubling: self.doubling, by });
            self.doubling &= pure;
            self.growth = GROWTH.0;
            // Where the window holds the frames back, less left than the rate allows.
            let share = used / self.pace.rate();
            let share = if share < USED { share.max(USED_MIN) } else { 1.0 };
            self.set(now, sent, self.rate * share * (1.0 - excess) * DRAIN);
            return;
        }
        if loss < self.inherent {
            self.inherent += (loss - self.inherent) / 4.0;
        }
        // A pace that was not used proves nothing about a higher one.
        if used < USED * self.pace.rate() {
            self.start_round(now, sent);
        } else if self.doubling {
            self.set(now, sent, self.rate * 2.0);
        } else if let Some(capacity) = self.capacity
            && let queue = self.queue()
            && queue > QUEUE
        {
            self.growth = GROWTH.0;
            let (left, queued) = match self.queued {
                None => (DRAIN, (queue, 0)),
                Some((before, rounds)) if rounds + 1 < DRAIN_ROUNDS => (1.0, (before, rounds + 1)),
                Some((before, _)) if queue + DRAINS < before => (1.0, (queue, 0)),
                Some(_) => (YIELD, (queue, 0)),
            };
            self.queued = Some(queued);
            self.set(now, sent, (self.rate * left).max(capacity * QUEUE_FLOOR).min(self.rate));
        } else {
            self.queued = None;
            // Who is behind others gains on them, or a bad beginning would last.
            let growth = if self.behind { 2.0 * self.growth } else { self.growth };
            self.set(now, sent, self.rate * (1.0 + growth));
            self.growth = (self.growth * 1.25).min(GROWTH.1);
        }
    }

    /// How long frames wait in a queue before the member to which they take longest.
    fn queue(&self) -> Duration {
        self.counted().filter_map(|(_, member)| member.queueing()).max().unwrap_or(Duration::ZERO)
    }

    fn set(&mut self, now: Instant, sent: u64, rate: f64) {
        // What goes well at the bound proves nothing about a higher rate.
        let most = self.bound.map_or(f64::INFINITY, |bound| bound.max(self.rate));
        self.rate = rate.min(most).clamp(self.bounds.min as f64, self.bounds.max as f64);
        self.set_pace(now);
        self.epoch = sent;
        self.start_round(now, sent);
    }

    fn set_pace(&mut self, now: Instant) {
        let least = [self.limit, self.bound].into_iter().flatten().fold(self.rate, f64::min);
        self.pace.set(now, least);
    }

    fn start_round(&mut self, now: Instant, sent: u64) {
        self.round_ends = now + self.round;
        self.round_began = (now, sent);
        self.members.values_mut().for_each(Reception::begin);
    }
}

#[cfg(test)]
mod tests;
