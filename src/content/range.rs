//! A range of a file as a reader.

use crate::wire::assignment::Item;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The stored bytes of an item of a data file. Does not move the file's position, and where the file ends before
/// the range does, reading fails.
pub struct Range<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl<'a> Range<'a> {
    pub const fn of(file: &'a File, item: &Item) -> Self {
        Self { file, position: item.offset, end: item.offset + item.len }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..want], self.position)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the data file ends early")),
            read => {
                self.position += read as u64;
                Ok(read)
            }
        }
    }
}
