use super::super::testing::{Draft, MTIME};
use super::super::tree::hash_tree;
use super::*;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

fn generation(assignment: u64, base: Option<u64>) -> Draft {
    let text = assignment.to_string();
    let draft = Draft::new(assignment, base);
    match base {
        None => {
            let draft = draft.mkdir("d").put("a", text.as_bytes()).put("d/b", text.as_bytes());
            draft.put("same", b"same").utimes("d", MTIME)
        }
        Some(_) => draft.put("a", text.as_bytes()).put("d/b", text.as_bytes()),
    }
}

fn commit(site: &mut Site, assignment: u64) {
    let base = site.version().map(|version| version.0);
    generation(assignment, base).stage(site).unwrap();
    assert_eq!(
        site.commit(OrderId(assignment), AssignmentId(assignment), || assignment * 10).unwrap(),
        assignment * 10
    );
}

const fn committing(assignment: u64) -> Action {
    Action::Commit { assignment: AssignmentId(assignment) }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_fresh_site_is_empty_and_served() {
    let root = tempfile::tempdir().unwrap();
    let site = Site::open(&root.path().join("new/site")).unwrap();
    assert_eq!((site.version(), site.last_order(), site.staged()), (None, OrderId(0), None));
    assert_eq!(fs::read_dir(site.live_path()).unwrap().count(), 0);
}

#[test]
fn a_site_is_open_once() {
    let root = tempfile::tempdir().unwrap();
    let site = Site::open(root.path()).unwrap();
    assert!(matches!(Site::open(root.path()), Err(SiteError::Busy { .. })));
    drop(site);
    assert!(Site::open(root.path()).is_ok());
}

#[test]
fn what_stands_where_a_directory_must_be_is_named() {
    for name in ["live", ".farmcast"] {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", root.path().join(name)).unwrap();
        let error = Site::open(root.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("{name}, which must be a directory")), "{error}");
    }
    let error = Site::open(Path::new("/proc/none")).unwrap_err();
    assert!(error.to_string().starts_with("/proc/none: making the site's directory: "), "{error}");
}

#[test]
fn versions_follow_one_another_and_survive_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    for assignment in 1..=4 {
        commit(&mut site, assignment);
        let live = site.live_path();
        assert_eq!(read(&live.join("a")), assignment.to_string());
        assert_eq!(read(&live.join("d/b")), assignment.to_string());
        drop(site);
        site = Site::open(root.path()).unwrap();
        assert_eq!(site.version(), Some(AssignmentId(assignment)));
        assert_eq!(site.last_order(), OrderId(assignment));
        assert_eq!(site.last_switch().unwrap().at, assignment * 10);
        assert_eq!(site.staged(), None);
    }
    assert_eq!(read(&root.path().join(".farmcast/releases/3/a")), "3");
    site.tidy().unwrap();
    assert_eq!(fs::read_dir(root.path().join(".farmcast/trash")).unwrap().count(), 0);
}

#[test]
fn a_publish_over_another_version_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    let error = generation(2, Some(1)).stage(&mut site).unwrap_err();
    assert_eq!(error.reason(), Reason::StaleBase);
    assert_eq!(error.to_string(), "the assignment changes version 1, the site has none");
    commit(&mut site, 1);
    let error = generation(9, Some(7)).stage(&mut site).unwrap_err();
    assert_eq!(error.to_string(), "the assignment changes version 7, the site has 1");
    assert_eq!(read(&site.live_path().join("a")), "1");
}

#[test]
fn an_assignment_without_room_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    let mut draft = generation(1, None);
    draft.header.space = u64::MAX / 2;
    let error = draft.stage(&mut site).unwrap_err();
    assert_eq!(error.reason(), Reason::NoSpace);
    assert!(error.to_string().starts_with("8388608.0 TiB are needed and "), "{error}");
    assert!(!root.path().join(".farmcast/temp").exists());
}

