//! A range of an assignment's file as a reader.

use super::source::Source;
use crate::wire::assignment::Item;
use std::io::{self, Read};

/// The stored bytes of an item. Where the file ends before the range does, reading fails.
pub struct Range<'a> {
    source: Source<'a>,
    position: u64,
    end: u64,
}

impl<'a> Range<'a> {
    pub const fn of(source: Source<'a>, item: &Item) -> Self {
        Self { source, position: item.offset, end: item.offset + item.len }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        self.source.read_exact_at(&mut buffer[..want], self.position)?;
        self.position += want as u64;
        Ok(want)
    }
}
