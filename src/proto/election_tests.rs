use super::*;

const PROFILE: Profile = Profile::LAN;
const ME: NodeId = NodeId(50);

fn at(millis: u64) -> Instant {
    Instant::from_nanos(0) + Duration::from_millis(millis)
}

fn rank(priority: u32, node: u64) -> Rank {
    Rank { listed: true, priority, node: NodeId(node) }
}

fn alive(from: Rank) -> Event {
    Event::Alive { from, epoch: Epoch(1), resigns: false }
}

fn claim(from: Rank) -> Event {
    Event::Claim { from, epoch: Epoch(1), astray: false }
}

fn resign(from: Rank) -> Event {
    Event::Alive { from, epoch: Epoch(1), resigns: true }
}

/// A machine of priority 500 in the named state at 1,000 ms.
fn in_state(name: &str) -> Election {
    let mut election = Election::new(at(0), ME, 500, Standing::Candidate, PROFILE);
    election.epoch = Epoch(1);
    election.state = match name {
        "known" => State::Known { leader: rank(600, 60), heard: at(920) },
        "unknown" => State::Unknown { claim_at: Some(at(1_100)) },
        "voting" => State::Voting { until: at(1_200), repeat_at: at(1_010) },
        "concession" => State::Concession { until: at(1_100) },
        "leader" => State::Leader { alive_at: at(1_050) },
        _ => unreachable!("no such state"),
    };
    election
}

/// Every (state, event) pair of the table of five states (EL-15, EL-17), in one place to be reviewed as a diff.
#[test]
fn every_pair_of_state_and_event_does_what_the_table_says() {
    use Action::{Follow, Orphaned, SendClaim, Yield};
    let (higher, lower) = (rank(500, 51), rank(500, 49));
    let known_leader = rank(600, 60);
    let table: Vec<(&str, Event, &str, Vec<Action>)> = vec![
        ("known", alive(known_leader), "gl_known", vec![]),
        ("known", alive(rank(601, 2)), "gl_known", vec![Follow(NodeId(2))]),
        ("known", alive(lower), "gl_known", vec![]),
        ("known", resign(known_leader), "gl_unknown", vec![Orphaned]),
        ("known", resign(lower), "gl_known", vec![]),
        ("known", claim(higher), "gl_known", vec![]),
        ("known", claim(lower), "gl_known", vec![]),
        ("known", Event::Timeout, "gl_known", vec![]),
        ("unknown", alive(lower), "gl_known", vec![Follow(NodeId(49))]),
        ("unknown", resign(lower), "gl_unknown", vec![]),
        ("unknown", claim(higher), "concession", vec![]),
        ("unknown", claim(lower), "voting_open", vec![SendClaim]),
        ("unknown", Event::Timeout, "gl_unknown", vec![]),
        ("voting", alive(lower), "gl_known", vec![Follow(NodeId(49))]),
        ("voting", resign(lower), "voting_open", vec![]),
        ("voting", claim(higher), "concession", vec![]),
        ("voting", claim(lower), "voting_open", vec![SendClaim]),
        ("voting", Event::Timeout, "voting_open", vec![]),
        ("concession", alive(lower), "gl_known", vec![Follow(NodeId(49))]),
        ("concession", resign(lower), "gl_unknown", vec![]),
        ("concession", claim(higher), "concession", vec![]),
        ("concession", claim(lower), "concession", vec![]),
        ("concession", Event::Timeout, "concession", vec![]),
        ("leader", alive(lower), "voting_open", vec![Yield, SendClaim]),
        ("leader", alive(higher), "voting_open", vec![Yield, SendClaim]),
        ("leader", resign(lower), "gl_is_me", vec![]),
        ("leader", claim(higher), "voting_open", vec![Yield, SendClaim]),
        ("leader", claim(lower), "voting_open", vec![Yield, SendClaim]),
        ("leader", Event::Timeout, "gl_is_me", vec![]),
    ];
    for (state, event, next, actions) in table {
        let mut election = in_state(state);
        assert_eq!(election.step(at(1_000), event), actions, "{state}: {event:?}");
        assert_eq!(election.state().name(), next, "{state}: {event:?}");
    }
}

