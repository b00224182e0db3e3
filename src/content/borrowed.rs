//! Files that take their content from the base: those that were renamed are moved, the others copied.
//!
//! Which it is shows when both trees were walked: a file may be moved only if its old name has another file, or
//! none, in the new tree. Otherwise the two would be names of one file on a node.

use super::origins::Origin;
use super::walk::Entry;
use crate::wire::assignment::{Command, RelPath};
use std::collections::BTreeSet;

/// A file of the new tree with content of the base.
#[derive(Debug)]
pub struct Borrowed {
    pub entry: Entry,
    pub hash: [u8; 32],
    /// At least one.
    pub origins: Vec<Origin>,
    /// Whether these are all of that content.
    pub all: bool,
}

/// Gathers the files, and the names of the base that have another file now.
#[derive(Default)]
pub struct Borrowing {
    files: Vec<Borrowed>,
    gone: BTreeSet<RelPath>,
}

impl Borrowing {
    /// What stood under this name and below it in the base is not there in the new tree.
    pub fn gone(&mut self, path: RelPath) {
        self.gone.insert(path);
    }

    pub fn add(&mut self, borrowed: Borrowed) {
        self.gone(borrowed.entry.path.clone());
        self.files.push(borrowed);
    }

    /// The commands, in the order in which the files were added.
    pub fn commands(self) -> Vec<Command> {
        let mut moved = BTreeSet::new();
        let gone = self.gone;
        let command = |borrowed: Borrowed| {
            let Borrowed { entry, hash, origins, all } = borrowed;
            let may_move = |origin: &&Origin| {
                let names = origins.iter().filter(|other| other.inode == origin.inode).count();
                all && names == 1
                    && (origin.mode, origin.mtime) == (entry.mode, entry.mtime)
                    && is_gone(&gone, &origin.path)
                    && !moved.contains(&origin.inode)
            };
            let path = entry.path.clone();
            if let Some(origin) = origins.iter().find(may_move) {
                moved.insert(origin.inode);
                return Command::Move { path, from: origin.path.clone() };
            }
            let from = origins.first().expect("a file is borrowed from somewhere").path.clone();
            Command::Copy { path, from, mode: entry.mode, mtime: entry.mtime, hash }
        };
        self.files.into_iter().map(command).collect()
    }
}

/// Whether the name, or that of a directory above it, is gone.
fn is_gone(gone: &BTreeSet<RelPath>, path: &RelPath) -> bool {
    let bytes = path.as_bytes();
    let above = (0..bytes.len()).filter(|&at| bytes[at] == b'/').map(|at| &bytes[..at]);
    above.chain([bytes]).any(|path| RelPath::new(path).is_ok_and(|path| gone.contains(&path)))
}
