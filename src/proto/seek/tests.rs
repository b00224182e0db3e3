use super::*;
use crate::proto::random::Rng;

const ME: NodeId = NodeId(1);
const ALONE: Standing = Standing::Alone;
const ISLAND: Standing = Standing::Leads { others: false };
const LEADS: Standing = Standing::Leads { others: true };

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn peer(node: u64) -> Peer {
    Peer { node: NodeId(node), datagram: format!("10.0.{}.{}:7411", node / 200, node % 200).parse().unwrap() }
}

/// A node that was just started and remembers so many peers.
fn node(peers: u64) -> Seek {
    let mut seek = Seek::new(at(0), ME, Profile::LAN, vec![]);
    let peers: Vec<Peer> = (1..=peers + 1).map(peer).collect();
    seek.learn(at(0), &peers);
    seek
}

/// What it asks until `end`: when, how many peers, and whether the CCM too.
fn run(seek: &mut Seek, end: u64) -> Vec<(u64, usize, bool)> {
    let mut asked = Vec::new();
    while let Some(due) = seek.next_deadline().filter(|due| *due <= at(end)) {
        let actions = seek.on_timeout(due, |_| false, 0);
        let peers =
            actions.iter().map(|action| if let Action::Ask(peers) = action { peers.len() } else { 0 });
        let entry = (due.since(at(0)).as_millis(), peers.sum(), actions.contains(&Action::AskController));
        asked.extend((entry.1 > 0 || entry.2).then_some(entry));
    }
    asked
}

#[test]
fn who_hears_nobody_asks_a_few_then_all_then_further_and_further_apart() {
    let mut seek = node(100);
    let rounds = run(&mut seek, 20_000);
    assert_eq!(
        rounds[..5],
        [(150, 16, false), (850, 64, true), (2_250, 64, true), (5_050, 64, true), (10_650, 64, true)]
    );
    let pauses: Vec<u64> = rounds.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pauses.iter().all(|pause| *pause <= 8_000), "{pauses:?}");
}

/// With the timers of the sources the first claim of a farm that was switched on comes after five to ten seconds.
#[test]
fn a_classic_farm_that_is_switched_on_waits_for_its_first_claims() {
    let mut seek = Seek::new(at(0), ME, Profile::CLASSIC, vec![peer(2).datagram]);
    let first = [(2_250, 1, false)];
    assert_eq!(run(&mut seek.clone(), 12_249), first);
    assert_eq!(run(&mut seek.clone(), 17_000)[1..], [(12_250, 1, true), (16_250, 1, true)]);

    assert_eq!(run(&mut seek, 9_900), first);
    seek.on_multicast(at(9_900));
    assert_eq!(run(&mut seek, 25_000), [], "an election is on its way");
}

#[test]
fn in_a_segment_that_is_well_nobody_asks() {
    // Another node is heard before the first question, and goes on to be heard.
    let mut seek = node(10);
    for time in (100..5_000).step_by(50) {
        seek.on_multicast(at(time));
        assert_eq!(run(&mut seek, time), []);
    }
    seek.on_standing(at(5_000), Standing::Follows);
    assert_eq!(seek.next_deadline(), None);
    // Its leader dies; an election is heard a little later.
    seek.on_standing(at(9_000), ALONE);
    assert_eq!(run(&mut seek, 9_300), []);
    seek.on_multicast(at(9_300));
    seek.on_standing(at(9_600), ISLAND);
    assert_eq!(run(&mut seek, 10_200), []);
    seek.on_standing(at(10_200), LEADS);
    assert_eq!(run(&mut seek, 17_000), []);
}

#[test]
fn where_the_leader_was_there_by_copies_its_successor_is_looked_for_at_once() {
    let mut seek = node(10);
    seek.on_multicast(at(10));
    seek.on_standing(at(20), Standing::Follows);
    seek.on_missed();
    seek.on_leader(NodeId(4));
    seek.on_standing(at(5_000), ALONE);
    assert_eq!(seek.known()[0], peer(4));
    assert_eq!(run(&mut seek, 5_000), [(5_000, 10, true)]);
}

