//! The newest list of content groups, kept in the state directory: a node that starts anew listens where it
//! did, and may lead at once.

use crate::wire::groups::GroupList;
use crate::wire::seal::PublicKey;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "groups";
const VERSION: u8 = 1;

/// The list that was kept, with its bytes. What cannot be used is said in the log: another one comes.
pub fn load(state_dir: &Path, director: &PublicKey) -> Option<(GroupList, Vec<u8>)> {
    let path = state_dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("{}: {error}; the list of groups is asked for anew", path.display());
            return None;
        }
    };
    let signed = unwrap(&bytes);
    let list = signed.and_then(|signed| GroupList::open(signed, director).ok());
    if list.is_none() {
        log::warn!("{} is damaged or not of this farm: the list is asked for anew", path.display());
    }
    list.zip(signed.map(<[u8]>::to_vec))
}

/// Keeps a list in the place of the one before. It is not synced: what a power cut takes is asked for anew.
///
/// # Errors
/// Those of the system, with the file.
pub fn store(state_dir: &Path, signed: &[u8]) -> Result<(), (PathBuf, io::Error)> {
    let path = state_dir.join(FILE);
    let mut bytes = [&[VERSION][..], signed].concat();
    bytes.extend_from_slice(&xxh3_64(&bytes).to_be_bytes());
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|error| (path.clone(), error))
}

/// What stands between version and checksum.
fn unwrap(bytes: &[u8]) -> Option<&[u8]> {
    let (content, checksum) = bytes.split_last_chunk::<8>()?;
    let (version, signed) = content.split_first()?;
    (*version == VERSION && xxh3_64(content).to_be_bytes() == *checksum).then_some(signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::{ListNumber, Name};
    use crate::wire::seal::SigningKey;

    #[test]
    fn a_list_reads_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let director = SigningKey::from_seed([1; 32]);
        assert_eq!(load(dir.path(), &director.public()), None);
        let list =
            GroupList { number: ListNumber(7), segment: Name::new("rack1").unwrap(), groups: Vec::new() };
        let signed = list.sign(&director);
        store(dir.path(), &signed).unwrap();
        assert_eq!(load(dir.path(), &director.public()), Some((list, signed)));
        assert_eq!(load(dir.path(), &SigningKey::from_seed([2; 32]).public()), None, "another farm's");

        let path = dir.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(load(dir.path(), &director.public()), None, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(load(dir.path(), &director.public()), None, "{at} bytes");
        }
    }
}
