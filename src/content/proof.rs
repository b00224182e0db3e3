//! Whether the file of an assignment is what its publisher signed, without carrying it out: the leaves of the
//! data file, the commands, the items that they name.

use super::range::Range;
use super::source::{Pieces, Source};
use super::sparse::CHUNK;
use crate::wire::Malformed;
use crate::wire::assignment::{Coding, Command, CommandBuffer, Item, RelPath};
use crate::wire::seal::leaf_hash;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The first thing that is wrong with an assignment.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    #[error(
        "leaf {index} of its data, {len} bytes from byte {offset} on, does not have the hash that was signed"
    )]
    Leaf { index: u32, offset: u64, len: u64 },
    #[error("command {number} is malformed: {error}")]
    Command { number: u64, error: Malformed },
    #[error("command {number}, {path}: a file of {size} bytes, the header allows {max}")]
    TooLarge { number: u64, path: RelPath, size: u64, max: u64 },
    #[error("command {number}, {path}: its data does not decode to the length that it states")]
    Coding { number: u64, path: RelPath },
    #[error("command {number}, {path}: its data does not have the hash of the content")]
    Content { number: u64, path: RelPath },
}

/// Checks everything that can be checked without the base: every leaf of `file`, every command, every item; the
/// content of files that are put whole by its hash. Of what is encrypted and not unsealed only the leaves. Memory: one
/// leaf, or two, and an entry for each item.
///
/// # Errors
/// The first flaw.
pub fn prove(buffer: &CommandBuffer, file: &File) -> Result<(), Flaw> {
    let shape = &buffer.shape;
    let mut bytes = vec![0; CHUNK];
    for index in 0..shape.leaves() {
        let (offset, len) = shape.block(shape.command_blocks() + index);
        let leaf = &mut bytes[..len];
        file.read_exact_at(leaf, offset)?;
        if buffer.leaf(index) != Some(&leaf_hash(index, leaf)) {
            return Err(Flaw::Leaf { index, offset, len: len as u64 });
        }
    }
    if buffer.is_sealed() {
        return Ok(());
    }
    let pieces = buffer.key().map(|key| Pieces::new(key.clone(), shape.data_len));
    let source = Source::whole(file);
    let source = pieces.as_ref().map_or(source, |pieces| source.decrypted(pieces));
    let mut hashes = BTreeMap::new();
    for (command, number) in buffer.commands().zip(1..) {
        let command = command.map_err(|error| Flaw::Command { number, error })?;
        let path = || command.path().clone();
        if let Some(size) = size(&command) {
            let max = buffer.header.largest_file;
            if size > max {
                return Err(Flaw::TooLarge { number, path: path(), size, max });
            }
        }
        let Some(item) = command.item() else { continue };
        // Content with several names is one item.
        let known = hashes.get(&key(item)).copied();
        let hash = match known {
            Some(hash) => hash,
            None => decode(source, item, &mut bytes)?.ok_or_else(|| Flaw::Coding { number, path: path() })?,
        };
        hashes.insert(key(item), hash);
        if let Command::Put { hash: promised, extents, .. } = &command
            && extents.is_empty()
            && *promised != hash
        {
            return Err(Flaw::Content { number, path: path() });
        }
    }
    Ok(())
}

/// Size of the file that a command makes.
pub const fn size(command: &Command) -> Option<u64> {
    match command {
        Command::Put { size, .. } | Command::Patch { size, .. } | Command::Splice { size, .. } => Some(*size),
        _ => None,
    }
}

const fn key(item: &Item) -> (u64, u64, u64, bool) {
    (item.offset, item.len, item.decoded_len, matches!(item.coding, Coding::Zstd))
}

/// Hash of the decoded bytes; `None` where they are not as long as stated, or do not decode.
fn decode(source: Source<'_>, item: &Item, bytes: &mut [u8]) -> io::Result<Option<[u8; 32]>> {
    let source = Range::of(source, item);
    match item.coding {
        Coding::Raw => pour(source, item.decoded_len, bytes),
        Coding::Zstd => {
            let source = io::BufReader::with_capacity(CHUNK, source);
            pour(zstd::stream::read::Decoder::with_buffer(source)?.single_frame(), item.decoded_len, bytes)
        }
    }
}

fn pour(mut source: impl Read, expected: u64, bytes: &mut [u8]) -> io::Result<Option<[u8; 32]>> {
    let mut hasher = blake3::Hasher::new();
    let mut left = expected;
    loop {
        match source.read(bytes) {
            Ok(0) => return Ok((left == 0).then(|| *hasher.finalize().as_bytes())),
            Ok(read) => {
                let Some(rest) = left.checked_sub(read as u64) else { return Ok(None) };
                left = rest;
                hasher.update(&bytes[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel's errors have numbers, those of the decoder have none.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::testing::Draft;

    #[track_caller]
    fn flaw(draft: Draft) -> String {
        let signed = draft.sign();
        prove(&signed.buffer, &signed.file).expect_err("a flaw").to_string()
    }

    fn put(draft: Draft, item: Item, content: &[u8]) -> Draft {
        let (size, hash) = (item.decoded_len, *blake3::hash(content).as_bytes());
        let path = RelPath::new(b"a").unwrap();
        let item = Some(item);
        draft.add(Command::Put { path, mode: 0o644, mtime: 0, size, hash, item, extents: Vec::new() })
    }

    #[test]
    fn what_was_signed_is_proven_and_every_flipped_byte_of_the_data_is_found() {
        let signed = Draft::new(1, None).put("a", &vec![7; 600_000]).put("b", b"short").mkdir("c").sign();
        prove(&signed.buffer, &signed.file).unwrap();
        for at in [0, 262_144, 600_004] {
            let mut byte = [0];
            signed.file.read_exact_at(&mut byte, at).unwrap();
            signed.file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let flaw = prove(&signed.buffer, &signed.file).unwrap_err();
            assert!(matches!(flaw, Flaw::Leaf { index, .. } if u64::from(index) == at / 262_144), "{flaw}");
            signed.file.write_all_at(&byte, at).unwrap();
        }
        prove(&signed.buffer, &signed.file).unwrap();
    }

    #[test]
    fn items_that_lie_about_themselves_are_named() {
        let content = vec![5; 300_000];
        let coded = zstd::encode_all(&content[..], 1).unwrap();
        let zstd = |decoded_len| {
            let mut draft = Draft::new(1, None);
            let item = draft.item(&coded).unwrap();
            (draft, Item { decoded_len, coding: Coding::Zstd, ..item })
        };
        let (draft, item) = zstd(300_000);
        let signed = put(draft, item, &content).sign();
        prove(&signed.buffer, &signed.file).unwrap();
        for wrong in [299_999, 300_001] {
            let (draft, item) = zstd(wrong);
            assert!(flaw(put(draft, item, &content)).starts_with("command 1, a: its data does not decode"));
        }
        let (draft, item) = zstd(300_000);
        assert!(
            flaw(put(draft, item, b"other")).starts_with("command 1, a: its data does not have the hash")
        );
        let mut draft = Draft::new(1, None);
        draft.header.largest_file = 4;
        assert_eq!(flaw(draft.put("x", b"12345")), "command 1, x: a file of 5 bytes, the header allows 4");
        let beyond = Item { offset: 3, len: 3, decoded_len: 3, coding: Coding::Raw };
        let mut draft = Draft::new(1, None);
        draft.item(b"12345");
        assert_eq!(flaw(put(draft, beyond, b"45?")), "command 1 is malformed: item is out of bounds");
    }
}
