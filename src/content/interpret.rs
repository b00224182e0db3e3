//! The content interpreter: carries out the commands of an assignment in `temp` (AS-7, CI, CO-2).
//!
//! `temp` is ours alone, so nothing in it needs to happen at one instant. But its files are at first other
//! names of live's, so none of them is changed in place: it is replaced, or copied first (B-32).

use super::dir::{self, Dir, Kind};
use super::source::Source;
use super::write::{self, WriteError, Writer};
use super::written::{Writings, Written};
use crate::wire::assignment::{Command, Copied, Extent, Header, Item, MODE_MASK, Mtime, RelPath, gaps};
use nix::sys::stat::FileStat;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;

/// Why one command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the file here is not the one it changes")]
    Base,
    #[error("the content has another hash than the publisher signed")]
    Hash,
    #[error("its data does not decode to the length that it states")]
    Coding,
    #[error("{size} bytes are more than the {max} that the assignment allows a file")]
    TooLarge { size: u64, max: u64 },
    #[error("more files than the {max} that the assignment allows")]
    TooMany { max: u32 },
}

impl From<WriteError> for Cause {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => Self::Io(error),
            WriteError::Coding => Self::Coding,
        }
    }
}

impl From<nix::errno::Errno> for Cause {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The word for a command in messages.
pub const fn verb(command: &Command) -> &'static str {
    match command {
        Command::Mkdir { .. } => "make directory",
        Command::Put { .. } => "put",
        Command::Patch { .. } => "patch",
        Command::Splice { .. } => "splice",
        Command::Copy { .. } => "copy",
        Command::Move { .. } => "move",
        Command::Link { .. } => "link",
        Command::Symlink { .. } => "symlink",
        Command::Remove { .. } => "remove",
        Command::Chmod { .. } => "change the mode of",
        Command::Utimes { .. } => "change the time of",
    }
}

/// What a directory must look like in the end; while we work in it, its owner may do all.
#[derive(Clone, Copy, Debug, Default)]
struct Final {
    mode: Option<u32>,
    mtime: Option<Mtime>,
}

/// Carries out commands below one directory.
pub struct Interpreter<'a> {
    temp: &'a Dir,
    /// The tree of the base, which no command changes; `None` where there is none.
    base: Option<&'a Dir>,
    writer: Writer<'a>,
    files_max: u32,
    largest_file: u64,
    /// Names of files.
    files: u64,
    /// The directory of the last command: most commands follow one of the same directory.
    parent: Option<(Vec<u8>, Dir)>,
    finals: BTreeMap<RelPath, Final>,
    writings: Writings,
}

/// Content of a file as a command describes it.
struct Content<'c> {
    mode: u32,
    mtime: Mtime,
    size: u64,
    hash: &'c [u8; 32],
    item: Option<&'c Item>,
    extents: &'c [Extent],
}

impl<'a> Interpreter<'a> {
    /// `temp` holds `files` names of files; `data` is the assignment's file.
    pub fn new(temp: &'a Dir, base: Option<&'a Dir>, data: Source<'a>, header: &Header, files: u64) -> Self {
        Self {
            temp,
            base,
            writer: Writer::new(data),
            files_max: header.files,
            largest_file: header.largest_file,
            files,
            parent: None,
            finals: BTreeMap::new(),
            writings: Writings::default(),
        }
    }

    /// A directory's mode that its owner could not work under is set at the end.
    pub fn defer_mode(&mut self, path: RelPath, mode: u32) {
        self.finals.entry(path).or_default().mode = Some(mode);
    }

    pub fn run(&mut self, command: &Command) -> Result<(), Cause> {
        match command {
            Command::Mkdir { path, mode } => self.mkdir(path, *mode),
            Command::Put { path, mode, mtime, size, hash, item, extents } => {
                let content =
                    Content { mode: *mode, mtime: *mtime, size: *size, hash, item: item.as_ref(), extents };
                self.put(path, &content)
            }
            Command::Patch { path, mode, mtime, size, base, hash, item, extents } => {
                let content =
                    Content { mode: *mode, mtime: *mtime, size: *size, hash, item: item.as_ref(), extents };
                self.patch(path, base, &content)
            }
            Command::Splice { path, mode, mtime, size, base, hash, item, copies } => {
                let extents = &gaps(copies, *size);
                let content =
                    Content { mode: *mode, mtime: *mtime, size: *size, hash, item: item.as_ref(), extents };
                self.splice(path, base, copies, &content)
            }
            Command::Copy { path, from, mode, mtime, hash } => self.copy(path, from, *mode, *mtime, hash),
            Command::Move { path, from } => self.move_here(path, from),
            Command::Link { path, target } => self.link(path, target),
            Command::Symlink { path, text, mtime } => self.symlink(path, text, *mtime),
            Command::Remove { path } => self.remove(path),
            Command::Chmod { path, mode } => self.chmod(path, *mode),
            Command::Utimes { path, mtime } => self.utimes(path, *mtime),
        }
    }

