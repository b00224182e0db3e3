use super::*;

const LEASE: u64 = 100;

pub(super) fn leader(number: u16) -> Leader {
    Leader {
        segment: Name::new(&format!("s{number}")).unwrap(),
        node: NodeId(u64::from(number)),
        text: SocketAddr::from(([10, 0, 0, number as u8], 1)),
        http: SocketAddr::from(([10, 0, 0, number as u8], 2)),
        groups: ListNumber(1),
        standing: Standing { processors: 999 - number, ..Standing::default() },
    }
}

fn distribution(count: u16, first_level: usize) -> Distribution {
    planned((1..=count).rev().map(leader).collect(), first_level)
}

fn planned(leaders: Vec<Leader>, first_level: usize) -> Distribution {
    let ranking = Ranking { keys: SortKey::DEFAULT.to_vec(), ..Ranking::default() };
    Distribution::new(leaders, &ranking, Limits { first_level, lease_ns: LEASE, forward: Forwarding::Whole })
}

/// The number of the leader that has this address.
fn number_of(http: SocketAddr) -> u64 {
    let SocketAddr::V4(http) = http else { panic!("the leaders of this test have IPv4 addresses") };
    u64::from(http.ip().octets()[3])
}

/// Who fetches, and from whom; 0 is the controller.
fn pair(hand_out: HandOut) -> (u64, u64) {
    let source = match hand_out.source {
        Source::Controller => 0,
        Source::Leader(http) => number_of(http),
    };
    (hand_out.leader.node.0, source)
}

fn pairs(hand_outs: Vec<HandOut>) -> Vec<(u64, u64)> {
    hand_outs.into_iter().map(pair).collect()
}

/// What a leader that asks is handed; `None` where it is to wait or nobody is left.
fn served(next: Next) -> Option<(u64, u64)> {
    match next {
        Next::Serve(hand_out) => Some(pair(*hand_out)),
        Next::Wait | Next::Nobody => None,
    }
}

/// Found by the simulator: a leader that was served by another and restarted was never told again.
#[test]
fn a_leader_that_holds_a_copy_is_reminded_by_the_controller_after_a_lease() {
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(plan.reminder(NodeId(1), 0), None, "it is still to fetch");
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((2, 1)));
    plan.stored(NodeId(2), 1);
    // Most often it is just staging, and a thousand leaders need not be told what they know.
    assert_eq!(plan.reminder(NodeId(2), 5), None);
    assert_eq!(plan.reminder(NodeId(2), 4 + LEASE), None);
    assert_eq!(plan.reminder(NodeId(2), 5 + LEASE).map(pair), Some((2, 0)));
    assert_eq!(plan.reminder(NodeId(3), 5 + LEASE), None, "it is not on the list");
}

#[test]
fn leaders_forward_in_the_order_in_which_they_ask() {
    let mut plan = distribution(7, 2);
    assert_eq!(pairs(plan.start(0)), [(1, 0), (2, 0)]);
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((3, 1)));
    assert_eq!(plan.next(NodeId(1), true, 1), Next::Wait, "it still serves leader 3");
    assert_eq!(served(plan.next(NodeId(3), true, 2)), Some((4, 3)));
    assert_eq!(served(plan.next(NodeId(1), true, 2)), Some((5, 1)));
    assert_eq!(served(plan.next(NodeId(2), true, 2)), Some((6, 2)));
    assert_eq!(plan.next(NodeId(2), true, 3), Next::Wait);
    plan.stored(NodeId(6), 3);
    let Next::Serve(last) = plan.next(NodeId(2), true, 3) else { panic!("leader 7 waits") };
    assert!(last.last);
    assert_eq!(pair(*last), (7, 2));
    for asker in [1, 2, 3, 4, 5, 6] {
        assert_eq!(plan.next(NodeId(asker), true, 4), Next::Nobody, "leader 7 is being served");
        assert!(!plan.is_done());
    }
    assert_eq!(plan.next(NodeId(7), true, 4), Next::Nobody);
    assert!(plan.is_done());
    assert_eq!(plan.expire(1_000_000), []);
}

/// H-7: every round all that hold a copy serve one each, so the holders double.
#[test]
fn sixty_four_leaders_are_served_in_the_logarithm_of_their_number() {
    let mut plan = distribution(64, 1);
    let mut fetching: Vec<u64> = pairs(plan.start(0)).into_iter().map(|(leader, _)| leader).collect();
    let mut holders = Vec::new();
    let mut rounds = 0;
    while !fetching.is_empty() {
        rounds += 1;
        holders.append(&mut fetching);
        for holder in &holders {
            plan.stored(NodeId(*holder), rounds);
        }
        fetching = holders
            .iter()
            .filter_map(|holder| served(plan.next(NodeId(*holder), true, rounds)))
            .map(|p| p.0)
            .collect();
    }
    assert!(plan.is_done());
    assert_eq!(rounds, 64_u64.ilog2() as u64 + 1);
}

