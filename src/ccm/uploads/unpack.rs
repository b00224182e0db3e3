//! An archive becomes a tree: below one directory, through no link, within limits, hashed on the way.

use super::archive::{Archive, BadArchive, Entry, What, shown};
use crate::content::dir::{Dir, Kind, set_mode, set_mtime};
use crate::wire::assignment::{Mtime, RelPath};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

/// Mode of directories that an archive does not name.
const DIRECTORY_MODE: u32 = 0o755;
const BUFFER: usize = 256 << 10;

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    pub files: u64,
    /// Of all files.
    pub bytes: u64,
    /// BLAKE3 of the archive, all of it.
    pub hash: [u8; 32],
}

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Archive(#[from] BadArchive),
    #[error("{path}: {reason}")]
    Refused { path: String, reason: &'static str },
    #[error("more than {0} entries; `farmcast site policy SITE --upload-entries N` allows more")]
    Entries(u64),
    #[error("{path}: {error}")]
    Write { path: String, error: io::Error },
}

/// Unpacks `archive` into `root`, which is empty and nobody else's, below `into` where that is given.
///
/// # Errors
/// What is no archive, entries that would lie elsewhere or are no content, more than `entries_max` of them, and
/// failures of the disk. What was written until then stays.
pub fn unpack(
    archive: &File,
    root: &Dir,
    into: Option<&RelPath>,
    entries_max: u64,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, Hashing::new(archive)));
    let mut tree = Tree { root, parent: None, directories: BTreeMap::new() };
    let mut done = Unpacked::default();
    let mut buffer = vec![0; BUFFER];
    if let Some(into) = into {
        tree.make_all(into)?;
    }
    while let Some(entry) = archive.entry()? {
        done.entries += 1;
        if done.entries > entries_max {
            return Err(UnpackError::Entries(entries_max));
        }
        let Entry { path: Some(path), what, mode, mtime } = entry else { continue };
        let path = match into {
            Some(into) => under(into, &path)?,
            None => path,
        };
        match what {
            What::Directory => tree.directory(path, mode, mtime)?,
            What::File { size } => {
                let file = tree.file(&path)?;
                let failed = |error| write_error(&path, error);
                loop {
                    let count = archive.content(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    (&file).write_all(&buffer[..count]).map_err(failed)?;
                }
                set_mode(&file, mode).and_then(|()| set_mtime(&file, mtime)).map_err(failed)?;
                (done.files, done.bytes) = (done.files + 1, done.bytes + size);
            }
            What::Symlink { text } => tree.symlink(&path, &text, mtime)?,
            What::Link { target } => {
                let target = match into {
                    Some(into) => under(into, &target)?,
                    None => target,
                };
                tree.link(&path, &target)?;
                done.files += 1;
            }
        }
    }
    tree.finish()?;
    let mut rest = archive.into_rest();
    while rest.read(&mut buffer).map_err(BadArchive::Read)? > 0 {}
    done.hash = *rest.into_inner().hasher.finalize().as_bytes();
    Ok(done)
}

/// Puts a whole file to `path` in the tree below `root`.
///
/// # Errors
/// Failures of the disk.
pub fn place(home: &Dir, name: &[u8], root: &Dir, path: &RelPath) -> Result<(), UnpackError> {
    let mut tree = Tree { root, parent: None, directories: BTreeMap::new() };
    let (parent, last) = tree.parent_of(path)?;
    home.chmod(name, 0o644)
        .and_then(|()| home.rename(name, parent, &last))
        .map_err(|error| write_error(path, error))?;
    tree.finish()
}

/// A path of the archive below the directory that it is merged into.
fn under(into: &RelPath, path: &RelPath) -> Result<RelPath, UnpackError> {
    let whole = [into.as_bytes(), b"/", path.as_bytes()].concat();
    RelPath::new(&whole).map_err(|_| UnpackError::Refused {
        path: shown(&whole),
        reason: "longer than 4,095 bytes or deeper than 64 directories",
    })
}

fn write_error(path: &RelPath, error: io::Error) -> UnpackError {
    UnpackError::Write { path: shown(path.as_bytes()), error }
}

/// What is being made.
struct Tree<'a> {
    root: &'a Dir,
    /// The directory that was written to last.
    parent: Option<(RelPath, Dir)>,
    /// Modes and times, given when nothing more is written to them.
    directories: BTreeMap<RelPath, Option<(u32, Mtime)>>,
}

