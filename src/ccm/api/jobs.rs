//! `/v1/jobs`

use super::caller::Caller;
use super::checkpoints::no_checkpoint;
use super::events;
use super::once::once;
use super::page::Back;
use super::problem::Refusal;
use super::sites::{checked_name, no_site, site_name};
use super::types::{Job, JobLog, JobNode, JobReport, NewJob};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{DbError, Store, WishRefused};
use crate::ccm::meeting;
use crate::ccm::model::{self, JobKind, Run, RunNode, Titles, kind_word};
use crate::ccm::notify::notice::Kind;
use crate::ccm::policy::{OnConflict, OnFreeze, Rules, overlay};
use crate::ccm::rollout::Standing;
use crate::ccm::runlog;
use crate::ccm::scheduler::{bandwidth, window};
use crate::wire::assignment::RelPath;
use crate::wire::id::{JobId, Name};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// Longest reason in bytes.
const REASON_MAX: usize = 200;

/// Jobs of the sites that the caller may have to do with, newest first.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    page: Result<Query<Back>, QueryRejection>,
) -> Result<Json<Vec<Job>>, Refusal> {
    let Query(page) = page?;
    let (before, limit) = (page.before, page.limit()?);
    let read = move |store: &mut Store| {
        let runs = store.last_jobs(caller.scope(), before.map(JobId), limit)?;
        summaries(store, &runs)
    };
    Ok(Json(controller.store(read).await?))
}

pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(id): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let job = job_id(&id)?;
    let read = move |store: &mut Store| {
        let Some(run) = store.run_of_job(job)? else { return Ok(None) };
        let titles = Titles::of(&store.segments()?);
        let bound = if run.phase.is_over() {
            None
        } else {
            bandwidth::sentence(&store.windows()?, &run.site, now_ns())
        };
        let job = detail(&run, &store.run_nodes(run.id)?, &titles);
        Ok::<_, DbError>(Some(Job { bound: bound.unwrap_or_default(), ..job }))
    };
    controller.store(read).await?.map(Json).ok_or_else(|| no_job(&id))
}

pub async fn add(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    new: Result<Json<NewJob>, JsonRejection>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let Json(new) = new?;
    let kind = JobKind::new(&new.kind, new.version.or(new.checkpoint), new.checksum).ok();
    let kind = kind.filter(|kind| (new.version, new.checkpoint) == numbers(*kind)).ok_or_else(|| {
        let detail = format!(
            "{:?} {} is no job: `publish` is, with a checksum or without, `synchronize`, `rollback`, `switch` \
             with a version, `checkpoint`, `remove`, and `restore` with a checkpoint",
            new.kind,
            match (new.version, new.checkpoint) {
                (None, None) => "without a version",
                (Some(_), None) => "with a version",
                (None, Some(_)) => "with a checkpoint",
                (Some(_), Some(_)) => "with a version and a checkpoint",
            }
        );
        Refusal::bad_request(detail)
    })?;
    let site = site_name(&new.site)?;
    caller.check(&site)?;
    caller.note(kind.word().to_owned());
    if kind != JobKind::Synchronize && !new.nodes.is_empty() {
        let detail = format!("a {} is for all nodes; only a `synchronize` names nodes", kind.word());
        return Err(Refusal::bad_request(detail));
    }
    let title = title(kind, &new.name)?;
    let paths = removed(kind, &new.paths)?;
    Rules::of(&new.policy).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let override_reason = printable_reason(&new.override_reason)?;
    let nodes = Vec::new();
    let job = model::NewJob { kind, site, nodes, policy: new.policy, schedule: None, override_reason };
    let names = new.nodes;
    let work = move |store: &mut Store| {
        let admitted = admit(store, job, (title.as_ref(), &paths), &names, now_ns())?;
        Ok(admitted.map(|run| view(&run, Standing::default())))
    };
    let job = once(&controller, &caller, work).await?;
    log::info!("job {}: {} {}", job.id, job.kind, job.site);
    controller.wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(job)))
}

/// Has a job wait, go on, or end; what was ordered cannot be called back.
pub async fn wish(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    Path((id, word)): Path<(String, String)>,
) -> Result<Json<Job>, Refusal> {
    let job = job_id(&id)?;
    let work = move |store: &mut Store| {
        let now = now_ns();
        let wished = match word.as_str() {
            "pause" => store.wish(job, model::Wish::Pause, now)?,
            "resume" => store.wish(job, model::Wish::None, now)?,
            "cancel" => store.wish(job, model::Wish::Cancel, now)?,
            "retry" => store.retry_job(job, now)?,
            "retry-failed" => store.retry_failed(job, now)?,
            _ => {
                let detail = "a job can be told to pause, resume, cancel, retry or retry-failed".to_owned();
                return Ok(Err(Refusal::not_found(detail)));
            }
        };
        Ok(match wished {
            Ok(run) => Ok(views(store, &[run])?.remove(0)),
            Err(refused) => Err(refused.into()),
        })
    };
    let job = once(&controller, &caller, work).await?;
    controller.wake.notify_one();
    Ok(Json(job))
}

