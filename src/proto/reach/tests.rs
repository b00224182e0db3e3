use super::*;
use crate::proto::random::Rng;

const LEADER: NodeId = NodeId(1);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn peer(node: u64) -> Peer {
    Peer { node: NodeId(node), datagram: format!("10.0.{}.{}:7411", node / 200, node % 200).parse().unwrap() }
}

fn hears(control: bool, data: bool) -> Hears {
    Hears { control, data }
}

/// A member that hears its leader from `at(0)` on.
fn member() -> Reach {
    let mut reach = Reach::new(Profile::LAN);
    reach.on_channels(at(0), true);
    assert!(reach.on_alive(at(0), LEADER, true));
    assert_eq!(reach.hears(), Hears::ALL);
    reach
}

fn leader() -> Reach {
    let mut reach = Reach::new(Profile::LAN);
    reach.on_lead(at(0));
    reach.on_timeout(at(0));
    reach
}

#[test]
fn who_listens_on_no_data_channel_misses_none() {
    let mut reach = Reach::new(Profile::LAN);
    assert!(reach.on_alive(at(0), LEADER, true));
    let quiet = |reach: &mut Reach, millis| {
        reach.on_alive(at(millis), LEADER, true);
        reach.on_multicast(at(millis), LEADER, false);
        reach.on_timeout(at(millis))
    };
    for millis in (0..3_000).step_by(50) {
        assert_eq!(quiet(&mut reach, millis), [], "at {millis} ms");
    }
    assert_eq!(reach.hears(), Hears::ALL);

    // It joins one: silence counts from then on.
    reach.on_channels(at(3_000), true);
    for millis in (3_000..3_900).step_by(50) {
        assert_eq!(quiet(&mut reach, millis), [], "at {millis} ms");
    }
    assert_eq!(quiet(&mut reach, 3_900), [Action::Tell]);
    assert_eq!(reach.hears(), Hears { control: true, data: false });
    reach.on_channels(at(3_950), false);
    assert_eq!(reach.hears(), Hears::ALL, "it has left it");
}

/// A session that begins right after the group was made would otherwise send frames that nobody hears.
#[test]
fn a_data_channel_that_is_joined_where_the_control_channel_is_blocked_counts_as_blocked() {
    let mut reach = Reach::new(Profile::LAN);
    assert!(reach.on_alive(at(0), LEADER, false));
    reach.on_channels(at(50), true);
    assert_eq!(reach.hears(), hears(false, false));
    for millis in [100, 150, 200] {
        reach.on_multicast(at(millis), LEADER, true);
    }
    assert_eq!(reach.hears(), hears(false, true), "it came all the same");
}

/// Asks the machine whenever it wants to be asked, until `end`. What it did, and when in milliseconds.
fn run(reach: &mut Reach, end: u64) -> Vec<(u64, Action)> {
    let mut actions = Vec::new();
    while let Some(due) = reach.next_deadline().filter(|due| *due <= at(end)) {
        let done = reach.on_timeout(due);
        actions.extend(done.into_iter().map(|action| (due.since(at(0)).as_millis(), action)));
    }
    actions
}

#[test]
fn silence_is_asked_about_before_the_leader_counts_as_gone() {
    let mut reach = member();
    // At half of `trigger`, and again: one datagram may be lost.
    let actions = run(&mut reach, 350);
    assert_eq!(actions, [(175, Action::Tell), (275, Action::Tell)]);
    assert_eq!(reach.hears(), hears(false, true));
}

#[test]
fn a_leader_that_lives_by_copies_only_is_followed_and_its_silence_named() {
    let mut reach = member();
    let mut actions = Vec::new();
    for beat in 1..=40 {
        actions.extend(run(&mut reach, 50 * beat));
        if beat >= 4 {
            // What the leader sends once it was told.
            assert!(!reach.on_alive(at(50 * beat), LEADER, false));
        }
    }
    let named = |hears| Action::Missed(Some(hears));
    assert_eq!(
        actions,
        [
            (175, Action::Tell),
            // Since 175; the data channel has not been silent for so long.
            (525, named(hears(false, true))),
            (900, Action::Tell),
        ]
    );
    assert_eq!(reach.hears(), Hears::NOTHING);
}

