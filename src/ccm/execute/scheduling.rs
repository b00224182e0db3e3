//! Starts what starts by itself: asks the schedules what is due, and writes down what became of it.

use super::hints::Hints;
use crate::ccm::clock::NS_PER_S;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{DbError, Outcome, Store};
use crate::ccm::meeting;
use crate::ccm::model::NewJob;
use crate::ccm::policy::{OnConflict, OnFreeze, Rules, overlay};
use crate::ccm::scheduler::settling::Settling;
use crate::ccm::scheduler::{Due, End, Schedule, Trigger, window};
use crate::ccm::staging::print;
use crate::wire::id::Name;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// Schedules go by seconds.
const EVERY_NS: u64 = NS_PER_S;
/// The same for those that wait for staging to rest.
const LOOK_EVERY_NS: u64 = NS_PER_S / 5;

/// What the controller knows of schedules beside the database.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    next_ns: u64,
    next_look_ns: u64,
    calendar: Calendar,
    watched: BTreeMap<Name, Watched>,
}

/// When to look at which schedule. Most are due once a day, and there may be thousands.
#[derive(Debug, Default)]
struct Calendar {
    /// All, as they were when the rest was made of them.
    schedules: Arc<[Schedule]>,
    /// From when on each of them may be due by the clock.
    wakes: Vec<Option<u64>>,
    /// The number of the last end of a run that was looked at.
    seen_end: u64,
    /// When the clock was looked at last.
    looked_ns: u64,
}

/// The staging directory of a schedule that waits for its changes.
#[derive(Debug)]
struct Watched {
    schedule: Schedule,
    staging: PathBuf,
    settling: Settling,
    hints: Arc<Mutex<Hints>>,
    /// Questions that a thread which may block is answering.
    asked: Option<JoinHandle<bool>>,
    look: Option<(u64, JoinHandle<Option<String>>)>,
}

impl Scheduler {
    /// Starts what is due.
    pub async fn turn(&mut self, controller: &Arc<Controller>, now_ns: u64) -> Result<(), DbError> {
        // A clock that was set back would keep us waiting.
        if now_ns >= self.next_ns || self.next_ns - now_ns > EVERY_NS {
            self.next_ns = now_ns + EVERY_NS;
            let mut calendar = std::mem::take(&mut self.calendar);
            let due = move |store: &mut Store| {
                start_due(store, &mut calendar, now_ns).map(|changes| (calendar, changes))
            };
            let (calendar, changes) = controller.store(due).await?;
            self.calendar = calendar;
            self.watch(changes);
        }
        if now_ns >= self.next_look_ns || self.next_look_ns - now_ns > LOOK_EVERY_NS {
            self.next_look_ns = now_ns + LOOK_EVERY_NS;
            for (schedule, print) in self.look(now_ns).await {
                let why = "staging has changed and rested".to_owned();
                let started = move |store: &mut Store| start(store, &schedule, why, &[], Some(print), now_ns);
                controller.store(started).await?;
            }
        }
        Ok(())
    }

    /// The next turn looks at schedules, however soon it comes.
    pub fn look_again(&mut self) {
        (self.next_ns, self.next_look_ns) = (0, 0);
    }

    /// Goes by the schedules as they are now: those that are gone or changed are watched no more.
    fn watch(&mut self, changes: Vec<(Schedule, PathBuf)>) {
        let mut before = std::mem::take(&mut self.watched);
        for (schedule, staging) in changes {
            let Trigger::Change { quiet_s } = schedule.trigger else { continue };
            let name = schedule.name.clone();
            let same = |old: &Watched| {
                old.schedule.trigger == schedule.trigger
                    && old.staging == staging
                    && old.settling.handled() == schedule.staging
            };
            let watched = match before.remove(&name).filter(same) {
                Some(old) => Watched { schedule, ..old },
                None => Watched {
                    settling: Settling::new(quiet_s, schedule.staging.clone()),
                    hints: Arc::new(Mutex::new(Hints::of(staging.clone()))),
                    asked: None,
                    look: None,
                    schedule,
                    staging,
                },
            };
            self.watched.insert(name, watched);
        }
    }

