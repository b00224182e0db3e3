//! The hash of a whole tree: what a publish promises and a node proves (`Header::result`).
//!
//! It covers, in walk order, path, kind, permission bits and modification time of every entry, size and
//! content of files, text of symbolic links, and which names are names of the same file. Not the root
//! directory itself, owners, or what the file system makes of a sparse file.

use super::hashes::Cache;
use super::inodes::ByInode;
use super::sparse;
use super::walk::{Entry, EntryKind, Inode, Walk, WalkError, absolute};
use super::written::Written;
use crate::wire::Encoder;
use crate::wire::assignment::RelPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The hash of a tree and its measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeHash {
    pub hash: [u8; 32],
    /// Names of files; a file with two names counts twice.
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    /// Sizes of all files, holes included; a file with two names counts once.
    pub bytes: u64,
    /// Size of the largest file.
    pub largest_file: u64,
}

/// Hashes a tree entry by entry, so that one walk can serve hashing and something else.
pub struct Hasher {
    hasher: blake3::Hasher,
    fields: Encoder,
    entries: u64,
    /// Files with several names: the number of the first name's entry, and the content hash.
    linked: ByInode<(u64, [u8; 32])>,
    tree: TreeHash,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key("farmcast/1 tree"),
            fields: Encoder::new(),
            entries: 0,
            linked: ByInode::default(),
            tree: TreeHash::default(),
        }
    }
}

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    /// Content hash of a file of which another name was added before.
    pub fn known(&self, inode: Inode) -> Option<[u8; 32]> {
        self.linked.get(inode).map(|&(_, hash)| hash)
    }

    /// Adds the next entry in walk order. `content` is the content hash of a file; that of other kinds is
    /// not looked at.
    pub fn add(&mut self, entry: &Entry, content: [u8; 32]) {
        let out = self.fields.clear();
        out.bytes16(entry.path.as_bytes());
        match &entry.kind {
            EntryKind::Directory => {
                self.tree.directories += 1;
                out.u8(1).u16(entry.mode as u16).i64(entry.mtime);
            }
            &EntryKind::File { size, inode, links } => {
                self.tree.files += 1;
                out.u8(2).u16(entry.mode as u16).i64(entry.mtime).u64(size).raw(&content);
                let first = if links > 1 {
                    self.linked.get_or_insert(inode, (self.entries, content)).0
                } else {
                    self.entries
                };
                // How far back the first name of this file is: 0 where this is the first.
                out.u64(self.entries - first);
                if first == self.entries {
                    self.tree.bytes += size;
                    self.tree.largest_file = self.tree.largest_file.max(size);
                }
            }
            EntryKind::Symlink { text } => {
                self.tree.symlinks += 1;
                out.u8(3).i64(entry.mtime).bytes16(text);
            }
        }
        self.entries += 1;
        self.hasher.update(out.as_bytes());
    }

    pub fn finish(mut self) -> TreeHash {
        self.tree.hash = *self.hasher.finalize().as_bytes();
        self.tree
    }
}

/// Opens the files of one tree by their paths, beneath its root and through no symbolic link.
pub struct Opener {
    root: OwnedFd,
    path: PathBuf,
}

impl Opener {
    pub fn new(root: &Path) -> Result<Self, WalkError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(root, flags, Mode::empty())
            .map_err(|errno| WalkError::Unreadable { path: root.into(), source: errno.into() })?;
        Ok(Self { root: fd, path: root.into() })
    }

    /// Opens a file for reading and returns it with its status as of now.
    ///
    /// # Errors
    /// [`WalkError::Changing`] if there is no regular file at `path` (any more).
    pub fn open(&self, path: &RelPath) -> Result<(File, Entry), WalkError> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        let fail = |errno: Errno| WalkError::of(self.absolute(path), errno);
        let file = File::from(openat2(&self.root, path.as_bytes(), how).map_err(fail)?);
        let entry = self.status(&file, path)?;
        Ok((file, entry))
    }

    /// The status of an open file.
    pub fn status(&self, file: &File, path: &RelPath) -> Result<Entry, WalkError> {
        let stat = fstat(file).map_err(|errno| WalkError::of(self.absolute(path), errno))?;
        Entry::of_file(path.clone(), &stat).ok_or_else(|| WalkError::Changing { path: self.absolute(path) })
    }

    /// When an open file was last changed, in any way, nanoseconds since 1970. Nobody can set it back.
    pub fn changed_at(&self, file: &File, path: &RelPath) -> Result<i64, WalkError> {
        let stat = fstat(file).map_err(|errno| WalkError::of(self.absolute(path), errno))?;
        Ok(stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec))
    }

    pub fn absolute(&self, path: &RelPath) -> PathBuf {
        absolute(&self.path, path)
    }

    /// Where the tree was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Opener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Hashes the tree at `root`, reading every file.
pub fn hash_tree(root: &Path) -> Result<TreeHash, WalkError> {
    hash(root, None)
}

/// Hashes the tree at `root`, reading only the files that were not written just now and that `cache` does not know, and
/// leaves in the cache what it holds now. Saving the cache is the caller's.
pub(super) fn hash_tree_cached(
    root: &Path,
    cache: &mut Cache,
    written: &Written,
) -> Result<TreeHash, WalkError> {
    hash(root, Some((cache, written)))
}

fn hash(root: &Path, mut known: Option<(&mut Cache, &Written)>) -> Result<TreeHash, WalkError> {
    let opener = Opener::new(root)?;
    let mut hasher = Hasher::new();
    let mut buffer = Vec::new();
    for entry in Walk::open(root)? {
        let entry = entry?;
        let EntryKind::File { size, inode, .. } = entry.kind else {
            if let Some((cache, _)) = &mut known {
                cache.keep(&entry, [0; 32]);
            }
            hasher.add(&entry, [0; 32]);
            continue;
        };
        let found =
            known.as_mut().and_then(|(cache, written)| written.find(&entry).or_else(|| cache.find(&entry)));
        let content = match hasher.known(inode).or(found) {
            Some(content) => content,
            None => {
                let (file, now) = opener.open(&entry.path)?;
                let content = sparse::hash_file(&file, size, &mut buffer).map_err(|source| {
                    let path = opener.absolute(&entry.path);
                    match source.kind() {
                        std::io::ErrorKind::UnexpectedEof => WalkError::Changing { path },
                        _ => WalkError::Unreadable { path, source },
                    }
                })?;
                if !now.is_unwritten_since(&entry)
                    || !opener.status(&file, &entry.path)?.is_unwritten_since(&entry)
                {
                    return Err(WalkError::Changing { path: opener.absolute(&entry.path) });
                }
                content
            }
        };
        if let Some((cache, _)) = &mut known {
            cache.keep(&entry, content);
        }
        hasher.add(&entry, content);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
