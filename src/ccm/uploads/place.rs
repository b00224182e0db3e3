//! Where an upload lies: beside its staging directory, on the same file system, for nobody else to see.

use super::UploadError;
use super::unpack;
use super::upload::Upload;
use crate::ccm::model::Site;
use crate::content::dir::Dir;
use crate::wire::assignment::RelPath;
use crate::wire::id::Name;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const SPOOL: &str = "spool";
const TREE: &str = "tree";

/// The place of one upload.
#[derive(Debug)]
pub struct Place {
    /// `.farmcast-upload.SITE` beside staging.
    home: PathBuf,
    id: u64,
    staging: PathBuf,
}

fn home(site: &Name, staging: &Path) -> PathBuf {
    staging.with_file_name(format!(".farmcast-upload.{site}"))
}

/// The staging directory without symbolic links, where there can be a place beside it.
pub fn checked(site: &Name, staging: &Path, sites: &[Site]) -> Result<PathBuf, UploadError> {
    let shown = staging.display();
    let staging = staging
        .canonicalize()
        .map_err(|error| UploadError::Place(format!("staging {shown}: {error}; make the directory first")))?;
    let Some(parent) = staging.parent() else {
        let text = "staging is the root directory; publish the site from a directory of its own";
        return Err(UploadError::Place(text.to_owned()));
    };
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(UploadError::at(path));
    if device(parent)? != device(&staging)? || !staging.is_dir() {
        return Err(UploadError::Place(format!(
            "staging {shown} is a mount point: what is uploaded has to lie beside it, on its file system. Publish the \
             site from a directory below it"
        )));
    }
    let around = |other: &&Site| other.staging.canonicalize().is_ok_and(|other| parent.starts_with(other));
    if let Some(other) = sites.iter().find(around) {
        return Err(UploadError::Place(format!(
            "staging {shown} lies in the staging of site {}: what is uploaded to {site} would be published with it",
            other.name
        )));
    }
    Ok(staging)
}

/// Whether the file system has room for so many bytes as they come and once more unpacked.
pub fn make_room(staging: &Path, bytes: u64) -> Result<(), UploadError> {
    let Ok(stat) = nix::sys::statvfs::statvfs(staging) else { return Ok(()) };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let needed = bytes.saturating_mul(2);
    match needed <= free {
        true => Ok(()),
        false => Err(UploadError::Full(format!("{needed} bytes are needed, {free} are free"))),
    }
}

/// Removes the places of a site's uploads but those that are to stay. What fails is tried again at the next start.
pub fn sweep(site: &Name, staging: &Path, stays: impl Fn(u64) -> bool) {
    let home = home(site, staging);
    let Ok(dir) = Dir::open(&home) else { return };
    for entry in dir.entries().into_iter().flatten() {
        let id = std::str::from_utf8(&entry.name).ok().and_then(|name| name.parse().ok());
        if id.is_some_and(&stays) {
            continue;
        }
        if let Err(error) = dir.remove(&entry.name) {
            log::warn!("{}: what is left of an upload stays for now: {error}", home.display());
        }
    }
    // Not empty where an upload is open.
    let _ = fs::remove_dir(&home);
}

impl Place {
    pub fn of(upload: &Upload) -> Self {
        let staging = upload.staging.clone();
        Self { home: home(&upload.site, &staging), id: upload.id, staging }
    }

    fn dir(&self) -> PathBuf {
        self.home.join(self.id.to_string())
    }

    pub fn spool(&self) -> PathBuf {
        self.dir().join(SPOOL)
    }

    pub fn tree(&self) -> PathBuf {
        self.dir().join(TREE)
    }

