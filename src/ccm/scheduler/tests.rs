use super::conflict::{Conflict, Going, find};
use super::lookahead::{Obstacle, Planned, look_ahead};
use super::settling::{RESCAN_NS, Settling};
use super::timing::{Cron, instant, rfc3339};
use super::window::{Opens, Window, hold};
use super::*;
use crate::wire::id::NodeId;

const HOUR: u64 = 3_600 * NS_PER_S;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(text: &str) -> u64 {
    instant(text).unwrap()
}

fn schedule(label: &str, site: &str, trigger: &str, since: &str) -> Schedule {
    let kind = JobKind::Publish { checksum: false };
    Schedule::new(name(label), name(site), kind, trigger.parse().unwrap(), at(since))
}

/// All times of an expression between two instants, forwards; and that they are the same backwards.
fn times(zone: &str, expression: &str, from: &str, until: &str) -> Vec<String> {
    let (cron, from, until) = (Cron::new(expression, zone).unwrap(), at(from), at(until));
    let mut forwards = Vec::new();
    let mut now = from;
    while let Some(next) = cron.next(now).filter(|next| *next <= until) {
        assert!(next > now, "{expression}: {} after {}", rfc3339(next), rfc3339(now));
        forwards.push(next);
        now = next;
    }
    let mut backwards = Vec::new();
    let mut now = until;
    while let Some(last) = cron.last(from, now) {
        backwards.push(last);
        now = last - 1;
    }
    backwards.reverse();
    assert_eq!(backwards, forwards, "{zone} {expression}");
    forwards.into_iter().map(rfc3339).collect()
}