#[test]
fn with_few_leaders_the_controller_serves_all() {
    let mut plan = distribution(2, 4);
    let hand_outs = plan.start(0);
    assert!(hand_outs.iter().all(|hand_out| hand_out.source == Source::Controller));
    assert_eq!(hand_outs.iter().map(|hand_out| hand_out.last).collect::<Vec<_>>(), [false, true]);
    assert_eq!(plan.next(NodeId(1), true, 1), Next::Nobody);
}

#[test]
fn a_leader_whose_lease_ended_fetches_from_the_controller() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), true, 10)), Some((2, 1)));
    assert_eq!(plan.expire(109), []);
    assert_eq!(pairs(plan.expire(110)), [(2, 0)]);
    assert_eq!(plan.expire(309), [], "the new lease runs, twice as long");
    assert_eq!(pairs(plan.expire(310)), [(2, 0)]);
}

#[test]
fn who_is_not_on_the_list_is_handed_nobody() {
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(plan.next(NodeId(99), true, 1), Next::Nobody);
    assert!(!plan.stored(NodeId(99), 1));
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((2, 1)));
}

#[test]
fn a_new_leader_starts_over_unless_its_turn_has_not_come() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    let heir = |number| Leader { node: NodeId(50 + u64::from(number)), ..leader(number) };
    plan.led_by(&leader(1));
    plan.led_by(&heir(3));
    assert_eq!(plan.expire(1), [], "one is the same, one waits");
    assert_eq!(served(plan.next(NodeId(1), true, 2)), Some((2, 1)));
    plan.led_by(&heir(1));
    assert_eq!(pairs(plan.expire(3)), [(51, 0)], "though the old one held a copy");
    assert_eq!(plan.next(NodeId(1), true, 4), Next::Nobody, "the old leader is off the list");
    assert_eq!(served(plan.next(NodeId(51), true, 5)), Some((53, 1)));
    plan.led_by(&leader(9));
    assert_eq!(pairs(plan.expire(6)), [(9, 0)], "a segment that had no leader before");
    assert!(plan.stored(NodeId(9), 6));
}

/// A leader that died in mid transfer, or its source: another leader that holds a copy serves it.
#[test]
fn a_leader_whose_source_failed_it_is_served_by_another() {
    let mut plan = distribution(5, 1);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((2, 1)));
    assert!(plan.stored(NodeId(2), 2));
    assert_eq!(served(plan.next(NodeId(1), true, 2)), Some((3, 1)));
    assert_eq!(served(plan.next(NodeId(2), true, 2)), Some((4, 2)));
    // Leader 9 came anew and has the controller to itself, when leader 1 and what it serves fall silent.
    plan.led_by(&leader(9));
    assert_eq!(pairs(plan.expire(102)), [(9, 0)]);
    assert!(plan.is_waiting(NodeId(3)) && plan.is_waiting(NodeId(4)));
    assert!(plan.stored(NodeId(4), 103), "it had a copy after all");
    assert_eq!(
        served(plan.next(NodeId(2), true, 104)),
        Some((3, 2)),
        "before leader 5, and not from leader 1"
    );
    assert_eq!(served(plan.next(NodeId(1), true, 105)), Some((5, 1)));
}

#[test]
fn who_failed_a_leader_does_not_get_it_again() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), true, 0)), Some((2, 1)));
    plan.led_by(&leader(9));
    assert_eq!(pairs(plan.expire(100)), [(9, 0)], "the controller serves no more than one");
    assert_eq!(served(plan.next(NodeId(1), true, 100)), Some((3, 1)), "it failed leader 2, which waits");
    assert!(plan.stored(NodeId(9), 101));
    assert_eq!(pairs(plan.expire(101)), [(2, 0)]);
}

/// GD-14: a farm in which everything dies at once does not make a star of the controller.
#[test]
fn the_controller_never_serves_more_than_its_first_level() {
    let mut plan = distribution(64, 3);
    let mut serving: Vec<(u64, u64)> = pairs(plan.start(0));
    assert_eq!(serving.len(), 3);
    for round in 1..40_u64 {
        let now = round * 10_000;
        serving = pairs(plan.expire(now));
        assert_eq!(serving.len(), 3, "{serving:?}");
        assert!(serving.iter().all(|(_, source)| *source == 0));
        assert_eq!(plan.expire(now + 1), []);
        (0..20).for_each(|number| plan.led_by(&leader(100 + number)));
    }
    let known = plan.entries.iter().filter(|entry| entry.tries > 0).count();
    assert!(known >= 23, "who was tried least comes first: {known}");
}

#[test]
fn each_lease_of_a_leader_is_longer_than_the_one_before() {
    let mut plan = distribution(1, 1);
    let (mut now, mut lasted) = (0, Vec::new());
    plan.start(now);
    for _ in 0..7 {
        let since = now;
        while plan.expire(now).is_empty() {
            now += 1;
        }
        lasted.push((now - since) / LEASE);
    }
    assert_eq!(lasted, [1, 2, 4, 8, 16, 16, 16]);
}

