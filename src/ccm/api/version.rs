//! `GET /v1/version`

use super::types::Version;
use axum::Json;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Set by the build script where it knows the revision.
pub const REVISION: &str = match option_env!("FARMCAST_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

pub async fn show() -> Json<Version> {
    Json(Version {
        schema: "farmcast.version/1".to_owned(),
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        api: "v1".to_owned(),
    })
}
