use super::*;
use crate::proto::random::Rng;
use crate::wire::id::SessionId;
use std::collections::VecDeque;

const FRAME_LEN: usize = 1_500;
/// What a switch port buffers, in bytes.
const QUEUE: f64 = 256e3;

/// Members behind one bottleneck, each with its own loss; the sender has always something to send.
struct Bottleneck {
    rate: Rate,
    rng: Rng,
    now: Instant,
    sent: u64,
    /// Bytes per second.
    capacity: f64,
    queued: f64,
    /// Frames in the queue: number, and a bit for each member that will get it.
    waiting: VecDeque<(u64, u64)>,
    seen: u64,
    losses: Vec<f64>,
    received: Vec<u32>,
    delivered: u64,
}

impl Bottleneck {
    fn new(capacity: f64, losses: &[f64]) -> Self {
        let members: Vec<NodeId> = (0..losses.len() as u64).map(NodeId).collect();
        Self {
            rate: Rate::new(Instant::ZERO, RateConfig::default(), FRAME_LEN, 9, &members),
            rng: Rng::new(5),
            now: Instant::ZERO,
            sent: 0,
            capacity,
            queued: 0.0,
            waiting: VecDeque::new(),
            seen: 0,
            losses: losses.to_vec(),
            received: vec![0; losses.len()],
            delivered: 0,
        }
    }

    /// Lets the time pass in steps of half a millisecond. Returns the share of the capacity that was used.
    fn run(&mut self, millis: u64) -> f64 {
        let delivered = self.delivered;
        for step in 0..millis * 2 {
            self.now += Duration::from_micros(500);
            self.queued = (self.queued - self.capacity * 0.0005).max(0.0);
            while self.waiting.len() as f64 * FRAME_LEN as f64 > self.queued + FRAME_LEN as f64
                && let Some((number, bits)) = self.waiting.pop_front()
            {
                self.seen = number;
                let received = self.received.iter_mut().enumerate();
                received.for_each(|(member, received)| *received += (bits >> member & 1) as u32);
            }
            loop {
                self.rate.turn(self.now, self.sent);
                let frames = self.rate.pace().allow(self.now, 44);
                if frames == 0 {
                    break;
                }
                self.rate.spend(self.now, self.sent + 1, frames);
                for _ in 0..frames {
                    self.sent += 1;
                    if self.queued + FRAME_LEN as f64 > QUEUE {
                        continue;
                    }
                    self.queued += FRAME_LEN as f64;
                    self.delivered += FRAME_LEN as u64;
                    let bit = |member: usize| u64::from(!self.rng.chance(self.losses[member])) << member;
                    self.waiting.push_back((self.sent, (0..self.losses.len()).map(bit).sum()));
                }
            }
            let members = self.losses.len() as u64;
            for member in (0..members).filter(|member| (step + member * 17) % 20 == 0) {
                let received = self.received[member as usize];
                let progress = report(self.seen as u32, received);
                self.rate.on_progress(self.now, NodeId(member), &progress);
            }
        }
        (self.delivered - delivered) as f64 / self.capacity / (millis as f64 / 1e3)
    }

    fn rate(&self) -> f64 {
        self.rate.bytes_per_second() as f64
    }
}

fn report(settled: u32, received: u32) -> Progress {
    Progress {
        session: SessionId(1),
        seen: settled,
        latest: settled,
        settled,
        received,
        dropped: 0,
        room: 1_000,
    }
}

/// Frames that overflowed the queue, per frame that did not.
fn flood(link: &Bottleneck, sent_before: u64, delivered_before: u64) -> f64 {
    let sent = (link.sent - sent_before) as f64 * FRAME_LEN as f64;
    sent / (link.delivered - delivered_before) as f64 - 1.0
}

#[test]
fn a_link_is_filled_and_not_flooded_whatever_it_loses_by_itself() {
    for capacity in [5e6, 25e6, 120e6] {
        for loss in [0.0, 0.01, 0.05, 0.2] {
            let mut link = Bottleneck::new(capacity, &[loss; 8]);
            link.run(1_500);
            let (sent, delivered) = (link.sent, link.delivered);
            let used = link.run(2_000);
            let over = flood(&link, sent, delivered);
            assert!(used > 0.93, "{used:.3} of {capacity} used at loss {loss}");
            assert!(over < 0.1, "{over:.3} too much sent at {capacity} and loss {loss}");
        }
    }
}

#[test]
fn a_link_that_becomes_narrower_is_not_taken_for_a_lossy_one() {
    let mut link = Bottleneck::new(100e6, &[0.01; 4]);
    link.run(2_000);
    link.capacity = 20e6;
    link.run(1_000);
    let (sent, delivered) = (link.sent, link.delivered);
    let used = link.run(2_000);
    assert!(used > 0.93 && flood(&link, sent, delivered) < 0.1, "{used:.3}, rate {:.3}", link.rate() / 20e6);
    link.capacity = 100e6;
    link.run(3_000);
    assert!(link.rate() > 80e6, "{}", link.rate());
}

