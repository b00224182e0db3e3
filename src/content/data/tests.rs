use super::super::fixture::*;
use super::*;
use proptest::prelude::*;
use std::fs;

/// Ends a data file with the given command buffer; what was said of it, and its bytes.
fn finish(data: DataFile, path: &Path) -> (u64, Vec<[u8; 32]>, Vec<u8>) {
    let said = data.finish(None, |len, leaves| ((len, leaves.to_vec()), b"commands".to_vec())).unwrap();
    (said.0, said.1, fs::read(path).unwrap())
}

#[test]
fn the_command_buffer_stands_at_a_page_behind_the_data() {
    for (len, offset) in [(0, 0), (1, 4_096), (4_096, 4_096), (4_097, 8_192)] {
        let scratch = Scratch::new();
        let path = scratch.path().join("out");
        let mut data = DataFile::create(&path).unwrap();
        data.write_all(&noise(1, len)).unwrap();
        let (data_len, leaves, bytes) = finish(data, &path);
        assert_eq!((data_len, leaves.len()), (len as u64, len.div_ceil(LEAF_LEN as usize)));
        assert_eq!(bytes.len(), offset + 8);
        assert_eq!((&bytes[..len], &bytes[offset..]), (&noise(1, len)[..], &b"commands"[..]));
        assert!(bytes[len..offset].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn an_assignment_that_is_given_up_leaves_no_file() {
    let scratch = Scratch::new();
    let mut data = DataFile::create(&scratch.path().join("out")).unwrap();
    data.write_all(&noise(1, 600_000)).unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    drop(data);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    Align,
    Rewind(prop::sample::Index),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_rewound_the_leaves_are_those_of_the_bytes(
        ops in prop::collection::vec(prop_oneof![
            3 => (0_usize..600_000).prop_map(Op::Write),
            1 => Just(Op::Align),
            1 => any::<prop::sample::Index>().prop_map(Op::Rewind),
        ], 0..12)
    ) {
        let scratch = Scratch::new();
        let path = scratch.path().join("out");
        let mut data = DataFile::create(&path).unwrap();
        let mut expected = Vec::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Write(len) => {
                    let bytes = noise(number as u64, len);
                    data.write_all(&bytes).unwrap();
                    expected.extend(bytes);
                }
                Op::Align => {
                    data.align().unwrap();
                    expected.resize(expected.len().next_multiple_of(ALIGN as usize), 0);
                }
                Op::Rewind(index) => {
                    let len = index.index(expected.len() + 1);
                    data.rewind(len as u64).unwrap();
                    expected.truncate(len);
                }
            }
            prop_assert_eq!(data.len(), expected.len() as u64);
        }
        let (len, leaves, bytes) = finish(data, &path);
        prop_assert_eq!(len, expected.len() as u64);
        prop_assert!(bytes[..expected.len()] == expected[..]);
        let of_bytes: Vec<_> = expected
            .chunks(LEAF_LEN as usize)
            .enumerate()
            .map(|(index, bytes)| leaf_hash(index as u32, bytes))
            .collect();
        prop_assert_eq!(leaves, of_bytes);
    }
}
