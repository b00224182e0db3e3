use super::*;
use crate::ccm::api::types::{Changes, Phase};
use crate::ccm::model::{Assignment, Composition, JobKind, NodeState, Run, RunNode, Terms};
use crate::ccm::testing::{SECOND, T0, enrol, id, key, name, profile, segment_report, signed_order, store};
use crate::wire::assignment::{Kind, Shape};
use crate::wire::id::{AssignmentId, Epoch, JobId, ObjectName, OrderId, RunId};
use crate::wire::join::Token;

#[test]
fn a_new_database_has_the_newest_version_and_opens_again() {
    let (dir, store) = store();
    let path = dir.path().join("ccm.db");
    let version =
        |db: &Connection| -> i64 { db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    assert_eq!(version(&store.db), MIGRATIONS.len() as i64);
    let text = |what: &str| -> String { store.db.query_row(what, [], |row| row.get(0)).unwrap() };
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    drop(store);
    assert!(matches!(Store::create(&path), Err(DbError::Exists(_))));
    assert_eq!(version(&Store::open(&path).unwrap().db), MIGRATIONS.len() as i64);
}

#[test]
fn a_database_of_every_earlier_version_is_brought_to_the_present_one() {
    for version in 1..MIGRATIONS.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ccm.db");
        let db = Connection::open(&path).unwrap();
        MIGRATIONS[..version].iter().for_each(|migration| db.execute_batch(migration).unwrap());
        db.execute_batch(&format!(
            "PRAGMA user_version = {version};
             INSERT INTO sites (name, staging, created_ns) VALUES ('www', '/srv', 1);
             INSERT INTO counters (name, value) VALUES ('job', 4), ('run', 4);
             INSERT INTO jobs (id, kind, site, created_ns) VALUES (4, 'publish', 'www', 1);
             INSERT INTO runs (id, job, site, phase, text, created_ns) VALUES (4, 4, 'www', 'queued', 'queued', 1)"
        ))
        .unwrap();
        drop(db);
        let mut store = Store::open(&path).unwrap();
        let run = store.unfinished_runs().unwrap().remove(0);
        assert_eq!((run.job.0, run.terms), (4, Terms::default()), "from version {version}");
        assert_eq!(store.add_job(run.kind, &run.site, T0).unwrap().job.0, 5);
    }
}

#[test]
fn the_history_is_read_page_by_page_and_from_its_end() {
    let (_dir, mut store) = store();
    (1..=5).for_each(|number| store.record_event("farm", &format!("event {number}"), T0).unwrap());
    let ids = |page, count| -> Vec<u64> {
        store.history(page, &Scope::Farm, count).unwrap().iter().map(|event| event.id).collect()
    };
    assert_eq!(ids(Page::Last, 2), [4, 5]);
    assert_eq!(ids(Page::After(0), 2), [1, 2]);
    assert_eq!(ids(Page::After(2), 9), [3, 4, 5]);
    assert_eq!(ids(Page::After(u64::MAX), 9), Vec::<u64>::new());
    assert_eq!(ids(Page::Before(4), 2), [2, 3]);
    assert_eq!(ids(Page::Before(u64::MAX), 1), [5]);
    assert_eq!(ids(Page::Before(0), 9), Vec::<u64>::new());
}

#[test]
fn whoever_is_for_some_sites_sees_what_is_theirs_of_jobs_and_history() {
    let (_dir, mut store) = store();
    for site in ["www", "shop"] {
        store.add_site(&name(site), Path::new("/srv"), T0).unwrap();
        store.add_job(JobKind::Rollback, &name(site), T0).unwrap();
    }
    for subject in ["job 1", "job 2", "run 2", "node n1", "site www", "site shop", "segment boston"] {
        store.record_event(subject, "told", T0).unwrap();
    }
    let scope = Scope::Sites([name("shop"), name("lost")].into());
    let told = store.history(Page::Last, &scope, 100).unwrap();
    let subjects: Vec<&str> =
        told.iter().filter(|event| event.text == "told").map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects, ["job 2", "run 2", "site shop"]);
    assert!(told.iter().all(|event| !event.subject.contains("www")), "{told:?}");
    let jobs = |scope: &Scope, before: Option<u64>| -> Vec<u64> {
        let runs = store.last_jobs(scope, before.map(JobId), 9).unwrap();
        runs.iter().map(|run| run.job.0).collect()
    };
    assert_eq!(jobs(&scope, None), [2]);
    assert_eq!(jobs(&scope, Some(2)), Vec::<u64>::new());
    assert_eq!(jobs(&Scope::Farm, None), [2, 1]);
    assert_eq!(jobs(&Scope::Farm, Some(2)), [1]);
    assert_eq!(jobs(&Scope::Sites([].into()), None), Vec::<u64>::new());
}

