//! Runs by policies: nodes that go live each by itself (CO-11), and encryption (AS-15).

use super::*;
use crate::ccm::model::Wish;

async fn publish_alone(farm: &Farm, content: &str) -> JobId {
    let policy = Policy { activation: Some("autonomous".to_owned()), ..Policy::default() };
    publish(farm, content, policy).await
}

async fn publish(farm: &Farm, content: &str, policy: Policy) -> JobId {
    std::fs::write(farm.staging.join("index.html"), content).unwrap();
    let (kind, site) = (JobKind::Publish { checksum: false }, name("www"));
    let job = NewJob { kind, site, nodes: vec![], policy, schedule: None, override_reason: String::new() };
    let run = farm.store(move |store| store.add_job_on(&job, now_ns())).await;
    farm.controller.wake.notify_one();
    run.job
}

#[tokio::test]
async fn nodes_go_live_without_an_order_of_their_own_and_the_shadow_follows() {
    let mut farm = Farm::new(&[(1, &[2, 3]), (4, &[5])], |_| {}).await;
    let run = farm.end(publish_alone(&farm, "one").await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 5 nodes"));
    let first = run.version().unwrap();
    assert_eq!(farm.version().await, Some(first));
    assert!(farm.leaders.iter().all(|leader| leader.orders.load(SeqCst) == 0));
    let live = farm.dir.path().join("shadow/www/live/index.html");
    assert_eq!(std::fs::read_to_string(&live).unwrap(), "one");
    let nodes = farm.store(move |store| store.run_nodes(run.id)).await;
    assert!(nodes.iter().all(|node| node.state == NodeState::Live && node.switched_ns != 0), "{nodes:?}");
    wait_for_versions(&farm, first).await;

    // The next is a difference to it, and a rollback goes back by a later order. The controller may crash.
    let second = farm.end(publish_alone(&farm, "two!").await).await;
    assert_eq!((second.phase, second.assignment.unwrap().base), (Phase::Done, Some(first)));
    wait_for_versions(&farm, second.version().unwrap()).await;
    farm.crash(|_| {}).await;
    let back = farm.end(farm.begin(JobKind::Rollback).await).await;
    assert_eq!((back.phase, back.version()), (Phase::Done, Some(first)), "{}", back.text);
    assert!(back.order.unwrap().id > second.order.unwrap().id);
    assert_eq!(std::fs::read_to_string(&live).unwrap(), "one");
}

/// TH-5, SC-10.
#[tokio::test]
async fn what_is_live_on_fewer_than_the_threshold_is_taken_back_and_tried_again() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let strict = || Policy { threshold: Some("all".to_owned()), ..Policy::default() };
    let first = farm.end(publish(&farm, "one", strict()).await).await;
    assert_eq!(first.phase, Phase::Done, "{}", first.text);

    farm.leaders[0].behave(Conduct::HalfSwitch);
    let policy = Policy { retries: Some(1), retry_after_s: Some(1), ..strict() };
    let job = publish(&farm, "two!", policy).await;
    farm.until(job, |run| run.terms.attempt == 2).await;
    let runs = farm.store(|store| store.last_runs(10)).await;
    let second = runs.iter().find(|run| run.phase == Phase::Partial).expect("the first attempt");
    assert!(
        second.text.ends_with("fewer than the threshold: all go back to the version before"),
        "{}",
        second.text
    );
    farm.leaders[0].behave(Conduct::Obey);
    let back = farm.end(JobId(3)).await;
    assert_eq!((back.kind, back.version()), (JobKind::Rollback, first.version()), "{}", back.text);
    assert_eq!(back.terms.override_reason, "job 2 is live on 1 of 2 nodes, and 2 are needed (threshold all)");

    let again = farm.end(job).await;
    assert_eq!((again.phase, again.terms.attempt), (Phase::Done, 2), "{}", again.text);
    assert_eq!(farm.version().await, again.version());
}

