//! When the next frames of a session may leave: a token bucket.

use super::sender::BATCH_MAX;
use crate::time::{Duration, Instant};

/// Pace of one session.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes on the wire of one frame.
    frame_len: u64,
    /// Bytes per second, above 0.
    rate: f64,
    /// Bytes that may be sent at once, as of `filled`.
    tokens: f64,
    filled: Instant,
}

impl Pace {
    /// `frame_len` counts all bytes of a frame's datagram.
    pub const fn new(now: Instant, frame_len: usize, rate: f64) -> Self {
        Self { frame_len: frame_len as u64, rate, tokens: 0.0, filled: now }
    }

    /// Bytes per second.
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// From now on so many bytes per second are sent.
    pub fn set(&mut self, now: Instant, rate: f64) {
        self.fill(now);
        self.rate = rate.max(1.0);
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
        self.filled + Duration::from_nanos((lacking.max(0.0) / self.rate * 1e9).ceil() as u64)
    }

    /// Sending begins (again) after a pause: the first batch is due at once.
    pub fn resume(&mut self, now: Instant) {
        self.filled = now;
        self.tokens = self.tokens.max((self.batch(u16::MAX) * self.frame_len) as f64);
    }

    fn fill(&mut self, now: Instant) {
        let earned = self.rate * now.since(self.filled).as_secs_f64();
        self.filled = now;
        // Two milliseconds make up for a loop that wakes late; more would be a burst.
        let depth = (self.rate * 0.002).max((2 * self.batch(u16::MAX) * self.frame_len) as f64);
        self.tokens = (self.tokens + earned).min(depth);
    }

    /// Frames worth a system call: what half a millisecond brings, at least one, at most a full batch.
    fn batch(&self, most: u16) -> u64 {
        let half = (self.rate * 0.0005) as u64 / self.frame_len;
        half.clamp(1, BATCH_MAX.into()).min(u64::from(most)).max(1)
    }
}