#[test]
fn a_database_of_a_newer_program_or_a_damaged_one_is_refused() {
    let (dir, store) = store();
    let path = dir.path().join("ccm.db");
    store.db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(store);
    assert!(matches!(Store::open(&path), Err(DbError::Newer { found: 99, .. })));
    std::fs::write(&path, vec![0x5a; 20_000]).unwrap();
    assert!(matches!(Store::open(&path), Err(DbError::Damaged { .. })));
    assert!(matches!(Store::open(&dir.path().join("none.db")), Err(DbError::Open { .. })));
}

/// What an earlier program wrote stays, and from version 7 on a version may be brought by several assignments.
#[test]
fn assignments_and_snapshots_of_an_older_database_are_carried_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ccm.db");
    let db = Connection::open(&path).unwrap();
    MIGRATIONS[..6].iter().for_each(|migration| db.execute_batch(migration).unwrap());
    db.execute_batch(
        "PRAGMA user_version = 6; PRAGMA foreign_keys = ON;
         INSERT INTO sites (name, staging, version, created_ns) VALUES ('www', '/srv', 4, 1);
         INSERT INTO jobs (id, kind, site, created_ns) VALUES (1, 'publish', 'www', 1);
         INSERT INTO runs (id, job, site, phase, text, created_ns) VALUES (2, 1, 'www', 'done', '', 1);
         INSERT INTO runs (id, job, site, phase, text, created_ns) VALUES (3, 1, 'www', 'done', '', 1);",
    )
    .unwrap();
    let object = "00".repeat(32);
    let sql = "INSERT INTO assignments VALUES (4, 2, 'www', 'publish', 3, ?1, 500, 6, 7)";
    db.execute(sql, [&object]).unwrap();
    db.execute("INSERT INTO snapshots VALUES (4, 1, 'www', 9, 'details')", []).unwrap();
    drop(db);
    let store = Store::open(&path).unwrap();
    let run = store.run(RunId(2)).unwrap().unwrap();
    let assignment = run.assignment.unwrap();
    assert_eq!((assignment.id, assignment.base), (AssignmentId(4), Some(AssignmentId(3))));
    assert_eq!((assignment.shape.data_len, assignment.composed_ns, run.only.len()), (6, 7, 0));
    let snapshots = store.snapshots(&name("www")).unwrap();
    assert_eq!((snapshots.len(), snapshots[0].version, snapshots[0].committed_ns), (1, AssignmentId(4), 9));
    let sql = "INSERT INTO assignments VALUES (3, 4, 'www', 'replicate', 0, ?1, 500, 6, 8)";
    store.db.execute(sql, [&object]).unwrap();
    assert_eq!(store.run(RunId(3)).unwrap().unwrap().assignment.unwrap().id, assignment.id);
}

#[test]
fn a_site_is_added_once() {
    let (_dir, mut store) = store();
    assert!(store.add_site(&name("www"), Path::new("/srv/a"), T0).unwrap());
    assert!(!store.add_site(&name("www"), Path::new("/srv/b"), T0).unwrap());
    let sites = store.sites().unwrap();
    assert_eq!((sites.len(), sites[0].staging.as_path(), sites[0].version), (1, Path::new("/srv/a"), None));
    assert_eq!(store.site(&name("shop")).unwrap(), None);
}

