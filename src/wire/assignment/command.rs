//! The commands of an assignment (AS-7): what a node does, one after another.

use super::{DATA_MAX, Mtime, RelPath};
use crate::wire::{Decoder, Encoder, Malformed};

/// A piece of the data file that a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it begins in the data file.
    pub offset: u64,
    /// Bytes in the data file.
    pub len: u64,
    /// Bytes once decoded; equal to `len` where it is not compressed.
    pub decoded_len: u64,
    pub coding: Coding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is: what does not compress (AS-9).
    Raw,
    /// One zstd frame.
    Zstd,
}

/// A range of bytes that changed in a file (ST-10). The bytes of all extents stand one after another in
/// the decoded item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// A range of a file of the base that stands in the new file too, perhaps elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Where it begins in the file of the base.
    pub from: u64,
    /// Where it begins in the new file.
    pub to: u64,
    pub len: u64,
}

/// One instruction to the content interpreter (AS-7), carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a directory. Its parent exists by then (AS-8).
    Mkdir { path: RelPath, mode: u32 },
    /// Make or replace a file. Where `item` is `None` the file is all hole (`size` may be 0).
    /// Where `extents` is not empty the file is sparse and the item holds only those ranges.
    Put {
        path: RelPath,
        mode: u32,
        mtime: Mtime,
        size: u64,
        hash: [u8; 32],
        item: Option<Item>,
        extents: Vec<Extent>,
    },
    /// Turn the file of the base into the new one by rewriting ranges; refuse if its hash is not `base`.
    Patch {
        path: RelPath,
        mode: u32,
        mtime: Mtime,
        size: u64,
        base: [u8; 32],
        hash: [u8; 32],
        item: Option<Item>,
        extents: Vec<Extent>,
    },
    /// Put the new file together from ranges of the file of the base and the bytes of the item, which fill
    /// the gaps between them in order (ST-12); refuse if the hash of the base's file is not `base`.
    Splice {
        path: RelPath,
        mode: u32,
        mtime: Mtime,
        size: u64,
        base: [u8; 32],
        hash: [u8; 32],
        item: Option<Item>,
        /// Ascending in the new file, at least one.
        copies: Vec<Copied>,
    },
    /// A new file with the content that `from` has in the base, whatever this assignment does to `from`; refuse
    /// if its hash is not `hash`.
    Copy { path: RelPath, from: RelPath, mode: u32, mtime: Mtime, hash: [u8; 32] },
    /// The file that `from` is in the base, under this name, with its mode and time. The base's name is removed
    /// or given to another file by another command.
    Move { path: RelPath, from: RelPath },
    /// Another name of the file at `target`, which exists by then.
    Link { path: RelPath, target: RelPath },
    /// A symbolic link with this text; never followed.
    Symlink { path: RelPath, text: Vec<u8>, mtime: Mtime },
    /// Remove a file or symbolic link, or a directory with all below it.
    Remove { path: RelPath },
    /// Mode of a file or directory. A file with several names becomes one of its own under this name.
    Chmod { path: RelPath, mode: u32 },
    /// Modification time of any entry. Those of directories come last, for filling them changes it. A file
    /// with several names becomes one of its own under this name.
    Utimes { path: RelPath, mtime: Mtime },
}

/// Permission bits that content may carry: no setuid, setgid or sticky (T27).
pub const MODE_MASK: u32 = 0o777;