/// GD-15, GD-20: decided at the time of the question, not by the order of the list alone.
#[test]
fn a_long_way_is_crossed_once_and_neighbours_serve_each_other() {
    let placed = |number: u16, place: &str| {
        let mut leader = leader(number);
        leader.standing.machine.location = place.to_owned();
        leader
    };
    let places = ["berne", "oslo", "berne", "oslo", "rome", "rome"];
    let leaders: Vec<Leader> =
        (1..=6).map(|number| placed(number, places[usize::from(number) - 1])).collect();
    let ranking = Ranking::default();
    let limits = Limits { first_level: 1, lease_ns: LEASE, forward: Forwarding::Whole };
    let mut plan = Distribution::new(leaders.clone(), &ranking, limits);
    assert_eq!(pairs(plan.start(0)), [(1, 0)]);
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((3, 1)), "its neighbour first");
    plan.stored(NodeId(3), 2);
    assert_eq!(served(plan.next(NodeId(1), true, 2)), Some((2, 1)), "then where nobody is");
    assert_eq!(served(plan.next(NodeId(3), true, 2)), Some((5, 3)), "oslo has one that fetches");
    assert_eq!(served(plan.next(NodeId(5), true, 3)), Some((6, 5)));
    assert_eq!(served(plan.next(NodeId(2), true, 3)), Some((4, 2)));
    assert_eq!(plan.next(NodeId(1), true, 3), Next::Nobody);

    let first = vec![Name::new("s1").unwrap(), Name::new("s2").unwrap()];
    let mut plan = Distribution::new(leaders, &Ranking { first, ..ranking }, limits);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), true, 1)), Some((2, 1)), "an operator's order binds");
}

/// Cut-through: who fetches serves as well, one, and nobody that it waits for itself.
#[test]
fn leaders_that_still_fetch_form_a_chain_and_never_a_ring() {
    let ranking = Ranking { keys: SortKey::DEFAULT.to_vec(), ..Ranking::default() };
    let limits = Limits { first_level: 1, lease_ns: LEASE, forward: Forwarding::Verified };
    let mut plan = Distribution::new((1..=4).map(leader).collect(), &ranking, limits);
    assert_eq!(plan.next(NodeId(1), false, 0), Next::Nobody, "it was not handed out");
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), false, 1)), Some((2, 1)));
    assert_eq!(plan.next(NodeId(1), false, 2), Next::Wait);
    assert_eq!(served(plan.next(NodeId(2), false, 2)), Some((3, 2)));
    assert!(!plan.is_done());
    // Leader 1 dies: its lease ends, and the one of leader 2, which leader 3 waits for.
    assert_eq!(pairs(plan.expire(101)), [(1, 0)]);
    assert!(plan.is_waiting(NodeId(2)));
    assert_eq!(served(plan.next(NodeId(3), false, 101)), Some((4, 3)), "not leader 2, its own source");
    assert_eq!(plan.next(NodeId(4), false, 101), Next::Nobody, "nor one further down");
    assert_eq!(pairs(plan.expire(102)), []);
    assert_eq!(pairs(plan.expire(400)), [(2, 0)], "it was tried less than leader 1");
    assert_eq!(served(plan.next(NodeId(2), false, 401)), Some((1, 2)));
    let whole = plan.next(NodeId(2), true, 402);
    assert_eq!(whole, Next::Wait);
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(plan.next(NodeId(1), false, 1), Next::Nobody, "where copies are to be whole");
}

#[test]
fn who_else_holds_a_copy_is_named_but_not_who_failed() {
    let mut plan = distribution(6, 1);
    plan.start(0);
    let others = |next: Next| match next {
        Next::Serve(hand_out) => hand_out.others.iter().map(|http| number_of(*http)).collect::<Vec<_>>(),
        Next::Wait | Next::Nobody => panic!("somebody waits"),
    };
    assert_eq!(others(plan.next(NodeId(1), true, 1)), [0; 0]);
    plan.stored(NodeId(2), 2);
    assert_eq!(others(plan.next(NodeId(1), true, 2)), [2]);
    assert_eq!(others(plan.next(NodeId(2), true, 2)), [1]);
    plan.led_by(&leader(9));
    assert_eq!(pairs(plan.expire(102)), [(9, 0)]);
    plan.stored(NodeId(9), 103);
    assert_eq!(others(plan.next(NodeId(2), true, 103)), [9], "leader 1 failed leader 3");
}

#[test]
fn what_hand_outs_took_is_told_once() {
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), true, 40)), Some((2, 1)));
    plan.next(NodeId(1), true, 50);
    let took = |leader, took_ns| Outcome { leader: NodeId(leader), took_ns };
    assert_eq!(plan.take_outcomes(), [took(1, Some(40))]);
    plan.expire(140);
    assert_eq!(plan.take_outcomes(), [took(2, None)]);
    assert_eq!(plan.take_outcomes(), []);
}

#[test]
fn who_waits_while_nobody_asks_is_served_by_the_controller_after_a_lease() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    assert!(plan.stored(NodeId(1), 0));
    assert_eq!(plan.expire(10), []);
    assert_eq!(plan.expire(109), []);
    assert_eq!(pairs(plan.expire(110)), [(2, 0)]);
    assert_eq!(pairs(plan.expire(210)), [(2, 0)]);
}
