//! Why an upload does not go on.

use super::OPEN_MAX;
use super::merge::MergeError;
use super::unpack::UnpackError;
use crate::ccm::db::DbError;
use crate::wire::id::Name;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("there is no site {0}; `farmcast site list` has them")]
    NoSite(Name),
    #[error("site {site} has no upload {id} (any more): begin another")]
    Unknown { site: Name, id: u64 },
    #[error("somebody sends to upload {0} now, or it is being unpacked: ask again how far it is")]
    Busy(u64),
    #[error("upload {id} is over: {text}")]
    Over { id: u64, text: String },
    #[error("upload {id} holds {have} bytes: go on from there, not from {offset}")]
    Offset { id: u64, have: u64, offset: u64 },
    #[error("{have} of {bytes} bytes are there: send the rest first")]
    Short { have: u64, bytes: u64 },
    #[error("more than the {0} bytes that were announced")]
    Long(u64),
    #[error("more than {0} bytes; `farmcast site policy SITE --upload-bytes N` allows more")]
    Limit(u64),
    #[error(
        "what came is not what was sent: its BLAKE3 is {found}, not {expected}; nothing was kept, send it again"
    )]
    Hash { found: String, expected: String },
    #[error("{OPEN_MAX} uploads to site {0} are open: finish or cancel one (`farmcast upload {0} --list`)")]
    Many(Name),
    #[error("{0}")]
    Place(String),
    #[error("no space is left beside staging: {0}; nothing was kept. Make room there and send it again")]
    Full(String),
    #[error("{0}; nothing was kept")]
    Unpack(UnpackError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<UnpackError> for UploadError {
    fn from(error: UnpackError) -> Self {
        match &error {
            UnpackError::Write { error: cause, .. } if is_full(cause) => Self::Full(error.to_string()),
            _ => Self::Unpack(error),
        }
    }
}

impl UploadError {
    /// A failure of the file system at a path.
    pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| match is_full(&error) {
            true => Self::Full(format!("{}: {error}", path.display())),
            false => Self::Io { path, error },
        }
    }

    /// Whether what was sent is of no use any more, or in the way.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Hash { .. } | Self::Full(_) | Self::Unpack(_) | Self::Limit(_) | Self::Long(_))
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
