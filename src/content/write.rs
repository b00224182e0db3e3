//! The bytes of files: decoded, written with their holes, copied, hashed.
//!
//! Hashes are BLAKE3 of the whole content, holes as zeros. A hole costs neither disk nor reading.

use super::range::Range;
use super::source::Source;
use super::sparse::{self, CHUNK, Runs, hash_zeros};
use crate::wire::assignment::{Coding, Copied, Extent, Item};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Zeros in whole runs of this many bytes become holes.
pub const HOLE: usize = 64 * 1024;
/// Items up to this many decoded bytes are decoded in one call with a context that is kept.
const SMALL: u64 = 1 << 20;

static ZEROS: [u8; HOLE] = [0; HOLE];

/// What was written was not what the command stated.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The item does not decode, or not to the length it states.
    #[error("its data does not decode to the length that it states")]
    Coding,
}

/// Writes items of one data file; keeps what is costly to set up.
pub struct Writer<'a> {
    data: Source<'a>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    buffer: Vec<u8>,
    decoded: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(data: Source<'a>) -> Self {
        Self { data, decompressor: None, buffer: vec![0; CHUNK], decoded: Vec::new() }
    }

    /// Writes an item over the ranges `extents` of `file`, or over the whole where there are none.
    /// `fresh` tells that the file is all hole yet, so that runs of zeros need no writing. Returns the
    /// hash of a fresh file of `size` bytes with these contents, which costs no second reading.
    pub fn write(
        &mut self,
        file: &File,
        size: u64,
        item: Option<&Item>,
        extents: &[Extent],
        fresh: bool,
    ) -> Result<[u8; 32], WriteError> {
        let whole = [Extent { offset: 0, len: size }];
        let extents = match (item, extents) {
            (None, _) => &[],
            (Some(_), []) => &whole[..],
            (Some(_), extents) => extents,
        };
        let mut hasher = blake3::Hasher::new();
        let mut end = 0;
        let sink = Sink { file, fresh };
        if let Some(item) = item {
            let source = Range::of(self.data, item);
            match item.coding {
                Coding::Raw => end = self.pour(source, extents, &sink, &mut hasher)?,
                Coding::Zstd if item.decoded_len <= SMALL && item.len <= SMALL => {
                    self.decode_small(item)?;
                    let decoded = std::mem::take(&mut self.decoded);
                    let poured = self.pour(&decoded[..], extents, &sink, &mut hasher);
                    self.decoded = decoded;
                    end = poured?;
                }
                Coding::Zstd => {
                    let reader = io::BufReader::with_capacity(CHUNK, source);
                    let decoder = zstd::stream::read::Decoder::with_buffer(reader)?.single_frame();
                    end = self.pour(decoder, extents, &sink, &mut hasher)?;
                }
            }
        }
        hash_zeros(&mut hasher, size - end);
        Ok(*hasher.finalize().as_bytes())
    }

    /// Moves `source` into the extents, in order; returns where the last one ends.
    fn pour(
        &mut self,
        mut source: impl Read,
        extents: &[Extent],
        sink: &Sink<'_>,
        hasher: &mut blake3::Hasher,
    ) -> Result<u64, WriteError> {
        let mut end = 0;
        for extent in extents {
            hash_zeros(hasher, extent.offset - end);
            end = extent.offset;
            let stop = extent.offset + extent.len;
            while end < stop {
                let want = usize::try_from(stop - end).map_or(CHUNK, |left| left.min(CHUNK));
                let part = &mut self.buffer[..want];
                fill(&mut source, part)?;
                hasher.update(part);
                sink.write(end, part)?;
                end += want as u64;
            }
        }
        // One byte more than stated is as wrong as one less.
        match source.read(&mut self.buffer[..1]) {
            Ok(0) => Ok(end),
            _ => Err(WriteError::Coding),
        }
    }

    fn decode_small(&mut self, item: &Item) -> Result<(), WriteError> {
        let mut coded = vec![0; item.len as usize];
        self.data.read_exact_at(&mut coded, item.offset)?;
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        self.decoded.clear();
        self.decoded.reserve(item.decoded_len as usize);
        let len =
            decompressor.decompress_to_buffer(&coded, &mut self.decoded).map_err(|_| WriteError::Coding)?;
        if len as u64 == item.decoded_len { Ok(()) } else { Err(WriteError::Coding) }
    }
}

/// A file with the knowledge whether it is all hole.
struct Sink<'a> {
    file: &'a File,
    fresh: bool,
}

impl Sink<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.fresh || bytes.len() < HOLE {
            return self.file.write_all_at(bytes, offset);
        }
        let mut at = offset;
        for run in bytes.chunks(HOLE) {
            if run.len() < HOLE || run != &ZEROS[..] {
                self.file.write_all_at(run, at)?;
            }
            at += run.len() as u64;
        }
        Ok(())
    }
}

