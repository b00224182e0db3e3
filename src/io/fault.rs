//! Faults on purpose: datagrams dropped by a seeded coin, around the real socket (`[fault]` in the
//! configuration, `farmcast demo --loss`). The same seed drops the same datagrams of the same sequence.

/// Drops a part of what arrives. It stands behind the socket, so that it acts on single datagrams even
/// where the kernel delivers them in batches.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Of 2^32.
    threshold: u64,
    state: u64,
    /// Datagrams dropped.
    pub dropped: u64,
}

impl Loss {
    /// `percent` from 0 to 100; 0 drops nothing.
    pub fn new(percent: f64, seed: u64) -> Self {
        let threshold = (percent.clamp(0.0, 100.0) / 100.0 * 2_f64.powi(32)) as u64;
        Self { threshold, state: seed, dropped: 0 }
    }

    /// Whether the next datagram is lost.
    pub fn drops(&mut self) -> bool {
        if self.threshold == 0 {
            return false;
        }
        // A 64-bit linear congruential generator (Knuth's MMIX constants); its upper half is the coin.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drops = (self.state >> 32) < self.threshold;
        self.dropped += u64::from(drops);
        drops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_asked_share_is_dropped_and_a_seed_repeats_itself() {
        let run = |seed| {
            let mut loss = Loss::new(5.0, seed);
            (0..100_000).map(|_| loss.drops()).collect::<Vec<_>>()
        };
        let first = run(1);
        let share = first.iter().filter(|dropped| **dropped).count();
        assert!((4_600..5_400).contains(&share), "{share}");
        assert_eq!(first, run(1));
        assert_ne!(first, run(2));
    }

    #[test]
    fn none_and_all_are_exact() {
        assert!((0..1_000).all(|_| !Loss::new(0.0, 1).drops()));
        let mut all = Loss::new(100.0, 1);
        assert!((0..1_000).all(|_| all.drops()));
    }
}