    /// Gives directories their modes and times, the deepest first: afterwards some cannot be entered. Returns what
    /// was written.
    pub fn finish(self) -> Result<Written, (RelPath, io::Error)> {
        for (path, last) in self.finals.into_iter().rev() {
            let set = || {
                let dir = self.temp.below(&path)?;
                if let Some(mtime) = last.mtime {
                    dir.own_utimes(mtime)?;
                }
                last.mode.map_or(Ok(()), |mode| dir.own_chmod(mode))
            };
            set().map_err(|error| (path.clone(), error))?;
        }
        Ok(self.writings.finish())
    }

    fn mkdir(&mut self, path: &RelPath, mode: u32) -> Result<(), Cause> {
        let (dir, name) = self.enter(path)?;
        dir.make(name, mode | 0o700)?;
        if mode | 0o700 != mode {
            self.defer_mode(path.clone(), mode);
        }
        Ok(())
    }

    fn put(&mut self, path: &RelPath, content: &Content<'_>) -> Result<(), Cause> {
        self.check_size(content.size)?;
        let file = self.create(path)?;
        // What is written from end to end has its length by that.
        if content.item.is_none() || !content.extents.is_empty() || content.size >= write::HOLE as u64 {
            file.set_len(content.size)?;
        }
        let hash = self.writer.write(&file, content.size, content.item, content.extents, true)?;
        self.seal(&file, hash, content)
    }

    fn patch(&mut self, path: &RelPath, base: &[u8; 32], content: &Content<'_>) -> Result<(), Cause> {
        self.check_size(content.size)?;
        let (old, old_size) = self.proven(path, base)?;
        let file = self.create(path)?;
        file.set_len(content.size)?;
        write::copy(&old, &file, old_size.min(content.size))?;
        self.writer.write(&file, content.size, content.item, content.extents, false)?;
        self.seal(&file, write::hash(&file, content.size)?, content)
    }

    fn splice(
        &mut self,
        path: &RelPath,
        base: &[u8; 32],
        copies: &[Copied],
        content: &Content<'_>,
    ) -> Result<(), Cause> {
        self.check_size(content.size)?;
        let (old, old_size) = self.proven(path, base)?;
        if copies.iter().any(|copied| copied.from + copied.len > old_size) {
            return Err(Cause::Coding);
        }
        let file = self.create(path)?;
        file.set_len(content.size)?;
        for copied in copies {
            write::copy_range(&old, &file, *copied)?;
        }
        self.writer.write(&file, content.size, content.item, content.extents, true)?;
        self.seal(&file, write::hash(&file, content.size)?, content)
    }

    /// The file that a command changes, which is the one that the publisher knew, and its size.
    fn proven(&mut self, path: &RelPath, base: &[u8; 32]) -> Result<(File, u64), Cause> {
        let (dir, name) = self.enter(path)?;
        let old = dir.read(name)?;
        let size = old.metadata()?.len();
        if write::hash(&old, size)? == *base { Ok((old, size)) } else { Err(Cause::Base) }
    }

    fn copy(
        &mut self,
        path: &RelPath,
        from: &RelPath,
        mode: u32,
        mtime: Mtime,
        hash: &[u8; 32],
    ) -> Result<(), Cause> {
        let (dir, name) = self.of_base(from)?;
        let old = dir.read(name)?;
        let size = old.metadata()?.len();
        self.check_size(size)?;
        if write::hash(&old, size)? != *hash {
            return Err(Cause::Base);
        }
        let file = self.create(path)?;
        file.set_len(size)?;
        write::copy(&old, &file, size)?;
        self.writings.note(&file, None)?;
        dir::set_mode(&file, mode)?;
        Ok(dir::set_mtime(&file, mtime)?)
    }