#[test]
fn a_segment_report_says_who_is_online_and_who_not_any_more() {
    let (_dir, mut store) = store();
    (1..=3).for_each(|number| enrol(&mut store, number));
    let all = (1..=3).map(|number| profile(number, &[("www", 4), ("shop", 0)])).collect();
    store.take_segment_report(id(1), &segment_report("boston", u64::MAX, all), T0).unwrap().unwrap();
    let nodes = store.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.is_online()));
    assert_eq!(nodes[0].site(&name("www")).unwrap().version, Some(AssignmentId(4)));
    assert_eq!(nodes[0].site(&name("shop")).unwrap().version, None);
    assert_eq!(nodes[0].seen.as_ref().unwrap().free_memory, u64::MAX);
    assert_eq!(store.segments().unwrap()[0].epoch, Epoch(u64::MAX));

    let two = vec![profile(1, &[]), profile(2, &[]), profile(9, &[])];
    store.take_segment_report(id(1), &segment_report("boston", u64::MAX, two), T0 + 1).unwrap().unwrap();
    let online: Vec<bool> = store.nodes().unwrap().iter().map(|node| node.is_online()).collect();
    assert_eq!(online, [true, true, false], "and 9, which never joined, is left out");

    // It moves to another segment.
    let paris = segment_report("paris", 1, vec![profile(2, &[])]);
    store.take_segment_report(id(2), &paris, T0 + 2).unwrap().unwrap();
    let node = store.node(id(2)).unwrap().unwrap();
    assert_eq!(node.seen.unwrap().segment, name("paris"));
}

#[test]
fn who_led_before_is_not_believed_while_the_new_leader_reports() {
    let (_dir, mut store) = store();
    (1..=2).for_each(|number| enrol(&mut store, number));
    let mut report = |sender: u8, epoch, now| {
        let members = vec![profile(1, &[]), profile(2, &[])];
        store.take_segment_report(id(sender), &segment_report("boston", epoch, members), now).unwrap()
    };
    assert_eq!(report(1, 5, T0), Ok(()));
    assert_eq!(report(2, 6, T0 + 1), Ok(()));
    assert!(matches!(report(1, 5, T0 + 2), Err(ReportRefused::Epoch { .. })));
    assert!(matches!(report(1, 6, T0 + 2), Err(ReportRefused::Leader { .. })));
    // All were switched off and have forgotten their epochs.
    assert_eq!(report(1, 1, T0 + 11 * SECOND), Ok(()));
    let members = vec![profile(2, &[])];
    let absent = store.take_segment_report(id(1), &segment_report("boston", 9, members), T0).unwrap();
    assert!(matches!(absent, Err(ReportRefused::NotMember(_))));
}

#[test]
fn a_second_leader_is_told_of_when_it_lasts_and_not_when_it_was_a_failover() {
    let (_dir, mut store) = store();
    (1..=2).for_each(|number| enrol(&mut store, number));
    let report = |store: &mut Store, sender: u8, members: &[u8], now| {
        let members = members.iter().map(|number| profile(*number, &[])).collect();
        store.take_segment_report(id(sender), &segment_report("boston", 1, members), now).unwrap()
    };
    // A failover: the old leader yields within a second.
    report(&mut store, 1, &[1], T0).unwrap();
    report(&mut store, 2, &[2], T0).unwrap_err();
    report(&mut store, 1, &[1, 2], T0 + SECOND).unwrap();
    assert_eq!(store.rivals(T0 + 6 * SECOND).unwrap(), []);

    // Refused again after a long silence: not for long either.
    report(&mut store, 2, &[2], T0 + 2 * SECOND).unwrap_err();
    report(&mut store, 1, &[1], T0 + 19 * SECOND).unwrap();
    report(&mut store, 2, &[2], T0 + 20 * SECOND).unwrap_err();
    assert_eq!(store.rivals(T0 + 20 * SECOND).unwrap(), []);

    // It goes on.
    for seconds in 21..26 {
        report(&mut store, 1, &[1], T0 + seconds * SECOND).unwrap();
        report(&mut store, 2, &[2], T0 + seconds * SECOND).unwrap_err();
    }
    assert_eq!(store.rivals(T0 + 26 * SECOND).unwrap(), [(name("boston"), id(2))]);

    // They hear each other again; or it is switched off.
    assert_eq!(store.rivals(T0 + 40 * SECOND).unwrap(), []);
    report(&mut store, 1, &[1, 2], T0 + 26 * SECOND).unwrap();
    assert_eq!(store.rivals(T0 + 26 * SECOND).unwrap(), []);
}

#[test]
fn a_segment_whose_leader_falls_silent_goes_offline() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    let report = segment_report("boston", 5, vec![profile(1, &[])]);
    store.take_segment_report(id(1), &report, T0).unwrap().unwrap();
    store.expire_segments(T0 + 10 * SECOND).unwrap();
    assert!(store.nodes().unwrap()[0].is_online());
    store.expire_segments(T0 + 10 * SECOND + 1).unwrap();
    assert!(!store.nodes().unwrap()[0].is_online());
    assert_eq!(store.segments().unwrap()[0].leader, None);
    assert_eq!(store.events(1).unwrap()[0].1, "its leader fell silent");
}

