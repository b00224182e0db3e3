//! `/v1/sites`

use super::caller::Caller;
use super::groups::group_name;
use super::problem::Refusal;
use super::types::{Filter, NewSite, Site, SiteGroup};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::ccm::db::{DbError, GroupRefused, Store};
use crate::ccm::filter::Picker;
use crate::ccm::model;
use crate::wire::id::Name;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;

/// Those that the caller may have to do with.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    caller: Caller,
) -> Result<Json<Vec<Site>>, Refusal> {
    let sites = controller.store(|store| store.sites()).await?;
    Ok(Json(sites.iter().filter(|site| caller.sees(&site.name)).map(view).collect()))
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
    checked(&new.filter)?;
    let (key, filter) = (name.clone(), new.filter);
    let work = move |store: &mut Store| {
        if store.groups()?.iter().any(|group| group.name == key && !group.is_default()) {
            return Ok(None);
        }
        let added = store.add_site(&key, &staging, now_ns())?;
        if added {
            store.set_site_filter(&key, &filter, now_ns())?;
        }
        Ok::<_, DbError>(Some((added, store.site(&key)?)))
    };
    match controller.store(work).await? {
        None => Err(Refusal::conflict(format!(
            "there is a group {name}, and a site's default group has the site's name: choose another name"
        ))),
        Some((true, Some(site))) => Ok((StatusCode::CREATED, Json(view(&site)))),
        Some((_, Some(site))) => {
            let staging = site.staging.display();
            Err(Refusal::conflict(format!("site {name} exists; it is published from {staging}")))
        }
        Some((_, None)) => Err(Refusal::internal(format!("site {name} was added and is gone"))),
    }
}

/// Which group serves the site from the next run on.
pub async fn set_group(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    wish: Result<Json<SiteGroup>, JsonRejection>,
) -> Result<Json<Site>, Refusal> {
    let Json(wish) = wish?;
    let name = site_name(&name)?;
    // The default group is called as the site is.
    let group = match wish.group.as_str() {
        "" => None,
        group => Some(group_name(group)?).filter(|group| *group != name),
    };
    let key = name.clone();
    let work = move |store: &mut Store| {
        Ok::<_, DbError>(match store.set_site_group(&key, group.as_ref(), now_ns())? {
            Ok(()) => store.site(&key)?.ok_or(GroupRefused::NoSite(key)),
            Err(refused) => Err(refused),
        })
    };
    Ok(Json(view(&controller.store(work).await??)))
}

/// What of its staging is picked up from the next publish on; in place of what was.
pub async fn set_filter(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    wish: Result<Json<Filter>, JsonRejection>,
) -> Result<Json<Site>, Refusal> {
    let Json(filter) = wish?;
    let name = site_name(&name)?;
    checked(&filter)?;
    let key = name.clone();
    let work = move |store: &mut Store| {
        store.set_site_filter(&key, &filter, now_ns())?;
        store.site(&key)
    };
    controller.store(work).await?.map(|site| Json(view(&site))).ok_or_else(|| no_site(&name))
}

/// One site.
pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Site>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    controller
        .store(move |store| store.site(&key))
        .await?
        .map(|site| Json(view(&site)))
        .ok_or_else(|| no_site(&name))
}

/// The site of a request is not there.
pub(super) fn no_site(name: &Name) -> Refusal {
    Refusal::not_found(format!(
        "there is no site {name}; `farmcast site list` has them, `farmcast site add {name} --staging DIR` adds it"
    ))
}

fn checked(filter: &Filter) -> Result<(), Refusal> {
    Picker::new(filter).map(drop).map_err(|error| Refusal::bad_request(error.to_string()))
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
        group: site.group.to_string(),
        filter: site.filter.clone(),
    }
}
