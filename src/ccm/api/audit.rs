//! `GET /v1/audit`: who changed what, and who was refused.

use super::page::Back;
use super::problem::Refusal;
use super::types::AuditEntry;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{AuditLine, Store};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use std::sync::Arc;
use std::time::Duration;

/// How often what is counted together comes onto its line.
const SETTLE_EVERY: Duration = Duration::from_secs(10);

/// The newest first.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    page: Result<Query<Back>, QueryRejection>,
) -> Result<Json<Vec<AuditEntry>>, Refusal> {
    let Query(page) = page?;
    let (before, limit) = (page.before, page.limit()?);
    let read = move |store: &mut Store| {
        store.settle_tally(now_ns())?;
        store.audit(before, limit)
    };
    let lines = controller.store(read).await?;
    Ok(Json(lines.into_iter().map(view).collect()))
}

/// Keeps the counts of the audit no further behind than some seconds, until the runtime ends.
pub async fn settle(controller: Arc<Controller>) {
    loop {
        tokio::time::sleep(SETTLE_EVERY).await;
        if let Err(error) = controller.store(|store| store.settle_tally(now_ns())).await {
            log::error!("audit: {error}");
        }
    }
}

fn view(line: AuditLine) -> AuditEntry {
    let AuditLine { id, at_ns, act, count, last_ns } = line;
    AuditEntry {
        id,
        at_ns,
        who: act.who,
        origin: act.origin,
        method: act.method,
        route: act.route,
        site: act.site,
        detail: act.detail,
        status: act.status,
        refused: act.refused,
        count,
        last_ns,
    }
}
