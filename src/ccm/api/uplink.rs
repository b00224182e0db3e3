//! `POST /v1/uplink`: signed requests of nodes, most of them leaders. A request for the next leader is answered
//! with `NextReply` bytes, one for the peers of a segment with a signed `Peers`, a report on a segment with the
//! list of its content groups where the leader has an older one, all others with 204 (SR-13).

use super::problem::Refusal;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::intake::{Taken, UplinkRefused, take_uplink};
use crate::ccm::issue::{IssueError, refresh};
use crate::wire::id::{ListNumber, Name};
use crate::wire::notify::Uplink;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;

/// Time in which a request must be here whole.
const READ_MAX: Duration = Duration::from_secs(30);

pub async fn take(State(controller): State<Arc<Controller>>, body: Body) -> Result<Response, Refusal> {
    let body = match tokio::time::timeout(READ_MAX, read(&controller, body)).await {
        Ok(body) => body?,
        Err(_) => {
            let detail = format!("the request did not arrive within {} s", READ_MAX.as_secs());
            return Err(Refusal::bad_request(detail));
        }
    };
    let taken = controller.store(move |store| take_uplink(store, &body, now_ns())).await?;
    let response = match taken {
        Taken::Written => StatusCode::NO_CONTENT.into_response(),
        Taken::Segment { segment, by_unicast, groups } => {
            let number = by_unicast.len();
            if controller.reach().on_report(&segment, by_unicast) {
                log::warn!(
                    "segment {segment}: its leader's multicast does not reach {number} of its members"
                );
            }
            match newer_list(&controller, segment, groups).await? {
                Some(list) => bytes(list),
                None => StatusCode::NO_CONTENT.into_response(),
            }
        }
        Taken::Seek(asker, seek) => bytes(controller.peers(asker, &seek, now_ns()).await?),
        Taken::Next(asker, request) => bytes(controller.next(asker, &request, now_ns()).encode()),
    };
    controller.wake.notify_one();
    Ok(response)
}

fn bytes(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// The list that a segment is to go by, where its leader has an older one. What stands against a list does
/// not stand against the report, which was taken.
async fn newer_list(
    controller: &Arc<Controller>,
    segment: Name,
    known: ListNumber,
) -> Result<Option<Vec<u8>>, Refusal> {
    let worker = Arc::clone(controller);
    match controller.store(move |store| refresh(store, worker.issuer(), &segment)).await {
        Ok(issued) => Ok(issued.filter(|issued| issued.number > known).map(|issued| issued.document)),
        Err(IssueError::Db(error)) => Err(error.into()),
        Err(error) => {
            // A run that needs it fails with the same words.
            log::debug!("{error}");
            Ok(None)
        }
    }
}

/// Reads on past the first bytes only where they name a node of the farm: what strangers send is not kept.
async fn read(controller: &Controller, mut body: Body) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut known = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad_request(format!("the request broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > Uplink::MAX {
            let detail = format!("the request is longer than {} bytes", Uplink::MAX);
            return Err(Refusal::bad_request(detail));
        }
        bytes.extend_from_slice(&data);
        if !known && let Ok(sender) = Uplink::claimed_sender(&bytes) {
            let node = controller.store(move |store| store.node(sender)).await?;
            node.ok_or(UplinkRefused::Stranger(sender))?;
            known = true;
        }
    }
    Ok(bytes)
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