#[test]
fn a_result_that_is_not_the_promised_one_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    let stage = |site: &mut Site, draft: Draft| {
        let signed = draft.sign();
        site.stage(&signed.buffer, &signed.file)
    };
    let error = stage(&mut site, generation(1, None)).unwrap_err();
    assert_eq!(error.reason(), Reason::Forged);
    let first = generation(1, None).promising_after(Vec::new());
    assert_eq!(stage(&mut site, first).unwrap(), Staged::Now);
    site.commit(OrderId(1), AssignmentId(1), || 1).unwrap();

    let second = || generation(2, Some(1)).promising_after(vec![generation(1, None)]);
    fs::write(site.live_path().join("same"), "changed by hand").unwrap();
    let error = stage(&mut site, second()).unwrap_err();
    assert_eq!(error.reason(), Reason::StaleBase);
    assert!(error.to_string().ends_with("it gets all of its version by a synchronize"), "{error}");
    assert_eq!(site.staged(), None);
}

#[test]
fn staging_again_is_quick_and_answers_the_same() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    assert_eq!(generation(1, None).stage(&mut site).unwrap(), Staged::Now);
    assert_eq!(generation(1, None).stage(&mut site).unwrap(), Staged::Before);
    drop(site);
    let mut site = Site::open(root.path()).unwrap();
    assert_eq!(generation(1, None).stage(&mut site).unwrap(), Staged::Before);
    site.commit(OrderId(1), AssignmentId(1), || 1).unwrap();
    assert_eq!(generation(1, None).stage(&mut site).unwrap(), Staged::Live);
    // Another one takes the place of what was staged.
    assert_eq!(generation(2, Some(1)).stage(&mut site).unwrap(), Staged::Now);
    assert_eq!(generation(3, Some(1)).stage(&mut site).unwrap(), Staged::Now);
    assert_eq!(site.staged(), Some(AssignmentId(3)));
    assert!(site.commit(OrderId(2), AssignmentId(2), || 1).is_err());
}

#[test]
fn orders_are_carried_out_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    let error = site.commit(OrderId(5), AssignmentId(1), || 1).unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        (Reason::NotStaged, "assignment 1 is not staged here")
    );
    generation(1, None).stage(&mut site).unwrap();
    assert_eq!(site.commit(OrderId(5), AssignmentId(1), || 50).unwrap(), 50);
    // The same again is answered as before; so is a newer one for what is live.
    assert_eq!(site.commit(OrderId(5), AssignmentId(1), || 60).unwrap(), 50);
    assert!(site.prepare(OrderId(6), committing(1), 70).unwrap().is_done());
    assert_eq!(site.last_order(), OrderId(6));
    generation(2, Some(1)).stage(&mut site).unwrap();
    for (order, assignment) in [(5, 2), (6, 2), (5, 1)] {
        let error = site.commit(OrderId(order), AssignmentId(assignment), || 1).unwrap_err();
        assert_eq!(error.reason(), Reason::OldOrder, "{error}");
    }
    let error = site.commit(OrderId(7), AssignmentId(3), || 1).unwrap_err();
    assert_eq!(error.to_string(), "assignment 3 is not staged here, but 2");
    assert_eq!(read(&site.live_path().join("a")), "1");
    assert_eq!(site.commit(OrderId(7), AssignmentId(2), || 80).unwrap(), 80);
}

#[test]
fn a_prepared_switch_that_is_dropped_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    generation(2, Some(1)).stage(&mut site).unwrap();
    assert!(!site.prepare(OrderId(2), committing(2), 5).unwrap().is_done());
    assert_eq!((site.version(), site.staged()), (Some(AssignmentId(1)), Some(AssignmentId(2))));
    // It may even be staged anew, and the old intent means nothing.
    generation(3, Some(1)).stage(&mut site).unwrap();
    drop(site);
    let mut site = Site::open(root.path()).unwrap();
    assert_eq!((site.version(), site.staged()), (Some(AssignmentId(1)), Some(AssignmentId(3))));
    assert_eq!(site.commit(OrderId(3), AssignmentId(3), || 30).unwrap(), 30);
}

