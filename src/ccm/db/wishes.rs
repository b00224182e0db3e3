//! What operators wish of runs: to wait, to go on, to end, to be tried again.

use super::runs::insert_run;
use super::{DbError, Event, Store, events, int, uint};
use crate::ccm::api::types::{Phase, Policy};
use crate::ccm::model::{JobKind, NewJob, NodeState, Run, Wish};
use crate::wire::id::{JobId, RunId};

/// Events that a report holds.
const EVENTS_MAX: u32 = 1_000;

/// Why a wish is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishRefused {
    #[error("there is no job {0}; `farmcast job list` names the last")]
    NoJob(JobId),
    #[error("job {job} is over: {phase}")]
    Over { job: JobId, phase: Phase },
    #[error(
        "job {job} is switching, which nothing stops; `farmcast rollback {site}` goes back when it is over"
    )]
    Switching { job: JobId, site: String },
    #[error("job {0} is not paused")]
    NotPaused(JobId),
    #[error("job {0} is being cancelled")]
    Cancelled(JobId),
    #[error(
        "job {job} ended {phase}, which is the same on all nodes; `farmcast job retry {job}` is for all of them"
    )]
    Nowhere { job: JobId, phase: Phase },
    #[error("job {0} is not over; `farmcast job cancel {0}` ends it")]
    NotOver(JobId),
    #[error(
        "job {job} ended {phase}, so there is nothing to try again; `farmcast publish SITE` starts another"
    )]
    Well { job: JobId, phase: Phase },
}

type Wished = Result<Result<Run, WishRefused>, DbError>;

impl Store {
    /// Has a run wait, go on or end; the latest of its job. What was ordered cannot be called back.
    pub fn wish(&mut self, job: JobId, wish: Wish, now_ns: u64) -> Wished {
        let Some(run) = self.run_of_job(job)? else { return Ok(Err(WishRefused::NoJob(job))) };
        let refused = match (run.phase, run.terms.wish, wish) {
            (phase, ..) if phase.is_over() => Some(WishRefused::Over { job, phase }),
            (Phase::Committing, ..) => Some(WishRefused::Switching { job, site: run.site.to_string() }),
            (_, Wish::Cancel, Wish::None | Wish::Pause) => Some(WishRefused::Cancelled(job)),
            (_, Wish::None, Wish::None) => Some(WishRefused::NotPaused(job)),
            _ => None,
        };
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
        if run.terms.wish == wish {
            return Ok(Ok(run));
        }
        let (paused_ns, held_ns) = match (run.terms.wish, wish) {
            (_, Wish::Pause) => (now_ns, run.terms.held_ns),
            (Wish::Pause, _) => {
                (0, run.terms.held_ns.saturating_add(now_ns.saturating_sub(run.terms.paused_ns)))
            }
            _ => (0, run.terms.held_ns),
        };
        let text = match wish {
            Wish::None => "goes on",
            Wish::Pause => "paused by an operator",
            Wish::Cancel => "is being cancelled",
        };
        let step = self.write()?;
        let sql = "UPDATE runs SET wish = ?2, paused_ns = ?3, held_ns = ?4, text = ?5 WHERE id = ?1";
        step.execute(sql, (int(run.id.0), wish.word(), int(paused_ns), int(held_ns), text))?;
        events::record(&step, &format!("job {job}"), text, now_ns)?;
        step.commit()?;
        Ok(self.run(run.id)?.ok_or(WishRefused::NoJob(job)))
    }

    /// Another run of a job that did not end well (SC-10).
    pub fn retry_job(&mut self, job: JobId, now_ns: u64) -> Wished {
        let Some(run) = self.run_of_job(job)? else { return Ok(Err(WishRefused::NoJob(job))) };
        match run.phase {
            Phase::Failed | Phase::Cancelled | Phase::Partial => {}
            Phase::Done | Phase::Unchanged => {
                return Ok(Err(WishRefused::Well { job, phase: run.phase }));
            }
            Phase::Queued | Phase::Composing | Phase::Distributing | Phase::Committing => {
                return Ok(Err(WishRefused::NotOver(job)));
            }
        }
        let step = self.write()?;
        let next = insert_run(&step, job, &run.site, run.terms.attempt + 1, 0, "queued", now_ns)?;
        events::record(&step, &format!("job {job}"), "is tried again by an operator", now_ns)?;
        step.commit()?;
        Ok(self.run(next)?.ok_or(WishRefused::NoJob(job)))
    }

    /// A job that brings to what is live those nodes of a job that is live on some nodes only.
    pub fn retry_failed(&mut self, job: JobId, now_ns: u64) -> Wished {
        let Some(run) = self.run_of_job(job)? else { return Ok(Err(WishRefused::NoJob(job))) };
        match run.phase {
            Phase::Partial => {}
            phase if phase.is_over() => return Ok(Err(WishRefused::Nowhere { job, phase })),
            _ => return Ok(Err(WishRefused::NotOver(job))),
        }
        let nodes = self.run_nodes(run.id)?;
        let behind = nodes.iter().filter(|node| node.state != NodeState::Live).map(|node| node.node);
        let new = NewJob {
            kind: JobKind::Synchronize,
            site: run.site.clone(),
            nodes: behind.collect(),
            policy: Policy::default(),
            schedule: None,
            override_reason: String::new(),
        };
        Ok(Ok(self.add_job_on(&new, now_ns)?))
    }