#[test]
fn an_island_goes_on_to_ask_and_stops_when_somebody_comes() {
    let mut seek = node(3);
    seek.on_standing(at(100), ISLAND);
    assert_eq!(run(&mut seek, 1_000).len(), 2);
    // From nobody's leader to nobody's follower: the same loneliness.
    seek.on_standing(at(1_000), ALONE);
    assert_eq!(run(&mut seek, 2_250), [(2_250, 3, true)]);
    seek.on_standing(at(2_300), LEADS);
    assert_eq!(run(&mut seek, 10_000), []);
    // Later it asks whom it knew and does not lead.
    assert_eq!(run(&mut seek, 10_300), [(10_300, 3, false)]);
    assert_eq!(
        seek.on_timeout(at(20_000), |node| node != NodeId(3), 0),
        [Action::Ask(vec![peer(3).datagram])]
    );
    assert_eq!(seek.on_timeout(at(30_000), |_| true, 0), []);
}

#[test]
fn a_leader_whose_report_is_refused_asks_the_ccm_and_then_whom_it_names() {
    let mut seek = node(2);
    seek.on_standing(at(100), LEADS);
    seek.on_refused(at(200));
    seek.on_refused(at(210));
    assert_eq!(run(&mut seek, 1_000), [(200, 0, true)]);
    // The rival, a member of ours, ourselves.
    let others = seek.on_controller(at(300), &[peer(9), peer(2), peer(1)], |node| node == NodeId(2));
    assert_eq!(others, [peer(9).datagram]);
    // Refused again and again: not more often than every two bases.
    (300..5_000).step_by(50).for_each(|time| {
        seek.on_refused(at(time));
        let asked = run(&mut seek, time);
        assert!(asked.is_empty() || time % 1_400 <= 250, "{time}: {asked:?}");
    });
    // Once it follows, an answer that comes late leads to nothing.
    seek.on_standing(at(6_000), Standing::Follows);
    assert!(seek.on_controller(at(6_100), &[peer(9)], |_| false).is_empty());
}

#[test]
fn configured_peers_are_asked_where_nobody_was_ever_known() {
    let fixed = vec![peer(7).datagram, peer(8).datagram];
    let mut seek = Seek::new(at(0), ME, Profile::LAN, fixed.clone());
    assert_eq!(seek.on_timeout(at(150), |_| false, 0), [Action::Ask(fixed)]);
}

#[test]
fn every_peer_comes_to_its_turn() {
    let mut seek = node(200);
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let due = seek.next_deadline().expect("it is alone");
        for action in seek.on_timeout(due, |_| false, u64::MAX / 3) {
            if let Action::Ask(peers) = action {
                asked.extend(peers);
            }
        }
    }
    assert_eq!(asked.len(), 200);
}

/// T21: whatever happens, memory and questions are bounded, and the deadline moves.
#[test]
fn whatever_happens_questions_are_bounded() {
    let mut rng = Rng::new(3);
    for _ in 0..30 {
        let (mut seek, mut now) = (node(rng.below(20)), 0);
        let standings = [ALONE, ISLAND, LEADS, Standing::Follows];
        for _ in 0..500 {
            now += rng.below(200);
            match rng.below(7) {
                0 => seek.learn(at(now), &[peer(rng.below(2_000))]),
                1 => seek.on_multicast(at(now)),
                2 => seek.on_missed(),
                3 => seek.on_refused(at(now)),
                4 => {
                    drop(seek.on_controller(at(now), &[peer(rng.below(2_000))], |_| rng.clone().chance(0.5)))
                }
                _ => seek.on_standing(at(now), standings[rng.below(4) as usize]),
            }
            for _ in 0..4 {
                if seek.next_deadline().is_some_and(|due| due <= at(now)) {
                    seek.on_timeout(at(now), |_| false, rng.next_u64());
                }
            }
            assert!(seek.next_deadline().is_none_or(|due| due > at(now)), "it does not spin");
            assert!(seek.known().len() <= KNOWN_MAX);
        }
        // A round each time that it comes to be alone, and those in between.
        assert!(seek.asked <= 64 * 500);
    }
}

/// Found by the simulator: a thousand members that name each other took turns among 256 places all the time.
#[test]
fn who_was_named_of_late_keeps_its_place_and_who_was_not_gives_way() {
    let mut seek = node(KNOWN_MAX as u64);
    let others: Vec<Peer> = (1_000..1_010).map(peer).collect();
    let knows = |seek: &Seek, other: &Peer| seek.find(other.node).is_some();
    seek.learn(at(3_000), &others);
    assert!(!others.iter().any(|other| knows(&seek, other)));
    seek.learn(at(5_000), &others);
    assert!(others.iter().all(|other| knows(&seek, other)));
    assert_eq!(seek.known().len(), KNOWN_MAX);
}
