//! Ranges that stand elsewhere now (ST-12): the old file is indexed, the new one is looked up in it at every byte,
//! and a range found is followed byte by byte in both directions, so that only what is new remains.
//!
//! Memory: the index (18 MiB at most), and the buffers of the two files (5 MiB), however large they are. Time: each
//! file is read once, and the old one again where its ranges are followed; if that becomes often, none is found.

use super::index::{Index, Rolling, WINDOW};
use super::{COPY_COST, Delta, EXTENTS_MAX, Method, Version};
use crate::content::sparse::CHUNK;
use crate::wire::assignment::{Copied, gaps};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Shorter ranges are not worth naming.
const COPY_MIN: u64 = 2 * COPY_COST;
/// Bytes of the new file that stay readable behind the place that is looked at: a range found late is followed back
/// as far.
const LOOK_BACK: usize = 64 * 1024;
/// Bytes of the old file that are read at once where a range is followed.
const PAGE: u64 = 16 * 1024;
/// Such pages that are kept.
const PAGES: usize = 128;

/// Copied ranges and new bytes.
pub struct Shifted;

impl Method for Shifted {
    fn delta(&self, old: Version<'_>, new: Version<'_>, limit: u64) -> io::Result<Option<Delta>> {
        let (index, base) = index(old)?;
        let mut scan = Scan {
            index,
            old: Old::new(old),
            new: Fresh::new(new),
            copies: Vec::new(),
            copied: 0,
            // Until another range is found, the old file begins where the new one does.
            end: Copied { from: 0, to: 0, len: 0 },
            reads_max: 4 * (old.size + new.size).div_ceil(PAGE) + 4_096,
        };
        if !scan.run(limit)? || scan.copies.is_empty() {
            return Ok(None);
        }
        let (extents, changed) = (gaps(&scan.copies, new.size), new.size - scan.copied);
        Ok(Some(Delta { extents, copies: scan.copies, changed, base, hash: scan.new.hash() }))
    }
}

/// The index of a file, and its content hash.
fn index(version: Version<'_>) -> io::Result<(Index, [u8; 32])> {
    let (mut index, mut hasher) = (Index::new(version.size), blake3::Hasher::new());
    // A window may reach over the end of a chunk.
    let mut buffer = vec![0; CHUNK + WINDOW];
    let (mut at, mut kept) = (0, 0);
    while at < version.size {
        let part = (version.size - at).min(CHUNK as u64) as usize;
        version.file.read_exact_at(&mut buffer[kept..kept + part], at)?;
        hasher.update(&buffer[kept..kept + part]);
        let (start, end) = (at - kept as u64, at + part as u64);
        let mut sample = start.next_multiple_of(index.step());
        while sample + WINDOW as u64 <= end {
            let within = (sample - start) as usize;
            index.add(sample, &buffer[within..within + WINDOW]);
            sample += index.step();
        }
        let left = end.saturating_sub(sample) as usize;
        buffer.copy_within(kept + part - left..kept + part, 0);
        (at, kept) = (end, left);
    }
    Ok((index, *hasher.finalize().as_bytes()))
}

struct Scan<'a> {
    index: Index,
    old: Old<'a>,
    new: Fresh<'a>,
    copies: Vec<Copied>,
    /// Sum of their lengths.
    copied: u64,
    /// The last of them, or one of no length. What lies behind is new so far.
    end: Copied,
    reads_max: u64,
}

impl Scan<'_> {
    /// Goes over the new file; false where the limit is passed.
    fn run(&mut self, limit: u64) -> io::Result<bool> {
        let mut rolling = Rolling::default();
        let mut at = 0;
        while self.new.load(at, at)? {
            let cost = (at - self.copied) + self.copies.len() as u64 * COPY_COST;
            if cost > limit || self.copies.len() > EXTENTS_MAX || self.old.reads > self.reads_max {
                return Ok(false);
            }
            let (stride, found) = self.look(at, &mut rolling);
            at += stride as u64;
            // Where nothing else is found, the old file may go on as it did behind the last range.
            let Some(start) = at.checked_sub(WINDOW as u64).filter(|&start| start >= self.literal()) else {
                continue;
            };
            let expected = (start + self.end.from + self.end.len).checked_sub(self.literal());
            for from in expected.into_iter().chain(found) {
                if let Some(copied) = self.follow(from, start)? {
                    at = copied.to + copied.len;
                    rolling = Rolling::default();
                    self.take(copied);
                    break;
                }
            }
        }
        // At the end of the file no window is left for what is shorter.
        let cost = (self.new.size - self.copied) + self.copies.len() as u64 * COPY_COST;
        Ok(cost <= limit)
    }

    /// Where the bytes begin that are not copied so far.
    const fn literal(&self) -> u64 {
        self.end.to + self.end.len
    }

    /// Looks up the next bytes; how many, and where in the old file the last window of them may stand.
    fn look(&self, at: u64, rolling: &mut Rolling) -> (usize, Option<u64>) {
        let bytes = self.new.loaded(at);
        let bytes = &bytes[..bytes.len().min(WINDOW)];
        for (passed, &byte) in bytes.iter().enumerate() {
            rolling.push(byte);
            if self.index.may_know(*rolling)
                && let Some(from) = self.index.find(*rolling)
            {
                return (passed + 1, Some(from));
            }
        }
        (bytes.len(), None)
    }

    /// The whole range around a window of the new file that may stand at `from` in the old one; `None` where it
    /// does not, or is too short.
    fn follow(&mut self, from: u64, to: u64) -> io::Result<Option<Copied>> {
        let window = WINDOW as u64;
        if from + window > self.old.size || self.ahead(from, to, window)? < window {
            return Ok(None);
        }
        let before = self.back(from, to)?;
        let (from, to) = (from - before, to - before);
        let known = before + window;
        let len = known + self.ahead(from + known, to + known, u64::MAX)?;
        Ok((len >= COPY_MIN).then_some(Copied { from, to, len }))
    }

    /// How many bytes are equal from here on, as far as `most`.
    fn ahead(&mut self, from: u64, to: u64, most: u64) -> io::Result<u64> {
        let mut len = 0;
        while len < most && from + len < self.old.size && self.new.load(to + len, to)? {
            let (old, new) = (self.old.page(from + len)?, self.new.loaded(to + len));
            let part = old.len().min(new.len()).min(usize::try_from(most - len).unwrap_or(usize::MAX));
            let same = common(&old[..part], &new[..part]);
            len += same as u64;
            if same < part {
                break;
            }
        }
        Ok(len)
    }

    /// How many bytes before here are equal, of those that are new so far.
    fn back(&mut self, from: u64, to: u64) -> io::Result<u64> {
        let most = from.min(to - self.literal()).min(to - self.new.start);
        let mut len = 0;
        while len < most {
            let old = self.old.page_before(from - len)?;
            let new = self.new.before(to - len);
            let part = old.len().min(new.len()).min((most - len) as usize);
            let pairs = old.iter().rev().zip(new.iter().rev()).take(part);
            let same = pairs.take_while(|(old, new)| old == new).count();
            len += same as u64;
            if same < part {
                break;
            }
        }
        Ok(len)
    }

    fn take(&mut self, copied: Copied) {
        self.copied += copied.len;
        self.copies.push(copied);
        self.end = copied;
    }
}

