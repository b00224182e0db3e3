//! Live against what was signed: every entry and every byte (design D9).
//!
//! What should be there stands in the inventory that was written when the version was staged, and which must come to
//! the hash that was signed. The tree is read below one descriptor: a switch meanwhile puts another in its place, and
//! what is read stays the one that was begun with.

use super::hashes::{Inventory, Line, LineKind};
use super::sparse::hash_file;
use super::tree::{Hasher, Opener};
use super::walk::{Entry, EntryKind, Walk, WalkError};
use crate::wire::assignment::RelPath;
use crate::wire::scrub::Flaw;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Scrub {
    pub live: PathBuf,
    pub inventory: PathBuf,
    /// The hash that the version was signed with.
    pub result: [u8; 32],
}

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub entries: u64,
    pub bytes: u64,
    /// Entries that are not as they were signed; one with several flaws counts for each.
    pub flaws: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    #[error("what should be live is not known ({0}); `farmcast synchronize` with --node brings all of it")]
    Inventory(io::Error),
    #[error("the record of what should be live is not what was signed")]
    Unsigned,
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("another version went live meanwhile; verify again")]
    Switched,
    #[error("reading live: {0}")]
    Io(io::Error),
}

/// Compares; `found` is told each flaw, `at` how far it is after each entry. Reads every file, which takes as long as
/// the disk does.
pub fn scrub(
    scrub: &Scrub,
    mut found: impl FnMut(&[u8], Flaw),
    mut at: impl FnMut(Progress),
) -> Result<Progress, ScrubError> {
    let root = File::open(&scrub.live).map_err(ScrubError::Io)?;
    // The descriptor itself, whatever has its name by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let mut expected = Inventory::open(&scrub.inventory).map_err(ScrubError::Inventory)?;
    let mut look = Look {
        opener: Opener::new(&path)?,
        root: &path,
        owner: root.metadata().map_err(ScrubError::Io)?.uid(),
        signed: Hasher::new(),
        live: Hasher::new(),
        buffer: Vec::new(),
        progress: Progress::default(),
        found: &mut found,
    };
    let mut walk = Walk::open(&path)?;
    for entry in walk.by_ref() {
        let entry = entry?;
        while let Some(line) = next_before(&mut expected, Some(&entry.path))? {
            look.missing(&line);
        }
        let same = expected.peek().is_some_and(|line| line.path == entry.path);
        match if same { expected.take().map_err(ScrubError::Inventory)? } else { None } {
            Some(line) => look.both(&line, &entry)?,
            None => look.flaw(entry.path.as_bytes(), Flaw::Extra),
        }
        at(look.progress);
    }
    while let Some(line) = next_before(&mut expected, None)? {
        look.missing(&line);
    }
    for left_out in walk.left_out() {
        look.flaw(&left_out.path, Flaw::Extra);
    }
    look.progress.flaws += walk.left_out_count() - walk.left_out().len() as u64;
    let (signed, live, mut progress) = (look.signed.finish(), look.live.finish(), look.progress);
    if signed.hash != scrub.result {
        return Err(ScrubError::Unsigned);
    }
    if is_another(&root, &scrub.live).map_err(ScrubError::Io)? {
        return Err(ScrubError::Switched);
    }
    if progress.flaws == 0 && live.hash != signed.hash {
        // All entries are as they were: what is left is which names are names of one file.
        progress.flaws = 1;
        found(b".", Flaw::Names);
    }
    at(progress);
    Ok(progress)
}

/// The next line before a path; before the end, where there is none.
fn next_before(expected: &mut Inventory, path: Option<&RelPath>) -> Result<Option<Line>, ScrubError> {
    let is_before = |line: &Line| path.is_none_or(|path| line.path.walk_cmp(path) == Ordering::Less);
    if expected.peek().is_some_and(is_before) {
        expected.take().map_err(ScrubError::Inventory)
    } else {
        Ok(None)
    }
}

fn is_another(root: &File, live: &Path) -> io::Result<bool> {
    let (ours, now) = (root.metadata()?, std::fs::metadata(live)?);
    Ok((ours.dev(), ours.ino()) != (now.dev(), now.ino()))
}

