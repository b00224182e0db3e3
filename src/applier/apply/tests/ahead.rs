//! Staging that begins while its assignment still arrives.

use super::*;
use std::path::Path;

const PIECE: usize = 300_000;

/// Two files; the second arrives later.
fn pair() -> Draft {
    let draft = Draft::new(1, None).put("a", &[b'a'; PIECE]).put("b", &[b'b'; PIECE]);
    draft.promising_after(Vec::new())
}

/// The assignment's file as it is when all of its commands are there, and of its data so many bytes.
fn arrived(signed: &Signed, until: usize) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut bytes = vec![0; signed.shape.file_len() as usize];
    signed.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes[until..signed.shape.data_len as usize].fill(0);
    file.write_all_at(&bytes, 0).unwrap();
    file
}

/// Puts the rest there.
fn arrive(file: &File, signed: &Signed) {
    let mut bytes = vec![0; signed.shape.data_len as usize];
    signed.file.read_exact_at(&mut bytes, 0).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

fn begin(farm: &Farm, signed: &Signed, file: &File, until: usize) {
    let request = Request::Begin { shape: signed.shape, until: until as u64 };
    farm.net.send(&request, Some(file.as_fd())).unwrap();
}

fn advance(farm: &Farm, signed: &Signed, until: usize) {
    farm.net.send(&Request::Arrived { object: signed.shape.name, until: until as u64 }, None).unwrap();
}

fn temp(farm: &Farm) -> PathBuf {
    farm.root.path().join("www/.farmcast/temp")
}

/// Waits until the file has its length. Bounded: an applier that never writes it fails the test.
fn wait_for(path: &Path, len: usize) {
    for _ in 0..3_000 {
        if path.metadata().is_ok_and(|found| found.len() == len as u64)
            && std::fs::read(path).unwrap()[len - 1] != 0
        {
            return;
        }
        clock::sleep_until(clock::monotonic() + Duration::from_millis(10));
    }
    panic!("{} was not written", path.display());
}

#[test]
fn what_has_come_is_staged_before_the_rest_and_goes_live_as_ever() {
    let farm = Farm::start();
    let signed = pair().sign();
    let file = arrived(&signed, PIECE);
    begin(&farm, &signed, &file, PIECE);
    wait_for(&temp(&farm).join("a"), PIECE);
    arrive(&file, &signed);
    advance(&farm, &signed, 2 * PIECE);
    wait_for(&temp(&farm).join("b"), PIECE);
    assert!(!farm.root.path().join("www/live/a").exists());
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    let Outcome::Switched { .. } = farm.order(&commit(1, 1)) else { panic!("it is staged") };
    farm.expect_version(Some(1));
    assert_eq!(farm.read("b").len(), PIECE);
    let root = farm.stop();
    assert_eq!(hash_tree(&root.path().join("www/live")).unwrap().hash, pair().header.result);
}

/// The request to stage says that all is there, whatever was told before.
#[test]
fn nothing_but_the_request_to_stage_is_needed_for_the_end() {
    let farm = Farm::start();
    let signed = pair().sign();
    let file = arrived(&signed, 10);
    begin(&farm, &signed, &file, 10);
    arrive(&file, &signed);
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    farm.stop();
}

#[test]
fn an_order_for_the_site_goes_before_it_and_the_staging_begins_anew() {
    let farm = Farm::start();
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    let Outcome::Switched { at } = farm.order(&commit(1, 1)) else { panic!("it is staged") };
    farm.expect_version(Some(1));
    let draft = Draft::new(2, Some(1)).put("a", &[b'a'; PIECE]).promising_after(vec![first()]);
    let signed = draft.sign();
    let file = arrived(&signed, PIECE / 2);
    begin(&farm, &signed, &file, PIECE / 2);
    wait_for(&temp(&farm).join("d/f"), 3);
    // It comes again, for its report was lost: answered at once, though the rest never arrives.
    assert_eq!(farm.order(&commit(1, 1)), Outcome::Switched { at });
    farm.expect_version(Some(1));
    assert!(!temp(&farm).exists(), "what was begun is gone");
    advance(&farm, &signed, PIECE);
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}

#[test]
fn another_assignment_takes_its_place() {
    let farm = Farm::start();
    let (one, mut two) = (pair().sign(), pair());
    two.header.assignment = AssignmentId(2);
    let two = two.sign();
    begin(&farm, &one, &arrived(&one, PIECE), PIECE);
    wait_for(&temp(&farm).join("a"), PIECE);
    let file = arrived(&two, 0);
    begin(&farm, &two, &file, 0);
    arrive(&file, &two);
    assert_eq!(farm.stage(&two), Outcome::Staged);
    // And one that nobody began does so too.
    begin(&farm, &one, &arrived(&one, PIECE), PIECE);
    assert_eq!(farm.stage(&two), Outcome::Staged);
    farm.stop();
}

#[test]
fn what_waits_for_its_order_is_left_alone() {
    let farm = Farm::start();
    assert_eq!(farm.stage(&first().sign()), Outcome::Staged);
    let signed = pair().sign();
    begin(&farm, &signed, &arrived(&signed, PIECE), PIECE);
    let Outcome::Switched { .. } = farm.order(&commit(1, 1)) else { panic!("it is staged") };
    farm.expect_version(Some(1));
    assert_eq!(farm.read("d/f"), "one");
    farm.stop();
}

#[test]
fn what_is_not_what_was_signed_is_refused_as_ever_and_leaves_nothing() {
    let farm = Farm::start();
    let signed = pair().sign();
    // Net said that it was there, and it was not.
    let file = arrived(&signed, PIECE);
    begin(&farm, &signed, &file, 2 * PIECE);
    assert_failed(&farm.stage(&signed), Reason::Forged, "b");
    assert!(!temp(&farm).exists());
    assert_failed(&farm.order(&commit(1, 1)), Reason::NotStaged, "assignment 1 is not staged here");
    // What cannot be begun is not: no file, no such site, no such base, forged.
    farm.net.send(&Request::Begin { shape: signed.shape, until: 1 }, None).unwrap();
    let mut shop = pair();
    shop.header.site = Name::new("shop").unwrap();
    let shop = shop.sign();
    begin(&farm, &shop, &shop.file, 1);
    let stale = second().sign();
    begin(&farm, &stale, &stale.file, 1);
    let mut forged = pair().sign();
    forged.shape.name.0[0] ^= 1;
    begin(&farm, &forged, &forged.file, 1);
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    farm.stop();
}

#[test]
fn a_net_that_ends_in_the_middle_leaves_a_site_that_opens_and_stages() {
    let farm = Farm::start();
    let signed = pair().sign();
    begin(&farm, &signed, &arrived(&signed, PIECE), PIECE);
    wait_for(&temp(&farm).join("a"), PIECE);
    let farm = Farm::start_in(farm.stop(), &[None]);
    assert!(!temp(&farm).exists());
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    farm.stop();
}
