//! Copies a tree for the demo, so that the user's own is only ever read: links, modes, times, hard links
//! and holes are kept; sockets, devices and FIFOs are left out.

use super::place::cannot;
use crate::cli::failure::Failure;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Copies what is in `from` into `to`, which is made. Ends early, without an error, once `stop` is set.
/// Returns how many entries were left out.
pub fn tree(from: &Path, to: &Path, stop: &AtomicBool) -> Result<u64, Failure> {
    let mut copy = Copy { directories: Vec::new(), links: BTreeMap::new(), left_out: 0 };
    copy.directory(from, to)?;
    let mut next = 0;
    while next < copy.directories.len() && !stop.load(Ordering::Relaxed) {
        let (from, to, _) = copy.directories[next].clone();
        next += 1;
        for entry in fs::read_dir(&from).map_err(|error| cannot("read", &from, &error))? {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let entry = entry.map_err(|error| cannot("read", &from, &error))?;
            copy.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    // Writing into a directory changes its time, and its mode may forbid it: both come last, inner first.
    for (_, to, meta) in copy.directories.iter().rev() {
        directory_traits(to, meta).map_err(|error| cannot("finish", to, &error))?;
    }
    Ok(copy.left_out)
}

struct Copy {
    /// From, to, and how the original looked; also the list of what is still to be read.
    directories: Vec<(PathBuf, PathBuf, Metadata)>,
    /// Device and inode of files with several names, and the copy's first name.
    links: BTreeMap<(u64, u64), PathBuf>,
    left_out: u64,
}

impl Copy {
    fn directory(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        let meta = fs::metadata(from).map_err(|error| cannot("read", from, &error))?;
        fs::create_dir(to).map_err(|error| cannot("make", to, &error))?;
        self.directories.push((from.to_owned(), to.to_owned(), meta));
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        let meta = match fs::symlink_metadata(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(|error| cannot("read", from, &error))?,
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.directory(from, to);
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            self.left_out += 1;
            return Ok(());
        }
        let copied = if kind.is_symlink() { link(from, to, &meta) } else { self.file(from, to, &meta) };
        match copied {
            // The owner removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(()),
            copied => copied.map_err(|error| cannot("copy", from, &error)),
        }
    }

    fn file(&mut self, from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
        if meta.nlink() > 1 {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                return fs::hard_link(first, to);
            }
            self.links.insert((meta.dev(), meta.ino()), to.to_owned());
        }
        let mut source = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(from)?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        content(&mut source, &mut copy)?;
        copy.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))?;
        copy.set_modified(meta.modified()?)
    }
}

/// Copies the data and leaves the holes.
fn content(source: &mut File, copy: &mut File) -> io::Result<()> {
    let size = source.metadata()?.len();
    let mut at = 0;
    while at < size {
        let seek = |from: u64, whence| lseek(&*source, i64::try_from(from).unwrap_or(i64::MAX), whence);
        let (start, end) = match seek(at, Whence::SeekData) {
            Ok(start) => {
                let start = u64::try_from(start).unwrap_or(at);
                (
                    start,
                    seek(start, Whence::SeekHole)
                        .ok()
                        .and_then(|end| u64::try_from(end).ok())
                        .unwrap_or(size),
                )
            }
            Err(Errno::ENXIO) => break,
            // A file system that does not tell its holes.
            Err(_) => (at, size),
        };
        source.seek(SeekFrom::Start(start))?;
        copy.seek(SeekFrom::Start(start))?;
        io::copy(&mut source.take(end.saturating_sub(start)), copy)?;
        at = end.max(at + 1);
    }
    copy.set_len(size)
}

fn link(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    symlink(fs::read_link(from)?, to)?;
    let time = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    Ok(utimensat(AT_FDCWD, to, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

fn directory_traits(to: &Path, meta: &Metadata) -> io::Result<()> {
    let directory = File::open(to)?;
    directory.set_modified(meta.modified()?)?;
    directory.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::sample;
    use crate::content::tree::hash_tree;

    #[test]
    fn a_copy_has_the_hash_of_its_original_and_the_original_is_untouched() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        sample::write(&from).expect("a sample site");
        fs::set_permissions(from.join("articles"), Permissions::from_mode(0o555))
            .expect("a closed directory");
        let before = hash_tree(&from).expect("a hash").hash;
        let left_out = tree(&from, &to, &AtomicBool::new(false)).expect("a copy");
        assert_eq!(left_out, 0);
        assert_eq!(hash_tree(&to).expect("a hash").hash, before);
        assert_eq!(hash_tree(&from).expect("a hash").hash, before);
        for dir in [&from, &to] {
            fs::set_permissions(dir.join("articles"), Permissions::from_mode(0o755)).expect("open again");
        }
    }

    #[test]
    fn holes_stay_holes_and_special_files_are_left_out() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        fs::create_dir(&from).expect("a directory");
        let file = File::create(from.join("sparse")).expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", 5 << 30).expect("5 GiB and an end");
        file.set_len((5 << 30) + 4096).expect("a hole behind it");
        nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(tree(&from, &to, &AtomicBool::new(false)).expect("a copy"), 1);
        let meta = fs::metadata(to.join("sparse")).expect("a copy");
        assert_eq!(meta.len(), (5 << 30) + 4096);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        assert!(!to.join("fifo").exists());
    }

    #[test]
    fn a_stopped_copy_ends_without_reading_on() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        fs::create_dir(&from).expect("a directory");
        fs::write(from.join("file"), "x").expect("a file");
        tree(&from, &to, &AtomicBool::new(true)).expect("nothing went wrong");
        assert!(!to.join("file").exists());
    }
}
