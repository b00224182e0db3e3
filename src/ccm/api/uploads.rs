//! `/v1/sites/NAME/uploads`: what content creators send into staging (ST-1).

use super::problem::Refusal;
use super::sites::{no_site, site_name};
use super::types::{FinishUpload, NewUpload, Upload};
use crate::ccm::controller::{Controller, blocking};
use crate::ccm::uploads::piece::{self, Piece};
use crate::ccm::uploads::upload::{self, Kind};
use crate::ccm::uploads::{self, Announced, UploadError};
use crate::wire::assignment::RelPath;
use crate::wire::id::{Name, ObjectName};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;

/// Where the next piece begins, also in the answer to `HEAD`.
const OFFSET_HEADER: HeaderName = HeaderName::from_static("upload-offset");
/// Bytes that are gathered before they are written.
const GATHER: usize = 1 << 20;
/// A sender that says nothing for so long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest mark by which a sender knows an upload again.
const PRINT_MAX: usize = 128;

type Headed = ([(HeaderName, HeaderValue); 1], Json<Upload>);

/// Uploads of a site, the oldest first; how one ended is remembered for a day.
pub async fn list(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Upload>>, Refusal> {
    let name = site_name(&name)?;
    let key = name.clone();
    let read = move |store: &mut crate::ccm::db::Store| {
        let known = store.site(&key)?.is_some();
        Ok::<_, crate::ccm::db::DbError>(known.then_some(store.uploads(Some(&key))?))
    };
    let uploads = controller.store(read).await?.ok_or_else(|| no_site(&name))?;
    let views = move || uploads.iter().map(|upload| view(upload, uploads::held(upload))).collect();
    Ok(Json(blocking(views).await))
}

/// Begins an upload: then come its pieces, and its finish.
pub async fn begin(
    State(controller): State<Arc<Controller>>,
    Path(name): Path<String>,
    new: Result<Json<NewUpload>, JsonRejection>,
) -> Result<(StatusCode, Json<Upload>), Refusal> {
    let Json(new) = new?;
    let name = site_name(&name)?;
    let announced = read(&new)?;
    let upload = blocking(move || uploads::begin(&controller, &name, announced)).await?;
    Ok((StatusCode::CREATED, Json(view(&upload, 0))))
}

/// How far an upload is; `upload-offset` in the head says where the next piece begins.
pub async fn show(
    State(controller): State<Arc<Controller>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Headed, Refusal> {
    let (name, id) = (site_name(&name)?, number(&id)?);
    let (upload, have) = blocking(move || uploads::find(&controller, &name, id)).await?;
    Ok(headed(&upload, have))
}

#[derive(Debug, serde::Deserialize)]
pub struct Wish {
    /// Where the piece begins: as many bytes as are there.
    offset: u64,
}

/// Takes a piece. What of it came stays, also where the connection breaks.
pub async fn append(
    State(controller): State<Arc<Controller>>,
    Path((name, id)): Path<(String, String)>,
    Query(wish): Query<Wish>,
    body: Body,
) -> Result<Headed, Refusal> {
    let (name, id) = (site_name(&name)?, number(&id)?);
    let (upload, have) = receive(&controller, &name, id, wish.offset, body).await?;
    Ok(headed(&upload, have))
}

/// Checks what was sent and makes it staging at once; a second time it says how that ended.
pub async fn finish(
    State(controller): State<Arc<Controller>>,
    Path((name, id)): Path<(String, String)>,
    wish: Result<Json<FinishUpload>, JsonRejection>,
) -> Result<Json<Upload>, Refusal> {
    let Json(wish) = wish?;
    let (name, id, hash) = (site_name(&name)?, number(&id)?, hash(&wish.blake3)?);
    let (upload, have) = land(controller, name, id, hash).await?;
    Ok(Json(view(&upload, have)))
}

/// Ends an upload and removes what was sent.
pub async fn cancel(
    State(controller): State<Arc<Controller>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let (name, id) = (site_name(&name)?, number(&id)?);
    let work = move || {
        let _working = controller.uploads.work_on(id)?;
        uploads::cancel(&controller, &name, id)
    };
    blocking(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes what comes until it ends or breaks; the upload and how much of it is there.
pub(super) async fn receive(
    controller: &Arc<Controller>,
    name: &Name,
    id: u64,
    offset: u64,
    mut body: Body,
) -> Result<(upload::Upload, u64), Refusal> {
    let _working = controller.uploads.work_on(id)?;
    let (worker, site) = (Arc::clone(controller), name.clone());
    let mut piece = blocking(move || piece::open(&worker, &site, id, offset)).await?;
    let mut gathered = Vec::with_capacity(GATHER);
    let broken = loop {
        let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Ok(None) => break None,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => break Some(format!("the connection broke: {error}")),
            Err(_) => break Some(format!("nothing came for {} s", SILENCE_MAX.as_secs())),
        };
        gathered.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if gathered.len() >= GATHER {
            (piece, gathered) = write(controller, name, id, piece, gathered).await?;
        }
    };
    let (piece, _) = write(controller, name, id, piece, gathered).await?;
    let worker = Arc::clone(controller);
    let received = blocking(move || piece.end(&worker)).await?;
    match broken {
        None => Ok(received),
        Some(why) => {
            Err(Refusal::bad_request(format!("{why}; {} bytes are there: go on from there", received.1)))
        }
    }
}

/// Writes what was gathered; where that ends the upload, nothing of it stays.
async fn write(
    controller: &Arc<Controller>,
    name: &Name,
    id: u64,
    mut piece: Piece,
    mut gathered: Vec<u8>,
) -> Result<(Piece, Vec<u8>), Refusal> {
    let (worker, site) = (Arc::clone(controller), name.clone());
    let work = move || {
        let written = piece.write(&gathered);
        gathered.clear();
        match written {
            Ok(()) => Ok((piece, gathered)),
            Err(error) => {
                let (upload, _) = uploads::find(&worker, &site, id)?;
                Err(uploads::give_up(&worker, &upload, error)?)
            }
        }
    };
    Ok(blocking(work).await?)
}

/// Goes on to its end also where whoever asked has gone.
pub(super) async fn land(
    controller: Arc<Controller>,
    name: Name,
    id: u64,
    hash: Option<[u8; 32]>,
) -> Result<(upload::Upload, u64), Refusal> {
    let work = move || {
        let _working = controller.uploads.work_on(id)?;
        let upload = uploads::finish(&controller, &name, id, hash)?;
        let have = uploads::held(&upload);
        controller.wake.notify_one();
        Ok::<_, UploadError>((upload, have))
    };
    Ok(blocking(work).await?)
}

fn headed(upload: &upload::Upload, have: u64) -> Headed {
    ([(OFFSET_HEADER, HeaderValue::from(have))], Json(view(upload, have)))
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::not_found(format!("{text:?} is no number of an upload")))
}

/// What a request announces.
pub(super) fn read(new: &NewUpload) -> Result<Announced, Refusal> {
    let kind: Kind = new.kind.parse().map_err(|_| {
        Refusal::bad_request(format!(
            "{:?} is no kind of upload: `replace`, `merge` and `file` are",
            new.kind
        ))
    })?;
    let into = match new.into.trim_end_matches('/') {
        "" => None,
        text => Some(RelPath::new(text.as_bytes()).map_err(|_| {
            Refusal::bad_request(format!("{text:?} is no path below staging, as docs/index.html is"))
        })?),
    };
    match (kind, &into) {
        (Kind::Replace, Some(_)) => {
            let detail = "what replaces staging goes to no directory of it: `merge` does".to_owned();
            return Err(Refusal::bad_request(detail));
        }
        (Kind::File, None) => {
            return Err(Refusal::bad_request("say where the file goes below staging".to_owned()));
        }
        _ => {}
    }
    if new.print.len() > PRINT_MAX {
        return Err(Refusal::bad_request(format!("the print has more than {PRINT_MAX} bytes")));
    }
    Ok(Announced { kind, into, bytes: new.bytes, hash: hash(&new.blake3)?, print: new.print.clone() })
}

fn hash(text: &str) -> Result<Option<[u8; 32]>, Refusal> {
    match text {
        "" => Ok(None),
        text => match text.parse::<ObjectName>() {
            Ok(hash) => Ok(Some(hash.0)),
            Err(_) => Err(Refusal::bad_request(format!("{text:?} is no BLAKE3: 64 hexadecimal digits"))),
        },
    }
}

pub(super) fn view(upload: &upload::Upload, have: u64) -> Upload {
    Upload {
        schema: "farmcast.upload/1".to_owned(),
        id: upload.id,
        site: upload.site.to_string(),
        kind: upload.kind.to_string(),
        into: upload.into.as_ref().map_or_else(String::new, ToString::to_string),
        state: upload.state.to_string(),
        received: have,
        bytes: upload.bytes,
        print: upload.print.clone(),
        files: upload.landed.files,
        content_bytes: upload.landed.bytes,
        text: upload.text.clone(),
        created_ns: upload.created_ns,
        touched_ns: upload.touched_ns,
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        let detail = error.to_string();
        match error {
            UploadError::NoSite(_) | UploadError::Unknown { .. } => Self::not_found(detail),
            UploadError::Full(_) => Self::full(detail),
            UploadError::Busy(_)
            | UploadError::Over { .. }
            | UploadError::Offset { .. }
            | UploadError::Short { .. }
            | UploadError::Many(_)
            | UploadError::Place(_)
            | UploadError::Merge(_) => Self::conflict(detail),
            UploadError::Long(_)
            | UploadError::Limit(_)
            | UploadError::Hash { .. }
            | UploadError::Unpack(_) => Self::bad_request(detail),
            UploadError::Io { .. } => Self::internal(detail),
            UploadError::Db(error) => error.into(),
        }
    }
}
