use super::*;
use crate::wire::id::SessionId;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn report(seen: u32, dropped: u32, room: u16) -> Progress {
    Progress { session: SessionId(1), seen, latest: seen, settled: seen, received: seen, dropped, room }
}

#[test]
fn no_more_is_on_its_way_than_the_least_room() {
    let mut window = Window::new(at(0), true, &[A, B]);
    // Before anybody has said how much it can hold, as much as any socket holds.
    assert_eq!(window.allow(at(0), 0, 44), 44);
    assert_eq!(window.allow(at(0), 44, 44), 20);
    assert_eq!(window.allow(at(0), 64, 44), 0);
    window.on_progress(at(1), 64, A, &report(64, 0, 1_000));
    assert_eq!(window.allow(at(1), 64, 44), 0, "the other has read nothing yet");
    window.on_progress(at(1), 64, B, &report(64, 0, 200));
    assert_eq!(window.allow(at(1), 64, 44), 44);
    assert_eq!(window.allow(at(1), 64 + 170, 44), 0, "less than a batch is not worth a call");
    window.leave(B);
    assert_eq!(window.allow(at(1), 64 + 900, 44), 44);
}

#[test]
fn a_socket_that_dropped_has_half_the_room() {
    let mut window = Window::new(at(0), true, &[A]);
    window.on_progress(at(1), 100, A, &report(100, 0, 1_000));
    window.on_progress(at(2), 100, A, &report(100, 1, 1_000));
    assert_eq!(window.allow(at(2), 100 + 480, 44), 0);
    assert_eq!(window.allow(at(2), 100 + 450, 44), 44);
}

#[test]
fn a_member_that_does_not_move_holds_the_others_once_and_until_it_speaks_again() {
    let mut window = Window::new(at(0), true, &[A, B]);
    window.on_progress(at(0), 64, A, &report(64, 0, 100));
    window.on_progress(at(0), 64, B, &report(64, 0, 100));
    window.on_progress(at(1), 164, A, &report(164, 0, 100));
    assert_eq!(window.allow(at(1), 164, 44), 0);
    assert_eq!(window.deadline(), Some(at(1) + STALE));
    window.turn(at(50), 164);
    assert_eq!(window.allow(at(50), 164, 44), 0);
    window.turn(at(51), 164);
    assert_eq!(window.allow(at(51), 164, 44), 44, "it is left out");
    window.on_progress(at(52), 208, A, &report(208, 0, 100));
    assert_eq!(window.allow(at(52), 208, 44), 44);
    window.on_progress(at(53), 208, B, &report(110, 0, 100));
    assert_eq!(window.allow(at(53), 208, 44), 0, "it moves, and counts again");
}

#[test]
fn a_member_that_is_always_the_last_is_left_out_for_good() {
    let mut window = Window::new(at(0), true, &[A, B]);
    let (mut sent, mut slow) = (0_u64, 0_u64);
    let mut given_up = None;
    for ms in 0..3_000 {
        sent += u64::from(window.allow(at(ms), sent, 44));
        window.turn(at(ms), sent);
        window.on_progress(at(ms), sent, A, &report(sent as u32, 0, 200));
        if ms % 10 == 0 {
            slow += 5;
            window.on_progress(at(ms), sent, B, &report(slow.min(sent) as u32, 0, 200));
        }
        if window.seats[&B].slow {
            given_up.get_or_insert(ms);
        }
    }
    assert!(given_up.is_some_and(|ms| ms <= 600), "{given_up:?}");
    assert!(!window.seats[&A].slow);
    assert!(sent - slow.min(sent) > 1_000, "the others are not held by it: {sent}");
}

#[test]
fn many_members_are_not_counted() {
    let mut window = Window::new(at(0), false, &[A, B]);
    assert_eq!(window.allow(at(0), 1_000_000, 44), 44);
    assert_eq!(window.deadline(), None);
}
