//! An assignment that is larger than the largest allowed, cut into parts (AS-13): assignments of their own, each
//! staged on what the one before it left, and only the last can go live.
//!
//! ```text
//! whole:   | header | mkdir, put a, put b, put c, patch d, remove e ...        | data: a b c d |
//! parts:   | header 1 of 3 | mkdir, put a, put b | data: a b |
//!          | header 2 of 3 | put c               | data: c   |
//!          | header 3 of 3 | patch d, remove e . | data: d   |
//! ```
//! The commands keep their order, each with its data. Content with several names is one item in each part that needs
//! it. A command is never cut: one whose data alone is larger than the largest part is a part of its own.
//! Memory: the commands, which the whole one holds already, and a leaf.

use super::data::DataFile;
use super::source::{Pieces, Source};
use crate::wire::assignment::{
    ALIGN, Behind, Coding, Command, CommandBuffer, Header, Item, LEAF_LEN, Part, Shape,
};
use crate::wire::content_key::{Sealing, TAG_LEN, sealed_len};
use crate::wire::id::AssignmentId;
use crate::wire::seal::SigningKey;
use crate::wire::{Encoder, Malformed};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Header and trailer take less.
const FRAME: u64 = 4_096;
/// Bytes counted for what an entry takes on a node beside its content.
const ENTRY_SPACE: u64 = 4_096;

/// What to cut, and how.
pub struct Split<'a> {
    /// Unsealed, where it is encrypted.
    pub whole: &'a CommandBuffer,
    /// Its file.
    pub file: &'a File,
    /// Bytes of the largest part, command buffer and data file together.
    pub max: u64,
    /// Where the file of a part goes.
    pub out: &'a dyn Fn(AssignmentId) -> PathBuf,
    /// With what a part is encrypted; `None`: it is in clear.
    pub sealing: &'a dyn Fn(AssignmentId) -> Option<Sealing>,
    pub publisher: &'a SigningKey,
}

