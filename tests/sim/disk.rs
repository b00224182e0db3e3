//! What a node keeps over a crash: verified blocks in its spool, what its applier staged and switched.
//!
//! The stand-in of `node/store.rs`. A block's hash is its comparison with what was published; as there, a
//! block of data is decided only once the command buffer is.

use crate::object::Object;
use farmcast::wire::id::{AssignmentId, ObjectName};
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug)]
struct Entry {
    object: Rc<Object>,
    bytes: Vec<u8>,
    stored: Vec<bool>,
    verified: Vec<bool>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    entries: BTreeMap<ObjectName, Entry>,
    /// In `temp`, ready to be switched.
    pub staged: Option<AssignmentId>,
    pub live: Option<AssignmentId>,
    /// The list of content groups that it goes by, signed.
    pub groups: Option<Vec<u8>>,
}

impl Disk {
    pub fn create(&mut self, object: &Rc<Object>) {
        self.entries.entry(object.shape.name).or_insert_with(|| {
            let blocks = object.shape.blocks() as usize;
            Entry {
                object: Rc::clone(object),
                bytes: vec![0; object.bytes.len()],
                stored: vec![false; blocks],
                verified: vec![false; blocks],
            }
        });
    }

    pub fn write(&mut self, name: &ObjectName, offset: usize, bytes: &[u8]) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub fn bytes(&self, name: &ObjectName) -> Option<&[u8]> {
        self.entries.get(name).map(|entry| &entry.bytes[..])
    }

    pub fn bytes_mut(&mut self, name: &ObjectName) -> Option<&mut [u8]> {
        self.entries.get_mut(name).map(|entry| &mut entry.bytes[..])
    }

    /// All bytes of a block are written: which blocks are decided by it, and whether they are right.
    pub fn on_block(&mut self, name: &ObjectName, block: u32) -> Vec<(u32, bool)> {
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        entry.stored[block as usize] = true;
        let commands = entry.object.shape.command_blocks();
        if block >= commands && !entry.commands_verified() {
            return Vec::new();
        }
        if block >= commands {
            return vec![(block, entry.verify(block))];
        }
        if !entry.stored[..commands as usize].iter().all(|stored| *stored) {
            return Vec::new();
        }
        let all: Vec<u32> =
            (0..entry.object.shape.blocks()).filter(|block| entry.stored[*block as usize]).collect();
        all.into_iter().map(|block| (block, entry.verify(block))).collect()
    }

    pub fn is_verified(&self, name: &ObjectName, block: u32) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified[block as usize])
    }

    pub fn is_complete(&self, name: &ObjectName) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.verified.iter().all(|verified| *verified))
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

    /// The node lost its memory; only what was verified counts.
    pub fn crash(&mut self) {
        for entry in self.entries.values_mut() {
            entry.stored = entry.verified.clone();
        }
    }
}

impl Entry {
    fn commands_verified(&self) -> bool {
        self.verified[..self.object.shape.command_blocks() as usize].iter().all(|verified| *verified)
    }

    fn block(&self, block: u32) -> &[u8] {
        let (offset, len) = self.object.shape.block(block);
        &self.bytes[offset as usize..offset as usize + len]
    }

    fn verify(&mut self, block: u32) -> bool {
        let right = self.verified[block as usize] || self.block(block) == self.object.block(block);
        (self.stored[block as usize], self.verified[block as usize]) = (right, right);
        right
    }
}
