//! Staging: an assignment becomes a complete tree in `temp`, proven, and on the disk (CO-1, CO-2).

use super::dir::{self, Dir, Kind};
use super::hashes::Cache;
use super::interpret::{Cause, Interpreter, child_path, verb};
use super::journal::{Record, StagedRecord};
use super::parts::Progress;
use super::site::{LIVE, Site, TEMP};
use super::source::{Pieces, Source};
use super::tree::{TreeHash, hash_tree_cached};
use super::walk::WalkError;
use super::write;
use super::written::Written;
use crate::wire::Malformed;
use crate::wire::assignment::{CommandBuffer, Header, Kind as AssignmentKind, RelPath};
use crate::wire::id::AssignmentId;
use crate::wire::report::Reason;
use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;
use std::fs::File;
use std::io;
use std::path::Path;

/// What staging did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// It is complete in `temp`.
    Now,
    /// It was, already.
    Before,
    /// It is live, already.
    Live,
}

/// Why an assignment cannot be staged. Live is as it was, and nothing is staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error(
        "the assignment changes version {base}, the site has {}",
        version.map_or("none".to_owned(), |id| id.to_string())
    )]
    StaleBase { base: AssignmentId, version: Option<AssignmentId> },
    #[error(
        "{} are needed and {} are free; free {} or shrink the site",
        Bytes(*need), Bytes(*free), Bytes(need - free)
    )]
    NoSpace { need: u64, free: u64 },
    #[error(
        "part {number} of {of} does not follow on what is staged here; the next synchronize brings all of it"
    )]
    PartBefore { number: u16, of: u16 },
    #[error("{verb} {path}: {cause}{}", advice(cause))]
    Command { verb: &'static str, path: RelPath, cause: Cause, kind: AssignmentKind },
    #[error("the commands: {0}")]
    Malformed(#[from] Malformed),
    #[error("the result is not what the publisher signed{}", remedy(*kind))]
    Result { kind: AssignmentKind },
    #[error("verifying the result: {0}")]
    Verify(#[from] WalkError),
    #[error("{what}: {cause}")]
    Io { what: &'static str, cause: io::Error },
}

impl StageError {
    /// The reason by which the CCM groups failures.
    pub fn reason(&self) -> Reason {
        match self {
            Self::StaleBase { .. } => Reason::StaleBase,
            Self::NoSpace { .. } => Reason::NoSpace,
            Self::PartBefore { .. } => Reason::NotStaged,
            Self::Malformed(_) => Reason::Forged,
            Self::Result { kind } => drift(*kind),
            Self::Verify(_) => Reason::System,
            Self::Io { cause, .. } => reason_of(cause),
            Self::Command { cause, kind, .. } => match cause {
                Cause::Io(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // The tree is not as the commands take it to be.
                    Some(
                        Errno::ENOENT
                        | Errno::EEXIST
                        | Errno::ENOTDIR
                        | Errno::EISDIR
                        | Errno::ENOTEMPTY
                        | Errno::ELOOP,
                    ) => drift(*kind),
                    _ => reason_of(error),
                },
                Cause::Base => drift(*kind),
                Cause::Hash | Cause::Coding | Cause::TooLarge { .. } | Cause::TooMany { .. } => {
                    Reason::Forged
                }
            },
        }
    }
}

/// Where a tree is not what an assignment takes it to be: a publish met another base than it was made
/// for; a replicate starts from nothing, so the assignment itself is wrong.
const fn drift(kind: AssignmentKind) -> Reason {
    match kind {
        AssignmentKind::Publish => Reason::StaleBase,
        AssignmentKind::Replicate => Reason::Forged,
    }
}

fn reason_of(error: &io::Error) -> Reason {
    if is_full(error) { Reason::NoSpace } else { Reason::System }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What to do where the tree is not the one that was promised.
const fn remedy(kind: AssignmentKind) -> &'static str {
    match kind {
        AssignmentKind::Publish => {
            ": live was changed by something else; it gets all of its version by a synchronize"
        }
        AssignmentKind::Replicate => "",
    }
}

fn advice(cause: &Cause) -> &'static str {
    match cause {
        Cause::Io(error) if is_full(error) => "; free space or shrink the site",
        _ => "",
    }
}

/// A count of bytes in the unit that a person would choose.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let unit = (1..UNITS.len()).rev().find(|unit| self.0 >> (10 * unit) > 0).unwrap_or(0);
        if unit == 0 {
            write!(f, "{} bytes", self.0)
        } else {
            write!(f, "{:.1} {}", self.0 as f64 / (1_u64 << (10 * unit)) as f64, UNITS[unit])
        }
    }
}

