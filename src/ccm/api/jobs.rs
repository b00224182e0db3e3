//! `/v1/jobs`

use super::problem::Refusal;
use super::sites::site_name;
use super::types::{Job, JobNode, NewJob};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::model::{JobKind, NodeState, Run, RunNode, Titles, kind_word};
use crate::ccm::rollout;
use crate::wire::id::{AssignmentId, JobId};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// Jobs that a list holds at most.
const LIST_MAX: u32 = 100;

/// The last jobs, newest first.
pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Job>>, Refusal> {
    let read = |store: &mut Store| {
        let runs = store.last_runs(LIST_MAX)?;
        views(store, &runs)
    };
    Ok(Json(controller.store(read).await?))
}

pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(id): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let missing = || Refusal::not_found(format!("there is no job {id}; `farmcast job list` names the last"));
    let number = id.parse().map_err(|_| missing())?;
    let read = move |store: &mut Store| {
        let Some(run) = store.run_of_job(JobId(number))? else { return Ok(None) };
        let titles = Titles::of(&store.segments()?);
        Ok::<_, DbError>(Some(view(&run, &store.run_nodes(run.id)?, &titles)))
    };
    controller.store(read).await?.map(Json).ok_or_else(missing)
}

pub async fn add(
    State(controller): State<Arc<Controller>>,
    new: Result<Json<NewJob>, JsonRejection>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let Json(new) = new?;
    let kind = JobKind::new(&new.kind, new.version.map(AssignmentId), new.checksum).map_err(|_| {
        let detail = format!(
            "{:?} {} is no job: `publish` is, with a checksum or without, `synchronize`, `rollback`, and `switch` \
             with a version",
            new.kind,
            if new.version.is_some() { "with a version" } else { "without a version" }
        );
        Refusal::bad_request(detail)
    })?;
    let site = site_name(&new.site)?;
    if kind != JobKind::Synchronize && !new.nodes.is_empty() {
        let detail = format!("a {} is for all nodes; only a `synchronize` names nodes", kind.word());
        return Err(Refusal::bad_request(detail));
    }
    let (key, names) = (site.clone(), new.nodes);
    let work = move |store: &mut Store| {
        if store.site(&key)?.is_none() {
            let detail =
                format!("there is no site {key}; add it with `farmcast site add {key} --staging DIR`");
            return Ok(Err(Refusal::not_found(detail)));
        }
        let farm = store.nodes()?;
        let mut nodes = Vec::new();
        for name in names {
            let Some(node) = farm.iter().find(|node| node.name.as_str() == name) else {
                let detail = format!("there is no node {name:?}; `farmcast node list` names all");
                return Ok(Err(Refusal::not_found(detail)));
            };
            nodes.push(node.id);
        }
        Ok::<_, DbError>(Ok(store.add_job_for(kind, &key, &nodes, now_ns())?))
    };
    let run = controller.store(work).await??;
    log::info!("job {}: {} {site}", run.job, kind.word());
    controller.wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(view(&run, &[], &Titles::default()))))
}

pub fn views(store: &Store, runs: &[Run]) -> Result<Vec<Job>, DbError> {
    let titles = Titles::of(&store.segments()?);
    runs.iter().map(|run| Ok(view(run, &store.run_nodes(run.id)?, &titles))).collect()
}

fn view(run: &Run, nodes: &[RunNode], titles: &Titles) -> Job {
    let composition = run.composition.clone().unwrap_or_default();
    let of = |states: &[NodeState]| {
        let count = nodes.iter().filter(|node| states.contains(&node.state)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    Job {
        schema: "farmcast.job/1".to_owned(),
        id: run.job.0,
        run: run.id.0,
        kind: run.kind.word().to_owned(),
        site: run.site.to_string(),
        phase: run.phase,
        text: run.text.clone(),
        assignment: run.version().map_or(0, |version| version.0),
        assignment_kind: run.assignment.map_or("", |assignment| kind_word(assignment.kind)).to_owned(),
        changes: composition.changes,
        assignment_bytes: run
            .assignment
            .map_or(0, |assignment| assignment.shape.command_len + assignment.shape.data_len),
        changed_bytes: composition.changed_bytes,
        site_files: composition.site_files,
        site_bytes: composition.site_bytes,
        nodes_total: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        nodes_staged: of(&[NodeState::Staged, NodeState::Live]),
        nodes_live: of(&[NodeState::Live]),
        nodes_failed: of(&[NodeState::Failed, NodeState::Missing]),
        switch_spread_us: rollout::switch_spread_us(nodes),
        created_ns: run.created_ns,
        started_ns: run.started_ns,
        finished_ns: run.finished_ns,
        nodes: nodes.iter().map(|node| view_node(node, titles)).collect(),
        warnings: composition.warnings,
    }
}

fn view_node(node: &RunNode, titles: &Titles) -> JobNode {
    JobNode {
        id: node.node.to_string(),
        name: node.name.to_string(),
        segment: titles.title(&node.segment),
        state: node.state.to_string(),
        reason: node.reason.clone(),
        text: node.text.clone(),
    }
}
