//! `/v1/events`: the history, page by page or as a stream.

use super::caller::Caller;
use super::page;
use super::problem::Refusal;
use super::types::Event;
use crate::ccm::access::Scope;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Page, Store};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::io::ReaderStream;

/// Streams that may be open at a time: each reads the database again and again.
const STREAMS_MAX: u32 = 64;
/// How often a stream looks for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A stream that has nothing to say says so, or nobody would notice that its reader has gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Bytes that wait for a slow reader.
const PIPE_BYTES: usize = 64 << 10;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Events beyond this number.
    after: Option<u64>,
    /// Events right before this number; with neither the last ones. The oldest first, each time.
    before: Option<u64>,
    limit: Option<u32>,
    /// As `text/event-stream`, without an end.
    stream: Option<String>,
}

pub async fn list(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    wish: Result<Query<Wish>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(wish) = wish?;
    let accepts = headers.get(header::ACCEPT).is_some_and(|value| value.as_bytes() == b"text/event-stream");
    if accepts || wish.stream.is_some() {
        return stream(controller, caller.scope().clone(), wish.after, &headers).await;
    }
    let limit = page::limit(wish.limit)?;
    let page = match (wish.after, wish.before) {
        (None, None) => Page::Last,
        (Some(after), None) => Page::After(after),
        (None, Some(before)) => Page::Before(before),
        (Some(_), Some(_)) => {
            let detail = "after and before together leave open which page is meant: give one".to_owned();
            return Err(Refusal::bad_request(detail));
        }
    };
    let read =
        move |store: &mut Store| Ok((store.events_forgotten()?, store.history(page, caller.scope(), limit)?));
    let (forgotten, events) = controller.store::<_, DbError>(read).await?;
    if let Page::After(after) = page {
        check_kept(after, forgotten)?;
    }
    Ok(Json(events.iter().map(view).collect::<Vec<Event>>()).into_response())
}

/// Who goes on from an event misses none: where some that followed it are not kept any more, that is said. 0 stands for
/// the beginning of what is kept.
fn check_kept(after: u64, forgotten: u64) -> Result<(), Refusal> {
    if after == 0 || after >= forgotten {
        return Ok(());
    }
    Err(Refusal::gone(format!(
        "events up to {forgotten} are not kept any more, and you have those up to {after}: go on after {forgotten}"
    )))
}

/// Sends what happens, each event with its number as id. A reader that comes back says the last one that it has in
/// `Last-Event-ID` and misses nothing, or is told (410) that what follows it is not kept any more.
async fn stream(
    controller: Arc<Controller>,
    of: Scope,
    after: Option<u64>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let resumed = match headers.get("last-event-id") {
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            let detail = || "Last-Event-ID is the number of an event".to_owned();
            Some(number.ok_or_else(|| Refusal::bad_request(detail()))?)
        }
        None => after,
    };
    let from = match resumed {
        Some(number) => {
            check_kept(number, controller.store(|store| store.events_forgotten()).await?)?;
            number
        }
        None => {
            let last = controller.store(|store| store.history(Page::Last, &Scope::Farm, 1)).await?;
            last.last().map_or(0, |event| event.id)
        }
    };
    if controller.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS_MAX {
        controller.streams.fetch_sub(1, Ordering::Relaxed);
        let detail = format!("{STREAMS_MAX} event streams are open: end one, or ask for pages");
        return Err(Refusal::conflict(detail));
    }
    let (write, read) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        // It ends when the reader goes, or the database fails: then the reader comes back and is told why.
        let ended = tell(&controller, write, &of, from).await;
        controller.streams.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = ended {
            log::error!("an event stream ended: {error}");
        }
    });
    let mut response = Response::new(Body::from_stream(ReaderStream::new(read)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn tell(
    controller: &Controller,
    mut to: DuplexStream,
    of: &Scope,
    mut from: u64,
) -> Result<(), DbError> {
    let mut silent = Duration::ZERO;
    loop {
        let scope = of.clone();
        let read = move |store: &mut Store| {
            Ok((store.events_forgotten()?, store.history(Page::After(from), &scope, page::MAX)?))
        };
        let (forgotten, events) = controller.store::<_, DbError>(read).await?;
        if check_kept(from, forgotten).is_err() {
            // A reader that was too slow: it comes back, and is told what it missed.
            return Ok(());
        }
        let mut text = String::new();
        for event in &events {
            from = event.id;
            let json = serde_json::to_string(&view(event)).expect("an event is plain JSON");
            text.push_str(&format!("id: {from}\nevent: event\ndata: {json}\n\n"));
        }
        silent = if text.is_empty() { silent + LOOK_EVERY } else { Duration::ZERO };
        if silent >= ALIVE_EVERY {
            silent = Duration::ZERO;
            text.push_str(": nothing new\n\n");
        }
        if to.write_all(text.as_bytes()).await.is_err() {
            return Ok(());
        }
        if events.len() < page::MAX as usize {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

pub fn view(event: &crate::ccm::db::Event) -> Event {
    let crate::ccm::db::Event { id, at_ns, subject, text, kind } = event.clone();
    Event { id, at_ns, subject, text, kind }
}
