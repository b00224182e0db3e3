//! Who sends a request: a user of this machine, or the holder of a token.

use crate::ccm::access::{ApiToken, Grant, Origin, Void};
use crate::ccm::api::caller::Caller;
use crate::ccm::api::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::scheduler::timing::rfc3339;
use axum::http::{HeaderMap, Uri, header};

/// Somebody who is let in by nothing.
#[derive(Debug)]
pub struct Stranger {
    /// The name of a token that counts no more; empty where nobody knows.
    pub who: String,
    pub refusal: Refusal,
}

impl From<Refusal> for Stranger {
    fn from(refusal: Refusal) -> Self {
        Self { who: String::new(), refusal }
    }
}

/// # Errors
/// Nobody who counts.
pub async fn identify(
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