    fn move_here(&mut self, path: &RelPath, from: &RelPath) -> Result<(), Cause> {
        let (source_dir, source) = self.of_base(from)?;
        let stat = source_dir.stat(source)?;
        if Kind::of(&stat) != Kind::File {
            return Err(Cause::Base);
        }
        self.make_room(path)?;
        self.count_one()?;
        let (dir, name) = self.enter(path)?;
        match dir.link(name, &source_dir, source) {
            Err(error) if dir::cannot_link(&error) => {
                let (old, new) = (source_dir.read(source)?, dir.create(name)?);
                let size = old.metadata()?.len();
                new.set_len(size)?;
                write::copy(&old, &new, size)?;
                self.writings.note(&new, None)?;
                dir::set_mode(&new, stat.st_mode & MODE_MASK)?;
                Ok(dir::set_mtime(&new, dir::mtime(&stat))?)
            }
            linked => Ok(linked?),
        }
    }

    /// The directory of a path of the base, and the name in it.
    fn of_base<'p>(&self, path: &'p RelPath) -> Result<(Dir, &'p [u8]), Cause> {
        let (parent, name) = split(path);
        let base = self.base.ok_or(Cause::Base)?;
        Ok((base.child(parent.unwrap_or(b"."))?, name))
    }

    fn link(&mut self, path: &RelPath, target: &RelPath) -> Result<(), Cause> {
        let (target_parent, target_name) = split(target);
        let target_dir = self.open(target_parent)?;
        if Kind::of(&target_dir.stat(target_name)?) != Kind::File {
            return Err(Cause::Base);
        }
        self.make_room(path)?;
        self.count_one()?;
        let (dir, name) = self.enter(path)?;
        Ok(dir.link(name, &target_dir, target_name)?)
    }

    fn symlink(&mut self, path: &RelPath, text: &[u8], mtime: Mtime) -> Result<(), Cause> {
        self.make_room(path)?;
        let (dir, name) = self.enter(path)?;
        dir.symlink(name, text)?;
        Ok(dir.utimes(name, mtime)?)
    }

    fn remove(&mut self, path: &RelPath) -> Result<(), Cause> {
        let (dir, name) = self.enter(path)?;
        let kind = Kind::of(&dir.stat(name)?);
        if kind != Kind::Directory {
            dir.unlink(name)?;
            self.forget(kind);
            return Ok(());
        }
        let removed = dir.remove(name)?;
        self.files = self.files.saturating_sub(removed);
        self.parent = None;
        self.finals.retain(|known, _| !is_below(known, path));
        Ok(())
    }

    fn chmod(&mut self, path: &RelPath, mode: u32) -> Result<(), Cause> {
        let (dir, name) = self.enter(path)?;
        let stat = dir.stat(name)?;
        match Kind::of(&stat) {
            Kind::Directory => {
                dir.chmod(name, mode | 0o700)?;
                self.defer_mode(path.clone(), mode);
                Ok(())
            }
            Kind::File if stat.st_mode & 0o7777 == mode => Ok(()),
            Kind::File => {
                self.unshare(path, &stat)?;
                let (dir, name) = self.enter(path)?;
                Ok(dir.chmod(name, mode)?)
            }
            Kind::Symlink | Kind::Special => Err(Cause::Base),
        }
    }

    fn utimes(&mut self, path: &RelPath, mtime: Mtime) -> Result<(), Cause> {
        let (dir, name) = self.enter(path)?;
        let stat = dir.stat(name)?;
        match Kind::of(&stat) {
            Kind::Directory => {
                self.finals.entry(path.clone()).or_default().mtime = Some(mtime);
                Ok(())
            }
            Kind::File if dir::mtime(&stat) == mtime => Ok(()),
            Kind::File => {
                self.unshare(path, &stat)?;
                let (dir, name) = self.enter(path)?;
                Ok(dir.utimes(name, mtime)?)
            }
            Kind::Symlink => {
                let text = dir.read_link(name)?;
                self.symlink(path, &text, mtime)
            }
            Kind::Special => Err(Cause::Base),
        }
    }

    /// Gives a finished file its mode and time, if it is what the publisher signed.
    fn seal(&mut self, file: &File, hash: [u8; 32], content: &Content<'_>) -> Result<(), Cause> {
        if hash != *content.hash {
            return Err(Cause::Hash);
        }
        self.writings.note(file, Some(hash))?;
        dir::set_mode(file, content.mode)?;
        Ok(dir::set_mtime(file, content.mtime)?)
    }

    fn check_size(&self, size: u64) -> Result<(), Cause> {
        let max = self.largest_file;
        if size > max { Err(Cause::TooLarge { size, max }) } else { Ok(()) }
    }

    /// A new file, also where another entry had the name. That other one lives on under its other names.
    fn create(&mut self, path: &RelPath) -> Result<File, Cause> {
        let (dir, name) = self.enter(path)?;
        let file = match dir.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.make_room(path)?;
                let (dir, name) = self.enter(path)?;
                dir.create(name)?
            }
            created => created?,
        };
        self.count_one()?;
        Ok(file)
    }

    /// Frees the name for an entry other than a directory.
    fn make_room(&mut self, path: &RelPath) -> Result<(), Cause> {
        let (dir, name) = self.enter(path)?;
        let Some(stat) = dir.find(name)? else { return Ok(()) };
        dir.unlink(name)?;
        self.forget(Kind::of(&stat));
        Ok(())
    }

    fn forget(&mut self, kind: Kind) {
        self.files = self.files.saturating_sub(u64::from(kind == Kind::File));
    }

    fn count_one(&mut self) -> Result<(), Cause> {
        self.files += 1;
        let max = self.files_max;
        if self.files > u64::from(max) { Err(Cause::TooMany { max }) } else { Ok(()) }
    }

    /// Makes a file with several names one of its own: any of them may be in live.
    fn unshare(&mut self, path: &RelPath, stat: &FileStat) -> Result<(), Cause> {
        if stat.st_nlink == 1 {
            return Ok(());
        }
        let (dir, name) = self.enter(path)?;
        let old = dir.read(name)?;
        dir.unlink(name)?;
        let new = dir.create(name)?;
        let size = old.metadata()?.len();
        new.set_len(size)?;
        write::copy(&old, &new, size)?;
        self.writings.note(&new, None)?;
        dir::set_mode(&new, stat.st_mode & MODE_MASK)?;
        Ok(dir::set_mtime(&new, dir::mtime(stat))?)
    }

    /// The open directory of `path` and the name in it. What we change in a directory changes its time,
    /// so the time is noted, to be set again in the end unless a command sets another.
    fn enter<'p>(&mut self, path: &'p RelPath) -> io::Result<(&Dir, &'p [u8])> {
        let (parent, name) = split(path);
        let known = matches!(&self.parent, Some((known, _)) if Some(&known[..]) == parent.or(Some(b"")));
        if !known {
            let dir = self.open(parent)?;
            if let Some(parent) = parent {
                let parent = RelPath::new(parent).map_err(|_| io::ErrorKind::InvalidInput)?;
                let last = self.finals.entry(parent).or_default();
                if last.mtime.is_none() {
                    last.mtime = Some(dir::mtime(&dir.own_stat()?));
                }
            }
            self.parent = Some((parent.unwrap_or_default().to_vec(), dir));
        }
        let (_, dir) = self.parent.as_ref().expect("it was just set");
        Ok((dir, name))
    }

    fn open(&self, parent: Option<&[u8]>) -> io::Result<Dir> {
        self.temp.child(parent.unwrap_or(b"."))
    }
}

/// The path of the directory, `None` for the root, and the name in it.
fn split(path: &RelPath) -> (Option<&[u8]>, &[u8]) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (Some(&bytes[..slash]), &bytes[slash + 1..]),
        None => (None, bytes),
    }
}

fn is_below(path: &RelPath, top: &RelPath) -> bool {
    let rest = path.as_bytes().strip_prefix(top.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The path of an entry of the directory at `parent`. What a command could not name is an error.
pub fn child_path(parent: Option<&RelPath>, name: &[u8]) -> io::Result<RelPath> {
    let path = match parent {
        Some(parent) => parent.join(name),
        None => RelPath::new(name),
    };
    path.map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path is too long or too deep"))
}

#[cfg(test)]
mod tests;
