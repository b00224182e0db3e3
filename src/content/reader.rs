//! One file of staging to the command that brings it to a node: nothing, its mode, its changed bytes, or
//! all of it. A file is only taken as it is when nobody wrote to it while it was read (ST-1).

use super::borrowed::Borrowed;
use super::data::DataFile;
use super::delta::{Delta, Version, delta};
use super::items::{Fault, Items};
use super::origins::{Origin, Origins};
use super::pack::{Pack, PackError};
use super::sparse::hash_file;
use super::tree::Opener;
use super::walk::{Entry, EntryKind, WalkError};
use crate::wire::assignment::{Command, RelPath};
use nix::unistd::syncfs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Smaller files are sent again: naming where they are takes as many bytes.
const BORROW_MIN: u64 = 512;
/// How often a file is read that changes while it is read.
const READS_MAX: u32 = 3;

/// What to do about a file.
pub struct Verdict {
    /// The file as it was read.
    pub entry: Entry,
    pub hash: [u8; 32],
    pub order: Order,
    /// Bytes its content takes on a node while both versions are there.
    pub space: u64,
    /// It looks unchanged and is not: nothing may rely on its looks.
    pub disguised: bool,
}

/// What brings a file to a node.
#[derive(Debug)]
pub enum Order {
    /// It has it.
    Nothing,
    Command(Command),
    /// It has the content, under another name.
    Borrow(Borrowed),
}

/// Reads the files of staging, and those of the shadow where they are compared.
pub struct Reader<'a> {
    staging: Opener,
    shadow: Option<Opener>,
    /// Where the hashes of the shadow's content are, until they are needed.
    hashes: Option<&'a Path>,
    origins: Option<Origins>,
    items: Items<'a>,
    out: &'a Path,
    /// When composing began, nanoseconds since 1970.
    began: i64,
    pass_tick: &'a dyn Fn(i64),
    /// What had been written to staging's file system by then is on the disk.
    synced: bool,
    /// Called after each reading, before it is checked that nobody wrote to the file.
    read: &'a mut dyn FnMut(&RelPath),
}

impl<'a> Reader<'a> {
    pub fn new(
        pack: &Pack<'a>,
        staging: Opener,
        read: &'a mut dyn FnMut(&RelPath),
    ) -> Result<Self, PackError> {
        let failed = |source| PackError::Write { path: pack.out.into(), source };
        let data = DataFile::create(pack.out).map_err(failed)?;
        Ok(Self {
            staging,
            shadow: match pack.base {
                Some(_) => Some(Opener::new(pack.shadow).map_err(PackError::Shadow)?),
                None => None,
            },
            hashes: pack.origins.filter(|_| pack.base.is_some()),
            origins: None,
            items: Items::new(data, pack.policy).map_err(failed)?,
            out: pack.out,
            began: i64::try_from(pack.issued).unwrap_or(i64::MAX).saturating_mul(1_000_000_000),
            pass_tick: pack.pass_tick,
            synced: false,
            read,
        })
    }

    /// The data of all commands, complete.
    pub fn into_data(self) -> DataFile {
        self.items.into_data()
    }

