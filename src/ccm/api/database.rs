//! `/v1/database`

use super::problem::Refusal;
use super::types::{Backup, Database, NewBackup, Series, Table};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::db::{self, DbError, Inspection};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the database is, checked as far as ten seconds reach (DB-1).
pub async fn show(State(controller): State<Arc<Controller>>) -> Result<Json<Database>, Refusal> {
    let path = controller.config.database();
    let file = path.clone();
    let found = blocking(move || db::inspect(&path)).await?;
    Ok(Json(view(&file, found)))
}

/// Writes a copy of the database as it is at one instant; all goes on meanwhile.
pub async fn backup(
    State(controller): State<Arc<Controller>>,
    wish: Result<Json<NewBackup>, JsonRejection>,
) -> Result<Json<Backup>, Refusal> {
    let Json(NewBackup { file }) = wish?;
    let to = PathBuf::from(&file);
    if !to.is_absolute() || to.file_name().is_none() {
        return Err(Refusal::bad_request(format!("{file:?} is no absolute path of a file")));
    }
    let from = controller.config.database();
    let bytes = blocking(move || db::backup(&from, &to)).await?;
    log::info!("database: backup of {bytes} bytes to {file}");
    let text = format!("backup of {bytes} bytes to {file}");
    controller.store(move |store| store.record_event("database", &text, now_ns())).await?;
    Ok(Json(Backup { schema: "farmcast.backup/1".to_owned(), file, bytes }))
}

/// How any database is, for people.
///
/// # Errors
/// It cannot be opened or read.
pub fn look(path: &Path) -> Result<Database, DbError> {
    db::inspect(path).map(|found| view(path, found))
}

fn view(path: &Path, found: Inspection) -> Database {
    Database {
        schema: "farmcast.database/1".to_owned(),
        file: path.display().to_string(),
        version: found.version,
        program_version: found.known,
        bytes: found.bytes,
        log_bytes: found.log_bytes,
        free_bytes: found.free_bytes,
        integrity: found.integrity.unwrap_or_else(|| "unfinished".to_owned()),
        tables: found.tables.into_iter().map(|(name, rows)| Table { name, rows }).collect(),
        numbers: found.series.into_iter().map(|(name, last)| Series { name, last }).collect(),
    }
}
