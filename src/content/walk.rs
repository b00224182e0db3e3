//! The entries of a tree, depth first with sorted children, as `RelPath::walk_cmp` orders them.
//!
//! The walk descends by directory descriptors and never follows a symbolic link, so nobody who can write
//! to the tree can lead it outside. What content cannot be (sockets, devices, FIFOs, entries nested too
//! deep) is left out and named.

use super::tree::Opener;
use crate::wire::assignment::{MODE_MASK, Mtime, RelPath};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{Scope, ScopedJoinHandle};

/// Directories above an entry, the root included: what `RelPath` allows.
const DEPTH_MAX: usize = 64;
/// Entries left out that are named; the rest is only counted.
const LEFT_OUT_MAX: usize = 1_000;

/// What tells one file from another on this machine: device and inode number.
pub type Inode = (u64, u64);

/// One entry below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: RelPath,
    pub kind: EntryKind,
    /// Permission bits, masked by [`MODE_MASK`].
    pub mode: u32,
    pub mtime: Mtime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File {
        /// Bytes, holes included.
        size: u64,
        inode: Inode,
        /// Names the file has, those outside the tree included.
        links: u64,
    },
    Symlink {
        text: Vec<u8>,
    },
}

impl Entry {
    /// The entry that a status describes; `None` where content cannot be of that kind. A symbolic link's
    /// text is not part of its status and is given by `text`.
    fn new(path: RelPath, stat: &FileStat, text: impl FnOnce() -> Vec<u8>) -> Option<Self> {
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => EntryKind::Directory,
            libc::S_IFREG => EntryKind::File {
                size: u64::try_from(stat.st_size).unwrap_or(0),
                inode: (stat.st_dev, stat.st_ino),
                links: stat.st_nlink,
            },
            libc::S_IFLNK => EntryKind::Symlink { text: text() },
            _ => return None,
        };
        Some(Self { path, kind, mode: stat.st_mode & MODE_MASK, mtime: mtime(stat) })
    }

    /// The file that an open descriptor's status describes; `None` where it is no regular file.
    pub fn of_file(path: RelPath, stat: &FileStat) -> Option<Self> {
        Self::new(path, stat, Vec::new).filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
    }

    /// Whether this later status is of the same file, with no write in between. Links may come and go.
    pub fn is_unwritten_since(&self, earlier: &Self) -> bool {
        let state = |entry: &Self| match entry.kind {
            EntryKind::File { size, inode, .. } => Some((size, inode, entry.mtime, entry.mode)),
            _ => None,
        };
        state(self) == state(earlier)
    }

    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }
}

/// Nanoseconds since 1970; times that do not fit are bounded, on every machine alike.
fn mtime(stat: &FileStat) -> Mtime {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec)
}

/// An entry that content cannot hold. It is not an error: the rest is published, and this is a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Path below the root, as the file system spells it.
    pub path: Vec<u8>,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Socket,
    Fifo,
    Device,
    /// Deeper than 64 directories, or the path is longer than 4,095 bytes.
    TooDeep,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Socket => "a socket",
            Reason::Fifo => "a FIFO",
            Reason::Device => "a device",
            Reason::TooDeep => "nested deeper than 64 directories or longer than 4,095 bytes",
        };
        write!(f, "{} is {reason}; it is left out", self.path.escape_ascii())
    }
}

/// Why a tree cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("cannot read {}: {source}; let the user that runs this process read it, or remove it", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} changed while it was read; publish again when nothing writes to it", path.display())]
    Changing { path: PathBuf },
}

impl WalkError {
    /// What a failed call on `path` means: an entry that vanished or changed its kind since its
    /// directory was read is a tree that somebody writes to, all else is a matter of rights or disks.
    pub fn of(path: PathBuf, errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE => Self::Changing { path },
            _ => Self::Unreadable { path, source: errno.into() },
        }
    }
}

/// What becomes of an entry where not all of a tree is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    Take,
    /// Of a directory, all below it is left out as well.
    Leave,
    /// A directory that is taken only where something below it is.
    Contents,
}

