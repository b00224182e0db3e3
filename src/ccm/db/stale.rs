//! Runs that wait until nodes which lack something were brought along, and nodes whose content is in doubt
//! (CM-7, JT-5).

use super::runs::{close, finish, put_run, put_serving_job, set_phase};
use super::{DbError, Store, int, next_number, parsed, uint};
use crate::ccm::api::types::Phase;
use crate::ccm::model::Run;
use crate::wire::id::{JobId, Name, NodeId, RunId};
use rusqlite::Connection;
use std::collections::BTreeSet;

impl Store {
    /// A job of its own for each of these sets of nodes brings it to the version that is live; the run goes on
    /// behind them. Returns the jobs.
    pub fn synchronize_first(
        &mut self,
        run: &Run,
        sets: &[Vec<NodeId>],
        now_ns: u64,
    ) -> Result<Vec<JobId>, DbError> {
        let step = self.write()?;
        let mut first = BTreeSet::new();
        for nodes in sets {
            first.insert(put_serving_job(&step, &run.site, nodes, run.job, now_ns)?);
        }
        let jobs: Vec<JobId> = {
            let mut query = step.prepare("SELECT job FROM runs WHERE id = ?1")?;
            let job = |id: &RunId| query.query_row([int(id.0)], |row| Ok(JobId(uint(row, 0)?)));
            first.iter().map(job).collect::<Result<_, _>>()?
        };
        let names: Vec<String> = jobs.iter().map(|job| format!("job {job}")).collect();
        let count = sets.iter().map(Vec::len).sum::<usize>();
        let nodes = if count == 1 { "1 node lacks".to_owned() } else { format!("{count} nodes lack") };
        let text = format!("{nodes} what is live: {} first", names.join(", "));
        set_phase(&step, run.id, Phase::Queued, &text, now_ns)?;
        line_up_behind(&step, &run.site, &first)?;
        step.commit()?;
        Ok(jobs)
    }

    /// Sites of which a node that is online holds another version than the one that is live, whether it is to have it
    /// or not.
    pub fn sites_with_other_versions(&self) -> Result<Vec<Name>, DbError> {
        // Two ranges of the index, for it knows no `!=`.
        let other = |than| {
            format!(
                "EXISTS (SELECT 1 FROM node_sites s JOIN members m ON m.node = s.node \
                 WHERE s.site = sites.name AND s.version {than} sites.version AND m.online)"
            )
        };
        let sql = format!(
            "SELECT name FROM sites WHERE version != 0 AND ({} OR {}) ORDER BY name",
            other("<"),
            other(">")
        );
        let mut query = self.db.prepare_cached(&sql)?;
        Ok(query.query_map([], |row| parsed(row, 0))?.collect::<Result<_, _>>()?)
    }

    /// Nodes that a job of their own has brought along for this one, or has tried to.
    pub fn synchronized_for(&self, job: JobId) -> Result<BTreeSet<NodeId>, DbError> {
        let sql = "SELECT n.node FROM run_nodes n JOIN runs r ON r.id = n.run JOIN jobs j ON j.id = r.job \
                   WHERE j.serves = ?1";
        let mut query = self.db.prepare_cached(sql)?;
        let nodes = query.query_map([int(job.0)], |row| parsed(row, 0))?;
        Ok(nodes.collect::<Result<_, _>>()?)
    }

    /// How the jobs ended that brought nodes along for this one, in order.
    pub fn synchronizes_for(&self, job: JobId) -> Result<Vec<Run>, DbError> {
        let mut query = self.db.prepare_cached("SELECT id FROM jobs WHERE serves = ?1 ORDER BY id")?;
        let jobs = query.query_map([int(job.0)], |row| Ok(JobId(uint(row, 0)?)))?;
        let jobs: Vec<JobId> = jobs.collect::<Result<_, _>>()?;
        let runs = jobs.into_iter().map(|job| self.run_of_job(job));
        Ok(runs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Ends a run that failed because what these nodes have live is not what was signed, and starts it once more:
    /// then they count as having nothing, and are brought all of it first. False where this was the second time.
    pub fn retry_without_base(
        &mut self,
        run: &Run,
        nodes: &[NodeId],
        text: &str,
        now_ns: u64,
    ) -> Result<bool, DbError> {
        let step = self.write()?;
        let sql = "SELECT count(*) FROM runs WHERE job = ?1";
        let first: bool = step.query_row(sql, [int(run.job.0)], |row| Ok(uint(row, 0)? == 1))?;
        for node in nodes {
            let sql = "UPDATE node_sites SET version = 0, switched_ns = ?3 WHERE node = ?1 AND site = ?2";
            step.execute(sql, (node.to_string(), run.site.as_str(), int(now_ns)))?;
        }
        if first {
            close(&step, run.id, Phase::Failed, text, now_ns)?;
            let next = BTreeSet::from([put_run(&step, run.job, &run.site, now_ns)?]);
            line_up_behind(&step, &run.site, &next)?;
        } else {
            finish(&step, run.id, Phase::Failed, text, now_ns)?;
        }
        step.commit()?;
        Ok(first)
    }
}

/// Gives the queued runs of a site new numbers behind `first`, in the order that they have: nodes take documents of
/// a site by the numbers of their runs, so a run that waits must have a later one. Nothing stands of them yet but
/// themselves.
fn line_up_behind(step: &Connection, site: &Name, first: &BTreeSet<RunId>) -> Result<(), DbError> {
    let queued: Vec<RunId> = {
        let mut query =
            step.prepare("SELECT id FROM runs WHERE site = ?1 AND phase = 'queued' ORDER BY id")?;
        let ids = query.query_map([site.as_str()], |row| Ok(RunId(uint(row, 0)?)))?;
        ids.collect::<Result<_, _>>()?
    };
    for id in queued.iter().filter(|id| !first.contains(id)) {
        let number = next_number(step, "run")?;
        step.execute("UPDATE runs SET id = ?2 WHERE id = ?1", (int(id.0), int(number)))?;
    }
    Ok(())
}
