//! A file as memory, read-only: frames and served objects are read where they lie (design D6).

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A read-only mapping of the whole of a file of our own spool.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
}

impl Mapping {
    /// Maps a file that is already as long as it will be. An empty file cannot be mapped.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is of a spool file, which lies in a directory that only this daemon writes;
        // it is allocated to its full length before it is mapped (`posix_fallocate`), never truncated
        // while it is mapped, and removed by unlinking, which leaves mapped pages alone. Bytes written
        // behind the mapping's back by this process' own pwrite are read as plain integers only, and are
        // hashed before they are relied upon.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self { map })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
