//! What every request of an operator goes through: who sends it, whether it may, and the line of the audit.

use super::caller::Caller;
use super::once;
use super::problem::{Refusal, Told, is_denial};
use crate::ccm::access::{self, ApiToken, Grant, Need, Origin, Right, Role, Subject, Void};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{Act, DbError, Store};
use crate::ccm::scheduler::timing::rfc3339;
use crate::wire::id::{JobId, Name};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
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

/// Somebody who is let in by nothing.
#[derive(Debug)]
struct Stranger {
    /// The name of a token that counts no more; empty where nobody knows.
    who: String,
    refusal: Refusal,
}

impl From<Refusal> for Stranger {
    fn from(refusal: Refusal) -> Self {
        Self { who: String::new(), refusal }
    }
}

async fn identify(
    controller: &Controller,
    origin: Origin,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Caller, Stranger> {
    let names_token = |pair: &str| {
        let key = pair.split('=').next().unwrap_or_default();
        ["token", "access_token"].contains(&key.to_ascii_lowercase().as_str())
    };
    if uri.query().is_some_and(|query| query.split('&').any(names_token)) {
        let detail = "a token goes into the header `Authorization: Bearer`, for addresses end up in logs; revoke \
                      this one";
        return Err(Refusal::bad_request(detail.to_owned()).into());
    }
    if let Origin::Local { uid } = origin {
        return Ok(Caller::local(uid));
    }
    let token = bearer(headers)?;
    let now = now_ns();
    let grant = controller.store(move |store| store.use_token(&token, now)).await.map_err(Refusal::from)?;
    let Some(grant) = grant else {
        return Err(Refusal::unauthorized("this controller knows no such token".to_owned()).into());
    };
    let who = format!("token:{}", grant.name);
    match grant.check(now) {
        Ok(()) => Ok(Caller::new(who, grant.role, grant.scope)),
        Err(void) => Err(Stranger { who, refusal: voided(&grant, void) }),
    }
}

fn bearer(headers: &HeaderMap) -> Result<ApiToken, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::unauthorized("name a token: `Authorization: Bearer fca1-...`".to_owned()));
    };
    let words = value.to_str().unwrap_or_default();
    let token = words.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, token)| token.trim().parse().ok()).ok_or_else(|| {
        let detail = "`Authorization: Bearer` and a token, `fca1-` and 64 hexadecimal digits, are expected";
        Refusal::unauthorized(detail.to_owned())
    })
}

fn voided(grant: &Grant, void: Void) -> Refusal {
    let name = &grant.name;
    let text = match void {
        Void::Revoked => format!("token {name} was revoked"),
        Void::Expired { at_ns } => format!("token {name} expired at {}", rfc3339(at_ns)),
    };
    Refusal::unauthorized(format!("{text}; an admin makes another: `farmcast token create`"))
}

/// Whether the caller may; the site that it is about, where the path tells.
async fn admit(
    controller: &Controller,
    caller: &Caller,
    need: Need,
    asked: &Asked,
) -> Result<Option<Name>, Refusal> {
    if caller.role().right() < need.right {
        let (is, wanted) = (caller.role().word(), Role::with(need.right).word());
        return Err(Refusal::denied(format!(
            "{} is a {is}, and this takes a token of role {wanted}",
            caller.who()
        )));
    }
    let site = match need.subject {
        Subject::Anybody | Subject::Body | Subject::List => return Ok(None),
        Subject::Farm => return caller.check_farm().map(|()| None),
        Subject::Site => {
            let name = asked.part("name").and_then(|name| Name::new(name).ok());
            // What is no name is nobody's site; the handler says so to those who may ask for any.
            let Some(name) = name else { return caller.check_farm().map(|()| None) };
            Some(name)
        }
        Subject::Job | Subject::Schedule | Subject::Window => {
            let is_change = need.right != Right::Look;
            if caller.scope().is_farm() && !is_change {
                return Ok(None);
            }
            let (id, name) = (asked.part("id").map(str::to_owned), asked.part("name").map(str::to_owned));
            let read = move |store: &mut Store| owner(store, need.subject, id.as_deref(), name.as_deref());
            match controller.store(read).await? {
                Owner::Site(site) => Some(site),
                Owner::Nobody => return Ok(None),
                Owner::Farm if is_change => return caller.check_farm().map(|()| None),
                Owner::Farm => return Ok(None),
            }
        }
    };
    match site {
        Some(site) => caller.check(&site).map(|()| Some(site)),
        None => Ok(None),
    }
}

/// Whose a job, a schedule or a window is.
#[derive(Debug)]
enum Owner {
    Site(Name),
    Farm,
    /// It is not there, as the handler will say.
    Nobody,
}

fn owner(store: &Store, of: Subject, id: Option<&str>, name: Option<&str>) -> Result<Owner, DbError> {
    let name = name.and_then(|name| Name::new(name).ok());
    Ok(match (of, id.and_then(|id| id.parse().ok()), name) {
        (Subject::Job, Some(id), _) => {
            store.run_of_job(JobId(id))?.map_or(Owner::Nobody, |run| Owner::Site(run.site))
        }
        (Subject::Schedule, _, Some(name)) => {
            store.schedule(&name)?.map_or(Owner::Nobody, |schedule| Owner::Site(schedule.site))
        }
        (Subject::Window, _, Some(name)) => {
            match store.windows()?.into_iter().find(|window| window.name == name) {
                Some(window) => window.site.map_or(Owner::Farm, Owner::Site),
                None => Owner::Nobody,
            }
        }
        _ => Owner::Nobody,
    })
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
