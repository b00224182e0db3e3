//! `/v1/nodes/NAME/verify`

use super::problem::Refusal;
use super::sites::{checked_name, no_site, site_name};
use super::types::{NodeFlaw, NodeReport, VerifyNode};
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, Store};
use crate::ccm::scrub::{ScrubFailed, scrub};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use std::sync::Arc;

/// Has a node compare all that it has live of a site with what was signed; answers when it has.
pub async fn verify(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    wish: Result<Json<VerifyNode>, JsonRejection>,
) -> Result<Json<NodeReport>, Refusal> {
    let Json(VerifyNode { site, doubt }) = wish?;
    let (name, site) = (checked_name(&name, "node")?, site_name(&site)?);
    let key = site.clone();
    let read = move |store: &mut Store| Ok::<_, DbError>((store.site(&key)?.is_some(), store.nodes()?));
    let (known, nodes) = controller.store(read).await?;
    if !known {
        return Err(no_site(&site));
    }
    let Some(node) = nodes.iter().find(|node| node.name == name) else {
        return Err(Refusal::not_found(format!("there is no node {name}; `farmcast node list` names all")));
    };
    let scrubbed = scrub(&controller, node, &site, doubt).await.map_err(|error| match error {
        ScrubFailed::NotThere(..) => Refusal::not_found(error.to_string()),
        _ => Refusal::conflict(error.to_string()),
    })?;
    let named = scrubbed.found.len() as u64;
    let flaw = |(path, flaw): (String, _)| NodeFlaw { path, what: format!("{flaw}") };
    Ok(Json(NodeReport {
        schema: "farmcast.node-report/1".to_owned(),
        node: name.to_string(),
        site: site.to_string(),
        version: scrubbed.version,
        entries: scrubbed.entries,
        bytes: scrubbed.bytes,
        flaws: scrubbed.found.into_iter().map(flaw).collect(),
        more: scrubbed.flaws.saturating_sub(named),
        problem: scrubbed.problem,
    }))
}
