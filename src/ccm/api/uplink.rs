//! `POST /v1/uplink`: signed requests of leaders. A request for the next leader is answered with
//! `NextReply` bytes, the others with 204.

use super::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::intake::{Taken, UplinkRefused, take_uplink};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub async fn take(
    State(controller): State<Arc<Controller>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body?;
    let taken = controller.store(move |store| take_uplink(store, &body, now_ns())).await?;
    let response = match taken {
        Taken::Written => StatusCode::NO_CONTENT.into_response(),
        Taken::Next(asker, request) => {
            let reply = controller.next(asker, &request, now_ns()).encode();
            ([(header::CONTENT_TYPE, "application/octet-stream")], reply).into_response()
        }
    };
    controller.wake.notify_one();
    Ok(response)
}

impl From<UplinkRefused> for Refusal {
    fn from(refused: UplinkRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            UplinkRefused::Malformed(_) => Self::bad_request(detail),
            UplinkRefused::Stranger(_) | UplinkRefused::Forged(_) | UplinkRefused::MayNotLead(_) => {
                Self::denied(detail)
            }
            UplinkRefused::Replayed(_) | UplinkRefused::Report(_) => Self::conflict(detail),
            UplinkRefused::Db(error) => error.into(),
        }
    }
}
