//! `/v1/sites/NAME/diff`

use super::problem::Refusal;
use super::sites::{no_site, site_name};
use super::types::SiteDiff;
use crate::ccm::compare::compare;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::staging::Shadow;
use axum::Json;
use axum::extract::{Path, Query, State};
use std::sync::Arc;

#[derive(Debug, serde::Deserialize)]
pub struct Wish {
    /// Show the text of files.
    #[serde(default)]
    patch: bool,
}

/// What a publish would change now. Writes nothing and takes no number.
pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Json<SiteDiff>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    let Some(site) = controller.store(move |store| store.site(&key)).await? else {
        return Err(no_site(&name));
    };
    let live = Shadow::live_of(&controller.config, &name);
    let gates = Arc::clone(&controller);
    let compared =
        blocking(move || gates.uploads.gates.reading(&site.staging, || compare(&site, &live, wish.patch)));
    let compared = compared.await;
    compared.map(Json).map_err(|error| Refusal::conflict(format!("cannot compare site {name}: {error}")))
}
