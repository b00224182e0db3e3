use super::*;
use crate::ccm::testing::{controller, enrol, id};

/// The farm's files in its directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("ccm.db"));
    names.sort();
    names
}

#[test]
fn a_backup_takes_the_place_of_the_database_which_is_kept() {
    let (dir, controller) = controller(1);
    let config = controller.config.clone();
    drop(controller);
    let backup = dir.path().join("backup");
    db::backup(&config.database(), &backup).unwrap();
    let mut store = Store::open(&config.database()).unwrap();
    enrol(&mut store, 2);
    drop(store);
    // What a restore that was killed leaves.
    fs::write(dir.path().join("ccm.db.restoring"), "half").unwrap();

    let done = restore(&config, &backup).unwrap();
    let kept = done.replaced.unwrap();
    assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
    assert!(Store::open(&kept).unwrap().node(id(2)).unwrap().is_some());
    let store = Store::open(&config.database()).unwrap();
    assert!(store.node(id(1)).unwrap().is_some() && store.node(id(2)).unwrap().is_none());
    drop(store);

    // A damaged one is no obstacle, nor is none.
    fs::write(config.database(), vec![0x5a; 20_000]).unwrap();
    restore(&config, &backup).unwrap();
    fs::remove_file(config.database()).unwrap();
    assert_eq!(restore(&config, &backup).unwrap().replaced, None);
    assert!(Store::open(&config.database()).unwrap().node(id(1)).unwrap().is_some());
}

#[test]
fn nothing_changes_where_a_backup_is_not_fit() {
    let (dir, controller) = controller(1);
    let config = controller.config.clone();
    drop(controller);
    let before = fs::read(config.database()).unwrap();
    let lock = lock_state(&config.dir).unwrap();
    assert!(matches!(restore(&config, &config.database()), Err(RestoreError::Lock(_))));
    drop(lock);

    let damaged = dir.path().join("damaged");
    fs::write(&damaged, vec![0x5a; 20_000]).unwrap();
    let (other_dir, other) = crate::ccm::testing::controller(1);
    let mut foreign = Store::open(&other.config.database()).unwrap();
    foreign.claim(&other.keys.director.public(), &other.config.database()).unwrap();
    let foreign = other_dir.path().join("foreign");
    db::backup(&other.config.database(), &foreign).unwrap();
    for unfit in [damaged, foreign, dir.path().join("none")] {
        let refused = restore(&config, &unfit);
        assert!(matches!(refused, Err(RestoreError::Db(_))), "{unfit:?}: {refused:?}");
        assert_eq!(fs::read(config.database()).unwrap(), before, "{unfit:?}");
        assert_eq!(names(dir.path()), ["ccm.db"], "{unfit:?}");
    }
}
