//! Jobs that start by themselves, and what keeps them from it (SC, ST-4).

use crate::harness::{Farm, LATER, SOON, tree, wait_for};
use farmcast::ccm::api::types::{Event, Job, LookAhead, Phase, Schedule, Window};

#[track_caller]
fn schedule(farm: &Farm, name: &str) -> Schedule {
    farm.cli(&["--json", "schedule", "show", name]).json()
}

#[track_caller]
fn done(farm: &Farm, arguments: &[&str]) {
    let said = farm.cli(arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Waits until every node serves what is staged.
#[track_caller]
fn wait_until_live(farm: &Farm) {
    let staging = tree(&farm.staging());
    wait_for("what is staged to be live", LATER, || {
        farm.lives().iter().all(|live| live.tree == staging).then_some(())
    });
}

#[test]
fn a_change_of_staging_goes_live_by_itself_also_one_made_while_the_controller_was_away() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    done(&farm, &["schedule", "add", "auto", "www", "--on-change", "1"]);
    wait_until_live(&farm);
    let first = wait_for("its job", SOON, || Some(schedule(&farm, "auto")).filter(|auto| auto.last_job > 0));
    assert_eq!(farm.wait_for_end(first.last_job).phase, Phase::Done);
    assert_eq!(farm.job(first.last_job).schedule, "auto");

    // In a directory that is new as well.
    std::fs::create_dir(farm.staging().join("sub")).expect("a directory of staging");
    farm.stage("sub/page.html", "two");
    wait_until_live(&farm);
    let second = wait_for("its job", SOON, || {
        Some(schedule(&farm, "auto")).filter(|auto| auto.last_job > first.last_job)
    });
    farm.wait_for_end(second.last_job);

    farm.ccm = None;
    farm.stage("index.html", "three");
    farm.start_ccm();
    wait_until_live(&farm);
}

#[test]
fn a_schedule_of_the_clock_starts_jobs_and_one_that_follows_starts_after_them() {
    let farm = Farm::of(1);
    farm.stage("index.html", "one");
    let shop = farm.path("shop");
    std::fs::create_dir(&shop).expect("another staging directory");
    done(&farm, &["site", "add", "shop", "--staging", &shop]);
    done(&farm, &["schedule", "add", "next", "shop", "--after", "www"]);
    done(&farm, &["schedule", "add", "often", "www", "--cron", "* * * * * *", "--zone", "UTC"]);
    wait_until_live(&farm);
    let followed = wait_for("the job that follows", SOON, || {
        Some(schedule(&farm, "next")).filter(|next| next.last_job > 0)
    });
    assert!(followed.last_text.contains("of www ended done"), "{followed:?}");
    // No node serves the shop, and that is what its job says.
    assert_eq!(farm.wait_for_end(followed.last_job).phase, Phase::Failed);

    done(&farm, &["schedule", "disable", "often"]);
    let off = schedule(&farm, "often");
    assert!(!off.enabled && off.next_ns == 0, "{off:?}");
    farm.cli(&["schedule", "add", "circle", "www", "--after", "shop"])
        .assert_refused(4, &["in a circle", "www to shop"]);
    done(&farm, &["schedule", "remove", "often"]);
    farm.cli(&["schedule", "show", "often"]).assert_refused(5, &["there is no schedule often"]);
}

#[test]
fn what_waits_for_a_trigger_starts_when_it_is_called_and_once_in_its_gap() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.cli(&["trigger", "balancer"])
        .assert_refused(5, &["no schedule waits for balancer", "--on-trigger balancer"]);
    done(&farm, &["schedule", "add", "hot", "www", "--on-trigger", "balancer", "--gap", "3"]);
    done(&farm, &["trigger", "balancer"]);
    wait_until_live(&farm);
    let first = wait_for("its job", SOON, || Some(schedule(&farm, "hot")).filter(|hot| hot.last_job > 0));
    assert_eq!(farm.wait_for_end(first.last_job).phase, Phase::Done);
    assert!(first.last_text.contains("balancer was called"), "{first:?}");
    // Called again and again within the gap, with a controller that is killed in it: one start.
    farm.stage("index.html", "two");
    done(&farm, &["trigger", "balancer"]);
    done(&farm, &["trigger", "balancer"]);
    farm.ccm.as_mut().expect("it runs").kill();
    farm.start_ccm();
    let second = wait_for("its job", SOON, || {
        Some(schedule(&farm, "hot")).filter(|hot| hot.last_job > first.last_job)
    });
    assert!(second.last_ns >= first.last_ns + 3_000_000_000, "{first:?} {second:?}");
    farm.wait_for_end(second.last_job);
    let events: Vec<Event> = farm.cli(&["--json", "events"]).json();
    let calls =
        events.iter().filter(|event| event.subject == "schedule hot" && event.text == "balancer was called");
    assert!(calls.count() >= 2, "{events:#?}");
    assert_eq!(schedule(&farm, "hot").last_job, second.last_job);
    done(&farm, &["schedule", "disable", "hot"]);
    farm.cli(&["trigger", "balancer"]).assert_refused(4, &["is disabled", "schedule enable hot"]);
    farm.cli(&["schedule", "add", "bad", "www", "--on-trigger", "x", "--gap", "0"])
        .assert_refused(2, &["is no call"]);
}