/// Asked of each entry, with whether it is a directory, from the root down.
pub type Picks<'a> = dyn Fn(&RelPath, bool) -> Pick + Sync + 'a;

/// All of a tree.
pub const ALL: &Picks<'static> = &|_, _| Pick::Take;

/// A walk over a tree: an iterator over its entries, the root itself excluded. After an error it ends.
///
/// Memory: the names of the directories between the root and the current entry.
pub struct Walk<'a> {
    root: PathBuf,
    levels: Vec<Level>,
    picks: &'a Picks<'a>,
    /// The directory that was met last; the next step descends into it.
    below: Option<RelPath>,
    /// Directories above this place that are taken with the first entry below them that is.
    pending: Vec<Entry>,
    /// Entries that are to be yielded before the walk goes on.
    ready: VecDeque<Entry>,
    left_out: Vec<LeftOut>,
    left_out_count: u64,
}

struct Level {
    dir: Dir,
    /// `None` is the root.
    path: Option<RelPath>,
    names: std::vec::IntoIter<CString>,
}

/// Entries that one thread hands to another at a time, and so many times ahead of it.
const BATCH: usize = 256;
const BATCHES_AHEAD: usize = 4;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

impl<'a> Walk<'a> {
    /// Opens a tree. The root itself may be reached through symbolic links: the operator named it.
    pub fn open(root: &Path) -> Result<Self, WalkError> {
        Self::picking(root, ALL)
    }

    /// The same, for a walk that yields what is picked.
    pub fn picking(root: &Path, picks: &'a Picks<'a>) -> Result<Self, WalkError> {
        Self::of(root, Dir::open(root, DIRECTORY, Mode::empty()), picks)
    }

    /// The same of the tree that an opener has open, whatever its path names by now.
    pub fn within(opener: &Opener, picks: &'a Picks<'a>) -> Result<Self, WalkError> {
        Self::of(opener.path(), Dir::openat(opener, ".", DIRECTORY, Mode::empty()), picks)
    }

    fn of(root: &Path, dir: Result<Dir, Errno>, picks: &'a Picks<'a>) -> Result<Self, WalkError> {
        let unreadable = |errno: Errno| WalkError::Unreadable { path: root.into(), source: errno.into() };
        let mut dir = dir.map_err(unreadable)?;
        let names = sorted_names(&mut dir).map_err(unreadable)?;
        Ok(Self {
            root: root.into(),
            levels: vec![Level { dir, path: None, names }],
            picks,
            below: None,
            pending: Vec::new(),
            ready: VecDeque::new(),
            left_out: Vec::new(),
            left_out_count: 0,
        })
    }

    /// What was left out so far, at most the first 1,000.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// How many entries were left out so far.
    pub const fn left_out_count(&self) -> u64 {
        self.left_out_count
    }

    /// Where an entry lies, for messages.
    fn absolute(&self, path: &RelPath) -> PathBuf {
        absolute(&self.root, path)
    }

    fn descend(&mut self, path: RelPath) -> Result<(), WalkError> {
        let parent = &self.levels.last().expect("a directory has one above it").dir;
        let name = path.components().next_back().expect("a path has components");
        let opened = Dir::openat(parent, name, DIRECTORY.union(OFlag::O_NOFOLLOW), Mode::empty())
            .and_then(|mut dir| sorted_names(&mut dir).map(|names| (dir, names)));
        match opened {
            Ok((dir, names)) => {
                self.levels.push(Level { dir, path: Some(path), names });
                Ok(())
            }
            Err(errno) => Err(WalkError::of(self.absolute(&path), errno)),
        }
    }

