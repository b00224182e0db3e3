use super::*;
use crate::content::fixture::*;
use proptest::prelude::*;
use std::path::Path;

fn sparse(path: &Path, size: u64, writes: &[(u64, Vec<u8>)]) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, bytes) in writes {
        let len = bytes.len().min(size.saturating_sub(*offset) as usize);
        file.write_all_at(&bytes[..len], *offset).unwrap();
    }
    file
}

fn size(file: &File) -> u64 {
    file.metadata().unwrap().len()
}

fn compare(
    (old, old_size): (&File, u64),
    (new, new_size): (&File, u64),
    limit: u64,
) -> io::Result<Option<Delta>> {
    InPlace.delta(Version { file: old, size: old_size }, Version { file: new, size: new_size }, limit)
}

fn extents(old: &File, new: &File) -> Vec<(u64, u64)> {
    let delta = compare((old, size(old)), (new, size(new)), u64::MAX).unwrap().unwrap();
    delta.extents.iter().map(|extent| (extent.offset, extent.len)).collect()
}

#[test]
fn only_bytes_that_differ_are_named() {
    let scratch = Scratch::new();
    let bytes = noise(1, 1_000_000);
    let old = sparse(&scratch.path().join("old"), 1_000_000, &[(0, bytes.clone())]);
    let with = |edits: &[(usize, usize)]| {
        let mut bytes = bytes.clone();
        for &(offset, len) in edits {
            bytes[offset..offset + len].iter_mut().for_each(|byte| *byte ^= 0xff);
        }
        sparse(&scratch.path().join("new"), 1_000_000, &[(0, bytes)])
    };
    for (edits, expected) in [
        (vec![], vec![]),
        (vec![(0, 1)], vec![(0, 1)]),
        (vec![(999_999, 1)], vec![(999_999, 1)]),
        (vec![(4_000, 5_000)], vec![(4_000, 5_000)]),
        (vec![(262_140, 8)], vec![(262_140, 8)]),
        (vec![(10, 1), (50_000, 2)], vec![(10, 1), (50_000, 2)]),
        // Both in one block, or close across a border: one extent.
        (vec![(10, 1), (4_000, 1)], vec![(10, 3_991)]),
        (vec![(4_090, 1), (4_100, 1)], vec![(4_090, 11)]),
    ] {
        assert_eq!(extents(&old, &with(&edits)), expected, "{edits:?}");
    }
}

#[test]
fn a_file_grows_by_its_new_bytes_and_shrinks_for_nothing() {
    let scratch = Scratch::new();
    let short = sparse(&scratch.path().join("short"), 10_000, &[(0, noise(1, 10_000))]);
    let long = sparse(&scratch.path().join("long"), 30_000, &[(0, noise(1, 30_000))]);
    let zeros = sparse(&scratch.path().join("zeros"), 9_000_000, &[(0, noise(1, 10_000))]);
    assert_eq!(extents(&short, &long), [(10_000, 20_000)]);
    assert_eq!(extents(&long, &short), []);
    assert_eq!(extents(&short, &zeros), [], "behind the old end all is zero");
}

#[test]
fn a_hole_that_takes_the_place_of_data_is_zeros() {
    let scratch = Scratch::new();
    let full = sparse(&scratch.path().join("full"), 500_000, &[(0, vec![7; 500_000])]);
    let holed =
        sparse(&scratch.path().join("holed"), 500_000, &[(0, vec![7; 4_096]), (400_000, vec![7; 100_000])]);
    assert_eq!(extents(&full, &holed), [(4_096, 395_904)]);
    assert_eq!(extents(&holed, &full), [(4_096, 395_904)]);
}

#[test]
fn too_many_changed_bytes_end_the_comparison() {
    let scratch = Scratch::new();
    let old = sparse(&scratch.path().join("old"), 100, &[(0, vec![1; 100])]);
    let new = sparse(&scratch.path().join("new"), 100, &[(0, vec![2; 60])]);
    assert!(compare((&old, 100), (&new, 100), 100).unwrap().is_some());
    assert!(compare((&old, 100), (&new, 100), 99).unwrap().is_none());
}

#[test]
fn a_file_shorter_than_said_is_an_error() {
    let scratch = Scratch::new();
    let file = sparse(&scratch.path().join("old"), 100, &[(0, vec![1; 100])]);
    let error = compare((&file, 100), (&file, 200), 100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_extents_turn_the_old_file_into_the_new_one(
        sizes in (0_u64..700_000, 0_u64..700_000),
        common in prop::collection::vec((0_u64..700_000, 0_u64..5, 0_usize..100_000), 0..5),
        own in prop::collection::vec((0_u64..700_000, 5_u64..9, 0_usize..30_000), 0..5),
    ) {
        let scratch = Scratch::new();
        let writes = |list: &[(u64, u64, usize)]| -> Vec<_> {
            list.iter().map(|&(offset, seed, len)| (offset, noise(seed, len))).collect()
        };
        let clip = |writes: Vec<(u64, Vec<u8>)>, size: u64| -> Vec<_> {
            writes.into_iter().filter(|(offset, _)| *offset < size).collect()
        };
        let old = sparse(&scratch.path().join("old"), sizes.0, &clip(writes(&common), sizes.0));
        let all = [writes(&common), writes(&own)].concat();
        let new = sparse(&scratch.path().join("new"), sizes.1, &clip(all, sizes.1));
        let delta = compare((&old, sizes.0), (&new, sizes.1), u64::MAX).unwrap().unwrap();

        let mut bytes = vec![0; sizes.0 as usize];
        old.read_exact_at(&mut bytes, 0).unwrap();
        prop_assert_eq!(*blake3::hash(&bytes).as_bytes(), delta.base);
        bytes.resize(sizes.1 as usize, 0);
        let mut end = 0;
        for extent in &delta.extents {
            prop_assert!(extent.offset >= end && extent.len > 0);
            end = extent.offset + extent.len;
            new.read_exact_at(&mut bytes[extent.offset as usize..end as usize], extent.offset).unwrap();
        }
        prop_assert_eq!(*blake3::hash(&bytes).as_bytes(), delta.hash);
        prop_assert_eq!(hash_of(&scratch.path().join("new")), delta.hash);
        prop_assert_eq!(delta.changed, delta.extents.iter().map(|extent| extent.len).sum::<u64>());
    }
}
