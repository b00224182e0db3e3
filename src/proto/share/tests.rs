use super::*;
use crate::proto::random::Rng;
use crate::proto::rate::{Rate, RateConfig};
use crate::time::{Duration, Instant};
use crate::wire::id::{NodeId, SessionId};
use crate::wire::session::Progress;

const FRAME_LEN: usize = 1_500;
const QUEUE: f64 = 256e3;

#[test]
fn the_slow_take_what_they_can_and_the_others_share_the_rest() {
    for (rates, shares) in [
        (&[][..], &[][..]),
        (&[70], &[(70, false)]),
        (&[100, 100], &[(50, false), (50, false)]),
        (&[100, 60], &[(50, false), (50, false)]),
        (&[10, 100], &[(10, true), (90, false)]),
        (&[100, 10, 20, 90], &[(35, false), (10, true), (20, true), (35, false)]),
        (&[0, 8], &[(0, true), (8, false)]),
    ] {
        let divided: Vec<(u64, bool)> =
            divide(rates).iter().map(|share| (share.bytes_per_second, share.is_behind)).collect();
        assert_eq!(divided, shares, "{rates:?}");
    }
}

#[test]
fn nobody_gets_more_than_it_asked_for_and_all_together_the_highest_rate_at_most() {
    let mut rng = Rng::new(5);
    for _ in 0..1_000 {
        let rates: Vec<u64> = (0..rng.below(16)).map(|_| rng.below(1 << 40)).collect();
        let shares: Vec<u64> = divide(&rates).iter().map(|share| share.bytes_per_second).collect();
        assert!(shares.iter().zip(&rates).all(|(share, rate)| share <= rate));
        assert!(shares.iter().sum::<u64>() <= rates.iter().copied().max().unwrap_or(0));
    }
}

/// A session of one member that has always something to send.
struct Session {
    rate: Rate,
    sent: u64,
    received: u32,
    delivered: u64,
}

/// Sessions behind one bottleneck.
struct Link {
    capacity: f64,
    queued: f64,
    now: Instant,
    rng: Rng,
    sessions: Vec<Session>,
}

impl Link {
    fn join(&mut self, running: bool) {
        let start = self.sessions.iter().map(|session| session.rate.bytes_per_second()).max();
        let bounds =
            RateConfig { start: start.unwrap_or(RateConfig::default().start), ..RateConfig::default() };
        let mut rate = Rate::new(self.now, bounds, FRAME_LEN, 9, &[NodeId(1)]);
        if running {
            rate.settle();
        }
        self.sessions.push(Session { rate, sent: 0, received: 0, delivered: 0 });
    }

    /// Bytes of each session that passed in so many milliseconds.
    fn run(&mut self, millis: u64) -> Vec<f64> {
        let before: Vec<u64> = self.sessions.iter().map(|session| session.delivered).collect();
        for step in 0..millis * 2 {
            self.now += Duration::from_micros(500);
            self.queued = (self.queued - self.capacity * 0.0005).max(0.0);
            let rates: Vec<u64> =
                self.sessions.iter().map(|session| session.rate.bytes_per_second()).collect();
            for (session, share) in self.sessions.iter_mut().zip(divide(&rates)) {
                session.rate.limit(self.now, Some(share));
            }
            // A batch of each in turn, as the engine does.
            let mut busy = true;
            while std::mem::take(&mut busy) {
                let count = self.sessions.len();
                for at in 0..count {
                    // Whose batch finds the queue full is chance.
                    let session =
                        &mut self.sessions[(at + self.rng.below(2) as usize + step as usize) % count];
                    session.rate.turn(self.now, session.sent);
                    let frames = session.rate.pace().allow(self.now, 44);
                    session.rate.spend(self.now, session.sent + 1, frames);
                    busy |= frames > 0;
                    for _ in 0..frames {
                        session.sent += 1;
                        if self.queued + FRAME_LEN as f64 <= QUEUE {
                            self.queued += FRAME_LEN as f64;
                            session.received += 1;
                            session.delivered += FRAME_LEN as u64;
                        }
                    }
                }
            }
            for (at, session) in self.sessions.iter_mut().enumerate() {
                if (step + at as u64 * 31).is_multiple_of(100) {
                    let (seen, received) = (session.sent as u32, session.received);
                    let progress = Progress {
                        session: SessionId(1),
                        seen,
                        latest: seen,
                        settled: seen,
                        received,
                        dropped: 0,
                        room: 1_000,
                    };
                    session.rate.on_progress(self.now, NodeId(1), &progress);
                }
            }
        }
        let passed = self.sessions.iter().zip(before).map(|(session, before)| session.delivered - before);
        passed.map(|bytes| bytes as f64 / self.capacity / (millis as f64 / 1e3)).collect()
    }
}

#[test]
fn sessions_that_begin_together_fill_a_link_and_each_gets_its_part() {
    for count in [2_u64, 3, 8] {
        let mut link =
            Link { capacity: 100e6, queued: 0.0, now: Instant::ZERO, rng: Rng::new(3), sessions: Vec::new() };
        for _ in 0..count {
            link.join(false);
        }
        link.run(1_500);
        let parts = link.run(2_000);
        let used: f64 = parts.iter().sum();
        assert!(used > 0.9, "{used:.3} of the link used by {count}");
        let fair = used / count as f64;
        assert!(parts.iter().all(|part| (part / fair - 1.0).abs() < 0.15), "{parts:?}");
    }
}

#[test]
fn a_session_that_joins_gets_its_part_at_once_and_one_that_ends_leaves_it() {
    let mut link =
        Link { capacity: 100e6, queued: 0.0, now: Instant::ZERO, rng: Rng::new(3), sessions: Vec::new() };
    link.join(false);
    link.run(1_500);
    link.join(true);
    let parts = link.run(300);
    assert!(parts.iter().all(|part| (0.38..0.6).contains(part)), "in the first moments: {parts:?}");
    link.run(1_000);
    link.sessions.remove(0);
    link.sessions[0].rate.limit(link.now, None);
    let alone = link.run(300)[0];
    assert!(alone > 0.8, "{alone:.3} of the link for the one that is left");
}
