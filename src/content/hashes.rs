//! What is in a tree, entry by entry, with the content hashes of its files: so that a publish of one changed
//! file does not read ten thousand unchanged ones, and what somebody changed by hand can be named.
//!
//! ```text
//! magic (4) | version (2) | entries ... | 0 (2) | XXH3 of all before (8)
//! entry: path length (2), path | kind (1) | mode (2) | mtime (8)
//!        a file: size (8) | inode (8) | content hash (32); a symbolic link: text length (2), text
//! ```
//! Entries stand in walk order, and so are they asked for: the file is read and written alongside the
//! walk and never held in memory. As a cache it may lack: what is missing, damaged or of another version
//! counts as empty, and costs time only.

use super::walk::{Entry, EntryKind};
use crate::wire::assignment::{Mtime, RelPath};
use crate::wire::{Encoder, Malformed};
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

const MAGIC: [u8; 4] = *b"FCHC";
const VERSION: u16 = 2;
/// Bytes before the first entry.
const HEAD: u64 = 4 + 2;
/// Bytes read or written at a time.
const BUFFER: usize = 64 * 1024;
/// Longest path, and longest text of a symbolic link, in bytes, as the kernel has them.
const PATH_MAX: usize = 4_095;

/// The hashes known from before, and those that will be known next time.
pub struct Cache {
    known: Option<Inventory>,
    /// `None`: nothing is kept.
    next: Option<io::Result<Next>>,
}

impl Cache {
    /// Opens the cache at `path`; the file need not exist.
    pub fn open(path: &Path) -> Self {
        Self::between(Some(path), path)
    }

    /// Believes what stands at `known`, and writes what will be known next time to `next`.
    pub fn between(known: Option<&Path>, next: &Path) -> Self {
        Self { known: known.and_then(|path| Inventory::open(path).ok()), next: Some(Next::create(next)) }
    }

    /// Believes what stands at `known`, and keeps nothing.
    pub fn reading(known: &Path) -> Self {
        Self { known: Inventory::open(known).ok(), next: None }
    }

    /// The content hash of a file that was not written since it was kept. Must be asked for in walk order.
    pub fn find(&mut self, entry: &Entry) -> Option<[u8; 32]> {
        self.known.as_mut()?.find(entry)
    }

    /// Keeps an entry for next time, with its content hash where it is a file. Must be called in walk order;
    /// what is not kept is forgotten.
    pub fn keep(&mut self, entry: &Entry, hash: [u8; 32]) {
        if let Some(Ok(next)) = &mut self.next
            && let Err(error) = next.keep(entry, hash)
        {
            self.next = Some(Err(error));
        }
    }

    /// Puts what was kept in the place of what was known, at once or not at all.
    ///
    /// # Errors
    /// The first failure since `open`; the old cache then still stands.
    pub fn save(self) -> io::Result<()> {
        self.next.map_or(Ok(()), |next| next?.save())
    }
}

/// One entry of a tree as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub path: RelPath,
    pub mode: u32,
    pub mtime: Mtime,
    pub kind: LineKind,
}

