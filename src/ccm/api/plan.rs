//! `/v1/sites/NAME/plan`

use super::problem::Refusal;
use super::sites::{no_site, site_name};
use super::types::Plan;
use crate::ccm::clock::now_ns;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::forecast;
use crate::ccm::staging::Shadow;
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;

/// What a publish would do now. Writes nothing, sends nothing, takes no number.
pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Plan>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    let Some(picture) = controller.store(move |store| forecast::read(store, &key, now_ns())).await? else {
        return Err(no_site(&name));
    };
    let live = Shadow::live_of(&controller.config, &name);
    let gates = Arc::clone(&controller);
    let plan = blocking(move || {
        gates.uploads.gates.reading(&picture.site.staging, || forecast::forecast(&picture, &live))
    });
    let plan = plan.await;
    plan.map(Json).map_err(|error| Refusal::conflict(format!("cannot compare site {name}: {error}")))
}
