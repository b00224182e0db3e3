//! Small files of the state directory: a version byte, the content, an XXH3 checksum (design section 6); written
//! beside the old one, synced, and renamed over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{0} is damaged ({1})")]
    Damaged(PathBuf, &'static str),
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
}

/// The content of a file; `None` where there is none.
///
/// # Errors
/// Where it cannot be read, or is not what was written.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::System(path.to_owned(), error)),
    };
    let damaged = |what| StateError::Damaged(path.to_owned(), what);
    let (content, checksum) = bytes.split_last_chunk::<8>().ok_or(damaged("it is cut short"))?;
    if xxh3_64(content).to_be_bytes() != *checksum {
        return Err(damaged("its checksum is wrong"));
    }
    match content.split_first() {
        Some((&VERSION, content)) => Ok(Some(content.to_vec())),
        _ => Err(damaged("its version is unknown")),
    }
}

/// Replaces the content of a file, which survives a power cut from then on.
///
/// # Errors
/// Those of the system.
pub fn write(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let mut bytes = [&[VERSION][..], content].concat();
    bytes.extend_from_slice(&xxh3_64(&bytes).to_be_bytes());
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| StateError::System(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(read(&path), Err(StateError::Damaged(..))), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(read(&path), Err(StateError::Damaged(..))), "cut at {at}");
        }
    }
}
