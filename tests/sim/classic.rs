//! The `classic` profile keeps the times of the sources (EL-7, EL-10, EL-11): no claim before five seconds
//! of silence, the first within ten, a vote of ten to fifteen, and so a new leader within half a minute.

use crate::faults::{Fault, Who};
use crate::options::Options;
use crate::world::World;
use farmcast::time::{Duration, Instant};
use farmcast::wire::envelope::Message;
use std::cell::RefCell;
use std::rc::Rc;

const SECOND: Duration = Duration::from_secs(1);
const SHOTS: u64 = 20;

/// When the leader was heard last, who claimed first, and when the next one was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    last_alive: Instant,
    first_claim: Option<Instant>,
    next_alive: Option<Instant>,
}

fn watched(seed: u64, loss: f64) -> (World, Rc<RefCell<Heard>>) {
    let mut options = Options { classic: true, ..Options::quiet(12) };
    options.weather.loss = loss;
    let mut world = World::new(seed, options, false);
    world.expect(SECOND * 60, World::settled).unwrap();
    world.run(Duration::from_millis(37 * seed)).unwrap();
    let heard = Rc::new(RefCell::new(Heard::default()));
    let (old, notes) = (world.leader(0).unwrap(), Rc::clone(&heard));
    world.context.lose_message = Some(Box::new(move |at, from, _, message| {
        let mut heard = notes.borrow_mut();
        match message {
            Message::LeaderAlive(_) if from == old => heard.last_alive = at,
            Message::LeaderAlive(_) => _ = heard.next_alive.get_or_insert(at),
            Message::LeaderClaim(_) => _ = heard.first_claim.get_or_insert(at),
            _ => {}
        }
        false
    }));
    world.run(SECOND * 2).unwrap();
    (world, heard)
}

#[test]
fn claims_and_votes_keep_the_times_of_the_sources() {
    for seed in 0..SHOTS {
        let (mut world, heard) = watched(seed, 0.0);
        let crashed = world.context.now;
        world.strike(Fault::kill(Who::Leader(0), SECOND * 3_600));
        let agreed = world.expect(SECOND * 60, |world| world.agreed(0).map(drop)).unwrap();
        let heard = *heard.borrow();
        let (claim, alive) = (heard.first_claim.unwrap(), heard.next_alive.unwrap());
        let silence = claim.since(heard.last_alive);
        assert!(silence >= SECOND * 5 && silence <= SECOND * 10, "seed {seed}: claimed after {silence}");
        let vote = alive.since(claim);
        assert!(vote >= SECOND * 10 && vote <= SECOND * 15, "seed {seed}: the vote took {vote}");
        let failover = agreed.since(crashed);
        assert!(failover <= SECOND * 25, "seed {seed}: {failover} without a leader");
    }
}

/// A claim that is lost, or a leader-alive, costs some of the repetitions and not another election.
#[test]
fn a_classic_leader_is_replaced_within_half_a_minute_at_five_percent_loss() {
    for seed in 0..SHOTS {
        let (mut world, _) = watched(seed, 0.05);
        world.strike(Fault::kill(Who::Leader(0), SECOND * 3_600));
        let crashed = world.context.now;
        let agreed = world.expect(SECOND * 60, |world| world.agreed(0).map(drop)).unwrap();
        assert!(agreed.since(crashed) <= SECOND * 30, "seed {seed}: {}", agreed.since(crashed));
    }
}

/// Where multicast passes nothing is sent twice, neither by those who look for the first leader nor by those
/// who want to be the next: of the half a thousand messages of a failover, four in five were copies.
#[test]
fn a_classic_segment_that_is_well_sends_no_copies() {
    let mut world = World::new(3, Options { classic: true, ..Options::quiet(32) }, false);
    world.expect(SECOND * 60, World::settled).unwrap();
    world.strike(Fault::kill(Who::Leader(0), SECOND * 3_600));
    world.expect(SECOND * 60, World::settled).unwrap();
    let copies: u64 = world.nodes.iter().map(|node| node.copies_sent).sum();
    assert_eq!(copies, 0);
}
