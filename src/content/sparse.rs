//! Data and holes of a file. A hole reads as zeros; whoever knows of it need not read it.

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at a time.
pub const CHUNK: usize = 256 * 1024;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// A run of a file that is all hole or all data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub start: u64,
    pub end: u64,
    pub hole: bool,
}

impl Run {
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// The runs of a file, from its beginning to `size`. A file system that knows no holes has one of data.
pub struct Runs<'a> {
    file: &'a File,
    size: u64,
    at: u64,
}

impl<'a> Runs<'a> {
    pub const fn new(file: &'a File, size: u64) -> Self {
        Self { file, size, at: 0 }
    }

    /// Those of the range `start..end`.
    pub const fn within(file: &'a File, start: u64, end: u64) -> Self {
        Self { file, size: end, at: start }
    }

    fn seek(&self, whence: Whence) -> io::Result<Option<u64>> {
        match lseek(self.file, i64::try_from(self.at).map_err(|_| Errno::EOVERFLOW)?, whence) {
            Ok(found) => Ok(Some(u64::try_from(found).unwrap_or(0).min(self.size))),
            // No data behind here.
            Err(Errno::ENXIO) => Ok(Some(self.size)),
            // This file system does not tell.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn step(&mut self) -> io::Result<Run> {
        let start = self.at;
        let (end, hole) = match self.seek(Whence::SeekData)? {
            None => (self.size, false),
            Some(data) if data > start => (data, true),
            // Where a hole begins nowhere ahead, all is data; 0 would be no progress.
            Some(_) => (self.seek(Whence::SeekHole)?.filter(|&end| end > start).unwrap_or(self.size), false),
        };
        self.at = end;
        Ok(Run { start, end, hole })
    }
}

impl Iterator for Runs<'_> {
    type Item = io::Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.at = self.size;
        }
        Some(step)
    }
}

/// Hashes `len` zeros without reading any.
pub fn hash_zeros(hasher: &mut blake3::Hasher, mut len: u64) {
    while len > 0 {
        let part = len.min(CHUNK as u64);
        hasher.update(&ZEROS[..part as usize]);
        len -= part;
    }
}

/// Reads `file[start..end]` in chunks of at most [`CHUNK`] bytes.
///
/// # Errors
/// `UnexpectedEof` if the file ends before `end`.
pub fn read_range(
    file: &File,
    start: u64,
    end: u64,
    buffer: &mut Vec<u8>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = start;
    buffer.resize(CHUNK, 0);
    while at < end {
        let part = (end - at).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buffer[..part], at)?;
        take(&buffer[..part])?;
        at += part as u64;
    }
    Ok(())
}

/// BLAKE3 of the first `size` bytes of a file: its content hash.
pub fn hash_file(file: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    for run in Runs::new(file, size) {
        let run = run?;
        if run.hole {
            hash_zeros(&mut hasher, run.len());
        } else {
            read_range(file, run.start, run.end, buffer, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
        }
    }
    Ok(*hasher.finalize().as_bytes())
}
