//! The keys of a farm, one file each, so that a publisher's key can move to another machine later.

use crate::wire::content_key::{ContentSecret, Salt, Sealing};
use crate::wire::id::{AssignmentId, Name, hex, unhex};
use crate::wire::join::{Farm, FarmSecret};
use crate::wire::seal::{SigningKey, random};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PUBLISHER: &str = "publisher.key";
const DIRECTOR: &str = "director.key";
const ENROLLER: &str = "enroller.key";
const SECRET: &str = "farm.secret";
const CONTENT: &str = "content.secret";

#[derive(Debug)]
pub struct Keys {
    /// Signs assignments.
    pub publisher: SigningKey,
    /// Signs notifications and orders.
    pub director: SigningKey,
    /// Signs certificates.
    pub enroller: SigningKey,
    /// From which segment keys are derived.
    pub secret: FarmSecret,
    /// From which the keys of encrypted assignments are derived.
    pub content: ContentSecret,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {error}; `farmcast ccm init --dir DIR` makes the keys of a new farm")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
    #[error("{0}: others than its owner can read it; take their rights away with `chmod 600`")]
    Readable(PathBuf),
    #[error("{0}: is no key: 64 hexadecimal digits are expected; bring the file back from a backup")]
    Malformed(PathBuf),
}

impl Keys {
    /// The directory of the keys in a state directory.
    pub fn dir(state: &Path) -> PathBuf {
        state.join("keys")
    }

    /// New keys from the system's random generator, written to `state`; fails where one exists.
    pub fn create(state: &Path) -> Result<Self, KeyError> {
        let dir = Self::dir(state);
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir);
        made.map_err(|error| KeyError::Write { path: dir.clone(), error })?;
        for name in [PUBLISHER, DIRECTOR, ENROLLER, SECRET, CONTENT] {
            write_key(&dir.join(name), &random())?;
        }
        let synced = std::fs::File::open(&dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| KeyError::Write { path: dir, error })?;
        Self::load(state)
    }

    pub fn load(state: &Path) -> Result<Self, KeyError> {
        let dir = Self::dir(state);
        // A farm that is older than encryption has none yet.
        let content = dir.join(CONTENT);
        if dir.join(SECRET).is_file() && !content.exists() {
            write_key(&content, &random())?;
        }
        let read = |name| read_key(&dir.join(name));
        Ok(Self {
            publisher: SigningKey::from_seed(read(PUBLISHER)?),
            director: SigningKey::from_seed(read(DIRECTOR)?),
            enroller: SigningKey::from_seed(read(ENROLLER)?),
            secret: FarmSecret(read(SECRET)?),
            content: ContentSecret(read(CONTENT)?),
        })
    }

    /// What an assignment that is about to be composed is encrypted with.
    pub fn sealing(&self, site: &Name, assignment: AssignmentId) -> Sealing {
        let salt = Salt(random());
        Sealing { salt, key: self.content.key(site, assignment, &salt) }
    }

    /// What every node learns when it joins.
    pub fn farm(&self) -> Farm {
        Farm {
            publisher: self.publisher.public(),
            director: self.director.public(),
            enroller: self.enroller.public(),
            secret: self.secret,
        }
    }
}

fn write_key(path: &Path, key: &[u8; 32]) -> Result<(), KeyError> {
    let fail = |error| KeyError::Write { path: path.to_owned(), error };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    writeln!(file, "{}", hex(key)).and_then(|()| file.sync_all()).map_err(fail)
}

fn read_key(path: &Path) -> Result<[u8; 32], KeyError> {
    let fail = |error| KeyError::Read { path: path.to_owned(), error };
    let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let bytes = unhex(text.trim_end()).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| KeyError::Malformed(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = Keys::create(dir.path()).unwrap();
        assert_eq!(Keys::load(dir.path()).unwrap().farm(), made.farm());
        assert!(matches!(Keys::create(dir.path()), Err(KeyError::Write { .. })));
        assert_eq!(Keys::load(dir.path()).unwrap().farm(), made.farm());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Keys::create(dir.path()).unwrap();
        let path = Keys::dir(dir.path()).join(DIRECTOR);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(KeyError::Readable(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "abc\n").unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(KeyError::Malformed(_))));
    }
}
