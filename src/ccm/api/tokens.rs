//! `/v1/tokens`: by which the API is used from afar.

use super::caller::Caller;
use super::problem::Refusal;
use super::sites::{checked_name, site_name};
use super::types::{MadeToken, NewToken, Token};
use crate::ccm::access::{ApiToken, Grant, NoRole, Scope, Void};
use crate::ccm::clock::{NS_PER_S, now_ns};
use crate::ccm::controller::Controller;
use crate::ccm::db::{KnownToken, TokenRefused};
use crate::wire::id::Name;
use crate::wire::seal::random;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::collections::BTreeSet;
use std::sync::Arc;

const DAY_S: u64 = 24 * 3_600;
const EXPIRES_DEFAULT_S: u64 = 90 * DAY_S;
const EXPIRES_MAX_S: u64 = 3_650 * DAY_S;
/// Sites that one token can name.
const SITES_MAX: usize = 100;

/// All that were made, by name; those that count no more as well, until others take their place.
pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Token>>, Refusal> {
    let tokens = controller.store(|store| store.tokens()).await?;
    let now = now_ns();
    Ok(Json(tokens.iter().map(|token| view(token, now)).collect()))
}

/// Makes a token. Its secret is in this answer and nowhere else.
pub async fn create(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    new: Result<Json<NewToken>, JsonRejection>,
) -> Result<(StatusCode, Json<MadeToken>), Refusal> {
    let Json(new) = new?;
    let now = now_ns();
    let grant = read(&new, now)?;
    caller.note(format!("{}: {} of {}", grant.name, grant.role.word(), grant.scope));
    let secret = ApiToken::new(random());
    let known =
        KnownToken { grant: grant.clone(), created_ns: now, created_by: caller.who().to_owned(), used_ns: 0 };
    let (kept, by) = (secret.clone(), caller.who().to_owned());
    controller.store(move |store| store.add_token(&kept, &grant, &by, now)).await??;
    let schema = "farmcast.made-token/1".to_owned();
    Ok((
        StatusCode::CREATED,
        Json(MadeToken { schema, secret: secret.to_string(), token: view(&known, now) }),
    ))
}

/// From now on the token lets nobody in.
pub async fn revoke(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = checked_name(&name, "token")?;
    let (key, by) = (name.clone(), caller.who().to_owned());
    match controller.store(move |store| store.revoke_token(&key, &by, now_ns())).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let detail = format!("there is no token {name} that counts; `farmcast token list` has them");
            Err(Refusal::not_found(detail))
        }
    }
}

fn read(new: &NewToken, now_ns: u64) -> Result<Grant, Refusal> {
    let bad = Refusal::bad_request;
    if new.sites.len() > SITES_MAX {
        return Err(bad(format!("a token is for {SITES_MAX} sites at most, or for the whole farm")));
    }
    let sites = new.sites.iter().map(|site| site_name(site)).collect::<Result<BTreeSet<Name>, _>>()?;
    let expires_s = match new.expires_s {
        0 => EXPIRES_DEFAULT_S,
        1..=EXPIRES_MAX_S => new.expires_s,
        _ => {
            return Err(bad(format!("expires_s {}: a token lives at most {EXPIRES_MAX_S} s", new.expires_s)));
        }
    };
    Ok(Grant {
        name: checked_name(&new.name, "token")?,
        role: new.role.parse().map_err(|error: NoRole| bad(error.to_string()))?,
        scope: if sites.is_empty() { Scope::Farm } else { Scope::Sites(sites) },
        expires_ns: now_ns.saturating_add(expires_s * NS_PER_S),
        revoked: false,
    })
}

impl From<TokenRefused> for Refusal {
    fn from(refused: TokenRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            TokenRefused::NoSite(_) => Self::not_found(detail),
            TokenRefused::Exists(_) | TokenRefused::Full => Self::conflict(detail),
        }
    }
}

fn view(token: &KnownToken, now_ns: u64) -> Token {
    let grant = &token.grant;
    let state = match grant.check(now_ns) {
        Ok(()) => "valid",
        Err(Void::Expired { .. }) => "expired",
        Err(Void::Revoked) => "revoked",
    };
    Token {
        name: grant.name.to_string(),
        role: grant.role.word().to_owned(),
        sites: match &grant.scope {
            Scope::Farm => Vec::new(),
            Scope::Sites(sites) => sites.iter().map(ToString::to_string).collect(),
        },
        state: state.to_owned(),
        expires_ns: grant.expires_ns,
        created_ns: token.created_ns,
        created_by: token.created_by.clone(),
        used_ns: token.used_ns,
    }
}
