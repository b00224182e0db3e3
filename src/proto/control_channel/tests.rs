use super::*;
use crate::proto::random::Rng;
use crate::wire::id::Epoch;

const PROFILE: Profile = Profile::LAN;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn channel(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new([239, 1, 1, last].into(), 7)
}

fn from(seq: u64) -> Sender {
    Sender { node: NodeId(1), boot: 1, seq, epoch: Epoch(0) }
}

fn at_home() -> ControlChannel {
    ControlChannel::new(channel(1), channel(1), PROFILE)
}

/// EL-6, B-12: three leader-alives announce it, then the leader moves, and looks after the old channel.
#[test]
fn a_leader_announces_a_move_three_times_and_then_goes() {
    let mut leader = at_home();
    leader.on_lead();
    leader.order(at(10), channel(2)).unwrap();
    assert_eq!(leader.order(at(11), channel(3)), Err(Refused::Moving));
    let mut announced = 0;
    let end = leader.next_deadline().unwrap();
    for millis in (50..).step_by(50).take_while(|millis| at(*millis) < end) {
        let (to, moves_in) = leader.told(at(millis));
        assert_eq!((to, leader.present()), (channel(2), channel(1)));
        assert_eq!(at(millis + u64::from(moves_in)), at(185));
        assert_eq!(leader.pointers(at(millis)), []);
        announced += 1;
    }
    assert_eq!(announced, 3);
    assert_eq!(leader.on_timeout(at(184)), []);
    assert_eq!(leader.on_timeout(at(185)), [Event::Moved(channel(2))]);
    assert_eq!((leader.present(), leader.told(at(185))), (channel(2), (channel(2), 0)));
    assert_eq!(leader.joined().to_vec(), [channel(2)]);
    // Home is the channel that it left: three more there, and from then on every fourth.
    let pointed: Vec<bool> = (0..12).map(|n| leader.pointers(at(210 + n * 50)) == [channel(1)]).collect();
    let (yes, no) = (true, false);
    assert_eq!(pointed, [yes, yes, yes, no, yes, no, no, no, yes, no, no, no]);
    leader.ask();
    assert_eq!(leader.pointers(at(800)), [channel(1)]);
    assert_eq!(leader.order(at(900), channel(1)), Err(Refused::Moving), "it is on trial");
    assert_eq!(leader.on_timeout(at(4_185)), [Event::TrialOver { back: channel(1) }]);
    assert_eq!(leader.order(at(4_200), channel(2)), Err(Refused::There));
}

#[test]
fn a_move_from_one_channel_to_another_is_pointed_to_on_both_that_it_left() {
    let mut leader = ControlChannel::new(channel(1), channel(2), PROFILE);
    leader.on_lead();
    leader.order(at(0), channel(3)).unwrap();
    assert_eq!(leader.joined().to_vec(), [channel(2), channel(3)]);
    leader.on_timeout(at(175));
    assert_eq!(leader.joined().to_vec(), [channel(2), channel(3)]);
    assert_eq!(leader.pointers(at(175)), [channel(2), channel(1)]);
    leader.on_timeout(at(350));
    assert_eq!(leader.joined().to_vec(), [channel(3)]);
    leader.undo(at(400), channel(1));
    assert_eq!(leader.told(at(400)), (channel(1), 175));
    assert_eq!(leader.on_timeout(at(575)), [Event::Moved(channel(1))]);
    assert_eq!(leader.next_deadline(), Some(at(750)), "an undone move is not on trial");
    leader.on_timeout(at(750));
    assert_eq!((leader.joined().to_vec(), leader.pointers(at(800))), (vec![], vec![]));
}

#[test]
fn a_member_goes_when_it_was_told_to_and_says_once_that_it_hears_the_leader_there() {
    let mut member = at_home();
    assert!(!member.on_alive(at(0), &from(1), (channel(1), 0, false)), "it is where it was");
    assert!(!member.on_alive(at(50), &from(2), (channel(2), 125, false)));
    assert_eq!((member.present(), member.joined().to_vec()), (channel(1), vec![channel(2)]));
    assert_eq!(member.on_timeout(at(174)), []);
    assert_eq!(member.on_timeout(at(175)), [Event::Moved(channel(2))]);
    assert!(!member.on_alive(at(180), &from(4), (channel(2), 0, true)), "that came by the old channel");
    assert!(member.on_alive(at(200), &from(5), (channel(2), 0, false)));
    assert!(!member.on_alive(at(250), &from(6), (channel(2), 0, false)));
    assert_eq!(member.hears(), channel(2));
    // A late announcement of the time before does not lead back.
    assert!(!member.on_alive(at(251), &from(1), (channel(1), 0, false)));
    assert_eq!(member.present(), channel(2));
}

#[test]
fn a_member_that_missed_the_announcement_follows_the_first_pointer() {
    let mut member = at_home();
    member.on_alive(at(0), &from(1), (channel(1), 0, false));
    assert!(!member.on_alive(at(200), &from(9), (channel(2), 0, true)));
    assert_eq!((member.present(), member.hears()), (channel(2), channel(1)));
    assert!(member.on_alive(at(250), &from(10), (channel(2), 0, false)));
}

#[test]
fn a_member_that_loses_the_leader_for_good_returns_home() {
    let mut member = ControlChannel::new(channel(1), channel(2), PROFILE);
    member.on_alive(at(0), &from(1), (channel(2), 0, false));
    member.on_orphaned(at(400));
    let back = member.next_deadline().unwrap();
    assert!(back >= at(400) + PROFILE.claim_max + PROFILE.vote, "those on the channel elect first");
    assert_eq!(member.on_timeout(back), [Event::Returned]);
    assert_eq!(member.present(), channel(1));
    // With a new leader on the channel it stays.
    let mut stays = ControlChannel::new(channel(1), channel(2), PROFILE);
    stays.on_orphaned(at(400));
    stays.on_follow();
    assert_eq!(stays.next_deadline(), None);
}

#[test]
fn a_new_leader_stays_where_it_is_and_an_unfinished_move_is_off() {
    let mut member = at_home();
    member.on_alive(at(0), &from(1), (channel(2), 125, false));
    member.on_lead();
    assert_eq!(
        (member.present(), member.joined().to_vec(), member.next_deadline()),
        (channel(1), vec![], None)
    );
}

/// Whatever is said in whatever order: home is never left, the present channel is always joined, and what is
/// due comes to an end.
#[test]
fn any_sequence_of_events_keeps_the_channels_joined_that_matter() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut one = at_home();
        let mut now = Instant::ZERO;
        for seq in 0..200 {
            now += Duration::from_millis(rng.below(120));
            let to = channel(1 + rng.below(3) as u8);
            match rng.below(8) {
                0 => drop(one.order(now, to)),
                1 => one.undo(now, to),
                2 => one.on_lead(),
                3 => one.on_follow(),
                4 => one.on_orphaned(now),
                5 => drop(one.pointers(now)),
                _ => {
                    let said = (to, rng.below(2) as u32 * rng.below(200) as u32, rng.chance(0.3));
                    one.on_alive(now, &from(seq + rng.below(5)), said);
                }
            }
            let mut due = 0;
            while one.next_deadline().is_some_and(|at| at <= now) {
                one.on_timeout(now);
                due += 1;
                assert!(due < 4, "seed {seed}: {one:?} spins");
            }
            let (joined, present) = (one.joined().to_vec(), one.present());
            assert!(present == channel(1) || joined.contains(&present), "seed {seed}: {one:?}");
            assert!(joined.len() <= 3 && !joined.contains(&channel(1)), "seed {seed}: {one:?}");
        }
    }
}
