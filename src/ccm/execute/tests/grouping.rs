//! Runs that go to a group of the operator's.

use super::{Farm, Phase, SECOND, name, now_ns, wait_for_versions};
use crate::ccm::groups::choice::Choice;
use crate::ccm::model::NodeState;
use std::sync::atomic::Ordering::SeqCst;

async fn serve(farm: &Farm, group: &'static str, choices: &[&str]) {
    let choices: Vec<Choice> = choices.iter().map(|choice| choice.parse().unwrap()).collect();
    farm.store(move |store| {
        store.create_group(&name(group), &choices, 1)?.unwrap();
        store.set_site_group(&name("www"), Some(&name(group)), 1)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn only_segments_with_a_member_of_the_group_take_part() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    serve(&farm, "eu", &["segment:s3"]).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 2 nodes"));
    let outside = &farm.leaders[0];
    assert!(outside.sources().is_empty() && outside.orders.load(SeqCst) == 0, "s1 is told nothing");
    let told = farm.leaders[1].told.lock().unwrap().clone();
    let list = farm.store(|store| store.group_list(&name("s3"))).await.unwrap();
    assert_eq!(told, [(name("eu"), list.0)], "the group, and the list that says who is in it");
}

#[tokio::test]
async fn a_group_within_a_segment_is_all_that_a_run_waits_for() {
    let farm = Farm::new(&[(1, &[2, 3])], |_| {}).await;
    serve(&farm, "eu", &["n1", "n3"]).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 2 nodes"));
    let id = run.id;
    let nodes = farm.store(move |store| store.run_nodes(id)).await;
    let live: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(live == ["n1", "n3"] && nodes.iter().all(|node| node.state == NodeState::Live));
    assert!(run.finished_ns - run.started_ns < 30 * SECOND);
}

/// The node that was added holds nothing of the site: it gets everything, and it alone.
#[tokio::test]
async fn a_node_that_comes_to_a_group_is_brought_along_by_the_next_publish() {
    let farm = Farm::new(&[(1, &[]), (2, &[])], |_| {}).await;
    serve(&farm, "eu", &["n1"]).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let first = farm.end(farm.publish().await).await.assignment.unwrap();
    let add = ["n2".parse().unwrap()];
    farm.store(move |store| store.change_group(&name("eu"), &add, &[], now_ns())).await.unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Done, None), "{}", run.text);
    let brought = farm.store(move |store| store.synchronizes_for(run.job)).await;
    assert_eq!((brought.len(), brought[0].text.as_str()), (1, "live on 1 node"));
    assert_eq!((first.base, brought[0].assignment.unwrap().base), (None, None));
    assert_eq!(farm.leaders[0].sources().len(), 1, "who has it gets nothing");
    wait_for_versions(&farm, first.id).await;
    std::fs::write(farm.staging.join("a"), "b").unwrap();
    let next = farm.end(farm.publish().await).await;
    assert_eq!(next.assignment.unwrap().base, Some(first.id));
}

#[tokio::test]
async fn a_group_for_which_no_channel_is_free_fails_the_run_and_is_named() {
    let farm =
        Farm::new(&[(1, &[2])], |config| config.data_channels = "239.1.1.1/32:7".parse().unwrap()).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    assert_eq!(farm.end(farm.publish().await).await.phase, Phase::Done, "the default group has it");
    serve(&farm, "eu", &["n1"]).await;
    std::fs::write(farm.staging.join("a"), "b").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!(run.phase, Phase::Failed);
    assert!(run.text.contains("group eu") && run.text.contains("data_channels"), "{}", run.text);
}

#[tokio::test]
async fn a_group_of_which_nobody_is_online_composes_nothing() {
    let farm = Farm::new(&[(1, &[])], |_| {}).await;
    serve(&farm, "eu", &["nobody*"]).await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Failed, None));
    assert!(run.text.contains("no node of group eu that serves www"), "{}", run.text);
}