#[test]
fn an_hour_that_is_skipped_and_one_that_comes_twice_start_a_daily_job_once() {
    // Vienna: on 29 March 02:00 is 03:00, on 25 October 03:00 is 02:00.
    let spring = times("Europe/Vienna", "30 2 * * *", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    let autumn = times("Europe/Vienna", "30 2 * * *", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(autumn, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // New York, other days: on 8 March 02:00 is 03:00.
    let new_york = times("America/New_York", "15 2 8 3 *", "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z");
    assert_eq!(new_york, ["2026-03-08T07:00:00Z"]);
}

#[test]
fn what_starts_every_half_hour_goes_by_the_hours_that_pass() {
    let autumn = times("Europe/Vienna", "*/30 * * * *", "2026-10-24T23:59:00Z", "2026-10-25T02:10:00Z");
    let expected = ["00:00", "00:30", "01:00", "01:30", "02:00"].map(|time| format!("2026-10-25T{time}:00Z"));
    assert_eq!(autumn, expected);
    let spring = times("Europe/Vienna", "*/30 * * * *", "2026-03-29T00:10:00Z", "2026-03-29T01:40:00Z");
    assert_eq!(spring, ["00:30", "01:00", "01:30"].map(|time| format!("2026-03-29T{time}:00Z")));
}

#[test]
fn a_year_is_the_same_forwards_and_backwards() {
    for (zone, expression, count) in [
        ("UTC", "0 3 * * *", 365),
        ("Europe/Vienna", "0 3 * * *", 365),
        ("Europe/Vienna", "30 2 * * MON-FRI", 261),
        ("Australia/Lord_Howe", "45 1 * * *", 365),
        ("America/New_York", "0 0 1 * *", 12),
        ("UTC", "0 0 29 2 *", 0),
    ] {
        let found = times(zone, expression, "2025-12-31T23:59:59Z", "2026-12-31T23:30:00Z");
        // Where midnight of the last day lies in the next year elsewhere, one more or less is right.
        assert!(found.len().abs_diff(count) <= 1, "{zone} {expression}: {}", found.len());
    }
}

#[test]
fn what_is_no_time_is_refused_with_what_to_write() {
    for (text, said) in [
        ("", "\"\" starts no job"),
        ("soon www", "\"soon www\" starts no job"),
        ("at noon", "\"noon\" is no time"),
        ("at 1969-01-01T00:00:00Z", "is no time"),
        ("at 2026-01-01T00:00 Mars/Base", "\"Mars/Base\" is no time zone"),
        ("cron Mars/Base 0 3 * * *", "\"Mars/Base\" is no time zone"),
        ("cron UTC 0 3 * *", "is no cron expression"),
        ("cron UTC 61 3 * * *", "is no cron expression"),
        ("cron UTC 0 0 30 2 *", "is never"),
        ("change 0", "has to rest"),
        ("change 86401", "has to rest"),
        ("after www", "is no site and end"),
        ("after www soon", "is no site and end"),
        ("after ../www any", "is no site and end"),
    ] {
        let error = text.parse::<Trigger>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    for text in [
        "at 2026-11-22T03:00:00Z",
        "cron Europe/Vienna 0 3 * * MON",
        "change 30",
        "after www live",
        "after www failed",
        "after www any",
    ] {
        assert_eq!(text.parse::<Trigger>().unwrap().to_string(), text);
    }
    assert_eq!(at("2026-07-01T12:00 Europe/Vienna"), at("2026-07-01T12:00:00+02:00"));
    assert_eq!(at("2026-10-25T02:30 Europe/Vienna"), at("2026-10-25T00:30:00Z"), "the first of two");
}

/// B-13: what was planned for now or before is due, not what is to come.
#[test]
fn a_start_is_due_at_its_time_and_not_before() {
    let nightly = schedule("nightly", "www", "cron UTC 0 3 * * *", "2026-11-21T12:00:00Z");
    let start = Due::Start { why: "planned for 2026-11-22T03:00:00Z".to_owned() };
    assert_eq!(nightly.due(&[], at("2026-11-22T02:59:59Z")), Due::No);
    assert_eq!(nightly.due(&[], at("2026-11-22T03:00:00Z")), start);
    let dealt_with = Schedule { since_ns: at("2026-11-22T03:00:00Z"), ..nightly.clone() };
    assert_eq!(dealt_with.due(&[], at("2026-11-22T03:00:01Z")), Due::No);
    assert_eq!(dealt_with.next(at("2026-11-22T03:00:00Z")), Some(at("2026-11-23T03:00:00Z")));
    let off = Schedule { enabled: false, ..nightly };
    assert_eq!((off.due(&[], at("2026-11-22T03:00:00Z")), off.next(0)), (Due::No, None));

    let once = schedule("once", "www", "at 2026-11-22T03:00:00Z", "2026-11-21T12:00:00Z");
    assert_eq!(once.due(&[], at("2026-11-22T02:59:59Z")), Due::No);
    assert_eq!(once.due(&[], at("2026-11-22T03:00:00Z")), start);
    let done = Schedule { since_ns: at("2026-11-22T03:00:00Z"), ..once };
    assert_eq!((done.due(&[], at("2026-11-30T03:00:00Z")), done.next(0)), (Due::No, None));
}

#[test]
fn of_many_missed_starts_one_is_made_up_for_within_the_grace_and_none_beyond() {
    let often = schedule("often", "www", "cron UTC */10 * * * *", "2026-11-21T12:00:00Z");
    let due = often.due(&[], at("2026-11-22T12:04:59Z"));
    assert_eq!(due, Due::Start { why: "planned for 2026-11-22T12:00:00Z, 299 s ago".to_owned() });
    let missed = often.due(&[], at("2026-11-22T12:05:01Z"));
    assert!(matches!(&missed, Due::Missed { why } if why.ends_with("beyond its grace of 300 s: skipped")));
    let strict = Schedule { grace_s: 0, ..often };
    assert!(matches!(strict.due(&[], at("2026-11-22T12:00:00Z")), Due::Start { .. }));
    assert!(matches!(strict.due(&[], at("2026-11-22T12:00:01Z")), Due::Missed { .. }));
}

#[test]
fn a_clock_that_goes_back_starts_nothing_twice_and_stops_nothing_for_ever() {
    let often = schedule("often", "www", "cron UTC */10 * * * *", "2026-11-21T12:00:00Z");
    assert_eq!(often.due(&[], at("2026-11-21T11:00:00Z")), Due::No);
    assert_eq!(often.due(&[], at("2026-11-21T11:59:59Z")), Due::No);
    assert_eq!(often.due(&[], at("2026-11-20T11:59:59Z")), Due::ClockSetBack);
}

#[test]
fn the_end_of_a_job_starts_another_once_whatever_else_ended() {
    let end = |number, site: &str, phase| End { number, site: name(site), phase, job: JobId(number) };
    let after = schedule("after", "shop", "after www live", "2026-11-21T12:00:00Z");
    let now = at("2026-11-21T12:00:01Z");
    assert_eq!(after.due(&[], now), Due::No);
    for phase in [Phase::Failed, Phase::Unchanged, Phase::Cancelled] {
        assert_eq!(after.due(&[end(1, "www", phase)], now), Due::No, "{phase}");
    }
    assert_eq!(after.due(&[end(1, "blog", Phase::Done)], now), Due::No);
    let ends = [end(1, "www", Phase::Done), end(2, "www", Phase::Partial), end(3, "blog", Phase::Done)];
    assert_eq!(after.due(&ends, now), Due::Start { why: "job 2 of www ended partial".to_owned() });
    let seen = Schedule { seen_end: 2, ..after };
    assert_eq!(seen.due(&ends, now), Due::No);
    let any = schedule("any", "shop", "after www any", "2026-11-21T12:00:00Z");
    assert!(matches!(any.due(&[end(1, "www", Phase::Unchanged)], now), Due::Start { .. }));
}

#[test]
fn schedules_that_start_each_other_in_a_circle_are_found() {
    let after = |label: &str, site: &str, cause: &str| {
        schedule(label, site, &format!("after {cause} live"), "2026-01-01T00:00:00Z")
    };
    let others = [after("a", "b", "a"), after("b", "c", "b"), after("x", "y", "x")];
    assert_eq!(circle(&others, &after("new", "a", "c")), Some(["a", "b", "c"].map(name).to_vec()));
    assert_eq!(circle(&others, &after("new", "www", "www")), Some(vec![name("www")]));
    assert_eq!(circle(&others, &after("new", "d", "c")), None);
    assert_eq!(circle(&others, &schedule("new", "a", "change 3", "2026-01-01T00:00:00Z")), None);
}

/// SC-5: the sites first, then the nodes.
#[test]
fn a_conflict_is_the_same_site_and_a_common_node_and_nothing_less() {
    let set = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let (www, shop) = (name("www"), name("shop"));
    for (running, site, nodes, expected) in [
        (vec![], &www, vec![1, 2], vec![]),
        (vec![(7, &shop, vec![1, 2])], &www, vec![1, 2], vec![]),
        (vec![(7, &www, vec![3, 4])], &www, vec![1, 2], vec![]),
        (vec![(7, &www, vec![])], &www, vec![1, 2], vec![]),
        (vec![(7, &www, vec![2, 3])], &www, vec![1, 2], vec![(7, vec![2])]),
        (
            vec![(7, &www, vec![1]), (8, &shop, vec![1]), (9, &www, vec![1, 2])],
            &www,
            vec![1, 2],
            vec![(7, vec![1]), (9, vec![1, 2])],
        ),
    ] {
        let held: Vec<_> = running.iter().map(|(job, site, nodes)| (*job, *site, set(nodes))).collect();
        let going: Vec<_> =
            held.iter().map(|(job, site, nodes)| Going { who: JobId(*job), site, nodes }).collect();
        let found = find(site, &set(&nodes), &going);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(job, nodes)| Conflict { with: JobId(job), nodes: nodes.into_iter().map(NodeId).collect() })
            .collect();
        assert_eq!(found, expected, "{running:?}");
    }
}

fn window(label: &str, site: Option<&str>, opens: &str, lasts_s: Option<u64>) -> Window {
    let opens: Opens = opens.parse().unwrap();
    Window {
        name: name(label),
        site: site.map(name),
        opens,
        lasts_s,
        rate: None,
        reason: "holidays".to_owned(),
    }
}

#[test]
fn a_window_holds_its_site_while_it_is_open_and_a_freeze_until_it_is_lifted() {
    let weekend = window("weekend", Some("www"), "cron UTC 0 18 * * FRI", Some(60 * 3_600));
    let friday = at("2026-11-20T18:00:00Z");
    assert_eq!(weekend.open(friday - 1), None);
    assert_eq!(weekend.open(friday), Some(Some(friday + 60 * HOUR)));
    assert_eq!(weekend.open(friday + 60 * HOUR - 1), Some(Some(friday + 60 * HOUR)));
    assert_eq!(weekend.open(friday + 60 * HOUR), None);
    let windows = [weekend];
    assert_eq!(hold(&windows, &name("shop"), friday), None);
    let held = hold(&windows, &name("www"), friday).unwrap();
    assert_eq!(held.text, "www is in blackout until 2026-11-23T06:00:00Z (weekend: holidays)");

    let freeze = window("freeze", None, "at 2026-11-20T18:00:00Z", None);
    let windows = [windows[0].clone(), freeze];
    assert_eq!(hold(&windows, &name("shop"), friday - 1), None);
    let held = hold(&windows, &name("www"), friday + 1_000 * HOUR).unwrap();
    assert_eq!((held.until_ns, held.text.as_str()), (None, "the farm is frozen (freeze: holidays)"));
    assert_eq!(hold(&windows, &name("www"), friday).unwrap().window, name("freeze"), "the longer one");
}

#[test]
fn staging_that_rests_for_the_quiet_period_starts_one_job_and_one_that_moves_none() {
    let second = NS_PER_S;
    let mut settling = Settling::new(10, "old".to_owned());
    assert!(settling.wants_look(0));
    assert!(!settling.looked(Some("old"), 0));
    assert!(!settling.wants_look(RESCAN_NS - 1) && settling.wants_look(RESCAN_NS), "looked at without hints");

    // A write, seen soon after it; it rests, and starts one job.
    settling.hint(5 * second);
    assert!(!settling.wants_look(5 * second) && settling.wants_look(6 * second));
    assert!(!settling.looked(Some("new"), 6 * second));
    assert!(!settling.wants_look(15 * second) && settling.wants_look(16 * second));
    assert!(settling.looked(Some("new"), 16 * second));
    assert_eq!(settling.handled(), "new");
    assert!(!settling.looked(Some("new"), 100 * second));

    // Somebody who writes on and on.
    let mut now = 200 * second;
    for round in 0..20 {
        settling.hint(now);
        assert!(!settling.looked(Some(&format!("half {round}")), now + second));
        now += 10 * second;
    }
    // A file that is written twice to the same effect: what was seen has not rested since the second time.
    assert!(!settling.looked(Some("whole"), now));
    settling.hint(now + 9 * second);
    assert!(!settling.looked(Some("whole"), now + 10 * second));
    assert!(!settling.wants_look(now + 18 * second) && settling.wants_look(now + 19 * second));
    // A tree that changes while it is read rests from then on.
    assert!(!settling.looked(None, now + 19 * second));
    assert!(!settling.looked(Some("whole"), now + 29 * second));
    assert!(settling.looked(Some("whole"), now + 39 * second));
    // Back to what was published: nothing to do.
    settling.hint(now + 50 * second);
    assert!(!settling.looked(Some("other"), now + 51 * second));
    assert!(!settling.looked(Some("whole"), now + 61 * second));
}

#[test]
fn conflicts_and_windows_are_named_before_they_come() {
    let since = "2026-11-20T00:00:00Z";
    let schedules = [
        schedule("hourly", "www", "cron UTC 0 * * * *", since),
        schedule("nightly", "www", "cron UTC 5 3 * * *", since),
        schedule("other", "shop", "cron UTC 0 3 * * *", since),
        schedule("moved", "www", "change 10", since),
    ];
    let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let planned: Vec<Planned<'_>> = schedules
        .iter()
        .map(|schedule| Planned { schedule, nodes: nodes(&[1, 2]), lasts_ns: 600 * NS_PER_S })
        .collect();
    let (from, until) = (at("2026-11-22T00:00:00Z"), at("2026-11-23T00:00:00Z"));
    let ahead = look_ahead(&planned, &[], from, until);
    assert_eq!((ahead.starts, ahead.until_ns), (24 + 1 + 1, until));
    let [found] = &ahead.findings[..] else { panic!("{:?}", ahead.findings) };
    assert_eq!((found.at_ns, found.schedule.as_str()), (at("2026-11-22T03:05:00Z"), "nightly"));
    let conflict = Obstacle::Conflict {
        with: name("hourly"),
        began_ns: at("2026-11-22T03:00:00Z"),
        nodes: vec![NodeId(1), NodeId(2)],
    };
    assert_eq!(found.what, conflict);

    // What is held meets nobody; and nodes apart are no conflict.
    let night = window("night", Some("www"), "cron UTC 0 3 * * *", Some(60));
    let ahead = look_ahead(&planned, &[night], from, until);
    let [found] = &ahead.findings[..] else { panic!("{:?}", ahead.findings) };
    assert!(matches!(&found.what, Obstacle::Window { window, .. } if window.as_str() == "night"));
    let mut apart = planned.clone();
    apart[1].nodes = nodes(&[3]);
    assert_eq!(look_ahead(&apart, &[], from, until).findings, []);

    // A schedule that overtakes itself, and more starts than anybody wants to see.
    let fast = schedule("fast", "www", "cron UTC * * * * * *", since);
    let planned = [Planned { schedule: &fast, nodes: nodes(&[1]), lasts_ns: 2 * NS_PER_S }];
    let ahead = look_ahead(&planned, &[], from, until);
    assert!(ahead.findings.len() >= super::lookahead::FINDINGS_MAX && ahead.until_ns < until);
}

/// Whoever looks only at those that are awake starts the same, also where an hour is skipped or comes twice.
#[test]
fn nothing_is_due_by_the_clock_before_a_schedule_wakes() {
    for (trigger, since) in [
        ("at 2026-03-29T01:00:00Z", "2026-03-28T00:00:00Z"),
        ("cron Europe/Vienna 30 2 * * *", "2026-03-28T01:30:00Z"),
        ("cron Europe/Vienna 30 2 * * *", "2026-03-29T00:59:59Z"),
        ("cron Europe/Vienna 30 2 * * *", "2026-10-24T23:00:00Z"),
        ("cron America/New_York 15 2 8 3 *", "2026-03-07T00:00:00Z"),
        ("cron UTC */7 * * * *", "2026-01-01T00:00:00Z"),
    ] {
        let mut schedule = schedule("s", "www", trigger, since);
        let wakes = schedule.wakes().unwrap();
        for before in [schedule.since_ns, wakes - NS_PER_S, wakes - 1] {
            assert_eq!(schedule.due(&[], before), Due::No, "{trigger} at {}", rfc3339(before));
        }
        assert!(matches!(schedule.due(&[], wakes), Due::Start { .. }), "{trigger}");
        schedule.since_ns = wakes;
        if matches!(schedule.trigger, Trigger::At(_)) {
            assert_eq!(schedule.wakes(), None);
        } else {
            assert!(schedule.wakes().unwrap() > wakes);
        }
        schedule.enabled = false;
        assert_eq!(schedule.wakes(), None);
    }
    assert_eq!(schedule("s", "www", "change 30", "2026-01-01T00:00:00Z").wakes(), None);
    assert_eq!(schedule("s", "www", "after shop any", "2026-01-01T00:00:00Z").wakes(), None);
}