/// Why an assignment was not cut. Files of some of its parts may be there.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("the assignment to be split: {0}")]
    Malformed(#[from] Malformed),
    #[error("it would be {parts} parts, more than {max}; raise `--assignment-max`")]
    TooMany { parts: usize, max: usize },
    #[error("reading the assignment to be split: {0}")]
    Read(io::Error),
    #[error("cannot write the assignment {}: {source}; free space there or let this user write it", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The bytes that a part comes to.
#[derive(Default)]
struct Load {
    data: u64,
    commands: u64,
    count: u32,
    /// Where the items of the whole one lie in this part.
    items: BTreeMap<u64, u64>,
}

impl Load {
    /// What the part is with this command too: an item that it has already takes no place.
    fn with(&self, command: &Command, encoded: u64) -> (u64, u64) {
        let data = match command.item() {
            Some(item) if !self.items.contains_key(&item.offset) => start(item, self.data) + item.len,
            _ => self.data,
        };
        (data, self.commands + encoded)
    }

    fn add(&mut self, command: &Command, encoded: u64) {
        let (data, commands) = self.with(command, encoded);
        if let Some(item) = command.item() {
            self.items.entry(item.offset).or_insert(data - item.len);
        }
        (self.data, self.commands, self.count) = (data, commands, self.count + 1);
    }
}

/// Where an item begins that is put behind `len` bytes: one that began at a page does again, so that a node can
/// reflink it.
const fn start(item: &Item, len: u64) -> u64 {
    match item.coding {
        Coding::Raw if item.offset.is_multiple_of(ALIGN) => len.next_multiple_of(ALIGN),
        Coding::Raw | Coding::Zstd => len,
    }
}

/// At most so many bytes has the file of an assignment with this much data and commands.
const fn file_len(data: u64, commands: u64, sealed: bool) -> u64 {
    let (data, commands) = if sealed { (sealed_len(data), commands + TAG_LEN) } else { (data, commands) };
    data.next_multiple_of(ALIGN) + commands + data.div_ceil(LEAF_LEN) * 32 + FRAME
}

fn encoded_len(command: &Command) -> u64 {
    let mut out = Encoder::new();
    command.encode(&mut out);
    out.as_bytes().len() as u64
}

impl Split<'_> {
    /// The loads of the parts, at least one.
    fn plan(&self) -> Result<Vec<Load>, SplitError> {
        let sealed = self.whole.header.salt.is_some();
        let (mut loads, mut load) = (Vec::new(), Load::default());
        for command in self.whole.commands() {
            let command = command?;
            let encoded = encoded_len(&command);
            let (data, commands) = load.with(&command, encoded);
            if load.count > 0 && file_len(data, commands, sealed) > self.max {
                loads.push(std::mem::take(&mut load));
            }
            load.add(&command, encoded);
        }
        loads.push(load);
        let (parts, max) = (loads.len(), usize::from(AssignmentId::PARTS_MAX) + 1);
        if parts > max { Err(SplitError::TooMany { parts, max }) } else { Ok(loads) }
    }

    /// Cuts it, and writes the files of the parts, which are on disk when this returns. Empty: it is no larger than
    /// allowed, or cannot be cut, and nothing was written.
    ///
    /// # Errors
    /// The whole one is malformed or cannot be read, or a part cannot be written.
    pub fn cut(&self) -> Result<Vec<(AssignmentId, Shape)>, SplitError> {
        if self.whole.shape.file_len() <= self.max {
            return Ok(Vec::new());
        }
        let loads = self.plan()?;
        if loads.len() < 2 {
            return Ok(Vec::new());
        }
        let pieces = self.whole.key().map(|key| Pieces::new(key.clone(), self.whole.shape.data_len));
        let source = Source::whole(self.file);
        let source = pieces.as_ref().map_or(source, |pieces| source.decrypted(pieces));
        let (of, mut behind, mut done) = (loads.len() as u16, None, Vec::new());
        let (mut commands, mut space) = (self.whole.commands(), self.whole.header.space);
        for (load, number) in loads.into_iter().zip(1..) {
            let part = Part { number, of, behind };
            let header = self.header(part, space);
            let (assignment, mut encoded) = (header.assignment, Encoder::new());
            let path = (self.out)(assignment);
            let wrong = |source| SplitError::Write { path: path.clone(), source };
            let mut data = DataFile::create(&path).map_err(wrong)?;
            for command in commands.by_ref().take(load.count as usize) {
                let mut command = command?;
                space = space.saturating_sub(space_of(&command));
                if let Some(item) = command.item_mut() {
                    let at = load.items[&item.offset];
                    if at >= data.len() {
                        copy(source, item, at, &mut data, &path)?;
                    }
                    item.offset = at;
                }
                command.encode(&mut encoded);
            }
            let shape = self.finish(header, encoded.finish(), load.count, data).map_err(wrong)?;
            behind =
                Some(Behind { first: behind.map_or(shape.name, |behind| behind.first), before: shape.name });
            done.push((assignment, shape));
        }
        Ok(done)
    }

    /// The header of a part: what the update is as a whole stands in all of them. `space` is what is still needed:
    /// a node that cannot hold all of it learns that from the first.
    fn header(&self, part: Part, space: u64) -> Header {
        let whole = &self.whole.header;
        let assignment = match part.is_last() {
            true => whole.assignment,
            false => whole.assignment.part_of(part.number),
        };
        let order = whole.order.clone().filter(|_| part.is_last());
        Header { assignment, part: Some(part), space, order, salt: None, ..whole.clone() }
    }

    fn finish(&self, header: Header, mut commands: Vec<u8>, count: u32, data: DataFile) -> io::Result<Shape> {
        let sealing = (self.sealing)(header.assignment);
        let key = sealing.as_ref().map(|sealing| &sealing.key);
        if let Some(key) = key {
            key.seal_commands(&mut commands);
        }
        let header = Header { salt: sealing.as_ref().map(|sealing| sealing.salt), ..header };
        data.finish(key, |data_len, leaves| {
            CommandBuffer::sign(Header { data_len, ..header }, &commands, count, leaves, self.publisher)
        })
    }
}

/// Appends an item of the whole one, so that it begins at `at`.
fn copy(
    source: Source<'_>,
    item: &Item,
    at: u64,
    data: &mut DataFile,
    path: &Path,
) -> Result<(), SplitError> {
    let wrong = |source| SplitError::Write { path: path.to_owned(), source };
    if at > data.len() {
        data.align().map_err(wrong)?;
    }
    let mut chunk = vec![0; LEAF_LEN.min(item.len) as usize];
    let mut done = 0;
    while done < item.len {
        let part = &mut chunk[..(item.len - done).min(LEAF_LEN) as usize];
        source.read_exact_at(part, item.offset + done).map_err(SplitError::Read)?;
        data.write_all(part).map_err(wrong)?;
        done += part.len() as u64;
    }
    Ok(())
}

/// Bytes that a command takes on a node, as far as it says so itself.
fn space_of(command: &Command) -> u64 {
    let content = match command {
        Command::Put { size, extents, .. } if extents.is_empty() => *size,
        Command::Put { extents, .. } => extents.iter().map(|extent| extent.len).sum(),
        Command::Patch { size, .. } | Command::Splice { size, .. } => *size,
        Command::Mkdir { .. } | Command::Symlink { .. } => 0,
        _ => return 0,
    };
    content.next_multiple_of(ENTRY_SPACE) + ENTRY_SPACE
}

#[cfg(test)]
mod tests;
