//! What every request of an operator goes through: who sends it, whether it may, and the line of the audit.

mod admission;
mod identity;

use super::caller::Caller;
use super::once;
use super::problem::{Refusal, Told, is_denial};
use crate::ccm::access::{self, Origin, Right, Subject};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{Act, Store};
use admission::admit;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use identity::{Stranger, identify};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest body of an operator's request in bytes; that of an upload is its handler's business.
pub const BODY_MAX: usize = 1 << 20;
/// Time in which such a body must be here whole.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Longest detail of a line of the audit in bytes.
const DETAIL_MAX: usize = 300;

/// What the path says.
#[derive(Debug)]
struct Asked {
    method: Method,
    /// As the router writes it; `None` where nothing is there.
    route: Option<String>,
    path: String,
    /// What stands in the path, by name.
    parts: Vec<(String, String)>,
}

impl Asked {
    fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What stands in the path beside the site.
    fn words(&self, subject: Subject) -> String {
        let told = |key: &str| !(subject == Subject::Site && key == "name");
        let words =
            self.parts.iter().filter(|(key, _)| told(key)).map(|(key, value)| format!("{key}={value}"));
        words.collect::<Vec<_>>().join(" ")
    }

    fn act(&self, who: &str, origin: Origin) -> Act {
        Act {
            who: who.to_owned(),
            origin: origin.to_string(),
            method: self.method.to_string(),
            // Where nothing is, what was tried is the news.
            route: clipped(self.route.as_deref().unwrap_or(&self.path)),
            ..Act::default()
        }
    }
}

pub async fn keep(State(controller): State<Arc<Controller>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(&ConnectInfo(origin)) = parts.extensions.get::<ConnectInfo<Origin>>() else {
        return Refusal::internal("a request came from nowhere".to_owned()).into_response();
    };
    let path_parts = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(found) => found.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        Err(_) => Vec::new(),
    };
    let asked = Asked {
        method: parts.method.clone(),
        route: parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()),
        path: parts.uri.path().to_owned(),
        parts: path_parts,
    };
    let caller = match identify(&controller, origin, &parts.headers, &parts.uri).await {
        Ok(caller) => caller,
        Err(Stranger { who, refusal }) => {
            let mut response = refuse(&controller, asked.act(&who, origin), refusal).await;
            // Who is let in by nothing takes no place any longer.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
    };
    parts.extensions.insert(caller.clone());
    let Some(route) = &asked.route else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    let Some(need) = access::need(asked.method.as_str(), route) else {
        return Refusal::no_method(format!("{} is not for {}", asked.method, asked.path)).into_response();
    };
    let site = match admit(&controller, &caller, need, &asked).await {
        Ok(site) => site,
        Err(refusal) if refusal.is_denial() => {
            return refuse(&controller, asked.act(caller.who(), origin), refusal).await;
        }
        Err(refusal) => return refusal.into_response(),
    };
    if matches!(asked.method, Method::GET | Method::HEAD) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let mut act = asked.act(caller.who(), origin);
    act.site = site.map_or_else(String::new, |site| site.to_string());
    act.detail = clipped(&asked.words(need.subject));
    if need.right == Right::Upload {
        let response = next.run(Request::from_parts(parts, body)).await;
        complete(&mut act, &caller, &response);
        return match controller.store(move |store| store.count_act(&act, now_ns())).await {
            Ok(()) => response,
            Err(error) => Refusal::from(error).into_response(),
        };
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    match once::key(&parts.headers, caller.who(), &format!("{} {}", asked.method, parts.uri), &body) {
        Ok(Some(key)) => caller.set_key(key),
        Ok(None) => {}
        Err(refusal) => return refusal.into_response(),
    }
    // What cannot be written down is not done.
    let begun = act.clone();
    let line = match controller.store(move |store| store.begin_act(&begun, now_ns())).await {
        Ok(line) => line,
        Err(error) => return Refusal::from(error).into_response(),
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    complete(&mut act, &caller, &response);
    let response_status = response.status();
    let end = move |store: &mut Store| match is_denial(response_status) {
        // As every other that is refused.
        true => store.deny_act(line, &Act { refused: true, ..act }, now_ns()),
        false => store.end_act(line, &act),
    };
    if let Err(error) = controller.store(end).await {
        // It is done; that it was begun is written down.
        log::error!("audit: how line {line} ended: {error}");
    }
    response
}

/// How it ended, and what its handler said.
fn complete(act: &mut Act, caller: &Caller, response: &Response) {
    let noted = caller.take_note();
    act.status = response.status().as_u16();
    if let Some(site) = noted.site {
        act.site = site.to_string();
    }
    let problem = response.extensions().get::<Told>().map_or("", |told| &told.0);
    let parts = [act.detail.as_str(), noted.detail.as_str(), problem];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    act.detail = clipped(&parts.join("; "));
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_WAIT, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let detail = format!("the body cannot be read, or has more than {BODY_MAX} bytes: {error}");
            Err(Refusal::bad_request(detail))
        }
        Err(_) => {
            let detail = format!("the request did not arrive within {} s", BODY_WAIT.as_secs());
            Err(Refusal::bad_request(detail))
        }
    }
}

/// Refuses, and writes down that somebody was refused.
async fn refuse(controller: &Controller, act: Act, refusal: Refusal) -> Response {
    controller.remote.refused.fetch_add(1, Ordering::Relaxed);
    let detail = clipped(refusal.detail());
    let act = Act { detail, status: refusal.status().as_u16(), refused: true, ..act };
    if let Err(error) = controller.store(move |store| store.count_act(&act, now_ns())).await {
        log::error!("audit: {error}");
    }
    refusal.into_response()
}

/// Fit for one line of the audit.
fn clipped(text: &str) -> String {
    let clean = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short = String::new();
    for letter in clean {
        if short.len() + letter.len_utf8() > DETAIL_MAX {
            break;
        }
        short.push(letter);
    }
    short
}

#[cfg(test)]
mod tests;
