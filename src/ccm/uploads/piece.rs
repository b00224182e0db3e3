//! One piece of an upload, as it comes.

use super::place::Place;
use super::upload::{State, Upload};
use super::{UploadError, find, rules};
use crate::ccm::clock::now_ns;
use crate::ccm::controller::Controller;
use crate::wire::id::Name;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A piece that is being received. Whatever came stays, also where the connection breaks.
#[derive(Debug)]
pub struct Piece {
    upload: Upload,
    spool: File,
    before: u64,
    at: u64,
    max: u64,
    announced: bool,
}

/// Opens the upload for bytes from `offset` on. Blocks.
///
/// # Errors
/// It is over, or holds more or fewer bytes.
pub fn open(controller: &Controller, site: &Name, id: u64, offset: u64) -> Result<Piece, UploadError> {
    let (upload, have) = find(controller, site, id)?;
    if upload.state != State::Open {
        return Err(UploadError::Over { id, text: upload.text });
    }
    if offset != have {
        return Err(UploadError::Offset { id, have, offset });
    }
    let limit = rules(controller, site)?.upload_bytes;
    let spool = Place::of(&upload).open_spool()?;
    let (max, announced) = upload.bytes.map_or((limit, false), |bytes| (bytes.min(limit), bytes <= limit));
    Ok(Piece { upload, spool, before: have, at: have, max, announced })
}

impl Piece {
    /// Appends bytes. Blocks.
    ///
    /// # Errors
    /// More than was announced or is allowed, which takes the piece back; a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let path = || Place::of(&self.upload).spool();
        if self.at + bytes.len() as u64 > self.max {
            self.spool.set_len(self.before).map_err(UploadError::at(path()))?;
            return Err(if self.announced {
                UploadError::Long(self.max)
            } else {
                UploadError::Limit(self.max)
            });
        }
        self.spool.write_all_at(bytes, self.at).map_err(UploadError::at(path()))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes sure that what came outlives a power cut; returns the upload and how much is there. Blocks.
    ///
    /// # Errors
    /// The disk's and the database's.
    pub fn end(self, controller: &Controller) -> Result<(Upload, u64), UploadError> {
        self.spool.sync_data().map_err(UploadError::at(Place::of(&self.upload).spool()))?;
        controller.store_blocking(|store| store.touch_upload(self.upload.id, now_ns()))?;
        Ok((self.upload, self.at))
    }
}
