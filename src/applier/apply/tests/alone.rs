//! Assignments that go live by the order that is in them (CO-11).

use super::*;

fn alone(draft: Draft, order: &Order) -> Signed {
    signed_by(draft, order.sign(&director()))
}

fn signed_by(mut draft: Draft, order: Vec<u8>) -> Signed {
    draft.header.order = Some(order);
    draft.sign()
}

#[test]
fn what_carries_its_order_is_live_when_it_is_staged_and_a_rollback_works_afterwards() {
    let farm = Farm::start();
    let before = clock::monotonic().as_nanos();
    let Outcome::Switched { at } = farm.stage(&alone(first(), &commit(1, 1))) else { panic!("not live") };
    assert!((before..=clock::monotonic().as_nanos()).contains(&at));
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");
    // The same again is answered as before, after a restart too.
    let farm = Farm::start_in(farm.stop(), &[Some(1)]);
    assert_eq!(farm.stage(&alone(first(), &commit(1, 1))), Outcome::Switched { at });
    farm.expect_version(Some(1));

    assert!(matches!(farm.stage(&alone(second(), &commit(2, 2))), Outcome::Switched { .. }));
    farm.expect_version(Some(2));
    let back = Order { action: Action::Switch { assignment: AssignmentId(1) }, ..commit(3, 1) };
    assert!(matches!(farm.order(&back), Outcome::Switched { .. }));
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");
    // What was overtaken by a later order stays where it is.
    assert_failed(
        &farm.stage(&alone(second(), &commit(2, 2))),
        Reason::OldOrder,
        "order 2 is not newer than 3",
    );
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}

/// The applier was killed between the staging and the switch.
#[test]
fn what_was_staged_before_a_crash_goes_live_when_it_is_asked_for_again() {
    let root = tempfile::tempdir().unwrap();
    let signed = alone(first(), &commit(1, 1));
    let mut site = Site::open(&root.path().join("www")).unwrap();
    site.stage(&signed.buffer, &signed.file).unwrap();
    drop(site);
    let farm = Farm::start_in(root, &[None]);
    assert!(matches!(farm.stage(&signed), Outcome::Switched { .. }));
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}

#[test]
fn an_order_within_that_the_director_did_not_give_for_this_is_refused_and_nothing_is_staged() {
    let farm = Farm::start();
    let forged = commit(1, 1).sign(&SigningKey::from_seed([44; 32]));
    assert_failed(&farm.stage(&signed_by(first(), forged)), Reason::Forged, "the order in it");
    // Nor is the publisher the director.
    assert_failed(&farm.stage(&signed_by(first(), commit(1, 1).sign(&publisher()))), Reason::Forged, "");
    let other_site = Order { site: Name::new("shop").unwrap(), ..commit(1, 1) };
    let switch = Order { action: Action::Switch { assignment: AssignmentId(1) }, ..commit(1, 1) };
    for order in [commit(1, 2), other_site, switch] {
        assert_failed(&farm.stage(&alone(first(), &order)), Reason::Forged, "what it is for");
    }
    assert_failed(&farm.stage(&signed_by(first(), vec![7; 200])), Reason::Forged, "");
    assert!(matches!(farm.stage(&alone(first(), &commit(1, 1))), Outcome::Switched { .. }));
    farm.expect_version(Some(1));
    let expired = Order { expires: 0, ..commit(2, 2) };
    let signed = alone(second(), &expired);
    let (run, assignment, shape) = (RunId(7), AssignmentId(2), signed.shape);
    let request = Request::Stage { run, assignment, shape, clock_offset_ns: 3_600_000_000_000 };
    farm.net.send(&request, Some(signed.file.as_fd())).unwrap();
    let Reply::Staged { outcome, .. } = farm.reply() else { panic!("an answer to the staging") };
    assert_failed(&outcome, Reason::OldOrder, "expired");
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}
