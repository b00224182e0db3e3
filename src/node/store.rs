//! The spool: assignments on their way, one file each, named by their object (design section 6).
//!
//! A file is reserved to its full length before the first byte is written, so that a full disk is an
//! error at the start and never a fault in a mapping (F14, F15). Its shape stands in a sidecar. Which blocks
//! were verified does too, but is older than the file by up to a second: after a restart every block that the
//! file system holds in whole is hashed (F9), so that nothing is fetched twice but what was incomplete.

#[cfg(test)]
pub(super) mod tests;

use crate::io::mmap::Mapping;
use crate::wire::assignment::{CommandBuffer, Shape};
use crate::wire::id::ObjectName;
use crate::wire::seal::{PublicKey, leaf_hash};
use crate::wire::{Decoder, Encoder, Malformed};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::uio::pwritev;
use nix::unistd::{Whence, lseek};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Objects kept: the running ones and a few of the past, from which a member that missed one is served.
const OBJECTS_MAX: usize = 8;
const SIDECAR_VERSION: u8 = 1;
/// Leaves from which on all processors hash: 64 are 16 MiB, some two milliseconds of one.
const PARALLEL_FROM: usize = 64;

#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    publisher: PublicKey,
    bytes_max: u64,
    entries: BTreeMap<ObjectName, Entry>,
    /// Counts uses; the entry used longest ago goes first.
    clock: u64,
    /// Objects given up to make room, until somebody asks.
    gone: Vec<ObjectName>,
    /// Objects of which a block came, until somebody asks.
    grown: BTreeSet<ObjectName>,
}

#[derive(Debug)]
struct Entry {
    shape: Shape,
    file: File,
    map: Mapping,
    /// Bytes of the block are in the file.
    stored: Vec<bool>,
    /// ... and are what the publisher signed.
    verified: Vec<bool>,
    /// Once every block of the command buffer is there and verifies.
    buffer: Option<CommandBuffer>,
    used: u64,
    unsaved: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no space in {dir}: {need} bytes are needed, {free} are free; make room or move state_dir")]
    NoSpace { dir: PathBuf, need: u64, free: u64 },
    #[error("{need} bytes are needed, store.max_bytes allows {most}; raise it")]
    TooLarge { need: u64, most: u64 },
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
}

impl Store {
    /// Opens the spool and takes stock; files that do not belong together are removed.
    pub fn open(dir: &Path, publisher: PublicKey, bytes_max: u64) -> Result<Self, StoreError> {
        let system = |error| StoreError::System(dir.to_owned(), error);
        fs::create_dir_all(dir).map_err(system)?;
        let mut store = Self {
            dir: dir.to_owned(),
            publisher,
            bytes_max,
            entries: BTreeMap::new(),
            clock: 0,
            gone: Vec::new(),
            grown: BTreeSet::new(),
        };
        for entry in fs::read_dir(dir).map_err(system)? {
            let path = entry.map_err(system)?.path();
            if path.extension().is_some_and(|extension| extension == "map") {
                match store.load(&path) {
                    Ok(entry) => {
                        store.entries.insert(entry.shape.name, entry);
                    }
                    Err(error) => {
                        log::warn!(
                            "{}: {error}; the object is fetched again if it is needed",
                            path.display()
                        );
                        let _ = fs::remove_file(&path);
                        let _ = fs::remove_file(path.with_extension("asg"));
                    }
                }
            }
        }
        Ok(store)
    }

