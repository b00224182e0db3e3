use super::*;
use crate::proto::aggregate::{count_bits, first_bits, set_bits};
use crate::proto::random::Rng;
use crate::wire::id::SessionId;

const K: u16 = 183;

fn lacking(block: u32, runs: &[(u16, u16)]) -> Lacking {
    let mut missing = Bits::default();
    for &(first, count) in runs {
        set_bits(&mut missing, first, count);
    }
    Lacking { block, sources: K, frames: count_bits(&missing), missing }
}

fn told(repair: Repair, blocks: &[Lacking]) -> Vec<Nack> {
    let parts = tell(&Nack::empty(SessionId(1), 1), repair, blocks.iter().copied(), 100_000);
    for (at, part) in parts.iter().enumerate() {
        assert_eq!((usize::from(part.part), usize::from(part.parts)), (at, parts.len()));
        assert!(part.lacks.len() + part.ranges.len() <= Nack::LACKS_MAX);
    }
    parts
}

fn lacks(nack: &Nack) -> Vec<(u32, u32, u16)> {
    nack.lacks.iter().map(|lack| (lack.first, lack.count, lack.lack)).collect()
}

fn ranges(nack: &Nack) -> Vec<(u32, u16, u32)> {
    nack.ranges.iter().map(|range| (range.block, range.first, range.count)).collect()
}

#[test]
fn by_parity_frames_are_counted_and_named_only_where_many_lack_in_few_runs() {
    let scattered: Vec<(u16, u16)> = (0..40).map(|n| (n * 4, 1)).collect();
    let blocks = [
        lacking(0, &[(5, 2)]),
        lacking(1, &[(9, 1), (11, 1)]),
        lacking(3, &[(0, 17)]),
        lacking(4, &scattered),
        lacking(5, &[(0, K)]),
        lacking(6, &[(0, K)]),
    ];
    let list = &told(Repair::Parity, &blocks)[..];
    assert_eq!(list.len(), 1);
    assert_eq!(lacks(&list[0]), [(0, 2, 2), (3, 1, 17), (4, 1, 40), (5, 2, K)]);
    assert_eq!(ranges(&list[0]), [(3, 0, 17)]);
}

#[test]
fn resent_frames_are_named_and_a_run_goes_on_through_blocks() {
    let blocks = [
        lacking(0, &[(5, 2), (180, 3)]),
        lacking(1, &[(0, K)]),
        lacking(2, &[(0, 1)]),
        lacking(9, &[(0, 1)]),
    ];
    let list = told(Repair::Resend, &blocks);
    assert_eq!(list.len(), 1);
    assert!(list[0].lacks.is_empty());
    assert_eq!(ranges(&list[0]), [(0, 5, 2), (0, 180, 3 + 183 + 1), (9, 0, 1)]);
}

#[test]
fn a_list_of_names_that_does_not_fit_comes_in_parts_and_names_all() {
    let mut rng = Rng::new(9);
    // 100 MiB at 1 % loss.
    let blocks: Vec<Lacking> = (0..400)
        .map(|block| {
            let runs: Vec<(u16, u16)> = (0..K).filter(|_| rng.chance(0.01)).map(|index| (index, 1)).collect();
            lacking(block, &runs)
        })
        .filter(|block| block.frames > 0)
        .collect();
    let lost: u64 = blocks.iter().map(|block| u64::from(block.frames)).sum();
    let parts = told(Repair::Resend, &blocks);
    let named: u64 = parts.iter().flat_map(|part| &part.ranges).map(|range| u64::from(range.count)).sum();
    assert!(parts.len() > 3 && parts.iter().all(|part| !part.more) && named == lost, "{} parts", parts.len());
}

#[test]
fn a_list_of_names_too_long_for_all_parts_is_cut_and_says_so() {
    let blocks: Vec<Lacking> = (0..5_000).map(|block| lacking(block, &[(0, 1), (100, 1)])).collect();
    let parts = told(Repair::Resend, &blocks);
    assert_eq!(parts.len(), usize::from(Nack::PARTS_MAX));
    assert!(parts.iter().all(|part| part.more));
    // Runs that are near each other become one first.
    let near: Vec<Lacking> = (0..2_000).map(|block| lacking(block, &[(0, 9), (11, 9)])).collect();
    let parts = told(Repair::Resend, &near);
    assert!(!parts[0].more);
    assert_eq!(ranges(&parts[0])[0], (0, 0, 20));
}

#[test]
fn a_list_of_counts_too_scattered_to_coarsen_is_cut_and_says_so() {
    let mut runs: Vec<Lack> =
        (0..1_000).map(|run| Lack { first: run * 1_000, count: 1, lack: 1 + (run % 2) as u16 }).collect();
    coarsen(&mut runs, Nack::LACKS_MAX, 100);
    assert!(runs.len() > Nack::LACKS_MAX);
    let blocks: Vec<Lacking> = (0..1_000).map(|block| lacking(block * 1_000, &[(0, 1)])).collect();
    let list = tell(&Nack::empty(SessionId(1), 1), Repair::Parity, blocks.into_iter(), 100);
    assert!(list[0].more && list[0].lacks.len() == Nack::LACKS_MAX);
}

#[test]
fn who_lacks_nothing_tells_it_in_one_empty_list() {
    for repair in [Repair::Parity, Repair::Resend] {
        let list = told(repair, &[]);
        assert!(list.len() == 1 && list[0].is_complete());
    }
    assert_eq!(count_bits(&first_bits(K)), K);
}