impl From<WishRefused> for Refusal {
    fn from(refused: WishRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            WishRefused::NoJob(_) => Self::not_found(detail),
            _ => Self::conflict(detail),
        }
    }
}

/// All attempts of a job, with their nodes, and what happened to them.
pub async fn report(
    State(controller): State<Arc<Controller>>,
    Path(id): Path<String>,
) -> Result<Json<JobReport>, Refusal> {
    let job = job_id(&id)?;
    let read = move |store: &mut Store| {
        let runs = store.runs_of_job(job)?;
        Ok::<_, DbError>((views(store, &runs)?, store.events_of_job(job)?))
    };
    let (attempts, events) = controller.store(read).await?;
    if attempts.is_empty() {
        return Err(no_job(&id));
    }
    let events = events.iter().map(events::view).collect();
    Ok(Json(JobReport { schema: "farmcast.job-report/1".to_owned(), attempts, events }))
}

/// What happened to a job, when, and on which node, as far as it has come.
pub async fn log(
    State(controller): State<Arc<Controller>>,
    Path(id): Path<String>,
) -> Result<Json<JobLog>, Refusal> {
    let job = job_id(&id)?;
    let text = blocking(move || runlog::read(&controller, job)).await?.ok_or_else(|| no_job(&id))?;
    let lines = text.lines().map(str::to_owned).collect();
    Ok(Json(JobLog { schema: "farmcast.job-log/1".to_owned(), job: job.0, lines }))
}

/// The version and the checkpoint that go with a kind of job.
const fn numbers(kind: JobKind) -> (Option<u64>, Option<u64>) {
    match kind {
        JobKind::Restore { .. } => (None, kind.number()),
        _ => (kind.number(), None),
    }
}

/// What a removal takes off the nodes: one in each line of a text, so no line breaks.
fn removed(kind: JobKind, paths: &[String]) -> Result<Vec<RelPath>, Refusal> {
    if kind != JobKind::Remove && !paths.is_empty() {
        return Err(Refusal::bad_request(format!("a {} takes no paths; only a `remove` does", kind.word())));
    }
    let read = |text: &String| {
        let path = RelPath::new(text.trim_end_matches('/').as_bytes()).ok();
        path.filter(|_| !text.contains(['\n', '\r'])).ok_or_else(|| {
            Refusal::bad_request(format!("{text:?} is no path below live, as docs/index.html is"))
        })
    };
    paths.iter().map(read).collect()
}

/// What a checkpoint is to be called: not a number, for checkpoints have numbers.
fn title(kind: JobKind, name: &str) -> Result<Option<Name>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    if kind != JobKind::Checkpoint {
        return Err(Refusal::bad_request(format!("a {} has no name; only a `checkpoint` has", kind.word())));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let detail = format!("a checkpoint cannot be called {name}: it has a number beside its name");
        return Err(Refusal::bad_request(detail));
    }
    checked_name(name, "checkpoint").map(Some)
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map(JobId).map_err(|_| no_job(text))
}

fn no_job(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no job {id}; `farmcast job list` names the last"))
}

