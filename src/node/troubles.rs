//! Troubles that last, told when they begin and once in a while after that: an interface that is down would
//! fill the log with one line for each datagram.

use crate::time::{Duration, Instant};
use std::collections::BTreeMap;

/// Between two lines that say the same.
const PERIOD: Duration = Duration::from_secs(60);
/// Different troubles that are remembered.
const KNOWN_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Troubles {
    told: BTreeMap<String, Instant>,
}

impl Troubles {
    /// Logs a warning, unless it said the same a moment ago.
    pub fn tell(&mut self, now: Instant, text: String) {
        if self.is_news(now, &text) {
            log::warn!("{text}");
        }
    }

    fn is_news(&mut self, now: Instant, text: &str) -> bool {
        if self.told.get(text).is_some_and(|at| now < *at + PERIOD) {
            return false;
        }
        if self.told.len() >= KNOWN_MAX
            && let Some(oldest) = self.told.iter().min_by_key(|(_, at)| **at).map(|(text, _)| text.clone())
        {
            self.told.remove(&oldest);
        }
        self.told.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_and_something_else_at_once() {
        let mut troubles = Troubles::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert!(troubles.is_news(at(0), "no route"));
        assert!(!troubles.is_news(at(59), "no route"));
        assert!(troubles.is_news(at(59), "no device"));
        assert!(troubles.is_news(at(60), "no route"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut troubles = Troubles::default();
        for number in 0..1_000 {
            assert!(troubles.is_news(Instant::ZERO, &format!("trouble {number}")));
        }
        assert_eq!(troubles.told.len(), KNOWN_MAX);
    }
}