/// How many bytes two slices of one length begin with alike.
fn common(one: &[u8], other: &[u8]) -> usize {
    const STRIDE: usize = 256;
    let strides = one.chunks(STRIDE).zip(other.chunks(STRIDE));
    let at = strides.take_while(|(one, other)| one == other).map(|(one, _)| one.len()).sum();
    at + one[at..].iter().zip(&other[at..]).take_while(|(one, other)| one == other).count()
}

/// The old file, read here and there.
struct Old<'a> {
    file: &'a File,
    size: u64,
    pages: Vec<Page>,
    /// Pages read.
    reads: u64,
}

#[derive(Clone)]
struct Page {
    /// Where it begins in the file.
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Old<'a> {
    fn new(version: Version<'a>) -> Self {
        let none = Page { start: u64::MAX, bytes: Vec::new() };
        Self { file: version.file, size: version.size, pages: vec![none; PAGES], reads: 0 }
    }

    /// Bytes from `at`, which lies in the file, to the end of its page.
    fn page(&mut self, at: u64) -> io::Result<&[u8]> {
        let page = self.load(at / PAGE * PAGE)?;
        Ok(&page.bytes[(at - page.start) as usize..])
    }

    /// Bytes from the beginning of the page up to `at`, which is not 0.
    fn page_before(&mut self, at: u64) -> io::Result<&[u8]> {
        let page = self.load((at - 1) / PAGE * PAGE)?;
        Ok(&page.bytes[..(at - page.start) as usize])
    }

    fn load(&mut self, start: u64) -> io::Result<&Page> {
        let page = &mut self.pages[(start / PAGE) as usize % PAGES];
        if page.start != start {
            page.start = u64::MAX;
            page.bytes.resize((self.size - start).min(PAGE) as usize, 0);
            self.file.read_exact_at(&mut page.bytes, start)?;
            page.start = start;
            self.reads += 1;
        }
        Ok(page)
    }
}

/// The new file, read once from its beginning to its end, and hashed.
struct Fresh<'a> {
    file: &'a File,
    size: u64,
    /// Bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
    hasher: blake3::Hasher,
}

impl<'a> Fresh<'a> {
    fn new(version: Version<'a>) -> Self {
        let (buffer, hasher) = (Vec::with_capacity(2 * CHUNK + LOOK_BACK), blake3::Hasher::new());
        Self { file: version.file, size: version.size, buffer, start: 0, hasher }
    }

    /// Makes the byte at `at` readable, which is at most one behind those that are, and lets go of those before
    /// `keep`, but for some to look back to. False at the end of the file.
    fn load(&mut self, at: u64, keep: u64) -> io::Result<bool> {
        let end = self.start + self.buffer.len() as u64;
        if at < end || at >= self.size {
            return Ok(at < end);
        }
        let drop = keep.saturating_sub(self.start + LOOK_BACK as u64) as usize;
        let drop = drop.max(self.buffer.len().saturating_sub(CHUNK + LOOK_BACK));
        self.buffer.drain(..drop);
        self.start += drop as u64;
        let kept = self.buffer.len();
        self.buffer.resize(kept + (self.size - end).min(CHUNK as u64) as usize, 0);
        self.file.read_exact_at(&mut self.buffer[kept..], end)?;
        self.hasher.update(&self.buffer[kept..]);
        Ok(true)
    }

    /// The bytes that are readable from `at` on.
    fn loaded(&self, at: u64) -> &[u8] {
        &self.buffer[(at - self.start) as usize..]
    }

    /// The bytes that are readable up to `at`.
    fn before(&self, at: u64) -> &[u8] {
        &self.buffer[..(at - self.start) as usize]
    }

    fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