/// Adds a job that somebody asked for now, unless its policy has it cancelled where another is in its way or nothing
/// may start; a conflict is written down either way (SC-7, SC-8).
fn admit(
    store: &mut Store,
    mut job: model::NewJob,
    (title, paths): (Option<&Name>, &[RelPath]),
    names: &[String],
    now_ns: u64,
) -> Result<Result<Run, Refusal>, DbError> {
    let farm = store.nodes()?;
    for name in names {
        let Some(node) = farm.iter().find(|node| node.name.as_str() == name) else {
            let detail = format!("there is no node {name:?}; `farmcast node list` names all");
            return Ok(Err(Refusal::not_found(detail)));
        };
        job.nodes.push(node.id);
    }
    let site = &job.site;
    let Some(of_site) = store.site_policy(site)? else {
        return Ok(Err(no_site(site)));
    };
    let rules = match Rules::of(&overlay(&job.policy, &of_site)) {
        Ok(rules) => rules,
        Err(error) => return Ok(Err(Refusal::bad_request(error.to_string()))),
    };
    let checkpoints = store.checkpoints(site)?;
    if let JobKind::Restore { checkpoint: number } = job.kind
        && !checkpoints.iter().any(|checkpoint| checkpoint.key.number == number)
    {
        return Ok(Err(no_checkpoint(site, &number.to_string())));
    }
    if let Some(other) = checkpoints.iter().find(|other| title.is_some() && other.title.as_ref() == title) {
        return Ok(Err(Refusal::conflict(format!(
            "{site} has checkpoint {other} already; give another name"
        ))));
    }
    let conflict = meeting::conflict(store, site)?;
    let hold = window::hold(&store.windows()?, site, now_ns).filter(|_| job.override_reason.is_empty());
    let refused = match (&conflict, hold) {
        (_, Some(hold)) if rules.on_freeze == OnFreeze::Cancel => Some(format!(
            "{}; wait, or give `--override REASON`, which is written into the history",
            hold.text
        )),
        (Some(conflict), _) if rules.on_conflict == OnConflict::Cancel => {
            Some(format!("{}; try again when it is over", conflict.text))
        }
        _ => None,
    };
    if let Some(text) = refused {
        let subject = format!("site {site}");
        let line = format!("{} refused: {text}", job.kind.word());
        match conflict {
            Some(_) => store.record_notice(Kind::Conflict, &subject, &line, now_ns)?,
            None => store.record_event(&subject, &line, now_ns)?,
        }
        return Ok(Err(Refusal::conflict(text)));
    }
    let run = store.add_job_on(&job, now_ns)?;
    if let Some(title) = title {
        store.name_checkpoint(run.job, title)?;
    }
    if !paths.is_empty() {
        store.set_paths(run.job, paths)?;
    }
    if let Some(conflict) = conflict {
        let text = format!("conflict: {}; queued", conflict.text);
        store.record_notice(Kind::Conflict, &format!("job {}", run.job), &text, now_ns)?;
    }
    Ok(Ok(run))
}

/// Why somebody does what is not allowed as a rule: for the history, so one line of text.
pub fn printable_reason(text: &str) -> Result<String, Refusal> {
    if text.len() > REASON_MAX || text.chars().any(char::is_control) {
        let detail = format!("a reason is one line of at most {REASON_MAX} bytes");
        return Err(Refusal::bad_request(detail));
    }
    Ok(text.trim().to_owned())
}

fn views(store: &Store, runs: &[Run]) -> Result<Vec<Job>, DbError> {
    let titles = Titles::of(&store.segments()?);
    runs.iter().map(|run| Ok(detail(run, &store.run_nodes(run.id)?, &titles))).collect()
}

/// Jobs of which their nodes are only counted.
pub fn summaries(store: &Store, runs: &[Run]) -> Result<Vec<Job>, DbError> {
    runs.iter().map(|run| Ok(view(run, store.run_standing(run)?))).collect()
}

fn detail(run: &Run, nodes: &[RunNode], titles: &Titles) -> Job {
    let nodes_of = nodes.iter().map(|node| view_node(node, titles)).collect();
    Job { nodes: nodes_of, ..view(run, Standing::of(nodes)) }
}

fn view(run: &Run, standing: Standing) -> Job {
    let composition = run.composition.clone().unwrap_or_default();
    Job {
        schema: "farmcast.job/1".to_owned(),
        id: run.job.0,
        run: run.id.0,
        kind: run.kind.word().to_owned(),
        site: run.site.to_string(),
        schedule: run.terms.schedule.as_ref().map_or_else(String::new, Name::to_string),
        attempt: run.terms.attempt,
        policy: run.terms.policy.clone(),
        phase: run.phase,
        text: run.text.clone(),
        assignment: run.version().map_or(0, |version| version.0),
        assignment_kind: run.assignment.map_or("", |assignment| kind_word(assignment.kind)).to_owned(),
        changes: composition.changes,
        assignment_bytes: run.assignment_bytes(),
        parts: run.parts.before.len() as u32 + 1,
        part: run.parts.done as u32 + 1,
        changed_bytes: composition.changed_bytes,
        site_files: composition.site_files,
        site_bytes: composition.site_bytes,
        nodes_total: standing.total,
        nodes_staged: standing.staged,
        nodes_live: standing.live,
        nodes_failed: standing.lost,
        switch_spread_us: standing.switch_spread_us(),
        created_ns: run.created_ns,
        started_ns: run.started_ns,
        finished_ns: run.finished_ns,
        bound: String::new(),
        nodes: Vec::new(),
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
