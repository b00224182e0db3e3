//! Jobs, their runs, and what belongs to a run: nodes, assignment, order, snapshot.

use super::{DbError, Store, events, int, next_number, parsed, parts, scope_column, uint};
use crate::ccm::access::Scope;
use crate::ccm::api::types::{Phase, Policy};
use crate::ccm::model::{
    Assignment, Composition, IssuedOrder, JobKind, NewJob, NodeState, Run, RunNode, Snapshot, Terms, kind_of,
    kind_word,
};
use crate::ccm::notify::notice::Kind;
use crate::ccm::policy::{Rules, overlay};
use crate::ccm::rollout::Standing;
use crate::wire::assignment::{RelPath, Shape};
use crate::wire::id::{AssignmentId, JobId, Name, NodeId, OrderId, RunId};
use crate::wire::order::Order;
use rusqlite::{Connection, OptionalExtension, Row};

const RUNS: &str = "SELECT r.id, r.job, r.site, r.phase, r.text, r.created_ns, r.started_ns, r.finished_ns, \
     r.composition, a.id, a.kind, a.base, a.object, a.command_len, a.data_len, a.composed_ns, \
     o.id, o.document, o.at_ns, j.kind, j.version, j.checksum, j.policy, j.schedule, j.override_reason, \
     r.attempt, r.ready_ns, r.wish, r.paused_ns, r.held_ns, j.nodes, \
     r.parts, r.part, r.part_ns \
     FROM runs r JOIN jobs j ON j.id = r.job \
     LEFT JOIN assignments a ON a.run = r.id LEFT JOIN orders o ON o.run = r.id";
/// Runs that are over, of which the standing is remembered.
const ENDED_MAX: usize = 1_000;
const UNFINISHED: &str = "r.phase IN ('queued', 'composing', 'distributing', 'committing')";

impl Store {
    /// A job on a site, without terms of its own, and its first run, queued.
    pub fn add_job(&mut self, kind: JobKind, site: &Name, now_ns: u64) -> Result<Run, DbError> {
        let (policy, schedule, override_reason) = (Policy::default(), None, String::new());
        let nodes = Vec::new();
        let job = NewJob { kind, site: site.clone(), nodes, policy, schedule, override_reason };
        self.add_job_on(&job, now_ns)
    }

    /// A job and its first run, queued. What its policy leaves out is as its site has it.
    pub fn add_job_on(&mut self, job: &NewJob, now_ns: u64) -> Result<Run, DbError> {
        let step = self.write()?;
        let run = insert_job(&step, job, now_ns)?;
        step.commit()?;
        Ok(self.run(run)?.expect("the run was just written"))
    }

