//! Notification: whoever `ccm.toml` names is told of what happened, at least once, in order (UI-11).
//!
//! The history is the queue: each receiver has a place in it, in the database, so that a restart loses nothing. One
//! task for each receiver looks for what is next, tries until it is taken, and waits longer after each try in vain. It
//! holds up nothing but itself.

mod command;
pub mod notice;
pub mod receiver;
#[cfg(test)]
mod tests;
mod webhook;

use super::clock::{NS_PER_S, monotonic_ns, now_ns};
use super::controller::{Controller, blocking};
use super::db::DbError;
use notice::Notice;
use receiver::Receiver;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How often a receiver looks for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After the database refused.
const PAUSE: Duration = Duration::from_secs(5);
/// Before the second try; each time twice as long, up to the longest.
const RETRY_FIRST_NS: u64 = NS_PER_S;
const RETRY_LONGEST_NS: u64 = 300 * NS_PER_S;
/// An event that nobody took for so long is given up.
const GIVE_UP_NS: u64 = 24 * 3_600 * NS_PER_S;
/// Events that wait for one receiver; the oldest beyond are given up.
pub const WAITING_MAX: u32 = 10_000;

/// What a receiver gets, as JSON.
#[derive(Serialize)]
struct Message<'a> {
    schema: &'static str,
    /// The same for each try, and for no other event.
    id: &'a str,
    at_ns: u64,
    kind: &'a str,
    subject: &'a str,
    text: &'a str,
    /// 0 and empty where it is not about a job.
    job: u64,
    site: &'a str,
}

/// Tells one receiver of all that it wants to hear; never returns.
pub async fn drive(controller: Arc<Controller>, receiver: Receiver) {
    loop {
        let pause = match turn(&controller, &receiver).await {
            Ok(true) => continue,
            Ok(false) => LOOK_EVERY,
            Err(error) => {
                log::warn!("notify {}: {error}", receiver.name);
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Delivers what is next, if its time has come; whether there may be more at once.
///
/// # Errors
/// The database's.
async fn turn(controller: &Arc<Controller>, receiver: &Receiver) -> Result<bool, DbError> {
    let wants = receiver.clone();
    let now = now_ns();
    let next = controller
        .store(move |store| store.next_notice(&wants.name, WAITING_MAX, |kind| wants.wants(kind), now))
        .await?;
    let Some((notice, standing)) = next else { return Ok(false) };
    // A clock that was set back would keep it waiting.
    if standing.next_ns > now && standing.next_ns - now <= RETRY_LONGEST_NS {
        return Ok(false);
    }
    let told = deliver(receiver, &format!("event-{}", notice.id), &notice).await;
    let (name, now) = (receiver.name.clone(), now_ns());
    let Err(failure) = told else {
        controller.store(move |store| store.note_delivered(&name, notice.id, now)).await?;
        return Ok(true);
    };
    let since = if standing.tries == 0 { now } else { standing.failing_ns };
    if now.saturating_sub(since) >= GIVE_UP_NS {
        let text = format!("event {} ({}) is given up after a day: {failure}", notice.id, notice.kind);
        log::error!("notify {name}: {text}");
        controller.store(move |store| store.give_up_notice(&name, notice.id, &text, now)).await?;
        return Ok(true);
    }
    if standing.tries == 0 {
        log::warn!("notify {name}: {failure}; it is tried again");
    }
    let next_ns = now.saturating_add(retry_after_ns(standing.tries));
    controller.store(move |store| store.note_undelivered(&name, &failure, since, next_ns)).await?;
    Ok(false)
}

fn retry_after_ns(tries: u32) -> u64 {
    RETRY_FIRST_NS.checked_shl(tries.min(16)).unwrap_or(RETRY_LONGEST_NS).min(RETRY_LONGEST_NS)
}

/// One try; a sentence where it failed.
async fn deliver(receiver: &Receiver, id: &str, notice: &Notice) -> Result<(), String> {
    let message = Message {
        schema: "farmcast.notice/1",
        id,
        at_ns: notice.at_ns,
        kind: &notice.kind,
        subject: &notice.subject,
        text: &notice.text,
        job: notice.job,
        site: &notice.site,
    };
    let body = serde_json::to_string(&message).expect("a message has string keys only") + "\n";
    let limit = Duration::from_secs(receiver.timeout_s);
    if !receiver.command.is_empty() {
        return command::run(&receiver.command, &body, limit).await;
    }
    let post = webhook::post(receiver, id, now_ns() / NS_PER_S, body);
    match tokio::time::timeout(limit, post).await {
        Ok(told) => told,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Tells a receiver of nothing in particular, once; how long that took, or why it failed.
pub async fn test(receiver: &Receiver) -> (Duration, Result<(), String>) {
    let now = now_ns();
    let notice = Notice {
        id: 0,
        at_ns: now,
        kind: "test".to_owned(),
        subject: format!("notify {}", receiver.name),
        text: "this is a test".to_owned(),
        job: 0,
        site: String::new(),
    };
    let began = monotonic_ns();
    let told = deliver(receiver, &format!("test-{now}"), &notice).await;
    (Duration::from_nanos(monotonic_ns().saturating_sub(began)), told)
}