impl Command {
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Mkdir { path, mode } => {
                out.u8(1).bytes16(path.as_bytes()).u16(*mode as u16);
            }
            Self::Put { path, mode, mtime, size, hash, item, extents } => {
                out.u8(2).bytes16(path.as_bytes()).u16(*mode as u16).i64(*mtime).u64(*size).raw(hash);
                encode_content(out, item.as_ref(), extents);
            }
            Self::Patch { path, mode, mtime, size, base, hash, item, extents } => {
                out.u8(3)
                    .bytes16(path.as_bytes())
                    .u16(*mode as u16)
                    .i64(*mtime)
                    .u64(*size)
                    .raw(base)
                    .raw(hash);
                encode_content(out, item.as_ref(), extents);
            }
            Self::Splice { path, mode, mtime, size, base, hash, item, copies } => {
                out.u8(9).bytes16(path.as_bytes()).u16(*mode as u16).i64(*mtime).u64(*size);
                out.raw(base).raw(hash);
                encode_item(out, item.as_ref());
                out.u32(u32::try_from(copies.len()).expect("copies are at least 32 bytes long"));
                for copied in copies {
                    out.u64(copied.from).u64(copied.to).u64(copied.len);
                }
            }
            Self::Copy { path, from, mode, mtime, hash } => {
                out.u8(10).bytes16(path.as_bytes()).bytes16(from.as_bytes()).u16(*mode as u16);
                out.i64(*mtime).raw(hash);
            }
            Self::Move { path, from } => {
                out.u8(11).bytes16(path.as_bytes()).bytes16(from.as_bytes());
            }
            Self::Link { path, target } => {
                out.u8(4).bytes16(path.as_bytes()).bytes16(target.as_bytes());
            }
            Self::Symlink { path, text, mtime } => {
                out.u8(5).bytes16(path.as_bytes()).bytes16(text).i64(*mtime);
            }
            Self::Remove { path } => {
                out.u8(6).bytes16(path.as_bytes());
            }
            Self::Chmod { path, mode } => {
                out.u8(7).bytes16(path.as_bytes()).u16(*mode as u16);
            }
            Self::Utimes { path, mtime } => {
                out.u8(8).bytes16(path.as_bytes()).i64(*mtime);
            }
        }
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let code = from.u8("command")?;
        let path = RelPath::new(from.bytes16(4_095, "path")?)?;
        Ok(match code {
            1 => Self::Mkdir { path, mode: decode_mode(from)? },
            2 => {
                let (mode, mtime, size) = (decode_mode(from)?, from.i64("mtime")?, from.u64("size")?);
                let hash = from.array("hash")?;
                let (item, extents) = decode_content(from, size)?;
                Self::Put { path, mode, mtime, size, hash, item, extents }
            }
            3 => {
                let (mode, mtime, size) = (decode_mode(from)?, from.i64("mtime")?, from.u64("size")?);
                let (base, hash) = (from.array("base hash")?, from.array("hash")?);
                let (item, extents) = decode_content(from, size)?;
                Self::Patch { path, mode, mtime, size, base, hash, item, extents }
            }
            4 => Self::Link { path, target: RelPath::new(from.bytes16(4_095, "link target")?)? },
            5 => {
                let text = from.bytes16(4_095, "symlink text")?;
                if text.is_empty() || text.contains(&0) {
                    return Err(Malformed::OutOfBounds("symlink text"));
                }
                Self::Symlink { path, text: text.to_vec(), mtime: from.i64("mtime")? }
            }
            6 => Self::Remove { path },
            7 => Self::Chmod { path, mode: decode_mode(from)? },
            8 => Self::Utimes { path, mtime: from.i64("mtime")? },
            9 => {
                let (mode, mtime, size) = (decode_mode(from)?, from.i64("mtime")?, from.u64("size")?);
                let (base, hash) = (from.array("base hash")?, from.array("hash")?);
                let (item, copies) = decode_splice(from, size)?;
                Self::Splice { path, mode, mtime, size, base, hash, item, copies }
            }
            10 => Self::Copy {
                path,
                from: RelPath::new(from.bytes16(4_095, "source")?)?,
                mode: decode_mode(from)?,
                mtime: from.i64("mtime")?,
                hash: from.array("hash")?,
            },
            11 => Self::Move { path, from: RelPath::new(from.bytes16(4_095, "source")?)? },
            _ => return Err(Malformed::Unknown("command")),
        })
    }

    /// The piece of the data file that the command needs.
    pub const fn item(&self) -> Option<&Item> {
        match self {
            Self::Put { item, .. } | Self::Patch { item, .. } | Self::Splice { item, .. } => item.as_ref(),
            _ => None,
        }
    }

    /// The same, to be put elsewhere.
    pub const fn item_mut(&mut self) -> Option<&mut Item> {
        match self {
            Self::Put { item, .. } | Self::Patch { item, .. } | Self::Splice { item, .. } => item.as_mut(),
            _ => None,
        }
    }

    pub const fn path(&self) -> &RelPath {
        match self {
            Self::Mkdir { path, .. }
            | Self::Put { path, .. }
            | Self::Patch { path, .. }
            | Self::Splice { path, .. }
            | Self::Copy { path, .. }
            | Self::Move { path, .. }
            | Self::Link { path, .. }
            | Self::Symlink { path, .. }
            | Self::Remove { path }
            | Self::Chmod { path, .. }
            | Self::Utimes { path, .. } => path,
        }
    }
}

fn decode_mode(from: &mut Decoder<'_>) -> Result<u32, Malformed> {
    let mode = u32::from(from.u16("mode")?);
    if mode & !MODE_MASK != 0 { Err(Malformed::OutOfBounds("mode")) } else { Ok(mode) }
}

