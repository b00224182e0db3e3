//! Uploads: what content creators send becomes staging, whole or not at all (ST-1, ST-2).
//!
//! ```text
//! open --(pieces)--> open --(finish)--> landing --> done
//!   \                  \                   \-----> failed
//!    +-> failed         +-> failed
//! ```
//! What comes lies beside the staging directory, on its file system, in `.farmcast-upload.SITE/ID/`: `spool`, the
//! bytes as they came; `tree`, what they stand for. When that is complete, checked and on the disk, the upload is
//! *landing*, which is written down: a controller that is killed from then on lands it at its next start. A replace
//! is one exchange of the two directories; who was killed knows by the inode whether it was before or behind it. A
//! merge is one rename for each file, and what is done is gone from `tree`. Nothing of ours reads staging meanwhile
//! (`gates`).

mod archive;
mod failure;
pub mod gates;
mod merge;
pub mod piece;
mod place;
mod unpack;
pub mod upload;

#[cfg(test)]
mod tests;

use super::clock::{NS_PER_S, now_ns};
use super::controller::{Controller, blocking};
use super::db::DbError;
use super::policy::Rules;
use crate::wire::assignment::RelPath;
use crate::wire::id::Name;
pub use failure::UploadError;
use failure::is_full;
use gates::Gates;
use merge::MergeError;
use place::Place;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use upload::{Kind, Landed, NewUpload, State, Upload};

/// Uploads of a site that can be open at a time.
const OPEN_MAX: usize = 16;
/// An upload on which nobody works for so long is abandoned; how one ended is remembered as long.
const ABANDONED_NS: u64 = 24 * 3_600 * NS_PER_S;

const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What the controller holds of uploads beside the database.
#[derive(Debug, Default)]
pub struct Uploads {
    pub gates: Gates,
    /// Those on which somebody works.
    busy: Mutex<BTreeSet<u64>>,
}

/// Somebody works on an upload, until this is dropped.
#[derive(Debug)]
pub struct Working<'a> {
    uploads: &'a Uploads,
    id: u64,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.uploads.busy().remove(&self.id);
    }
}

impl Uploads {
    fn busy(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an upload to work on it.
    ///
    /// # Errors
    /// Somebody else does.
    pub fn work_on(&self, id: u64) -> Result<Working<'_>, UploadError> {
        match self.busy().insert(id) {
            true => Ok(Working { uploads: self, id }),
            false => Err(UploadError::Busy(id)),
        }
    }
}

/// What a sender announces.
#[derive(Debug)]
pub struct Announced {
    pub kind: Kind,
    pub into: Option<RelPath>,
    pub bytes: Option<u64>,
    pub hash: Option<[u8; 32]>,
    pub print: String,
}

/// Begins an upload and makes the place for it. Blocks.
///
/// # Errors
/// No such site, limits, and a staging directory beside which there can be no place.
pub fn begin(controller: &Controller, site: &Name, announced: Announced) -> Result<Upload, UploadError> {
    let read = |store: &mut super::db::Store| Ok((store.sites()?, store.uploads(Some(site))?));
    let (sites, uploads) = controller.store_blocking(read)?;
    let own = sites.iter().find(|known| known.name == *site);
    let staging = own.ok_or_else(|| UploadError::NoSite(site.clone()))?.staging.clone();
    if uploads.iter().filter(|upload| upload.state == State::Open).count() >= OPEN_MAX {
        return Err(UploadError::Many(site.clone()));
    }
    let limit = rules(controller, site)?.upload_bytes;
    if announced.bytes.is_some_and(|bytes| bytes > limit) {
        return Err(UploadError::Limit(limit));
    }
    let staging = place::checked(site, &staging, &sites)?;
    place::make_room(&staging, announced.bytes.unwrap_or(0))?;
    let Announced { kind, into, bytes, hash, print } = announced;
    let new = NewUpload { site: site.clone(), kind, into, staging, bytes, hash, print };
    let upload = controller.store_blocking(|store| store.add_upload(&new, now_ns()))?;
    if let Err(error) = Place::of(&upload).make() {
        end(controller, &upload, State::Failed, &error.to_string())?;
        return Err(error);
    }
    log::info!("site {site}: upload {} begins ({})", upload.id, upload.kind);
    Ok(upload)
}