    /// Looks at the staging directories that are due; those that have come to rest, with what stands in them.
    async fn look(&mut self, now_ns: u64) -> Vec<(Schedule, String)> {
        let mut rested = Vec::new();
        for watched in self.watched.values_mut() {
            match watched.asked.take() {
                // A panic in it is a bug of ours, shows in the log, and ends the hints.
                Some(asked) if asked.is_finished() => {
                    if asked.await.unwrap_or(false) {
                        watched.settling.hint(now_ns);
                    }
                }
                Some(asked) => watched.asked = Some(asked),
                None => {
                    let hints = Arc::clone(&watched.hints);
                    let ask = move || hints.lock().is_ok_and(|mut hints| hints.came());
                    watched.asked = Some(tokio::spawn(blocking(ask)));
                }
            }
            match watched.look.take() {
                Some((began_ns, look)) if look.is_finished() => {
                    // A panic in it is a bug of ours and shows in the log; the tree is looked at again.
                    let print = look.await.unwrap_or(None);
                    if watched.settling.looked(print.as_deref(), began_ns) {
                        rested.push((watched.schedule.clone(), print.unwrap_or_default()));
                    }
                }
                Some(look) => watched.look = Some(look),
                None if watched.settling.wants_look(now_ns) => {
                    let staging = watched.staging.clone();
                    watched.look = Some((now_ns, tokio::spawn(blocking(move || print(&staging)))));
                }
                None => {}
            }
        }
        rested
    }
}

/// Starts what is due by the clock or by the end of another job. Those that wait for changes, with their staging.
fn start_due(
    store: &mut Store,
    calendar: &mut Calendar,
    now_ns: u64,
) -> Result<Vec<(Schedule, PathBuf)>, DbError> {
    let schedules = store.schedules()?;
    if !Arc::ptr_eq(&schedules, &calendar.schedules) || now_ns < calendar.looked_ns {
        let seen_end =
            schedules.iter().filter(|schedule| schedule.is_after_a_job()).map(|schedule| schedule.seen_end);
        *calendar = Calendar {
            wakes: schedules.iter().map(Schedule::wakes).collect(),
            seen_end: seen_end.min().unwrap_or(u64::MAX),
            schedules: Arc::clone(&schedules),
            looked_ns: 0,
        };
    }
    // After a clock that was set back, whatever it was before, all are looked at once.
    let anew = calendar.looked_ns == 0;
    calendar.looked_ns = now_ns;
    let ends = match calendar.seen_end {
        u64::MAX => Vec::new(),
        seen => store.ends_after(seen)?,
    };
    calendar.seen_end = ends.last().map_or(calendar.seen_end, |end| end.number);
    let mut changes = Vec::new();
    for (schedule, wakes) in schedules.iter().zip(&calendar.wakes).filter(|(schedule, _)| schedule.enabled) {
        if matches!(schedule.trigger, Trigger::Change { .. })
            && let Some(site) = store.site(&schedule.site)?
        {
            changes.push((schedule.clone(), site.staging));
        }
        let awake = wakes.is_some_and(|wakes| wakes <= now_ns);
        if !(anew || awake || schedule.is_after_a_job() && !ends.is_empty()) {
            continue;
        }
        match schedule.due(&ends, now_ns) {
            Due::No => {}
            Due::ClockSetBack => store.rewind_schedule(&schedule.name, now_ns)?,
            Due::Start { why } => start(store, schedule, why, &ends, None, now_ns)?,
            Due::Missed { why } => {
                log::warn!("schedule {}: {why}", schedule.name);
                let goes_on = !matches!(schedule.trigger, Trigger::At(_));
                let (seen_end, staging) = (schedule.seen_end, schedule.staging.clone());
                let outcome = Outcome { job: None, text: why, seen_end, staging, goes_on, conflict: false };
                store.settle_schedule(schedule, &outcome, now_ns)?;
            }
        }
    }
    Ok(changes)
}