struct Look<'a> {
    opener: Opener,
    root: &'a Path,
    owner: u32,
    signed: Hasher,
    live: Hasher,
    buffer: Vec<u8>,
    progress: Progress,
    found: &'a mut dyn FnMut(&[u8], Flaw),
}

impl Look<'_> {
    fn flaw(&mut self, path: &[u8], flaw: Flaw) {
        self.progress.flaws += 1;
        (self.found)(path, flaw);
    }

    fn missing(&mut self, line: &Line) {
        self.sign(line);
        self.flaw(line.path.as_bytes(), Flaw::Missing);
    }

    /// Adds an entry to the tree that was signed. Files with several names are told by their inodes.
    fn sign(&mut self, line: &Line) {
        let (kind, hash) = match &line.kind {
            LineKind::Directory => (EntryKind::Directory, [0; 32]),
            LineKind::Symlink { text } => (EntryKind::Symlink { text: text.clone() }, [0; 32]),
            &LineKind::File { size, inode, hash } => {
                (EntryKind::File { size, inode: (0, inode), links: 2 }, hash)
            }
        };
        let entry = Entry { path: line.path.clone(), kind, mode: line.mode, mtime: line.mtime };
        self.signed.add(&entry, hash);
    }

    fn both(&mut self, line: &Line, entry: &Entry) -> Result<(), ScrubError> {
        self.progress.entries += 1;
        self.sign(line);
        let mut content = [0; 32];
        match (&line.kind, &entry.kind) {
            (LineKind::Directory, EntryKind::Directory) => {}
            (LineKind::Symlink { text }, EntryKind::Symlink { text: now }) if text == now => {}
            (LineKind::Symlink { .. }, EntryKind::Symlink { .. }) => {
                self.flaw(line.path.as_bytes(), Flaw::Link)
            }
            (LineKind::File { hash, .. }, &EntryKind::File { size, inode, .. }) => {
                content = match self.live.known(inode) {
                    Some(known) => known,
                    None => self.read(entry, size)?,
                };
                if content != *hash {
                    self.flaw(line.path.as_bytes(), Flaw::Content);
                }
            }
            _ => {
                self.flaw(line.path.as_bytes(), Flaw::Kind);
                self.live.add(entry, content);
                return Ok(());
            }
        }
        self.live.add(entry, content);
        self.metadata(line, entry)
    }

    fn metadata(&mut self, line: &Line, entry: &Entry) -> Result<(), ScrubError> {
        let path = super::walk::absolute(self.root, &entry.path);
        let now = std::fs::symlink_metadata(&path).map_err(|cause| changed(path, cause))?;
        let is_link = matches!(line.kind, LineKind::Symlink { .. });
        if !is_link && now.mode() & 0o7777 != line.mode {
            self.flaw(line.path.as_bytes(), Flaw::Mode);
        }
        if now.uid() != self.owner {
            self.flaw(line.path.as_bytes(), Flaw::Owner);
        }
        if entry.mtime != line.mtime {
            self.flaw(line.path.as_bytes(), Flaw::Time);
        }
        Ok(())
    }

    fn read(&mut self, entry: &Entry, size: u64) -> Result<[u8; 32], ScrubError> {
        let (file, _) = match self.opener.open(&entry.path) {
            Ok(opened) => opened,
            // Somebody took our right to read it: its mode tells, and its content is nobody's to serve.
            Err(WalkError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Ok([0; 32]);
            }
            Err(error) => return Err(error.into()),
        };
        let hash = hash_file(&file, size, &mut self.buffer);
        let hash = hash.map_err(|cause| changed(self.opener.absolute(&entry.path), cause))?;
        self.progress.bytes += size;
        Ok(hash)
    }
}

/// What vanishes or shrinks under us is a tree that somebody writes to.
fn changed(path: PathBuf, source: io::Error) -> ScrubError {
    ScrubError::Walk(match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => WalkError::Changing { path },
        _ => WalkError::Unreadable { path, source },
    })
}

#[cfg(test)]
mod tests;