    pub fn run(&self, run: RunId) -> Result<Option<Run>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{RUNS} WHERE r.id = ?1"))?;
        Ok(query.query_row([int(run.0)], read_run).optional()?)
    }

    /// The latest run of a job.
    pub fn run_of_job(&self, job: JobId) -> Result<Option<Run>, DbError> {
        let sql = format!("{RUNS} WHERE r.job = ?1 ORDER BY r.id DESC LIMIT 1");
        Ok(self.db.prepare_cached(&sql)?.query_row([int(job.0)], read_run).optional()?)
    }

    /// Queued and running, oldest first.
    pub fn unfinished_runs(&self) -> Result<Vec<Run>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{RUNS} WHERE {UNFINISHED} ORDER BY r.id"))?;
        Ok(query.query_map([], read_run)?.collect::<Result<_, _>>()?)
    }

    /// The latest run of each of the last `count` jobs of the sites of a scope, or of those before the job `before`;
    /// newest first.
    pub fn last_jobs(&self, of: &Scope, before: Option<JobId>, count: u32) -> Result<Vec<Run>, DbError> {
        let wanted = match of {
            Scope::Farm => "id < ?1",
            Scope::Sites(_) => "id < ?1 AND site IN (SELECT value FROM json_each(?3))",
        };
        let sql = format!(
            "{RUNS} WHERE r.id = (SELECT max(id) FROM runs WHERE job = r.job) AND j.id IN \
             (SELECT id FROM jobs WHERE {wanted} ORDER BY id DESC LIMIT ?2) ORDER BY j.id DESC"
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let before = before.map_or(i64::MAX, |job| i64::try_from(job.0).unwrap_or(i64::MAX));
        let rows = match of {
            Scope::Farm => query.query_map((before, count), read_run)?,
            Scope::Sites(_) => query.query_map((before, count, scope_column(of)), read_run)?,
        };
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How long a job of a site usually takes: the longest of the last ten runs that put something live; `None` where
    /// there was none.
    pub fn usual_length_ns(&self, site: &Name) -> Result<Option<u64>, DbError> {
        let sql = "SELECT max(length) FROM (SELECT finished_ns - started_ns AS length FROM runs \
                   WHERE site = ?1 AND phase IN ('done', 'partial') AND finished_ns >= started_ns \
                   ORDER BY id DESC LIMIT 10)";
        let mut query = self.db.prepare_cached(sql)?;
        let longest: Option<i64> = query.query_row([site.as_str()], |row| row.get(0))?;
        Ok(longest.map(i64::cast_unsigned))
    }

    /// Says why a run that is queued does not start, once.
    pub fn note_wait(&mut self, run: &Run, text: &str, now_ns: u64) -> Result<(), DbError> {
        if run.text == text {
            return Ok(());
        }
        let step = self.write()?;
        set_phase(&step, run.id, run.phase, text, now_ns)?;
        Ok(step.commit()?)
    }

    /// The last `count` runs, newest first.
    pub fn last_runs(&self, count: u32) -> Result<Vec<Run>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{RUNS} ORDER BY r.id DESC LIMIT ?1"))?;
        Ok(query.query_map([count], read_run)?.collect::<Result<_, _>>()?)
    }

    /// Composing begins (or begins anew after a crash). Returns the run's number from here on: nodes take documents of
    /// a site by the numbers of their runs, so one that others have overtaken while it waited gets a later one.
    pub fn start_run(&mut self, run: &Run, now_ns: u64) -> Result<RunId, DbError> {
        let text = match run.kind {
            JobKind::Publish { .. } => "comparing staging with what is live",
            JobKind::Synchronize => "looking for nodes that lack something, and for what they hold",
            JobKind::Rollback | JobKind::Switch { .. } => "looking for the version and for the nodes",
            JobKind::Checkpoint => "copying what is live",
            JobKind::Remove => "comparing what is to stay with what is live",
            JobKind::Restore { .. } => "comparing the checkpoint with what is live",
        };
        let step = self.write()?;
        let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE site = ?1 AND id > ?2 AND started_ns > 0)";
        let overtaken: bool = step.query_row(sql, (run.site.as_str(), int(run.id.0)), |row| row.get(0))?;
        let mut id = run.id;
        if overtaken && run.phase == Phase::Queued {
            // Nothing stands of it yet but itself.
            id = RunId(next_number(&step, "run")?);
            step.execute("UPDATE runs SET id = ?2 WHERE id = ?1", (int(run.id.0), int(id.0)))?;
            let text = format!("run {} starts behind others, as run {id}", run.id);
            events::record(&step, &format!("job {}", run.job), &text, now_ns)?;
        }
        set_phase(&step, id, Phase::Composing, text, now_ns)?;
        let sql = "UPDATE runs SET started_ns = ?2 WHERE id = ?1 AND started_ns = 0";
        step.execute(sql, (int(id.0), int(now_ns)))?;
        step.commit()?;
        Ok(id)
    }

    /// A number for an assignment that is about to be composed.
    pub fn next_assignment(&mut self) -> Result<AssignmentId, DbError> {
        let step = self.write()?;
        let number = next_number(&step, "assignment")?;
        step.commit()?;
        Ok(AssignmentId(number))
    }

    /// A number for an order that travels inside an assignment.
    pub fn next_order(&mut self) -> Result<OrderId, DbError> {
        let step = self.write()?;
        let number = next_number(&step, "order")?;
        step.commit()?;
        Ok(OrderId(number))
    }

    /// The assignment is made, with the parts before it that the run names and the order that is in it, if there are
    /// any: from here on `nodes` are those whose reports decide.
    pub fn begin_distribution(
        &mut self,
        run: &Run,
        composition: &Composition,
        (assignment, order): (&Assignment, Option<&IssuedOrder>),
        nodes: &[RunNode],
        now_ns: u64,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        put_composition(&step, run.id, composition)?;
        let sql = "INSERT INTO assignments (id, run, site, kind, base, object, command_len, data_len, \
                   composed_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        step.execute(
            sql,
            (
                int(assignment.id.0),
                int(run.id.0),
                run.site.as_str(),
                kind_word(assignment.kind),
                int(assignment.base.map_or(0, |base| base.0)),
                assignment.shape.name.to_string(),
                int(assignment.shape.command_len),
                int(assignment.shape.data_len),
                int(assignment.composed_ns),
            ),
        )?;
        if let Some(order) = order {
            put_order(&step, run.id, order.id, &order.bytes, order.at_ns)?;
        }
        parts::put(&step, run.id, &run.parts.before)?;
        for node in nodes {
            put_node(&step, run.id, node)?;
        }
        let text = match order {
            Some(_) => format!("live on 0 of {} nodes, each goes live by itself", nodes.len()),
            None => format!("staged on 0 of {} nodes", nodes.len()),
        };
        set_phase(&step, run.id, Phase::Distributing, &text, now_ns)?;
        Ok(step.commit()?)
    }

    pub fn run_nodes(&self, run: RunId) -> Result<Vec<RunNode>, DbError> {
        let sql = "SELECT node, name, segment, state, reason, text, changed_ns, switched_ns FROM run_nodes \
                   WHERE run = ?1 ORDER BY segment, name";
        let mut query = self.db.prepare_cached(sql)?;
        Ok(query.query_map([int(run.0)], read_node)?.collect::<Result<_, _>>()?)
    }

    /// How the nodes of a run stand. Of runs that are over it is remembered: a large farm's have ten thousand nodes.
    pub fn run_standing(&self, run: &Run) -> Result<Standing, DbError> {
        if let Some(standing) = self.ended.borrow().get(&run.id) {
            return Ok(*standing);
        }
        let sql = "SELECT count(*), total(state IN (?2, ?3)), total(state = ?3), total(state IN (?4, ?5)), \
                   ifnull(min(switched_ns), 0), ifnull(max(switched_ns), 0) FROM run_nodes WHERE run = ?1";
        let [staged, live, failed, missing] =
            [NodeState::Staged, NodeState::Live, NodeState::Failed, NodeState::Missing]
                .map(|s| s.to_string());
        let values = (int(run.id.0), staged, live, failed, missing);
        let standing = self.db.prepare_cached(sql)?.query_row(values, |row| {
            let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, f64>(at)? as u32);
            Ok(Standing {
                total: row.get(0)?,
                staged: count(1)?,
                live: count(2)?,
                lost: count(3)?,
                switched_ns: (uint(row, 4)?, uint(row, 5)?),
            })
        })?;
        if run.phase.is_over() {
            let mut ended = self.ended.borrow_mut();
            ended.insert(run.id, standing);
            if ended.len() > ENDED_MAX {
                ended.pop_first();
            }
        }
        Ok(standing)
    }

    /// Stores what nodes reported and the sentence that follows from it.
    pub fn put_run_nodes(&mut self, run: RunId, nodes: &[RunNode], text: &str) -> Result<(), DbError> {
        let step = self.write()?;
        for node in nodes {
            put_node(&step, run, node)?;
        }
        step.execute("UPDATE runs SET text = ?2 WHERE id = ?1", (int(run.0), text))?;
        Ok(step.commit()?)
    }

    /// A run that sends no content: `nodes` have what goes live, and are those whose reports decide.
    pub fn begin_switch(
        &mut self,
        run: RunId,
        composition: &Composition,
        nodes: &[RunNode],
    ) -> Result<(), DbError> {
        let step = self.write()?;
        put_composition(&step, run, composition)?;
        // Of an attempt that a crash cut short others may stand there.
        step.execute("DELETE FROM run_nodes WHERE run = ?1", [int(run.0)])?;
        for node in nodes {
            put_node(&step, run, node)?;
        }
        Ok(step.commit()?)
    }

    /// What composing found of the run that made a version; empty for 0, which no run made.
    pub fn composition_of(&self, version: AssignmentId) -> Result<Composition, DbError> {
        let sql = format!("{RUNS} WHERE a.id = ?1 ORDER BY r.id LIMIT 1");
        let run = self.db.prepare_cached(&sql)?.query_row([int(version.0)], read_run).optional()?;
        Ok(run.and_then(|run| run.composition).unwrap_or_default())
    }

    /// What the job of a run takes off the nodes.
    pub fn set_paths(&mut self, job: JobId, paths: &[RelPath]) -> Result<(), DbError> {
        let lines: Vec<String> =
            paths.iter().map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned()).collect();
        let sql = "UPDATE jobs SET paths = ?2 WHERE id = ?1";
        self.db.execute(sql, (int(job.0), lines.join("\n")))?;
        Ok(())
    }

    /// The same; empty: everything.
    pub fn paths_of_job(&self, job: JobId) -> Result<Vec<RelPath>, DbError> {
        let sql = "SELECT paths FROM jobs WHERE id = ?1";
        let read = |row: &Row<'_>| {
            let lines: String = row.get(0)?;
            let paths: Result<_, _> = lines.lines().map(|line| RelPath::new(line.as_bytes())).collect();
            paths.map_err(|error| super::unreadable(0, error))
        };
        Ok(self.db.query_row(sql, [int(job.0)], read)?)
    }

    /// The order of a run, issued at most once, and not while it is paused or cancelled: `sign` makes the document for
    /// the order's number.
    pub fn issue_order(
        &mut self,
        run: RunId,
        at_ns: u64,
        now_ns: u64,
        sign: impl FnOnce(OrderId) -> Vec<u8>,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        let sql = "SELECT EXISTS (SELECT 1 FROM orders WHERE run = ?1) \
                   OR EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND wish != '')";
        let stands: bool = step.query_row(sql, [int(run.0)], |row| row.get(0))?;
        if !stands {
            let id = OrderId(next_number(&step, "order")?);
            put_order(&step, run, id, &sign(id), at_ns)?;
            set_phase(&step, run, Phase::Committing, "all nodes have it; switching", now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// Writes into the history that a segment's multicast did not reach its quorum.
    pub fn record_problem(&mut self, run: RunId, text: &str, now_ns: u64) -> Result<(), DbError> {
        let step = self.write()?;
        events::record(&step, &format!("run {run}"), text, now_ns)?;
        Ok(step.commit()?)
    }

    /// Ends a run that put nothing live.
    pub fn end_run(
        &mut self,
        run: RunId,
        phase: Phase,
        text: &str,
        composition: Option<&Composition>,
        now_ns: u64,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        if let Some(composition) = composition {
            put_composition(&step, run, composition)?;
        }
        finish(&step, run, phase, text, now_ns)?;
        Ok(step.commit()?)
    }

    /// Ends a run whose result is live: the site's version rolls forward, the snapshot is recorded
    /// (VC-2..VC-4), in one step. Where that is not to stay, `then` is the job that takes it back, and the run is tried
    /// again where its rules say so (SC-10).
    pub fn commit_run(
        &mut self,
        run: &Run,
        phase: Phase,
        text: &str,
        then: Option<&NewJob>,
        now_ns: u64,
    ) -> Result<(), DbError> {
        let version = run.version().expect("a run that is committed has an order");
        let composition = run.composition.clone().unwrap_or_default();
        let step = self.write()?;
        let sql = "UPDATE sites SET version = ?2, files = ?3, bytes = ?4 WHERE name = ?1";
        let (files, bytes) = (int(composition.site_files), int(composition.site_bytes));
        step.execute(sql, (run.site.as_str(), int(version.0), files, bytes))?;
        if let Some(assignment) = &run.assignment {
            put_snapshot(&step, run, assignment, &composition, now_ns)?;
        }
        let sql = "INSERT OR REPLACE INTO node_sites (node, site, version, switched_ns) \
                   SELECT node, ?2, ?3, ?4 FROM run_nodes WHERE run = ?1 AND state = 'live'";
        step.execute(sql, (int(run.id.0), run.site.as_str(), int(version.0), int(now_ns)))?;
        finish(&step, run.id, phase, text, now_ns)?;
        if let Some(job) = then {
            insert_job(&step, job, now_ns)?;
            try_again(&step, run.id, now_ns)?;
        }
        Ok(step.commit()?)
    }

    /// Names of a site's objects beyond the newest `keep`.
    pub fn old_objects(&self, site: &Name, keep: u32) -> Result<Vec<String>, DbError> {
        let sql = "SELECT object FROM assignments WHERE site = ?1 ORDER BY run DESC LIMIT -1 OFFSET ?2";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map((site.as_str(), keep), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Snapshots of a site, newest first.
    pub fn snapshots(&self, site: &Name) -> Result<Vec<Snapshot>, DbError> {
        let sql = "SELECT assignment, committed_ns, details FROM snapshots WHERE site = ?1 \
                   ORDER BY assignment DESC";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([site.as_str()], |row| {
            let (version, committed_ns) = (AssignmentId(uint(row, 0)?), uint(row, 1)?);
            Ok(Snapshot { version, committed_ns, details: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A job that brings `nodes` along for the job `serves`, which waits for its end, and its run. It starts where that one
/// may, and is tried again when that one is.
pub(super) fn put_serving_job(
    step: &Connection,
    site: &Name,
    nodes: &[NodeId],
    serves: JobId,
    now_ns: u64,
) -> Result<RunId, DbError> {
    let job = NewJob {
        kind: JobKind::Synchronize,
        site: site.clone(),
        nodes: nodes.to_vec(),
        policy: Policy { retries: Some(0), ..Policy::default() },
        schedule: None,
        override_reason: String::new(),
    };
    let run = insert_job(step, &job, now_ns)?;
    let sql = "UPDATE jobs SET serves = ?2, override_reason = (SELECT override_reason FROM jobs WHERE id = ?2) \
               WHERE id = (SELECT job FROM runs WHERE id = ?1)";
    step.execute(sql, (int(run.0), int(serves.0)))?;
    Ok(run)
}

/// A run of a job, queued behind all others: the same attempt once more.
pub(super) fn put_run(step: &Connection, job: JobId, site: &Name, now_ns: u64) -> Result<RunId, DbError> {
    let sql = "SELECT max(attempt) FROM runs WHERE job = ?1";
    let attempt = step.query_row(sql, [int(job.0)], |row| row.get(0))?;
    insert_run(step, job, site, attempt, 0, "queued", now_ns)
}

/// One line per committed assignment (VC-3, VC-4).
fn put_snapshot(
    step: &Connection,
    run: &Run,
    assignment: &Assignment,
    composition: &Composition,
    now_ns: u64,
) -> Result<(), DbError> {
    let details = format!(
        "{} {}: {} added, {} changed, {} metadata, {} removed",
        kind_word(assignment.kind),
        assignment.shape.name,
        composition.changes.added,
        composition.changes.changed,
        composition.changes.metadata,
        composition.changes.removed,
    );
    let sql = "INSERT OR IGNORE INTO snapshots (assignment, job, site, committed_ns, details) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = (int(assignment.id.0), int(run.job.0), run.site.as_str(), int(now_ns), details);
    step.execute(sql, row)?;
    Ok(())
}

pub(super) fn set_phase(
    db: &Connection,
    run: RunId,
    phase: Phase,
    text: &str,
    now_ns: u64,
) -> Result<(), DbError> {
    let sql = "UPDATE runs SET phase = ?2, text = ?3 WHERE id = ?1";
    db.execute(sql, (int(run.0), phase.to_string(), text))?;
    let (subject, line) = (format!("run {run}"), format!("{phase}: {text}"));
    match Kind::of_phase(phase) {
        Some(kind) => events::tell(db, kind, &subject, &line, now_ns),
        None => events::record(db, &subject, &line, now_ns),
    }
}

/// Ends a run; one that failed is tried again where its rules say so.
pub(super) fn finish(
    db: &Connection,
    run: RunId,
    phase: Phase,
    text: &str,
    now_ns: u64,
) -> Result<(), DbError> {
    close(db, run, phase, text, now_ns)?;
    if phase == Phase::Failed { try_again(db, run, now_ns) } else { Ok(()) }
}

/// Ends a run, whatever its rules say of failures.
pub(super) fn close(
    db: &Connection,
    run: RunId,
    phase: Phase,
    text: &str,
    now_ns: u64,
) -> Result<(), DbError> {
    set_phase(db, run, phase, text, now_ns)?;
    let sql = "UPDATE runs SET finished_ns = ?2, ended = ?3 WHERE id = ?1";
    db.execute(sql, (int(run.0), int(now_ns), int(next_number(db, "end")?)))?;
    Ok(())
}

/// Queues the next attempt of a run that failed, if its rules have one left (SC-9).
fn try_again(db: &Connection, failed: RunId, now_ns: u64) -> Result<(), DbError> {
    let run = db.prepare_cached(&format!("{RUNS} WHERE r.id = ?1"))?.query_row([int(failed.0)], read_run)?;
    let Terms { rules, attempt, .. } = run.terms;
    let attempts = u32::from(rules.retries) + 1;
    if attempt >= attempts {
        return Ok(());
    }
    let ready_ns = now_ns.saturating_add(u64::from(rules.retry_after_s) * 1_000_000_000);
    let text = format!("attempt {} of {attempts} in {} s: {}", attempt + 1, rules.retry_after_s, run.text);
    insert_run(db, run.job, &run.site, attempt + 1, ready_ns, &text, now_ns).map(drop)
}

/// Adds a job with its first run, and writes into the history if it is to start whatever is frozen.
pub(super) fn insert_job(db: &Connection, job: &NewJob, now_ns: u64) -> Result<RunId, DbError> {
    let id = JobId(next_number(db, "job")?);
    let sql = "SELECT policy FROM sites WHERE name = ?1";
    let of_site: String = db.query_row(sql, [job.site.as_str()], |row| row.get(0))?;
    let of_site = serde_json::from_str(&of_site).map_err(|error| super::unreadable(0, error))?;
    let (kind, version, checksum) = kind_columns(job.kind);
    let nodes: Vec<String> = job.nodes.iter().map(ToString::to_string).collect();
    let sql = "INSERT INTO jobs (id, kind, site, created_ns, version, checksum, policy, schedule, override_reason, \
               nodes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    db.execute(
        sql,
        (
            int(id.0),
            kind,
            job.site.as_str(),
            int(now_ns),
            version,
            checksum,
            policy_column(&overlay(&job.policy, &of_site)),
            job.schedule.as_ref().map_or("", Name::as_str),
            &job.override_reason,
            nodes.join(" "),
        ),
    )?;
    if !job.override_reason.is_empty() {
        let text = format!("starts whatever is frozen: {}", job.override_reason);
        events::record(db, &format!("job {id}"), &text, now_ns)?;
    }
    insert_run(db, id, &job.site, 1, 0, "queued", now_ns)
}

pub(super) fn insert_run(
    db: &Connection,
    job: JobId,
    site: &Name,
    attempt: u32,
    ready_ns: u64,
    text: &str,
    now_ns: u64,
) -> Result<RunId, DbError> {
    let run = RunId(next_number(db, "run")?);
    let sql = "INSERT INTO runs (id, job, site, phase, text, created_ns, attempt, ready_ns) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let phase = Phase::Queued.to_string();
    db.execute(
        sql,
        (int(run.0), int(job.0), site.as_str(), phase, text, int(now_ns), attempt, int(ready_ns)),
    )?;
    Ok(run)
}

/// Word, number and checksum of a kind of job, as columns have them.
pub(super) fn kind_columns(kind: JobKind) -> (&'static str, Option<i64>, bool) {
    let number = kind.number().map(int);
    (kind.word(), number, matches!(kind, JobKind::Publish { checksum: true }))
}

pub(super) fn policy_column(policy: &Policy) -> String {
    serde_json::to_string(policy).expect("a policy is plain JSON")
}

fn put_composition(db: &Connection, run: RunId, composition: &Composition) -> Result<(), DbError> {
    let json = serde_json::to_string(composition).expect("a composition is plain JSON");
    db.execute("UPDATE runs SET composition = ?2 WHERE id = ?1", (int(run.0), json))?;
    Ok(())
}

fn put_order(db: &Connection, run: RunId, id: OrderId, document: &[u8], at_ns: u64) -> Result<(), DbError> {
    let sql = "INSERT INTO orders (id, run, document, at_ns) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, (int(id.0), int(run.0), document, int(at_ns)))?;
    Ok(())
}

pub(super) fn put_node(db: &Connection, run: RunId, node: &RunNode) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO run_nodes (run, node, name, segment, state, reason, text, changed_ns, \
               switched_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    db.prepare_cached(sql)?.execute((
        int(run.0),
        node.node.to_string(),
        node.name.as_str(),
        node.segment.as_str(),
        node.state.to_string(),
        &node.reason,
        &node.text,
        int(node.changed_ns),
        int(node.switched_ns),
    ))?;
    Ok(())
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let composition: String = row.get(8)?;
    let composition = if composition.is_empty() {
        None
    } else {
        Some(serde_json::from_str(&composition).map_err(|error| super::unreadable(8, error))?)
    };
    Ok(Run {
        id: RunId(uint(row, 0)?),
        job: JobId(uint(row, 1)?),
        kind: {
            let number = row.get::<_, Option<i64>>(20)?.map(i64::cast_unsigned);
            let word: String = row.get(19)?;
            JobKind::new(&word, number, row.get(21)?).map_err(|error| super::unreadable(19, error))?
        },
        site: parsed(row, 2)?,
        only: {
            let ids: String = row.get(30)?;
            let ids = ids.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            ids.map_err(|error| super::unreadable(30, error))?
        },
        phase: parsed(row, 3)?,
        text: row.get(4)?,
        created_ns: uint(row, 5)?,
        started_ns: uint(row, 6)?,
        finished_ns: uint(row, 7)?,
        composition,
        assignment: match row.get::<_, Option<i64>>(9)? {
            None => None,
            Some(_) => Some(read_assignment(row)?),
        },
        parts: parts::read(row, [31, 32, 33])?,
        order: match row.get::<_, Option<i64>>(16)? {
            None => None,
            Some(_) => {
                let bytes: Vec<u8> = row.get(17)?;
                let action = Order::peek(&bytes).map_err(|error| super::unreadable(17, error))?.action;
                Some(IssuedOrder { id: OrderId(uint(row, 16)?), bytes, action, at_ns: uint(row, 18)? })
            }
        },
        terms: read_terms(row)?,
    })
}

fn read_terms(row: &Row<'_>) -> rusqlite::Result<Terms> {
    let (policy, schedule): (String, String) = (row.get(22)?, row.get(23)?);
    let policy = serde_json::from_str(&policy).map_err(|error| super::unreadable(22, error))?;
    Ok(Terms {
        rules: Rules::of(&policy).map_err(|error| super::unreadable(22, error))?,
        policy,
        schedule: if schedule.is_empty() { None } else { Some(parsed(row, 23)?) },
        override_reason: row.get(24)?,
        attempt: row.get(25)?,
        ready_ns: uint(row, 26)?,
        wish: parsed(row, 27)?,
        paused_ns: uint(row, 28)?,
        held_ns: uint(row, 29)?,
    })
}

fn read_assignment(row: &Row<'_>) -> rusqlite::Result<Assignment> {
    let kind: String = row.get(10)?;
    let base = uint(row, 11)?;
    Ok(Assignment {
        id: AssignmentId(uint(row, 9)?),
        kind: kind_of(&kind).map_err(|error| super::unreadable(10, error))?,
        base: (base != 0).then_some(AssignmentId(base)),
        shape: Shape { name: parsed(row, 12)?, command_len: uint(row, 13)?, data_len: uint(row, 14)? },
        composed_ns: uint(row, 15)?,
    })
}

fn read_node(row: &Row<'_>) -> rusqlite::Result<RunNode> {
    Ok(RunNode {
        node: parsed::<NodeId>(row, 0)?,
        name: parsed(row, 1)?,
        segment: parsed(row, 2)?,
        state: parsed(row, 3)?,
        reason: row.get(4)?,
        text: row.get(5)?,
        changed_ns: uint(row, 6)?,
        switched_ns: uint(row, 7)?,
    })
}
