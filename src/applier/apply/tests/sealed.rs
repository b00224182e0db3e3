//! Encrypted assignments: nothing happens before the CCM has given the key, and nothing with a wrong one (AS-17).

use super::*;
use crate::wire::content_key::ContentSecret;
use crate::wire::key_grant::{KeyGrant, KeyRequest};

const SECRET: ContentSecret = ContentSecret([9; 32]);
const LARGE: usize = 600_000;

fn sealed() -> Signed {
    let draft = Draft::new(1, None).put("a", &[b'a'; LARGE]).put("b", b"secret");
    draft.promising_after(Vec::new()).sealed(&SECRET, 3).sign()
}

fn ask(farm: &Farm, signed: &Signed) {
    let (run, assignment, shape) = (RunId(7), AssignmentId(1), signed.shape);
    let request = Request::Stage { run, assignment, shape, clock_offset_ns: 0 };
    farm.net.send(&request, Some(signed.file.as_fd())).unwrap();
}

fn wanted(farm: &Farm, signed: &Signed, of: Option<RunId>) -> KeyRequest {
    match farm.reply() {
        Reply::Wants { object, run, request } if object == signed.shape.name && run == of => request,
        other => panic!("{other:?}"),
    }
}

fn give(farm: &Farm, request: &KeyRequest, secret: &ContentSecret, director: &SigningKey) {
    let key = secret.key(&request.site, request.assignment, &request.salt);
    let document = KeyGrant::seal(request, &key, director).unwrap();
    farm.net.send(&Request::Key { document }, None).unwrap();
}

#[test]
fn what_is_encrypted_is_staged_with_its_key_and_a_restart_asks_for_it_again() {
    let farm = Farm::start();
    let signed = sealed();
    ask(&farm, &signed);
    let request = wanted(&farm, &signed, Some(RunId(7)));
    assert_eq!((request.site.clone(), request.assignment), (www(), AssignmentId(1)));
    give(&farm, &request, &SECRET, &director());
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    // The key is kept nowhere, nor is that of the process to which it was given.
    let farm = Farm::start_in(farm.stop(), &[None]);
    ask(&farm, &signed);
    let again = wanted(&farm, &signed, Some(RunId(7)));
    assert_ne!(again.recipient, request.recipient);
    give(&farm, &again, &SECRET, &director());
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    assert!(matches!(farm.order(&commit(1, 1)), Outcome::Switched { .. }));
    farm.expect_version(Some(1));
    assert_eq!((farm.read("a").len(), farm.read("b").as_str()), (LARGE, "secret"));
    farm.stop();
}

#[test]
fn a_key_that_is_wrong_or_not_for_us_stages_nothing() {
    let farm = Farm::start();
    let signed = sealed();
    ask(&farm, &signed);
    let request = wanted(&farm, &signed, Some(RunId(7)));
    // One that the director did not sign is no key at all, as is one that somebody else asked for.
    give(&farm, &request, &SECRET, &publisher());
    assert!(matches!(farm.reply(), Reply::Log { level: log::Level::Warn, .. }));
    let other = crate::wire::key_grant::Recipient::default();
    give(&farm, &KeyRequest { recipient: other.public(), ..request.clone() }, &SECRET, &director());
    assert!(matches!(farm.reply(), Reply::Log { level: log::Level::Warn, .. }));
    ask(&farm, &signed);
    wanted(&farm, &signed, Some(RunId(7)));
    give(&farm, &request, &ContentSecret([8; 32]), &director());
    assert_failed(&farm.stage(&signed), Reason::Forged, "what the content key opens does not verify");
    assert_failed(&farm.order(&commit(1, 1)), Reason::NotStaged, "");
    farm.stop();
}

/// Net swaps, cuts or turns bytes of the spool after it has checked the leaves (T12).
#[test]
fn pieces_that_were_swapped_or_changed_are_refused() {
    for (what, change) in [
        (
            "swapped",
            (|bytes: &mut [u8]| {
                let (first, second) = bytes.split_at_mut(262_144);
                first.swap_with_slice(&mut second[..262_144]);
            }) as fn(&mut [u8]),
        ),
        ("turned", |bytes| bytes[300_000] ^= 1),
        ("zeroed", |bytes| bytes[262_144..].fill(0)),
    ] {
        let farm = Farm::start();
        let signed = sealed();
        ask(&farm, &signed);
        give(&farm, &wanted(&farm, &signed, Some(RunId(7))), &SECRET, &director());
        let mut bytes = vec![0; signed.shape.data_len as usize];
        signed.file.read_exact_at(&mut bytes, 0).unwrap();
        change(&mut bytes);
        signed.file.write_all_at(&bytes, 0).unwrap();
        let Outcome::Failed { reason, text } = farm.stage(&signed) else { panic!("{what}") };
        assert_eq!(reason, Reason::Forged, "{what}: {text}");
        farm.stop();
    }
}

#[test]
fn staging_ahead_asks_for_the_key_and_begins_when_it_is_there() {
    let farm = Farm::start();
    let signed = sealed();
    let begin = || {
        let request = Request::Begin { shape: signed.shape, until: 300_000 };
        farm.net.send(&request, Some(signed.file.as_fd())).unwrap();
    };
    begin();
    let request = wanted(&farm, &signed, None);
    give(&farm, &request, &SECRET, &director());
    begin();
    let temp = farm.root.path().join("www/.farmcast/temp/a");
    let began = (0..3_000).any(|_| {
        clock::sleep_until(clock::monotonic() + Duration::from_millis(10));
        temp.metadata().is_ok_and(|found| found.len() > 0)
    });
    assert!(began, "what has come is written");
    assert_eq!(farm.stage(&signed), Outcome::Staged);
    farm.stop();
}
