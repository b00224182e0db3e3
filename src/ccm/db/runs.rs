//! Jobs, their runs, and what belongs to a run: nodes, assignment, order, snapshot.

use super::{DbError, Store, events, int, next_number, parsed, uint};
use crate::ccm::api::types::Phase;
use crate::ccm::model::{
    Assignment, Composition, IssuedOrder, JobKind, Run, RunNode, Snapshot, kind_of, kind_word,
};
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, JobId, Name, NodeId, OrderId, RunId};
use crate::wire::order::Order;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

const RUNS: &str = "SELECT r.id, r.job, r.site, r.phase, r.text, r.created_ns, r.started_ns, r.finished_ns, \
     r.composition, a.id, a.kind, a.base, a.object, a.command_len, a.data_len, a.composed_ns, \
     o.id, o.document, o.at_ns, j.kind, j.version, j.checksum, j.nodes \
     FROM runs r JOIN jobs j ON j.id = r.job \
     LEFT JOIN assignments a ON a.run = r.id LEFT JOIN orders o ON o.run = r.id";
const UNFINISHED: &str = "r.phase IN ('queued', 'composing', 'distributing', 'committing')";

impl Store {
    /// A job on a site and its one run, queued.
    pub fn add_job(&mut self, kind: JobKind, site: &Name, now_ns: u64) -> Result<Run, DbError> {
        self.add_job_for(kind, site, &[], now_ns)
    }

