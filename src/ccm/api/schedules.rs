//! `/v1/schedules`, `/v1/lookahead`, `/v1/sites/NAME/policy`

use super::caller::Caller;
use super::once::once;
use super::problem::Refusal;
use super::sites::{checked_name, no_site, site_name};
use super::types::{Enabled, Finding, LookAhead, NewSchedule, Policy, Schedule};
use crate::ccm::clock::{NS_PER_S, now_ns};
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::meeting;
use crate::ccm::model::JobKind;
use crate::ccm::policy::Rules;
use crate::ccm::scheduler::lookahead::{Obstacle, Planned, look_ahead};
use crate::ccm::scheduler::timing::rfc3339;
use crate::ccm::scheduler::{self, Trigger, circle};
use crate::wire::id::Name;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Schedules that a farm can have.
const SCHEDULES_MAX: usize = 1_000;
/// Where nothing is said.
const GRACE_MAX_S: u32 = 7 * 24 * 3_600;
/// Days that can be looked ahead.
const DAYS_MAX: u32 = 366;
/// A job of a site that never had one is taken to run so long.
const LASTS_DEFAULT_NS: u64 = 60 * NS_PER_S;

/// Those of the sites that the caller may have to do with.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
) -> Result<Json<Vec<Schedule>>, Refusal> {
    let now = now_ns();
    let schedules = controller.store(|store| store.schedules()).await?;
    let seen = schedules.iter().filter(|schedule| caller.sees(&schedule.site));
    Ok(Json(seen.map(|schedule| view(schedule, now)).collect()))
}

pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Schedule>, Refusal> {
    let name = schedule_name(&name)?;
    let key = name.clone();
    let found = controller.store(move |store| store.schedule(&key)).await?;
    found.map(|schedule| Json(view(&schedule, now_ns()))).ok_or_else(|| no_schedule(&name))
}

pub async fn add(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    new: Result<Json<NewSchedule>, JsonRejection>,
) -> Result<(StatusCode, Json<Schedule>), Refusal> {
    let Json(new) = new?;
    let now = now_ns();
    let schedule = read(&new, now)?;
    // The site that causes it first, so that its own is the one that is written down.
    for site in [cause(&schedule.trigger), Some(&schedule.site)].into_iter().flatten() {
        caller.check(site)?;
    }
    caller.note(format!("{}: {} {}", schedule.name, schedule.kind.word(), schedule.trigger));
    let work = move |store: &mut Store| {
        for site in [Some(&schedule.site), cause(&schedule.trigger)].into_iter().flatten() {
            if store.site(site)?.is_none() {
                return Ok(Err(no_site(site)));
            }
        }
        let others = store.schedules()?;
        if others.len() >= SCHEDULES_MAX {
            let detail = format!("there are {SCHEDULES_MAX} schedules: remove one first");
            return Ok(Err(Refusal::conflict(detail)));
        }
        if let Some(way) = circle(&others, &schedule) {
            let way: Vec<&str> = way.iter().map(Name::as_str).collect();
            let detail = format!(
                "each job would start the next in a circle: {} to {}; let one of them go by the clock",
                way.join(" to "),
                schedule.site
            );
            return Ok(Err(Refusal::conflict(detail)));
        }
        if !store.add_schedule(&schedule, now)? {
            let detail =
                format!("there is a schedule {0}; `farmcast schedule remove {0}` first", schedule.name);
            return Ok(Err(Refusal::conflict(detail)));
        }
        Ok(Ok(view(&schedule, now)))
    };
    Ok((StatusCode::CREATED, Json(once(&controller, &caller, work).await?)))
}

pub async fn remove(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = schedule_name(&name)?;
    let key = name.clone();
    match controller.store(move |store| store.remove_schedule(&key, now_ns())).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_schedule(&name)),
    }
}