/// Adds the job of a schedule that is due, unless another is in its way and its policy says so, and tells of the
/// conflict either way (SC-3, SC-7, SC-8).
fn start(
    store: &mut Store,
    schedule: &Schedule,
    why: String,
    ends: &[End],
    staging: Option<String>,
    now_ns: u64,
) -> Result<(), DbError> {
    let of_site = store.site_policy(&schedule.site)?.unwrap_or_default();
    let policy = overlay(&schedule.policy, &of_site);
    let rules = Rules::of(&policy).unwrap_or(Rules::DEFAULT);
    let earlier = match schedule.last_job {
        Some(job) => store.run_of_job(job)?.filter(|run| run.started_ns == 0 && !run.phase.is_over()),
        None => None,
    };
    let conflict = meeting::conflict(store, &schedule.site)?;
    let hold = window::hold(&store.windows()?, &schedule.site, now_ns);
    let meets = earlier.is_none() && conflict.is_some();
    let (starts, text) = match (earlier, hold, conflict) {
        (Some(run), _, _) => {
            (false, format!("{why}: not started, for its job {} has not begun yet", run.job))
        }
        (None, Some(hold), _) if rules.on_freeze == OnFreeze::Cancel => {
            (false, format!("{why}: cancelled, for {}", hold.text))
        }
        (None, _, Some(conflict)) if rules.on_conflict == OnConflict::Cancel => {
            (false, format!("{why}: conflict, cancelled: {}", conflict.text))
        }
        (None, _, Some(conflict)) => (true, format!("{why}: conflict, queued: {}", conflict.text)),
        (None, _, None) => (true, why),
    };
    log::info!("schedule {}: {text}", schedule.name);
    let job = starts.then(|| NewJob {
        kind: schedule.kind,
        site: schedule.site.clone(),
        nodes: Vec::new(),
        policy,
        schedule: Some(schedule.name.clone()),
        override_reason: String::new(),
    });
    let outcome = Outcome {
        job,
        text,
        seen_end: ends.last().map_or(schedule.seen_end, |end| end.number.max(schedule.seen_end)),
        staging: staging.unwrap_or_else(|| schedule.staging.clone()),
        goes_on: !matches!(schedule.trigger, Trigger::At(_)),
        conflict: meets,
    };
    store.settle_schedule(schedule, &outcome, now_ns).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ccm::api::types::Phase;
    use crate::ccm::model::JobKind;
    use crate::ccm::scheduler::timing::rfc3339;
    use crate::ccm::testing::{SECOND, name, store};

    /// Forty seconds past some minute.
    const T0: u64 = (1_000 + 60_000_000) * SECOND;

    fn schedule(label: &str, site: &str, trigger: &str) -> Schedule {
        let kind = JobKind::Publish { checksum: false };
        Schedule::new(name(label), name(site), kind, trigger.parse().unwrap(), T0)
    }

    fn jobs(store: &Store) -> Vec<String> {
        let mut runs = store.last_runs(20).unwrap();
        runs.sort_by_key(|run| run.job.0);
        runs.iter().map(|run| run.terms.schedule.as_ref().map_or_else(String::new, Name::to_string)).collect()
    }

    /// The calendar follows what is added, disabled and enabled, and a clock that is set back.
    #[test]
    fn what_wakes_is_started_once_and_whatever_changes_is_looked_at_anew() {
        let (_dir, mut store) = store();
        for site in ["www", "shop"] {
            let site = crate::ccm::testing::site(site, 0);
            store.add_site(&site.name, &site.staging, T0).unwrap();
        }
        let mut calendar = Calendar::default();
        let mut turn = |store: &mut Store, seconds: u64| {
            start_due(store, &mut calendar, T0 + seconds * SECOND).unwrap();
            jobs(store)
        };
        store
            .add_schedule(&schedule("once", "www", &format!("at {}", rfc3339(T0 + 10 * SECOND))), T0)
            .unwrap();
        assert_eq!(turn(&mut store, 0), [""; 0]);
        assert_eq!(turn(&mut store, 9), [""; 0]);
        assert_eq!(turn(&mut store, 10), ["once"]);
        assert_eq!(turn(&mut store, 11), ["once"]);
        // Added while the calendar stands.
        store.add_schedule(&schedule("then", "shop", "after www any"), T0).unwrap();
        store.add_schedule(&schedule("minutely", "shop", "cron UTC * * * * *"), T0).unwrap();
        assert_eq!(turn(&mut store, 19), ["once"]);
        assert_eq!(turn(&mut store, 20), ["once", "minutely"]);
        let run = store.unfinished_runs().unwrap().remove(0);
        store.end_run(run.id, Phase::Failed, "no", None, T0 + 21 * SECOND).unwrap();
        assert_eq!(turn(&mut store, 22), ["once", "minutely", "then"]);
        assert_eq!(turn(&mut store, 23), ["once", "minutely", "then"]);
        store.enable_schedule(&name("minutely"), false, T0 + 24 * SECOND).unwrap();
        assert_eq!(turn(&mut store, 140).len(), 3);
        store.enable_schedule(&name("minutely"), true, T0 + 141 * SECOND).unwrap();
        // Its first job has not begun: it waits, and says so, but is no second one.
        assert_eq!(turn(&mut store, 200).len(), 3);
        let text = store.schedule(&name("minutely")).unwrap().unwrap().last_text;
        assert!(text.contains("has not begun yet"), "{text}");
        // The clock is set back by two days, and runs on.
        let days = 2 * 24 * 3_600;
        let before = store.schedule(&name("minutely")).unwrap().unwrap().since_ns;
        start_due(&mut store, &mut calendar, before - days * SECOND).unwrap();
        assert_eq!(store.schedule(&name("minutely")).unwrap().unwrap().since_ns, before - days * SECOND);
    }
}
