use super::index::{Index, Rolling, WINDOW};
use super::*;
use crate::content::fixture::noise;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::FileExt;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Carries out a delta with nothing but what it says, the new bytes and the old file.
fn apply(delta: &Delta, old: &[u8], new: &[u8]) -> Vec<u8> {
    let size = new.len();
    let mut bytes = if delta.copies.is_empty() { old.to_vec() } else { Vec::new() };
    bytes.resize(size, 0);
    let mut end = 0;
    for copied in &delta.copies {
        assert!(copied.to >= end && copied.len > 0, "{copied:?}");
        end = copied.to + copied.len;
        let source = &old[copied.from as usize..][..copied.len as usize];
        bytes[copied.to as usize..end as usize].copy_from_slice(source);
    }
    end = 0;
    for extent in &delta.extents {
        assert!(extent.offset >= end && extent.len > 0, "{extent:?}");
        end = extent.offset + extent.len;
        let range = extent.offset as usize..end as usize;
        bytes[range.clone()].copy_from_slice(&new[range]);
    }
    bytes
}

fn find(method: &dyn Method, old: &[u8], new: &[u8], limit: u64) -> Option<Delta> {
    let (old_file, new_file) = (file(old), file(new));
    let version = |file, bytes: &[u8]| Version { file, size: bytes.len() as u64 };
    method.delta(version(&old_file, old), version(&new_file, new), limit).unwrap()
}

struct Best;

impl Method for Best {
    fn delta(&self, old: Version<'_>, new: Version<'_>, limit: u64) -> io::Result<Option<Delta>> {
        delta(old, new, limit)
    }
}

/// Checks that the delta makes the new bytes; returns how many of them it holds.
fn proven(method: &dyn Method, old: &[u8], new: &[u8]) -> Option<Delta> {
    let delta = find(method, old, new, u64::MAX)?;
    assert_eq!(apply(&delta, old, new), new);
    assert_eq!(delta.base, *blake3::hash(old).as_bytes());
    assert_eq!(delta.hash, *blake3::hash(new).as_bytes());
    assert_eq!(delta.changed, delta.extents.iter().map(|extent| extent.len).sum::<u64>());
    Some(delta)
}

#[test]
fn an_insertion_costs_its_bytes() {
    let old = noise(1, 3_000_000);
    for at in [0, 1, 31, 32, 1_000, 262_143, 262_145, 1_500_000, 2_999_968, 3_000_000] {
        let new = [&old[..at], &noise(2, 777), &old[at..]].concat();
        let delta = proven(&Shifted, &old, &new).unwrap();
        // What is left of less than a window at either end is sent too.
        assert!((777..777 + 48).contains(&delta.changed), "{at}: {} bytes", delta.changed);
        assert!(delta.copies.len() <= 2);
        assert!(proven(&Best, &old, &new).unwrap().cost() <= delta.cost(), "{at}");
    }
}

#[test]
fn a_removal_costs_nothing_but_its_place() {
    let old = noise(1, 1_000_000);
    let new = [&old[..300_000], &old[301_111..]].concat();
    let delta = proven(&Best, &old, &new).unwrap();
    assert_eq!(delta.changed, 0);
    assert_eq!(
        delta.copies,
        [Copied { from: 0, to: 0, len: 300_000 }, Copied { from: 301_111, to: 300_000, len: 698_889 }]
    );
}

#[test]
fn exchanged_halves_are_found_in_each_other() {
    let old = noise(1, 2_000_000);
    let new = [&old[900_000..], &old[..900_000]].concat();
    let delta = proven(&Best, &old, &new).unwrap();
    assert_eq!((delta.changed, delta.copies.len()), (0, 2));
}

#[test]
fn bytes_changed_behind_a_shift_cost_themselves() {
    let old = noise(1, 1_000_000);
    let mut new = [&noise(2, 100)[..], &old].concat();
    for at in (50_000..1_000_000).step_by(1_000) {
        new[at] ^= 0xff;
    }
    let delta = proven(&Best, &old, &new).unwrap();
    assert_eq!(delta.changed, 100 + 950);
}

#[test]
fn what_stands_where_it_stood_is_named_by_extents() {
    let old = noise(1, 500_000);
    let mut new = old.clone();
    new[100_000..104_000].copy_from_slice(&noise(2, 4_000));
    let delta = proven(&Best, &old, &new).unwrap();
    assert_eq!((delta.changed, delta.copies.len(), delta.extents.len()), (4_000, 0, 1));
}

#[test]
fn a_line_inserted_in_a_page_is_a_shift() {
    let lines: Vec<String> =
        (0..80).map(|line| format!("<p>The {line}th paragraph {}</p>\n", line * line)).collect();
    let old = lines.concat().into_bytes();
    let new = [lines[..20].concat(), "<p>News</p>\n".to_owned(), lines[20..].concat()].concat().into_bytes();
    let delta = proven(&Best, &old, &new).unwrap();
    assert!(delta.cost() < 100, "{delta:?}");
}

#[test]
fn files_without_anything_in_common_have_no_delta() {
    let (old, new) = (noise(1, 400_000), noise(2, 400_000));
    assert_eq!(find(&Shifted, &old, &new, u64::MAX), None);
    assert_eq!(find(&Best, &old, &new, 200_000), None);
}

