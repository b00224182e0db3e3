//! What operators do with jobs: let them wait, go on, end, try again; and read what became of them.

use crate::harness::{Farm, LATER, SOON, farmcast, noise, wait_for};
use farmcast::ccm::api::types::{Event, Job, JobReport, Phase};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[track_caller]
fn told(farm: &Farm, word: &str, id: u64) -> Job {
    let said = farm.cli(&["--json", "job", word, &id.to_string()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.json()
}

/// A node that stands still keeps a job from going on.
#[test]
fn a_job_is_paused_resumed_and_cancelled_before_it_switches_and_live_is_not_touched() {
    let farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    farm.wait_until_whole();
    let before = farm.lives();
    farm.cli(&["freeze", "on", "--reason", "it is to stay queued"]);

    farm.stage("index.html", "two");
    let first = farm.publish_later().id;
    let paused = told(&farm, "pause", first);
    assert_eq!((paused.phase, paused.text.as_str()), (Phase::Queued, "paused by an operator"));
    farm.cli(&["freeze", "off"]);
    // One that waits does not keep others from their site.
    let second = farm.publish_later().id;
    assert_eq!(farm.wait_for_end(second).phase, Phase::Done);
    assert_eq!(farm.job(first).phase, Phase::Queued);
    told(&farm, "resume", first);
    assert_eq!(farm.wait_for_end(first).phase, Phase::Unchanged);
    farm.cli(&["job", "resume", &first.to_string()]).assert_refused(4, &["is over: unchanged"]);
    assert_ne!(farm.lives(), before);

    farm.wait_until_whole();
    let before = farm.lives();
    farm.cli(&["freeze", "on", "--reason", "it is to stay queued"]);
    farm.stage("large", noise(5, 1 << 20));
    let third = farm.publish_later().id;
    told(&farm, "cancel", third);
    let over = farm.wait_for_end(third);
    assert_eq!((over.phase, over.nodes_live), (Phase::Cancelled, 0), "{}", over.text);
    assert_eq!(farm.lives(), before);
    farm.cli(&["job", "cancel", &third.to_string()]).assert_refused(4, &["is over: cancelled"]);
    farm.cli(&["freeze", "off"]);

    let again = farm.cli(&["--json", "job", "retry", &third.to_string()]);
    let job: Job = again.json();
    assert_eq!(
        (again.code, job.id, job.phase, job.attempt),
        (Some(0), third, Phase::Done, 2),
        "{}",
        job.text
    );
    farm.assert_live_is_staging();
    farm.cli(&["job", "retry", &third.to_string()]).assert_refused(4, &["nothing to try again"]);
    farm.cli(&["job", "retry", &third.to_string(), "--failed-only"])
        .assert_refused(4, &["is for all of them"]);
    farm.cli(&["job", "retry", "99"]).assert_refused(5, &["there is no job 99"]);

    let report: JobReport = farm.cli(&["--json", "job", "report", &third.to_string()]).json();
    let phases: Vec<Phase> = report.attempts.iter().map(|job| job.phase).collect();
    assert_eq!(phases, [Phase::Cancelled, Phase::Done]);
    assert!(report.events.iter().any(|event| event.text == "is being cancelled"), "{report:#?}");
}

/// In the middle: one node has it, the other stands still.
#[test]
fn a_job_that_distributes_is_held_while_it_is_paused_and_ends_when_it_is_cancelled() {
    let farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    farm.wait_until_whole();
    let before = farm.lives();
    let (leader, _) = farm.leader();
    let member = &farm.nodes[1 - leader];
    crate::harness::signal(member.pid(), nix::sys::signal::Signal::SIGSTOP);
    farm.stage("index.html", "two");
    let id = farm.publish_later().id;
    wait_for("it to be distributed", SOON, || {
        Some(farm.job(id)).filter(|job| job.phase == Phase::Distributing && job.nodes_staged > 0)
    });
    told(&farm, "pause", id);
    crate::harness::signal(member.pid(), nix::sys::signal::Signal::SIGCONT);
    // Both come to have it, and nothing switches.
    wait_for("both to have it", LATER, || Some(farm.job(id)).filter(|job| job.nodes_staged == 2));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!((farm.job(id).phase, farm.lives()), (Phase::Distributing, before.clone()));
    told(&farm, "cancel", id);
    assert_eq!(farm.wait_for_end(id).phase, Phase::Cancelled);
    assert_eq!(farm.lives(), before);
    farm.wait_until_whole();
    farm.publish_well();
}

#[test]
fn events_are_followed_over_a_restart_of_the_controller_and_none_is_missed_or_told_twice() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    let socket = farm.path("s");
    let mut follower = farmcast(&["--socket", &socket, "--json", "events", "--follow", "--last", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(follower.stdout.take().expect("it is a pipe")).lines();
    let reader = std::thread::spawn(move || {
        let mut seen: Vec<Event> = Vec::new();
        for line in lines.map_while(Result::ok) {
            seen.push(serde_json::from_str(&line).expect("an event"));
            if seen.last().is_some_and(|event| event.text == "lifted") {
                break;
            }
        }
        seen
    });
    farm.publish_well();
    farm.ccm = None;
    farm.start_ccm();
    farm.wait_until_whole();
    farm.stage("index.html", "two");
    farm.publish_well();
    farm.cli(&["freeze", "on", "--reason", "the end"]);
    farm.cli(&["freeze", "off"]);
    wait_for("the last event", LATER, || reader.is_finished().then_some(()));
    let seen = reader.join().expect("the reader ends");
    let _ = follower.kill();
    let _ = follower.wait();

    let all: Vec<Event> = farm.cli(&["--json", "events", "--after", "0"]).json();
    let until = seen.len();
    assert_eq!(seen, all[..until], "every event once, in its order");
    assert!(seen.iter().filter(|event| event.text.starts_with("done: ")).count() == 2, "{seen:#?}");
    let wrong = farm.cli(&["events", "--last", "0"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_eq!(farm.cli(&["job", "report", "1"]).code, Some(0));
}
