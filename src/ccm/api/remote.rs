//! `GET /v1/remote`: the API over TLS.

use super::problem::Refusal;
use super::types::Remote;
use crate::ccm::controller::Controller;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where it is reached, what clients pin, and what was refused there.
pub async fn show(State(controller): State<Arc<Controller>>) -> Result<Json<Remote>, Refusal> {
    let remote = &controller.remote;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (address, fingerprint) = match remote.door.get() {
        Some((address, pin)) => (address.to_string(), pin.to_string()),
        None => (String::new(), String::new()),
    };
    Ok(Json(Remote {
        schema: "farmcast.remote/1".to_owned(),
        address,
        fingerprint,
        connections: count(&remote.open),
        handshakes_failed: count(&remote.handshakes_failed),
        turned_away: count(&remote.turned_away),
        refused: count(&remote.refused),
    }))
}