    /// Reads a file until nobody writes to it meanwhile.
    pub fn verdict(&mut self, old: Option<&Entry>, new: &Entry) -> Result<Verdict, PackError> {
        let start = self.items.len();
        for _ in 0..READS_MAX {
            let (file, _) = self.staging.open(&new.path).map_err(PackError::Staging)?;
            let changed = self.staging.changed_at(&file, &new.path).map_err(PackError::Staging)?;
            self.make_writes_show(&file, changed);
            let entry = self.staging.status(&file, &new.path).map_err(PackError::Staging)?;
            let verdict = self.read_once(old, &file, entry);
            (self.read)(&new.path);
            let after = self.staging.status(&file, &new.path).map_err(PackError::Staging)?;
            let is_same = self.staging.changed_at(&file, &new.path).map_err(PackError::Staging)? == changed;
            match verdict {
                Ok(verdict) if is_same && after.is_unwritten_since(&verdict.entry) => return Ok(verdict),
                Err(ReadError::Pack(error)) => return Err(error),
                Err(ReadError::Read(source)) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    let path = self.staging.absolute(&new.path);
                    return Err(PackError::Staging(WalkError::Unreadable { path, source }));
                }
                Ok(_) | Err(ReadError::Read(_)) => {
                    self.items.rewind(start).map_err(|source| self.write_error(source))?;
                }
            }
        }
        Err(self.changing(&new.path))
    }

    /// Sees to it that whoever writes to a file from now on sets another time of change than `changed`: by waiting
    /// for the clock that it is taken from, and, where it may be mapped into memory, by having the kernel note the next
    /// write to each of its pages. That it does for pages that it has to write to the disk again; on tmpfs, which has
    /// no disk, it never does.
    fn make_writes_show(&mut self, file: &File, changed: i64) {
        (self.pass_tick)(changed);
        // A failure is of the disk, not of what is read; writes by the usual calls show all the same.
        if !std::mem::replace(&mut self.synced, true) {
            let _ = syncfs(file);
        }
        if changed >= self.began {
            let _ = file.sync_data();
        }
    }

    fn read_once(&mut self, old: Option<&Entry>, file: &File, entry: Entry) -> Result<Verdict, ReadError> {
        if let Some(verdict) = self.borrow(old, file, &entry)? {
            return Ok(verdict);
        }
        if let Some(old) = old
            && let Some(verdict) = self.patch(old, file, &entry)?
        {
            return Ok(verdict);
        }
        let EntryKind::File { size, .. } = entry.kind else { return Err(self.changing(&entry.path).into()) };
        let content = self.items.whole(&entry.path, file, size).map_err(|fault| self.fault(fault))?;
        let order = Order::Command(Command::Put {
            path: entry.path.clone(),
            mode: entry.mode,
            mtime: entry.mtime,
            size,
            hash: content.hash,
            item: content.item,
            extents: content.extents,
        });
        let space = content.stored;
        let disguised = old.is_some_and(|old| looks_same(old, &entry));
        Ok(Verdict { entry, hash: content.hash, order, space, disguised })
    }

    /// The content under another name of the base; `None` where the base has it under none.
    fn borrow(
        &mut self,
        old: Option<&Entry>,
        file: &File,
        new: &Entry,
    ) -> Result<Option<Verdict>, ReadError> {
        let (Some(shadow), &EntryKind::File { size, .. }) = (&self.shadow, &new.kind) else {
            return Ok(None);
        };
        if size < BORROW_MIN || old.is_some_and(|old| looks_same(old, new)) {
            return Ok(None);
        }
        if let Some(hashes) = self.hashes.take() {
            // Without them, content is sent that need not be.
            self.origins = Origins::open(hashes, BORROW_MIN).ok();
        }
        let Some(origins) = &self.origins else { return Ok(None) };
        let own =
            old.is_some_and(|old| matches!(old.kind, EntryKind::File { size: before, .. } if before == size));
        if origins.of_size(size) <= usize::from(own) {
            return Ok(None);
        }
        let hash = hash_file(file, size, &mut Vec::new()).map_err(ReadError::Read)?;
        let Ok((mut origins, all)) = origins.find(size, &hash) else { return Ok(None) };
        origins.retain(|origin| is_there(shadow, origin));
        // With its own name it is the same file with other metadata.
        if origins.is_empty() || origins.iter().any(|origin| origin.path == new.path) {
            return Ok(None);
        }
        let order = Order::Borrow(Borrowed { entry: new.clone(), hash, origins, all });
        Ok(Some(Verdict { entry: new.clone(), hash, order, space: size, disguised: false }))
    }

    /// The change of a file by its changed bytes (ST-10, ST-11); `None` where too many have.
    fn patch(&mut self, old: &Entry, file: &File, new: &Entry) -> Result<Option<Verdict>, ReadError> {
        let Some(shadow) = &self.shadow else { return Ok(None) };
        let (old_file, old) = shadow.open(&old.path).map_err(PackError::Shadow)?;
        let (EntryKind::File { size: old_size, .. }, EntryKind::File { size, .. }) = (&old.kind, &new.kind)
        else {
            return Ok(None);
        };
        let (old_size, size) = (*old_size, *size);
        // Nothing of a file that grew this much can be saved.
        if old_size < size / 5 * 2 || (size == 0 && old_size > 0) {
            return Ok(None);
        }
        let versions = (Version { file: &old_file, size: old_size }, Version { file, size });
        let Some(delta) = delta(versions.0, versions.1, size / 5 * 3).map_err(ReadError::Read)? else {
            return Ok(None);
        };
        if looks_same(&old, new) && delta.base == delta.hash {
            return Ok(Some(unchanged(&old, new.clone(), delta.hash)));
        }
        let item = self.items.extents(&new.path, file, &delta.extents).map_err(|fault| self.fault(fault))?;
        let (path, mode, mtime) = (new.path.clone(), new.mode, new.mtime);
        let Delta { extents, copies, base, hash, .. } = delta;
        let order = Order::Command(if copies.is_empty() {
            Command::Patch { path, mode, mtime, size, base, hash, item, extents }
        } else {
            Command::Splice { path, mode, mtime, size, base, hash, item, copies }
        });
        // A node patches a copy, which may share nothing with the old file; its holes stay holes.
        let space = file.metadata().map_err(ReadError::Read)?.blocks().saturating_mul(512).min(size);
        let disguised = looks_same(&old, new);
        Ok(Some(Verdict { entry: new.clone(), hash, order, space, disguised }))
    }

    /// The error of a file that somebody writes to.
    pub fn changing(&self, path: &RelPath) -> PackError {
        PackError::Staging(WalkError::Changing { path: self.staging.absolute(path) })
    }

    fn write_error(&self, source: io::Error) -> PackError {
        PackError::Write { path: self.out.into(), source }
    }

    fn fault(&self, fault: Fault) -> ReadError {
        match fault {
            Fault::Read(source) => ReadError::Read(source),
            Fault::Write(source) => self.write_error(source).into(),
        }
    }
}

