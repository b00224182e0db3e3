//! `/v1/sites/NAME/versions`

use super::problem::Refusal;
use super::sites::{no_site, site_name};
use super::types::SiteVersion;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{DbError, Store};
use crate::ccm::model::Snapshot;
use crate::ccm::staging::Shadow;
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;

/// All that were ever live, the newest first (VC-4, VC-11).
pub async fn list(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<SiteVersion>>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    let read = move |store: &mut Store| {
        Ok::<_, DbError>((store.site(&key)?, store.snapshots(&key)?, store.checkpoints(&key)?))
    };
    let (Some(site), snapshots, checkpoints) = controller.store(read).await? else {
        return Err(no_site(&name));
    };
    let worker = Arc::clone(&controller);
    let kept = blocking(move || Shadow::kept(&worker.config, &name)).await;
    let kept = kept.map_err(|error| Refusal::internal(format!("the shadow of {}: {error}", site.name)))?;
    let view = |snapshot: Snapshot| SiteVersion {
        version: snapshot.version.0,
        committed_ns: snapshot.committed_ns,
        live: site.version == Some(snapshot.version),
        kept: kept.contains(&snapshot.version),
        details: snapshot.details,
        checkpoints: {
            let of = checkpoints.iter().filter(|checkpoint| checkpoint.version == snapshot.version);
            of.map(|checkpoint| checkpoint.key.number).collect()
        },
    };
    Ok(Json(snapshots.into_iter().map(view).collect()))
}