#[test]
fn a_freeze_keeps_jobs_waiting_over_a_restart_until_it_is_lifted_or_overridden() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    done(&farm, &["freeze", "on", "--reason", "the auditors are here"]);
    farm.stage("index.html", "two");
    let waits = farm.publish_later();
    let said =
        wait_for("the reason", SOON, || Some(farm.job(waits.id)).filter(|job| job.text.contains("auditors")));
    assert_eq!(
        (said.phase, said.text.as_str()),
        (Phase::Queued, "waits: the farm is frozen (freeze: the auditors are here)",)
    );
    farm.cli(&["publish", "www", "--on-freeze", "cancel"])
        .assert_refused(4, &["the farm is frozen", "--override"]);
    farm.cli(&["freeze", "on", "--reason", "again"]).assert_refused(4, &["the auditors are here"]);

    farm.ccm = None;
    farm.start_ccm();
    farm.wait_until_whole();
    assert_eq!(farm.job(waits.id).phase, Phase::Queued);
    assert_eq!(farm.lives(), before);

    // Somebody has a reason: it goes first, and into the history.
    let said = farm.cli(&["--json", "publish", "www", "--override", "a hole is to be closed"]);
    assert_eq!((said.code, said.json::<Job>().phase), (Some(0), Phase::Done));
    let events: Vec<Event> = farm.cli(&["--json", "events"]).json();
    let overridden = "starts whatever is frozen: a hole is to be closed";
    assert!(events.iter().any(|event| event.text == overridden), "{events:#?}");
    farm.assert_live_is_staging();

    // What was overtaken still goes everywhere when its time comes.
    assert_eq!(farm.job(waits.id).phase, Phase::Queued);
    farm.wait_until_whole();
    farm.stage("index.html", "three");
    done(&farm, &["freeze", "off"]);
    let over = farm.wait_for_end(waits.id);
    assert_eq!((over.phase, over.nodes_live), (Phase::Done, 1), "{}", over.text);
    farm.assert_live_is_staging();
    farm.cli(&["freeze", "off"]).assert_refused(5, &["there is no window freeze"]);
}

#[test]
fn conflicts_are_named_before_they_come_and_what_cannot_be_is_refused() {
    let farm = Farm::of(1);
    for name in ["nightly", "backup"] {
        done(&farm, &["schedule", "add", name, "www", "--cron", "0 3 * * *", "--zone", "Europe/Vienna"]);
    }
    let said = farm.cli(&["--json", "schedule", "check", "--days", "2"]);
    let ahead: LookAhead = said.json();
    assert_eq!((said.code, ahead.starts, ahead.findings.len()), (Some(1), 4, 2), "{ahead:?}");
    let first = &ahead.findings[0];
    assert_eq!((first.kind.as_str(), first.nodes), ("conflict", 1));
    assert!([&first.schedule, &first.with].iter().all(|name| ["nightly", "backup"].contains(&name.as_str())));

    let blackout = ["blackout", "add", "night", "--cron", "0 2 * * *", "--zone", "Europe/Vienna"];
    done(&farm, &[&blackout[..], &["--for", "2h", "--reason", "backups"]].concat());
    let windows: Vec<Window> = farm.cli(&["--json", "blackout", "list"]).json();
    assert_eq!((windows.len(), windows[0].lasts_s), (1, Some(7_200)));
    let ahead: LookAhead = farm.cli(&["--json", "schedule", "check", "--days", "2"]).json();
    assert!(ahead.findings.iter().all(|finding| finding.kind == "window"), "{ahead:?}");
    done(&farm, &["schedule", "remove", "backup"]);
    done(&farm, &["blackout", "remove", "night"]);
    assert_eq!(farm.cli(&["schedule", "check"]).code, Some(0));

    let add = |rest: &[&str]| farm.cli(&[&["schedule", "add", "bad", "www"], rest].concat());
    add(&["--cron", "0 3 * * *", "--zone", "Mars/Base"]).assert_refused(2, &["Mars/Base", "is no time zone"]);
    add(&["--cron", "0 3 * *", "--zone", "UTC"]).assert_refused(2, &["is no cron expression"]);
    add(&["--at", "2001-01-01T00:00:00Z"]).assert_refused(2, &["is over"]);
    add(&["--on-change", "0"]).assert_refused(2, &["has to rest"]);
    add(&["--on-change", "--retries", "101"]).assert_refused(2, &["retries is not within"]);
    add(&["--after", "none"]).assert_refused(5, &["there is no site none"]);
    farm.cli(&["schedule", "add", "nightly", "www", "--on-change"])
        .assert_refused(4, &["there is a schedule nightly"]);
    farm.cli(&["schedule", "add", "x", "none", "--on-change"]).assert_refused(5, &["there is no site none"]);
    farm.cli(&["publish", "www", "--quorum", "most"]).assert_refused(2, &["quorum must be"]);
}