#[test]
fn a_stamp_is_accepted_once_and_in_order() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    let mut accept = |boot, seq| store.accept_stamp(id(1), UplinkStamp { boot, seq }).unwrap();
    assert!(accept(1, 5));
    assert!(!accept(1, 5) && !accept(1, 4) && !accept(0, 99));
    assert!(accept(1, u64::MAX) && accept(2, 0));
}

#[test]
fn an_invite_admits_one_node_and_a_name_is_not_taken_over_by_chance() {
    let (_dir, mut store) = store();
    let enrolment =
        |number: u8, text: &str| Enrolment { key: key(number).public(), name: name(text), can_lead: true };
    let invite = |store: &mut Store, number: u8, node: Option<&str>| {
        let token = Token::new([number; 32]);
        store.add_invite(&token, node.map(name).as_ref(), true, T0 + SECOND).unwrap();
        store.invite(&token.id(), T0).unwrap().unwrap()
    };
    let open = invite(&mut store, 1, None);
    assert_eq!(store.admit(&open, &enrolment(1, "web"), T0).unwrap(), Admission::Admitted);
    assert_eq!(store.admit(&open, &enrolment(1, "web"), T0).unwrap(), Admission::Admitted, "asked again");
    assert_eq!(store.admit(&open, &enrolment(2, "web2"), T0).unwrap(), Admission::Used);
    let second = invite(&mut store, 2, None);
    assert_eq!(store.admit(&second, &enrolment(2, "web"), T0).unwrap(), Admission::NameTaken);
    let named = invite(&mut store, 3, Some("web"));
    assert_eq!(store.admit(&named, &enrolment(2, "web"), T0).unwrap(), Admission::Admitted);
    let nodes = store.nodes().unwrap();
    assert_eq!((nodes.len(), nodes[0].id), (1, id(2)));
    assert_eq!(store.invite(&second.token.id(), T0 + SECOND).unwrap(), None, "expired");
}

fn run_node(number: u8) -> RunNode {
    RunNode {
        node: id(number),
        name: name(&format!("n{number}")),
        segment: name("boston"),
        state: NodeState::Waiting,
        reason: String::new(),
        text: String::new(),
        changed_ns: 0,
        switched_ns: 0,
    }
}

#[test]
fn a_run_is_written_down_step_by_step_and_its_numbers_never_return() {
    let (dir, mut store) = store();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let run = store.add_job(JobKind::Publish { checksum: true }, &name("www"), T0).unwrap();
    assert_eq!((run.phase, run.job.0, run.id.0), (Phase::Queued, 1, 1));
    assert_eq!(run.kind, JobKind::Publish { checksum: true });
    store.start_run(&run, T0 + 1).unwrap();
    store.start_run(&run, T0 + 2).unwrap();
    assert_eq!(store.next_assignment().unwrap(), AssignmentId(1));
    let assignment = Assignment {
        id: store.next_assignment().unwrap(),
        kind: Kind::Publish,
        base: Some(AssignmentId(1)),
        shape: Shape { name: ObjectName([7; 32]), command_len: 500, data_len: 1 << 40 },
        composed_ns: T0 + 3,
    };
    assert_eq!(assignment.id, AssignmentId(2));
    let composition = Composition {
        changes: Changes { added: 3, ..Changes::default() },
        site_files: 9,
        site_bytes: 99,
        warnings: vec!["a \"socket\"".to_owned()],
        ..Composition::default()
    };
    let mut nodes = [run_node(1), run_node(2)];
    store.begin_distribution(&run, &composition, (&assignment, None), &nodes, T0 + 3).unwrap();
    nodes[0].state = NodeState::Staged;
    store.put_run_nodes(run.id, &nodes[..1], "1 of 2").unwrap();
    store.issue_order(run.id, T0 + 10, T0 + 9, |order| signed_order(order, run.id, 2)).unwrap();
    store.issue_order(run.id, T0 + 20, T0 + 19, |_| panic!("it is issued at most once")).unwrap();

    drop(store);
    let mut store = Store::open(&dir.path().join("ccm.db")).unwrap();
    let read = store.unfinished_runs().unwrap().remove(0);
    assert_eq!((read.phase, read.started_ns), (Phase::Committing, T0 + 1));
    assert_eq!((read.assignment, read.composition.as_ref()), (Some(assignment), Some(&composition)));
    let order = read.order.clone().unwrap();
    assert_eq!(
        (order.id, order.bytes, order.at_ns),
        (OrderId(1), signed_order(OrderId(1), run.id, 2), T0 + 10)
    );
    assert_eq!(store.run_nodes(run.id).unwrap(), nodes);

    store.commit_run(&read, Phase::Done, "live on 2 nodes", None, T0 + 30).unwrap();
    assert_eq!(store.unfinished_runs().unwrap(), []);
    let site = store.site(&name("www")).unwrap().unwrap();
    assert_eq!((site.version, site.files, site.bytes), (Some(AssignmentId(2)), 9, 99));
    let snapshots = store.snapshots(&name("www")).unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!((snapshots[0].version, snapshots[0].committed_ns), (AssignmentId(2), T0 + 30));
    assert_eq!(store.run_of_job(run.job).unwrap().unwrap().phase, Phase::Done);
    assert_eq!(store.old_objects(&name("www"), 1).unwrap(), Vec::<String>::new());
    assert_eq!(store.old_objects(&name("www"), 0).unwrap(), [ObjectName([7; 32]).to_string()]);
    let next = store.add_job(JobKind::Publish { checksum: false }, &name("www"), T0).unwrap();
    assert_eq!((next.id.0, next.job.0), (2, 2));
    assert_eq!(store.last_runs(1).unwrap()[0].id, next.id);
    assert_eq!(store.next_assignment().unwrap(), AssignmentId(3));
}