    /// The entry of a name in the innermost directory, and whether it is taken; `None` where it is left out.
    fn entry(&mut self, name: &CString) -> Result<Option<(Entry, Pick)>, WalkError> {
        let level = self.levels.last().expect("the name was read from a level");
        let bytes = self.path_of(name);
        let stat = match fstatat(&level.dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went between the reading of the directory and now: as if the walk had come later.
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(WalkError::of(join(&self.root, &bytes), errno)),
        };
        let path = match RelPath::from_vec(bytes) {
            Ok(path) if self.levels.len() <= DEPTH_MAX => path,
            _ => {
                self.leave_out(name, Reason::TooDeep);
                return Ok(None);
            }
        };
        let pick = (self.picks)(&path, stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
        if pick == Pick::Leave {
            return Ok(None);
        }
        let mut text = Vec::new();
        if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            text = match readlinkat(&level.dir, name.as_c_str()) {
                Ok(text) => text.into_vec(),
                // No longer a symbolic link.
                Err(Errno::EINVAL) => return Err(WalkError::Changing { path: self.absolute(&path) }),
                Err(errno) => return Err(WalkError::of(self.absolute(&path), errno)),
            };
        }
        let entry = Entry::new(path, &stat, || text);
        if entry.is_none() {
            self.leave_out(
                name,
                match stat.st_mode & libc::S_IFMT {
                    libc::S_IFSOCK => Reason::Socket,
                    libc::S_IFIFO => Reason::Fifo,
                    _ => Reason::Device,
                },
            );
        }
        Ok(entry.map(|entry| (entry, pick)))
    }

    /// Notes a name of the innermost directory.
    fn leave_out(&mut self, name: &CString, reason: Reason) {
        self.left_out_count += 1;
        if self.left_out.len() < LEFT_OUT_MAX {
            let path = self.path_of(name);
            self.left_out.push(LeftOut { path, reason });
        }
    }

    /// The path of a name of the innermost directory, right or not.
    fn path_of(&self, name: &CString) -> Vec<u8> {
        match self.levels.last().and_then(|level| level.path.as_ref()) {
            Some(parent) => [parent.as_bytes(), b"/", name.as_bytes()].concat(),
            None => name.as_bytes().to_vec(),
        }
    }

    fn step(&mut self) -> Result<Option<Entry>, WalkError> {
        if let Some(entry) = self.ready.pop_front() {
            return Ok(Some(entry));
        }
        loop {
            if let Some(path) = self.below.take() {
                self.descend(path)?;
            }
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.next() else {
                if let Some(left) = self.levels.pop() {
                    // Nothing below it was taken.
                    self.pending.pop_if(|entry| Some(&entry.path) == left.path.as_ref());
                }
                continue;
            };
            let Some((entry, pick)) = self.entry(&name)? else { continue };
            self.below = entry.is_directory().then(|| entry.path.clone());
            if pick == Pick::Contents {
                self.pending.push(entry);
                continue;
            }
            if self.pending.is_empty() {
                return Ok(Some(entry));
            }
            self.ready.extend(self.pending.drain(..));
            self.ready.push_back(entry);
            return Ok(self.ready.pop_front());
        }
    }
}

/// Lets a walk go on in a thread of its own, at most [`BATCHES_AHEAD`] batches ahead of who takes the entries. The walk
/// comes back at its end, or when nobody takes them any more.
pub fn ahead<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    mut walk: Walk<'env>,
) -> (impl Iterator<Item = Result<Entry, WalkError>> + use<'env>, ScopedJoinHandle<'scope, Walk<'env>>) {
    let (sender, batches) = sync_channel(BATCHES_AHEAD);
    let walker = scope.spawn(move || {
        loop {
            let batch: Vec<_> = walk.by_ref().take(BATCH).collect();
            if batch.is_empty() || sender.send(batch).is_err() {
                return walk;
            }
        }
    });
    (batches.into_iter().flatten(), walker)
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.levels.clear();
        }
        step.transpose()
    }
}

/// Where a path below `root` lies.
pub fn absolute(root: &Path, path: &RelPath) -> PathBuf {
    join(root, path.as_bytes())
}

fn join(root: &Path, bytes: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(bytes))
}

fn sorted_names(dir: &mut Dir) -> Result<std::vec::IntoIter<CString>, Errno> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

#[cfg(test)]
mod tests;
