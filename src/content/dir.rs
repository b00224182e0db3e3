//! Directory descriptors that paths cannot leave (design D9).
//!
//! A path is resolved below a descriptor with `openat2`, which refuses symbolic links in every component;
//! all other calls take a descriptor and one name. So what stands in a tree, or is put there while we
//! work, cannot lead us out of it.

use crate::wire::assignment::RelPath;
use nix::dir::{Dir as Listing, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens,
    mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fsync, linkat, symlinkat, syncfs, unlinkat};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    Symlink,
    /// A socket, device or FIFO: never content.
    Special,
}

impl Kind {
    pub fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFLNK => Self::Symlink,
            _ => Self::Special,
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: Kind,
}

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens a directory by a path that the configuration gave: its links are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)?;
        Ok(Self(file.into()))
    }

    /// Opens the directory `name`.
    pub fn child(&self, name: &[u8]) -> io::Result<Self> {
        self.resolve(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).map(Self)
    }

    /// Opens the directory at a path below; refuses symbolic links on the way and at its end.
    pub fn below(&self, path: &RelPath) -> io::Result<Self> {
        self.child(path.as_bytes())
    }

    /// Opens a regular file for reading; refuses anything else without waiting for it.
    pub fn read(&self, name: &[u8]) -> io::Result<File> {
        let file = File::from(self.resolve(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?);
        match Kind::of(&fstat(&file)?) {
            Kind::File => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// Makes a file that did not exist, open for reading and writing, readable by its owner only.
    pub fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        self.resolve(name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
    }

    /// Opens a file for writing, and makes it where it is missing.
    pub fn open_or_create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW;
        self.resolve(name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
    }

    /// Makes a directory with this mode, whatever the process's umask.
    pub fn make(&self, name: &[u8], mode: u32) -> io::Result<()> {
        mkdirat(&self.0, name, Mode::S_IRWXU)?;
        self.chmod(name, mode)
    }

    pub fn link(&self, name: &[u8], target_dir: &Self, target: &[u8]) -> io::Result<()> {
        Ok(linkat(&target_dir.0, target, &self.0, name, AtFlags::empty())?)
    }

    pub fn symlink(&self, name: &[u8], text: &[u8]) -> io::Result<()> {
        Ok(symlinkat(text, &self.0, name)?)
    }

    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(OsString::into_vec(nix::fcntl::readlinkat(&self.0, name)?))
    }

    /// Removes anything but a directory.
    pub fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// The entry itself; a symbolic link is not followed.
    pub fn stat(&self, name: &[u8]) -> io::Result<FileStat> {
        Ok(fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// The same, `None` where there is none.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<FileStat>> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directory itself.
    pub fn own_stat(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.0)?)
    }

    /// Mode of a file or directory that is known not to be a symbolic link.
    pub fn chmod(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        Ok(fchmodat(&self.0, name, mode, FchmodatFlags::FollowSymlink)?)
    }

    /// Mode of the directory itself.
    pub fn own_chmod(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.0, Mode::from_bits_truncate(mode))?)
    }

    /// Modification time of the entry itself, nanoseconds since 1970.
    pub fn utimes(&self, name: &[u8], mtime: i64) -> io::Result<()> {
        let flag = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(&self.0, name, &TimeSpec::UTIME_OMIT, &timespec(mtime), flag)?)
    }

    /// Modification time of the directory itself.
    pub fn own_utimes(&self, mtime: i64) -> io::Result<()> {
        set_mtime(&self.0, mtime)
    }

    pub fn rename(&self, name: &[u8], to_dir: &Self, to: &[u8]) -> io::Result<()> {
        Ok(renameat2(&self.0, name, &to_dir.0, to, RenameFlags::empty())?)
    }

    /// Lets two names change places; a reader finds one or the other at every instant (CO-9, CO-10).
    pub fn exchange(&self, name: &[u8], other_dir: &Self, other: &[u8]) -> io::Result<()> {
        Ok(renameat2(&self.0, name, &other_dir.0, other, RenameFlags::RENAME_EXCHANGE)?)
    }

    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// Writes everything of the file system to the disk.
    pub fn sync_file_system(&self) -> io::Result<()> {
        Ok(syncfs(&self.0)?)
    }

    /// What stands in the directory, in no order.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        // A descriptor of its own, for a listing moves the position that duplicates share.
        let mut listing = Listing::from_fd(self.child(b".")?.0)?;
        let mut entries = Vec::new();
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                Some(Type::Directory) => Kind::Directory,
                Some(Type::File) => Kind::File,
                Some(Type::Symlink) => Kind::Symlink,
                Some(_) => Kind::Special,
                None => Kind::of(&self.stat(name)?),
            };
            entries.push(Entry { name: name.to_vec(), inode: entry.ino(), kind });
        }
        Ok(entries)
    }

    /// Removes `name` with all below it; returns how many names of files were below. That there is nothing
    /// of that name is an error.
    pub fn remove(&self, name: &[u8]) -> io::Result<u64> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => return Ok(0),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let child = match self.child(name) {
            // Content may carry directories that their owner cannot enter.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.chmod(name, 0o700)?;
                self.child(name)?
            }
            child => child?,
        };
        let mut removed = child.empty()?;
        match unlinkat(&self.0, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY) => {
                // Something was put in meanwhile.
                removed += child.empty()?;
                unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?;
            }
            done => done?,
        }
        Ok(removed)
    }

    /// Removes all that stands in the directory; returns as [`Self::remove`].
    pub fn empty(&self) -> io::Result<u64> {
        let entries = self.entries()?;
        if !entries.is_empty() && self.own_stat()?.st_mode & 0o700 != 0o700 {
            self.own_chmod(0o700)?;
        }
        entries.iter().try_fold(0, |removed, entry| {
            Ok(removed + u64::from(entry.kind == Kind::File) + self.remove(&entry.name)?)
        })
    }

    fn resolve(&self, path: &[u8], flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        let confined = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(confined);
        loop {
            match openat2(&self.0, path, how) {
                Ok(fd) => return Ok(fd),
                // EAGAIN: something was renamed elsewhere while the kernel made sure that we stay below.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a link failed for a reason that a copy does not have: the file is somebody else's, or has all the names
/// that a file can have, or the file system knows no links.
pub fn cannot_link(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPERM | Errno::EMLINK | Errno::EXDEV | Errno::EOPNOTSUPP))
}

/// Modification time of an open file, nanoseconds since 1970; the access time stays.
pub fn set_mtime(file: impl AsFd, mtime: i64) -> io::Result<()> {
    Ok(futimens(file, &TimeSpec::UTIME_OMIT, &timespec(mtime))?)
}

/// nix's own conversion panics within a second of the ends of what `mtime` can say, and [`mtime`] is at its end
/// for every file of the year 2262 and later.
fn timespec(mtime: i64) -> TimeSpec {
    TimeSpec::new(mtime.div_euclid(1_000_000_000), mtime.rem_euclid(1_000_000_000))
}

/// Mode of an open file.
pub fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
}

/// Modification time of an entry, nanoseconds since 1970.
pub fn mtime(stat: &FileStat) -> i64 {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests;