#[test]
fn a_channel_is_heard_again_after_three_messages_in_a_row() {
    let mut reach = member();
    run(&mut reach, 600);
    assert!(!reach.hears().control);
    for (time, again) in [(1_000, false), (1_050, false), (1_400, false), (1_450, false), (1_500, true)] {
        reach.on_alive(at(time), LEADER, true);
        let told = reach.on_multicast(at(time), LEADER, false).contains(&Action::Tell);
        assert_eq!(told, again, "{time}: a gap begins the row anew");
    }
    assert!(reach.hears().control);
    // What another node says is no sign of the leader.
    run(&mut reach, 1_700);
    assert!(!reach.hears().control);
    (1_700..1_720).for_each(|time| assert_eq!(reach.on_multicast(at(time), NodeId(9), false), []));
    assert!(!reach.hears().control);
}

#[test]
fn the_data_channel_is_judged_by_probes_and_kept_by_frames() {
    let mut reach = member();
    let control = |reach: &mut Reach, time| {
        reach.on_alive(at(time), LEADER, true);
        reach.on_multicast(at(time), LEADER, false);
    };
    for time in (50..=2_000).step_by(50) {
        control(&mut reach, time);
        reach.on_frames(at(time));
        assert_eq!(run(&mut reach, time), [], "{time}: frames come, probes do not");
    }
    for time in (2_050..=2_900).step_by(50) {
        control(&mut reach, time);
        run(&mut reach, time);
    }
    assert_eq!(reach.hears(), hears(true, false));
    // A batch of frames is one event, not three: only probes bring the channel back.
    (2_900..2_910).for_each(|time| reach.on_frames(at(time)));
    assert_eq!(reach.hears(), hears(true, false));
    for (time, again) in [(3_000, false), (3_200, false), (3_400, true)] {
        assert_eq!(!reach.on_multicast(at(time), LEADER, true).is_empty(), again, "{time}");
    }
    assert_eq!(reach.hears(), Hears::ALL);
}

#[test]
fn what_was_named_is_taken_back_once() {
    let mut reach = member();
    for time in (50..=1_500).step_by(50) {
        run(&mut reach, time);
        reach.on_alive(at(time), LEADER, false);
    }
    let mut said = Vec::new();
    for time in (1_550..=3_000).step_by(50) {
        reach.on_alive(at(time), LEADER, true);
        said.extend(reach.on_multicast(at(time), LEADER, false));
        if time % 200 == 0 {
            said.extend(reach.on_multicast(at(time), LEADER, true));
        }
        said.extend(run(&mut reach, time).into_iter().map(|(_, action)| action));
    }
    let back = said.iter().filter(|action| **action == Action::Missed(None)).count();
    assert_eq!((back, reach.hears()), (1, Hears::ALL), "{said:?}");
}

#[test]
fn copies_go_to_those_who_miss_the_channel_and_to_nobody_else() {
    let mut reach = leader();
    let cases = [(2, false, false), (3, true, false), (4, false, true), (5, true, true)];
    for (node, control, data) in cases {
        reach.on_told(at(0), peer(node), hears(control, data));
    }
    assert_eq!(reach.copies(false, |_| true), [peer(2).datagram, peer(4).datagram]);
    assert_eq!(reach.copies(true, |_| true), [peer(2).datagram, peer(3).datagram]);
    for (node, control, data) in cases {
        assert_eq!(reach.misses(NodeId(node), false), !control);
        assert_eq!(reach.misses(NodeId(node), true), !data);
        assert_eq!(reach.heard_by(NodeId(node)), hears(control, data));
    }
    assert!(!reach.on_told(at(10), peer(2), Hears::NOTHING), "no news");
    assert!(reach.on_told(at(10), peer(2), hears(true, false)));
    reach.on_told(at(20), peer(2), Hears::ALL);
    reach.forget(NodeId(3));
    assert_eq!(reach.deaf().collect::<Vec<_>>(), [(NodeId(4), hears(false, true))]);
}

