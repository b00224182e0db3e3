//! Checkpoints: whole copies of trees at points in time, deduplicated (VC-7, VC-8).
//!
//! ```text
//! DIR/chunks/       pieces of files, each once, for all checkpoints of all sites
//!     manifests/N   what checkpoint N holds
//!     unswept       there while pieces may lie about that no checkpoint needs
//! ```
//! Which checkpoints there are, the database says, last of all: what it does not know of is removed by
//! [`Vault::sweep`]. Memory does not grow with files. With trees it grows by a path and a hash for each file that has
//! several names, as those of a shadow have that did not change since a release; in a sweep by up to 32 MiB of hashes.

use super::chunks::{CHUNK, ChunkError, Chunks, Flaw, ZEROS};
use super::dir::{Dir, set_mode, set_mtime};
use super::items::Policy;
use super::manifest::{Line, LineKind, ManifestError, Reader, Writer};
use super::tree::{Hasher, Opener, TreeHash};
use super::walk::{Entry, EntryKind, Inode, Walk, WalkError};
use crate::wire::assignment::RelPath;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Flaws that are named; the rest is only counted.
pub const FLAWS_MAX: usize = 100;
/// Hashes that a sweep holds at once.
const SWEEP_MAX: u64 = 1 << 20;

/// How a checkpoint is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub number: u64,
    /// Of its manifest.
    pub hash: [u8; 32],
    /// Pieces that it names, those of zeros too.
    pub pieces: u64,
}

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    pub key: Key,
    pub tree: TreeHash,
    /// Bytes that were not stored before.
    pub stored: u64,
}

/// What a look at all of a checkpoint found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Names of files.
    pub files: u64,
    pub pieces: u64,
    /// At most the first [`FLAWS_MAX`].
    pub flaws: Vec<FlawedFile>,
    pub flawed: u64,
}

/// A piece of a file that cannot be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlawedFile {
    pub path: RelPath,
    pub chunk: [u8; 32],
    pub flaw: Flaw,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{path}: {error}")]
    Chunk { path: RelPath, error: ChunkError },
    #[error("{path}: {cause}", path = path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// The directory with all checkpoints. One process uses it, and changes it in one thread at a time.
#[derive(Debug)]
pub struct Vault {
    dir: PathBuf,
}

