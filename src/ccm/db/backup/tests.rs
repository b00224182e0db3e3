use super::*;
use crate::ccm::db::Store;
use crate::ccm::testing::{T0, enrol, id, key, store};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_backup_is_one_file_with_what_was_written_until_then() {
    let (dir, mut store) = store();
    (1..=3).for_each(|number| enrol(&mut store, number));
    let (from, to) = (dir.path().join("ccm.db"), dir.path().join("backup"));
    let bytes = backup(&from, &to).unwrap();
    enrol(&mut store, 4);
    assert_eq!(fs::metadata(&to).unwrap().len(), bytes);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!beside(&to, "-wal").exists() && !beside(&to, ".partial").exists());
    let copy = Store::open(&to).unwrap();
    assert!(copy.node(id(3)).unwrap().is_some() && copy.node(id(4)).unwrap().is_none());
    drop(copy);

    assert!(matches!(backup(&from, &to), Err(DbError::Exists(_))), "nothing is overwritten");
    let nowhere = backup(&from, &dir.path().join("none/backup"));
    assert!(matches!(nowhere, Err(DbError::Write { .. })), "{nowhere:?}");
}

#[test]
fn what_is_damaged_is_seen_and_no_backup_is_made_of_it() {
    let (dir, mut store) = store();
    (1..=100).for_each(|number| store.record_event("farm", &format!("event {number}"), T0).unwrap());
    drop(store);
    let path = dir.path().join("ccm.db");
    let sound = inspect(&path).unwrap();
    assert_eq!((sound.integrity.as_deref(), sound.version), (Some("ok"), sound.known));
    assert!(sound.tables.contains(&("events".to_owned(), 100)), "{sound:?}");

    // The root of the table of events, page by page until it is hit.
    let good = fs::read(&path).unwrap();
    let mut seen = 0;
    for page in 1..good.len() / 4096 {
        let mut bad = good.clone();
        bad[page * 4096..page * 4096 + 64].fill(0xff);
        fs::write(&path, &bad).unwrap();
        if inspect(&path).is_ok_and(|found| found.integrity.as_deref() == Some("ok")) {
            continue;
        }
        seen += 1;
        let copied = backup(&path, &dir.path().join("backup"));
        assert!(matches!(copied, Err(DbError::Damaged { .. })), "page {page}: {copied:?}");
        assert!(!dir.path().join("backup").exists() && !dir.path().join("backup.partial").exists());
        let refused = Store::open(&path).unwrap_err().to_string();
        assert!(refused.contains("farmcast db restore"), "{refused}");
    }
    assert!(seen > 10, "{seen} pages");
}

#[test]
fn the_database_of_another_farm_is_not_taken() {
    let (dir, mut store) = store();
    let path = dir.path().join("ccm.db");
    store.claim(&key(1).public(), &path).unwrap();
    store.claim(&key(1).public(), &path).unwrap();
    assert!(matches!(store.claim(&key(2).public(), &path), Err(DbError::Foreign { .. })));
}