/// Hashes a tree of which some files were written just now.
pub(super) type Verify<'a> = dyn FnMut(&Path, &Written) -> Result<TreeHash, WalkError> + 'a;

impl Site {
    /// Stages an assignment from its file `data`, so that it can be committed. Staging the same one again
    /// is quick and answers the same. A part is staged on what the one before it left (AS-13), and cannot be
    /// committed unless it is the last.
    ///
    /// On failure nothing is staged: neither this one nor one before it. Of an update in parts the parts before it
    /// stay, so that this one can be staged again.
    pub fn stage(&mut self, buffer: &CommandBuffer, data: &File) -> Result<Staged, StageError> {
        self.stage_from(buffer, Source::whole(data))
    }

    /// The same from a file that may still be on its way.
    pub fn stage_from(&mut self, buffer: &CommandBuffer, data: Source<'_>) -> Result<Staged, StageError> {
        // A replicate is for a site whose content is in doubt: believe nothing of it.
        let known = self.version().filter(|_| buffer.header.kind == AssignmentKind::Publish);
        let known = known.map(|version| self.inventory_path(version));
        let next = self.inventory_path(buffer.header.assignment);
        let mut cache = None;
        let staged = self.stage_verified(buffer, data, &mut |temp, written| {
            hash_tree_cached(temp, cache.insert(Cache::between(known.as_deref(), &next)), written)
        })?;
        if let Some(Err(cause)) = cache.map(Cache::save) {
            log::debug!("{}: the next staging reads every file: {cause}", next.display());
        }
        Ok(staged)
    }

    /// The same with another way to hash a tree.
    pub(super) fn stage_verified(
        &mut self,
        buffer: &CommandBuffer,
        data: Source<'_>,
        verify: &mut Verify<'_>,
    ) -> Result<Staged, StageError> {
        let header = &buffer.header;
        let record =
            StagedRecord { assignment: header.assignment, name: buffer.shape.name, result: header.result };
        let fail = |what| move |cause| StageError::Io { what, cause };
        self.settle().map_err(fail("finishing the switch before"))?;
        if self.state.staged == Some(record) {
            return Ok(Staged::Before);
        }
        if self.version() == Some(header.assignment.version()) {
            return Ok(Staged::Live);
        }
        let progress = self.progress(buffer)?;
        if progress == Progress::Done {
            return Ok(Staged::Before);
        }
        if let (AssignmentKind::Publish, Some(base)) = (header.kind, header.base)
            && self.version() != Some(base)
        {
            return Err(StageError::StaleBase { base, version: self.version() });
        }
        self.forget_staged().map_err(fail("removing what was staged before"))?;
        if progress == Progress::First {
            self.forget_parts().map_err(fail("removing the parts of another update"))?;
        }
        let built = self.check_space(header).and_then(|()| self.build(buffer, data, verify));
        let recorded = built.and_then(|()| {
            self.hidden.sync_file_system().map_err(fail("writing to the disk"))?;
            if header.part.is_some_and(|part| !part.is_last()) {
                return self.keep_part(buffer).map_err(fail("keeping a part"));
            }
            self.state.staged = Some(record);
            self.state.store(&self.hidden).map_err(fail("recording what is staged"))?;
            self.end_parts(buffer);
            Ok(())
        });
        match recorded {
            Ok(()) => Ok(Staged::Now),
            Err(error) => {
                self.state.staged = None;
                if header.kind == AssignmentKind::Publish && error.reason() == Reason::StaleBase {
                    log::warn!("{}: live is not what was signed: {error}", self.path.display());
                    if let Err(cause) = self.doubt() {
                        log::warn!("{}: recording that: {cause}", self.path.display());
                    }
                }
                // The next staging and the next start remove what this leaves.
                if let Err(cause) = self.discard(TEMP).and_then(|()| self.tidy()) {
                    log::warn!("{}: removing a failed staging: {cause}", self.path.display());
                }
                Err(error)
            }
        }
    }

    fn forget_staged(&mut self) -> io::Result<()> {
        if self.state.staged.take().is_some() {
            self.state.store(&self.hidden)?;
        }
        self.discard(TEMP)?;
        self.tidy()
    }

    fn check_space(&self, header: &Header) -> Result<(), StageError> {
        let free =
            self.free_space().map_err(|cause| StageError::Io { what: "asking for free space", cause })?;
        let need = header.space;
        if free < need { Err(StageError::NoSpace { need, free }) } else { Ok(()) }
    }

