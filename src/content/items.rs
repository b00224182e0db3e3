//! Content to items of the data file: whole, or only its extents; raw or compressed, as the type policy
//! says and as it turns out (AS-9, AS-10); each content once.

use super::contents::Contents;
use super::data::DataFile;
use super::delta::EXTENTS_MAX;
use super::sparse::{CHUNK, Runs, hash_zeros};
use crate::wire::assignment::{Coding, Extent, Item, RelPath};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use zstd::bulk::Compressor;
use zstd::stream::write::Encoder;

/// Items up to this size are coded in memory.
const SMALL_MAX: u64 = CHUNK as u64;
/// Smaller items are not worth a zstd frame.
const COMPRESS_MIN: u64 = 128;
/// Raw items from this size on begin at a page, so that they can be reflinked.
const ALIGNED_MIN: u64 = 64 * 1024;
/// A file with fewer bytes of holes is sent whole.
const HOLES_MIN: u64 = 64 * 1024;

/// Which content is compressed, and how (AS-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Off: nothing is.
    pub compress: bool,
    /// zstd level; 1 to 3 are fast enough to keep up with a disk.
    pub level: i32,
    /// Extensions, in lower case and without the dot, of files that are compressed already.
    pub never: BTreeSet<String>,
}

impl Default for Policy {
    fn default() -> Self {
        let never = [
            "7z", "aac", "apk", "avif", "br", "bz2", "deb", "docx", "epub", "flac", "gif", "gz", "heic",
            "jar", "jpeg", "jpg", "jxl", "lz4", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "odt", "ogg",
            "opus", "pdf", "png", "pptx", "rar", "rpm", "tgz", "webm", "webp", "woff", "woff2", "xlsx", "xz",
            "zip", "zst",
        ];
        Self { compress: true, level: 1, never: never.into_iter().map(String::from).collect() }
    }
}

impl Policy {
    /// Whether content of that name may be compressed.
    pub(super) fn allows(&self, path: &RelPath) -> bool {
        let name = path.components().next_back().unwrap_or_default();
        let extension = name.rsplitn(2, |&byte| byte == b'.').collect::<Vec<_>>();
        let [extension, _] = extension[..] else { return self.compress };
        let extension = String::from_utf8_lossy(extension).to_ascii_lowercase();
        self.compress && !self.never.contains(&extension)
    }
}

/// Whose fault a failure is: of the file that is read or of the data file that is written.
#[derive(Debug)]
pub enum Fault {
    Read(io::Error),
    Write(io::Error),
}

/// The content of a file as a command names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub hash: [u8; 32],
    pub item: Option<Item>,
    /// Empty where the item is the whole file.
    pub extents: Vec<Extent>,
    /// Bytes of the file that are not hole.
    pub stored: u64,
}

/// The items of one assignment.
pub struct Items<'a> {
    data: DataFile,
    policy: &'a Policy,
    /// So that content with several names is stored once. The lower of two equal contents stays; what lay behind a
    /// rewind is taken out.
    stored: Contents,
    compressor: Compressor<'static>,
    small: Vec<u8>,
    chunk: Vec<u8>,
}

impl<'a> Items<'a> {
    pub fn new(data: DataFile, policy: &'a Policy) -> io::Result<Self> {
        Ok(Self {
            stored: Contents::new(data.path()),
            data,
            policy,
            compressor: Compressor::new(policy.level)?,
            small: Vec::new(),
            chunk: vec![0; CHUNK],
        })
    }

    /// The data file, complete.
    pub fn into_data(self) -> DataFile {
        self.data
    }

