//! Where the base holds content that has another name now: found by content hash, so that renamed and doubled files
//! are not sent again.
//!
//! The hashes are those of the inventory that the staging of the base left ([`super::hashes`]). In memory stay
//! 24 bytes for each file of the base; the rest is read where it is asked for.

use super::hashes::{Line, LineKind, line_at, lines};
use crate::wire::assignment::{Mtime, RelPath};
use std::fs::File;
use std::io;
use std::path::Path;

/// Most files of one content that are told.
const FOUND_MAX: usize = 64;

/// A file of the base with the content that is wanted, as the inventory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub path: RelPath,
    pub size: u64,
    pub mode: u32,
    pub mtime: Mtime,
    pub inode: u64,
}

/// The contents of a tree.
pub struct Origins {
    inventory: File,
    /// Size, first bytes of the content hash, and where the file's line stands in the inventory; sorted.
    files: Vec<(u64, u64, u64)>,
}

impl Origins {
    /// Reads what an inventory knows of files of at least `size_min` bytes. A damaged one knows nothing.
    ///
    /// # Errors
    /// Where there is no inventory.
    pub fn open(inventory: &Path, size_min: u64) -> io::Result<Self> {
        let file = File::open(inventory)?;
        let entry = |(at, line): (u64, Line)| match line.kind {
            LineKind::File { size, hash, .. } if size >= size_min => Some((size, key(&hash), at)),
            _ => None,
        };
        let mut files: Vec<_> = lines(inventory).filter_map(entry).collect();
        files.sort_unstable();
        Ok(Self { inventory: file, files })
    }

    /// How many files have this size: where there is none, no hash need be computed.
    pub fn of_size(&self, size: u64) -> usize {
        self.range((size, 0), (size, u64::MAX)).len()
    }

    /// The files of this content, or as many of them as are told, and whether these are all.
    ///
    /// # Errors
    /// If the inventory cannot be read.
    pub fn find(&self, size: u64, hash: &[u8; 32]) -> io::Result<(Vec<Origin>, bool)> {
        let found = self.range((size, key(hash)), (size, key(hash)));
        let mut told = Vec::new();
        for &(_, _, at) in found.iter().take(FOUND_MAX) {
            let line = line_at(&self.inventory, at)?;
            match line.kind {
                LineKind::File { size: of, inode, hash: content } if (of, content) == (size, *hash) => {
                    told.push(Origin { path: line.path, size, mode: line.mode, mtime: line.mtime, inode });
                }
                _ => {}
            }
        }
        Ok((told, found.len() <= FOUND_MAX))
    }

    fn range(&self, first: (u64, u64), last: (u64, u64)) -> &[(u64, u64, u64)] {
        let start = self.files.partition_point(|&(size, key, _)| (size, key) < first);
        let end = self.files.partition_point(|&(size, key, _)| (size, key) <= last);
        &self.files[start..end]
    }
}

fn key(hash: &[u8; 32]) -> u64 {
    let (first, _) = hash.split_first_chunk::<8>().expect("a hash is longer");
    u64::from_be_bytes(*first)
}
