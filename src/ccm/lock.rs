//! The lock on a farm's state: two controllers on one would give out the same numbers twice.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Held until it is dropped, at the latest until the process ends.
pub type StateLock = Flock<File>;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{}: another ccm works on this farm; stop it first", .0.display())]
    Taken(PathBuf),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
}

/// Takes the state in `dir` for this process alone.
///
/// # Errors
/// Another process has it, or the file of the lock cannot be made.
pub fn lock_state(dir: &Path) -> Result<StateLock, LockError> {
    let path = dir.join("lock");
    let fail = |error| LockError::Io { path: path.clone(), error };
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => LockError::Taken(dir.to_owned()),
        errno => fail(errno.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_farm_has_one_controller_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_state(dir.path()).unwrap();
        assert!(matches!(lock_state(dir.path()), Err(LockError::Taken(_))));
        drop(held);
        lock_state(dir.path()).unwrap();
        let nowhere = lock_state(&dir.path().join("none"));
        assert!(matches!(nowhere, Err(LockError::Io { .. })));
    }
}