/// A site with version 1 live and 2 staged, stopped behind `steps` of the switch.
fn stopped_behind(root: &Path, steps: usize) {
    let mut site = Site::open(root).unwrap();
    commit(&mut site, 1);
    generation(2, Some(1)).stage(&mut site).unwrap();
    let switch = Switch { order: OrderId(2), assignment: AssignmentId(2), at: 22 };
    let intent = site.intent(switch, Source::Temp, Some([0; 32])).unwrap();
    for step in &SWITCH[..steps] {
        site.run(*step, &intent).unwrap();
    }
}

fn assert_converges(root: &Path, exchanged: bool, context: &str) {
    let mut site = Site::open(root).unwrap();
    let expected = if exchanged { 2 } else { 1 };
    assert_eq!(site.version(), Some(AssignmentId(expected)), "{context}");
    for name in ["a", "d/b"] {
        assert_eq!(read(&site.live_path().join(name)), expected.to_string(), "{context}");
    }
    assert!(!root.join(".farmcast/journal").exists(), "{context}");
    // The same order again ends at the same place, whatever came before.
    let at = site.commit(OrderId(2), AssignmentId(2), || 99).unwrap();
    assert_eq!(at, if exchanged { 22 } else { 99 }, "{context}");
    assert_eq!(read(&site.live_path().join("a")), "2", "{context}");
    assert_eq!(read(&root.join(".farmcast/releases/1/a")), "1", "{context}");
    assert!(!root.join(".farmcast/temp").exists(), "{context}");
    commit(&mut site, 3);
    assert_eq!(read(&site.live_path().join("d/b")), "3", "{context}");
}

#[test]
fn a_switch_killed_behind_any_step_is_finished_or_undone() {
    for steps in 0..=SWITCH.len() {
        let root = tempfile::tempdir().unwrap();
        stopped_behind(root.path(), steps);
        assert_converges(root.path(), steps >= EXCHANGED, &format!("behind {steps} steps"));
    }
}

#[test]
fn a_recovery_killed_behind_any_step_is_finished_by_the_next() {
    for steps in 0..=SWITCH.len() {
        for recovered in 0..=SWITCH.len() {
            let root = tempfile::tempdir().unwrap();
            stopped_behind(root.path(), steps);
            let mut site = Site::open_unrecovered(root.path()).unwrap();
            let todo = site.recovery().unwrap();
            for step in todo.into_iter().take(recovered) {
                site.perform(step).unwrap();
            }
            drop(site);
            let context = format!("behind {steps} steps, then behind {recovered} of the recovery");
            assert_converges(root.path(), steps >= EXCHANGED, &context);
        }
    }
}

/// Found by tests/crash: opening knew nothing of the number, named releases that were gone, and removed others.
#[test]
fn a_switch_finished_after_a_crash_keeps_as_many_releases_as_it_was_told() {
    for (keep, expected) in [(1, &[3][..]), (2, &[3, 2]), (4, &[3, 2, 1, 0])] {
        for steps in EXCHANGED..=SWITCH.len() {
            let root = tempfile::tempdir().unwrap();
            let mut site = Site::open(root.path()).unwrap();
            site.keep(keep);
            (1..=3).for_each(|number| commit(&mut site, number));
            generation(4, Some(3)).stage(&mut site).unwrap();
            let switch = Switch { order: OrderId(4), assignment: AssignmentId(4), at: 44 };
            let intent = site.intent(switch, Source::Temp, Some([0; 32])).unwrap();
            SWITCH[..steps].iter().for_each(|step| site.run(*step, &intent).unwrap());
            drop(site);
            let site = Site::open(root.path()).unwrap();
            let kept: Vec<_> = site.releases().iter().map(|release| release.assignment.0).collect();
            assert_eq!(kept, expected, "keeping {keep}, behind {steps} steps");
            for release in kept {
                let path = root.path().join(".farmcast/releases").join(release.to_string());
                assert!(path.is_dir(), "keeping {keep}, behind {steps} steps: {release}");
            }
        }
    }
}

#[test]
fn a_staging_killed_midway_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    drop(site);
    let temp = root.path().join(".farmcast/temp");
    fs::create_dir(&temp).unwrap();
    fs::write(temp.join("half"), "half").unwrap();
    let mut site = Site::open(root.path()).unwrap();
    assert!(!temp.exists());
    assert_eq!(site.staged(), None);
    commit(&mut site, 2);
}