impl Vault {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.dir.join("manifests").join(number.to_string())
    }

    fn marker(&self) -> PathBuf {
        self.dir.join("unswept")
    }

    fn chunks(&self, policy: &Policy) -> Result<Chunks, CheckpointError> {
        let path = self.dir.join("chunks");
        Chunks::open(&path, policy.level).map_err(|cause| CheckpointError::Io { path, cause })
    }

    /// Whether work was cut short that may have left something which [`Self::sweep`] removes.
    pub fn is_unswept(&self) -> bool {
        self.marker().exists()
    }

    /// Says that from now on something may lie about, over a crash too.
    pub fn begin(&self) -> Result<(), CheckpointError> {
        let manifests = self.dir.join("manifests");
        fs::create_dir_all(&manifests).map_err(io_error(&manifests))?;
        let marker = self.marker();
        File::create(&marker).and_then(|file| file.sync_all()).map_err(io_error(&marker))?;
        sync(&self.dir).map_err(io_error(&self.dir))
    }

    /// Nothing lies about any more.
    pub fn end(&self) -> Result<(), CheckpointError> {
        let marker = self.marker();
        fs::remove_file(&marker).map_err(io_error(&marker))
    }

    /// Makes checkpoint `number` of the tree at `root`, which nobody writes to. When it returns, all of it is on the
    /// disk. What is not to be kept goes with the next sweep.
    pub fn save(&self, root: &Path, number: u64, policy: &Policy) -> Result<Saved, CheckpointError> {
        let path = self.manifest(number);
        let mut save = Save {
            opener: Opener::new(root)?,
            chunks: self.chunks(policy)?,
            policy,
            manifest: Writer::create(&path).map_err(io_error(&path))?,
            path: &path,
            names: BTreeMap::new(),
            hasher: Hasher::new(),
            buffer: vec![0; CHUNK],
            pieces: 0,
            stored: 0,
        };
        for entry in Walk::open(root)? {
            save.entry(&entry?)?;
        }
        let hash = save.manifest.finish().map_err(io_error(&path))?;
        let (pieces, stored, tree) = (save.pieces, save.stored, save.hasher.finish());
        Dir::open(&self.dir).and_then(|dir| dir.sync_file_system()).map_err(io_error(&self.dir))?;
        Ok(Saved { key: Key { number, hash, pieces }, tree, stored })
    }

    /// Writes the tree of a checkpoint into `to`, a directory that is empty and nobody else's.
    ///
    /// # Errors
    /// Something of it is damaged; it is named. What was written by then stays for the caller to remove.
    pub fn rebuild(&self, key: &Key, to: &Path) -> Result<(), CheckpointError> {
        let mut manifest = Reader::open(&self.manifest(key.number), &key.hash)?;
        let mut chunks = self.chunks(&Policy::default())?;
        let mut build = Build::open(to).map_err(io_error(to))?;
        let mut piece = Vec::with_capacity(CHUNK);
        while let Some(line) = manifest.line()? {
            let at = |cause| CheckpointError::Io { path: super::walk::absolute(to, &line.path), cause };
            build.leave_for(&line.path).map_err(at)?;
            let Some(file) = build.make(&line).map_err(at)? else { continue };
            for index in 0..line.pieces() {
                let hash = manifest.piece()?;
                if hash == ZEROS {
                    continue;
                }
                let failed = |error| CheckpointError::Chunk { path: line.path.clone(), error };
                chunks.get(&hash, &mut piece).map_err(failed)?;
                file.write_all_at(&piece, index * CHUNK as u64).map_err(at)?;
            }
            build.finish(&file, &line).map_err(at)?;
        }
        build.leave_all().map_err(io_error(to))
    }

    /// Reads all of a checkpoint and names what cannot be brought back.
    ///
    /// # Errors
    /// Its list is damaged, or the disk fails.
    pub fn examine(&self, key: &Key) -> Result<Examined, CheckpointError> {
        let mut manifest = Reader::open(&self.manifest(key.number), &key.hash)?;
        let mut chunks = self.chunks(&Policy::default())?;
        let mut found = Examined::default();
        let mut piece = Vec::with_capacity(CHUNK);
        while let Some(line) = manifest.line()? {
            found.files += u64::from(matches!(line.kind, LineKind::File { .. } | LineKind::Name { .. }));
            for _ in 0..line.pieces() {
                let hash = manifest.piece()?;
                found.pieces += 1;
                if hash == ZEROS {
                    continue;
                }
                match chunks.get(&hash, &mut piece) {
                    Ok(()) => {}
                    Err(ChunkError::Flaw { hash: chunk, flaw }) => {
                        found.flawed += 1;
                        if found.flaws.len() < FLAWS_MAX {
                            found.flaws.push(FlawedFile { path: line.path.clone(), chunk, flaw });
                        }
                    }
                    Err(error) => return Err(CheckpointError::Chunk { path: line.path, error }),
                }
            }
        }
        Ok(found)
    }

    /// Removes what belongs to none of the checkpoints in `kept`. Returns how many pieces went.
    ///
    /// # Errors
    /// The disk's. Where the list of one that is kept cannot be read, nothing is removed: what it needs is not known.
    pub fn sweep(&self, kept: &[Key]) -> Result<u64, CheckpointError> {
        let manifests = self.dir.join("manifests");
        fs::create_dir_all(&manifests).map_err(io_error(&manifests))?;
        let chunks = self.chunks(&Policy::default())?;
        let pieces: u64 = kept.iter().map(|key| key.pieces).sum();
        // Hashes are spread evenly: as many passes, each over its part of the first bytes.
        let passes = (pieces / SWEEP_MAX + 1).min(256);
        let mut removed = 0;
        for pass in 0..passes {
            let bound = |pass: u64| (pass * 256 / passes) as u16;
            let (first, last) = (bound(pass) as u8, (bound(pass + 1) - 1) as u8);
            let needed = self.needed(kept, first..=last)?;
            let path = self.dir.join("chunks");
            removed += chunks
                .remove_others(first..=last, |hash| needed.binary_search(hash).is_ok())
                .map_err(io_error(&path))?;
        }
        for entry in fs::read_dir(&manifests).map_err(io_error(&manifests))? {
            let path = entry.map_err(io_error(&manifests))?.path();
            if !kept.iter().any(|key| self.manifest(key.number) == path) {
                fs::remove_file(&path).map_err(io_error(&path))?;
            }
        }
        Ok(removed)
    }

    /// The pieces that are needed, of those whose first byte is in `range`, sorted.
    fn needed(
        &self,
        kept: &[Key],
        range: std::ops::RangeInclusive<u8>,
    ) -> Result<Vec<[u8; 32]>, CheckpointError> {
        let mut needed = Vec::new();
        for key in kept {
            let mut manifest = Reader::open(&self.manifest(key.number), &key.hash)?;
            while let Some(line) = manifest.line()? {
                for _ in 0..line.pieces() {
                    let hash = manifest.piece()?;
                    if range.contains(&hash[0]) {
                        needed.push(hash);
                    }
                }
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Ok(needed)
    }
}

/// A checkpoint while it is made.
struct Save<'a> {
    opener: Opener,
    chunks: Chunks,
    policy: &'a Policy,
    manifest: Writer,
    path: &'a Path,
    /// First names of files that have several, with their content hashes.
    names: BTreeMap<Inode, RelPath>,
    hasher: Hasher,
    buffer: Vec<u8>,
    pieces: u64,
    stored: u64,
}

