//! Updates that are split (AS-13): one run, several assignments one after the other, one instant at the end.

use super::*;
use crate::ccm::model::Wish;

/// Four files of 50,000 bytes that do not compress, and assignments of 64 KiB: a part for each.
async fn publish(farm: &Farm, seed: u8, policy: Policy) -> JobId {
    for number in 0..4 {
        let mut noise = blake3::Hasher::new().update(&[seed, number]).finalize_xof();
        let mut bytes = vec![0; 50_000];
        noise.fill(&mut bytes);
        std::fs::write(farm.staging.join(format!("f{number}")), bytes).unwrap();
    }
    let policy = Policy { assignment_max: Some(64 << 10), ..policy };
    let (kind, site) = (JobKind::Publish { checksum: false }, name("www"));
    let job = NewJob { kind, site, nodes: vec![], policy, schedule: None, override_reason: String::new() };
    let run = farm.store(move |store| store.add_job_on(&job, now_ns())).await;
    farm.controller.wake.notify_one();
    run.job
}

/// What nobody fetches any more is removed behind the end of a run.
async fn until_objects(farm: &Farm, expected: usize) {
    let count = || std::fs::read_dir(farm.dir.path().join("objects")).unwrap().count();
    for _ in 0..500 {
        if count() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} objects, not {expected}", count());
}

fn live(farm: &Farm) -> Vec<u8> {
    std::fs::read(farm.dir.path().join("shadow/www/live/f3")).unwrap()
}

#[tokio::test]
async fn a_large_update_is_sent_in_parts_and_goes_live_with_the_last() {
    let farm = Farm::new(&[(1, &[2, 3]), (4, &[5])], |_| {}).await;
    let run = farm.end(publish(&farm, 0, Policy::default()).await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 5 nodes"));
    let version = run.version().unwrap();
    assert_eq!((run.parts.before.len(), run.parts.done), (3, 3));
    let all: Vec<AssignmentId> = (1..4).map(|part| version.part_of(part)).chain([version]).collect();
    for leader in &farm.leaders {
        assert_eq!((&*leader.fetched.lock().unwrap(), leader.orders.load(SeqCst)), (&all, 1));
    }
    assert_eq!(farm.version().await, Some(version));
    assert_eq!(live(&farm), std::fs::read(farm.staging.join("f3")).unwrap());
    until_objects(&farm, 1).await;
    wait_for_versions(&farm, version).await;
    // What changed a little is one assignment again, over the whole.
    std::fs::write(farm.staging.join("f0"), "small").unwrap();
    let policy = Policy { assignment_max: Some(64 << 10), ..Policy::default() };
    farm.store(move |store| store.set_site_policy(&name("www"), &policy, 1).map(drop)).await;
    let next = farm.end(farm.publish().await).await;
    assert_eq!((next.parts.before.len(), next.assignment.unwrap().base), (0, Some(version)), "{}", next.text);
    // The history has every part.
    let events = farm.store(move |store| store.events_of_job(run.job)).await;
    for part in 2..=4 {
        let text = format!("part {part} of 4: staged on 0 of 5 nodes");
        assert!(events.iter().any(|event| event.text == text), "{events:?}");
    }
}

#[tokio::test]
async fn parts_are_encrypted_each_for_itself() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let policy = Policy { encrypt: Some(true), ..Policy::default() };
    let run = farm.end(publish(&farm, 0, policy).await).await;
    assert_eq!((run.phase, run.parts.before.len()), (Phase::Done, 3), "{}", run.text);
    assert_eq!(farm.leaders[0].decrypted.load(SeqCst), 4);
}

#[tokio::test]
async fn nodes_that_go_live_alone_do_so_with_the_last_part() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    let policy = Policy { activation: Some("autonomous".to_owned()), ..Policy::default() };
    farm.leaders[1].behave(Conduct::NoSpace);
    let run = farm.end(publish(&farm, 0, policy).await).await;
    assert_eq!((run.phase, run.parts.done), (Phase::Partial, 3), "{}", run.text);
    assert!(run.text.starts_with("live on 3 of 4 nodes; not on n4 (no-space: it would not)"), "{}", run.text);
    assert_eq!(farm.version().await, run.version());
    assert!(farm.leaders.iter().all(|leader| leader.orders.load(SeqCst) == 0));
}