/// Of a site that had no version before there is nothing to go back to.
#[tokio::test]
async fn a_first_publish_stays_where_it_is_live() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    farm.leaders[0].behave(Conduct::HalfSwitch);
    let policy = Policy { threshold: Some("all".to_owned()), ..Policy::default() };
    let run = farm.end(publish(&farm, "one", policy).await).await;
    assert_eq!((run.phase, farm.version().await), (Phase::Partial, run.version()), "{}", run.text);
    assert_eq!(farm.store(|store| store.last_runs(10)).await.len(), 1);
}

#[tokio::test]
async fn who_cannot_stage_is_named_and_keeps_nobody_waiting() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    farm.leaders[1].behave(Conduct::NoSpace);
    let run = farm.end(publish_alone(&farm, "one").await).await;
    assert_eq!(run.phase, Phase::Partial, "{}", run.text);
    assert!(run.text.starts_with("live on 3 of 4 nodes; not on n4 (no-space: it would not)"), "{}", run.text);
    assert_eq!(farm.version().await, run.version());
}

/// Its report was lost with its leader, and it was out of sight for a while: its version says that it is live.
#[tokio::test]
async fn who_was_given_up_and_turns_out_to_be_live_counts_as_live() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |config| config.first_level = 2).await;
    farm.leaders[1].behave(Conduct::Silent);
    let job = publish_alone(&farm, "one").await;
    let run = farm.until(job, |run| run.text == "live on 2 of 4 nodes").await;
    let give_up = move |store: &mut crate::ccm::db::Store| {
        let mut nodes = store.run_nodes(run.id)?;
        let last = nodes.iter_mut().find(|node| node.name == name("n4")).expect("it is in the run");
        assert!(crate::ccm::rollout::note_missing(&run, last, "went offline", now_ns()));
        store.put_run_nodes(run.id, &nodes, "")?;
        Ok(run.assignment.expect("it is composed").id)
    };
    let version = farm.store(give_up).await;
    farm.leaders[1].version.store(version.0, SeqCst);
    farm.leaders[1].report().await;
    let run = farm.end(job).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 4 nodes"));
}

#[tokio::test]
async fn a_run_that_is_cancelled_says_who_is_live_already() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |config| config.first_level = 2).await;
    farm.leaders[1].behave(Conduct::Silent);
    let job = publish_alone(&farm, "one").await;
    farm.until(job, |run| run.text == "live on 2 of 4 nodes").await;
    farm.store(move |store| store.wish(job, Wish::Cancel, now_ns())).await.unwrap();
    farm.controller.wake.notify_one();
    let run = farm.end(job).await;
    assert_eq!(run.phase, Phase::Cancelled);
    assert!(run.text.contains("live already on 2 of 4 nodes: n1, n2;"), "{}", run.text);
    assert_eq!(farm.version().await, None);
}

/// The shadow follows what is encrypted as well, also where what it had staged was lost.
#[tokio::test]
async fn what_is_encrypted_is_read_with_the_key_that_the_controller_gives() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let policy = Policy { encrypt: Some(true), ..Policy::default() };
    farm.leaders[0].behave(Conduct::DeafToOrders);
    let job = publish(&farm, "secret words", policy).await;
    let run = farm.until(job, |run| run.phase == Phase::Committing).await;
    assert!(farm.leaders[0].decrypted.load(SeqCst) > 0);
    let name = run.assignment.unwrap().shape.name;
    let object = std::fs::read(farm.dir.path().join(format!("objects/{name}.asg"))).unwrap();
    for part in [&b"secret words"[..], b"index.html"] {
        assert!(!object.windows(part.len()).any(|window| window == part));
    }
    std::fs::remove_dir_all(farm.dir.path().join("shadow/www")).unwrap();
    farm.leaders[0].behave(Conduct::Obey);
    assert_eq!(farm.end(job).await.phase, Phase::Done);
    let live = farm.dir.path().join("shadow/www/live/index.html");
    assert_eq!(std::fs::read_to_string(live).unwrap(), "secret words");
}