    /// Bytes that the file system of the site has left for us.
    pub fn free_space(&self) -> io::Result<u64> {
        let stat = fstatvfs(&self.hidden)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    fn build(
        &self,
        buffer: &CommandBuffer,
        data: Source<'_>,
        verify: &mut Verify<'_>,
    ) -> Result<(), StageError> {
        let kind = buffer.header.kind;
        let fail = |what| move |cause| StageError::Io { what, cause };
        let live = self.root.child(LIVE).map_err(fail("opening live"))?;
        let stat = live.own_stat().map_err(fail("opening live"))?;
        // We work in it, and an exchange needs the right to write in what it moves.
        self.hidden.make(TEMP, stat.st_mode & 0o777 | 0o700).map_err(fail("making temp"))?;
        let temp = self.hidden.child(TEMP).map_err(fail("opening temp"))?;
        let mut replica = Replica::default();
        if buffer.header.part.is_some_and(|part| part.behind.is_some()) {
            let before = self.part_tree().map_err(fail("opening what the parts before it made"))?;
            replica.directory(&before, &temp, None).map_err(fail("linking their files into temp"))?;
        } else if kind == AssignmentKind::Publish {
            replica.directory(&live, &temp, None).map_err(fail("linking live's files into temp"))?;
        }
        let base = (kind == AssignmentKind::Publish).then_some(&live);
        let pieces = buffer.key().map(|key| Pieces::new(key.clone(), buffer.shape.data_len));
        let data = pieces.as_ref().map_or(data, |pieces| data.decrypted(pieces));
        let mut interpreter = Interpreter::new(&temp, base, data, &buffer.header, replica.files);
        for (path, mode) in replica.modes {
            interpreter.defer_mode(path, mode);
        }
        for command in buffer.commands() {
            let command = command?;
            interpreter.run(&command).map_err(|cause| {
                let path = command.path().clone();
                StageError::Command { verb: verb(&command), path, cause, kind }
            })?;
        }
        let written = interpreter.finish().map_err(|(path, error)| StageError::Command {
            verb: "finish",
            path,
            cause: Cause::Io(error),
            kind,
        })?;
        if buffer.header.part.is_some_and(|part| !part.is_last()) {
            // Every file in it was proven; the tree is when it is whole.
            return Ok(());
        }
        let result = verify(&self.temp_path(), &written)?;
        if result.hash == buffer.header.result { Ok(()) } else { Err(StageError::Result { kind }) }
    }
}

/// The directory structure of live, made again with other names of the same files (CO-1, B-32).
#[derive(Default)]
struct Replica {
    /// Names of files.
    files: u64,
    /// Modes of directories that their owner could not work under.
    modes: Vec<(RelPath, u32)>,
}

impl Replica {
    fn directory(&mut self, from: &Dir, to: &Dir, path: Option<&RelPath>) -> io::Result<()> {
        for entry in from.entries()? {
            let name = &entry.name;
            match entry.kind {
                Kind::Directory => {
                    let path = child_path(path, name)?;
                    let child = from.child(name)?;
                    let stat = child.own_stat()?;
                    let mode = stat.st_mode & 0o777;
                    to.make(name, mode | 0o700)?;
                    let copy = to.child(name)?;
                    self.directory(&child, &copy, Some(&path))?;
                    copy.own_utimes(dir::mtime(&stat))?;
                    if mode | 0o700 != mode {
                        self.modes.push((path, mode));
                    }
                }
                Kind::File | Kind::Symlink => {
                    self.files += u64::from(entry.kind == Kind::File);
                    match to.link(name, from, name) {
                        // Somebody else's file, or one with all the names that a file can have.
                        Err(error) if dir::cannot_link(&error) => copy_entry(from, to, name, entry.kind)?,
                        linked => linked?,
                    }
                }
                // Never content: what somebody made in live ends with it.
                Kind::Special => {}
            }
        }
        Ok(())
    }
}

fn copy_entry(from: &Dir, to: &Dir, name: &[u8], kind: Kind) -> io::Result<()> {
    let stat = from.stat(name)?;
    if kind == Kind::Symlink {
        to.symlink(name, &from.read_link(name)?)?;
        return to.utimes(name, dir::mtime(&stat));
    }
    let old = from.read(name)?;
    let new = to.create(name)?;
    let size = old.metadata()?.len();
    new.set_len(size)?;
    write::copy(&old, &new, size)?;
    dir::set_mode(&new, stat.st_mode & 0o777)?;
    dir::set_mtime(&new, dir::mtime(&stat))
}

#[cfg(test)]
mod tests;
