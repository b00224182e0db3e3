//! What a checkpoint holds, entry by entry: a file that is written and read as a stream.
//!
//! ```text
//! "fcck" version(2) | entries | 0(2) | BLAKE3 of all before (32)
//! entry: path(2+n) kind(1) mode(2) mtime(8) and
//!        1 directory: nothing
//!        2 file: size(8) and the hash of each piece of CHUNK bytes, 32 zeros for a piece of zeros
//!        3 symbolic link: text(2+n)
//!        4 another name of a file before: that file's first path(2+n)
//! ```

use super::chunks::CHUNK;
use crate::wire::assignment::{Mtime, RelPath};
use crate::wire::{Encoder, Malformed};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"fcck";
const VERSION: u16 = 1;
/// Longest path, and longest text of a symbolic link.
const PATH_MAX: usize = 4_095;

/// An entry of a checkpoint. The pieces of a file follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub path: RelPath,
    pub mode: u32,
    pub mtime: Mtime,
    pub kind: LineKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineKind {
    Directory,
    File { size: u64 },
    Symlink { text: Vec<u8> },
    Name { of: RelPath },
}

impl Line {
    /// How many pieces follow.
    pub const fn pieces(&self) -> u64 {
        match self.kind {
            LineKind::File { size } => size.div_ceil(CHUNK as u64),
            _ => 0,
        }
    }
}

/// Writes a manifest.
pub struct Writer {
    to: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Writer {
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut writer = Self { to: BufWriter::new(File::create(path)?), hasher: blake3::Hasher::new() };
        writer.write(Encoder::new().raw(&MAGIC).u16(VERSION).as_bytes())?;
        Ok(writer)
    }

    /// The next entry in walk order; the hashes of its pieces come next.
    pub fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut out = Encoder::new();
        out.bytes16(line.path.as_bytes());
        out.u8(match line.kind {
            LineKind::Directory => 1,
            LineKind::File { .. } => 2,
            LineKind::Symlink { .. } => 3,
            LineKind::Name { .. } => 4,
        });
        out.u16(line.mode as u16).i64(line.mtime);
        match &line.kind {
            LineKind::Directory => {}
            LineKind::File { size } => {
                out.u64(*size);
            }
            LineKind::Symlink { text } => {
                out.bytes16(text);
            }
            LineKind::Name { of } => {
                out.bytes16(of.as_bytes());
            }
        }
        self.write(out.as_bytes())
    }

    pub fn piece(&mut self, hash: &[u8; 32]) -> io::Result<()> {
        self.write(hash)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.to.write_all(bytes)
    }

    /// Ends the file, which is on the disk only after a sync. Returns its hash, by which it is known.
    pub fn finish(mut self) -> io::Result<[u8; 32]> {
        self.write(&[0, 0])?;
        let hash = *self.hasher.finalize().as_bytes();
        self.to.write_all(&hash)?;
        self.to.flush()?;
        Ok(hash)
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{}: the list of the checkpoint is damaged", path.display())]
    Damaged { path: PathBuf },
}

/// Reads a manifest that is whole.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    from: BufReader<File>,
}

impl Reader {
    /// Opens a manifest and reads it once, to see that it is the one of this hash.
    pub fn open(path: &Path, hash: &[u8; 32]) -> Result<Self, ManifestError> {
        let failed = |cause| ManifestError::Io { path: path.into(), cause };
        let mut file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let body = len.checked_sub(32).ok_or_else(|| ManifestError::Damaged { path: path.into() })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&mut file).take(body)).map_err(failed)?;
        let mut trailer = [0; 32];
        file.read_exact(&mut trailer).map_err(failed)?;
        if hasher.finalize().as_bytes() != hash || trailer != *hash {
            return Err(ManifestError::Damaged { path: path.into() });
        }
        file.rewind().map_err(failed)?;
        let mut reader = Self { path: path.into(), from: BufReader::with_capacity(64 * 1024, file) };
        match (reader.array(), reader.array()) {
            (Ok(MAGIC), Ok(version)) if u16::from_be_bytes(version) == VERSION => Ok(reader),
            _ => Err(ManifestError::Damaged { path: path.into() }),
        }
    }

    /// The next entry; `None` behind the last. Its pieces must be read before the one after it.
    pub fn line(&mut self) -> Result<Option<Line>, ManifestError> {
        self.read_line().map_err(|cause| self.error(cause))
    }

    /// The hash of the next piece.
    pub fn piece(&mut self) -> Result<[u8; 32], ManifestError> {
        self.array().map_err(|cause| self.error(cause))
    }

    fn error(&self, cause: io::Error) -> ManifestError {
        match cause.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                ManifestError::Damaged { path: self.path.clone() }
            }
            _ => ManifestError::Io { path: self.path.clone(), cause },
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let path = self.bytes()?;
        if path.is_empty() {
            return Ok(None);
        }
        let [kind] = self.array()?;
        let mode = u32::from(u16::from_be_bytes(self.array()?));
        let mtime = i64::from_be_bytes(self.array()?);
        let kind = match kind {
            1 => LineKind::Directory,
            2 => LineKind::File { size: u64::from_be_bytes(self.array()?) },
            3 => LineKind::Symlink { text: self.bytes()? },
            4 => LineKind::Name { of: RelPath::new(&self.bytes()?).map_err(invalid)? },
            _ => return Err(invalid(Malformed::Unknown("kind"))),
        };
        Ok(Some(Line { path: RelPath::new(&path).map_err(invalid)?, mode, mtime, kind }))
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > PATH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; len];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn invalid(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}
