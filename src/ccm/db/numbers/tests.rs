use super::*;
use crate::ccm::model::JobKind;
use crate::ccm::testing::{T0, enrol, id, name, profile, segment_report, store};
use std::path::Path;

const PUBLISH: JobKind = JobKind::Publish { checksum: false };

/// The only events about the database.
fn told(store: &Store) -> Vec<String> {
    let events = store.events(99).unwrap();
    events.into_iter().filter(|event| event.0 == "database").map(|event| event.1).collect()
}

#[test]
fn numbers_go_on_above_a_version_that_a_node_reports_and_nobody_here_gave() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    assert_eq!(store.next_assignment().unwrap().0, 1);
    let mut report = |version| {
        let report = segment_report("boston", 1, vec![profile(1, &[("www", version)])]);
        store.take_segment_report(id(1), &report, T0).unwrap().unwrap();
        (store.next_assignment().unwrap().0, told(&store).len())
    };
    assert_eq!(report(1), (2, 0), "it was given");
    assert_eq!(report(9), (9 + GAP + 1, 1), "it was not");
    assert_eq!(report(9), (9 + GAP + 2, 1), "that is known by now");
    assert_eq!(report(u64::MAX >> 2), (9 + GAP + 3, 1), "nobody gives so many");
    assert!(store.given().unwrap().order.0 > GAP, "nor is an order repeated");
}

/// AS-13: in steps that are each believed, nodes could raise it to where parts have no numbers left.
#[test]
fn a_version_that_leaves_no_room_for_its_parts_is_not_believed() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    let sql = "INSERT INTO counters VALUES ('assignment', ?1)";
    store.db.execute(sql, [int(VERSION_MAX - GAP - 9)]).unwrap();
    let report = segment_report("boston", 1, vec![profile(1, &[("www", VERSION_MAX)])]);
    store.take_segment_report(id(1), &report, T0).unwrap().unwrap();
    let next = store.next_assignment().unwrap();
    assert_eq!((next, told(&store).len()), (AssignmentId(VERSION_MAX - GAP - 8), 0));
    assert_eq!((next.part_of(AssignmentId::PARTS_MAX).version(), next.part()), (next, 0));
}

#[test]
fn a_list_of_groups_that_nobody_here_gave_makes_numbers_go_on_above_it() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    store.put_group_list(&name("boston"), &[], |_| Vec::new()).unwrap();
    let mut leader = profile(1, &[]);
    leader.groups = ListNumber(7);
    let report = segment_report("boston", 1, vec![leader]);
    store.take_segment_report(id(1), &report, T0).unwrap().unwrap();
    assert_eq!(store.group_list(&name("boston")).unwrap(), None, "the next is made anew");
    let (number, _) = store.put_group_list(&name("boston"), &[], |_| Vec::new()).unwrap();
    assert_eq!(number, ListNumber(7 + GAP + 1));
}

#[test]
fn an_order_that_a_node_refused_as_older_makes_numbers_go_on_once() {
    let (_dir, mut store) = store();
    store.db.execute_batch("INSERT INTO counters VALUES ('order', 4)").unwrap();
    for _ in 0..3 {
        store.note_refused_order("n1", OrderId(4), T0).unwrap();
    }
    assert_eq!((store.given().unwrap().order, told(&store).len()), (OrderId(4 + GAP), 1));
}

#[test]
fn a_copy_ends_what_was_under_way_and_looks_ahead() {
    let (_dir, mut store) = store();
    enrol(&mut store, 1);
    store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
    let run = store.add_job(PUBLISH, &name("www"), T0).unwrap();
    let report = segment_report("boston", 1, vec![profile(1, &[])]);
    store.take_segment_report(id(1), &report, T0).unwrap().unwrap();
    assert_eq!(store.go_on_from_copy("brought back", T0).unwrap(), 1);
    let ended = store.run(run.id).unwrap().unwrap();
    assert_eq!(ended.phase, Phase::Cancelled);
    assert!(ended.text.contains("publish again"), "{}", ended.text);
    assert!(store.unfinished_runs().unwrap().is_empty());
    let nodes = store.nodes().unwrap();
    assert!(nodes.iter().all(|node| !node.is_online()), "until a leader reports");
    let next = store.add_job(PUBLISH, &name("www"), T0).unwrap();
    assert_eq!((next.job.0, next.id.0), (run.job.0 + GAP + 1, run.id.0 + GAP + 1));
    assert_eq!(told(&store), ["brought back"]);
}