/// Why one reading of a file failed: in the file, which may be changing, or for good.
enum ReadError {
    Read(io::Error),
    Pack(PackError),
}

impl From<PackError> for ReadError {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

/// Whether the shadow's file is the one that the inventory tells of.
fn is_there(shadow: &Opener, origin: &Origin) -> bool {
    let Ok((_, entry)) = shadow.open(&origin.path) else { return false };
    let state = (entry.mode, entry.mtime);
    matches!(entry.kind, EntryKind::File { size, inode, .. }
        if (size, inode.1, state) == (origin.size, origin.inode, (origin.mode, origin.mtime)))
}

/// Same size and modification time: unchanged, as far as a walk can tell (ST-9).
pub fn looks_same(old: &Entry, new: &Entry) -> bool {
    let size = |entry: &Entry| match entry.kind {
        EntryKind::File { size, .. } => Some(size),
        _ => None,
    };
    size(old) == size(new) && old.mtime == new.mtime
}

/// The verdict on a file whose content is as it was: at most its mode is sent.
pub fn unchanged(old: &Entry, entry: Entry, hash: [u8; 32]) -> Verdict {
    let (order, space) = match entry.kind {
        // The file may be a name in live too, so that a node changes the mode of a copy.
        EntryKind::File { size, .. } if old.mode != entry.mode => {
            (Order::Command(Command::Chmod { path: entry.path.clone(), mode: entry.mode }), size)
        }
        _ => (Order::Nothing, 0),
    };
    Verdict { entry, hash, order, space, disguised: false }
}