#[test]
fn the_nodes_of_a_run_are_counted_as_they_are_listed_while_it_goes_on_and_when_it_is_over() {
    use NodeState::{Failed, Live, Missing, Staged, Waiting};
    let (_dir, mut store) = store();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let run = store.add_job(JobKind::Rollback, &name("www"), T0).unwrap();
    assert_eq!(store.run_standing(&run).unwrap(), Standing::default());
    let states = [Waiting, Staged, Live, Live, Failed, Missing, Missing];
    let nodes: Vec<RunNode> = (1..)
        .zip(states)
        .map(|(number, state)| RunNode { state, switched_ns: T0 + u64::from(number), ..run_node(number) })
        .collect();
    let check = |store: &Store, run: &Run| {
        let standing = store.run_standing(run).unwrap();
        assert_eq!(standing, Standing::of(&store.run_nodes(run.id).unwrap()));
        standing
    };
    store.put_run_nodes(run.id, &nodes, "").unwrap();
    let standing = check(&store, &run);
    assert_eq!((standing.total, standing.staged, standing.live, standing.lost), (7, 3, 2, 3));
    assert_eq!(standing.switch_spread_us(), None);
    let live: Vec<RunNode> = nodes.iter().map(|node| RunNode { state: Live, ..node.clone() }).collect();
    store.put_run_nodes(run.id, &live, "").unwrap();
    assert_eq!(check(&store, &run).switch_spread_us(), Some(0));
    store.end_run(run.id, Phase::Done, "", None, T0).unwrap();
    let over = store.run_of_job(run.job).unwrap().unwrap();
    assert!(over.phase.is_over());
    assert_eq!((check(&store, &over), check(&store, &over)), (Standing::of(&live), Standing::of(&live)));
}

#[test]
fn a_full_disk_is_told_as_such_loses_nothing_and_writing_goes_on_when_there_is_room() {
    let (_dir, mut store) = store();
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let limit = |store: &Store, pages: i64| -> i64 {
        store.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0)).unwrap()
    };
    let size = limit(&store, 1);
    let kind = JobKind::Publish { checksum: false };
    let mut written = 0;
    let refused = loop {
        match store.add_job(kind, &name("www"), T0) {
            Ok(run) => written = run.job.0,
            Err(error) => break error,
        }
        assert!(written < 10_000, "no end of {size} pages");
    };
    assert!(matches!(refused, DbError::Full), "{refused}");
    assert!(refused.to_string().contains("make room"), "{refused}");
    assert_eq!(store.unfinished_runs().unwrap().len() as u64, written, "nothing half written");
    limit(&store, 1_000_000);
    assert_eq!(store.add_job(kind, &name("www"), T0).unwrap().job.0, written + 1);
}