/// By the rules of the run: without a quorum nothing is live anywhere, with one it stays behind.
#[tokio::test]
async fn a_node_that_is_lost_with_a_part_is_lost_for_the_run() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    farm.leaders[1].behave(Conduct::NoSpace);
    let run = farm.end(publish(&farm, 0, Policy::default()).await).await;
    assert_eq!((run.phase, run.order, run.parts.done), (Phase::Failed, None, 0), "{}", run.text);
    assert!(run.text.contains("live was not touched anywhere"), "{}", run.text);
    let policy = Policy { quorum: Some("75%".to_owned()), ..Policy::default() };
    let run = farm.end(publish(&farm, 1, policy).await).await;
    assert_eq!((run.phase, run.parts.done), (Phase::Partial, 3), "{}", run.text);
    assert!(run.text.starts_with("live on 3 of 4 nodes; not on n4 (no-space: it would not)"), "{}", run.text);
    until_objects(&farm, 2).await;
}

#[tokio::test]
async fn a_run_goes_on_with_its_part_after_the_controller_crashed() {
    let mut farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let leader = Arc::clone(&farm.leaders[0]);
    leader.behave(Conduct::FirstPart);
    let job = publish(&farm, 0, Policy::default()).await;
    farm.until(job, |run| run.parts.done == 1).await;
    let before = farm.store(move |store| store.run_of_job(job)).await.unwrap();
    farm.crash(|_| {}).await;
    leader.behave(Conduct::Obey);
    let after = farm.end(job).await;
    assert_eq!((after.phase, after.id), (Phase::Done, before.id), "{}", after.text);
    assert_eq!((&after.parts.before, after.assignment), (&before.parts.before, before.assignment));
    let fetched = leader.fetched.lock().unwrap().clone();
    let parts: Vec<u64> = fetched.iter().map(|assignment| assignment.part()).collect();
    let mut once = parts.clone();
    once.dedup();
    assert_eq!(once, [1, 2, 3, 0], "{parts:?}");
    assert_eq!(farm.version().await, after.version());
}

#[tokio::test]
async fn a_run_that_is_cancelled_between_parts_leaves_nothing() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let leader = &farm.leaders[0];
    leader.behave(Conduct::FirstPart);
    let job = publish(&farm, 0, Policy::default()).await;
    farm.until(job, |run| run.parts.done == 1).await;
    farm.store(move |store| store.wish(job, Wish::Cancel, now_ns())).await.unwrap();
    farm.controller.wake.notify_one();
    let run = loop {
        let run = farm.store(move |store| store.run_of_job(job)).await.unwrap();
        if run.phase.is_over() {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((run.phase, run.order, farm.version().await), (Phase::Cancelled, None, None), "{}", run.text);
    leader.behave(Conduct::Obey);
    let run = farm.end(publish(&farm, 1, Policy::default()).await).await;
    assert_eq!(run.phase, Phase::Done, "{}", run.text);
    assert_eq!(live(&farm), std::fs::read(farm.staging.join("f3")).unwrap());
    // The last of the one that was cancelled stays as the one before, as ever.
    until_objects(&farm, 2).await;
    assert_eq!(farm.version().await, run.version());
}

/// JT-5: what a node lacks is split as well, and who has it live already takes no part.
#[tokio::test]
async fn what_a_node_lacks_comes_in_parts_too() {
    let farm = Farm::new(&[(1, &[]), (2, &[])], |_| {}).await;
    let policy = Policy { assignment_max: Some(64 << 10), ..Policy::default() };
    farm.store(move |store| store.set_site_policy(&name("www"), &policy, 1).map(drop)).await;
    let first = farm.end(publish(&farm, 0, Policy::default()).await).await;
    wait_for_versions(&farm, first.version().unwrap()).await;
    farm.leaders[1].version.store(0, SeqCst);
    while farm
        .store(|store| store.nodes())
        .await
        .iter()
        .all(|node| node.site(&name("www")).unwrap().version.is_some())
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        farm.leaders[1].report().await;
    }
    let told = farm.leaders[0].fetched.lock().unwrap().len();
    let run = farm.end(farm.begin(JobKind::Synchronize).await).await;
    assert_eq!((run.phase, run.parts.done, run.version()), (Phase::Done, 3, first.version()), "{}", run.text);
    assert_eq!(farm.leaders[0].fetched.lock().unwrap().len(), told);
}