/// Members whose buffers are full lose frames for a while at a lower rate too. Once the rate then went back to
/// where it had lost half of them, and stayed there.
#[test]
fn a_heavy_loss_that_stays_after_a_cut_does_not_bring_back_the_rate_before() {
    let mut rate = Rate::new(Instant::ZERO, RateConfig::default(), FRAME_LEN, 9, &[NodeId(0)]);
    let start = rate.bytes_per_second();
    rate.judge(Instant::ZERO, 10_000, Worst { loss: 0.5, pure: true, by: None });
    let cut = rate.bytes_per_second();
    rate.judge(Instant::ZERO, 20_000, Worst { loss: 0.4, pure: true, by: None });
    assert!(cut < start / 2 && rate.bytes_per_second() < start * 6 / 10, "{start}, {cut}, {rate:?}");
}

#[test]
fn the_first_rounds_double_the_rate_of_a_link_that_loses_some_frames() {
    let mut link = Bottleneck::new(1e9, &[0.02; 3]);
    link.run(600);
    assert!(link.rate() >= 400e6, "{}", link.rate());
}

#[test]
fn one_sick_member_does_not_slow_the_others() {
    let mut link = Bottleneck::new(100e6, &[0.0, 0.0, 0.0, 0.9]);
    link.run(1_500);
    assert!(link.run(1_000) > 0.9, "{}", link.rate());
}

#[test]
fn without_any_report_the_rate_falls_to_its_lower_bound_and_no_further() {
    let mut link = Bottleneck::new(1e9, &[]);
    link.run(600);
    assert!(link.rate() <= 25e6, "{}", link.rate());
    link.run(5_000);
    assert_eq!(link.rate.bytes_per_second(), RateConfig::default().min);
}

#[test]
fn a_pace_that_is_not_used_is_not_raised() {
    let mut rate = Rate::new(Instant::ZERO, RateConfig::default(), FRAME_LEN, 9, &[NodeId(0)]);
    for step in 1..200_u64 {
        let now = Instant::ZERO + Duration::from_millis(10 * step);
        let sent = step * 40;
        rate.on_progress(now, NodeId(0), &report(sent as u32, sent as u32));
        rate.turn(now, sent);
    }
    assert_eq!(rate.bytes_per_second(), RateConfig::default().start);
}

#[test]
fn a_pass_too_short_for_reports_is_judged_by_its_answers() {
    let judged = |loss: f64| {
        let mut rate = Rate::new(Instant::ZERO, RateConfig::default(), FRAME_LEN, 9, &[NodeId(0)]);
        rate.resume(Instant::ZERO, 0);
        rate.on_pass(Instant::ZERO + Duration::from_millis(15), 500, 500, loss);
        rate.bytes_per_second()
    };
    assert_eq!(judged(0.0), 2 * RateConfig::default().start);
    assert!(judged(0.3) < 35_000_000);
}

#[test]
fn the_pace_is_kept_and_a_late_loop_is_forgiven_two_milliseconds() {
    let mut rate = Rate::new(Instant::ZERO, RateConfig::default(), FRAME_LEN, 9, &[]);
    let mut frames = 0_u64;
    let mut now = Instant::ZERO;
    while now < Instant::ZERO + Duration::from_millis(200) {
        let allowed = rate.pace().allow(now, 44);
        frames += u64::from(allowed);
        rate.pace().spend(allowed);
        now = if allowed == 0 { rate.paced().ready_at(44) } else { now };
    }
    assert!((6_600..6_720).contains(&frames), "{frames} frames of 1,500 bytes in 200 ms at 50 MB/s");

    now += Duration::from_secs(1);
    let mut burst = 0;
    while let allowed @ 1.. = rate.pace().allow(now, 44) {
        burst += u64::from(allowed);
        rate.pace().spend(allowed);
    }
    assert!(burst * FRAME_LEN as u64 <= 150_000, "{burst} frames at once");
}

/// A window opens in the middle of a session, and closes again.
#[test]
fn an_operators_bound_is_kept_and_what_was_found_before_counts_again_behind_it() {
    let mut link = Bottleneck::new(25e6, &[0.0, 0.01]);
    link.run(3_000);
    let found = link.rate();
    assert!(found > 15e6, "{found:.0}");
    link.rate.bound(link.now, Some(1_000_000));
    assert_eq!(link.rate(), 1e6);
    let used = link.run(4_000) * 25e6;
    assert!((0.9e6..1.02e6).contains(&used), "{used:.0} bytes a second");
    link.rate.bound(link.now, None);
    assert!(link.rate() > 0.8 * found && link.rate() <= found * 1.01, "{:.0} after {found:.0}", link.rate());
    assert!(link.run(3_000) > 0.7);
}
