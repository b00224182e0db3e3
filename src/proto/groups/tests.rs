use super::*;
use crate::proto::random::Rng;
use crate::wire::seal::SigningKey;
use proptest::prelude::*;

const LEADER: usize = 0;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::new([10, 0, 0, index as u8 + 1].into(), 7_411)
}

/// One group of so many nodes: 180 of them fill a part.
fn list(number: u64, members: u64) -> (GroupList, Vec<u8>) {
    let group = Group {
        name: name("eu"),
        channel: "239.255.128.1:7402".parse().unwrap(),
        sites: vec![name("www")],
        members: (1..=members).map(NodeId).collect(),
    };
    let list = GroupList { number: ListNumber(number), segment: name("rack1"), groups: vec![group] };
    let bytes = list.sign(&SigningKey::from_seed([1; 32]));
    (list, bytes)
}

fn groups() -> Groups {
    Groups::new(name("rack1"), Profile::LAN)
}

fn holding(number: u64, members: u64) -> Groups {
    let mut groups = groups();
    let (list, bytes) = list(number, members);
    assert_eq!(groups.adopt(list, bytes), Ok(true));
    groups
}

fn part(of: &Groups, at: u16) -> GroupsPart {
    of.part(at).expect("it has so many")
}

#[test]
fn an_older_list_and_one_of_another_segment_are_refused() {
    let mut groups = holding(7, 3);
    let (older, bytes) = list(6, 9);
    assert_eq!(groups.adopt(older, bytes), Err(Refused::Older));
    let (same, bytes) = list(7, 3);
    assert_eq!(groups.adopt(same, bytes), Ok(false));
    let (mut other, bytes) = list(8, 3);
    other.segment = name("rack2");
    assert_eq!(groups.adopt(other, bytes), Err(Refused::OtherSegment));
    assert_eq!(groups.number(), ListNumber(7));
    assert!(groups.holds(&name("www"), NodeId(3)) && !groups.holds(&name("www"), NodeId(4)));
    assert_eq!(groups.channels_of(NodeId(3)).len(), 1);
    assert_eq!(groups.channels_of(NodeId(4)).len(), 0);
    let (next, bytes) = list(8, 4);
    assert_eq!(groups.adopt(next, bytes), Ok(true));
    assert!(groups.holds(&name("www"), NodeId(4)));
}

#[test]
fn a_member_asks_for_what_did_not_come_by_itself_and_for_nothing_else() {
    let leader = holding(7, 500);
    let mut member = groups();
    member.on_offer(at(0), ListNumber(7), address(LEADER), u64::MAX);
    assert_eq!(member.next_deadline(), Some(at(100)));
    assert_eq!(member.on_part(at(10), part(&leader, 0), 0), None);
    assert_eq!(member.on_part(at(20), part(&leader, 2), 0), None);
    assert_eq!(member.next_deadline(), Some(at(70)), "as long as parts come it waits");
    assert_eq!(member.on_timeout(at(69), 0), []);
    let asked = Action::Ask(address(LEADER), GroupsRequest { number: ListNumber(7), parts: vec![1] });
    assert_eq!(member.on_timeout(at(70), 0), [asked]);
    let whole = member.on_part(at(80), part(&leader, 1), 0);
    assert_eq!(whole, Some(Action::Check(leader.held.as_ref().unwrap().bytes.clone())));

    // It did not verify: everything is asked for anew.
    let all = Action::Ask(address(LEADER), GroupsRequest { number: ListNumber(7), parts: Vec::new() });
    assert_eq!(member.on_timeout(member.next_deadline().unwrap(), 0), [all]);
    let (list, bytes) = list(7, 500);
    member.adopt(list, bytes).unwrap();
    assert_eq!(member.next_deadline(), None);
}

#[test]
fn a_leader_answers_all_who_ask_with_one_multicast() {
    let mut leader = holding(7, 500);
    let request = |parts: &[u16]| GroupsRequest { number: ListNumber(7), parts: parts.to_vec() };
    assert_eq!(leader.on_request(at(0), &request(&[1]), true), []);
    assert_eq!(leader.on_request(at(10), &request(&[0, 1, 99]), true), []);
    assert_eq!(leader.on_timeout(at(19), 0), []);
    let sent = leader.on_timeout(at(20), 0);
    assert_eq!(sent, [part(&leader, 0), part(&leader, 1)].map(Action::Spread));
    assert_eq!(leader.next_deadline(), None);
    // Who asks for less than there is, or for nothing in particular, gets all of it.
    leader.on_request(at(100), &GroupsRequest { number: ListNumber(6), parts: vec![1] }, true);
    assert_eq!(leader.on_timeout(at(120), 0).len(), 3);
    assert_eq!(leader.on_request(at(200), &GroupsRequest { number: ListNumber(8), parts: vec![] }, true), []);
    assert_eq!(leader.next_deadline(), None, "it does not have that one");
    // A member that is asked by its leader answers it alone.
    assert_eq!(leader.on_request(at(300), &request(&[2]), false), [part(&leader, 2)]);
}

