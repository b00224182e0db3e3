//! A directory as a tar stream, or a file as it is: the same bytes each time, from any place on, as long as nobody
//! writes there. Whether somebody did shows by size, times and inode of each entry.

use crate::cli::failure::Failure;
use crate::content::walk::{Entry, EntryKind, Inode, Walk, WalkError};
use crate::wire::assignment::RelPath;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Longest name in a header itself.
const NAME_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0} changed while it was sent")]
    Changed(String),
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Walk(WalkError),
    #[error("{0}: its name is not UTF-8; send the directory that holds it")]
    Name(String),
}

impl StreamError {
    pub fn failure(&self) -> Failure {
        match self {
            Self::Read { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Failure::Usage(self.to_string())
            }
            _ => Failure::Ran(self.to_string()),
        }
    }
}

/// What tells whether somebody wrote to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: Inode,
    size: u64,
    mode: u32,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Seen {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            mode: meta.mode(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// One entry of the stream.
struct Part {
    /// Where its header begins.
    start: u64,
    head_len: u64,
    /// `None`: a file that is the whole stream.
    entry: Option<Entry>,
    /// For a file of which another name came before: that name.
    link: Option<RelPath>,
    seen: Seen,
}

impl Part {
    /// Bytes of the file behind the header; `None` where none are.
    fn content(&self) -> Option<u64> {
        match &self.entry {
            None => Some(self.seen.size),
            Some(Entry { kind: EntryKind::File { .. }, .. }) if self.link.is_none() => Some(self.seen.size),
            Some(_) => None,
        }
    }
}

pub struct Stream {
    root: PathBuf,
    file_name: Option<String>,
    parts: Vec<Part>,
    len: u64,
    print: String,
    left_out: Vec<String>,
    open: Option<(usize, File)>,
    hasher: blake3::Hasher,
    hashed: u64,
}

impl Stream {
    /// Looks at everything that is to be sent.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn of(root: &Path) -> Result<Self, StreamError> {
        let meta = fs::metadata(root).map_err(|error| StreamError::Read { path: root.to_owned(), error })?;
        let mut stream = Self {
            root: root.to_owned(),
            file_name: None,
            parts: Vec::new(),
            len: 0,
            print: String::new(),
            left_out: Vec::new(),
            open: None,
            hasher: blake3::Hasher::new(),
            hashed: 0,
        };
        if meta.is_dir() {
            stream.list()?;
        } else {
            let name = root.file_name().unwrap_or_default();
            let name = name.to_str().ok_or_else(|| StreamError::Name(root.display().to_string()))?;
            stream.file_name = Some(name.to_owned());
            stream.len = meta.size();
            stream.parts.push(Part { start: 0, head_len: 0, entry: None, link: None, seen: Seen::of(&meta) });
        }
        let mut print = blake3::Hasher::new();
        for part in &stream.parts {
            print.update(format!("{:?}\n", (&part.entry, &part.seen)).as_bytes());
        }
        stream.print = print.finalize().to_hex().to_string();
        Ok(stream)
    }

    fn list(&mut self) -> Result<(), StreamError> {
        let mut first: HashMap<Inode, RelPath> = HashMap::new();
        let mut walk = Walk::open(&self.root).map_err(StreamError::Walk)?;
        for entry in walk.by_ref() {
            let entry = entry.map_err(|error| match error {
                WalkError::Changing { path } => StreamError::Changed(path.display().to_string()),
                error => StreamError::Walk(error),
            })?;
            let link = match entry.kind {
                EntryKind::File { inode, links: 2.., .. } => match first.get(&inode) {
                    Some(name) => Some(name.clone()),
                    None => {
                        first.insert(inode, entry.path.clone());
                        None
                    }
                },
                _ => None,
            };
            let path = at(&self.root, &entry.path);
            let changed = |_| StreamError::Changed(path.display().to_string());
            let seen = Seen::of(&fs::symlink_metadata(&path).map_err(changed)?);
            let head_len = head(&entry, link.as_ref(), seen.mode).len() as u64;
            let part = Part { start: self.len, head_len, entry: Some(entry), link, seen };
            self.len += head_len + padded(part.content().unwrap_or(0));
            self.parts.push(part);
        }
        // Two blocks of zeros are its end.
        self.len += 2 * BLOCK;
        self.left_out = walk.left_out().iter().map(ToString::to_string).collect();
        Ok(())
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    /// What tells this stream from any other: equal only where nothing was written meanwhile.
    pub fn print(&self) -> &str {
        &self.print
    }

    /// What was left out of a directory, and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The name of the file, where it is none of a directory.
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// Up to `max` bytes from `offset` on; fewer only at the end.
    ///
    /// # Errors
    /// Somebody wrote to it since it was looked at.
    pub fn read(&mut self, offset: u64, max: usize) -> Result<Vec<u8>, StreamError> {
        self.hash_until(offset)?;
        let bytes = self.bytes(offset, max)?;
        self.note(offset, &bytes);
        Ok(bytes)
    }

    /// BLAKE3 of all of it, in hexadecimal digits.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn hash(&mut self) -> Result<String, StreamError> {
        self.hash_until(self.len)?;
        Ok(self.hasher.finalize().to_hex().to_string())
    }

    /// Hashes what was sent by an earlier call of the program.
    fn hash_until(&mut self, offset: u64) -> Result<(), StreamError> {
        while self.hashed < offset {
            let max = usize::try_from(offset - self.hashed).unwrap_or(usize::MAX).min(1 << 20);
            let (from, bytes) = (self.hashed, self.bytes(self.hashed, max)?);
            self.note(from, &bytes);
        }
        Ok(())
    }

    /// Counts bytes that were read at an offset into the hash, once.
    fn note(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.hashed.saturating_sub(offset)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            self.hasher.update(new);
            self.hashed += new.len() as u64;
        }
    }

    fn bytes(&mut self, mut offset: u64, max: usize) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::with_capacity(max);
        while bytes.len() < max && offset < self.len {
            let before = bytes.len();
            let index = self.parts.partition_point(|part| part.start <= offset);
            let found = index.checked_sub(1).map(|index| (index, &self.parts[index]));
            let within = found.map_or(offset, |(_, part)| offset - part.start);
            match found {
                Some((_, part)) if within < part.head_len => {
                    let entry = part.entry.as_ref().expect("what has a header is an entry");
                    let head = head(entry, part.link.as_ref(), part.seen.mode);
                    let head = &head[within as usize..];
                    bytes.extend_from_slice(&head[..head.len().min(max - before)]);
                }
                Some((index, part)) if part.content().is_some_and(|size| within - part.head_len < size) => {
                    let (at, size) = (within - part.head_len, part.seen.size);
                    let count = usize::try_from(size - at).unwrap_or(usize::MAX).min(max - before);
                    bytes.resize(before + count, 0);
                    self.content(index, at, &mut bytes[before..])?;
                }
                found => {
                    // Behind a file, or the end of all.
                    let end = found.map_or(0, |(index, _)| index + 1);
                    let next = self.parts.get(end).map_or(self.len, |part| part.start);
                    let count = usize::try_from(next - offset).unwrap_or(usize::MAX).min(max - before);
                    bytes.resize(before + count, 0);
                }
            }
            offset += (bytes.len() - before) as u64;
        }
        Ok(bytes)
    }

    /// Reads from a file that must be as it was.
    fn content(&mut self, index: usize, at_offset: u64, into: &mut [u8]) -> Result<(), StreamError> {
        let part = &self.parts[index];
        let path = part.entry.as_ref().map_or_else(|| self.root.clone(), |entry| at(&self.root, &entry.path));
        let changed = || StreamError::Changed(path.display().to_string());
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => changed(),
            _ => StreamError::Read { path: path.clone(), error },
        };
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            self.open = Some((index, File::open(&path).map_err(failed)?));
        }
        let (_, file) = self.open.as_ref().expect("it was opened above");
        let same = |file: &File| file.metadata().is_ok_and(|meta| Seen::of(&meta) == part.seen);
        if !same(file) {
            return Err(changed());
        }
        file.read_exact_at(into, at_offset).map_err(failed)?;
        if same(file) { Ok(()) } else { Err(changed()) }
    }
}

