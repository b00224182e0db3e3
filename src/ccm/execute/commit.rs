//! A run from the commit order to its end.

use super::Executor;
use super::delivery::Verb;
use crate::ccm::api::types::{Phase, Policy};
use crate::ccm::clock::{NS_PER_S, now_ns};
use crate::ccm::compose;
use crate::ccm::controller::Controller;
use crate::ccm::db::DbError;
use crate::ccm::model::{JobKind, NewJob, NodeState, Run};
use crate::ccm::parts;
use crate::ccm::rollout::{self, Decision};

/// Assignments of a site that stay for leaders to fetch: the newest and the one before it.
const OBJECTS_KEPT: u32 = 2;

impl Executor {
    pub(super) async fn commit(&mut self, run: Run, now_ns: u64) -> Result<(), DbError> {
        let picture = self.picture(&run, now_ns).await?;
        let order = run.order.as_ref().expect("a run that is committed has an order");
        // While the controller was away nobody could report.
        let deadline_ns =
            order.at_ns.max(self.controller.started_ns) + self.controller.config.report_timeout_s * NS_PER_S;
        match rollout::while_committing(&picture.nodes, now_ns, deadline_ns) {
            Decision::Wait | Decision::Commit => {
                for leader in &picture.leaders {
                    let open = picture.nodes.iter().any(|node| {
                        node.segment == leader.segment
                            && matches!(node.state, NodeState::Staged | NodeState::Missing)
                    });
                    if !open {
                        self.deliveries.call_off(run.id, &leader.segment);
                    } else if !self.deliveries.is_under_way(run.id, &leader.segment, leader.node, Verb::Order)
                    {
                        let (segment, to, text) = (&leader.segment, leader.node, leader.text);
                        self.deliveries.send(run.id, segment, to, text, Verb::Order, &order.bytes);
                    }
                }
                Ok(())
            }
            Decision::End(Phase::Failed, text) => {
                log::error!("job {}: failed: {text}", run.job);
                let id = run.id;
                let end = move |store: &mut crate::ccm::db::Store| {
                    store.end_run(id, Phase::Failed, &text, None, now_ns)
                };
                self.controller.store(end).await
            }
            Decision::End(phase, text) => {
                let short = rollout::falls_short(&run, &picture.nodes);
                self.work_on(run.id, move |controller| roll_forward(controller, &run, phase, text, short));
                Ok(())
            }
        }
    }
}

/// The shadow becomes what is live, then the database says so: in this order, for a shadow that is
/// already there is recognised after a crash, and a version without a shadow could not be published on. Where it
/// falls `short` of its threshold, what was live before, if anything was, is ordered back at once.
pub(super) fn roll_forward(
    controller: &Controller,
    run: &Run,
    phase: Phase,
    text: String,
    short: Option<String>,
) -> Result<(), DbError> {
    let back = match short {
        Some(why) => way_back(controller, run, why)?,
        None => None,
    };
    match compose::commit_shadow(controller, run) {
        Ok(()) => {
            let text = match &back {
                Some(_) => format!("{text}; fewer than the threshold: all go back to the version before"),
                None => text,
            };
            log::info!("job {}: {phase}: {text}", run.job);
            controller
                .store_blocking(|store| store.commit_run(run, phase, &text, back.as_ref(), now_ns()))?;
        }
        Err(error) => {
            let text = format!("{text}; but the shadow of {} could not follow: {error}", run.site);
            log::error!("job {}: {text}", run.job);
            controller
                .store_blocking(|store| store.end_run(run.id, Phase::Partial, &text, None, now_ns()))?;
        }
    }
    remove_old_objects(controller, run)
}

/// The job that goes back. It starts whatever is frozen and however few are online, for it is not a change but the end
/// of one.
fn way_back(controller: &Controller, run: &Run, why: String) -> Result<Option<NewJob>, DbError> {
    let site = controller.store_blocking(|store| store.site(&run.site))?;
    let policy = Policy { online_quorum: Some("1".to_owned()), ..Policy::default() };
    // A site that had no version has none to go back to.
    Ok(site.and_then(|site| site.version).map(|_| NewJob {
        kind: JobKind::Rollback,
        site: run.site.clone(),
        nodes: Vec::new(),
        policy,
        schedule: None,
        override_reason: why,
    }))
}

fn remove_old_objects(controller: &Controller, run: &Run) -> Result<(), DbError> {
    parts::sweep(controller, &run.site)?;
    let old = controller.store_blocking(|store| store.old_objects(&run.site, OBJECTS_KEPT))?;
    for name in old {
        let path = controller.config.objects().join(format!("{name}.asg"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::warn!("{}: cannot remove: {error}", path.display());
            }
            _ => {}
        }
    }
    Ok(())
}
