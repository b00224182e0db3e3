//! Whole runs: the real controller with real listeners, and leaders that are made up but speak the real
//! formats over real sockets.

mod checkpoints;
mod grouping;
mod leader;
mod parts;
mod policies;

use super::Executor;
use crate::ccm::api::{
    self,
    types::{Phase, Policy},
};
use crate::ccm::clock::now_ns;
use crate::ccm::config::Config;
use crate::ccm::controller::Controller;
use crate::ccm::model::{JobKind, NewJob, NodeState, Run};
use crate::ccm::testing::{SECOND, enrol, free_port, listen, name, restart};
use crate::ccm::{InitOptions, init};
use crate::wire::id::{AssignmentId, JobId};
use leader::{Conduct, Leader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::AbortHandle;

/// A farm in one process; dropped, everything of it ends.
struct Farm {
    dir: TempDir,
    staging: PathBuf,
    controller: Arc<Controller>,
    tasks: Vec<AbortHandle>,
    leaders: Vec<Arc<Leader>>,
}

impl Farm {
    /// With one leader of this number per entry, and its further members.
    async fn new(segments: &[(u8, &[u8])], set: fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &InitOptions::default()).unwrap();
        let staging = dir.path().join("staging");
        std::fs::create_dir(&staging).unwrap();
        let (controller, tasks) = start(&dir, set).await;
        let mut farm = Self { dir, staging, controller, tasks, leaders: Vec::new() };
        let staging = farm.staging.clone();
        farm.store(move |store| store.add_site(&name("www"), &staging, 1).map(drop)).await;
        for &(leader, members) in segments {
            let numbers: Vec<u8> = std::iter::once(leader).chain(members.iter().copied()).collect();
            let joining = numbers.clone();
            farm.store(move |store| {
                joining.iter().for_each(|&number| enrol(store, number));
                Ok(())
            })
            .await;
            let leader = Leader::start(&farm.controller, numbers, &format!("s{leader}"), 1).await;
            leader.report().await;
            farm.leaders.push(leader);
        }
        farm
    }

    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut crate::ccm::db::Store) -> Result<T, crate::ccm::db::DbError> + Send + 'static,
    ) -> T {
        self.controller.store(work).await.unwrap()
    }

    /// Ends the controller as a crash would, and starts it anew: another port, the same state.
    async fn crash(&mut self, set: fn(&mut Config)) {
        self.tasks.drain(..).for_each(|task| task.abort());
        let (controller, tasks) = start(&self.dir, set).await;
        (self.controller, self.tasks) = (controller, tasks);
        for leader in &self.leaders {
            *leader.ccm.lock().unwrap() = self.controller.reachable_at;
            leader.report().await;
        }
    }

    async fn publish(&self) -> JobId {
        self.begin(JobKind::Publish { checksum: false }).await
    }

    async fn begin(&self, kind: JobKind) -> JobId {
        let run = self.store(move |store| store.add_job(kind, &name("www"), now_ns())).await;
        self.controller.wake.notify_one();
        run.job
    }

    /// Waits, in real time but with a generous end, until the job's run is as asked.
    async fn until(&self, job: JobId, is: impl Fn(&Run) -> bool) -> Run {
        for _ in 0..1_500 {
            let run = self.store(move |store| store.run_of_job(job)).await.unwrap();
            if is(&run) {
                return run;
            }
            assert!(!run.phase.is_over(), "{}: {}", run.phase, run.text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("job {job} does not get on");
    }

    async fn end(&self, job: JobId) -> Run {
        self.until(job, |run| run.phase.is_over()).await
    }

    /// Why a job of this kind fails.
    async fn end_badly(&self, kind: JobKind) -> String {
        let job = self.begin(kind).await;
        loop {
            let run = self.store(move |store| store.run_of_job(job)).await.unwrap();
            if run.phase.is_over() {
                assert_eq!(run.phase, Phase::Failed);
                return run.text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn version(&self) -> Option<AssignmentId> {
        self.store(|store| store.site(&name("www"))).await.unwrap().version
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn start(dir: &TempDir, set: fn(&mut Config)) -> (Arc<Controller>, Vec<AbortHandle>) {
    let (listener, addr) = free_port().await;
    let mut controller = restart(dir.path(), addr, |config| {
        config.commit_lead_ms = 0;
        set(config);
    });
    // Real time passes here.
    Arc::get_mut(&mut controller).expect("nobody else has it yet").started_ns = now_ns();
    let served = listen(api::node(Arc::clone(&controller)), listener).await;
    let driven = tokio::spawn(Executor::new(Arc::clone(&controller)).drive()).abort_handle();
    (controller, vec![served, driven])
}

#[tokio::test]
async fn a_publish_goes_live_on_all_nodes_and_the_shadow_follows() {
    let farm = Farm::new(&[(1, &[2, 3]), (4, &[5])], |config| config.first_level = 1).await;
    std::fs::write(farm.staging.join("index.html"), "one").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 5 nodes"));
    let assignment = run.assignment.unwrap();
    assert_eq!(farm.version().await, Some(assignment.id));
    let live = farm.dir.path().join("shadow/www/live/index.html");
    assert_eq!(std::fs::read_to_string(&live).unwrap(), "one");
    // The first leader fetched from the controller, the second from the first.
    assert_eq!(farm.leaders[0].sources(), [farm.controller.reachable_at]);
    assert_eq!(farm.leaders[1].sources(), [farm.leaders[0].http]);
    assert_eq!(farm.controller.served_bytes(), assignment.shape.file_len());
    let snapshots = farm.store(|store| store.snapshots(&name("www"))).await;
    assert_eq!(snapshots[0].version, assignment.id);
    let id = run.id;
    let nodes = farm.store(move |store| store.run_nodes(id)).await;
    assert_eq!(crate::ccm::rollout::Standing::of(&nodes).switch_spread_us(), Some(3));

    // Nothing changed: nothing is sent.
    farm.until(run.job, |run| run.phase.is_over()).await;
    wait_for_versions(&farm, assignment.id).await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Unchanged, None));
    assert_eq!(farm.leaders[0].sources().len(), 1);

    // A change is sent as a difference to what is live.
    std::fs::write(farm.staging.join("index.html"), "two!").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment.unwrap().base), (Phase::Done, Some(assignment.id)));
    assert_eq!(run.composition.unwrap().changes.changed, 1);
    assert_eq!(std::fs::read_to_string(&live).unwrap(), "two!");
}

/// JT-6, JT-7: back and forward; nothing is sent but the order, and a publish goes on from there.
#[tokio::test]
async fn a_rollback_sends_an_order_and_no_content() {
    let farm = Farm::new(&[(1, &[2, 3]), (4, &[5])], |_| {}).await;
    let publish = async |text: &str| {
        std::fs::write(farm.staging.join("index.html"), text).unwrap();
        let run = farm.end(farm.publish().await).await;
        let version = run.assignment.unwrap().id;
        wait_for_versions(&farm, version).await;
        version
    };
    let nothing = farm.end_badly(JobKind::Rollback).await;
    assert!(nothing.starts_with("nothing of www is live that could be rolled back"), "{nothing}");
    let (first, second) = (publish("one").await, publish("two!").await);
    let live = farm.dir.path().join("shadow/www/live/index.html");
    let served = farm.controller.served_bytes();
    for (kind, version, text) in [
        (JobKind::Rollback, first, "one"),
        (JobKind::Switch { version: second }, second, "two!"),
        (JobKind::Switch { version: first }, first, "one"),
    ] {
        let run = farm.end(farm.begin(kind).await).await;
        assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 5 nodes"));
        assert_eq!((run.version(), farm.version().await), (Some(version), Some(version)));
        assert_eq!(std::fs::read_to_string(&live).unwrap(), text);
        wait_for_versions(&farm, version).await;
    }
    assert_eq!(farm.controller.served_bytes(), served, "no content moved");
    let again = farm.end(farm.begin(JobKind::Switch { version: first }).await).await;
    assert_eq!(again.phase, Phase::Unchanged);
    let unknown = farm.end_badly(JobKind::Switch { version: AssignmentId(99) }).await;
    assert!(unknown.starts_with("version 99 was never live"), "{unknown}");
    // The next publish is a difference to what went live again.
    std::fs::write(farm.staging.join("index.html"), "three").unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment.unwrap().base), (Phase::Done, Some(first)));
}

