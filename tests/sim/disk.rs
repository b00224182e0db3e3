//! A node's spool: what it keeps over a crash, and how a disk fails it.
//!
//! The stand-in of `node/store.rs`. A block's hash is its comparison with what was published; as there, a
//! block of data is decided only once the command buffer is, the notes of what is verified are written
//! once a second, and after a restart every noted block is hashed again before it counts.

use crate::object::Object;
use farmcast::proto::random::Rng;
use farmcast::time::{Duration, Instant};
use farmcast::wire::id::ObjectName;
use std::collections::BTreeMap;
use std::rc::Rc;

const NOTES_EVERY: Duration = Duration::from_secs(1);
/// The kernel has written out what is older.
const WRITTEN_OUT_AFTER: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Fine,
    /// Everything takes seconds.
    Slow,
    /// No room for a new object, nor for staging one.
    Full,
    /// Every write fails.
    Broken,
}

#[derive(Debug)]
struct Entry {
    object: Rc<Object>,
    bytes: Vec<u8>,
    stored: Vec<bool>,
    /// Since when the block is verified.
    verified: Vec<Option<Instant>>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    entries: BTreeMap<ObjectName, Entry>,
    pub health: Health,
    /// The list of content groups that it goes by, signed.
    pub groups: Option<Vec<u8>>,
}

impl Disk {
    /// Room for an object, or what is there of it. False where there is none.
    pub fn create(&mut self, object: &Rc<Object>) -> bool {
        let name = object.shape.name;
        if self.entries.contains_key(&name) {
            return true;
        }
        if matches!(self.health, Health::Full | Health::Broken) {
            return false;
        }
        let blocks = object.shape.blocks() as usize;
        let entry = Entry {
            object: Rc::clone(object),
            bytes: vec![0; object.bytes.len()],
            stored: vec![false; blocks],
            verified: vec![None; blocks],
        };
        self.entries.insert(name, entry);
        true
    }

    /// Bytes of one block; of a verified one they stay as they are. False where the disk refuses.
    pub fn write(&mut self, name: &ObjectName, offset: usize, bytes: &[u8]) -> bool {
        if self.health == Health::Broken {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(name)
            && entry.verified[entry.object.shape.block_at(offset as u64) as usize].is_none()
        {
            entry.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        true
    }

    pub fn bytes(&self, name: &ObjectName) -> Option<&[u8]> {
        self.entries.get(name).map(|entry| &entry.bytes[..])
    }

    pub fn bytes_mut(&mut self, name: &ObjectName) -> Option<&mut [u8]> {
        self.entries.get_mut(name).map(|entry| &mut entry.bytes[..])
    }

    /// All bytes of a block are written: which blocks are decided by it, and whether they are right.
    pub fn on_block(&mut self, now: Instant, name: &ObjectName, block: u32) -> Vec<(u32, bool)> {
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        entry.stored[block as usize] = true;
        let commands = entry.object.shape.command_blocks();
        if block >= commands && !entry.commands_verified() {
            return Vec::new();
        }
        if block >= commands {
            return vec![(block, entry.verify(now, block))];
        }
        if !entry.stored[..commands as usize].iter().all(|stored| *stored) {
            return Vec::new();
        }
        let all: Vec<u32> =
            (0..entry.object.shape.blocks()).filter(|block| entry.stored[*block as usize]).collect();
        all.into_iter().map(|block| (block, entry.verify(now, block))).collect()
    }

    pub fn is_verified(&self, name: &ObjectName, block: u32) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified[block as usize].is_some())
    }

    pub fn is_complete(&self, name: &ObjectName) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified.iter().all(Option::is_some))
    }

    /// Whether every block is, byte for byte, what was published.
    pub fn equals(&self, object: &Object) -> bool {
        self.entries.get(&object.shape.name).is_some_and(|entry| {
            (0..object.shape.blocks()).all(|block| entry.block(block) == object.block(block))
        })
    }

    pub fn complete(&self) -> Vec<ObjectName> {
        self.entries.keys().filter(|name| self.is_complete(name)).copied().collect()
    }

    /// The node was killed: what was not noted yet is unknown.
    pub fn forget_unnoted(&mut self, now: Instant, started: Instant) {
        let seconds = now.since(started).as_nanos() / NOTES_EVERY.as_nanos();
        let noted = started + NOTES_EVERY * seconds;
        for entry in self.entries.values_mut() {
            for verified in &mut entry.verified {
                *verified = verified.filter(|at| *at <= noted);
            }
            entry.stored = entry.verified.iter().map(Option::is_some).collect();
        }
    }

    /// The machine lost its power: of what was written lately any block may be gone, and the notes do not
    /// say which.
    pub fn lose_unsynced(&mut self, now: Instant, rng: &mut Rng) {
        for entry in self.entries.values_mut() {
            for block in 0..entry.verified.len() {
                let young = entry.verified[block].is_none_or(|at| now.since(at) < WRITTEN_OUT_AFTER);
                if young && rng.chance(0.5) {
                    let (offset, len) = entry.object.shape.block(block as u32);
                    entry.bytes[offset as usize..offset as usize + len].fill(0);
                }
            }
        }
    }

    /// A node starts: what hashes right counts.
    pub fn take_stock(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            for block in 0..entry.verified.len() {
                if entry.stored[block] {
                    entry.verified[block] = None;
                    entry.verify(now, block as u32);
                }
            }
        }
    }
}

impl Entry {
    fn commands_verified(&self) -> bool {
        self.verified[..self.object.shape.command_blocks() as usize].iter().all(Option::is_some)
    }

    fn block(&self, block: u32) -> &[u8] {
        let (offset, len) = self.object.shape.block(block);
        &self.bytes[offset as usize..offset as usize + len]
    }

    fn verify(&mut self, now: Instant, block: u32) -> bool {
        let before = self.verified[block as usize];
        let right = before.is_some() || self.block(block) == self.object.block(block);
        self.stored[block as usize] = right;
        self.verified[block as usize] = right.then(|| before.unwrap_or(now));
        right
    }
}