    /// Makes room for an object, or finds what is there of it.
    pub fn create(&mut self, shape: &Shape) -> Result<(), StoreError> {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&shape.name) {
            entry.used = self.clock;
            return Ok(());
        }
        if shape.file_len() > self.bytes_max {
            // Whatever made room for it would be lost for nothing.
            return Err(StoreError::TooLarge { need: shape.file_len(), most: self.bytes_max });
        }
        self.make_room(shape.file_len());
        let path = self.path(&shape.name);
        let entry = loop {
            match Entry::allocate(&path, shape, self.clock) {
                Ok(entry) => break entry,
                Err(error) => {
                    let _ = fs::remove_file(&path);
                    let (need, free) = (shape.file_len(), free(&self.dir));
                    return Err(match error.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::ENOSPC) if self.remove_oldest_complete(need, free) => continue,
                        Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                            StoreError::NoSpace { dir: self.dir.clone(), need, free }
                        }
                        _ => StoreError::System(path, error),
                    });
                }
            }
        };
        self.entries.insert(shape.name, entry);
        // Without its sidecar a file means nothing after a restart.
        self.save();
        Ok(())
    }

    /// On a full disk what was received before makes room, one object at a time, if all of them would do.
    /// What is being received is in use.
    fn remove_oldest_complete(&mut self, need: u64, free: u64) -> bool {
        let complete = self.entries.values().filter(|entry| entry.verified.iter().all(|verified| *verified));
        let held: u64 = complete.clone().map(|entry| entry.shape.file_len()).sum();
        match complete.min_by_key(|entry| entry.used).map(|entry| entry.shape.name) {
            Some(oldest) if free.saturating_add(held) >= need => {
                self.remove(&oldest);
                true
            }
            _ => false,
        }
    }

    /// Objects that were given up since this was asked last: nobody may count on them any more.
    pub fn take_gone(&mut self) -> Vec<ObjectName> {
        std::mem::take(&mut self.gone)
    }

    /// An object that more blocks came of since it was asked for last.
    pub fn take_grown(&mut self) -> Option<ObjectName> {
        self.grown.pop_first()
    }

    /// Writes bytes that lie in pieces and follow one another in the object; a piece lies in one block.
    ///
    /// What is verified stays as it is, here as in [`Self::write`]: a session may bring once more what a pull
    /// or another session has brought, and nobody hashes a block again that was right (T19).
    pub fn write_pieces(
        &mut self,
        name: &ObjectName,
        mut offset: u64,
        mut pieces: &mut [IoSlice<'_>],
    ) -> io::Result<()> {
        let entry = self.entries.get(name).ok_or(io::ErrorKind::NotFound)?;
        while !pieces.is_empty() {
            let (verified, start) = (entry.is_verified_at(offset), offset);
            let mut run = 0;
            while run < pieces.len() && entry.is_verified_at(offset) == verified {
                offset += pieces[run].len() as u64;
                run += 1;
            }
            let (now, later) = std::mem::take(&mut pieces).split_at_mut(run);
            pieces = later;
            if !verified {
                entry.write_all(start, now)?;
            }
        }
        Ok(())
    }

    /// Writes bytes of one block.
    pub fn write(&mut self, name: &ObjectName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.entries.get(name) {
            Some(entry) if entry.is_verified_at(offset) => Ok(()),
            Some(entry) => entry.file.write_all_at(bytes, offset),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// All bytes of a block have been written. Returns what could be decided by it: blocks and whether
    /// they are what the publisher signed. Blocks of the command buffer are decided together; a block of
    /// the data file waits for them.
    pub fn on_block(&mut self, name: &ObjectName, block: u32) -> Vec<(u32, bool)> {
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        entry.stored[block as usize] = true;
        entry.unsaved = true;
        self.grown.insert(*name);
        if entry.buffer.is_some() {
            return vec![(block, entry.verify_leaf(block))];
        }
        if entry.shape.leaf_of(block).is_some() { Vec::new() } else { entry.verify_command(&self.publisher) }
    }

    pub fn shape(&self, name: &ObjectName) -> Option<&Shape> {
        self.entries.get(name).map(|entry| &entry.shape)
    }

    pub fn is_verified(&self, name: &ObjectName, block: u32) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified.get(block as usize) == Some(&true))
    }

    pub fn is_complete(&self, name: &ObjectName) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified.iter().all(|verified| *verified))
    }

    /// First block from `from` on that is not verified.
    pub fn first_lacking(&self, name: &ObjectName, from: u32) -> Option<u32> {
        let entry = self.entries.get(name)?;
        (from..entry.shape.blocks()).find(|block| !entry.verified[*block as usize])
    }

    /// From the byte at `offset` on, where what is verified ends.
    pub fn verified_until(&self, name: &ObjectName, offset: u64) -> u64 {
        let Some(entry) = self.entries.get(name) else { return offset };
        let mut end = offset;
        while end < entry.shape.file_len() && entry.is_verified_at(end) {
            let (start, len) = entry.shape.block(entry.shape.block_at(end));
            // Between data and command buffer the file has a gap.
            end = (start + len as u64).max(end + 1);
        }
        end
    }

    pub fn mapping(&self, name: &ObjectName) -> Option<&Mapping> {
        self.entries.get(name).map(|entry| &entry.map)
    }

    /// A complete object, opened anew for reading only: for the applier and for HTTP.
    pub fn open_complete(&mut self, name: &ObjectName) -> Option<(File, u64)> {
        if !self.is_complete(name) {
            return None;
        }
        self.clock += 1;
        let path = self.path(name);
        let entry = self.entries.get_mut(name)?;
        entry.used = self.clock;
        Some((File::open(path).ok()?, entry.shape.file_len()))
    }

    /// An object of which not all is here yet, opened anew for reading only. For whoever asks
    /// [`verified_until`](Self::verified_until) how far it may read.
    pub fn open_growing(&self, name: &ObjectName) -> Option<(File, u64)> {
        let entry = self.entries.get(name)?;
        Some((File::open(self.path(name)).ok()?, entry.shape.file_len()))
    }

    /// Gives up the parts before this one of the same update (AS-13): it is staged, so those are, here and wherever
    /// they were waited for.
    pub fn forget_parts_before(&mut self, name: &ObjectName) {
        let part = |entry: &Entry| {
            let part = entry.buffer.as_ref()?.header.part?;
            Some((part.behind.map_or(entry.shape.name, |behind| behind.first), part.number))
        };
        let Some((first, number)) = self.entries.get(name).and_then(part) else { return };
        let before = |entry: &&Entry| part(entry).is_some_and(|(of, at)| of == first && at < number);
        let gone: Vec<ObjectName> =
            self.entries.values().filter(before).map(|entry| entry.shape.name).collect();
        gone.iter().for_each(|name| self.remove(name));
    }

    /// Writes the sidecars of objects that changed. Content and sidecar need no sync: what a power cut
    /// left of them is hashed again.
    pub fn save(&mut self) {
        for (name, entry) in &mut self.entries {
            if std::mem::take(&mut entry.unsaved) {
                let path = self.dir.join(format!("{name}.map"));
                if let Err(error) = write_sidecar(&path, entry) {
                    log::warn!("{}: {error}; after a restart the object is fetched again", path.display());
                }
            }
        }
    }

    /// Objects, bytes and complete objects held, and for each its shape and verified blocks.
    pub fn objects(&self) -> impl Iterator<Item = (&Shape, u32)> {
        let verified = |entry: &Entry| entry.verified.iter().filter(|verified| **verified).count() as u32;
        self.entries.values().map(move |entry| (&entry.shape, verified(entry)))
    }

    fn load(&self, sidecar: &Path) -> Result<Entry, LoadError> {
        let bytes = fs::read(sidecar)?;
        let shape = decode_sidecar(&bytes)?;
        let path = self.path(&shape.name);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if file.metadata()?.len() != shape.file_len() {
            return Err(LoadError::Length);
        }
        let map = Mapping::new(&file)?;
        let blocks = shape.blocks();
        let stored = (0..blocks).map(|block| is_whole(&file, shape.block(block))).collect();
        let verified = vec![false; blocks as usize];
        let mut entry = Entry { shape, file, map, stored, verified, buffer: None, used: 0, unsaved: true };
        entry.verify_command(&self.publisher);
        for block in 0..entry.shape.blocks() {
            entry.stored[block as usize] = entry.verified[block as usize];
        }
        Ok(entry)
    }

    /// Removes the objects used longest ago until `len` more bytes fit the bounds.
    fn make_room(&mut self, len: u64) {
        loop {
            let total: u64 = self.entries.values().map(|entry| entry.shape.file_len()).sum();
            let full = self.entries.len() >= OBJECTS_MAX || total.saturating_add(len) > self.bytes_max;
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| *name);
            match oldest {
                Some(name) if full => self.remove(&name),
                _ => return,
            }
        }
    }

    fn remove(&mut self, name: &ObjectName) {
        self.entries.remove(name);
        self.gone.push(*name);
        let path = self.path(name);
        let _ = fs::remove_file(path.with_extension("map"));
        let _ = fs::remove_file(path);
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.dir.join(format!("{name}.asg"))
    }
}