/// The leaders' own reports, with which nodes count as up to date, come after the run's end.
async fn wait_for_versions(farm: &Farm, version: AssignmentId) {
    for _ in 0..500 {
        let nodes = farm.store(|store| store.nodes()).await;
        if nodes.iter().all(|node| node.site(&name("www")).unwrap().version == Some(version)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the leaders do not report version {version}");
}

#[tokio::test]
async fn one_node_that_cannot_stage_keeps_live_untouched_everywhere() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[1].behave(Conduct::NoSpace);
    let run = farm.end(farm.publish().await).await;
    assert_eq!(run.phase, Phase::Failed);
    assert!(run.text.contains("n4 (no-space: it would not)"), "{}", run.text);
    assert_eq!((run.order, farm.version().await), (None, None));
    assert!(farm.leaders.iter().all(|leader| leader.orders.load(SeqCst) == 0));
}

/// B-15: three of four are enough here; the fourth keeps what it had, is named, and never gets half of anything.
#[tokio::test]
async fn a_quorum_goes_live_without_the_node_that_cannot_and_names_it() {
    let farm = Farm::new(&[(1, &[2]), (3, &[4])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[1].behave(Conduct::NoSpace);
    let ask = |quorum: &str| {
        let policy = Policy { quorum: Some(quorum.to_owned()), ..Policy::default() };
        let (kind, site) = (JobKind::Publish { checksum: false }, name("www"));
        let job =
            NewJob { kind, site, nodes: vec![], policy, schedule: None, override_reason: String::new() };
        farm.store(move |store| store.add_job_on(&job, now_ns()))
    };
    let all = farm.end(ask("100%").await.job).await;
    assert_eq!((all.phase, all.order), (Phase::Failed, None), "{}", all.text);
    let run = farm.end(ask("75%").await.job).await;
    assert_eq!(run.phase, Phase::Partial, "{}", run.text);
    assert!(run.text.starts_with("live on 3 of 4 nodes; not on n4 (no-space: it would not)"), "{}", run.text);
    assert_eq!(farm.version().await, run.assignment.map(|assignment| assignment.id));
    let nodes = farm.store(move |store| store.run_nodes(run.id)).await;
    assert_eq!(nodes.iter().filter(|node| node.state == NodeState::Live).count(), 3);
}

/// SC-9: a failure is followed by the attempts that the policy has, and the job ends as the last of them did.
#[tokio::test]
async fn a_run_that_failed_is_tried_again_as_often_as_its_policy_says() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[0].behave(Conduct::NoSpace);
    let policy = Policy { retries: Some(2), retry_after_s: Some(1), ..Policy::default() };
    farm.store(move |store| store.set_site_policy(&name("www"), &policy, 1).map(drop)).await;
    let job = farm.publish().await;
    let waits = farm.until(job, |run| run.terms.attempt == 2).await;
    assert_eq!(waits.phase, Phase::Queued, "{}", waits.text);
    farm.until(job, |run| run.terms.attempt == 3).await;
    farm.leaders[0].behave(Conduct::Obey);
    let run = farm.end(job).await;
    assert_eq!((run.phase, run.terms.attempt), (Phase::Done, 3), "{}", run.text);
    let attempts = farm.store(|store| store.last_runs(9)).await;
    assert_eq!((attempts.len(), attempts[2].phase), (3, Phase::Failed));

    // And no more than that.
    farm.leaders[0].behave(Conduct::NoSpace);
    std::fs::write(farm.staging.join("a"), "b").unwrap();
    let job = farm.publish().await;
    let last = farm.until(job, |run| run.terms.attempt == 3 && run.phase.is_over()).await;
    assert_eq!(last.phase, Phase::Failed);
    assert_eq!(farm.store(|store| store.unfinished_runs()).await, []);
}

#[tokio::test]
async fn fewer_nodes_online_than_a_run_needs_fail_it_before_anything_is_composed() {
    let farm = Farm::new(&[(1, &[2, 3, 4])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.store(|store| store.expire_segments(u64::MAX / 4)).await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Failed, None));
    // One of four comes back: half is needed where nobody says otherwise.
    let alone = Leader::start(&farm.controller, vec![2], "s1", 9).await;
    alone.report().await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Failed, None));
    assert!(
        run.text.starts_with("1 of the 4 nodes that are to have www are online, 2 are needed"),
        "{}",
        run.text
    );
    let policy = Policy { online_quorum: Some("1".to_owned()), ..Policy::default() };
    farm.store(move |store| store.set_site_policy(&name("www"), &policy, 1).map(drop)).await;
    assert_eq!(farm.end(farm.publish().await).await.phase, Phase::Done);
}

