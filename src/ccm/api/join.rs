//! `POST /v1/join`: a sealed request in, a sealed reply out.

use super::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::intake::{JoinRefused, take_join};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub async fn take(
    State(controller): State<Arc<Controller>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body?;
    let keys = Arc::clone(&controller);
    let reply = controller.store(move |store| take_join(store, &keys.keys, &body, now_ns())).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], reply).into_response())
}

impl From<JoinRefused> for Refusal {
    fn from(refused: JoinRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            JoinRefused::Malformed(_) => Self::bad_request(detail),
            JoinRefused::NoToken | JoinRefused::OtherName(_) => Self::denied(detail),
            JoinRefused::Used | JoinRefused::NameTaken(_) => Self::conflict(detail),
            JoinRefused::Db(error) => error.into(),
        }
    }
}