    /// The same, for these nodes only; for all where none is named.
    pub fn add_job_for(
        &mut self,
        kind: JobKind,
        site: &Name,
        nodes: &[NodeId],
        now_ns: u64,
    ) -> Result<Run, DbError> {
        let step = self.write()?;
        let run = put_job(&step, kind, site, nodes, None, now_ns)?;
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

    /// The last `count` runs, newest first.
    pub fn last_runs(&self, count: u32) -> Result<Vec<Run>, DbError> {
        let mut query = self.db.prepare_cached(&format!("{RUNS} ORDER BY r.id DESC LIMIT ?1"))?;
        Ok(query.query_map([count], read_run)?.collect::<Result<_, _>>()?)
    }

    /// Composing begins (or begins anew after a crash).
    pub fn start_run(&mut self, run: &Run, now_ns: u64) -> Result<(), DbError> {
        let text = match run.kind {
            JobKind::Publish { .. } => "comparing staging with what is live",
            JobKind::Synchronize => "looking for nodes that lack something, and for what they hold",
            JobKind::Rollback | JobKind::Switch { .. } => "looking for the version and for the nodes",
        };
        let step = self.write()?;
        set_phase(&step, run.id, Phase::Composing, text, now_ns)?;
        let sql = "UPDATE runs SET started_ns = ?2 WHERE id = ?1 AND started_ns = 0";
        step.execute(sql, (int(run.id.0), int(now_ns)))?;
        Ok(step.commit()?)
    }

    /// A number for an assignment that is about to be composed.
    pub fn next_assignment(&mut self) -> Result<AssignmentId, DbError> {
        let step = self.write()?;
        let number = next_number(&step, "assignment")?;
        step.commit()?;
        Ok(AssignmentId(number))
    }

    /// The assignment is made: from here on `nodes` are those whose reports decide.
    pub fn begin_distribution(
        &mut self,
        run: &Run,
        composition: &Composition,
        assignment: &Assignment,
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
        for node in nodes {
            put_node(&step, run.id, node)?;
        }
        let text = format!("staged on 0 of {} nodes", nodes.len());
        set_phase(&step, run.id, Phase::Distributing, &text, now_ns)?;
        Ok(step.commit()?)
    }

    pub fn run_nodes(&self, run: RunId) -> Result<Vec<RunNode>, DbError> {
        let sql = "SELECT node, name, segment, state, reason, text, changed_ns, switched_ns FROM run_nodes \
                   WHERE run = ?1 ORDER BY segment, name";
        let mut query = self.db.prepare_cached(sql)?;
        Ok(query.query_map([int(run.0)], read_node)?.collect::<Result<_, _>>()?)
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

    /// The order of a run, issued at most once: `sign` makes the document for the order's number.
    pub fn issue_order(
        &mut self,
        run: RunId,
        at_ns: u64,
        now_ns: u64,
        sign: impl FnOnce(OrderId) -> Vec<u8>,
    ) -> Result<(), DbError> {
        let step = self.write()?;
        let issued: bool =
            step.query_row("SELECT EXISTS (SELECT 1 FROM orders WHERE run = ?1)", [int(run.0)], |row| {
                row.get(0)
            })?;
        if !issued {
            let id = OrderId(next_number(&step, "order")?);
            let sql = "INSERT INTO orders (id, run, document, at_ns) VALUES (?1, ?2, ?3, ?4)";
            step.execute(sql, (int(id.0), int(run.0), sign(id), int(at_ns)))?;
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
    /// (VC-2..VC-4), in one step.
    pub fn commit_run(&mut self, run: &Run, phase: Phase, text: &str, now_ns: u64) -> Result<(), DbError> {
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

/// A job and its run, queued; `serves` waits for its end.
pub(super) fn put_job(
    step: &Transaction<'_>,
    kind: JobKind,
    site: &Name,
    nodes: &[NodeId],
    serves: Option<JobId>,
    now_ns: u64,
) -> Result<RunId, DbError> {
    let job = JobId(next_number(step, "job")?);
    let version = match kind {
        JobKind::Switch { version } => Some(int(version.0)),
        JobKind::Publish { .. } | JobKind::Synchronize | JobKind::Rollback => None,
    };
    let checksum = matches!(kind, JobKind::Publish { checksum: true });
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let sql = "INSERT INTO jobs (id, kind, site, created_ns, version, checksum, nodes, serves) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let serves = serves.map(|job| int(job.0));
    let row =
        (int(job.0), kind.word(), site.as_str(), int(now_ns), version, checksum, nodes.join(" "), serves);
    step.execute(sql, row)?;
    put_run(step, job, site, now_ns)
}

/// A run of a job, queued behind all others.
pub(super) fn put_run(
    step: &Transaction<'_>,
    job: JobId,
    site: &Name,
    now_ns: u64,
) -> Result<RunId, DbError> {
    let run = RunId(next_number(step, "run")?);
    let sql = "INSERT INTO runs (id, job, site, phase, text, created_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (int(run.0), int(job.0), site.as_str(), Phase::Queued.to_string(), "queued", int(now_ns));
    step.execute(sql, row)?;
    Ok(run)
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
    events::record(db, &format!("run {run}"), &format!("{phase}: {text}"), now_ns)
}

pub(super) fn finish(
    db: &Connection,
    run: RunId,
    phase: Phase,
    text: &str,
    now_ns: u64,
) -> Result<(), DbError> {
    set_phase(db, run, phase, text, now_ns)?;
    db.execute("UPDATE runs SET finished_ns = ?2 WHERE id = ?1", (int(run.0), int(now_ns)))?;
    Ok(())
}

fn put_composition(db: &Connection, run: RunId, composition: &Composition) -> Result<(), DbError> {
    let json = serde_json::to_string(composition).expect("a composition is plain JSON");
    db.execute("UPDATE runs SET composition = ?2 WHERE id = ?1", (int(run.0), json))?;
    Ok(())
}

fn put_node(db: &Connection, run: RunId, node: &RunNode) -> Result<(), DbError> {
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
            let version = row.get::<_, Option<i64>>(20)?.map(|number| AssignmentId(number.cast_unsigned()));
            let word: String = row.get(19)?;
            JobKind::new(&word, version, row.get(21)?).map_err(|error| super::unreadable(19, error))?
        },
        site: parsed(row, 2)?,
        only: {
            let ids: String = row.get(22)?;
            let ids = ids.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            ids.map_err(|error| super::unreadable(22, error))?
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
        order: match row.get::<_, Option<i64>>(16)? {
            None => None,
            Some(_) => {
                let bytes: Vec<u8> = row.get(17)?;
                let action = Order::peek(&bytes).map_err(|error| super::unreadable(17, error))?.action;
                Some(IssuedOrder { id: OrderId(uint(row, 16)?), bytes, action, at_ns: uint(row, 18)? })
            }
        },
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