    pub fn len(&self) -> u64 {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Forgets what was stored since the data file was `len` long.
    pub fn rewind(&mut self, len: u64) -> io::Result<()> {
        if len < self.data.len() {
            self.data.rewind(len)?;
            self.stored.rewind(len)?;
        }
        Ok(())
    }

    /// Stores the content of a whole file; of a sparse one only its data.
    pub fn whole(&mut self, path: &RelPath, file: &File, size: u64) -> Result<Content, Fault> {
        let sparse = data_runs(file, size).map_err(Fault::Read)?;
        let pieces = match &sparse {
            Some(extents) => extents.clone(),
            None if size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, len: size }],
        };
        let stored = pieces.iter().map(|piece| piece.len).sum();
        let start = self.data.len();
        let mut hash = WholeHash { hasher: blake3::Hasher::new(), at: 0 };
        let item = self.item(path, file, &pieces, Some(&mut hash))?;
        let hash = hash.finish(size);
        if let Some((item, extents)) = self.stored.find(&hash).map_err(Fault::Write)? {
            self.data.rewind(start).map_err(Fault::Write)?;
            return Ok(Content { hash, item, extents, stored });
        }
        let extents = sparse.unwrap_or_default();
        self.stored.add(&hash, item, &extents).map_err(Fault::Write)?;
        Ok(Content { hash, item, extents, stored })
    }

    /// Stores only some extents of a file.
    pub fn extents(
        &mut self,
        path: &RelPath,
        file: &File,
        extents: &[Extent],
    ) -> Result<Option<Item>, Fault> {
        self.item(path, file, extents, None)
    }

    /// One item of the pieces of a file, one after another.
    fn item(
        &mut self,
        path: &RelPath,
        file: &File,
        pieces: &[Extent],
        hash: Option<&mut WholeHash>,
    ) -> Result<Option<Item>, Fault> {
        let len = pieces.iter().map(|piece| piece.len).sum::<u64>();
        let compress = len >= COMPRESS_MIN && self.policy.allows(path);
        if len == 0 {
            Ok(None)
        } else if len <= SMALL_MAX {
            self.small(file, pieces, hash, compress).map(Some)
        } else {
            self.large(file, pieces, len, hash, compress).map(Some)
        }
    }

    fn small(
        &mut self,
        file: &File,
        pieces: &[Extent],
        hash: Option<&mut WholeHash>,
        compress: bool,
    ) -> Result<Item, Fault> {
        let mut bytes = std::mem::take(&mut self.small);
        bytes.clear();
        each_chunk(file, pieces, &mut self.chunk, hash, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        let len = bytes.len() as u64;
        let frame =
            if compress { self.compressor.compress(&bytes).map_err(Fault::Write)? } else { Vec::new() };
        let item = if compress && pays(frame.len() as u64, len) {
            self.store(&frame, len, Coding::Zstd)
        } else {
            self.store(&bytes, len, Coding::Raw)
        };
        self.small = bytes;
        item.map_err(Fault::Write)
    }

    fn store(&mut self, bytes: &[u8], decoded_len: u64, coding: Coding) -> io::Result<Item> {
        if coding == Coding::Raw && decoded_len >= ALIGNED_MIN {
            self.data.align()?;
        }
        let offset = self.data.len();
        self.data.write_all(bytes)?;
        Ok(Item { offset, len: bytes.len() as u64, decoded_len, coding })
    }

    fn large(
        &mut self,
        file: &File,
        pieces: &[Extent],
        len: u64,
        mut hash: Option<&mut WholeHash>,
        compress: bool,
    ) -> Result<Item, Fault> {
        if compress && self.head_compresses(file, pieces)? {
            let offset = self.data.len();
            let fresh = hash.as_deref().cloned();
            self.compress(file, pieces, len, hash.as_deref_mut())?;
            let coded = self.data.len() - offset;
            if pays(coded, len) {
                return Ok(Item { offset, len: coded, decoded_len: len, coding: Coding::Zstd });
            }
            self.data.rewind(offset).map_err(Fault::Write)?;
            if let (Some(hash), Some(fresh)) = (hash.as_deref_mut(), fresh) {
                *hash = fresh;
            }
        }
        self.data.align().map_err(Fault::Write)?;
        let offset = self.data.len();
        let data = &mut self.data;
        each_chunk(file, pieces, &mut self.chunk, hash, |chunk| data.write_all(chunk))?;
        Ok(Item { offset, len, decoded_len: len, coding: Coding::Raw })
    }

    /// Whether the first chunk shrinks: a guess that spares two passes over a large file that does not.
    fn head_compresses(&mut self, file: &File, pieces: &[Extent]) -> Result<bool, Fault> {
        let len = pieces[0].len.min(CHUNK as u64) as usize;
        let head = &mut self.chunk[..len];
        file.read_exact_at(head, pieces[0].offset).map_err(Fault::Read)?;
        let frame = self.compressor.compress(head).map_err(Fault::Write)?;
        Ok(pays(frame.len() as u64, len as u64))
    }

    fn compress(
        &mut self,
        file: &File,
        pieces: &[Extent],
        len: u64,
        hash: Option<&mut WholeHash>,
    ) -> Result<(), Fault> {
        let mut encoder = Encoder::new(&mut self.data, self.policy.level).map_err(Fault::Write)?;
        encoder.set_pledged_src_size(Some(len)).map_err(Fault::Write)?;
        each_chunk(file, pieces, &mut self.chunk, hash, |chunk| encoder.write_all(chunk))?;
        encoder.finish().map_err(Fault::Write)?;
        Ok(())
    }
}

/// Compression must spare a twentieth to be worth the decoding on every node.
pub(super) const fn pays(coded: u64, len: u64) -> bool {
    coded <= len - len / 20
}

/// The content hash of a file, of which only the pieces are read; the rest is holes.
#[derive(Clone)]
struct WholeHash {
    hasher: blake3::Hasher,
    at: u64,
}

impl WholeHash {
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        hash_zeros(&mut self.hasher, offset - self.at);
        self.hasher.update(bytes);
        self.at = offset + bytes.len() as u64;
    }

    fn finish(&mut self, size: u64) -> [u8; 32] {
        hash_zeros(&mut self.hasher, size - self.at);
        *self.hasher.finalize().as_bytes()
    }
}

/// Reads the pieces of a file chunk by chunk.
fn each_chunk(
    file: &File,
    pieces: &[Extent],
    chunk: &mut [u8],
    mut hash: Option<&mut WholeHash>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Fault> {
    for piece in pieces {
        let end = piece.offset + piece.len;
        let mut at = piece.offset;
        while at < end {
            let part = &mut chunk[..(end - at).min(CHUNK as u64) as usize];
            file.read_exact_at(part, at).map_err(Fault::Read)?;
            if let Some(hash) = &mut hash {
                hash.add(at, part);
            }
            take(part).map_err(Fault::Write)?;
            at += part.len() as u64;
        }
    }
    Ok(())
}

/// The data of a sparse file; `None` where a file has too few holes, or too many pieces, to treat it so.
fn data_runs(file: &File, size: u64) -> io::Result<Option<Vec<Extent>>> {
    let (mut extents, mut holes) = (Vec::new(), 0);
    for run in Runs::new(file, size) {
        let run = run?;
        if run.hole {
            holes += run.len();
        } else if extents.len() == EXTENTS_MAX {
            return Ok(None);
        } else {
            extents.push(Extent { offset: run.start, len: run.len() });
        }
    }
    Ok((holes >= HOLES_MIN).then_some(extents))
}