fn rules(controller: &Controller, site: &Name) -> Result<Rules, UploadError> {
    let policy = controller.store_blocking(|store| store.site_policy(site))?.unwrap_or_default();
    Ok(Rules::of(&policy).unwrap_or(Rules::DEFAULT))
}

/// The upload, with how many bytes of it are there. Blocks.
///
/// # Errors
/// There is none of this number.
pub fn find(controller: &Controller, site: &Name, id: u64) -> Result<(Upload, u64), UploadError> {
    let upload = controller.store_blocking(|store| store.upload(site, id))?;
    let upload = upload.ok_or_else(|| UploadError::Unknown { site: site.clone(), id })?;
    let have = held(&upload);
    Ok((upload, have))
}

/// Bytes that are there; of one that is over, those that were.
pub fn held(upload: &Upload) -> u64 {
    match upload.state {
        State::Open => Place::of(upload).spooled(),
        State::Landing | State::Done => upload.bytes.unwrap_or_else(|| Place::of(upload).spooled()),
        State::Failed => 0,
    }
}

/// Checks what was sent, and makes it staging. Where it cannot be, nothing of it is kept. Blocks for as long as that
/// takes, and until nobody reads staging. A second time it says how that ended.
///
/// # Errors
/// It is not complete, not what was announced, or cannot be content.
pub fn finish(
    controller: &Controller,
    site: &Name,
    id: u64,
    hash: Option<[u8; 32]>,
) -> Result<Upload, UploadError> {
    let (upload, have) = find(controller, site, id)?;
    match upload.state {
        State::Done => return Ok(upload),
        State::Failed => return Err(UploadError::Over { id, text: upload.text }),
        State::Landing => {}
        State::Open => {
            if let Some(bytes) = upload.bytes.filter(|bytes| *bytes > have) {
                return Err(UploadError::Short { have, bytes });
            }
            if let Err(error) = prepare(controller, &upload, hash) {
                return Err(give_up(controller, &upload, error)?);
            }
        }
    }
    let (upload, _) = find(controller, site, id)?;
    match land(controller, &upload) {
        Ok(()) => Ok(find(controller, site, id)?.0),
        Err(error) => {
            end(controller, &upload, State::Failed, &error.to_string())?;
            Err(error)
        }
    }
}

/// Removes an upload that is not over. Blocks.
///
/// # Errors
/// There is none of this number, or it is over.
pub fn cancel(controller: &Controller, site: &Name, id: u64) -> Result<(), UploadError> {
    let (upload, _) = find(controller, site, id)?;
    match upload.state {
        State::Open => end(controller, &upload, State::Failed, "cancelled"),
        _ => Err(UploadError::Over { id, text: upload.text }),
    }
}

/// After an error: where what was sent is of no use any more, nothing of it stays.
pub fn give_up(
    controller: &Controller,
    upload: &Upload,
    error: UploadError,
) -> Result<UploadError, UploadError> {
    if error.is_final() {
        end(controller, upload, State::Failed, &error.to_string())?;
    }
    Ok(error)
}

/// Writes down how an upload ended, then removes what lies there of it.
fn end(controller: &Controller, upload: &Upload, state: State, text: &str) -> Result<(), UploadError> {
    controller.store_blocking(|store| store.end_upload(upload, state, text, now_ns()))?;
    log::info!("site {}: upload {}: {text}", upload.site, upload.id);
    if let Err(error) = Place::of(upload).remove() {
        log::warn!("{error}; it is tried again at the next start");
    }
    Ok(())
}

/// From bytes to a tree that is complete, right, on the disk, and written down as such.
fn prepare(controller: &Controller, upload: &Upload, hash: Option<[u8; 32]>) -> Result<(), UploadError> {
    let place = Place::of(upload);
    let entries_max = rules(controller, &upload.site)?.upload_entries;
    let tree = place.new_tree()?;
    let spool = place.read_spool()?;
    let (landed, found) = match upload.kind {
        Kind::Replace | Kind::Merge => {
            let done = unpack::unpack(&spool, &tree, upload.into.as_ref(), entries_max)?;
            (Landed { files: done.files, bytes: done.bytes }, done.hash)
        }
        Kind::File => {
            let found = hash_of(&spool).map_err(UploadError::at(place.spool()))?;
            (Landed { files: 1, bytes: place.spooled() }, found)
        }
    };
    for expected in [upload.hash, hash].into_iter().flatten() {
        if expected != found {
            let text = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex().to_string();
            return Err(UploadError::Hash { found: text(found), expected: text(expected) });
        }
    }
    if let (Kind::File, Some(path)) = (upload.kind, &upload.into) {
        place.spool_into(&tree, path)?;
    }
    let inode = match upload.kind {
        Kind::Replace => place.dress(&tree)?,
        Kind::Merge | Kind::File => {
            merge::check(&tree, &place.staging()?)?;
            0
        }
    };
    tree.sync_file_system().map_err(UploadError::at(place.tree()))?;
    controller.store_blocking(|store| store.land_upload(upload.id, inode, landed, now_ns()))?;
    Ok(())
}