    /// Makes it, for this process alone to see.
    pub fn make(&self) -> Result<(), UploadError> {
        let dir = self.dir();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => UploadError::Place(format!(
                "{}: {error}; let the user of the controller write to the directory that holds staging, and its \
                 service too (`ReadWritePaths=`)",
                dir.display()
            )),
            _ => UploadError::at(&dir)(error),
        })
    }

    /// Bytes that came.
    pub fn spooled(&self) -> u64 {
        fs::metadata(self.spool()).map_or(0, |meta| meta.len())
    }

    pub fn open_spool(&self) -> Result<File, UploadError> {
        self.make()?;
        let path = self.spool();
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(UploadError::at(&path))
    }

    pub fn read_spool(&self) -> Result<File, UploadError> {
        // Nothing was sent: an empty file, which is no archive, but a file.
        self.open_spool()?;
        let path = self.spool();
        File::open(&path).map_err(UploadError::at(&path))
    }

    fn open(path: &Path) -> Result<Dir, UploadError> {
        Dir::open(path).map_err(UploadError::at(path))
    }

    /// An empty directory to unpack into.
    pub fn new_tree(&self) -> Result<Dir, UploadError> {
        self.make()?;
        let dir = Self::open(&self.dir())?;
        let fail = || UploadError::at(self.tree());
        if dir.find(TREE.as_bytes()).map_err(fail())?.is_some() {
            dir.remove(TREE.as_bytes()).map_err(fail())?;
        }
        dir.make(TREE.as_bytes(), 0o700).map_err(fail())?;
        dir.child(TREE.as_bytes()).map_err(fail())
    }

    pub fn open_tree(&self) -> Result<Dir, UploadError> {
        Self::open(&self.tree())
    }

    pub fn staging(&self) -> Result<Dir, UploadError> {
        Self::open(&self.staging)
    }

    /// Puts what came to `path` in the tree, as the file that it is.
    pub fn spool_into(&self, tree: &Dir, path: &RelPath) -> Result<(), UploadError> {
        Ok(unpack::place(&Self::open(&self.dir())?, SPOOL.as_bytes(), tree, path)?)
    }

    /// Gives the tree mode and owners of the directory that it is to replace, as far as we may; returns its inode.
    pub fn dress(&self, tree: &Dir) -> Result<u64, UploadError> {
        let fail = || UploadError::at(self.tree());
        let like = fs::metadata(&self.staging).map_err(UploadError::at(&self.staging))?;
        // Who is not root may give it to a group of its own only, or to nobody.
        if std::os::unix::fs::fchown(tree, Some(like.uid()), Some(like.gid())).is_err() {
            let _ = std::os::unix::fs::fchown(tree, None, Some(like.gid()));
        }
        tree.own_chmod(like.permissions().mode() & 0o7777).map_err(fail())?;
        Ok(tree.own_stat().map_err(fail())?.st_ino)
    }

    /// Lets the tree, which has this inode, and staging change places. Where that was done before, nothing happens.
    pub fn exchange(&self, inode: u64) -> Result<(), UploadError> {
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == inode);
        let (parent, name) = (self.staging.parent(), self.staging.file_name());
        let parent = Self::open(parent.expect("staging was checked to lie in a directory"))?;
        if !is_there(&self.staging) {
            if !is_there(&self.tree()) {
                let text =
                    format!("what was sent is not at {} any more; send it again", self.tree().display());
                return Err(UploadError::Place(text));
            }
            let name = name.expect("staging was checked to have a name").as_encoded_bytes();
            let dir = Self::open(&self.dir())?;
            parent.exchange(name, &dir, TREE.as_bytes()).map_err(|error| self.no_exchange(error))?;
        }
        parent.sync().map_err(UploadError::at(&self.staging))
    }

    fn no_exchange(&self, error: io::Error) -> UploadError {
        let staging = self.staging.display();
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) => UploadError::Place(format!(
                "the file system of {staging} cannot exchange two directories; send with --merge, or move staging"
            )),
            Some(Errno::EBUSY | Errno::EXDEV) => {
                UploadError::Place(format!("staging {staging} is a mount point now; send with --merge"))
            }
            Some(Errno::EACCES | Errno::EPERM) => UploadError::Place(format!(
                "staging {staging} cannot be replaced by this user ({error}): it belongs to somebody else in a \
                 directory with the sticky bit, or cannot be written to; send with --merge, or give it to this user"
            )),
            _ => UploadError::Io { path: self.staging.clone(), error },
        }
    }

    /// Removes it with all that is in it.
    pub fn remove(&self) -> Result<(), UploadError> {
        let dir = match Dir::open(&self.home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            dir => dir.map_err(UploadError::at(&self.home))?,
        };
        match dir.remove(self.id.to_string().as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(UploadError::Io { path: self.dir(), error });
            }
            _ => {}
        }
        // Not empty where another is open.
        let _ = fs::remove_dir(&self.home);
        Ok(())
    }
}