#[test]
fn what_repeats_itself_is_bounded() {
    // Each run of zeros is found again and again in a short one: naming them all would cost more than they do.
    let (old, new) = (vec![0; 64], vec![0; 8_000_000]);
    assert_eq!(find(&Shifted, &old, &new, 1_000_000), None);
    let (old, new) = (vec![0; 2_000_000], vec![0; 2_000_100]);
    assert!(proven(&Shifted, &old, &new).unwrap().cost() < 200);
}

#[test]
fn a_file_that_became_shorter_than_said_is_an_error() {
    let (old, new) = (noise(1, 100_000), file(&noise(2, 100_000)));
    let old = file(&old);
    let short = Version { file: &old, size: 200_000 };
    let whole = Version { file: &new, size: 100_000 };
    for method in [&Shifted as &dyn Method, &in_place::InPlace] {
        for (old, new) in [(short, whole), (whole, short)] {
            let error = method.delta(old, new, u64::MAX).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn the_index_of_a_huge_file_stays_small() {
    for size in [0, 1, 1 << 20, 1 << 28, 20 << 30, 1 << 44] {
        let mut index = Index::new(size);
        assert!(index.bytes() <= 20 << 20, "{} bytes for {size}", index.bytes());
        let window = noise(1, WINDOW);
        let at = size / index.step() * index.step();
        index.add(at, &window);
        assert!(index.may_know(Rolling::of(&window)));
        assert_eq!(index.find(Rolling::of(&window)), Some(at));
        let mut rolling = Rolling::of(&noise(2, 1_000));
        window.iter().for_each(|&byte| rolling.push(byte));
        assert_eq!(index.find(rolling), Some(at), "only the last bytes count");
    }
}

#[test]
fn a_hole_is_read_as_zeros_and_not_looked_for() {
    let (old, new) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    for (file, at) in [(&old, 4_000_000), (&new, 6_000_000)] {
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&noise(1, 100_000), at).unwrap();
    }
    let size = 64 << 20;
    let delta = delta(Version { file: &old, size }, Version { file: &new, size }, u64::MAX).unwrap().unwrap();
    assert!(delta.copies.is_empty(), "compared in place");
}

#[derive(Clone, Debug)]
enum Edit {
    Insert { at: usize, seed: u64, len: usize },
    Remove { at: usize, len: usize },
    Overwrite { at: usize, seed: u64, len: usize },
    Move { from: usize, to: usize, len: usize },
    Zero { at: usize, len: usize },
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let (at, len) = (0_usize..900_000, prop_oneof![0_usize..50, 0_usize..5_000, 0_usize..200_000]);
    let edit = prop_oneof![
        (at.clone(), 0_u64..9, len.clone()).prop_map(|(at, seed, len)| Edit::Insert { at, seed, len }),
        (at.clone(), len.clone()).prop_map(|(at, len)| Edit::Remove { at, len }),
        (at.clone(), 0_u64..9, len.clone()).prop_map(|(at, seed, len)| Edit::Overwrite { at, seed, len }),
        (at.clone(), at.clone(), len.clone()).prop_map(|(from, to, len)| Edit::Move { from, to, len }),
        (at, len).prop_map(|(at, len)| Edit::Zero { at, len }),
    ];
    prop::collection::vec(edit, 0..8)
}

fn edited(old: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = old.to_vec();
    let range = |bytes: &Vec<u8>, at: usize, len: usize| {
        let start = at.min(bytes.len());
        start..(start + len).min(bytes.len())
    };
    for edit in edits {
        match *edit {
            Edit::Insert { at, seed, len } => {
                let at = at.min(bytes.len());
                bytes.splice(at..at, noise(seed, len));
            }
            Edit::Remove { at, len } => drop(bytes.drain(range(&bytes, at, len))),
            Edit::Overwrite { at, seed, len } => {
                let range = range(&bytes, at, len);
                let len = range.len();
                bytes[range].copy_from_slice(&noise(seed, len));
            }
            Edit::Move { from, to, len } => {
                let moved: Vec<u8> = bytes.drain(range(&bytes, from, len)).collect();
                let to = to.min(bytes.len());
                bytes.splice(to..to, moved);
            }
            Edit::Zero { at, len } => {
                let range = range(&bytes, at, len);
                bytes[range].fill(0);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_delta_turns_the_old_file_into_the_new_one(
        seed in 0_u64..5,
        size in prop_oneof![0_usize..100, 0_usize..10_000, 0_usize..900_000],
        text in any::<bool>(),
        edits in edits(),
    ) {
        let old = if text {
            noise(seed, size).iter().map(|byte| b"ab \n"[usize::from(byte % 4)]).collect()
        } else {
            noise(seed, size)
        };
        let new = edited(&old, &edits);
        for method in [&Best as &dyn Method, &Shifted, &in_place::InPlace] {
            proven(method, &old, &new);
        }
    }

    /// Whatever is inserted, removed and moved, what is new is found to be little.
    #[test]
    fn a_delta_holds_little_more_than_what_is_new(seed in 0_u64..5, edits in edits()) {
        let old = noise(seed + 100, 900_000);
        let new = edited(&old, &edits);
        let fresh: usize = edits.iter().map(|edit| match edit {
            Edit::Insert { len, .. } | Edit::Overwrite { len, .. } | Edit::Zero { len, .. } => *len,
            Edit::Remove { .. } | Edit::Move { .. } => 0,
        }).sum();
        let delta = proven(&Shifted, &old, &new);
        let places = 4 * edits.len() as u64 + 2;
        if let Some(delta) = delta {
            prop_assert!(delta.cost() <= fresh as u64 + places * 128, "{} of {fresh}", delta.cost());
        }
    }
}