impl Save<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), CheckpointError> {
        let kind = match &entry.kind {
            EntryKind::Directory => LineKind::Directory,
            EntryKind::Symlink { text } => LineKind::Symlink { text: text.clone() },
            &EntryKind::File { size, inode, links } => {
                if let (Some(of), Some(hash)) = (self.names.get(&inode), self.hasher.known(inode)) {
                    let kind = LineKind::Name { of: of.clone() };
                    self.line(entry, kind)?;
                    self.hasher.add(entry, hash);
                    return Ok(());
                }
                if links > 1 {
                    self.names.insert(inode, entry.path.clone());
                }
                self.line(entry, LineKind::File { size })?;
                let hash = self.pieces(entry, size)?;
                self.hasher.add(entry, hash);
                return Ok(());
            }
        };
        self.hasher.add(entry, [0; 32]);
        self.line(entry, kind)
    }

    fn line(&mut self, entry: &Entry, kind: LineKind) -> Result<(), CheckpointError> {
        let line = Line { path: entry.path.clone(), mode: entry.mode, mtime: entry.mtime, kind };
        self.manifest.line(&line).map_err(io_error(self.path))
    }

    /// Stores the content of a file; returns its hash.
    fn pieces(&mut self, entry: &Entry, size: u64) -> Result<[u8; 32], CheckpointError> {
        let compress = self.policy.allows(&entry.path);
        let (file, _) = self.opener.open(&entry.path)?;
        let path = || self.opener.absolute(&entry.path);
        let mut content = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let len = (size - at).min(CHUNK as u64) as usize;
            let piece = &mut self.buffer[..len];
            file.read_exact_at(piece, at).map_err(|cause| match cause.kind() {
                io::ErrorKind::UnexpectedEof => WalkError::Changing { path: path() }.into(),
                _ => CheckpointError::Io { path: path(), cause },
            })?;
            content.update(piece);
            let put = self.chunks.put(piece, compress);
            let (hash, stored) =
                put.map_err(|error| CheckpointError::Chunk { path: entry.path.clone(), error })?;
            self.manifest.piece(&hash).map_err(io_error(self.path))?;
            self.pieces += 1;
            self.stored += stored;
            at += len as u64;
        }
        if !self.opener.status(&file, &entry.path)?.is_unwritten_since(entry) {
            return Err(WalkError::Changing { path: path() }.into());
        }
        Ok(*content.finalize().as_bytes())
    }
}

/// A tree while it is written, in walk order.
struct Build {
    root: Dir,
    /// Directories that are open to be written in, from the root down: with their modes and times, which they get when
    /// all below them stands.
    open: Vec<Line>,
}

impl Build {
    fn open(to: &Path) -> io::Result<Self> {
        Ok(Self { root: Dir::open(to)?, open: Vec::new() })
    }

    /// Closes the directories that `path` does not lie in.
    fn leave_for(&mut self, path: &RelPath) -> io::Result<()> {
        let is_above = |dir: &Line| {
            path.as_bytes().strip_prefix(dir.path.as_bytes()).is_some_and(|rest| rest[0] == b'/')
        };
        while self.open.last().is_some_and(|dir| !is_above(dir)) {
            self.leave()?;
        }
        Ok(())
    }

    fn leave_all(&mut self) -> io::Result<()> {
        while !self.open.is_empty() {
            self.leave()?;
        }
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let Some(line) = self.open.pop() else { return Ok(()) };
        let dir = self.root.below(&line.path)?;
        dir.own_utimes(line.mtime)?;
        dir.own_chmod(line.mode)
    }

    /// The directory that an entry lies in, and its name there.
    fn place<'a>(&self, path: &'a RelPath) -> io::Result<(Dir, &'a [u8])> {
        let bytes = path.as_bytes();
        match bytes.iter().rposition(|&byte| byte == b'/') {
            None => Ok((self.root.child(b".")?, bytes)),
            Some(slash) => Ok((self.root.child(&bytes[..slash])?, &bytes[slash + 1..])),
        }
    }

    /// Makes an entry; a file is returned, for its content is still to come.
    fn make(&mut self, line: &Line) -> io::Result<Option<File>> {
        let (dir, name) = self.place(&line.path)?;
        match &line.kind {
            LineKind::Directory => {
                dir.make(name, 0o700)?;
                self.open.push(line.clone());
            }
            LineKind::File { .. } => return dir.create(name).map(Some),
            LineKind::Symlink { text } => {
                dir.symlink(name, text)?;
                dir.utimes(name, line.mtime)?;
            }
            LineKind::Name { of } => {
                let (of_dir, of_name) = self.place(of)?;
                dir.link(name, &of_dir, of_name)?;
            }
        }
        Ok(None)
    }

    fn finish(&self, file: &File, line: &Line) -> io::Result<()> {
        if let LineKind::File { size } = line.kind {
            file.set_len(size)?;
        }
        set_mode(file, line.mode)?;
        set_mtime(file, line.mtime)
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |cause| CheckpointError::Io { path: path.clone(), cause }
}

#[cfg(test)]
mod tests;