impl Entry {
    fn allocate(path: &Path, shape: &Shape, used: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        reserve(&file, shape.file_len())?;
        let map = Mapping::new(&file)?;
        let blocks = shape.blocks() as usize;
        Ok(Self {
            shape: *shape,
            file,
            map,
            stored: vec![false; blocks],
            verified: vec![false; blocks],
            buffer: None,
            used,
            unsaved: true,
        })
    }

    /// Whether the byte at the offset lies in a block that is verified.
    fn is_verified_at(&self, offset: u64) -> bool {
        self.verified.get(self.shape.block_at(offset) as usize) == Some(&true)
    }

    fn write_all(&self, mut offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !pieces.is_empty() {
            match pwritev(&self.file, pieces, offset as i64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut pieces, written);
                    offset += written as u64;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn bytes(&self, block: u32) -> &[u8] {
        let (offset, len) = self.shape.block(block);
        &self.map[offset as usize..offset as usize + len]
    }

    fn verify_command(&mut self, publisher: &PublicKey) -> Vec<(u32, bool)> {
        let command_blocks = self.shape.command_blocks();
        if !self.stored[..command_blocks as usize].iter().all(|stored| *stored) {
            return Vec::new();
        }
        let start = self.shape.command_offset() as usize;
        let bytes = &self.map[start..start + self.shape.command_len as usize];
        match CommandBuffer::open(&self.shape, bytes, publisher) {
            Ok(buffer) => {
                self.buffer = Some(buffer);
                self.verified[..command_blocks as usize].fill(true);
                let waiting = (command_blocks..self.shape.blocks()).filter(|b| self.stored[*b as usize]);
                let waiting: Vec<u32> = waiting.collect();
                let mut verdicts: Vec<_> = (0..command_blocks).map(|block| (block, true)).collect();
                verdicts.extend(self.verify_leaves(&waiting));
                verdicts
            }
            Err(error) => {
                log::warn!("assignment {}: command buffer refused: {error}", self.shape.name);
                self.stored[..command_blocks as usize].fill(false);
                (0..command_blocks).map(|block| (block, false)).collect()
            }
        }
    }

    /// Hashes many leaves at once: all of an object after a restart, or all that came before the command
    /// buffer was whole. Large lots go to all processors, for the loop waits for them.
    fn verify_leaves(&mut self, blocks: &[u32]) -> Vec<(u32, bool)> {
        if blocks.len() < PARALLEL_FROM {
            return blocks.iter().map(|block| (*block, self.verify_leaf(*block))).collect();
        }
        let (lots, queue) = crossbeam::channel::unbounded();
        for lot in blocks.chunks(PARALLEL_FROM / 4) {
            lots.send(lot).expect("the other end of the channel is in this function");
        }
        drop(lots);
        let (verdicts, results) = crossbeam::channel::unbounded();
        let entry = &*self;
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                let (queue, verdicts) = (queue.clone(), verdicts.clone());
                scope.spawn(move || {
                    for block in queue.iter().flatten() {
                        let _ = verdicts.send((*block, entry.is_right(*block)));
                    }
                });
            }
        });
        drop(verdicts);
        let mut verdicts: Vec<(u32, bool)> = results.iter().collect();
        verdicts.sort_unstable();
        for (block, right) in &verdicts {
            self.note(*block, *right);
        }
        verdicts
    }

    fn verify_leaf(&mut self, block: u32) -> bool {
        let right = self.verified[block as usize] || self.is_right(block);
        self.note(block, right);
        right
    }

    /// Whether a leaf is what the publisher signed.
    fn is_right(&self, block: u32) -> bool {
        let leaf = self.shape.leaf_of(block).expect("the blocks of the command buffer are verified together");
        let expected = self.buffer.as_ref().and_then(|buffer| buffer.leaf(leaf));
        expected == Some(&leaf_hash(leaf, self.bytes(block)))
    }

    fn note(&mut self, block: u32, right: bool) {
        self.verified[block as usize] = right;
        self.stored[block as usize] = right;
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("the sidecar is damaged: {0}")]
    Sidecar(#[from] Malformed),
    #[error("the object has not the length that it should have")]
    Length,
}