#[tokio::test]
async fn a_node_that_does_not_switch_is_named_and_brought_along_the_next_time() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[0].behave(Conduct::HalfSwitch);
    let run = farm.end(farm.publish().await).await;
    assert_eq!(run.phase, Phase::Partial);
    assert!(run.text.starts_with("live on 1 of 2 nodes; not on n2 (system: it would not)"), "{}", run.text);
    assert_eq!(farm.version().await, Some(run.assignment.unwrap().id));
    farm.leaders[0].version.store(0, SeqCst);
    farm.leaders[0].report().await;
    farm.leaders[0].behave(Conduct::Obey);
    let next = farm.end(farm.publish().await).await;
    assert_eq!((next.phase, next.assignment), (Phase::Done, None), "{}", next.text);
    assert!(next.text.ends_with("which all nodes hold now, by job 3"), "{}", next.text);
    let brought = farm.end(JobId(3)).await;
    assert_eq!(
        (brought.kind, brought.phase, brought.version()),
        (JobKind::Synchronize, Phase::Done, run.version())
    );
}

/// CM-7: a run that a node lost because its content is not what was signed is tried once more, behind a job that
/// brings that node all of it; a second time it is lost for good.
#[tokio::test]
async fn a_node_without_its_base_is_brought_all_of_it_once() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    let leader = &farm.leaders[0];
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let first = farm.end(farm.publish().await).await;
    wait_for_versions(&farm, first.version().unwrap()).await;
    std::fs::write(farm.staging.join("a"), "b").unwrap();
    leader.behave(Conduct::WrongBase);
    let job = farm.begin(JobKind::Publish { checksum: false }).await;
    let failed = loop {
        let run = farm.store(move |store| store.run_of_job(job)).await.unwrap();
        if run.phase == Phase::Failed && run.id.0 > 2 {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(failed.text.contains("n2 (stale-base: it would not)"), "{}", failed.text);
    assert_eq!((farm.version().await, failed.order), (first.version(), None), "live was not touched");
    // The publish, what brought the node along, and the publish again; and no more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let runs = farm.store(|store| store.last_runs(9)).await;
    let kinds: Vec<_> = runs.iter().rev().map(|run| (run.kind.word(), run.phase)).collect();
    let lost = ("publish", Phase::Failed);
    assert_eq!(kinds, [("publish", Phase::Done), lost, ("synchronize", Phase::Done), lost]);
    let brought = runs[1].assignment.unwrap();
    assert_eq!((brought.base, Some(brought.id)), (None, first.version()));
}

/// Whoever asked first is served first, also where it has to wait for nodes that lack something.
#[tokio::test]
async fn what_was_asked_for_later_stays_behind_a_run_that_waits() {
    let farm = Farm::new(&[(1, &[]), (2, &[])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let first = farm.end(farm.publish().await).await;
    wait_for_versions(&farm, first.version().unwrap()).await;
    let site = name("www");
    farm.leaders[1].version.store(0, SeqCst);
    // What a node itself said a moment ago counts for more than what its leader says.
    while farm
        .store(|store| store.nodes())
        .await
        .iter()
        .all(|node| node.site(&site).unwrap().version.is_some())
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        farm.leaders[1].report().await;
    }
    std::fs::write(farm.staging.join("a"), "b").unwrap();
    let (publish, rollback) = farm
        .store(move |store| {
            let publish = store.add_job(JobKind::Publish { checksum: false }, &site, now_ns())?;
            Ok((publish.job, store.add_job(JobKind::Rollback, &site, now_ns())?.job))
        })
        .await;
    farm.controller.wake.notify_one();
    let back = farm.end(rollback).await;
    assert_eq!((back.phase, back.version()), (Phase::Done, first.version()), "{}", back.text);
    let publish = farm.end(publish).await;
    assert!(publish.phase == Phase::Done && publish.id < back.id);
}

#[tokio::test]
async fn a_run_goes_on_after_the_controller_crashed_while_it_distributed() {
    let mut farm = Farm::new(&[(1, &[2])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let leader = Arc::clone(&farm.leaders[0]);
    leader.behave(Conduct::Silent);
    let job = farm.publish().await;
    let before = farm.until(job, |_| !leader.sources().is_empty()).await;
    assert_eq!(before.phase, Phase::Distributing);
    leader.behave(Conduct::Obey);
    farm.crash(|_| {}).await;
    let after = farm.end(job).await;
    assert_eq!((after.phase, after.assignment), (Phase::Done, before.assignment), "{}", after.text);
}

#[tokio::test]
async fn a_run_goes_on_after_the_controller_crashed_while_it_committed() {
    let mut farm = Farm::new(&[(1, &[2])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    let leader = Arc::clone(&farm.leaders[0]);
    leader.behave(Conduct::DeafToOrders);
    let job = farm.publish().await;
    let before = farm.until(job, |_| leader.orders.load(SeqCst) > 0).await;
    assert_eq!(before.phase, Phase::Committing);
    leader.behave(Conduct::Obey);
    farm.crash(|_| {}).await;
    let after = farm.end(job).await;
    assert_eq!((after.phase, &after.order), (Phase::Done, &before.order), "{}", after.text);
    assert_eq!(farm.version().await, after.assignment.map(|assignment| assignment.id));
}

#[tokio::test]
async fn a_new_leader_is_notified_in_the_middle_of_a_run() {
    let farm = Farm::new(&[(1, &[2])], |_| {}).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[0].behave(Conduct::Silent);
    let job = farm.publish().await;
    farm.until(job, |_| !farm.leaders[0].sources().is_empty()).await;
    let heir = Leader::start(&farm.controller, vec![2, 1], "s1", 2).await;
    heir.report().await;
    let run = farm.end(job).await;
    assert_eq!(run.phase, Phase::Done, "{}", run.text);
    assert_eq!(heir.sources(), [farm.controller.reachable_at]);
    assert_eq!(farm.leaders[0].orders.load(SeqCst), 0);
}

#[tokio::test]
async fn without_a_node_online_nothing_is_composed() {
    let farm = Farm::new(&[], |_| {}).await;
    let run = farm.end(farm.publish().await).await;
    assert_eq!((run.phase, run.assignment), (Phase::Failed, None));
    assert!(run.text.starts_with("no node that serves www is online"), "{}", run.text);
}

/// NS-12.
#[tokio::test]
async fn a_node_that_never_answers_is_missing_after_the_timeout() {
    let farm = Farm::new(&[(1, &[2])], |config| config.report_timeout_s = 1).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[0].behave(Conduct::Silent);
    let run = farm.end(farm.publish().await).await;
    assert_eq!(run.phase, Phase::Failed);
    assert!(run.text.contains("n1 (did not answer), n2 (did not answer)"), "{}", run.text);
    assert!(run.finished_ns - run.started_ns < 30 * SECOND);
}

/// Found by a day in which the controller was killed again and again (`tests/farm/day.rs`).
#[tokio::test]
async fn time_in_which_the_controller_was_away_does_not_count_against_its_nodes() {
    let mut farm = Farm::new(&[(1, &[2])], |config| config.report_timeout_s = 2).await;
    std::fs::write(farm.staging.join("a"), "a").unwrap();
    farm.leaders[0].behave(Conduct::Silent);
    let job = farm.publish().await;
    farm.until(job, |run| run.phase == Phase::Distributing).await;
    farm.tasks.drain(..).for_each(|task| task.abort());
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    farm.leaders[0].behave(Conduct::Obey);
    farm.crash(|config| config.report_timeout_s = 2).await;
    let run = farm.end(job).await;
    assert_eq!((run.phase, run.text.as_str()), (Phase::Done, "live on 2 nodes"));
}

#[tokio::test]
async fn a_missing_staging_directory_fails_the_run_with_its_path() {
    let farm = Farm::new(&[(1, &[])], |_| {}).await;
    std::fs::remove_dir(&farm.staging).unwrap();
    let run = farm.end(farm.publish().await).await;
    assert_eq!(run.phase, Phase::Failed);
    assert!(run.text.contains("staging"), "{}", run.text);
    let id = run.id;
    assert!(farm.store(move |store| store.run_nodes(id)).await.iter().all(|n| n.state == NodeState::Waiting));
}