fn encode_item(out: &mut Encoder, item: Option<&Item>) {
    out.option(item, |out, item| {
        out.u64(item.offset).u64(item.len).u64(item.decoded_len).u8(match item.coding {
            Coding::Raw => 0,
            Coding::Zstd => 1,
        });
    });
}

fn encode_content(out: &mut Encoder, item: Option<&Item>, extents: &[Extent]) {
    encode_item(out, item);
    out.u32(u32::try_from(extents.len()).expect("extents are at least a block apart"));
    for extent in extents {
        out.u64(extent.offset).u64(extent.len);
    }
}

fn decode_item(from: &mut Decoder<'_>) -> Result<Option<Item>, Malformed> {
    from.option("item", |from| {
        let (offset, len, decoded_len) =
            (from.u64("offset")?, from.u64("length")?, from.u64("decoded length")?);
        let coding = match from.u8("coding")? {
            0 => Coding::Raw,
            1 => Coding::Zstd,
            _ => return Err(Malformed::Unknown("coding")),
        };
        if offset.checked_add(len).is_none_or(|end| end > DATA_MAX) {
            return Err(Malformed::OutOfBounds("item"));
        }
        if coding == Coding::Raw && len != decoded_len {
            return Err(Malformed::OutOfBounds("decoded length"));
        }
        Ok(Item { offset, len, decoded_len, coding })
    })
}

/// The item and its extents; checked so that the interpreter may rely on it: extents ascend, do not
/// overlap, lie within `size`, and their lengths add up to what the item decodes to.
fn decode_content(from: &mut Decoder<'_>, size: u64) -> Result<(Option<Item>, Vec<Extent>), Malformed> {
    let item = decode_item(from)?;
    let count = from.u32("extent count")? as usize;
    if count > from.remaining() / 16 {
        return Err(Malformed::OutOfBounds("extent count"));
    }
    let mut extents = Vec::with_capacity(count);
    let (mut end, mut total) = (0_u64, 0_u64);
    for _ in 0..count {
        let extent = Extent { offset: from.u64("extent")?, len: from.u64("extent length")? };
        let stop = extent.offset.checked_add(extent.len).ok_or(Malformed::OutOfBounds("extent"))?;
        if extent.offset < end || extent.len == 0 || stop > size {
            return Err(Malformed::OutOfBounds("extent"));
        }
        (end, total) = (stop, total + extent.len);
        extents.push(extent);
    }
    let decoded = item.map_or(0, |item| item.decoded_len);
    let expected = if extents.is_empty() { item.map_or(0, |_| size) } else { total };
    if decoded != expected {
        return Err(Malformed::OutOfBounds("decoded length"));
    }
    Ok((item, extents))
}

/// The item and the copied ranges; checked as extents are, for the new file: what lies between the ranges is as
/// long as what the item decodes to.
fn decode_splice(from: &mut Decoder<'_>, size: u64) -> Result<(Option<Item>, Vec<Copied>), Malformed> {
    let item = decode_item(from)?;
    let count = from.u32("copy count")? as usize;
    if count == 0 || count > from.remaining() / 24 {
        return Err(Malformed::OutOfBounds("copy count"));
    }
    let mut copies = Vec::with_capacity(count);
    let (mut end, mut total) = (0_u64, 0_u64);
    for _ in 0..count {
        let copied = Copied {
            from: from.u64("source of a copy")?,
            to: from.u64("copy")?,
            len: from.u64("copy length")?,
        };
        let stop = copied.to.checked_add(copied.len).ok_or(Malformed::OutOfBounds("copy"))?;
        if copied.to < end || copied.len == 0 || stop > size || copied.from.checked_add(copied.len).is_none()
        {
            return Err(Malformed::OutOfBounds("copy"));
        }
        (end, total) = (stop, total + copied.len);
        copies.push(copied);
    }
    if item.map_or(0, |item| item.decoded_len) != size - total {
        return Err(Malformed::OutOfBounds("decoded length"));
    }
    Ok((item, copies))
}

/// What lies between the copied ranges of a file of `size` bytes: where the bytes of a splice's item go.
pub fn gaps(copies: &[Copied], size: u64) -> Vec<Extent> {
    let ends = copies.iter().map(|copied| copied.to + copied.len);
    let starts = std::iter::once(0).chain(ends);
    let stops = copies.iter().map(|copied| copied.to).chain([size]);
    starts
        .zip(stops)
        .filter(|(start, stop)| start < stop)
        .map(|(offset, stop)| Extent { offset, len: stop - offset })
        .collect()
}
