//! The controller's database: backed up while it works, brought back, replaced by hand, damaged.

use crate::harness::{Farm, LATER, SITE, SOON, farmcast, run};
use farmcast::ccm::api::types::{Database, Phase};
use std::collections::BTreeSet;
use std::fs;

/// The document of a restore, at the farm's own configuration.
#[track_caller]
fn restore(farm: &Farm, file: &str) -> crate::harness::Said {
    run(farmcast(&["--json", "db", "restore", file, "--config", &farm.path("ccm/ccm.toml")]), SOON)
}

/// Publishes this content; the version that is live then.
#[track_caller]
fn publish(farm: &Farm, content: &str) -> u64 {
    farm.stage("index.html", content);
    farm.publish_well().assignment
}

#[test]
fn after_a_backup_is_brought_back_publishing_goes_on_and_no_number_comes_twice() {
    let mut farm = Farm::of(2);
    let backup = farm.path("backup.db");
    let mut versions = vec![publish(&farm, "one")];
    // A job that waits: the backup holds it as queued.
    let said = farm.cli(&["freeze", "on", "--reason", "backup"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let queued = farm.publish_later();
    let said = farm.cli(&["--json", "db", "backup", &backup]);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.cli(&["db", "backup", &backup]).assert_refused(4, &["exists already"]);
    let said = farm.cli(&["freeze", "off"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.wait_for_end(queued.id);
    versions.extend(["two", "three"].map(|content| publish(&farm, content)));
    let before: Database = farm.cli(&["--json", "db", "status"]).json();
    assert_eq!(before.integrity, "ok");

    restore(&farm, &backup).assert_refused(4, &["stop it first"]);
    farm.ccm = None;
    let said = restore(&farm, &backup);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.start_ccm();
    farm.wait_until_whole();
    let after: Database = farm.cli(&["--json", "db", "status"]).json();
    for series in &before.numbers {
        let now = after.numbers.iter().find(|other| other.name == series.name).expect("a series stays");
        assert!(now.last > series.last || series.name == "end", "{series:?} {now:?}");
    }
    let ended = farm.job(queued.id);
    assert_eq!(ended.phase, Phase::Cancelled, "it ran long ago: {ended:#?}");
    let said = farm.cli(&["freeze", "off"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    versions.extend(["four", "five"].map(|content| publish(&farm, content)));
    for node in &farm.nodes {
        assert_eq!(Some(&node.version()), versions.last(), "{}", node.name);
    }
    let distinct: BTreeSet<u64> = versions.iter().copied().collect();
    assert_eq!(distinct.len(), versions.len(), "{versions:?}");
}

/// Somebody copies an old file into its place: the shadow tells, before anything is given out.
#[test]
fn an_older_database_that_was_put_there_by_hand_is_noticed_at_start() {
    let mut farm = Farm::of(1);
    let first = publish(&farm, "one");
    farm.cli(&["db", "backup", &farm.path("backup.db")]);
    let second = publish(&farm, "two");
    farm.ccm = None;
    for left in ["ccm/ccm.db-wal", "ccm/ccm.db-shm"] {
        let _ = fs::remove_file(farm.path(left));
    }
    fs::copy(farm.path("backup.db"), farm.path("ccm/ccm.db")).expect("a copy");
    farm.start_ccm();
    assert!(farm.ccm_log().contains("it is an older copy"), "{}", farm.ccm_log());
    farm.wait_until_whole();
    let third = publish(&farm, "three");
    assert!(first < second && second < third, "{first} {second} {third}");
}

#[test]
fn a_damaged_database_stops_the_start_with_the_remedy_and_the_remedy_works() {
    let mut farm = Farm::of(1);
    publish(&farm, "one");
    let backup = farm.path("backup.db");
    farm.cli(&["db", "backup", &backup]);
    farm.ccm = None;
    let database = farm.path("ccm/ccm.db");
    let mut bytes = fs::read(&database).expect("the database");
    let len = bytes.len();
    bytes[4096..len].fill(0x5a);
    fs::write(&database, bytes).expect("the database");
    let config = farm.path("ccm/ccm.toml");
    let said = run(farmcast(&["ccm", "run", "--config", &config]), LATER);
    assert_eq!(said.code, Some(73), "{said:?}");
    assert!(said.stderr.contains("damaged") && said.stderr.contains("farmcast db restore FILE"), "{said:?}");
    let said = run(farmcast(&["db", "status", &database]), SOON);
    assert_eq!(said.code, Some(1), "{said:?}");
    let said = run(farmcast(&["db", "status", &backup]), SOON);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("sound"), "{said:?}");

    let said = restore(&farm, &backup);
    assert_eq!(said.code, Some(0), "{said:?}");
    farm.start_ccm();
    farm.wait_until_whole();
    let status = farm.cli(&["--json", "site", "list"]);
    assert!(status.stdout.contains(SITE), "{status:?}");
    publish(&farm, "two");
}
