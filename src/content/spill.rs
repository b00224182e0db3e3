//! Bytes that are written one after the other and read again: the last of them in memory, those before in a file
//! without a name, so that memory does not grow with them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes in memory, and bytes written or read at a time.
const TAIL: usize = 256 * 1024;

pub struct Spill {
    /// Under this name the file is made; it loses the name at once.
    path: PathBuf,
    /// `None` while all is in memory.
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    tail: Vec<u8>,
}

impl Spill {
    /// Nothing yet. What does not fit into memory goes to the directory of `path`.
    pub fn beside(path: &Path, ending: &str) -> Self {
        let mut name = OsString::from(path);
        name.push(ending);
        Self { path: name.into(), file: None, written: 0, tail: Vec::new() }
    }

    /// Where the next byte goes: how many there are.
    pub const fn end(&self) -> u64 {
        self.written + self.tail.len() as u64
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tail.len() + bytes.len() > TAIL {
            self.write_tail()?;
        }
        self.tail.extend_from_slice(bytes);
        Ok(())
    }

    fn write_tail(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file =
                    File::options().read(true).write(true).create(true).truncate(true).open(&self.path)?;
                std::fs::remove_file(&self.path)?;
                file
            }
        };
        file.write_all_at(&self.tail, self.written)?;
        self.file = Some(file);
        self.written += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// Fills the buffer with what begins at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` where less was written.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let stored = self.written.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (from_file, from_tail) = buffer.split_at_mut(stored);
        if let Some(file) = self.file.as_ref().filter(|_| !from_file.is_empty()) {
            file.read_exact_at(from_file, offset)?;
        }
        let start = offset.max(self.written) - self.written;
        let found = self.tail.get(start as usize..).and_then(|rest| rest.get(..from_tail.len()));
        from_tail.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Hands out all of it, piece by piece.
    pub fn each(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut piece = vec![0; self.written.min(TAIL as u64) as usize];
        let mut at = 0;
        while at < self.written {
            let len = (self.written - at).min(TAIL as u64) as usize;
            self.read_exact_at(&mut piece[..len], at)?;
            take(&piece[..len])?;
            at += len as u64;
        }
        take(&self.tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_wherever_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let mut spill = Spill::beside(&place.path().join("assignment"), ".spill");
        let mut all = Vec::new();
        for (number, len) in [1, TAIL - 1, 1, 3 * TAIL, 0, 100, TAIL / 2, TAIL].into_iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + number) as u8).collect();
            spill.append(&bytes).unwrap();
            all.extend(bytes);
            assert_eq!(spill.end(), all.len() as u64);
            for (at, len) in [(0, all.len()), (all.len() / 3, all.len() / 2), (all.len(), 0)] {
                let mut read = vec![0; len];
                spill.read_exact_at(&mut read, at as u64).unwrap();
                assert!(read == all[at..at + len], "{len} bytes from {at} on, of {}", all.len());
            }
            let mut read = Vec::new();
            spill
                .each(|bytes| {
                    read.extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
            assert!(read == all, "{} bytes", all.len());
        }
        assert!(spill.tail.capacity() <= 4 * TAIL, "no more stays in memory than was written at once");
        let beyond = spill.read_exact_at(&mut [0; 2], all.len() as u64 - 1).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "the file has no name");
    }
}
