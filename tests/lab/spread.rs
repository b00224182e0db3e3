//! How an assignment spread over the leaders of a farm: who fetched from whom, and when.

use super::farm::Farm;
use super::harness::LATER;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Who fetched from whom, and when the leader of each segment held all of it.
pub struct Tree {
    /// Segment to the segment that served it; to `None` where the controller did.
    pub sources: BTreeMap<usize, Option<usize>>,
    pub stored: BTreeMap<usize, Duration>,
}

impl Tree {
    /// Follows a job until `until` says so or all leaders hold it; `before` is what nodes had fetched before it.
    pub fn follow(
        farm: &Farm,
        job: u64,
        before: &[u64],
        began: Instant,
        mut until: impl FnMut(&Self) -> bool,
    ) -> Self {
        let mut tree = Self { sources: BTreeMap::new(), stored: BTreeMap::new() };
        farm.wait("the tree to grow", LATER, || {
            tree.sources = sources(farm, job);
            let len = farm.job(job).assignment_bytes;
            for segment in 0..farm.segments() {
                // Whoever leads: a member that pulls is one that multicast did not serve.
                let fetched =
                    farm.of_segment(segment).map(|at| farm.fetched(at).saturating_sub(before[at])).max();
                if len > 0 && fetched >= Some(len) {
                    tree.stored.entry(segment).or_insert_with(|| began.elapsed());
                }
            }
            (tree.stored.len() == farm.segments() || until(&tree)).then_some(())
        });
        tree
    }

    /// Store-and-forward steps from the controller (GD-7).
    pub fn depth(&self, segment: usize) -> usize {
        self.sources.get(&segment).copied().flatten().map_or(1, |parent| 1 + self.depth(parent))
    }

    pub fn draw(&self) -> String {
        let mut text = "controller\n".to_owned();
        self.draw_below(None, "", &mut text);
        text
    }

    fn draw_below(&self, parent: Option<usize>, indent: &str, text: &mut String) {
        let children: Vec<usize> =
            self.sources.iter().filter(|(_, from)| **from == parent).map(|(segment, _)| *segment).collect();
        for (number, segment) in children.iter().enumerate() {
            let last = number + 1 == children.len();
            let when =
                self.stored.get(segment).map_or("-".to_owned(), |at| format!("{:.2} s", at.as_secs_f64()));
            *text += &format!("{indent}{} segment{segment}  {when}\n", if last { "`--" } else { "|--" });
            self.draw_below(Some(*segment), &format!("{indent}{}", if last { "    " } else { "|   " }), text);
        }
    }
}

/// What the controller's log says of who is to fetch from whom; the last word counts.
pub fn sources(farm: &Farm, job: u64) -> BTreeMap<usize, Option<usize>> {
    let log = std::fs::read_to_string(farm.path("ccm.log")).expect("a log");
    let mark = format!("job {job}: segment");
    let handed = log.lines().filter_map(|line| {
        let (segment, source) = line.split_once(&mark)?.1.split_once(" is to fetch it from ")?;
        // The address of a leader is 10.SEGMENT.0.x.
        let source = source.strip_prefix("10.").and_then(|rest| rest.split('.').next()?.parse().ok());
        Some((segment.parse().ok()?, source))
    });
    handed.collect()
}