#[test]
fn each_timer_that_runs_out_moves_its_own_state() {
    use Action::{Lead, Orphaned, SendAlive, SendClaim};
    let table = [
        ("known", 1_270, "gl_unknown", vec![Orphaned]),
        ("unknown", 1_100, "voting_open", vec![SendClaim]),
        ("voting", 1_010, "voting_open", vec![SendClaim]),
        ("voting", 1_200, "gl_is_me", vec![Lead(Epoch(1 << 16 | ME.0)), SendAlive]),
        ("concession", 1_100, "gl_unknown", vec![]),
        ("leader", 1_050, "gl_is_me", vec![SendAlive]),
    ];
    for (state, when, next, actions) in table {
        let mut election = in_state(state);
        assert_eq!(election.step(at(when), Event::Timeout), actions, "{state} at {when}");
        assert_eq!(election.state().name(), next, "{state} at {when}");
    }
}

#[test]
fn a_stronger_candidate_claims_sooner_and_a_deposed_leader_first_of_all() {
    let claim_at = |priority| {
        let election = Election::new(at(0), ME, priority, Standing::Candidate, PROFILE);
        election.next_deadline().expect("a candidate claims")
    };
    assert!(claim_at(900) < claim_at(100));
    assert_eq!(claim_at(PRIORITY_SCALE), at(0) + PROFILE.claim_min);
    assert_eq!(claim_at(0), at(0) + PROFILE.claim_max);

    let mut deposed = in_state("leader");
    deposed.step(at(1_000), alive(rank(900, 1)));
    deposed.step(at(1_001), claim(rank(900, 1)));
    deposed.step(at(1_501), Event::Timeout);
    assert_eq!(deposed.next_deadline(), Some(at(1_501) + PROFILE.claim_min));
}

#[test]
fn who_may_not_lead_never_claims() {
    let mut follower = Election::new(at(0), ME, 1_000, Standing::Follower, PROFILE);
    assert_eq!(follower.next_deadline(), None);
    assert_eq!(follower.step(at(1), claim(rank(1, 1))), vec![]);
    assert_eq!(follower.step(at(2), alive(rank(1, 1))), vec![Action::Follow(NodeId(1))]);
    assert_eq!(follower.step(at(1_000), Event::Timeout), vec![Action::Orphaned]);
    assert_eq!(follower.next_deadline(), None);
}

#[test]
fn a_leader_of_the_past_is_not_followed_while_a_later_one_may_live() {
    let mut election = in_state("unknown");
    election.step(at(1_000), Event::Alive { from: rank(900, 2), epoch: Epoch(7), resigns: false });
    election.step(at(1_350), Event::Timeout);
    let stale = Event::Alive { from: rank(900, 1), epoch: Epoch(6), resigns: false };
    assert_eq!(election.step(at(1_360), stale), vec![]);
    assert_eq!(election.state().name(), "gl_unknown");
    // Epoch 7 is over for good: whoever leads now does so in whatever epoch.
    assert_eq!(election.step(at(2_001), stale), vec![Action::Follow(NodeId(1))]);
}

#[test]
fn a_reopened_vote_that_nobody_contests_keeps_the_epoch() {
    let mut leader = in_state("voting");
    leader.step(at(1_200), Event::Timeout);
    let epoch = leader.epoch();
    leader.step(at(1_210), claim(rank(1, 1)));
    leader.step(at(2_000), Event::Timeout);
    assert!(leader.is_leader());
    assert_eq!(leader.epoch(), epoch);
}

#[test]
fn a_claim_heard_before_the_silence_was_noticed_is_conceded_to() {
    let mut member = in_state("known");
    member.step(at(1_200), claim(rank(900, 1)));
    member.step(at(1_270), Event::Timeout);
    assert_eq!(member.state().name(), "concession");
}

#[test]
fn leaders_that_cannot_hear_each_other_lead_in_epochs_of_their_own() {
    let reign_after = |epoch, node| {
        let mut election = Election::new(at(0), NodeId(node), 500, Standing::Candidate, PROFILE);
        election.epoch = Epoch(epoch);
        election.step(at(1_000), Event::Timeout);
        election.step(at(2_000), Event::Timeout);
        assert!(election.is_leader());
        election.epoch()
    };
    let (here, there) = (reign_after(7, 1), reign_after(7, 2));
    assert_ne!(here, there);
    assert!(reign_after(here.0, 1) > there && reign_after(there.0, 2) > here);
    // Whatever somebody claims, the count does not run over.
    assert!(reign_after(u64::MAX, 3).0 >> 16 == u64::MAX >> 16);
}

