//! The checkpoints of all sites on the controller's disk: one at a time changes them, while nobody reads (VC-7..VC-9).

use super::controller::Controller;
use super::db::DbError;
use super::model::Checkpoint;
use crate::content::checkpoint::{CheckpointError, Examined, Vault};
use crate::content::dir::Dir;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The vault, for one who changes it or several who read.
#[derive(Debug)]
pub struct Checkpoints(RwLock<Vault>);

impl Checkpoints {
    pub fn new(dir: PathBuf) -> Self {
        Self(RwLock::new(Vault::new(dir)))
    }

    /// Waits until nobody changes anything. Blocks.
    pub fn read(&self) -> RwLockReadGuard<'_, Vault> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads or changes anything. Blocks.
    pub fn change(&self) -> RwLockWriteGuard<'_, Vault> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what a crash left behind of checkpoints. Blocks.
pub fn sweep_what_was_left(controller: &Controller) {
    let vault = controller.checkpoints.change();
    if vault.is_unswept() {
        sweep(controller, &vault);
    }
}

/// Removes what belongs to no checkpoint that the database knows. What fails is tried again with the next.
pub fn sweep(controller: &Controller, vault: &Vault) {
    let swept = match controller.store_blocking(|store| store.checkpoint_keys()) {
        Ok(kept) => vault.sweep(&kept).and_then(|removed| vault.end().map(|()| removed)),
        Err(error) => return log::warn!("checkpoints: what is not needed stays for now: {error}"),
    };
    match swept {
        Ok(removed) => log::info!("checkpoints: {removed} chunks that none needs are removed"),
        Err(error) => log::warn!("checkpoints: what is not needed stays for now: {error}"),
    }
}

/// Reads all of a checkpoint; `None` where it is there no more. Blocks.
pub fn examine(
    controller: &Controller,
    checkpoint: &Checkpoint,
) -> Result<Option<Result<Examined, CheckpointError>>, DbError> {
    let vault = controller.checkpoints.read();
    let (site, number) = (&checkpoint.site, checkpoint.key.number);
    let there = controller.store_blocking(|store| store.checkpoint(site, number))?;
    Ok(there.map(|checkpoint| vault.examine(&checkpoint.key)))
}

/// The tree of a checkpoint, written to a directory that goes when this does.
pub struct Rebuilt {
    path: PathBuf,
}

impl Rebuilt {
    /// Blocks for as long as it takes to write all of it.
    pub fn new(
        controller: &Controller,
        checkpoint: &Checkpoint,
        name: &str,
    ) -> Result<Self, CheckpointError> {
        let path = controller.config.rebuilt().join(name);
        let failed = |cause| CheckpointError::Io { path: path.clone(), cause };
        let rebuilt = Self { path: path.clone() };
        rebuilt.remove();
        std::fs::create_dir_all(&path).map_err(failed)?;
        controller.checkpoints.read().rebuild(&checkpoint.key, &path)?;
        Ok(rebuilt)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) {
            remove_tree(parent, name.as_encoded_bytes());
        }
    }
}

impl Drop for Rebuilt {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes a tree whose directories may forbid it.
pub fn remove_tree(parent: &Path, name: &[u8]) {
    match Dir::open(parent).and_then(|dir| dir.remove(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!("{}: cannot remove what was rebuilt: {error}", parent.display());
        }
        _ => {}
    }
}
