//! `POST /v1/invites`

use super::problem::Refusal;
use super::types::{Invite, NewInvite};
use crate::ccm::clock::{NS_PER_S, now_ns};
use crate::ccm::controller::Controller;
use crate::wire::id::Name;
use crate::wire::join::Token;
use crate::wire::seal::random;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use std::sync::Arc;

const EXPIRES_DEFAULT_S: u64 = 3_600;
const EXPIRES_MAX_S: u64 = 30 * 24 * 3_600;

pub async fn add(
    State(controller): State<Arc<Controller>>,
    new: Result<Json<NewInvite>, JsonRejection>,
) -> Result<(StatusCode, Json<Invite>), Refusal> {
    let Json(new) = new?;
    let node = match new.node.as_str() {
        "" => None,
        name => Some(Name::new(name).map_err(|_| {
            let max = Name::MAX;
            Refusal::bad_request(format!(
                "{name:?} is no name of a node: 1 to {max} of a-z A-Z 0-9 . _ - are"
            ))
        })?),
    };
    let expires_s = match new.expires_s {
        0 => EXPIRES_DEFAULT_S,
        1..=EXPIRES_MAX_S => new.expires_s,
        _ => {
            let detail = format!("expires_s {}: a token lives at most {EXPIRES_MAX_S} s", new.expires_s);
            return Err(Refusal::bad_request(detail));
        }
    };
    let token = Token::new(random());
    let expires_ns = now_ns() + expires_s * NS_PER_S;
    controller.store(move |store| store.add_invite(&token, node.as_ref(), new.can_lead, expires_ns)).await?;
    let ccm = controller.reachable_at.to_string();
    let command = format!("farmcastd join --ccm {ccm} --token {token}");
    Ok((StatusCode::CREATED, Json(Invite { token: token.to_string(), ccm, command })))
}