pub async fn enable(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    wish: Result<Json<Enabled>, JsonRejection>,
) -> Result<Json<Schedule>, Refusal> {
    let Json(Enabled { enabled }) = wish?;
    let name = schedule_name(&name)?;
    let key = name.clone();
    let work = move |store: &mut Store| {
        store.enable_schedule(&key, enabled, now_ns())?;
        store.schedule(&key)
    };
    let found = controller.store(work).await?;
    found.map(|schedule| Json(view(&schedule, now_ns()))).ok_or_else(|| no_schedule(&name))
}

/// Somebody outside says that it is time: what waits for this name starts, each at most once in its gap.
pub async fn call(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Schedule>>, Refusal> {
    let name = checked_name(&name, "trigger")?;
    let (key, now) = (name.clone(), now_ns());
    let called = controller.store(move |store| store.call_trigger(&key, now)).await?;
    if called.is_empty() {
        let detail = format!(
            "no schedule waits for {name}; `farmcast schedule add NAME SITE --on-trigger {name}` has one wait"
        );
        return Err(Refusal::not_found(detail));
    }
    if !called.iter().any(|schedule| schedule.enabled) {
        let first = &called[0].name;
        let detail = format!("what waits for {name} is disabled; `farmcast schedule enable {first}`");
        return Err(Refusal::conflict(detail));
    }
    controller.wake.notify_one();
    Ok(Json(called.iter().filter(|schedule| schedule.enabled).map(|schedule| view(schedule, now)).collect()))
}

#[derive(Debug, serde::Deserialize)]
pub struct Wish {
    #[serde(default = "default_days")]
    days: u32,
}

const fn default_days() -> u32 {
    7
}

/// What will go otherwise than planned.
pub async fn check(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    Query(wish): Query<Wish>,
) -> Result<Json<LookAhead>, Refusal> {
    if !(1..=DAYS_MAX).contains(&wish.days) {
        let detail = format!("{} is not within 1 to {DAYS_MAX} days", wish.days);
        return Err(Refusal::bad_request(detail));
    }
    let now = now_ns();
    let until = now.saturating_add(u64::from(wish.days) * 24 * 3_600 * NS_PER_S);
    let work = move |store: &mut Store| {
        let schedules = store.schedules()?;
        let mut planned = Vec::new();
        for schedule in schedules.iter() {
            let nodes = meeting::nodes_of(store, &schedule.site)?;
            let lasts_ns = store.usual_length_ns(&schedule.site)?.unwrap_or(LASTS_DEFAULT_NS);
            planned.push(Planned { schedule, nodes, lasts_ns });
        }
        let ahead = look_ahead(&planned, &store.windows()?, now, until);
        let of_others = schedules.iter().filter(|schedule| !caller.sees(&schedule.site));
        let of_others: BTreeSet<Name> = of_others.map(|schedule| schedule.name.clone()).collect();
        Ok::<_, DbError>((ahead, of_others))
    };
    let (ahead, of_others) = controller.store(work).await?;
    let own = ahead.findings.into_iter().filter(|finding| !of_others.contains(&finding.schedule));
    Ok(Json(LookAhead {
        schema: "farmcast.lookahead/1".to_owned(),
        from_ns: now,
        until_ns: ahead.until_ns,
        starts: ahead.starts as u64,
        findings: own.map(|finding| view_finding(finding, &of_others)).collect(),
    }))
}

pub async fn policy(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Policy>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    controller.store(move |store| store.site_policy(&key)).await?.map(Json).ok_or_else(|| no_site(&name))
}

/// From the next job on. What is left out is as the defaults say.
pub async fn set_policy(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    policy: Result<Json<Policy>, JsonRejection>,
) -> Result<Json<Policy>, Refusal> {
    let Json(policy) = policy?;
    Rules::of(&policy).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let name = site_name(&name)?;
    let (key, wish) = (name.clone(), policy.clone());
    match controller.store(move |store| store.set_site_policy(&key, &wish, now_ns())).await? {
        true => Ok(Json(policy)),
        false => Err(no_site(&name)),
    }
}

/// The schedule that a request describes.
fn read(new: &NewSchedule, now_ns: u64) -> Result<scheduler::Schedule, Refusal> {
    let (name, site) = (schedule_name(&new.name)?, site_name(&new.site)?);
    let kind = JobKind::new(&new.kind, new.version, new.checksum).ok();
    let kind = kind.filter(|kind| !matches!(kind, JobKind::Restore { .. } | JobKind::Remove)).ok_or_else(|| {
        Refusal::bad_request(format!(
            "{:?} is no job that starts by itself: `publish`, `synchronize`, `rollback`, `switch` and `checkpoint` are",
            new.kind
        ))
    })?;
    Rules::of(&new.policy).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let trigger: Trigger =
        new.trigger.parse().map_err(|error: scheduler::NoTrigger| Refusal::bad_request(error.to_string()))?;
    if let Trigger::At(at) = trigger
        && at <= now_ns
    {
        let detail = format!("{} is over; publish now, or give a time to come", rfc3339(at));
        return Err(Refusal::bad_request(detail));
    }
    let grace_s = new.grace_s.unwrap_or(scheduler::Schedule::GRACE_DEFAULT_S);
    if grace_s > GRACE_MAX_S {
        return Err(Refusal::bad_request(format!("grace_s is not within 0 to {GRACE_MAX_S}")));
    }
    Ok(scheduler::Schedule {
        enabled: !new.disabled,
        policy: new.policy.clone(),
        grace_s,
        ..scheduler::Schedule::new(name, site, kind, trigger, now_ns)
    })
}

const fn cause(trigger: &Trigger) -> Option<&Name> {
    match trigger {
        Trigger::After { site, .. } => Some(site),
        Trigger::At(_) | Trigger::Cron(_) | Trigger::Change { .. } | Trigger::Called { .. } => None,
    }
}

fn schedule_name(text: &str) -> Result<Name, Refusal> {
    checked_name(text, "schedule")
}

fn no_schedule(name: &Name) -> Refusal {
    Refusal::not_found(format!("there is no schedule {name}; `farmcast schedule list` has them"))
}

fn view(schedule: &scheduler::Schedule, now_ns: u64) -> Schedule {
    Schedule {
        name: schedule.name.to_string(),
        site: schedule.site.to_string(),
        kind: schedule.kind.word().to_owned(),
        version: schedule.kind.number(),
        checksum: matches!(schedule.kind, JobKind::Publish { checksum: true }),
        trigger: schedule.trigger.to_string(),
        enabled: schedule.enabled,
        policy: schedule.policy.clone(),
        grace_s: schedule.grace_s,
        next_ns: schedule.next(now_ns).unwrap_or(0),
        last_ns: schedule.last_ns,
        last_job: schedule.last_job.map_or(0, |job| job.0),
        last_text: schedule.last_text.clone(),
    }
}

/// Schedules of `hidden` are not named.
fn view_finding(finding: scheduler::lookahead::Finding, hidden: &BTreeSet<Name>) -> Finding {
    let (kind, with, nodes, text) = match finding.what {
        Obstacle::Conflict { with, began_ns, nodes } if hidden.contains(&with) => {
            let text = format!("a job of another site, of {}, may still run", rfc3339(began_ns));
            ("conflict", String::new(), nodes.len(), text)
        }
        Obstacle::Conflict { with, began_ns, nodes } => {
            let text = format!("the job of {with} of {} may still run", rfc3339(began_ns));
            ("conflict", with.to_string(), nodes.len(), text)
        }
        Obstacle::Window { window, text } => ("window", window.to_string(), 0, text),
    };
    Finding {
        at_ns: finding.at_ns,
        schedule: finding.schedule.to_string(),
        site: finding.site.to_string(),
        kind: kind.to_owned(),
        with,
        nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
        text,
    }
}