/// Fills `buffer`; what ends early or does not decode is [`WriteError::Coding`].
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<(), WriteError> {
    source.read_exact(buffer).map_err(|error| match error.raw_os_error() {
        Some(_) => WriteError::Io(error),
        None => WriteError::Coding,
    })
}

/// Hash of the first `size` bytes of a file.
pub fn hash(file: &File, size: u64) -> io::Result<[u8; 32]> {
    sparse::hash_file(file, size, &mut Vec::new())
}

/// Copies the first `size` bytes of `from` to `to`, which is empty, holes as holes. The kernel copies, or
/// shares the blocks where the file system can.
pub fn copy(from: &File, to: &File, size: u64) -> io::Result<()> {
    copy_range(from, to, Copied { from: 0, to: 0, len: size })
}

/// Copies a range of `from` to its place in `to`, which is a hole there.
pub fn copy_range(mut from: &File, mut to: &File, range: Copied) -> io::Result<()> {
    for run in Runs::within(from, range.from, range.from + range.len) {
        let run = run?;
        if run.hole {
            continue;
        }
        from.seek(SeekFrom::Start(run.start))?;
        to.seek(SeekFrom::Start(range.to + (run.start - range.from)))?;
        // Between two files this is copy_file_range.
        if io::copy(&mut from.take(run.len()), &mut to)? < run.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was copied"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    fn data_file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn raw(offset: u64, len: u64) -> Item {
        Item { offset, len, decoded_len: len, coding: Coding::Raw }
    }

    #[test]
    fn a_sparse_file_is_written_sparse_and_hashed_as_if_whole() {
        let data = data_file(b"..headtail");
        let file = tempfile::tempfile().unwrap();
        let size = 3 << 20;
        file.set_len(size).unwrap();
        let extents = [Extent { offset: 0, len: 4 }, Extent { offset: size - 4, len: 4 }];
        let hashed =
            Writer::new(Source::whole(&data)).write(&file, size, Some(&raw(2, 8)), &extents, true).unwrap();
        let mut whole = vec![0; size as usize];
        whole[..4].copy_from_slice(b"head");
        whole[size as usize - 4..].copy_from_slice(b"tail");
        assert_eq!(hashed, *blake3::hash(&whole).as_bytes());
        assert_eq!(hash(&file, size).unwrap(), hashed);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);

        let copied = tempfile::tempfile().unwrap();
        copied.set_len(size).unwrap();
        copy(&file, &copied, size).unwrap();
        assert_eq!(hash(&copied, size).unwrap(), hashed);
        assert!(copied.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn runs_of_zeros_become_holes_only_in_a_fresh_file() {
        let content = [vec![7; HOLE], vec![0; 4 * HOLE], vec![7; 10]].concat();
        let data = data_file(&content);
        let item = raw(0, content.len() as u64);
        let size = item.len;
        for fresh in [true, false] {
            let mut file = tempfile::tempfile().unwrap();
            if fresh {
                file.set_len(size).unwrap();
            } else {
                file.write_all(&vec![9; content.len()]).unwrap();
            }
            let hashed =
                Writer::new(Source::whole(&data)).write(&file, size, Some(&item), &[], fresh).unwrap();
            assert_eq!(hashed, *blake3::hash(&content).as_bytes());
            assert_eq!(hash(&file, size).unwrap(), hashed);
        }
    }

    #[test]
    fn compressed_items_small_and_large_decode_to_their_stated_length_only() {
        for len in [1_000_usize, 3 << 20] {
            let content: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let coded = zstd::encode_all(&content[..], 3).unwrap();
            let data = data_file(&coded);
            let size = len as u64;
            let item =
                |decoded_len| Item { offset: 0, len: coded.len() as u64, decoded_len, coding: Coding::Zstd };
            let file = tempfile::tempfile().unwrap();
            let hashed =
                Writer::new(Source::whole(&data)).write(&file, size, Some(&item(size)), &[], true).unwrap();
            assert_eq!(hashed, *blake3::hash(&content).as_bytes());
            for wrong in [size - 1, size + 1] {
                let result =
                    Writer::new(Source::whole(&data)).write(&file, wrong, Some(&item(wrong)), &[], true);
                assert!(matches!(result, Err(WriteError::Coding)), "{wrong} of {size}");
            }
            let cut = data_file(&coded[..coded.len() - 1]);
            assert!(
                Writer::new(Source::whole(&cut)).write(&file, size, Some(&item(size)), &[], true).is_err()
            );
        }
    }

    #[test]
    fn garbage_that_claims_to_be_compressed_is_refused() {
        let data = data_file(&[0x55; 4_000]);
        let file = tempfile::tempfile().unwrap();
        for decoded_len in [100, SMALL + 1] {
            let item = Item { offset: 0, len: 4_000, decoded_len, coding: Coding::Zstd };
            let result = Writer::new(Source::whole(&data)).write(&file, decoded_len, Some(&item), &[], true);
            assert!(matches!(result, Err(WriteError::Coding)));
        }
    }
}
