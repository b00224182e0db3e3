//! One object pulled from one source, or from several at once (GD-10, GD-17). Pure.
//!
//! The first source is given all that lacks. Where another may be used at the same time, it takes over the second
//! half of what the slowest still has to bring, and so on again when it is done: nobody waits for a slow source. A
//! source that breaks, trickles or lacks the object is left for the next; one that sent what the publisher did not
//! sign is not asked again for this object while there is another.

use crate::time::{Duration, Instant};
use std::net::SocketAddr;
use std::ops::Range;

/// A run shorter than two of these is not divided: a request of its own would cost more than it brings.
const PART_MIN: u32 = 16;
/// Over what a source's rate is judged.
pub const RATE_SPAN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// It broke, trickled, or has not got it: not asked again in this pull.
    Failed,
    /// It sent what the publisher did not sign.
    Wrong,
}

/// What a source is to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    /// Blocks that have not come yet; the last ones may be given to another.
    left: Range<u32>,
    /// Since when bytes are counted, and how many came.
    since: Instant,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Source {
    addr: SocketAddr,
    standing: Standing,
    task: Option<Task>,
}

/// What lacks of the object: answers for a block whether it does, and how many blocks there are. A request does not
/// reach over the border.
pub struct Lacking<'a> {
    pub lacks: &'a dyn Fn(u32) -> bool,
    pub blocks: u32,
    pub border: u32,
}

#[derive(Clone, Debug)]
pub struct Pull {
    sources: Vec<Source>,
    at_once: usize,
    /// Bytes a second that a source must bring.
    rate_min: u64,
}

impl Pull {
    /// Of `sources` the first are tried first, at most `at_once` together. Those that are known to be `wrong` come
    /// last: they are asked only where no other is left.
    pub fn new(
        sources: &[SocketAddr],
        at_once: usize,
        rate_min: u64,
        wrong: impl Fn(&SocketAddr) -> bool,
    ) -> Self {
        let all_wrong = sources.iter().all(&wrong);
        let standing = |addr| if !all_wrong && wrong(addr) { Standing::Wrong } else { Standing::Good };
        let sources = sources.iter().map(|addr| Source { addr: *addr, standing: standing(addr), task: None });
        Self { sources: sources.collect(), at_once: at_once.max(1), rate_min }
    }

    /// The next request: from whom, and for which blocks. To be asked for until there is none.
    pub fn next_request(&mut self, now: Instant, lacking: &Lacking<'_>) -> Option<(SocketAddr, Range<u32>)> {
        let busy = self.sources.iter().filter(|source| source.task.is_some()).count();
        let idle = |source: &Source| source.task.is_none() && source.standing == Standing::Good;
        let index = self.sources.iter().position(idle).filter(|_| busy < self.at_once)?;
        let left = self.uncovered(lacking).or_else(|| self.take_over())?;
        let source = &mut self.sources[index];
        source.task = Some(Task { left: left.clone(), since: now, bytes: 0 });
        Some((source.addr, left))
    }

    /// The first run of blocks that lacks and that nobody brings.
    fn uncovered(&self, lacking: &Lacking<'_>) -> Option<Range<u32>> {
        let brought = |block| self.tasks().any(|task| task.left.contains(&block));
        let open = |block: &u32| (lacking.lacks)(*block) && !brought(*block);
        let start = (0..lacking.blocks).find(open)?;
        let border = if start < lacking.border { lacking.border } else { lacking.blocks };
        Some(start..(start..border).find(|block| !open(block)).unwrap_or(border))
    }

    /// The second half of the longest run that somebody still has to bring.
    fn take_over(&mut self) -> Option<Range<u32>> {
        let tasks = self.sources.iter_mut().filter_map(|source| source.task.as_mut());
        let longest = tasks.max_by_key(|task| task.left.len())?;
        if longest.left.len() < 2 * PART_MIN as usize {
            return None;
        }
        let middle = longest.left.start + longest.left.len() as u32 / 2;
        let taken = middle..longest.left.end;
        longest.left.end = middle;
        Some(taken)
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.sources.iter().filter_map(|source| source.task.as_ref())
    }

