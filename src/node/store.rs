//! The spool: assignments on their way, one file each, named by their object (design section 6).
//!
//! A file is reserved to its full length before the first byte is written, so that a full disk is an
//! error at the start and never a fault in a mapping (F14, F15). Its shape stands in a sidecar. Which blocks
//! were verified does too, but is older than the file by up to a second: after a restart every block that the
//! file system holds in whole is hashed (F9), so that nothing is fetched twice but what was incomplete.

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
use std::collections::BTreeMap;
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

    /// Writes bytes that lie in pieces and follow one another in the object.
    pub fn write_pieces(
        &mut self,
        name: &ObjectName,
        mut offset: u64,
        mut pieces: &mut [IoSlice<'_>],
    ) -> io::Result<()> {
        let entry = self.entries.get(name).ok_or(io::ErrorKind::NotFound)?;
        while !pieces.is_empty() {
            match pwritev(&entry.file, pieces, offset as i64) {
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

    /// Writes bytes of a block that is not verified yet.
    pub fn write(&mut self, name: &ObjectName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.entries.get(name) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::assignment::{Header, Kind, LEAF_LEN};
    use crate::wire::id::{AssignmentId, JobId, Name};
    use crate::wire::seal::SigningKey;

    /// An assignment with `leaves` whole leaves of data, as the bytes of its file.
    fn object(publisher: &SigningKey, leaves: u32) -> (Shape, Vec<u8>) {
        let data: Vec<u8> = (0..leaves).flat_map(|leaf| vec![leaf as u8; LEAF_LEN as usize]).collect();
        let hashes: Vec<[u8; 32]> =
            data.chunks(LEAF_LEN as usize).enumerate().map(|(n, leaf)| leaf_hash(n as u32, leaf)).collect();
        let header = Header {
            assignment: AssignmentId(1),
            job: JobId(1),
            kind: Kind::Replicate,
            site: Name::new("www").unwrap(),
            base: None,
            result: [0; 32],
            issued: 0,
            command_count: 0,
            command_len: 0,
            data_len: data.len() as u64,
            space: 0,
            files: 0,
            largest_file: 0,
        };
        let (shape, command) = CommandBuffer::sign(header, &[], 0, &hashes, publisher);
        (shape, [data, command].concat())
    }

    fn put(store: &mut Store, shape: &Shape, file: &[u8], block: u32) -> Vec<(u32, bool)> {
        let (offset, len) = shape.block(block);
        store.write(&shape.name, offset, &file[offset as usize..offset as usize + len]).unwrap();
        store.on_block(&shape.name, block)
    }

    #[test]
    fn data_waits_for_the_command_buffer_and_is_then_decided() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let (shape, mut file) = object(&publisher, 3);
        file[LEAF_LEN as usize] ^= 1;
        store.create(&shape).unwrap();
        assert_eq!(put(&mut store, &shape, &file, 1), vec![]);
        assert_eq!(put(&mut store, &shape, &file, 2), vec![]);
        assert_eq!(put(&mut store, &shape, &file, 0), vec![(0, true), (1, true), (2, false)]);
        assert_eq!(put(&mut store, &shape, &file, 3), vec![(3, true)]);
        assert_eq!(store.first_lacking(&shape.name, 0), Some(2));
        assert!(store.open_complete(&shape.name).is_none());
        file[LEAF_LEN as usize] ^= 1;
        assert_eq!(put(&mut store, &shape, &file, 2), vec![(2, true)]);
        assert!(store.is_complete(&shape.name));
        assert_eq!(store.open_complete(&shape.name).unwrap().1, file.len() as u64);
    }

    #[test]
    fn a_large_lot_is_hashed_by_all_processors_with_the_same_verdicts() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let leaves = PARALLEL_FROM as u32 + 5;
        let (shape, mut file) = object(&publisher, leaves);
        file[7 * LEAF_LEN as usize] ^= 1;
        store.create(&shape).unwrap();
        (1..=leaves).for_each(|block| drop(put(&mut store, &shape, &file, block)));
        let verdicts = put(&mut store, &shape, &file, 0);
        let expected: Vec<(u32, bool)> = (0..=leaves).map(|block| (block, block != 8)).collect();
        assert_eq!(verdicts, expected);
        assert_eq!(store.first_lacking(&shape.name, 0), Some(8));
    }

    #[test]
    fn a_forged_command_buffer_is_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, forger) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let (shape, file) = object(&forger, 1);
        store.create(&shape).unwrap();
        assert_eq!(put(&mut store, &shape, &file, 0), vec![(0, false)]);
        assert_eq!(store.first_lacking(&shape.name, 0), Some(0));
    }

    #[test]
    fn after_a_restart_only_what_hashes_right_counts() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let (shape, file) = object(&publisher, 3);
        {
            let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
            store.create(&shape).unwrap();
            (0..3).for_each(|block| drop(put(&mut store, &shape, &file, block)));
            store.save();
            // A page of leaf 0 rots on the disk.
            store.write(&shape.name, 5_000, b"rot").unwrap();
        }
        let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let verified: Vec<bool> = (0..4).map(|block| store.is_verified(&shape.name, block)).collect();
        assert_eq!(verified, [true, false, true, false]);
        drop(store);

        let sidecar = dir.path().join(format!("{}.map", shape.name));
        fs::write(&sidecar, b"torn").unwrap();
        let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        assert_eq!(store.objects().count(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn after_a_kill_every_block_that_was_whole_counts_again() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let (shape, file) = object(&publisher, 4);
        {
            let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
            store.create(&shape).unwrap();
            [0, 1, 3].into_iter().for_each(|block| drop(put(&mut store, &shape, &file, block)));
            // Of leaf 3 the first half had come. Nothing is saved: the process is gone.
            let (offset, len) = shape.block(4);
            let half = &file[offset as usize..offset as usize + len / 2];
            store.write(&shape.name, offset, half).unwrap();
        }
        let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        let verified: Vec<bool> = (0..5).map(|block| store.is_verified(&shape.name, block)).collect();
        assert_eq!(verified, [true, true, false, true, false]);
    }

    #[test]
    fn an_object_beyond_the_bound_is_refused_and_nothing_goes_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let mut store = Store::open(dir.path(), publisher.public(), 3 * LEAF_LEN).unwrap();
        let (held, _) = object(&publisher, 1);
        store.create(&held).unwrap();
        let huge = Shape { data_len: 1 << 44, ..object(&publisher, 2).0 };
        assert!(matches!(store.create(&huge), Err(StoreError::TooLarge { .. })));
        assert!(store.shape(&held.name).is_some());
        assert_eq!(store.take_gone(), []);
    }

    #[test]
    fn the_object_used_longest_ago_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = SigningKey::from_seed([1; 32]);
        let mut store = Store::open(dir.path(), publisher.public(), 3 * LEAF_LEN).unwrap();
        let (first, _) = object(&publisher, 1);
        let (second, _) = object(&publisher, 2);
        store.create(&first).unwrap();
        store.create(&second).unwrap();
        assert!(store.shape(&first.name).is_none());
        assert!(store.shape(&second.name).is_some());
        assert_eq!(store.take_gone(), [first.name]);
        assert_eq!(store.take_gone(), []);
    }
}
