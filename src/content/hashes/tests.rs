use super::super::fixture::*;
use super::*;
use std::fs;

fn entry(path: &str, size: u64, mtime: i64, inode: u64) -> Entry {
    let kind = EntryKind::File { size, inode: (1, inode), links: 1 };
    Entry { path: rel(path.as_bytes()), kind, mode: 0o644, mtime }
}

/// A cache of three files, saved.
fn saved(path: &Path) {
    let mut cache = Cache::open(path);
    for (number, name) in ["a/b", "a.b", "c"].into_iter().enumerate() {
        cache.keep(&entry(name, 10, 20, number as u64), [number as u8; 32]);
    }
    cache.save().unwrap();
}

#[test]
fn what_is_kept_is_found_next_time() {
    let scratch = Scratch::new();
    let path = scratch.path().join("hashes");
    saved(&path);
    let mut cache = Cache::open(&path);
    assert_eq!(cache.find(&entry("a", 10, 20, 0)), None);
    assert_eq!(cache.find(&entry("a/b", 10, 20, 0)), Some([0; 32]));
    assert_eq!(cache.find(&entry("c", 10, 20, 2)), Some([2; 32]));
    assert_eq!(cache.find(&entry("d", 10, 20, 2)), None);
}

#[test]
fn a_file_that_differs_in_anything_is_not_known() {
    let scratch = Scratch::new();
    let path = scratch.path().join("hashes");
    saved(&path);
    for other in [entry("c", 11, 20, 2), entry("c", 10, 21, 2), entry("c", 10, 20, 3)] {
        assert_eq!(Cache::open(&path).find(&other), None);
    }
}

#[test]
fn what_is_not_saved_leaves_the_old_cache_and_no_file_beside_it() {
    let scratch = Scratch::new();
    let path = scratch.path().join("hashes");
    saved(&path);
    let before = fs::read(&path).unwrap();
    let mut cache = Cache::open(&path);
    cache.keep(&entry("x", 1, 2, 3), [9; 32]);
    drop(cache);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_cut_or_foreign_cache_counts_as_empty() {
    let scratch = Scratch::new();
    let path = scratch.path().join("hashes");
    saved(&path);
    let whole = fs::read(&path).unwrap();
    let unknown = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        assert_eq!(Cache::open(&path).find(&entry("a/b", 10, 20, 0)), None);
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        unknown(&bytes);
        unknown(&whole[..at]);
    }
    // Of another version, with a checksum that fits.
    let mut bytes = whole[..whole.len() - 8].to_vec();
    bytes[5] += 1;
    bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_be_bytes());
    unknown(&bytes);
}

#[test]
fn a_cache_that_cannot_be_written_fails_only_when_saved() {
    let scratch = Scratch::new();
    let mut cache = Cache::open(&scratch.path().join("missing/hashes"));
    assert_eq!(cache.find(&entry("x", 1, 2, 3)), None);
    cache.keep(&entry("x", 1, 2, 3), [9; 32]);
    assert!(cache.save().is_err());
}
