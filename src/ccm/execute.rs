//! The executor: the only part of the controller that acts (design D10).
//!
//! One task looks at the database every [`TICK`], and whenever something changed, and does for each run
//! what its phase calls for. Everything it does may be done twice, so it can be killed anywhere: what it
//! knows besides the database (leases, tasks under way) is built anew after a restart.
//!
//! What starts by itself is `scheduling`'s, who is brought along by itself `bringing`'s,
//! whether what is queued may start `starting`'s.
//!
//! ```text
//! queued -> composing -> distributing -> committing -> done | partial
//!               |             |              |
//!               +-> unchanged +-> failed     +-> failed
//!               +-> failed
//! ```
//! A run that finds nodes which lack what is live goes back from composing to queued, behind runs that bring those
//! along. A run that goes back to a version which the nodes keep sends nothing: from composing it goes to committing.
//! One that makes a checkpoint is done when it has.

mod bringing;
mod charters;
mod checkpointing;
mod commit;
mod composing;
mod delivery;
mod distributing;
mod hints;
mod pruning;
mod scheduling;
mod starting;
mod switching;
mod synchronizing;
#[cfg(test)]
mod tests;

use super::api::types::Phase;
use super::clock::now_ns;
use super::controller::{Controller, blocking};
use super::db::DbError;
use super::model::{JobKind, Run, Wish};
use super::rollout;
use crate::wire::id::RunId;
use bringing::Bringing;
use charters::Charters;
pub(super) use composing::enough_online;
use delivery::Deliveries;
use pruning::Pruning;
use scheduling::Scheduler;
use starting::Next;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const TICK: Duration = Duration::from_millis(100);
/// After the database refused: a full disk is not helped by asking ten times a second.
const PAUSE: Duration = Duration::from_secs(1);

pub struct Executor {
    controller: Arc<Controller>,
    /// Composing and committing the shadow: work on files, at most one per run.
    work: BTreeMap<RunId, JoinHandle<Result<(), DbError>>>,
    deliveries: Deliveries,
    charters: Charters,
    scheduler: Scheduler,
    bringing: Bringing,
    pruning: Pruning,
}

impl Executor {
    pub fn new(controller: Arc<Controller>) -> Self {
        let deliveries = Deliveries::new(controller.text_ports.clone());
        Self {
            controller,
            work: BTreeMap::new(),
            deliveries,
            charters: Charters::default(),
            scheduler: Scheduler::default(),
            bringing: Bringing::default(),
            pruning: Pruning::default(),
        }
    }

    /// Never returns.
    pub async fn drive(mut self) {
        loop {
            let pause = match self.turn().await {
                Ok(()) => TICK,
                Err(error) => {
                    log::error!("{error}");
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.controller.wake.notified(), if pause == TICK => {}
            }
        }
    }

    /// The next turn looks at schedules, and at who lacks something, whatever the time.
    pub fn look_at_schedules_again(&mut self) {
        self.scheduler.look_again();
        self.bringing.look_again();
    }

    /// Looks once at every run that is not over.
    pub async fn turn(&mut self) -> Result<(), DbError> {
        self.reap().await?;
        let now = now_ns();
        self.scheduler.turn(&self.controller, now).await?;
        self.bringing.turn(&self.controller, now).await?;
        self.pruning.turn(&self.controller, now).await?;
        let (runs, windows, charters) = self
            .controller
            .store(move |store| {
                store.expire_segments(now)?;
                store.note_departures(now)?;
                Ok::<_, DbError>((store.unfinished_runs()?, store.windows()?, store.charters_due()?))
            })
            .await?;
        self.controller.set_windows(windows.clone());
        self.hand_out_charters(&charters);
        self.forget_ended(&runs);
        for (run, next) in starting::in_order(runs, &windows, now) {
            match next {
                Next::Step if self.work.contains_key(&run.id) => {}
                Next::Step => self.step(run, now).await?,
                Next::Wait(text) => {
                    self.controller.store(move |store| store.note_wait(&run, &text, now)).await?;
                }
                Next::Pause => {
                    // Who asks for the next leader waits as well.
                    if let Some(active) = self.controller.distributions().get_mut(&run.id) {
                        active.paused = true;
                    }
                }
                Next::Cancel(_) if self.work.contains_key(&run.id) => {}
                Next::Cancel(text) => {
                    let end = move |store: &mut super::db::Store| {
                        let text = if run.order.is_some() && run.terms.wish == Wish::Cancel {
                            let site = store.site(&run.site)?;
                            let before = site.and_then(|site| site.version);
                            rollout::cancelled(&run, &store.run_nodes(run.id)?, before)
                        } else {
                            text
                        };
                        log::warn!("job {}: cancelled: {text}", run.job);
                        store.end_run(run.id, Phase::Cancelled, &text, None, now)
                    };
                    self.controller.store(end).await?;
                }
            }
        }
        Ok(())
    }

    async fn step(&mut self, run: Run, now_ns: u64) -> Result<(), DbError> {
        match run.phase {
            Phase::Queued | Phase::Composing => {
                let begun = run.clone();
                let id = self.controller.store(move |store| store.start_run(&begun, now_ns)).await?;
                let run = Run { id, ..run };
                let begin: fn(&Controller, &Run) -> Result<(), DbError> = match run.kind {
                    JobKind::Publish { .. } | JobKind::Restore { .. } | JobKind::Remove => {
                        composing::compose_run
                    }
                    JobKind::Synchronize => synchronizing::synchronize_run,
                    JobKind::Rollback | JobKind::Switch { .. } => switching::begin_switch,
                    JobKind::Checkpoint => checkpointing::checkpoint_run,
                };
                self.work_on(id, move |controller| begin(controller, &run));
                Ok(())
            }
            Phase::Distributing => self.distribute(run, now_ns).await,
            Phase::Committing => self.commit(run, now_ns).await,
            Phase::Done | Phase::Unchanged | Phase::Partial | Phase::Failed | Phase::Cancelled => Ok(()),
        }
    }

    /// Does work on files for a run beside everything else, and looks again when it is done.
    fn work_on(
        &mut self,
        run: RunId,
        work: impl FnOnce(&Controller) -> Result<(), DbError> + Send + 'static,
    ) {
        let controller = Arc::clone(&self.controller);
        let task = async move {
            let worker = Arc::clone(&controller);
            let done = blocking(move || work(&worker)).await;
            controller.wake.notify_one();
            done
        };
        self.work.insert(run, tokio::spawn(task));
    }

    /// Takes note of file work that ended; a panic in it is our bug and ends with the run, not with us.
    async fn reap(&mut self) -> Result<(), DbError> {
        let ended: Vec<RunId> =
            self.work.iter().filter(|(_, task)| task.is_finished()).map(|(run, _)| *run).collect();
        for run in ended {
            let Some(task) = self.work.remove(&run) else { continue };
            match task.await {
                Ok(result) => result?,
                Err(bug) => {
                    log::error!("run {run}: internal error: {bug}");
                    let text = "internal error; the log of the ccm has the details";
                    let end = move |store: &mut super::db::Store| {
                        store.end_run(run, Phase::Failed, text, None, now_ns())
                    };
                    self.controller.store(end).await?;
                }
            }
        }
        Ok(())
    }

    /// Drops what belongs to runs that are over.
    fn forget_ended(&mut self, unfinished: &[Run]) {
        let goes_on = |id: &RunId| unfinished.iter().any(|run| run.id == *id);
        self.controller.distributions().retain(|id, _| goes_on(id));
        self.deliveries.retain(goes_on);
    }
}
