//! Counts the frames that arrived, each once, by the number that the sender gave it.

/// Frames of one session that arrived here.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    seen: u32,
    received: u32,
    /// One bit for each of the last 1,024 numbers, by number modulo 1,024.
    recent: [u64; Self::WORDS],
}

impl Arrivals {
    const WORDS: usize = 16;
    const WINDOW: u32 = 64 * Self::WORDS as u32;

    /// Highest number; 0 before the first frame.
    pub const fn seen(&self) -> u32 {
        self.seen
    }

    /// Frames, duplicates not counted.
    pub const fn received(&self) -> u32 {
        self.received
    }

    pub fn note(&mut self, sent: u32) {
        let (word, bit) = ((sent % Self::WINDOW / 64) as usize, 1 << (sent % 64));
        if sent > self.seen {
            if sent - self.seen > Self::WINDOW {
                self.recent = [0; Self::WORDS];
            } else {
                for number in self.seen + 1..sent {
                    self.recent[(number % Self::WINDOW / 64) as usize] &= !(1 << (number % 64));
                }
            }
            self.seen = sent;
        } else if self.seen - sent >= Self::WINDOW || self.recent[word] & bit != 0 {
            // There before, or too late to tell.
            return;
        }
        self.recent[word] |= bit;
        self.received += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_once_however_they_are_ordered() {
        let mut arrivals = Arrivals::default();
        for sent in [1, 2, 2, 5, 3, 5, 1_030, 1_029, 1_030, 3, 9, 9, 500_000, 499_999, 1] {
            arrivals.note(sent);
        }
        // 1, 2, 5, 3, 1,030, 1,029, 9, 500,000 and 499,999; what is too old is not counted again.
        assert_eq!((arrivals.seen(), arrivals.received()), (500_000, 9));
    }
}