    fn source(&mut self, addr: SocketAddr) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.addr == addr)
    }

    pub fn on_bytes(&mut self, from: SocketAddr, bytes: usize) {
        if let Some(task) = self.source(from).and_then(|source| source.task.as_mut()) {
            task.bytes += bytes as u64;
        }
    }

    /// A block came and is right. False where the source has brought all that it was left with: its connection may
    /// end.
    pub fn on_block(&mut self, from: SocketAddr, block: u32) -> bool {
        let Some(source) = self.source(from) else { return false };
        let Some(task) = &mut source.task else { return false };
        task.left.start = block + 1;
        if task.left.is_empty() {
            source.task = None;
            return false;
        }
        true
    }

    /// The answer is over, or the connection broke. What did not come is left for others, or for another request.
    pub fn on_failed(&mut self, from: SocketAddr, wrong: bool) {
        if let Some(source) = self.source(from) {
            source.task = None;
            source.standing = if wrong { Standing::Wrong } else { Standing::Failed };
        }
    }

    /// Whether a source is left that may be asked.
    pub fn has_more(&self) -> bool {
        self.sources.iter().any(|source| source.standing == Standing::Good)
    }

    /// Whether somebody brings something now.
    pub fn is_busy(&self) -> bool {
        self.tasks().next().is_some()
    }

    /// When a source's rate is to be judged.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.tasks().map(|task| task.since + RATE_SPAN).min()
    }

    /// Sources that bring less than they must; the count of all begins anew.
    pub fn too_slow(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut slow = Vec::new();
        for source in &mut self.sources {
            if let Some(task) = &mut source.task
                && now >= task.since + RATE_SPAN
            {
                let millis = now.since(task.since).as_millis();
                if u128::from(task.bytes) * 1_000 < u128::from(self.rate_min) * u128::from(millis) {
                    slow.push(source.addr);
                }
                (task.since, task.bytes) = (now, 0);
            }
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Rng;
    use std::collections::BTreeSet;

    const BLOCKS: u32 = 101;
    const BORDER: u32 = 1;

    fn addr(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn pull(sources: u8, at_once: usize) -> Pull {
        let sources: Vec<SocketAddr> = (1..=sources).map(addr).collect();
        Pull::new(&sources, at_once, 1_000, |_| false)
    }

    /// Requests that are due, with what is here.
    fn requests(pull: &mut Pull, here: &BTreeSet<u32>) -> Vec<(u8, Range<u32>)> {
        let lacks = |block| !here.contains(&block);
        let lacking = Lacking { lacks: &lacks, blocks: BLOCKS, border: BORDER };
        let mut all = Vec::new();
        while let Some((SocketAddr::V4(from), run)) = pull.next_request(at(0), &lacking) {
            all.push((from.ip().octets()[3], run));
        }
        all
    }

    #[test]
    fn one_source_brings_runs_that_do_not_reach_over_the_border() {
        let (mut pull, mut here) = (pull(1, 1), BTreeSet::from([50]));
        assert_eq!(requests(&mut pull, &here), [(1, 0..1)]);
        assert_eq!(requests(&mut pull, &here), [], "it is busy");
        here.insert(0);
        assert!(!pull.on_block(addr(1), 0), "that was all of it");
        assert_eq!(requests(&mut pull, &here), [(1, 1..50)]);
        assert!(pull.on_block(addr(1), 1) && pull.is_busy());
        here.extend(1..50);
        assert!(!pull.on_block(addr(1), 49));
        assert_eq!(requests(&mut pull, &here), [(1, 51..101)]);
        here.extend(51..101);
        pull.on_block(addr(1), 100);
        assert_eq!(requests(&mut pull, &here), []);
        assert!(!pull.is_busy());
    }

    #[test]
    fn a_second_source_takes_half_of_what_the_first_still_has_to_bring() {
        let (mut pull, mut here) = (pull(2, 2), BTreeSet::from([0]));
        assert_eq!(requests(&mut pull, &here), [(1, 1..101), (2, 51..101)]);
        here.extend(1..11);
        (1..11).for_each(|block| assert!(pull.on_block(addr(1), block)));
        // The second is done when the first has brought ten.
        here.extend(51..101);
        assert!(!pull.on_block(addr(2), 100));
        assert_eq!(requests(&mut pull, &here), [(2, 31..51)]);
        here.extend(11..31);
        assert!(!pull.on_block(addr(1), 30), "the rest is another's");
        assert_eq!(requests(&mut pull, &here), [], "too little to be divided");
    }

    #[test]
    fn a_source_that_fails_is_left_for_the_next_and_not_asked_again() {
        let (mut pull, here) = (pull(2, 1), BTreeSet::from([0]));
        assert_eq!(requests(&mut pull, &here), [(1, 1..101)]);
        pull.on_failed(addr(1), false);
        assert_eq!(requests(&mut pull, &here), [(2, 1..101)]);
        pull.on_failed(addr(2), false);
        assert_eq!(requests(&mut pull, &here), []);
        assert!(!pull.is_busy(), "it has failed");
    }

    #[test]
    fn who_is_known_to_send_what_is_wrong_is_asked_only_where_no_other_is_left() {
        let here = BTreeSet::from([0]);
        let sources = [addr(1), addr(2)];
        let mut pull = Pull::new(&sources, 2, 0, |source| *source == addr(1));
        assert_eq!(requests(&mut pull, &here), [(2, 1..101)]);
        let mut pull = Pull::new(&sources[..1], 2, 0, |_| true);
        assert_eq!(requests(&mut pull, &here), [(1, 1..101)]);
    }

    #[test]
    fn a_source_that_trickles_is_named_after_a_while() {
        let (mut pull, here) = (pull(2, 2), BTreeSet::from([0]));
        requests(&mut pull, &here);
        pull.on_bytes(addr(1), 9_999);
        pull.on_bytes(addr(2), 10_000);
        assert_eq!(pull.next_deadline(), Some(at(10)));
        assert_eq!(pull.too_slow(at(9)), []);
        assert_eq!(pull.too_slow(at(10)), [addr(1)]);
        assert_eq!(pull.next_deadline(), Some(at(20)), "what came before does not count any more");
        assert_eq!(pull.too_slow(at(20)), [addr(1), addr(2)]);
    }

    /// Whatever sources do, each block is brought, none by two at once, and it ends.
    #[test]
    fn with_sources_of_any_speed_and_failures_everything_comes_or_all_have_failed() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut pull = pull(1 + rng.below(4) as u8, 1 + rng.below(3) as usize);
            let mut here: BTreeSet<u32> = (0..BLOCKS).filter(|_| rng.chance(0.2)).collect();
            let mut running: Vec<(u8, Range<u32>)> = Vec::new();
            for turn in 0.. {
                assert!(turn < 100_000, "seed {seed} has no end");
                running.extend(requests(&mut pull, &here));
                if running.is_empty() {
                    break;
                }
                let at = rng.below(running.len() as u64) as usize;
                let from = addr(running[at].0);
                if rng.chance(0.01) {
                    pull.on_failed(from, rng.chance(0.5));
                    running.swap_remove(at);
                    continue;
                }
                let block = running[at].1.start;
                assert!(here.insert(block), "seed {seed}: block {block} came twice");
                running[at].1.start += 1;
                if !pull.on_block(from, block) {
                    running.swap_remove(at);
                }
            }
            assert!(!pull.is_busy());
            let failed = pull.sources.iter().all(|source| source.standing != Standing::Good);
            assert!(failed || here.len() == BLOCKS as usize, "seed {seed}: {} blocks", here.len());
        }
    }
}