#[test]
fn a_long_list_is_sent_in_bursts() {
    let mut leader = holding(7, 4_000);
    let count = usize::from(GroupsPart::count(leader.held.as_ref().unwrap().bytes.len()));
    assert!(count > BURST);
    leader.spread(at(0));
    let mut sent = Vec::new();
    let mut bursts = 0;
    while let Some(due) = leader.next_deadline() {
        let actions = leader.on_timeout(due, 0);
        assert!(actions.len() <= BURST);
        sent.extend(actions);
        bursts += 1;
    }
    assert_eq!((sent.len(), bursts), (count, count.div_ceil(BURST)));
}

#[test]
fn what_nobody_offers_does_not_stand_in_the_way_of_what_the_leader_has() {
    let leader = holding(7, 3);
    let mut member = groups();
    // Anybody with the key of the segment can say this.
    let forged = GroupsPart { number: ListNumber(u64::MAX), len: 1_401, part: 0, bytes: vec![0; 1_400] };
    assert_eq!(member.on_part(at(0), forged, 0), None);
    member.on_offer(at(0), ListNumber(7), address(LEADER), 0);
    let due = member.next_deadline().unwrap();
    let all = Action::Ask(address(LEADER), GroupsRequest { number: ListNumber(7), parts: Vec::new() });
    assert_eq!(member.on_timeout(due, 0), [all]);
    assert!(matches!(member.on_part(due, part(&leader, 0), 0), Some(Action::Check(_))));
}

#[test]
fn an_offer_is_forgotten_with_who_made_it_or_when_it_is_withdrawn() {
    let mut member = groups();
    member.on_offer(at(0), ListNumber(7), address(LEADER), 0);
    member.on_offer(at(10), ListNumber(0), address(5), 0);
    assert!(member.next_deadline().is_some(), "another's number says nothing of it");
    member.on_offer(at(20), ListNumber(0), address(LEADER), 0);
    assert_eq!(member.next_deadline(), None);
    member.on_offer(at(30), ListNumber(7), address(LEADER), 0);
    member.forget_offer();
    assert_eq!(member.next_deadline(), None);
}

/// A leader and its members on one clock, with loss: until all go by the list of the leader.
fn spread_to(members: usize, nodes: u64, loss_pct: u64, seed: u64) -> (Instant, u32) {
    let mut rng = Rng::new(seed);
    let mut machines: Vec<Groups> = (0..=members).map(|_| groups()).collect();
    let (newest, bytes) = list(9, nodes);
    machines[LEADER].adopt(newest.clone(), bytes.clone()).unwrap();
    machines[LEADER].spread(at(0));
    let (mut now, mut parts) = (at(0), 0);
    let mut alive_at = at(0);
    while machines.iter().any(|machine| machine.number() < ListNumber(9)) {
        let due = machines.iter().filter_map(Groups::next_deadline).min();
        now = due.map_or(alive_at, |due| due.min(alive_at)).max(now);
        assert!(now < at(60_000), "seed {seed}: not all have it after a minute");
        if now >= alive_at {
            alive_at = now + Profile::LAN.alive_period;
            for member in &mut machines[1..] {
                if rng.below(100) >= loss_pct {
                    member.on_offer(now, ListNumber(9), address(LEADER), rng.next_u64());
                }
            }
        }
        for index in 0..machines.len() {
            if machines[index].next_deadline().is_none_or(|at| now < at) {
                continue;
            }
            for action in machines[index].on_timeout(now, rng.next_u64()) {
                match action {
                    Action::Ask(to, request) => {
                        assert_eq!(to, address(LEADER));
                        if rng.below(100) >= loss_pct {
                            machines[LEADER].on_request(now, &request, true);
                        }
                    }
                    Action::Spread(part) => {
                        parts += 1;
                        for member in &mut machines[1..] {
                            if rng.below(100) >= loss_pct
                                && let Some(Action::Check(whole)) =
                                    member.on_part(now, part.clone(), rng.next_u64())
                            {
                                assert_eq!(whole, bytes);
                                member.adopt(newest.clone(), whole).unwrap();
                            }
                        }
                    }
                    Action::Check(_) => unreachable!("parts come from others only"),
                }
            }
        }
    }
    (now, parts)
}

#[test]
fn a_list_reaches_a_thousand_members_at_five_percent_loss_in_few_parts_more_than_it_has() {
    let count = u32::from(GroupsPart::count(list(9, 1_000).1.len()));
    for seed in 0..5 {
        let (took, parts) = spread_to(1_000, 1_000, 5, seed);
        assert!(took < at(2_000), "seed {seed}: {took}");
        assert!(parts < count * 8, "seed {seed}: {parts} parts for {count}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_is_lost_every_member_gets_the_newest_list(
        members in 1_usize..12,
        nodes in 1_u64..900,
        loss_pct in 0_u64..60,
        seed in any::<u64>(),
    ) {
        spread_to(members, nodes, loss_pct, seed);
    }
}