fn at(root: &Path, path: &RelPath) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}

const fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// The header blocks of an entry.
fn head(entry: &Entry, link: Option<&RelPath>, mode: u32) -> Vec<u8> {
    let mut records = Vec::new();
    let path = entry.path.as_bytes();
    let (kind, size, target) = match (&entry.kind, link) {
        (_, Some(link)) => (EntryType::Link, 0, link.as_bytes()),
        (EntryKind::Directory, None) => (EntryType::Directory, 0, &[][..]),
        (EntryKind::File { size, .. }, None) => (EntryType::Regular, *size, &[][..]),
        (EntryKind::Symlink { text }, None) => (EntryType::Symlink, 0, text.as_slice()),
    };
    if path.len() > NAME_MAX {
        record(&mut records, b"path", path);
    }
    if target.len() > NAME_MAX {
        record(&mut records, b"linkpath", target);
    }
    let (seconds, nanos) = (entry.mtime.div_euclid(1_000_000_000), entry.mtime.rem_euclid(1_000_000_000));
    if nanos != 0 || seconds < 0 {
        record(&mut records, b"mtime", instant(entry.mtime).as_bytes());
    }
    let mut blocks = Vec::new();
    if !records.is_empty() {
        blocks.extend(header(b"pax", &[], EntryType::XHeader, records.len() as u64, 0o644, 0));
        let len = blocks.len() as u64 + padded(records.len() as u64);
        blocks.extend(records);
        blocks.resize(len as usize, 0);
    }
    let seconds = u64::try_from(seconds).unwrap_or(0);
    // With the bits that are refused there, or they would go unnoticed.
    blocks.extend(header(path, target, kind, size, mode & 0o7777, seconds));
    blocks
}

fn header(path: &[u8], target: &[u8], kind: EntryType, size: u64, mode: u32, mtime: u64) -> [u8; 512] {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().expect("it was made as such");
    let fill = |field: &mut [u8; NAME_MAX], text: &[u8]| {
        let len = text.len().min(NAME_MAX);
        field[..len].copy_from_slice(&text[..len]);
    };
    fill(&mut fields.name, path);
    fill(&mut fields.linkname, target);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_cksum();
    *header.as_bytes()
}

/// Appends a record of pax; its length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds since 1970 with their parts, as `strtod` would read them.
fn instant(ns: i64) -> String {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

#[cfg(test)]
mod tests;