#[test]
fn a_lost_temp_is_not_taken_for_staged() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    generation(1, None).stage(&mut site).unwrap();
    drop(site);
    fs::remove_dir_all(root.path().join(".farmcast/temp")).unwrap();
    let site = Site::open(root.path()).unwrap();
    assert_eq!(site.staged(), None);
}

#[test]
fn a_record_that_fails_behind_the_exchange_is_made_up_for() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    generation(2, Some(1)).stage(&mut site).unwrap();
    let prepared = site.prepare(OrderId(2), committing(2), 20).unwrap();
    // A directory in the way of the new record.
    let blocker = root.path().join(".farmcast/state.new");
    fs::create_dir(&blocker).unwrap();
    assert_eq!(prepared.exchange(|| 21).unwrap(), 21);
    assert_eq!(site.version(), Some(AssignmentId(2)));
    assert!(generation(3, Some(2)).stage(&mut site).is_err());
    fs::remove_dir(&blocker).unwrap();
    commit(&mut site, 3);
    drop(site);
    let site = Site::open(root.path()).unwrap();
    assert_eq!(site.version(), Some(AssignmentId(3)));
    assert_eq!(read(&root.path().join(".farmcast/releases/2/a")), "2");
}

#[test]
fn a_file_system_where_live_cannot_be_exchanged_leaves_it_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    generation(2, Some(1)).stage(&mut site).unwrap();
    let prepared = site.prepare(OrderId(2), committing(2), 20).unwrap();
    fs::rename(root.path().join(".farmcast/temp"), root.path().join(".farmcast/gone")).unwrap();
    let error = prepared.exchange(|| 21).unwrap_err();
    assert_eq!(error.reason(), Reason::System);
    assert_eq!((site.version(), read(&site.live_path().join("a"))), (Some(AssignmentId(1)), "1".to_owned()));
}

#[test]
fn readers_never_see_a_mixture_or_a_missing_file() {
    const COMMITS: u64 = 300;
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    let live = site.live_path();
    let stop = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // A file is there at every instant.
                assert_eq!(read(&live.join("same")), "same");
                // And what is reached from one directory is of one generation. The switch after the next
                // may remove a directory that is held this long, but not mix it.
                let held = Dir::open(&live).unwrap();
                let Ok(sub) = held.child(b"d") else { continue };
                if let (Ok(one), Ok(two)) = (held.read(b"a"), sub.read(b"b")) {
                    assert_eq!(io::read_to_string(one).unwrap(), io::read_to_string(two).unwrap());
                    reads += 1;
                }
            }
            reads
        });
        for assignment in 2..=COMMITS {
            commit(&mut site, assignment);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 0);
    assert_eq!(read(&live.join("a")), COMMITS.to_string());
    assert_eq!(hash_tree(&live).unwrap().files, 3);
}

/// JT-6, VC-11: back, further back, and forward again, each one exchange.
#[test]
fn a_site_goes_back_to_what_it_keeps_and_forward_again() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    (1..=4).for_each(|assignment| commit(&mut site, assignment));
    let kept = |site: &Site| site.releases().iter().map(|release| release.assignment.0).collect::<Vec<_>>();
    assert_eq!(kept(&site), [3, 2]);
    let error = site.switch(5, 1).unwrap_err();
    assert_eq!(error.to_string(), "release 1 is not kept here; kept are 3, 2");
    for (order, assignment, expected) in [(5, 3, vec![4, 2]), (6, 2, vec![3, 4]), (7, 4, vec![2, 3])] {
        assert_eq!(site.switch(order, assignment).unwrap(), order * 10);
        assert_eq!((site.version(), kept(&site)), (Some(AssignmentId(assignment)), expected));
        assert_eq!(read(&site.live_path().join("a")), assignment.to_string());
        assert_eq!(read(&site.live_path().join("d/b")), assignment.to_string());
        // The same order again is answered as before, and after a restart too.
        assert_eq!(site.switch(order, assignment).unwrap(), order * 10);
        drop(site);
        site = Site::open(root.path()).unwrap();
        assert_eq!(site.switch(order, assignment).unwrap(), order * 10);
    }
    // A publish goes on from there.
    commit(&mut site, 8);
    assert_eq!(kept(&site), [4, 2]);
    assert_eq!(read(&site.live_path().join("same")), "same");
}

