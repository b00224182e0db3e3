use super::*;
use crate::wire::id::{ObjectName, SessionId};
use crate::wire::nack::{FrameRange, Lack};

const PAYLOAD: u16 = 1_436;
/// Source frames of a full block.
const K: u16 = 183;

/// A command buffer of one block of 2 frames, and full blocks behind it.
fn plan(blocks: u64, repair: Repair) -> Plan {
    let shape = Shape { name: ObjectName([0; 32]), command_len: 2_000, data_len: blocks << 18 };
    Plan::new(shape, PAYLOAD, repair)
}

fn nack(lacks: &[(u32, u32, u16)], ranges: &[(u32, u16, u32)]) -> Nack {
    let lacks = lacks.iter().map(|&(first, count, lack)| Lack { first, count, lack }).collect();
    let ranges = ranges.iter().map(|&(block, first, count)| FrameRange { block, first, count }).collect();
    Nack { lacks, ranges, ..Nack::empty(SessionId(1), 1) }
}

fn all(plan: &mut Plan) -> Vec<Stretch> {
    std::iter::from_fn(|| plan.advance(1_000)).map(|(stretch, _)| stretch).collect()
}

/// What a pass behind the first sends after these lists.
fn pass(plan: &mut Plan, lists: &[Nack]) -> Vec<Stretch> {
    for list in lists {
        plan.merge(list, |_| true);
    }
    plan.begin(Effort::default());
    all(plan)
}

#[test]
fn the_first_pass_sends_the_source_frames_and_no_others() {
    for repair in [Repair::Parity, Repair::Resend] {
        let mut plan = plan(2, repair);
        plan.fill();
        plan.begin(Effort { first: true, ..Effort::default() });
        assert_eq!(all(&mut plan), [(0, 0, 2), (1, 0, K), (2, 0, K)]);
        assert!(!plan.has_work() && plan.is_empty());
    }
}

#[test]
fn what_was_resumed_in_mid_block_is_completed_by_parity_or_by_name() {
    let mut parity = plan(2, Repair::Parity);
    parity.merge(&nack(&[(1, 1, 5)], &[]), |_| true);
    parity.begin(Effort { first: true, ..Effort::default() });
    assert_eq!(all(&mut parity), [(1, K, 5)]);
    let mut resend = plan(2, Repair::Resend);
    resend.merge(&nack(&[], &[(1, 7, 5)]), |_| true);
    resend.begin(Effort { first: true, ..Effort::default() });
    assert_eq!(all(&mut resend), [(1, 7, 5)]);
}

#[test]
fn resending_sends_the_union_each_frame_once_a_pass() {
    let mut plan = plan(2, Repair::Resend);
    let lists = [nack(&[], &[(0, 1, 1), (1, 10, 5)]), nack(&[], &[(1, 12, 6), (2, 182, 1)])];
    assert_eq!(pass(&mut plan, &lists), [(0, 1, 1), (1, 10, 8), (2, 182, 1)]);
    assert_eq!(pass(&mut plan, &[nack(&[], &[(1, 10, 1)])]), [(1, 10, 1)], "the next pass begins anew");
}

#[test]
fn frames_that_all_lack_are_sent_again_instead_of_parity() {
    // 64 frames that the sender's link lost, and a few more at each of three members.
    let members = [nack(&[(1, 1, 65)], &[(1, 40, 64), (1, 3, 1)]), nack(&[(1, 1, 64)], &[(1, 40, 64)])];
    assert_eq!(pass(&mut plan(1, Repair::Parity), &members), [(1, 3, 1), (1, 40, 64)]);
}

#[test]
fn frames_that_each_lacks_differently_are_repaired_by_parity() {
    let members = [nack(&[(1, 1, 40)], &[(1, 0, 40)]), nack(&[(1, 1, 30)], &[(1, 100, 30)])];
    assert_eq!(pass(&mut plan(1, Repair::Parity), &members), [(1, K, 40)]);
}

#[test]
fn who_only_counted_gets_parity_for_what_the_named_frames_will_not_bring() {
    // Of 6 frames anywhere in the block, a third is among the 61 that are sent anyway.
    let members = [nack(&[(1, 1, 61)], &[(1, 0, 61)]), nack(&[(1, 1, 6)], &[])];
    assert_eq!(pass(&mut plan(1, Repair::Parity), &members), [(1, 0, 61), (1, K, 4)]);
}

#[test]
fn a_block_that_somebody_lacks_whole_is_sent_whole_and_serves_all() {
    let members = [nack(&[(1, 2, K)], &[]), nack(&[(1, 1, 9)], &[])];
    assert_eq!(pass(&mut plan(2, Repair::Parity), &members), [(1, 0, K), (2, 0, K)]);
    // A small block is rebuilt in no time, and fresh parity helps whoever lost something else.
    assert_eq!(pass(&mut plan(2, Repair::Parity), &[nack(&[(0, 1, 2)], &[])]), [(0, 2, 2)]);
}

#[test]
fn what_is_urgent_goes_before_the_rest_of_the_pass() {
    let mut plan = plan(3, Repair::Parity);
    plan.fill();
    plan.begin(Effort { first: true, ..Effort::default() });
    assert_eq!(plan.advance(44), Some(((0, 0, 2), false)));
    assert_eq!(plan.advance(44), Some(((1, 0, 44), false)));
    assert_eq!(plan.merge_urgent(&nack(&[(0, 1, 1)], &[]), |_| true), 1);
    assert_eq!(plan.merge_urgent(&nack(&[(0, 1, 2)], &[]), |_| true), 2);
    assert_eq!(plan.merge_urgent(&nack(&[(2, 1, 2)], &[]), |_| false), 0);
    assert_eq!(plan.advance(1_000), Some(((1, 44, K - 44), false)), "the block at hand first");
    assert_eq!(plan.advance(1_000), Some(((0, 2, 2), true)), "the worst of both, once");
    assert_eq!(all(&mut plan), [(2, 0, K), (3, 0, K)]);
    // Behind the last block of the pass as well.
    plan.merge_urgent(&nack(&[(3, 1, 1)], &[]), |_| true);
    assert!(plan.has_work());
    assert_eq!(plan.advance(1_000), Some(((3, K, 1), true)));
    assert!(!plan.has_work());
}

#[test]
fn names_without_a_count_ask_for_nothing_where_parity_repairs() {
    let mut plan = plan(2, Repair::Parity);
    assert_eq!(pass(&mut plan, &[nack(&[(2, 1, 1)], &[(1, 0, 50)])]), [(2, K, 1)]);
}
