//! The shadow of a site: an exact replica of what is live, at the controller (VC-1). It is a site as on a
//! node, kept by the same code.

use super::config::Config;
use super::keys::Keys;
use super::model::{Assignment, IssuedOrder};
use crate::content::site::{Site, SiteError, StageError, SwitchError};
use crate::content::walk::Walk;
use crate::wire::Malformed;
use crate::wire::assignment::CommandBuffer;
use crate::wire::id::{AssignmentId, Name};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    #[error("shadow: {0}")]
    Site(#[from] SiteError),
    #[error("shadow: staging: {0}")]
    Stage(#[from] StageError),
    #[error("shadow: switching: {0}")]
    Switch(#[from] SwitchError),
    #[error("{path}: {error}")]
    Object { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}; publish again")]
    Damaged { path: PathBuf, error: Malformed },
}

/// What a whole tree comes to: equal for equal names, kinds, sizes, times and modes. `None` where it cannot be read, or
/// changes meanwhile.
pub fn print(root: &Path) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for entry in Walk::open(root).ok()? {
        let entry = entry.ok()?;
        hasher.update(format!("{:?}\n", (entry.path, entry.kind, entry.mode, entry.mtime)).as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

pub struct Shadow {
    site: Site,
}

impl Shadow {
    /// Opens the shadow; makes it where the site has none yet. One at a time per site.
    pub fn open(config: &Config, site: &Name) -> Result<Self, ShadowError> {
        let path = config.shadow(site.as_str());
        std::fs::create_dir_all(&path).map_err(|error| ShadowError::Object { path: path.clone(), error })?;
        let mut site = Site::open(&path)?;
        site.keep(usize::from(config.keep_releases));
        Ok(Self { site })
    }

    pub fn version(&self) -> Option<AssignmentId> {
        self.site.version()
    }

    /// The versions beside live that can go live again, the last first. Whoever has the shadow open is not
    /// disturbed.
    pub fn kept(config: &Config, site: &Name) -> std::io::Result<Vec<AssignmentId>> {
        let releases = Site::read_releases(&config.shadow(site.as_str()))?;
        Ok(releases.iter().map(|release| release.assignment).collect())
    }

    /// Its live tree, for those who only look. Whoever has the shadow open is not disturbed.
    pub fn live_of(config: &Config, site: &Name) -> PathBuf {
        config.shadow(site.as_str()).join("live")
    }

    /// Where stands what is in its tree of this version, if that is known.
    pub fn inventory_path(&self, version: AssignmentId) -> PathBuf {
        self.site.inventory_path(version)
    }

    /// The tree of a version that is kept beside live.
    pub fn release_path(&self, version: AssignmentId) -> PathBuf {
        self.site.release_path(version)
    }

    /// Live is not what was signed: until the next switch the shadow has no version.
    ///
    /// # Errors
    /// That cannot be written down.
    pub fn doubt(&mut self) -> std::io::Result<()> {
        self.site.doubt()
    }

    /// The version that is live, and the hash that its tree was signed with; `None` where live is in doubt.
    pub fn signed(&self) -> Option<(AssignmentId, [u8; 32])> {
        self.site.signed().filter(|_| !self.site.is_doubted())
    }

    pub fn live_path(&self) -> PathBuf {
        self.site.live_path()
    }

    /// Stages an object as every node will: what cannot be staged here is not sent to anybody.
    pub fn stage(
        &mut self,
        config: &Config,
        assignment: &Assignment,
        keys: &Keys,
    ) -> Result<(), ShadowError> {
        let shape = assignment.shape;
        let path = config.objects().join(format!("{}.asg", shape.name));
        let failed = |error| ShadowError::Object { path: path.clone(), error };
        let file = File::open(&path).map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(shape.command_len).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, shape.command_offset()).map_err(failed)?;
        let damaged = |error| ShadowError::Damaged { path: path.clone(), error };
        let mut buffer =
            CommandBuffer::open_owned(&shape, bytes, &keys.publisher.public()).map_err(damaged)?;
        if let Some(salt) = &buffer.header.salt {
            let key = keys.content.key(&buffer.header.site, buffer.header.assignment, salt);
            buffer.unseal(key).map_err(damaged)?;
        }
        self.site.stage(&buffer, &file)?;
        Ok(())
    }

    /// Carries out the order that the nodes carried out. A second time changes nothing.
    pub fn carry_out(&mut self, order: &IssuedOrder, now: fn() -> u64) -> Result<(), ShadowError> {
        self.site.carry_out(order.id, order.action, now)?;
        Ok(())
    }
}
