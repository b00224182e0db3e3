//! What a member lacks, made short enough for a message (LD-11, LD-12).
//!
//! By parity it counts, for it does not matter which frames lack; only of a block that lacks many it names them
//! as well, if they are few runs: the sender may find that all lack the same. In a session that resends it names
//! every frame. A list that does not fit is made coarser, as long as that costs little.

use super::aggregate::{Bits, first_run};
use super::fec::SYMBOLS_MAX;
use super::plan::NAMED_FROM;
use crate::wire::nack::{FrameRange, Lack, Nack};
use crate::wire::session::Repair;

/// What lacks of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub block: u32,
    /// Its source frames.
    pub sources: u16,
    /// How many frames more it needs.
    pub frames: u16,
    /// Source frames that have not arrived.
    pub missing: Bits,
}

/// Frames that a run must have on the average to be named: short ones are losses by chance, which differ from
/// member to member.
const RUN_MIN: u16 = 4;
/// Runs of all parts of a list together.
const RANGES_MAX: usize = Nack::LACKS_MAX * Nack::PARTS_MAX as usize;
/// Part of an object's frames that a member may ask for beyond need, if that spares passes.
const COARSE: u64 = 16;

/// The list in as many parts as it takes, one at least. `bare` has everything but the lists; `object` is the
/// frames of the whole object.
pub fn tell(bare: &Nack, repair: Repair, blocks: impl Iterator<Item = Lacking>, object: u64) -> Vec<Nack> {
    let (ranges, more) = match repair {
        Repair::Parity => {
            let (lacks, ranges, more) = counts(blocks, object / COARSE);
            return vec![Nack { lacks, ranges, more, ..bare.clone() }];
        }
        Repair::Resend => names(blocks, object / COARSE),
    };
    let parts = ranges.len().div_ceil(Nack::LACKS_MAX).max(1) as u8;
    (0..parts)
        .map(|part| {
            let of_part = ranges.chunks(Nack::LACKS_MAX).nth(part.into()).unwrap_or_default();
            Nack { ranges: of_part.to_vec(), part, parts, more, ..bare.clone() }
        })
        .collect()
}

fn counts(blocks: impl Iterator<Item = Lacking>, spare: u64) -> (Vec<Lack>, Vec<FrameRange>, bool) {
    let mut counted: Vec<Lack> = Vec::new();
    let mut named: Vec<FrameRange> = Vec::new();
    for Lacking { block, sources, frames, missing } in blocks {
        match counted.last_mut() {
            Some(run) if run.lack == frames && run.first + run.count == block => run.count += 1,
            _ => counted.push(Lack { first: block, count: 1, lack: frames }),
        }
        // Of one that lacks all the count says it.
        if frames > NAMED_FROM && frames < sources {
            let runs: Vec<FrameRange> = runs_of(block, missing).collect();
            let is_worth_it = runs.len() as u16 * RUN_MIN <= frames;
            if is_worth_it && named.len() + runs.len() <= Nack::LACKS_MAX {
                named.extend(runs);
            }
        }
    }
    coarsen(&mut counted, Nack::LACKS_MAX, spare);
    let more = counted.len() > Nack::LACKS_MAX;
    counted.truncate(Nack::LACKS_MAX);
    named.truncate(Nack::LACKS_MAX - counted.len());
    (counted, named, more)
}

fn runs_of(block: u32, mut missing: Bits) -> impl Iterator<Item = FrameRange> {
    std::iter::from_fn(move || {
        let (first, count) = first_run(&missing)?;
        for index in first..first + count {
            missing[usize::from(index) / 64] &= !(1 << (index % 64));
        }
        Some(FrameRange { block, first, count: count.into() })
    })
}

fn names(blocks: impl Iterator<Item = Lacking>, spare: u64) -> (Vec<FrameRange>, bool) {
    let mut runs: Vec<FrameRange> = Vec::new();
    // The block behind the last run, if the run fills its last block to the end.
    let mut goes_on = None;
    for Lacking { block, sources, missing, .. } in blocks {
        for run in runs_of(block, missing) {
            match runs.last_mut() {
                Some(last) if run.first == 0 && goes_on == Some(block) => last.count += run.count,
                _ => runs.push(run),
            }
            goes_on = (u32::from(run.first) + run.count == u32::from(sources)).then_some(block + 1);
        }
    }
    join_near(&mut runs, spare);
    let more = runs.len() > RANGES_MAX;
    runs.truncate(RANGES_MAX);
    (runs, more)
}

/// Joins runs of one block that lie near each other, the nearest first, until they fit or would ask for more
/// than twice what lacks and `spare` frames.
fn join_near(runs: &mut Vec<FrameRange>, spare: u64) {
    let asked = |runs: &[FrameRange]| runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
    let most = asked(runs) * 2 + spare;
    let mut limit = 1;
    while runs.len() > RANGES_MAX && limit < SYMBOLS_MAX {
        let mut joined: Vec<FrameRange> = Vec::with_capacity(runs.len());
        for &run in &*runs {
            match joined.last_mut() {
                Some(last)
                    if last.block == run.block
                        && u32::from(run.first) <= u32::from(last.first) + last.count + u32::from(limit) =>
                {
                    last.count = u32::from(run.first - last.first) + run.count;
                }
                _ => joined.push(run),
            }
        }
        if asked(&joined) > most {
            return;
        }
        *runs = joined;
        limit *= 2;
    }
}

/// Joins neighbouring runs, those first that cost fewest frames more than needed, until the list has `fit`
/// entries or would ask for more than twice what lacks and `spare` frames. Without that, a file of gigabytes
/// with a little loss everywhere would take a pass for every hundred of its blocks.
fn coarsen(runs: &mut Vec<Lack>, fit: usize, spare: u64) {
    let asked =
        |runs: &[Lack]| runs.iter().map(|run| u64::from(run.count) * u64::from(run.lack)).sum::<u64>();
    let most = asked(runs) * 2 + spare;
    let mut limit = 1;
    while runs.len() > fit {
        let mut joined: Vec<Lack> = Vec::with_capacity(runs.len());
        for &run in &*runs {
            let Some(last) = joined.last_mut() else {
                joined.push(run);
                continue;
            };
            let both = Lack {
                first: last.first,
                count: run.first + run.count - last.first,
                lack: last.lack.max(run.lack),
            };
            if asked(&[both]) - asked(&[*last, run]) <= limit {
                *last = both;
            } else {
                joined.push(run);
            }
        }
        if asked(&joined) > most {
            return;
        }
        *runs = joined;
        limit *= 2;
    }
}

#[cfg(test)]
mod tests;
