//! Two versions of a file: whatever they hold, what is found to differ turns the one into the other.

use super::disk::PLACE;
use crate::memory::within;
use farmcast::content::delta::{Delta, Method, Version, delta, in_place::InPlace, shifted::Shifted};
use std::fs::{self, File};

/// What the methods take for files of any size: buffers, and the index of a short one.
const BUFFERS: u64 = 3 << 20;

/// The first two bytes say how long the old version is; the new one is what follows it, or the old one again behind
/// what follows, so that something is shifted.
pub fn run(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return false };
    let len = u16::from_be_bytes(*len);
    let (old, rest) = rest.split_at(usize::from(len & 0x7fff).min(rest.len()));
    let new = if len & 0x8000 == 0 { rest.to_vec() } else { [rest, old, rest].concat() };
    let place = |name: &str, bytes: &[u8]| {
        let path = PLACE.join(name);
        fs::write(&path, bytes).expect("the place is ours");
        File::open(path).expect("it was just written")
    };
    let (old_file, new_file) = (place("old", old), place("new", &new));
    let old_version = Version { file: &old_file, size: old.len() as u64 };
    let new_version = Version { file: &new_file, size: new.len() as u64 };
    let limit = new.len() as u64;
    let find = |method: &dyn Method| {
        let found = within(bytes, BUFFERS, 64, || method.delta(old_version, new_version, limit));
        found.expect("files of memory can be read")
    };
    let best = delta(old_version, new_version, limit).expect("files of memory can be read");
    for found in [find(&InPlace), find(&Shifted), best].into_iter().flatten() {
        assert!(found.changed <= limit);
        assert_eq!(apply(&found, old, &new), new);
        assert_eq!(found.base, *blake3::hash(old).as_bytes());
        assert_eq!(found.hash, *blake3::hash(&new).as_bytes());
    }
    true
}

/// The new version, of the old one and the new bytes that the delta names.
fn apply(delta: &Delta, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut made = if delta.copies.is_empty() { old.to_vec() } else { Vec::new() };
    made.resize(new.len(), 0);
    for copied in &delta.copies {
        let source = &old[copied.from as usize..][..copied.len as usize];
        made[copied.to as usize..][..source.len()].copy_from_slice(source);
    }
    for extent in &delta.extents {
        let range = extent.offset as usize..(extent.offset + extent.len) as usize;
        made[range.clone()].copy_from_slice(&new[range]);
    }
    made
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |len: u16, rest: &[u8]| [&len.to_be_bytes()[..], rest].concat();
    let text: Vec<u8> = (0..100_u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    let shifted = [&text[..], b"new\n", &text].concat();
    vec![
        seed(text.len() as u16, &shifted),
        seed(0x8000 | text.len() as u16, &shifted),
        seed(300, &[0; 900]),
        seed(0, b""),
        seed(5, b"helloworld"),
    ]
}