fn write_sidecar(path: &Path, entry: &Entry) -> io::Result<()> {
    let mut out = Encoder::new();
    out.u8(SIDECAR_VERSION);
    entry.shape.encode(&mut out);
    for bits in entry.verified.chunks(8) {
        out.u8(bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | (u8::from(*bit) << at)));
    }
    let checksum = xxh3_64(out.as_bytes());
    let temporary = path.with_extension("new");
    fs::write(&temporary, out.u64(checksum).finish())?;
    fs::rename(temporary, path)
}

fn decode_sidecar(bytes: &[u8]) -> Result<Shape, Malformed> {
    let (content, checksum) = bytes.split_last_chunk::<8>().ok_or(Malformed::Truncated("checksum"))?;
    if xxh3_64(content).to_be_bytes() != *checksum {
        return Err(Malformed::Forged("checksum"));
    }
    let mut from = Decoder::new(content);
    if from.u8("version")? != SIDECAR_VERSION {
        return Err(Malformed::Unknown("version"));
    }
    let shape = Shape::decode(&mut from)?;
    // The bits of verified blocks are for people who look; hashes decide.
    from.take((shape.blocks() as usize).div_ceil(8), "blocks")?;
    from.finish()?;
    Ok(shape)
}

/// Whether a block of a file has been written from its first to its last page: a hole, or space that is only
/// reserved, need not be read. Where the file system cannot tell, the hash has to.
fn is_whole(file: &File, (offset, len): (u64, usize)) -> bool {
    let Ok(start) = i64::try_from(offset) else { return false };
    match lseek(file, start, Whence::SeekHole) {
        Ok(hole) => hole >= start.saturating_add_unsigned(len as u64),
        Err(_) => true,
    }
}

/// Makes the file as long as it will be, and its blocks ours where that costs nothing: a full disk is then an
/// error here, before the first byte arrives.
///
/// On tmpfs the kernel would write every page for it and hold the loop meanwhile, and a file system that
/// cannot do it at all would have us write zeros: there only the free space is looked at. Bytes are written
/// by `pwrite` in either case, so that a disk that fills up later is an error too, and never a signal.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    let signed = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let system = fstatfs(file)?;
    if system.filesystem_type() != TMPFS_MAGIC {
        match fallocate(file, FallocateFlags::empty(), 0, signed) {
            Err(Errno::EOPNOTSUPP) => {}
            done => return Ok(done?),
        }
    }
    if system.blocks_available().saturating_mul(system.block_size() as u64) < len {
        return Err(Errno::ENOSPC.into());
    }
    file.set_len(len)
}

fn free(dir: &Path) -> u64 {
    nix::sys::statvfs::statvfs(dir).map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
}
