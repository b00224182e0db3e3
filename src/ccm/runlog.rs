//! A log file for each job that is over, `runs/JOB.log`: what happened, when, and on which node.

use super::clock::now_ns;
use super::controller::{Controller, blocking};
use super::db::{DbError, Store};
use super::model::{Run, RunNode, Titles};
use super::scheduler::timing::rfc3339;
use crate::wire::id::{JobId, Name};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Files that stay; those of the oldest jobs go.
const FILES_MAX: usize = 1_000;
/// The place of this writer among those who are told of the history. No receiver can have this name.
const NAME: &str = "runs/";
/// Jobs that are written down after the controller was away.
const WAITING_MAX: u32 = 1_000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(10);

/// Writes down each job that ends; never returns.
pub async fn watch(controller: Arc<Controller>) {
    loop {
        let worker = Arc::clone(&controller);
        let pause = match blocking(move || turn(&worker)).await {
            Ok(true) => continue,
            Ok(false) => LOOK_EVERY,
            Err(text) => {
                log::warn!("runs: {text}");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Writes down the next job that ended; whether there was one. What cannot be written is tried again.
fn turn(controller: &Controller) -> Result<bool, String> {
    let said = |error: DbError| error.to_string();
    let is_end = |kind: &str| kind.starts_with("job-");
    let next = controller.store_blocking(|store| store.next_notice(NAME, WAITING_MAX, is_end, now_ns()));
    let Some((notice, _)) = next.map_err(said)? else { return Ok(false) };
    if notice.job > 0 {
        let text = controller.store_blocking(|store| text(store, JobId(notice.job))).map_err(said)?;
        let dir = controller.config.runs();
        write(&dir, notice.job, &text).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    controller.store_blocking(|store| store.note_delivered(NAME, notice.id, now_ns())).map_err(said)?;
    Ok(true)
}

fn path(dir: &Path, job: u64) -> PathBuf {
    dir.join(format!("{job}.log"))
}

fn write(dir: &Path, job: u64, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let beside = dir.join("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path(dir, job))?;
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        kept.extend(number);
    }
    kept.sort_unstable();
    let beyond = kept.len().saturating_sub(FILES_MAX);
    kept[..beyond].iter().try_for_each(|job| std::fs::remove_file(path(dir, *job)))
}

/// The log of a job as far as it has come: of one that is over its file, where there is one. `None` for no such job.
/// Blocks.
///
/// # Errors
/// The database's.
pub fn read(controller: &Controller, job: JobId) -> Result<Option<String>, DbError> {
    let Some(run) = controller.store_blocking(|store| store.run_of_job(job))? else { return Ok(None) };
    let kept = std::fs::read_to_string(path(&controller.config.runs(), job.0)).ok();
    match kept
        .filter(|kept| run.phase.is_over() && kept.contains(&format!("(run {}): {}", run.id, run.phase)))
    {
        Some(kept) => Ok(Some(kept)),
        None => controller.store_blocking(|store| text(store, job)).map(Some),
    }
}

fn text(store: &mut Store, job: JobId) -> Result<String, DbError> {
    let runs = store.runs_of_job(job)?;
    let titles = Titles::of(&store.segments()?);
    let mut log = String::new();
    if let Some(first) = runs.first() {
        let by = first.terms.schedule.as_ref().map_or("somebody", Name::as_str);
        let (kind, site, at) = (first.kind.word(), &first.site, rfc3339(first.created_ns));
        line(&mut log, format_args!("job {job}: {kind} of {site}, added {at} by {by}"));
    }
    for run in &runs {
        attempt(&mut log, run, &store.run_nodes(run.id)?, &titles);
    }
    line(&mut log, format_args!("history:"));
    for event in store.events_of_job(job)? {
        line(&mut log, format_args!("  {} {}: {}", rfc3339(event.at_ns), event.subject, event.text));
    }
    Ok(log)
}

fn attempt(log: &mut String, run: &Run, nodes: &[RunNode], titles: &Titles) {
    let (number, id, phase) = (run.terms.attempt, run.id, run.phase);
    line(log, format_args!("attempt {number} (run {id}): {phase}: {}", run.text));
    for (what, at) in [("began", run.started_ns), ("ended", run.finished_ns)] {
        if at > 0 {
            line(log, format_args!("  {what} {}", rfc3339(at)));
        }
    }
    if let Some(composition) = &run.composition {
        let changes = &composition.changes;
        let (added, changed, removed) = (changes.added, changes.changed + changes.metadata, changes.removed);
        line(log, format_args!("  {added} added, {changed} changed, {removed} removed"));
        for warning in &composition.warnings {
            line(log, format_args!("  warning: {warning}"));
        }
    }
    for assignment in run.parts.before.iter().chain(&run.assignment) {
        let (id, bytes) = (assignment.id, assignment.shape.file_len());
        line(
            log,
            format_args!("  assignment {id}, {bytes} bytes, composed {}", rfc3339(assignment.composed_ns)),
        );
    }
    for node in nodes {
        let (at, segment) = (rfc3339(node.changed_ns.max(node.switched_ns)), titles.title(&node.segment));
        let why =
            if node.reason.is_empty() { String::new() } else { format!(" {}: {}", node.reason, node.text) };
        line(log, format_args!("  {at} node {} of {segment}: {}{why}", node.name, node.state));
    }
}

/// One line, whatever stands in it.
fn line(log: &mut String, text: std::fmt::Arguments<'_>) {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    log.extend(text.to_string().trim_end().chars().map(clean));
    writeln!(log).expect("a text takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::Phase;
    use crate::ccm::model::JobKind;
    use crate::ccm::testing::{T0, controller, name};

    #[test]
    fn a_job_that_ended_has_a_log_and_the_oldest_go() {
        let (dir, controller) = controller(0);
        let add = |store: &mut Store| {
            store.add_site(&name("www"), Path::new("/srv"), T0)?;
            store.add_job(JobKind::Rollback, &name("www"), T0)
        };
        assert!(!turn(&controller).unwrap(), "from here on");
        let run = controller.store_blocking(add).unwrap();
        let live = read(&controller, run.job).unwrap().unwrap();
        assert!(live.starts_with("job 1: rollback of www, added "), "{live}");
        assert!(live.contains("attempt 1 (run 1): queued"), "{live}");
        assert!(!turn(&controller).unwrap());
        let end = |store: &mut Store| store.end_run(run.id, Phase::Failed, "no\nway", None, T0);
        controller.store_blocking(end).unwrap();
        assert!(turn(&controller).unwrap() && !turn(&controller).unwrap());
        let kept = std::fs::read_to_string(dir.path().join("runs/1.log")).unwrap();
        assert!(kept.contains("attempt 1 (run 1): failed: no way\n"), "{kept}");
        assert!(kept.lines().last().unwrap().ends_with("run 1: failed: no way"), "{kept}");
        assert_eq!(read(&controller, run.job).unwrap(), Some(kept));
        assert_eq!(read(&controller, JobId(9)).unwrap(), None);
        let runs = dir.path().join("runs");
        (1..=FILES_MAX as u64 + 2).for_each(|job| std::fs::write(path(&runs, job), "").unwrap());
        write(&runs, 5, "").unwrap();
        assert_eq!(std::fs::read_dir(&runs).unwrap().count(), FILES_MAX);
        assert!(!path(&runs, 2).exists() && path(&runs, 3).exists());
    }
}