impl Tree<'_> {
    /// The directory in which an entry lies, made where it is missing, and the entry's name there.
    fn parent_of(&mut self, path: &RelPath) -> Result<(&Dir, Vec<u8>), UnpackError> {
        let (parent, name) = split(path);
        let Some(parent) = parent else { return Ok((self.root, name)) };
        if self.parent.as_ref().is_none_or(|(at, _)| *at != parent) {
            self.make_all(&parent)?;
            let dir = self.root.below(&parent).map_err(|error| passage(&parent, error))?;
            self.parent = Some((parent, dir));
        }
        let (_, dir) = self.parent.as_ref().expect("it was set above");
        Ok((dir, name))
    }

    /// Makes a directory and all above it that are missing.
    fn make_all(&mut self, path: &RelPath) -> Result<(), UnpackError> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let (parent, name) = split(path);
        let dir = match &parent {
            Some(parent) => {
                self.make_all(parent)?;
                self.root.below(parent).map_err(|error| passage(parent, error))?
            }
            None => self.root.child(b".").map_err(|error| write_error(path, error))?,
        };
        match dir.find(&name).map_err(|error| write_error(path, error))?.as_ref().map(Kind::of) {
            None => dir.make(&name, 0o700).map_err(|error| write_error(path, error))?,
            Some(Kind::Directory) => {}
            Some(_) => {
                let reason = "leads through an entry that is no directory";
                return Err(UnpackError::Refused { path: shown(path.as_bytes()), reason });
            }
        }
        self.directories.insert(path.clone(), None);
        Ok(())
    }

    fn directory(&mut self, path: RelPath, mode: u32, mtime: Mtime) -> Result<(), UnpackError> {
        self.make_all(&path)?;
        self.directories.insert(path, Some((mode, mtime)));
        Ok(())
    }

    /// Where an entry is to be made; what the archive had there before goes.
    fn vacant(&mut self, path: &RelPath) -> Result<(&Dir, Vec<u8>), UnpackError> {
        let (dir, name) = self.parent_of(path)?;
        match dir.find(&name).map_err(|error| write_error(path, error))?.as_ref().map(Kind::of) {
            None => {}
            Some(Kind::Directory) => {
                let reason = "a directory of this name came before it";
                return Err(UnpackError::Refused { path: shown(path.as_bytes()), reason });
            }
            Some(_) => dir.unlink(&name).map_err(|error| write_error(path, error))?,
        }
        Ok((dir, name))
    }

    fn file(&mut self, path: &RelPath) -> Result<File, UnpackError> {
        let (dir, name) = self.vacant(path)?;
        dir.create(&name).map_err(|error| write_error(path, error))
    }

    fn symlink(&mut self, path: &RelPath, text: &[u8], mtime: Mtime) -> Result<(), UnpackError> {
        let (dir, name) = self.vacant(path)?;
        dir.symlink(&name, text)
            .and_then(|()| dir.utimes(&name, mtime))
            .map_err(|error| write_error(path, error))
    }

    fn link(&mut self, path: &RelPath, target: &RelPath) -> Result<(), UnpackError> {
        if path == target {
            return Ok(());
        }
        let (parent, target_name) = split(target);
        let found = match &parent {
            Some(parent) => self.root.below(parent),
            None => self.root.child(b"."),
        };
        let found = found.and_then(|dir| Ok(dir.find(&target_name)?.map(|stat| (dir, Kind::of(&stat)))));
        let Ok(Some((target_dir, Kind::File))) = found else {
            let reason = "a link to a file that did not come before it";
            return Err(UnpackError::Refused { path: shown(path.as_bytes()), reason });
        };
        let (dir, name) = self.vacant(path)?;
        dir.link(&name, &target_dir, &target_name).map_err(|error| write_error(path, error))
    }

    /// Gives directories their modes and times, those inside first.
    fn finish(&mut self) -> Result<(), UnpackError> {
        self.parent = None;
        for (path, given) in std::mem::take(&mut self.directories).into_iter().rev() {
            let dir = self.root.below(&path).map_err(|error| write_error(&path, error))?;
            let (mode, mtime) = given.map_or((DIRECTORY_MODE, None), |(mode, mtime)| (mode, Some(mtime)));
            dir.own_chmod(mode)
                .and_then(|()| mtime.map_or(Ok(()), |mtime| dir.own_utimes(mtime)))
                .map_err(|error| write_error(&path, error))?;
        }
        Ok(())
    }
}

/// A path as the directory above it, `None` for the root, and its last name.
fn split(path: &RelPath) -> (Option<RelPath>, Vec<u8>) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(at) => {
            let parent = RelPath::new(&bytes[..at]).expect("the directory of a path is a path");
            (Some(parent), bytes[at + 1..].to_vec())
        }
        None => (None, bytes.to_vec()),
    }
}

/// An error on the way to a directory: a symbolic link or a file stands there.
fn passage(path: &RelPath, error: io::Error) -> UnpackError {
    match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => {
            let reason = "leads through an entry that is no directory";
            UnpackError::Refused { path: shown(path.as_bytes()), reason }
        }
        _ => write_error(path, error),
    }
}

/// Hashes what is read.
struct Hashing<'a> {
    from: &'a File,
    hasher: Box<blake3::Hasher>,
}

impl<'a> Hashing<'a> {
    fn new(from: &'a File) -> Self {
        Self { from, hasher: Box::default() }
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