fn hash_of(file: &File) -> io::Result<[u8; 32]> {
    let (mut hasher, mut from, mut buffer) = (blake3::Hasher::new(), file, vec![0; 256 << 10]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            count => drop(hasher.update(&buffer[..count])),
        }
    }
}

/// Makes a tree staging, or does what is left of that. May be repeated.
fn land(controller: &Controller, upload: &Upload) -> Result<(), UploadError> {
    let place = Place::of(upload);
    let sites = controller.store_blocking(|store| store.sites())?;
    let all: Vec<PathBuf> = sites.into_iter().map(|site| site.staging).collect();
    controller.uploads.gates.changing(&upload.staging, &all, || match upload.kind {
        Kind::Replace => place.exchange(upload.inode),
        Kind::Merge | Kind::File => {
            let (tree, staging) = (place.open_tree()?, place.staging()?);
            merge::check(&tree, &staging)?;
            merge::merge(&tree, &staging).map_err(|error| match error {
                MergeError::Io { path, error } if is_full(&error) => UploadError::Full(path),
                error => error.into(),
            })?;
            staging.sync_file_system().map_err(UploadError::at(&upload.staging))
        }
    })?;
    let (files, bytes) = (upload.landed.files, upload.landed.bytes);
    let what = match upload.kind {
        Kind::Replace => "is all of staging",
        Kind::Merge | Kind::File => "is in staging",
    };
    end(controller, upload, State::Done, &format!("{files} files, {bytes} bytes: it {what}"))
}

/// At the start, before anybody reads staging: lands what was landing, removes what is left of the others.
///
/// # Errors
/// The database's.
pub fn recover(controller: &Controller) -> Result<(), DbError> {
    let (uploads, sites) = controller.store_blocking(|store| Ok((store.uploads(None)?, store.sites()?)))?;
    for upload in uploads.iter().filter(|upload| upload.state == State::Landing) {
        if let Err(error) = land(controller, upload) {
            log::error!("site {}: upload {}: {error}", upload.site, upload.id);
            let text = format!("interrupted, and then: {error}");
            controller.store_blocking(|store| store.end_upload(upload, State::Failed, &text, now_ns()))?;
        }
    }
    let open: Vec<&Upload> = uploads.iter().filter(|upload| upload.state == State::Open).collect();
    let stagings = sites.iter().filter_map(|site| Some((&site.name, site.staging.canonicalize().ok()?)));
    for (site, staging) in stagings {
        place::sweep(site, &staging, |id| open.iter().any(|upload| upload.site == *site && upload.id == id));
    }
    Ok(())
}

/// Sweeps again and again; never returns.
pub async fn watch(controller: Arc<Controller>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let worker = Arc::clone(&controller);
        if let Err(error) = blocking(move || sweep(&worker, now_ns())).await {
            log::warn!("uploads: {error}");
        }
    }
}

/// Ends what nobody works on any more, and forgets what ended long ago. Blocks.
///
/// # Errors
/// The database's.
pub fn sweep(controller: &Controller, now_ns: u64) -> Result<(), UploadError> {
    let before = now_ns.saturating_sub(ABANDONED_NS);
    let uploads = controller.store_blocking(|store| {
        store.forget_uploads(before)?;
        store.uploads(None)
    })?;
    let old = |upload: &&Upload| upload.state == State::Open && upload.touched_ns < before;
    for upload in uploads.iter().filter(old) {
        // Whoever sends just now is not to be disturbed.
        let Ok(_working) = controller.uploads.work_on(upload.id) else { continue };
        end(controller, upload, State::Failed, "abandoned: nobody sent anything for a day")?;
    }
    Ok(())
}
