//! `/v1/windows`: blackouts, freezes and bandwidth windows.

use super::caller::Caller;
use super::jobs::printable_reason;
use super::once::once;
use super::problem::Refusal;
use super::sites::{checked_name, no_site, site_name};
use super::types::{NewWindow, Window};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::Store;
use crate::ccm::scheduler::bandwidth::BYTES_PER_MBIT;
use crate::ccm::scheduler::timing::NoTiming;
use crate::ccm::scheduler::window::{self, Opens};
use crate::wire::id::Name;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// Windows that a farm can have: each job that waits looks at all.
const WINDOWS_MAX: usize = 100;
/// Rates of bandwidth windows in Mbit/s.
const RATES: std::ops::RangeInclusive<u64> = 1..=400_000;
/// Longest window: a year.
const LASTS_MAX_S: u64 = 365 * 24 * 3_600;

/// Those of the farm, and of the sites that the caller may have to do with.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
) -> Result<Json<Vec<Window>>, Refusal> {
    let now = now_ns();
    let windows = controller.store(|store| store.windows()).await?;
    let seen = windows.iter().filter(|window| window.site.as_ref().is_none_or(|site| caller.sees(site)));
    Ok(Json(seen.map(|window| view(window, now)).collect()))
}

pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Window>, Refusal> {
    let name = checked_name(&name, "window")?;
    let windows = controller.store(|store| store.windows()).await?;
    let found = windows.iter().find(|window| window.name == name);
    found.map(|window| Json(view(window, now_ns()))).ok_or_else(|| no_window(&name))
}

pub async fn add(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    new: Result<Json<NewWindow>, JsonRejection>,
) -> Result<(StatusCode, Json<Window>), Refusal> {
    let Json(new) = new?;
    let now = now_ns();
    let window = read(&new, now)?;
    match &window.site {
        Some(site) => caller.check(site)?,
        None => caller.check_farm()?,
    }
    caller.note(format!("{}: {}", window.name, window.reason));
    let answer = view(&window, now);
    let work = move |store: &mut Store| {
        if let Some(site) = &window.site
            && store.site(site)?.is_none()
        {
            return Ok(Err(no_site(site)));
        }
        let others = store.windows()?;
        if let Some(other) = others.iter().find(|other| other.name == window.name) {
            let detail = format!("there is a window {} already: {}", other.name, other.reason);
            return Ok(Err(Refusal::conflict(detail)));
        }
        if others.len() >= WINDOWS_MAX {
            let detail = format!("there are {WINDOWS_MAX} windows: remove one first");
            return Ok(Err(Refusal::conflict(detail)));
        }
        // Nobody else writes meanwhile.
        store.add_window(&window, now)?;
        Ok(Ok(answer))
    };
    let answer = once(&controller, &caller, work).await?;
    log::warn!("window {}: {}", answer.name, answer.reason);
    Ok((StatusCode::CREATED, Json(answer)))
}

pub async fn remove(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = checked_name(&name, "window")?;
    let key = name.clone();
    if !controller.store(move |store| store.remove_window(&key, now_ns())).await? {
        return Err(no_window(&name));
    }
    // What waited may start.
    controller.wake.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

fn no_window(name: &Name) -> Refusal {
    Refusal::not_found(format!(
        "there is no window {name}; `farmcast blackout list` and `farmcast bandwidth list` have them"
    ))
}

fn read(new: &NewWindow, now_ns: u64) -> Result<window::Window, Refusal> {
    let reason = printable_reason(&new.reason)?;
    if reason.is_empty() {
        let detail = "say why, with `--reason`: whoever waits is shown it".to_owned();
        return Err(Refusal::bad_request(detail));
    }
    let opens = match new.opens.as_str() {
        "" => Opens::At(now_ns),
        text => text.parse().map_err(|error: NoTiming| Refusal::bad_request(error.to_string()))?,
    };
    match (&opens, new.lasts_s) {
        (Opens::Cron(_), None) => {
            let detail = "a window that opens again and again needs a length: lasts_s".to_owned();
            return Err(Refusal::bad_request(detail));
        }
        (_, Some(lasts)) if !(1..=LASTS_MAX_S).contains(&lasts) => {
            return Err(Refusal::bad_request(format!("lasts_s is not within 1 to {LASTS_MAX_S}")));
        }
        _ => {}
    }
    if let Some(rate) = new.rate_mbit.filter(|rate| !RATES.contains(rate)) {
        let detail = format!("a rate is 1 to 400000 Mbit/s, and {rate} is none");
        return Err(Refusal::bad_request(detail));
    }
    Ok(window::Window {
        name: checked_name(&new.name, "window")?,
        site: if new.site.is_empty() { None } else { Some(site_name(&new.site)?) },
        opens,
        lasts_s: new.lasts_s,
        rate: new.rate_mbit.map(|rate| rate * BYTES_PER_MBIT),
        reason,
    })
}

pub fn view(window: &window::Window, now_ns: u64) -> Window {
    let open = window.open(now_ns);
    Window {
        name: window.name.to_string(),
        site: window.site.as_ref().map_or_else(String::new, ToString::to_string),
        opens: window.opens.to_string(),
        lasts_s: window.lasts_s,
        rate_mbit: window.rate.map(|rate| rate / BYTES_PER_MBIT),
        reason: window.reason.clone(),
        open: open.is_some(),
        until_ns: open.flatten().unwrap_or(0),
    }
}
