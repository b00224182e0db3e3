//! Where the base holds content that has another name now: found by content hash, so that renamed and doubled files
//! are not sent again.
//!
//! The hashes are those that the shadow's last staging left ([`super::hashes`]). In memory stay 24 bytes for each file
//! of the base; the rest is read where it is asked for.

use super::hashes::{Line, line_at, lines};
use std::fs::File;
use std::io;
use std::path::Path;

/// Most files of one content that are told.
const FOUND_MAX: usize = 64;

/// The contents of a tree.
pub struct Origins {
    cache: File,
    /// Size, first bytes of the content hash, and where the file's line stands in the cache; sorted.
    files: Vec<(u64, u64, u64)>,
}

impl Origins {
    /// Reads what a cache knows of files of at least `size_min` bytes. A damaged one knows nothing.
    ///
    /// # Errors
    /// Where there is no cache.
    pub fn open(cache: &Path, size_min: u64) -> io::Result<Self> {
        let file = File::open(cache)?;
        let large = lines(cache).filter(|(_, line)| line.size >= size_min);
        let mut files: Vec<_> = large.map(|(at, line)| (line.size, key(&line.hash), at)).collect();
        files.sort_unstable();
        Ok(Self { cache: file, files })
    }

    /// How many files have this size: where there is none, no hash need be computed.
    pub fn of_size(&self, size: u64) -> usize {
        self.range((size, 0), (size, u64::MAX)).len()
    }

    /// The files of this content, or as many of them as are told, and whether these are all.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn find(&self, size: u64, hash: &[u8; 32]) -> io::Result<(Vec<Line>, bool)> {
        let found = self.range((size, key(hash)), (size, key(hash)));
        let told = found.iter().take(FOUND_MAX).map(|&(_, _, at)| line_at(&self.cache, at));
        let mut told = told.collect::<io::Result<Vec<_>>>()?;
        told.retain(|line| line.size == size && line.hash == *hash);
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