    /// All runs of a job, the first attempt first.
    pub fn runs_of_job(&self, job: JobId) -> Result<Vec<Run>, DbError> {
        let mut query = self.db.prepare_cached("SELECT id FROM runs WHERE job = ?1 ORDER BY id")?;
        let ids: Vec<RunId> =
            query.query_map([int(job.0)], |row| uint(row, 0).map(RunId))?.collect::<Result<_, _>>()?;
        let runs: Result<Vec<Option<Run>>, DbError> = ids.into_iter().map(|id| self.run(id)).collect();
        Ok(runs?.into_iter().flatten().collect())
    }

    /// What happened to a job and its runs, the oldest first; the last 1,000 events.
    pub fn events_of_job(&self, job: JobId) -> Result<Vec<Event>, DbError> {
        let sql = "SELECT id, at_ns, subject, text, kind FROM (SELECT id, at_ns, subject, text, kind FROM events \
                   WHERE subject = 'job ' || ?1 OR subject IN (SELECT 'run ' || id FROM runs WHERE job = ?1) \
                   ORDER BY id DESC LIMIT ?2) ORDER BY id";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map((int(job.0), EVENTS_MAX), events::read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::testing::{SECOND, T0, name, signed_order, store};
    use std::path::Path;

    #[test]
    fn a_wish_counts_until_the_order_is_out_and_no_longer() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let run = store.add_job(JobKind::Rollback, &name("www"), T0).unwrap();
        let job = run.job;
        assert_eq!(store.wish(JobId(9), Wish::Pause, T0).unwrap(), Err(WishRefused::NoJob(JobId(9))));
        assert_eq!(store.wish(job, Wish::None, T0).unwrap(), Err(WishRefused::NotPaused(job)));
        assert_eq!(store.retry_job(job, T0).unwrap(), Err(WishRefused::NotOver(job)));

        // What is paused is not ordered, and how long it was is kept.
        store.start_run(&run, T0).unwrap();
        store.wish(job, Wish::Pause, T0 + SECOND).unwrap().unwrap();
        store.wish(job, Wish::Pause, T0 + 2 * SECOND).unwrap().unwrap();
        store.issue_order(run.id, T0, T0, |_| panic!("it is paused")).unwrap();
        let on = store.wish(job, Wish::None, T0 + 4 * SECOND).unwrap().unwrap();
        assert_eq!((on.terms.wish, on.terms.paused_ns, on.terms.held_ns), (Wish::None, 0, 3 * SECOND));

        store.issue_order(run.id, T0, T0, |order| signed_order(order, run.id, 2)).unwrap();
        for wish in [Wish::Pause, Wish::Cancel, Wish::None] {
            let refused = store.wish(job, wish, T0).unwrap().unwrap_err();
            assert!(refused.to_string().contains("`farmcast rollback www`"), "{refused}");
        }
        store.end_run(run.id, Phase::Failed, "over", None, T0).unwrap();
        let over = WishRefused::Over { job, phase: Phase::Failed };
        assert_eq!(store.wish(job, Wish::Cancel, T0).unwrap(), Err(over));

        let again = store.retry_job(job, T0).unwrap().unwrap();
        assert_eq!((again.job, again.terms.attempt, again.phase), (job, 2, Phase::Queued));
        store.wish(job, Wish::Cancel, T0).unwrap().unwrap();
        assert_eq!(store.wish(job, Wish::Pause, T0).unwrap(), Err(WishRefused::Cancelled(job)));
        store.start_run(&again, T0).unwrap();
        store.issue_order(again.id, T0, T0, |_| panic!("it is cancelled")).unwrap();
        store.end_run(again.id, Phase::Unchanged, "over", None, T0).unwrap();
        assert!(matches!(store.retry_job(job, T0).unwrap(), Err(WishRefused::Well { .. })));
        let phases: Vec<Phase> = store.runs_of_job(job).unwrap().iter().map(|run| run.phase).collect();
        assert_eq!(phases, [Phase::Failed, Phase::Unchanged]);
        let told = store.events_of_job(job).unwrap();
        assert!(told.iter().any(|event| event.text == "paused by an operator"));
        assert!(told.is_sorted_by_key(|event| event.id));
    }

    /// Nodes take documents of a site by the numbers of their runs.
    #[test]
    fn a_run_that_others_overtook_while_it_waited_starts_under_a_later_number() {
        let (_dir, mut store) = store();
        store.add_site(&name("www"), Path::new("/srv"), T0).unwrap();
        let add = |store: &mut Store| store.add_job(JobKind::Rollback, &name("www"), T0).unwrap();
        let (first, second, third) = (add(&mut store), add(&mut store), add(&mut store));
        assert_eq!(store.start_run(&second, T0).unwrap(), second.id);
        let later = store.start_run(&first, T0).unwrap();
        assert!(later > third.id, "{later}");
        let read = store.run_of_job(first.job).unwrap().unwrap();
        assert_eq!((read.id, read.phase), (later, Phase::Composing));
        // After a crash it goes on under that number; and the next one has been overtaken by it.
        assert_eq!(store.start_run(&read, T0).unwrap(), later);
        assert!(store.start_run(&third, T0).unwrap() > later);
    }
}