#[test]
fn a_supposition_gives_way_to_what_the_peer_says_and_ends_by_itself() {
    let mut reach = leader();
    reach.on_told(at(0), peer(2), hears(true, false));
    reach.suppose(at(10), peer(2));
    assert_eq!(reach.heard_by(NodeId(2)), hears(true, false));
    reach.suppose(at(10), peer(3));
    assert_eq!(reach.heard_by(NodeId(3)), Hears::NOTHING);
    // Supposing it again does not prolong it.
    reach.suppose(at(3_000), peer(3));
    run(&mut reach, 3_509);
    assert_eq!(reach.deaf().count(), 1, "three and a half refreshes without a word");
    run(&mut reach, 3_510);
    assert_eq!(reach.deaf().count(), 0);
}

#[test]
fn a_member_is_named_when_it_lasts_and_only_while_we_lead() {
    let mut reach = leader();
    reach.on_told(at(0), peer(2), Hears::NOTHING);
    assert!(named(&mut reach, 349).is_empty());
    assert_eq!(named(&mut reach, 350), [2]);
    assert!(named(&mut reach, 3_000).is_empty());
    assert!(reach.is_named(NodeId(2)));
    let mut follower = member();
    follower.on_told(at(0), peer(2), Hears::NOTHING);
    assert!(named(&mut follower, 3_000).is_empty());
}

fn named(reach: &mut Reach, end: u64) -> Vec<u64> {
    let actions = run(reach, end).into_iter();
    actions
        .filter_map(|(_, action)| if let Action::Named(node) = action { Some(node.0) } else { None })
        .collect()
}

#[test]
fn a_leader_probes_the_data_channel_four_times_more_seldom_than_it_says_that_it_lives() {
    let mut reach = leader();
    let probes: Vec<u64> = run(&mut reach, 1_000).into_iter().map(|(time, _)| time).collect();
    assert_eq!(probes, [200, 400, 600, 800, 1_000]);
    reach.on_alive(at(1_000), LEADER, true);
    assert!(run(&mut reach, 1_100).is_empty(), "and no more once it follows");
}

/// T21: whatever is registered, so many get copies and each ends.
#[test]
fn whatever_peers_say_the_table_is_bounded_and_empties() {
    let mut rng = Rng::new(7);
    for _ in 0..50 {
        let mut reach = if rng.chance(0.5) { leader() } else { member() };
        let mut now = 0;
        for _ in 0..400 {
            now += rng.below(30);
            let from = peer(2 + rng.below(300));
            match rng.below(5) {
                0 => reach.suppose(at(now), from),
                1 => reach.on_frames(at(now)),
                2 => drop(reach.on_multicast(at(now), from.node, rng.chance(0.5))),
                3 => reach.forget(from.node),
                _ => drop(reach.on_told(at(now), from, hears(rng.chance(0.3), rng.chance(0.3)))),
            }
            run(&mut reach, now);
            assert!(reach.deaf().count() <= DEAF_MAX);
            assert!(
                reach.copies(false, |_| true).len() <= DEAF_MAX
                    && reach.copies(true, |_| true).len() <= DEAF_MAX
            );
            assert!(reach.deaf().all(|(_, hears)| hears != Hears::ALL));
            assert!(reach.next_deadline().is_none_or(|due| due > at(now)), "it does not spin");
        }
        run(&mut reach, now + 3_500);
        assert_eq!(reach.deaf().count(), 0);
    }
}

#[test]
fn beyond_the_bound_a_peer_is_refused_and_counted_and_known_ones_stay() {
    let mut reach = leader();
    for node in 0..DEAF_MAX as u64 + 5 {
        reach.on_told(at(0), peer(node + 2), Hears::NOTHING);
    }
    assert_eq!((reach.deaf().count(), reach.refused), (DEAF_MAX, 5));
    assert!(reach.on_told(at(1), peer(2), hears(true, false)), "a known one may change its mind");
}
