//! `/v1/sites/NAME/checkpoints`

use super::problem::Refusal;
use super::sites::{no_site, site_name};
use super::types::{Checkpoint, CheckpointFlaw, CheckpointReport};
use crate::ccm::checkpoints::examine;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{DbError, Store};
use crate::ccm::model;
use crate::content::checkpoint::FlawedFile;
use crate::wire::id::{Name, hex};
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;

/// All that are kept, the newest first (VC-7).
pub async fn list(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Checkpoint>>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    let read = move |store: &mut Store| {
        Ok::<_, DbError>(store.site(&key)?.is_some().then_some(store.checkpoints(&key)?))
    };
    let Some(checkpoints) = controller.store(read).await? else { return Err(no_site(&name)) };
    Ok(Json(checkpoints.iter().map(view).collect()))
}

/// Reads all of a checkpoint, and names what of it cannot be brought back.
pub async fn verify(
    State(controller): State<Arc<Controller>>,
    Path((name, number)): Path<(String, String)>,
) -> Result<Json<CheckpointReport>, Refusal> {
    let name = site_name(&name)?;
    let none = || no_checkpoint(&name, &number);
    let asked: u64 = number.parse().map_err(|_| none())?;
    let key = name.clone();
    let found = controller.store(move |store| store.checkpoint(&key, asked)).await?;
    let checkpoint = found.ok_or_else(none)?;
    let shown = view(&checkpoint);
    let worker = Arc::clone(&controller);
    let examined = blocking(move || examine(&worker, &checkpoint)).await?.ok_or_else(none)?;
    let schema = "farmcast.checkpoint-report/1".to_owned();
    Ok(Json(match examined {
        Ok(examined) => CheckpointReport {
            schema,
            checkpoint: shown,
            files: examined.files,
            chunks: examined.pieces,
            flaws: examined.flaws.iter().map(flaw).collect(),
            more: examined.flawed - examined.flaws.len() as u64,
            problem: String::new(),
        },
        Err(error) => CheckpointReport {
            schema,
            checkpoint: shown,
            files: 0,
            chunks: 0,
            flaws: Vec::new(),
            more: 0,
            problem: error.to_string(),
        },
    }))
}

/// A checkpoint of a request is not there.
pub(super) fn no_checkpoint(site: &Name, number: &str) -> Refusal {
    Refusal::not_found(format!("{site} has no checkpoint {number}; `farmcast version list {site}` has them"))
}

fn view(checkpoint: &model::Checkpoint) -> Checkpoint {
    Checkpoint {
        number: checkpoint.key.number,
        name: checkpoint.title.as_ref().map_or_else(String::new, Name::to_string),
        version: checkpoint.version.0,
        created_ns: checkpoint.created_ns,
        files: checkpoint.files,
        bytes: checkpoint.bytes,
        stored_bytes: checkpoint.stored_bytes,
    }
}

fn flaw(of: &FlawedFile) -> CheckpointFlaw {
    CheckpointFlaw { path: of.path.to_string(), chunk: hex(&of.chunk), flaw: of.flaw.to_string() }
}
