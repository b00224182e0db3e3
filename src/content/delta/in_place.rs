//! Bytes that changed where they stand (ST-10): the two files compared block by block. Holes are zeros, and where
//! both files have one nothing is read.

use super::{Delta, EXTENTS_MAX, Method, Version};
use crate::content::sparse::{CHUNK, Run, Runs, hash_zeros};
use crate::wire::assignment::Extent;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes compared at a time; a block that differs is trimmed to its first and last differing byte.
pub const BLOCK: u64 = 4_096;
/// Extents closer than this are sent as one: naming one more costs 16 bytes.
const GAP_MIN: u64 = 32;

/// Offsets and bytes. Memory: two chunks, and the extents.
pub struct InPlace;

impl Method for InPlace {
    fn delta(&self, old: Version<'_>, new: Version<'_>, limit: u64) -> io::Result<Option<Delta>> {
        let (new_size, end) = (new.size, old.size.max(new.size));
        let (mut old, mut new) = (Side::new(old.file, old.size), Side::new(new.file, new.size));
        let mut extents = Extents::default();
        let mut at = 0;
        while at < end {
            let hole = old.zero_until(at)?.min(new.zero_until(at)?).min(end);
            // Blocks are compared whole, so a common hole is left at the border of a block.
            let hole = if hole < end { hole / BLOCK * BLOCK } else { hole };
            if hole > at {
                old.pass_zeros(at, hole);
                new.pass_zeros(at, hole);
                at = hole;
                continue;
            }
            let stop = (at + CHUNK as u64).min(end);
            let (before, after) = (old.read(at, stop)?, new.read(at, stop)?);
            let compared = new_size.min(stop).saturating_sub(at) as usize;
            for start in (0..compared).step_by(BLOCK as usize) {
                let block = start..compared.min(start + BLOCK as usize);
                extents.compare(at + start as u64, &before[block.clone()], &after[block]);
            }
            if extents.changed > limit || extents.list.len() > EXTENTS_MAX {
                return Ok(None);
            }
            at = stop;
        }
        Ok(Some(Delta {
            extents: extents.list,
            copies: Vec::new(),
            changed: extents.changed,
            base: old.hash(),
            hash: new.hash(),
        }))
    }
}

#[derive(Default)]
struct Extents {
    list: Vec<Extent>,
    changed: u64,
}

impl Extents {
    /// Adds what differs in one block, joined to the extent before it where they are close.
    fn compare(&mut self, at: u64, before: &[u8], after: &[u8]) {
        if before == after {
            return;
        }
        let differs = |(before, after): (&u8, &u8)| before != after;
        let (Some(first), Some(last)) =
            (before.iter().zip(after).position(differs), before.iter().zip(after).rposition(differs))
        else {
            return;
        };
        let (start, stop) = (at + first as u64, at + last as u64 + 1);
        match self.list.last_mut() {
            Some(before) if before.offset + before.len + GAP_MIN > start => {
                self.changed += stop - (before.offset + before.len);
                before.len = stop - before.offset;
            }
            _ => {
                self.changed += stop - start;
                self.list.push(Extent { offset: start, len: stop - start });
            }
        }
    }
}

/// One of the two files.
struct Side<'a> {
    file: &'a File,
    size: u64,
    runs: Runs<'a>,
    run: Run,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl<'a> Side<'a> {
    fn new(file: &'a File, size: u64) -> Self {
        Self {
            file,
            size,
            runs: Runs::new(file, size),
            run: Run { start: 0, end: 0, hole: false },
            hasher: blake3::Hasher::new(),
            buffer: vec![0; CHUNK],
        }
    }

    /// Up to where the file is known to be zero from `at` on; `at` where it may not be.
    fn zero_until(&mut self, at: u64) -> io::Result<u64> {
        if at >= self.size {
            return Ok(u64::MAX);
        }
        while self.run.end <= at {
            match self.runs.next() {
                Some(run) => self.run = run?,
                None => return Ok(at),
            }
        }
        match self.run {
            Run { hole: true, end, .. } if end == self.size => Ok(u64::MAX),
            Run { hole: true, end, .. } => Ok(end),
            _ => Ok(at),
        }
    }

    /// Goes on over `start..stop`, all zeros, without reading.
    fn pass_zeros(&mut self, start: u64, stop: u64) {
        hash_zeros(&mut self.hasher, stop.min(self.size).saturating_sub(start));
    }

    /// The bytes of `start..stop`; zeros behind the end.
    fn read(&mut self, start: u64, stop: u64) -> io::Result<&[u8]> {
        let own = stop.min(self.size).saturating_sub(start) as usize;
        let bytes = &mut self.buffer[..(stop - start) as usize];
        let (inside, behind) = bytes.split_at_mut(own);
        self.file.read_exact_at(inside, start)?;
        behind.fill(0);
        self.hasher.update(inside);
        Ok(bytes)
    }

    fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests;
