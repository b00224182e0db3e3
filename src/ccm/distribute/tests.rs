use super::*;

const LEASE: u64 = 100;

fn leader(number: u16) -> Leader {
    Leader {
        segment: Name::new(&format!("s{number}")).unwrap(),
        node: NodeId(u64::from(number)),
        processors: 100 - number,
        text: SocketAddr::from(([10, 0, 0, number as u8], 1)),
        http: SocketAddr::from(([10, 0, 0, number as u8], 2)),
        groups: ListNumber(1),
    }
}

fn distribution(count: u16, first_level: usize) -> Distribution {
    Distribution::new((1..=count).rev().map(leader).collect(), first_level, LEASE)
}

/// Who fetches, and from whom; 0 is the controller.
fn pair(hand_out: HandOut) -> (u64, u64) {
    let source = match hand_out.source {
        Source::Controller => 0,
        Source::Leader(SocketAddr::V4(http)) => u64::from(http.ip().octets()[3]),
        Source::Leader(SocketAddr::V6(_)) => panic!("the leaders of this test have IPv4 addresses"),
    };
    (hand_out.leader.node.0, source)
}

fn pairs(hand_outs: Vec<HandOut>) -> Vec<(u64, u64)> {
    hand_outs.into_iter().map(pair).collect()
}

#[test]
fn the_fastest_comes_first_then_name_address_and_id() {
    let mut twin = leader(3);
    twin.processors = leader(1).processors;
    let plan = Distribution::new(vec![twin, leader(2), leader(1)], 3, LEASE);
    let order: Vec<u64> = plan.entries.iter().map(|entry| entry.leader.node.0).collect();
    assert_eq!(order, [1, 3, 2]);
}

/// What a leader that asks is handed; `None` where it is to wait or nobody is left.
fn served(next: Next) -> Option<(u64, u64)> {
    match next {
        Next::Serve(hand_out) => Some(pair(hand_out)),
        Next::Wait | Next::Nobody => None,
    }
}

/// Found by the simulator: a leader that was served by another and restarted was never told again.
#[test]
fn a_leader_that_holds_a_copy_is_reminded_by_the_controller_after_a_lease() {
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(plan.reminder(NodeId(1), 0), None, "it is still to fetch");
    assert_eq!(served(plan.next(NodeId(1), 1)), Some((2, 1)));
    plan.stored(NodeId(2));
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
    assert_eq!(served(plan.next(NodeId(1), 1)), Some((3, 1)));
    assert_eq!(plan.next(NodeId(1), 1), Next::Wait, "it still serves leader 3");
    assert_eq!(served(plan.next(NodeId(3), 2)), Some((4, 3)));
    assert_eq!(served(plan.next(NodeId(1), 2)), Some((5, 1)));
    assert_eq!(served(plan.next(NodeId(2), 2)), Some((6, 2)));
    assert_eq!(plan.next(NodeId(2), 3), Next::Wait);
    plan.stored(NodeId(6));
    let Next::Serve(last) = plan.next(NodeId(2), 3) else { panic!("leader 7 waits") };
    assert!(last.last);
    assert_eq!(pair(last), (7, 2));
    for asker in [1, 2, 3, 4, 5, 6] {
        assert_eq!(plan.next(NodeId(asker), 4), Next::Nobody, "leader 7 is being served");
        assert!(!plan.is_done());
    }
    assert_eq!(plan.next(NodeId(7), 4), Next::Nobody);
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
            plan.stored(NodeId(*holder));
        }
        fetching = holders
            .iter()
            .filter_map(|holder| served(plan.next(NodeId(*holder), rounds)))
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
    assert_eq!(plan.next(NodeId(1), 1), Next::Nobody);
}

#[test]
fn a_leader_whose_lease_ended_fetches_from_the_controller() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    assert_eq!(served(plan.next(NodeId(1), 10)), Some((2, 1)));
    assert_eq!(plan.expire(109), []);
    assert_eq!(pairs(plan.expire(110)), [(2, 0)]);
    assert_eq!(plan.expire(111), [], "the new lease runs");
    assert_eq!(pairs(plan.expire(210)), [(2, 0)]);
}

#[test]
fn who_is_not_on_the_list_is_handed_nobody() {
    let mut plan = distribution(2, 1);
    plan.start(0);
    assert_eq!(plan.next(NodeId(99), 1), Next::Nobody);
    assert!(!plan.stored(NodeId(99)));
    assert_eq!(served(plan.next(NodeId(1), 1)), Some((2, 1)));
}

#[test]
fn a_new_leader_starts_over_unless_its_turn_has_not_come() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    let heir = |number| Leader { node: NodeId(50 + u64::from(number)), ..leader(number) };
    assert_eq!(plan.led_by(&leader(1), 1), None, "it is the same");
    assert_eq!(plan.led_by(&heir(3), 1), None, "it waits");
    assert_eq!(served(plan.next(NodeId(1), 2)), Some((2, 1)));
    assert_eq!(pair(plan.led_by(&heir(1), 3).unwrap()), (51, 0), "though the old one held a copy");
    assert_eq!(plan.next(NodeId(1), 4), Next::Nobody, "the old leader is off the list");
    assert_eq!(served(plan.next(NodeId(51), 5)), Some((53, 1)));
    assert_eq!(plan.led_by(&leader(9), 6).map(pair), Some((9, 0)), "a segment that had no leader before");
    assert!(plan.stored(NodeId(9)));
}

#[test]
fn who_waits_while_nobody_asks_is_served_by_the_controller_after_a_lease() {
    let mut plan = distribution(3, 1);
    plan.start(0);
    assert!(plan.stored(NodeId(1)));
    assert_eq!(plan.expire(10), []);
    assert_eq!(plan.expire(109), []);
    assert_eq!(pairs(plan.expire(110)), [(2, 0)]);
    assert_eq!(pairs(plan.expire(210)), [(2, 0)]);
}
