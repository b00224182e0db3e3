use super::*;
use crate::proto::random::Rng;
use crate::wire::id::SessionId;
use crate::wire::nack::Lack;

fn nack(lacks: &[(u32, u32, u16)], ranges: &[(u32, u16, u32)]) -> Nack {
    let lacks = lacks.iter().map(|&(first, count, lack)| Lack { first, count, lack }).collect();
    let ranges = ranges.iter().map(|&(block, first, count)| FrameRange { block, first, count }).collect();
    Nack { lacks, ranges, ..Nack::empty(SessionId(1), 1) }
}

/// Of blocks with 10 frames.
fn merge(all: &mut Aggregate, nack: &Nack) -> u64 {
    all.merge(nack, |_| 10, |_| true)
}

fn bits(of: &[u16]) -> Bits {
    let mut bits = Bits::default();
    for index in of {
        set_bits(&mut bits, *index, 1);
    }
    bits
}

#[test]
fn each_block_lacks_what_the_worst_member_lacks_not_the_sum() {
    let mut all = Aggregate::new(8);
    assert_eq!(merge(&mut all, &nack(&[(0, 2, 1), (5, 1, 3)], &[])), 5);
    assert_eq!(merge(&mut all, &nack(&[(1, 4, 2)], &[])), 8);
    let lacks: Vec<u16> = (0..8).map(|block| all.lack(block).counted).collect();
    assert_eq!(lacks, [1, 2, 2, 2, 2, 3, 0, 0]);
    assert_eq!((all.next_lacking(0), all.next_lacking(5), all.next_lacking(6)), (Some(0), Some(5), None));
    assert_eq!(all.next_lacking(100), None);
    all.clear();
    assert!(all.is_empty());
}

#[test]
fn named_frames_are_a_union() {
    let mut all = Aggregate::new(4);
    assert_eq!(merge(&mut all, &nack(&[], &[(1, 2, 3), (1, 7, 1)])), 4);
    assert_eq!(merge(&mut all, &nack(&[], &[(1, 3, 2), (3, 0, 1)])), 3);
    assert_eq!(all.lack(1).named, bits(&[2, 3, 4, 7]));
    assert_eq!(
        (all.next_lacking(0), all.next_lacking(2), all.lack(2)),
        (Some(1), Some(3), BlockLack::default())
    );
    assert_eq!(all.take(3).named, bits(&[0]));
    assert_eq!(all.next_lacking(2), None);
}

#[test]
fn a_range_runs_on_into_the_next_blocks() {
    let mut all = Aggregate::new(4);
    assert_eq!(merge(&mut all, &nack(&[], &[(0, 8, 14)])), 14);
    let counts: Vec<u16> = (0..4).map(|block| count_bits(&all.lack(block).named)).collect();
    assert_eq!(counts, [2, 10, 2, 0]);
}

#[test]
fn who_counts_and_who_names_is_kept_apart() {
    let mut all = Aggregate::new(4);
    // One that names the frames of block 1 and only counts those of blocks 0 and 2.
    assert_eq!(merge(&mut all, &nack(&[(0, 1, 1), (1, 1, 6), (2, 1, 2)], &[(1, 3, 6)])), 9);
    assert_eq!(merge(&mut all, &nack(&[(1, 1, 3)], &[])), 3);
    assert_eq!(all.lack(1), BlockLack { counted: 3, most_named: 6, named: bits(&[3, 4, 5, 6, 7, 8]) });
    assert_eq!((all.lack(0).counted, all.lack(2).counted), (1, 2));
}

#[test]
fn a_list_beyond_the_object_is_cut_at_its_end() {
    let mut all = Aggregate::new(4);
    assert_eq!(merge(&mut all, &nack(&[(3, u32::MAX - 3, 1_000), (u32::MAX, 1, 1)], &[])), 10);
    assert_eq!((all.lack(2).counted, all.lack(3).counted), (0, 10));
    assert_eq!(merge(&mut all, &nack(&[], &[(3, 9, u32::MAX), (9, 0, 5)])), 1);
    assert_eq!(
        merge(&mut all, &nack(&[], &[(2, 40, 3), (u32::MAX, u16::MAX, u32::MAX)])),
        3,
        "runs on into 3"
    );
}

/// What the list costs is bounded by the object, whatever the ranges say.
#[test]
fn ranges_that_overlap_are_cut_at_the_next() {
    let mut all = Aggregate::new(1_000);
    let greedy: Vec<(u32, u16, u32)> = (0..100).map(|block| (block, 0, u32::MAX)).collect();
    assert_eq!(merge(&mut all, &nack(&[], &greedy)), 10_000);
}

#[test]
fn blocks_that_do_not_count_are_passed_over() {
    let mut all = Aggregate::new(4);
    let list = nack(&[(0, 4, 2)], &[]);
    assert_eq!(all.merge(&list, |_| 10, |block| block == 2), 2);
    assert_eq!(all.next_lacking(0), Some(2));
    let list = nack(&[], &[(0, 0, 40)]);
    assert_eq!(all.merge(&list, |_| 10, |block| block == 1), 10);
    assert_eq!(count_bits(&all.lack(0).named) + count_bits(&all.lack(3).named), 0);
}

#[test]
fn bits_are_set_and_found_as_runs() {
    let mut rng = Rng::new(3);
    for _ in 0..500 {
        let (first, count) = (rng.below(260) as u16, rng.below(260) as u16);
        let mut bits = Bits::default();
        set_bits(&mut bits, first, count);
        let expected = 256_u16.saturating_sub(first).min(count);
        assert_eq!(count_bits(&bits), expected);
        assert_eq!(first_run(&bits), (expected > 0).then_some((first, expected)), "{first} {count}");
    }
    assert_eq!(first_run(&bits(&[3, 4, 70])), Some((3, 2)));
    assert_eq!((count_bits(&first_bits(183)), first_run(&first_bits(256))), (183, Some((0, 256))));
}
