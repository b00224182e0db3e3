//! `/v1/notify`: who is notified, and how that goes.

use super::problem::Refusal;
use super::types::{NotifyTest, Receiver};
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::notify;
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;

/// Whom `ccm.toml` names.
pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Receiver>>, Refusal> {
    let receivers = controller.config.notify.clone();
    let read = move |store: &mut Store| {
        let view = |receiver: &notify::receiver::Receiver| {
            let standing = store.receiver(&receiver.name)?.unwrap_or_default();
            Ok(Receiver {
                name: receiver.name.clone(),
                to: receiver.shown(),
                events: receiver.events.clone(),
                waiting: store.waiting(standing.seen, |kind| receiver.wants(kind))?,
                tries: standing.tries,
                failure: standing.failure,
                delivered: standing.delivered,
                delivered_ns: standing.delivered_ns,
                dropped: standing.dropped,
            })
        };
        receivers.iter().map(view).collect::<Result<Vec<_>, DbError>>()
    };
    Ok(Json(controller.store(read).await?))
}

/// Tells a receiver of a test, once, and says how that went.
pub async fn test(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<NotifyTest>, Refusal> {
    let receiver = controller.config.notify.iter().find(|receiver| receiver.name == name);
    let receiver = receiver.ok_or_else(|| {
        Refusal::not_found(format!("ccm.toml names no receiver {name:?}; `farmcast notify list` has them"))
    })?;
    let (took, told) = notify::test(receiver).await;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(NotifyTest { name, ok: told.is_ok(), text: told.err().unwrap_or_default(), took_ms }))
}
