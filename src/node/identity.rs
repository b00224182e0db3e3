//! Who a node is: its key, its certificate, its farm; kept in the state directory.

use super::state_file::{self, StateError};
use crate::wire::join::Farm;
use crate::wire::seal::{Certificate, SigningKey};
use crate::wire::{Decoder, Encoder, Malformed};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const IDENTITY: &str = "identity";
const BOOT: &str = "boot";
/// More starts than a copy makes while nobody notices it.
const OVERTAKING: u32 = 1_000;

#[derive(Debug)]
pub struct Identity {
    pub key: SigningKey,
    pub certificate: Certificate,
    pub farm: Farm,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{0} does not exist: let the node join first, with the command that `farmcast node invite` prints"
    )]
    Missing(PathBuf),
    #[error("{0} is damaged ({1}): restore it, or remove it and let the node join again")]
    Damaged(PathBuf, &'static str),
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
}

impl From<StateError> for IdentityError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Damaged(path, what) => Self::Damaged(path, what),
            StateError::System(path, error) => Self::System(path, error),
        }
    }
}

impl Identity {
    pub fn load(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join(IDENTITY);
        let bytes = state_file::read(&path)?.ok_or_else(|| IdentityError::Missing(path.clone()))?;
        let damaged = |_| IdentityError::Damaged(path.clone(), "its format is unknown");
        let identity = Self::decode(&bytes).map_err(damaged)?;
        if identity.certificate.verify(&identity.farm.enroller).is_err()
            || identity.certificate.public_key != identity.key.public()
        {
            return Err(IdentityError::Damaged(path, "its certificate does not verify"));
        }
        Ok(identity)
    }

    pub fn store(&self, state_dir: &Path) -> Result<(), IdentityError> {
        let path = state_dir.join(IDENTITY);
        fs::create_dir_all(state_dir).map_err(|error| IdentityError::System(state_dir.to_owned(), error))?;
        let mut out = Encoder::new();
        out.raw(self.key.seed());
        self.certificate.encode(&mut out);
        self.farm.encode(&mut out);
        Ok(state_file::write(&path, &out.finish())?)
    }

    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(IDENTITY).exists()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let identity = Self {
            key: SigningKey::from_seed(from.array("seed")?),
            certificate: Certificate::decode(&mut from)?,
            farm: Farm::decode(&mut from)?,
        };
        from.finish()?;
        Ok(identity)
    }
}

/// Raises the boot counter and stores it before the first message is sent, so that nothing this node said
/// in an earlier life counts as said now (T15). No clock is involved.
pub fn next_boot(state_dir: &Path) -> Result<u32, IdentityError> {
    let path = state_dir.join(BOOT);
    let last = match state_file::read(&path)? {
        Some(bytes) => match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(bytes) => u32::from_be_bytes(bytes),
            Err(_) => return Err(IdentityError::Damaged(path, "its length is wrong")),
        },
        None => 0,
    };
    let boot = last.checked_add(1).ok_or(IdentityError::Damaged(path.clone(), "the counter is used up"))?;
    state_file::write(&path, &boot.to_be_bytes())?;
    Ok(boot)
}

/// A copy of this machine counts its starts from the same number. Raises the counter of this one, so that its
/// next life is a later one than the copy's: whichever of the two is started anew is believed.
pub fn overtake_copy(state_dir: &Path, boot: u32) -> Result<(), IdentityError> {
    Ok(state_file::write(&state_dir.join(BOOT), &boot.saturating_add(OVERTAKING).to_be_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::join::FarmSecret;

    fn identity() -> Identity {
        let farm_key = SigningKey::from_seed([1; 32]);
        let key = SigningKey::from_seed([2; 32]);
        let certificate = Certificate::issue(&farm_key, key.public(), true, 5);
        let public = farm_key.public();
        let farm =
            Farm { publisher: public, director: public, enroller: public, secret: FarmSecret([3; 32]) };
        Identity { key, certificate, farm }
    }

    #[test]
    fn an_identity_reads_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Missing(_))));
        let stored = identity();
        stored.store(dir.path()).unwrap();
        let read = Identity::load(dir.path()).unwrap();
        assert_eq!(read.certificate, stored.certificate);
        assert_eq!(read.farm, stored.farm);

        let path = dir.path().join(IDENTITY);
        let good = fs::read(&path).unwrap();
        for at in [0, 1, 40, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Damaged(..))), "byte {at}");
        }
        fs::write(&path, &good[..5]).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Damaged(..))));
    }

    #[test]
    fn the_boot_counter_never_repeats_itself() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(next_boot(dir.path()).unwrap(), 1);
        assert_eq!(next_boot(dir.path()).unwrap(), 2);
        overtake_copy(dir.path(), 2).unwrap();
        assert_eq!(next_boot(dir.path()).unwrap(), 1_003);
        fs::write(dir.path().join(BOOT), b"rubbish").unwrap();
        assert!(next_boot(dir.path()).is_err());
    }
}
