//! Content by its hash: the pieces of files, each stored once however many files, sites and times hold it (VC-7).
//!
//! ```text
//! DIR/ab/cdef...   the piece whose BLAKE3 hash that is: one byte, 0 as it is or 1 a zstd frame, then the rest
//! DIR/new          a piece while it is written
//! ```
//! A piece gets its name when it is whole. What it holds is checked against the name whenever it is read.

use super::items::pays;
use crate::wire::id::hex;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zstd::bulk::{Compressor, Decompressor};

/// Longest piece in bytes. Files are cut at its multiples.
pub const CHUNK: usize = 1 << 20;
/// Stands for a piece of zeros, which is not stored.
pub const ZEROS: [u8; 32] = [0; 32];
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// What is wrong with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("missing")]
    Missing,
    #[error("not what it was")]
    Damaged,
}

/// Why a piece cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk {}: {flaw}", hex(hash))]
    Flaw { hash: [u8; 32], flaw: Flaw },
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// The pieces in a directory. One process writes at a time.
pub struct Chunks {
    dir: PathBuf,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    /// A piece as it is stored.
    stored: Vec<u8>,
}

impl Chunks {
    /// Opens the directory, and makes it where it is missing. `level` is zstd's.
    pub fn open(dir: &Path, level: i32) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.into(),
            compressor: Compressor::new(level)?,
            decompressor: Decompressor::new()?,
            stored: Vec::new(),
        })
    }

    fn path(&self, hash: &[u8; 32]) -> PathBuf {
        let name = hex(hash);
        self.dir.join(&name[..2]).join(&name[2..])
    }

    /// Stores a piece of 1 to [`CHUNK`] bytes. Returns its hash, and the bytes that this took: 0 where it was there.
    /// One that was there and is damaged is written anew.
    pub fn put(&mut self, piece: &[u8], compress: bool) -> Result<([u8; 32], u64), ChunkError> {
        if piece.iter().all(|&byte| byte == 0) {
            return Ok((ZEROS, 0));
        }
        let hash = *blake3::hash(piece).as_bytes();
        match self.get(&hash, &mut Vec::new()) {
            Ok(()) => return Ok((hash, 0)),
            Err(ChunkError::Flaw { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = self.path(&hash);
        let failed = |cause| ChunkError::Io { path: path.clone(), cause };
        let frame = if compress { self.compressor.compress(piece).map_err(failed)? } else { Vec::new() };
        let (coding, body) = match compress && pays(frame.len() as u64, piece.len() as u64) {
            true => (ZSTD, frame.as_slice()),
            false => (RAW, piece),
        };
        self.write(&path, coding, body).map_err(failed)?;
        Ok((hash, body.len() as u64 + 1))
    }

    fn write(&self, path: &Path, coding: u8, body: &[u8]) -> io::Result<()> {
        let new = self.dir.join("new");
        let mut file = File::create(&new)?;
        file.write_all(&[coding])?;
        file.write_all(body)?;
        match fs::rename(&new, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
                fs::rename(&new, path)
            }
            done => done,
        }
    }

    /// Reads a piece into `piece`.
    ///
    /// # Errors
    /// It is missing, or is not what its hash says.
    pub fn get(&mut self, hash: &[u8; 32], piece: &mut Vec<u8>) -> Result<(), ChunkError> {
        piece.clear();
        let path = self.path(hash);
        let flaw = |flaw| ChunkError::Flaw { hash: *hash, flaw };
        self.stored.clear();
        let read =
            File::open(&path).and_then(|file| file.take(CHUNK as u64 + 2).read_to_end(&mut self.stored));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(flaw(Flaw::Missing)),
            Err(cause) => return Err(ChunkError::Io { path, cause }),
        }
        match self.stored.split_first() {
            Some((&RAW, body)) => piece.extend_from_slice(body),
            Some((&ZSTD, body)) => {
                piece.resize(CHUNK, 0);
                let len = self.decompressor.decompress_to_buffer(body, piece.as_mut_slice());
                piece.truncate(len.map_err(|_| flaw(Flaw::Damaged))?);
            }
            _ => return Err(flaw(Flaw::Damaged)),
        }
        if blake3::hash(piece).as_bytes() == hash { Ok(()) } else { Err(flaw(Flaw::Damaged)) }
    }

    /// Removes the pieces whose hash `is_needed` does not know, of those whose first byte is in `range`. Returns how
    /// many went.
    pub fn remove_others(
        &self,
        range: std::ops::RangeInclusive<u8>,
        is_needed: impl Fn(&[u8; 32]) -> bool,
    ) -> io::Result<u64> {
        let mut removed = 0;
        for first in range {
            let folder = self.dir.join(format!("{first:02x}"));
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = format!("{first:02x}{}", entry.file_name().to_string_lossy());
                let hash = crate::wire::id::unhex(&name).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                if !hash.is_some_and(|hash| is_needed(&hash)) {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> (tempfile::TempDir, Chunks) {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Chunks::open(&dir.path().join("chunks"), 1).unwrap();
        (dir, chunks)
    }

    #[test]
    fn a_piece_is_stored_once_and_comes_back_as_it_was() {
        let (_dir, mut chunks) = chunks();
        let text = b"the same line again and again\n".repeat(5_000);
        let noise: Vec<u8> = {
            let mut noise = vec![0; CHUNK];
            blake3::Hasher::new().finalize_xof().fill(&mut noise);
            noise
        };
        for (piece, compress, at_most) in
            [(&text[..], true, 10_000), (&noise[..], true, CHUNK as u64 + 1), (&text[..1], false, 2)]
        {
            let (hash, took) = chunks.put(piece, compress).unwrap();
            assert!((1..=at_most).contains(&took), "{took}");
            assert_eq!(chunks.put(piece, compress).unwrap(), (hash, 0));
            let mut back = Vec::new();
            chunks.get(&hash, &mut back).unwrap();
            assert!(back == piece);
        }
        assert_eq!(chunks.put(&[0; 4_096], true).unwrap(), (ZEROS, 0));
    }

    #[test]
    fn a_piece_that_is_damaged_is_named_and_written_anew_when_it_comes_again() {
        let (_dir, mut chunks) = chunks();
        let text = b"content of a page\n".repeat(100);
        for compress in [false, true] {
            let (hash, took) = chunks.put(&text, compress).unwrap();
            let path = chunks.path(&hash);
            let whole = fs::read(&path).unwrap();
            assert_eq!(whole.len() as u64, took);
            let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
            damaged.extend((0..whole.len()).map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                bytes
            }));
            damaged.push([&whole[..], &[0; CHUNK]].concat());
            for bytes in damaged {
                fs::write(&path, &bytes).unwrap();
                // A bit of a frame that stands for nothing may differ; then the piece is what it was all the same.
                match chunks.get(&hash, &mut Vec::new()) {
                    Ok(()) => assert!(compress),
                    Err(ChunkError::Flaw { hash: named, flaw: Flaw::Damaged }) => assert_eq!(named, hash),
                    Err(other) => panic!("{other}"),
                }
            }
            fs::write(&path, b"").unwrap();
            assert_eq!(chunks.put(&text, compress).unwrap(), (hash, took));
            chunks.get(&hash, &mut Vec::new()).unwrap();
            fs::remove_file(&path).unwrap();
            let missing = chunks.get(&hash, &mut Vec::new()).unwrap_err();
            assert_eq!(missing.to_string(), format!("chunk {}: missing", hex(&hash)));
        }
    }

    #[test]
    fn only_what_is_needed_stays() {
        let (_dir, mut chunks) = chunks();
        let hashes: Vec<[u8; 32]> =
            (1..=50u8).map(|number| chunks.put(&[number; 9], false).unwrap().0).collect();
        fs::write(chunks.path(&hashes[0]).with_file_name("stray"), "x").unwrap();
        assert_eq!(chunks.remove_others(0..=255, |hash| hashes[10..].contains(hash)).unwrap(), 11);
        for (at, hash) in hashes.iter().enumerate() {
            assert_eq!(chunks.get(hash, &mut Vec::new()).is_ok(), at >= 10);
        }
    }
}