impl Line {
    /// Bytes that it takes in the file.
    fn stored_len(&self) -> u64 {
        let own = match &self.kind {
            LineKind::Directory => 0,
            LineKind::File { .. } => 8 + 8 + 32,
            LineKind::Symlink { text } => 2 + text.len(),
        };
        (2 + self.path.as_bytes().len() + 1 + 2 + 8 + own) as u64
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineKind {
    Directory,
    File { size: u64, inode: u64, hash: [u8; 32] },
    Symlink { text: Vec<u8> },
}

/// The reading half: one entry ahead of the walk at most.
pub struct Inventory {
    from: BufReader<File>,
    ahead: Option<Line>,
}

impl Inventory {
    /// # Errors
    /// `InvalidData` where the file is damaged, or of another version.
    pub fn open(path: &Path) -> io::Result<Self> {
        verify(File::open(path)?)?;
        let mut from = BufReader::with_capacity(BUFFER, File::open(path)?);
        let mut head = [0; 6];
        from.read_exact(&mut head)?;
        if head[..4] != MAGIC || head[4..] != VERSION.to_be_bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let ahead = read_line(&mut from)?;
        Ok(Self { from, ahead })
    }

    /// The next entry, which stays the next.
    pub const fn peek(&self) -> Option<&Line> {
        self.ahead.as_ref()
    }

    /// The next entry in walk order; `None` behind the last.
    pub fn take(&mut self) -> io::Result<Option<Line>> {
        let next = if self.ahead.is_some() { read_line(&mut self.from)? } else { None };
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    fn find(&mut self, entry: &Entry) -> Option<[u8; 32]> {
        let EntryKind::File { size, inode, .. } = entry.kind else { return None };
        loop {
            let line = self.peek()?;
            match line.path.walk_cmp(&entry.path) {
                Ordering::Greater => return None,
                Ordering::Equal => {
                    let LineKind::File { size: was, inode: at, hash } = line.kind else { return None };
                    return ((was, line.mtime, at) == (size, entry.mtime, inode.1)).then_some(hash);
                }
                Ordering::Less => drop(self.take().ok()?),
            }
        }
    }
}

/// The entries of an inventory, in walk order, each with where it stands in the file; none of a damaged one.
pub fn lines(path: &Path) -> impl Iterator<Item = (u64, Line)> {
    let mut inventory = Inventory::open(path).ok();
    let mut at = HEAD;
    std::iter::from_fn(move || {
        let line = inventory.as_mut()?.take().ok()??;
        let start = at;
        at += line.stored_len();
        Some((start, line))
    })
}

/// The entry that stands at `at`, as [`lines`] told.
pub fn line_at(mut inventory: &File, at: u64) -> io::Result<Line> {
    inventory.seek(SeekFrom::Start(at))?;
    read_line(&mut BufReader::with_capacity(512, inventory))?.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The next entry; `None` behind the last.
fn read_line(from: &mut impl Read) -> io::Result<Option<Line>> {
    let path = read_bytes(from, PATH_MAX)?;
    if path.is_empty() {
        return Ok(None);
    }
    let invalid = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let [kind] = read_array(from)?;
    let mode = u32::from(u16::from_be_bytes(read_array(from)?));
    let mtime = i64::from_be_bytes(read_array(from)?);
    let kind = match kind {
        1 => LineKind::Directory,
        2 => LineKind::File {
            size: u64::from_be_bytes(read_array(from)?),
            inode: u64::from_be_bytes(read_array(from)?),
            hash: read_array(from)?,
        },
        3 => LineKind::Symlink { text: read_bytes(from, PATH_MAX)? },
        _ => return Err(invalid(Malformed::Unknown("kind"))),
    };
    Ok(Some(Line { path: RelPath::from_vec(path).map_err(invalid)?, mode, mtime, kind }))
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Bytes behind their length, which is at most `max`.
fn read_bytes(from: &mut impl Read, max: usize) -> io::Result<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes(read_array(from)?));
    if len > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Checks the checksum at the end of a file of any length, in bounded memory.
fn verify(file: File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let body = len.checked_sub(8).ok_or(io::ErrorKind::InvalidData)?;
    let mut from = BufReader::with_capacity(BUFFER, file);
    let (mut left, mut sum) = (body, Xxh3Default::new());
    let mut buffer = vec![0; BUFFER];
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
    /// The line that is being written, kept for its memory.
    line: Encoder,
    sum: Xxh3Default,
    saved: bool,
}

impl Next {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(beside(path))?;
        let mut next = Self {
            path: path.into(),
            to: BufWriter::with_capacity(BUFFER, file),
            line: Encoder::new(),
            sum: Xxh3Default::new(),
            saved: false,
        };
        next.write(Encoder::new().raw(&MAGIC).u16(VERSION).as_bytes())?;
        Ok(next)
    }

    fn keep(&mut self, entry: &Entry, hash: [u8; 32]) -> io::Result<()> {
        let line = self.line.clear();
        line.bytes16(entry.path.as_bytes());
        line.u8(match entry.kind {
            EntryKind::Directory => 1,
            EntryKind::File { .. } => 2,
            EntryKind::Symlink { .. } => 3,
        });
        line.u16(entry.mode as u16).i64(entry.mtime);
        match &entry.kind {
            EntryKind::Directory => {}
            EntryKind::File { size, inode, .. } => {
                line.u64(*size).u64(inode.1).raw(&hash);
            }
            EntryKind::Symlink { text } => {
                line.bytes16(text);
            }
        }
        self.sum.update(line.as_bytes());
        self.to.write_all(line.as_bytes())
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
