//! What happened, as a hash that two runs of one seed must share and, on demand, as text to read.

use crate::sweep::tell;
use farmcast::time::Instant;

/// The log of one simulated farm.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    print: bool,
}

impl Trace {
    pub const fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, print }
    }

    /// Notes an event: its time, at whom, what as numbers, and what in words.
    pub fn note(&mut self, now: Instant, at: usize, what: &[u64], words: impl FnOnce() -> String) {
        self.events += 1;
        for number in [now.as_nanos(), at as u64].iter().chain(what) {
            for byte in number.to_le_bytes() {
                // FNV-1a: a hash whose value no version of a library changes.
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        if self.print {
            tell(&format!("{now}  n{at:<2} {}", words()));
        }
    }

    /// A line that counts for the reader only.
    pub fn say(&self, now: Instant, words: impl FnOnce() -> String) {
        if self.print {
            tell(&format!("{now}  --- {}", words()));
        }
    }

    pub const fn hash(&self) -> u64 {
        self.hash
    }

    pub const fn events(&self) -> u64 {
        self.events
    }
}
