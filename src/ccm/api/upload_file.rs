//! `PUT /v1/sites/NAME/uploads/file?path=PATH`: one file, in one request.

use super::problem::Refusal;
use super::sites::site_name;
use super::types::{NewUpload, Upload};
use super::uploads::{land, read, receive, view};
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::uploads::{self, UploadError};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use std::sync::Arc;

#[derive(Debug, serde::Deserialize)]
pub struct Wish {
    /// Where the file goes, below staging.
    path: String,
    /// BLAKE3 of the file, in hexadecimal digits.
    blake3: Option<String>,
}

/// Puts one file into staging, whole or not at all.
pub async fn put(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Upload>, Refusal> {
    let name = site_name(&name)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced = read(&NewUpload {
        kind: "file".to_owned(),
        into: wish.path,
        bytes: length,
        blake3: wish.blake3.unwrap_or_default(),
        print: String::new(),
    })?;
    let (worker, site) = (Arc::clone(&controller), name.clone());
    let id = blocking(move || uploads::begin(&worker, &site, announced)).await?.id;
    let done = match receive(&controller, &name, id, 0, body).await {
        Ok(_) => land(Arc::clone(&controller), name.clone(), id, None).await,
        Err(refusal) => Err(refusal),
    };
    if done.is_err() {
        // Whoever sends a file in one request does not go on with it. Most errors have ended it already.
        let cancel = move || {
            let _working = controller.uploads.work_on(id)?;
            uploads::cancel(&controller, &name, id)
        };
        match blocking(cancel).await {
            Ok(()) | Err(UploadError::Over { .. }) => {}
            Err(error) => log::warn!("upload {id}: {error}"),
        }
    }
    let (upload, have) = done?;
    Ok(Json(view(&upload, have)))
}
