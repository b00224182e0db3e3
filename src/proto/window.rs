//! How many frames may be on their way before the slowest member has read them (design D5).
//!
//! A rate alone cannot know that a member's process is behind: what it has not read fills its socket, and
//! the kernel drops the rest. So members tell how many frames their socket has room for and, in segments
//! of few, report as often as a quarter of it has arrived; the sender keeps no more than the least room
//! on its way. On a link that is slower than its members this bound is never met, and the rate rules alone.
//!
//! One member must not hold the others for long: whoever has not moved for [`STALE`] is left out until it
//! reports again, and whoever alone was in the way for most of a quarter of a second is left out until
//! it is taken back. It loses frames then, and gets them by repair when the others have everything.

use super::arrivals::expand;
use super::sender::BATCH_MAX;
use crate::time::{Duration, Instant};
use crate::wire::id::NodeId;
use crate::wire::session::Progress;
use std::collections::BTreeMap;

/// Members up to which each reports by count. Beyond it their reports would be too many.
pub const COUNTED_MAX: usize = 32;
/// Frames that fit the smallest buffer that a Linux host grants without being asked.
const ROOM_LEAST: u32 = 64;
/// How long the sender waits for members that do not move.
const STALE: Duration = Duration::from_millis(50);
/// Over which the time that a member holds all others is summed up.
const SPAN: Duration = Duration::from_millis(250);
/// Part of [`SPAN`] beyond which a member is too slow for the others.
const HOLDS_MOST: (u64, u64) = (3, 4);

/// Frames on their way to the members of one session.
#[derive(Clone, Debug)]
pub struct Window {
    /// Members report by count; without it there is no bound.
    counted: bool,
    seats: BTreeMap<NodeId, Seat>,
    /// No room since.
    full: Option<Instant>,
    /// Frames that are on the links between, and in no socket.
    on_links: u32,
    /// Until when the wait is in the sums of the seats.
    noted: Instant,
    span_began: Instant,
}

/// What is known of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    /// Highest number that it has read.
    seen: u64,
    room: Option<u16>,
    dropped: u32,
    /// Did not move when it was waited for.
    stale: bool,
    slow: bool,
    /// Time in this span in which it alone was waited for.
    held: Duration,
}

impl Seat {
    const fn counts(&self) -> bool {
        !self.stale && !self.slow
    }

    fn room(&self) -> u32 {
        self.room.map_or(ROOM_LEAST, u32::from).max(ROOM_LEAST)
    }
}

impl Window {
    pub fn new(now: Instant, counted: bool, members: &[NodeId]) -> Self {
        let seats = members.iter().map(|&member| (member, Seat::default())).collect();
        Self { counted, seats, full: None, on_links: 0, noted: now, span_began: now }
    }

    /// A member that comes late has seen nothing yet and lacks what went before anyway.
    pub fn join(&mut self, member: NodeId, sent: u64) {
        self.seats.entry(member).or_insert(Seat { seen: sent, ..Seat::default() });
    }

    pub fn leave(&mut self, member: NodeId) {
        self.seats.remove(&member);
    }

    /// Takes in a member's report.
    pub fn on_progress(&mut self, now: Instant, sent: u64, from: NodeId, progress: &Progress) {
        self.note_wait(now, sent);
        let Some(seat) = self.seats.get_mut(&from) else { return };
        let seen = expand(seat.seen, progress.seen);
        if seen > seat.seen {
            seat.seen = seen;
            seat.stale = false;
        }
        // What its socket dropped did not fit: half of that is its room from now on.
        let room = match seat.room {
            Some(room) if progress.dropped > seat.dropped => room / 2,
            Some(room) => room.min(progress.room),
            None => progress.room,
        };
        seat.room = Some(room);
        seat.dropped = progress.dropped;
        if self.free(sent).is_none_or(|free| free >= self.batch(BATCH_MAX)) {
            self.full = None;
        }
    }

    /// Frames that may be sent now, of `most`; fewer than a worthwhile batch are none.
    pub fn allow(&mut self, now: Instant, sent: u64, most: u16) -> u16 {
        let Some(free) = self.free(sent) else { return most };
        if free >= self.batch(most) {
            return free.min(most.into()) as u16;
        }
        if self.full.is_none() {
            (self.full, self.noted) = (Some(now), now);
        }
        0
    }

    /// So many frames are on the links, and in no socket.
    pub const fn set_on_links(&mut self, frames: u32) {
        self.on_links = frames;
    }

    /// Whoever proved too slow for the others.
    pub fn slow(&self) -> impl Iterator<Item = NodeId> {
        self.seats.iter().filter(|(_, seat)| seat.slow).map(|(&node, _)| node)
    }

    /// This member is not waited for until all are recalled.
    pub fn leave_behind(&mut self, member: NodeId) {
        if let Some(seat) = self.seats.get_mut(&member) {
            seat.slow = true;
        }
    }

    /// All are waited for again.
    pub fn recall(&mut self) {
        for seat in self.seats.values_mut() {
            (seat.slow, seat.held) = (false, Duration::ZERO);
        }
    }

    /// When whoever does not move is no longer waited for.
    pub fn deadline(&self) -> Option<Instant> {
        self.full.map(|since| since + STALE)
    }

    /// Leaves out whoever was waited for in vain.
    pub fn turn(&mut self, now: Instant, sent: u64) {
        if self.deadline().is_some_and(|at| now >= at) {
            self.note_wait(now, sent);
            let least = self.least_room() + self.on_links;
            for seat in self.seats.values_mut().filter(|seat| seat.counts()) {
                seat.stale = sent.saturating_sub(seat.seen) > u64::from(least / 2);
            }
            self.full = None;
        }
    }

    fn counting(&self) -> impl Iterator<Item = &Seat> {
        self.seats.values().filter(|seat| self.counted && seat.counts())
    }

    /// Frames worth sending at once.
    fn batch(&self, most: u16) -> u32 {
        u32::from(most).min(self.least_room() / 4)
    }

    fn least_room(&self) -> u32 {
        self.counting().map(Seat::room).min().unwrap_or(ROOM_LEAST)
    }

    /// `None` where nothing bounds.
    fn free(&self, sent: u64) -> Option<u32> {
        let behind = self.counting().map(|seat| sent.saturating_sub(seat.seen)).max()?;
        let most = u64::from(self.least_room() + self.on_links);
        Some(u32::try_from(most.saturating_sub(behind)).unwrap_or(u32::MAX))
    }

    /// Adds the time since the window was full to the member that alone was waited for.
    fn note_wait(&mut self, now: Instant, sent: u64) {
        if self.full.is_some() {
            let since = std::mem::replace(&mut self.noted, now);
            let half = u64::from(self.least_room() / 2 + self.on_links);
            let others = self.counting().count() > 1;
            let late = |seat: &&mut Seat| seat.counts() && sent.saturating_sub(seat.seen) > half;
            let mut late = self.seats.values_mut().filter(late);
            if let (Some(seat), None) = (late.next(), late.next())
                && others
            {
                seat.held = seat.held + now.since(since);
            }
        }
        let span = now.since(self.span_began);
        if span >= SPAN {
            let (most, of) = HOLDS_MOST;
            for seat in self.seats.values_mut() {
                seat.slow |= seat.held.as_nanos() * of > span.as_nanos() * most;
                seat.held = Duration::ZERO;
            }
            self.span_began = now;
        }
    }
}

#[cfg(test)]
mod tests;
