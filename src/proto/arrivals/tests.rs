use super::*;
use crate::proto::random::Rng;

const LEAST: Duration = Duration::from_millis(2);

fn at(micros: u64) -> Instant {
    Instant::ZERO + Duration::from_micros(micros)
}

#[test]
fn numbers_go_on_behind_thirty_two_bits() {
    for (near, low, number) in [
        (0, 5, 5),
        (5, 0, 0),
        (0, u32::MAX, u64::from(u32::MAX)),
        (0xffff_fff0, 3, 0x1_0000_0003),
        (0x1_0000_0003, 0xffff_fff0, 0xffff_fff0),
        (0x7_0000_0000, 0xffff_ffff, 0x6_ffff_ffff),
        (0x7_8000_0000, 0x8000_0000, 0x7_8000_0000),
    ] {
        assert_eq!(expand(near, low), number, "{low} near {near}");
    }
}

#[test]
fn frames_are_counted_once_however_they_are_ordered() {
    let mut arrivals = Arrivals::new(LEAST);
    for sent in [1, 2, 2, 5, 3, 5, 17_030, 17_029, 17_030, 3, 9, 9, 500_000, 499_999, 1] {
        arrivals.note(at(0), sent);
    }
    arrivals.settle(at(5_000));
    // 1, 2, 5, 3, 17,030, 17,029, 500,000 and 499,999; what is too old is not counted again.
    assert_eq!((arrivals.seen(), arrivals.settled(), arrivals.received()), (500_000, 500_000, 8));
}

#[test]
fn what_is_overtaken_is_lost_only_when_it_has_been_behind_for_long_enough() {
    let mut arrivals = Arrivals::new(LEAST);
    arrivals.note(at(0), 1);
    arrivals.note(at(100), 3);
    assert_eq!((arrivals.settled(), arrivals.received()), (1, 1));
    assert_eq!(arrivals.settles_at(), Some(at(2_100)));
    arrivals.note(at(1_000), 4);
    arrivals.note(at(1_900), 5);
    assert_eq!(arrivals.settled(), 1);
    arrivals.settle(at(3_900));
    assert_eq!((arrivals.settled(), arrivals.received()), (5, 4));
    assert_eq!(arrivals.settles_at(), None);
    arrivals.note(at(4_000), 2);
    assert_eq!((arrivals.settled(), arrivals.received()), (5, 5), "it was not lost");
}

#[test]
fn late_frames_teach_how_long_to_wait_and_are_forgotten() {
    let mut arrivals = Arrivals::new(LEAST);
    for sent in (1..400).filter(|&sent| sent != 7) {
        arrivals.note(at(u64::from(sent) * 100), sent);
    }
    assert_eq!(arrivals.allowance(), LEAST);
    arrivals.note(at(40_000), 7);
    let learned = arrivals.allowance();
    assert!(learned > Duration::from_millis(40) && learned < Duration::from_millis(55), "{learned:?}");
    arrivals.note(at(40_100), 401);
    arrivals.note(at(80_000), 402);
    assert_eq!(arrivals.settled(), 399, "the next one is waited for");
    // Other frames that come a little late, much later.
    arrivals.note(at(20_000_000), 404);
    arrivals.note(at(20_000_100), 403);
    assert_eq!(arrivals.allowance(), LEAST);
}

/// Whatever the order: numbers up to the settled one are counted as a table of all of them would.
#[test]
fn counts_are_those_of_a_full_table() {
    let mut rng = Rng::new(3);
    for _ in 0..50 {
        let mut arrivals = Arrivals::new(LEAST);
        let start = rng.below(1 << 33);
        let mut table = std::collections::BTreeSet::new();
        let mut sent = start;
        arrivals.seen = start;
        arrivals.settled = start;
        for step in 0..2_000 {
            sent += 1 + rng.below(3);
            let number = sent.saturating_sub(rng.below(200)).max(start + 1);
            assert_eq!(arrivals.note(at(step * 150), number as u32), number);
            table.insert(number);
            let counted = table.range(..=arrivals.settled()).count() as u64;
            assert_eq!((arrivals.seen(), arrivals.received()), (*table.last().expect("one"), counted));
        }
    }
}

/// One that overtakes hundreds tells nothing of the time that frames take; one that came late does.
#[test]
fn the_latest_is_none_that_overtook_many() {
    let mut arrivals = Arrivals::new(LEAST);
    for (sent, latest) in [(7, 7), (8, 8), (24, 24), (41, 24), (400, 24), (25, 25), (42, 42), (401, 401)] {
        arrivals.note(at(0), sent);
        assert_eq!(arrivals.latest(), latest, "after {sent}");
    }
}