#[test]
fn a_leader_keeps_its_own_epoch_when_a_later_one_resigns() {
    let mut leader = in_state("leader");
    let farewell = Event::Alive { from: rank(900, 1), epoch: Epoch(9 << 16 | 1), resigns: true };
    assert_eq!(leader.step(at(1_000), farewell), vec![]);
    assert!(leader.is_leader());
    assert_eq!(leader.epoch(), Epoch(1));
}

fn unlisted(priority: u32, node: u64) -> Rank {
    Rank { listed: false, ..rank(priority, node) }
}

/// EL-3: whoever is on the list comes before whoever is not, whatever speaks for it.
#[test]
fn the_list_counts_before_the_priority() {
    let mut election = in_state("voting");
    assert_eq!(election.step(at(1_000), claim(unlisted(1_000, 99))), vec![Action::SendClaim]);
    assert_eq!(election.state().name(), "voting_open");
    let mut election = in_state("unknown");
    assert_eq!(election.step(at(1_000), claim(unlisted(1_000, 99))), vec![Action::SendClaim]);
    let mut election = in_state("known");
    assert_eq!(election.step(at(1_000), alive(unlisted(1_000, 99))), vec![]);
}

#[test]
fn a_leader_opens_no_vote_for_who_may_not_lead_or_does_not_hear_it() {
    let astray = Event::Claim { from: rank(1_000, 99), epoch: Epoch(1), astray: true };
    for event in [claim(unlisted(1_000, 99)), astray] {
        let mut leader = in_state("leader");
        assert_eq!(leader.step(at(1_000), event), vec![Action::SendAlive], "{event:?}");
        assert_eq!(leader.state().name(), "gl_is_me");
    }
    // One that knows a later epoch has heard of another leader: that must be settled.
    let mut leader = in_state("leader");
    let later = Event::Claim { from: rank(1_000, 99), epoch: Epoch(2), astray: true };
    assert_eq!(leader.step(at(1_000), later), vec![Action::Yield, Action::SendClaim]);
    // If it leads after all, the vote is opened.
    let mut leader = in_state("leader");
    assert_eq!(leader.step(at(1_000), alive(unlisted(1, 1))), vec![Action::Yield, Action::SendClaim]);
}

/// EL-3: the list has its time first; then the others vote among themselves.
#[test]
fn a_substitute_claims_only_when_the_list_had_its_time() {
    let after = Duration::from_secs(30);
    let mut one = in_state("known");
    one.set_standing(at(900), Standing::Substitute(after));
    assert!(!one.rank().listed);
    one.step(at(1_270), Event::Timeout);
    let claim_at = one.next_deadline().unwrap();
    assert!(claim_at >= at(30_920) && claim_at <= at(31_420), "{claim_at}");
    assert_eq!(one.step(at(2_000), claim(unlisted(1, 1))), vec![], "nobody is in a hurry");
    assert_eq!(one.state().name(), "gl_unknown");
    assert_eq!(one.step(claim_at, claim(unlisted(1, 1))), vec![Action::SendClaim], "now they are");

    let mut one = in_state("unknown");
    one.set_standing(at(1_000), Standing::Substitute(after));
    one.step(at(1_001), claim(rank(1, 1)));
    assert_eq!(one.state().name(), "concession", "to one of the list at once");
}

#[test]
fn a_list_that_changes_in_mid_vote_ends_the_claim() {
    for standing in [Standing::Substitute(Duration::from_secs(1)), Standing::Follower] {
        let mut one = in_state("voting");
        one.set_standing(at(1_000), standing);
        assert_eq!(one.state().name(), "gl_unknown");
        assert_eq!(one.next_deadline().is_some(), standing != Standing::Follower);
    }
    let mut one = in_state("voting");
    one.set_standing(at(1_000), Standing::Candidate);
    assert_eq!(one.state().name(), "voting_open");
}

#[test]
fn a_leader_hands_over_once_and_is_then_one_of_the_others() {
    let mut one = in_state("leader");
    one.set_standing(at(1_000), Standing::Substitute(Duration::from_secs(30)));
    assert!(one.is_leader(), "until it hands over");
    assert!(one.hand_over(at(1_000)) && !one.hand_over(at(1_000)));
    assert!(one.next_deadline().unwrap() >= at(31_000));
    one.step(at(1_001), claim(rank(1, 1)));
    assert_eq!(one.step(at(1_300), alive(rank(1, 1))), vec![Action::Follow(NodeId(1))]);
}
