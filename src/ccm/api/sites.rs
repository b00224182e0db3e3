//! `/v1/sites`

use super::problem::Refusal;
use super::types::{NewSite, Site};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::DbError;
use crate::ccm::model;
use crate::wire::id::Name;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;

pub async fn list(State(controller): State<Arc<Controller>>) -> Result<Json<Vec<Site>>, Refusal> {
    let sites = controller.store(|store| store.sites()).await?;
    Ok(Json(sites.iter().map(view).collect()))
}

pub async fn add(
    State(controller): State<Arc<Controller>>,
    new: Result<Json<NewSite>, JsonRejection>,
) -> Result<(StatusCode, Json<Site>), Refusal> {
    let Json(new) = new?;
    let name = site_name(&new.name)?;
    let staging = PathBuf::from(&new.staging);
    if !staging.is_absolute() {
        let detail = format!("staging {:?} is no absolute path; give the whole path", new.staging);
        return Err(Refusal::bad_request(detail));
    }
    match tokio::fs::metadata(&staging).await {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Refusal::bad_request(format!("staging {} is no directory", new.staging))),
        Err(error) => {
            let detail = format!("staging {}: {error}; make the directory first", new.staging);
            return Err(Refusal::bad_request(detail));
        }
    }
    let key = name.clone();
    let work = move |store: &mut crate::ccm::db::Store| {
        let added = store.add_site(&key, &staging, now_ns())?;
        Ok::<_, DbError>((added, store.site(&key)?))
    };
    match controller.store(work).await? {
        (true, Some(site)) => Ok((StatusCode::CREATED, Json(view(&site)))),
        (_, Some(site)) => {
            let staging = site.staging.display();
            Err(Refusal::conflict(format!("site {name} exists; it is published from {staging}")))
        }
        (_, None) => Err(Refusal::internal(format!("site {name} was added and is gone"))),
    }
}

/// A name that stands in a request.
pub fn site_name(text: &str) -> Result<Name, Refusal> {
    checked_name(text, "site")
}

pub fn checked_name(text: &str, what: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|_| {
        let max = Name::MAX;
        Refusal::bad_request(format!(
            "{text:?} is no name of a {what}: 1 to {max} of a-z A-Z 0-9 . _ - are, not beginning with a dot"
        ))
    })
}

pub fn view(site: &model::Site) -> Site {
    Site {
        name: site.name.to_string(),
        staging: site.staging.display().to_string(),
        version: site.version.map_or(0, |version| version.0),
        files: site.files,
        bytes: site.bytes,
    }
}