/// Whoever adopts farmcast on servers that serve already has a way back from the first publish.
#[test]
fn what_was_found_in_live_is_the_first_release() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("live")).unwrap();
    fs::write(root.path().join("live/a"), "by hand").unwrap();
    let mut site = Site::open(root.path()).unwrap();
    commit(&mut site, 1);
    assert_eq!(read(&site.live_path().join("a")), "1");
    assert_eq!(site.switch(2, FOUND.0).unwrap(), 20);
    assert_eq!(read(&site.live_path().join("a")), "by hand");
    assert_eq!((site.version(), site.last_order()), (None, OrderId(2)));
    assert_eq!(site.switch(3, 1).unwrap(), 30);
    assert_eq!(read(&site.live_path().join("a")), "1");
}

#[test]
fn a_site_keeps_as_many_releases_as_it_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    site.keep(4);
    (1..=6).for_each(|assignment| commit(&mut site, assignment));
    assert_eq!(site.releases().len(), 4);
    site.keep(0);
    commit(&mut site, 7);
    assert_eq!(site.releases().len(), 1, "one at least, or there were no way back");
    let names = |dir: &str| {
        let path = root.path().join(".farmcast").join(dir);
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("releases"), ["6"]);
    site.tidy().unwrap();
    assert!(names("trash").is_empty());
}

/// What is staged when a site goes back stays staged, and may be committed: it is a whole tree.
#[test]
fn a_way_back_leaves_what_is_staged() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::open(root.path()).unwrap();
    (1..=2).for_each(|assignment| commit(&mut site, assignment));
    generation(3, Some(2)).stage(&mut site).unwrap();
    site.switch(3, 1).unwrap();
    assert_eq!(site.staged(), Some(AssignmentId(3)));
    assert_eq!(site.commit(OrderId(4), AssignmentId(3), || 40).unwrap(), 40);
    assert_eq!(read(&site.live_path().join("d/b")), "3");
}

/// A site with versions 1 and 2, 2 live, stopped behind `steps` of the way back to 1.
fn going_back(root: &Path, steps: usize) {
    let mut site = Site::open(root).unwrap();
    commit(&mut site, 1);
    commit(&mut site, 2);
    let switch = Switch { order: OrderId(3), assignment: AssignmentId(1), at: 33 };
    let intent = site.intent(switch, Source::Release(AssignmentId(1)), Some([0; 32])).unwrap();
    for step in &SWITCH[..steps] {
        site.run(*step, &intent).unwrap();
    }
}

#[test]
fn a_way_back_killed_behind_any_step_and_its_recovery_too_ends_whole() {
    for steps in 0..=SWITCH.len() {
        for recovered in 0..=SWITCH.len() {
            let context = format!("behind {steps} steps, then behind {recovered} of the recovery");
            let root = tempfile::tempdir().unwrap();
            going_back(root.path(), steps);
            let mut site = Site::open_unrecovered(root.path()).unwrap();
            for step in site.recovery().unwrap().into_iter().take(recovered) {
                site.perform(step).unwrap();
            }
            drop(site);
            let mut site = Site::open(root.path()).unwrap();
            let expected = if steps >= EXCHANGED { 1 } else { 2 };
            assert_eq!(site.version(), Some(AssignmentId(expected)), "{context}");
            assert_eq!(read(&site.live_path().join("d/b")), expected.to_string(), "{context}");
            assert_eq!(site.switch(3, 1).unwrap(), if expected == 1 { 33 } else { 30 }, "{context}");
            assert_eq!(site.switch(4, 2).unwrap(), 40, "{context}");
            assert_eq!(read(&site.live_path().join("d/b")), "2", "{context}");
            assert_eq!(site.switch(5, 1).unwrap(), 50, "{context}");
            commit(&mut site, 6);
            assert_eq!(read(&site.live_path().join("same")), "same", "{context}");
        }
    }
}
