//! Content hashes remembered from one walk to the next, so that a publish of one changed file does not
//! read ten thousand unchanged ones.
//!
//! ```text
//! magic (4) | version (2) | entries ... | 0 (2) | XXH3 of all before (8)
//! entry: path length (2), path | size (8) | mtime (8) | inode (8) | content hash (32)
//! ```
//! Entries stand in walk order, and so are they asked for: the file is read and written alongside the
//! walk and never held in memory. It is a cache: what is missing, damaged or of another version counts
//! as empty, and costs time only.

use super::walk::{Entry, EntryKind};
use crate::wire::assignment::RelPath;
use crate::wire::{Decoder, Encoder};
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

const MAGIC: [u8; 4] = *b"FCHC";
const VERSION: u16 = 1;
/// Bytes before the first entry.
const HEAD: u64 = 4 + 2;
/// Bytes of an entry behind its path.
const FIELDS: usize = 8 + 8 + 8 + 32;

/// The hashes known from before, and those that will be known next time.
pub struct Cache {
    known: Option<Known>,
    next: io::Result<Next>,
}

impl Cache {
    /// Opens the cache at `path`; the file need not exist.
    pub fn open(path: &Path) -> Self {
        Self { known: Known::open(path).ok(), next: Next::create(path) }
    }

    /// The content hash of a file that was not written since it was kept. Must be asked for in walk order.
    pub fn find(&mut self, entry: &Entry) -> Option<[u8; 32]> {
        self.known.as_mut()?.find(entry)
    }

    /// Keeps a hash for next time. Must be called in walk order; what is not kept is forgotten.
    pub fn keep(&mut self, entry: &Entry, hash: [u8; 32]) {
        if let Ok(next) = &mut self.next
            && let Err(error) = next.keep(entry, hash)
        {
            self.next = Err(error);
        }
    }

    /// Puts what was kept in the place of what was known, at once or not at all.
    ///
    /// # Errors
    /// The first failure since `open`; the old cache then still stands.
    pub fn save(self) -> io::Result<()> {
        self.next?.save()
    }
}

/// The reading half: one entry ahead of the walk at most.
struct Known {
    from: BufReader<File>,
    ahead: Option<Line>,
}

/// What a cache says of one file.
#[derive(Debug)]
pub struct Line {
    pub path: RelPath,
    pub size: u64,
    pub mtime: i64,
    pub inode: u64,
    pub hash: [u8; 32],
}

impl Known {
    fn open(path: &Path) -> io::Result<Self> {
        verify(File::open(path)?)?;
        let mut from = BufReader::new(File::open(path)?);
        let mut head = [0; 6];
        from.read_exact(&mut head)?;
        if head[..4] != MAGIC || head[4..] != VERSION.to_be_bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let ahead = read_line(&mut from)?;
        Ok(Self { from, ahead })
    }

    fn find(&mut self, entry: &Entry) -> Option<[u8; 32]> {
        let EntryKind::File { size, inode, .. } = entry.kind else { return None };
        loop {
            let line = self.ahead.as_ref()?;
            match line.path.walk_cmp(&entry.path) {
                Ordering::Greater => return None,
                Ordering::Equal => {
                    let same = (line.size, line.mtime, line.inode) == (size, entry.mtime, inode.1);
                    return same.then_some(line.hash);
                }
                Ordering::Less => self.ahead = read_line(&mut self.from).ok().flatten(),
            }
        }
    }
}

/// The entries of a cache, in walk order, each with where it stands in the file; none of a damaged one.
pub fn lines(path: &Path) -> impl Iterator<Item = (u64, Line)> {
    let mut known = Known::open(path).ok();
    let mut at = HEAD;
    std::iter::from_fn(move || {
        let known = known.as_mut()?;
        let line = known.ahead.take()?;
        known.ahead = read_line(&mut known.from).ok().flatten();
        let start = at;
        at += (2 + line.path.as_bytes().len() + FIELDS) as u64;
        Some((start, line))
    })
}

/// The entry that stands at `at`, as [`lines`] told.
pub fn line_at(mut cache: &File, at: u64) -> io::Result<Line> {
    cache.seek(SeekFrom::Start(at))?;
    read_line(&mut cache)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The next entry; `None` behind the last.
fn read_line(from: &mut impl Read) -> io::Result<Option<Line>> {
    let mut len = [0; 2];
    from.read_exact(&mut len)?;
    let len = usize::from(u16::from_be_bytes(len));
    if len == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; len + FIELDS];
    from.read_exact(&mut bytes)?;
    let (path, fields) = bytes.split_at(len);
    let mut fields = Decoder::new(fields);
    let mut line = || {
        Ok(Line {
            path: RelPath::new(path)?,
            size: fields.u64("size")?,
            mtime: fields.i64("mtime")?,
            inode: fields.u64("inode")?,
            hash: fields.array("hash")?,
        })
    };
    line()
        .map(Some)
        .map_err(|error: crate::wire::Malformed| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Checks the checksum at the end of a file of any length, in bounded memory.
fn verify(file: File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let body = len.checked_sub(8).ok_or(io::ErrorKind::InvalidData)?;
    let mut from = BufReader::with_capacity(64 * 1024, file);
    let (mut left, mut sum) = (body, Xxh3Default::new());
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let part = left.min(buffer.len() as u64) as usize;
        from.read_exact(&mut buffer[..part])?;
        sum.update(&buffer[..part]);
        left -= part as u64;
    }
    let mut expected = [0; 8];
    from.read_exact(&mut expected)?;
    if sum.digest() == u64::from_be_bytes(expected) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The writing half: a file beside the cache that takes its name at the end.
struct Next {
    path: PathBuf,
    to: BufWriter<File>,
    sum: Xxh3Default,
    saved: bool,
}

impl Next {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(beside(path))?;
        let mut next =
            Self { path: path.into(), to: BufWriter::new(file), sum: Xxh3Default::new(), saved: false };
        next.write(Encoder::new().raw(&MAGIC).u16(VERSION).as_bytes())?;
        Ok(next)
    }

    fn keep(&mut self, entry: &Entry, hash: [u8; 32]) -> io::Result<()> {
        let EntryKind::File { size, inode, .. } = entry.kind else { return Ok(()) };
        let mut line = Encoder::new();
        line.bytes16(entry.path.as_bytes()).u64(size).i64(entry.mtime).u64(inode.1).raw(&hash);
        self.write(line.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    /// No fsync: a torn cache fails its checksum.
    fn save(mut self) -> io::Result<()> {
        self.write(&[0, 0])?;
        let sum = self.sum.digest();
        self.to.write_all(&sum.to_be_bytes())?;
        self.to.flush()?;
        std::fs::rename(beside(&self.path), &self.path)?;
        self.saved = true;
        Ok(())
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if !self.saved {
            // Nobody asks for it; where it cannot be removed, the next run overwrites it.
            let _ = std::fs::remove_file(beside(&self.path));
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests;
