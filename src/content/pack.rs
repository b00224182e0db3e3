//! Two trees to one signed assignment (AS-1..AS-11, ST-13): what changed between the shadow's live tree
//! and staging, or all of staging, as commands and data.
//!
//! One walk over both trees does everything: differences, data, the hash of the result. Memory grows
//! with the number of contents that are sent, of directories and of hard links, never with the size of files or the
//! length of the commands, unless these are encrypted.
//!
//! Order of the commands: directories that must be made writable; removals; directories, files and
//! symbolic links in walk order; hard links; last, modes and times of directories, children first.

use super::borrowed::Borrowing;
use super::data::DataFile;
use super::diff::{Difference, Pair, difference, join};
use super::hashes::Cache;
use super::links::{Before, Links};
use super::reader::{Order, Reader, Verdict, looks_same, unchanged};
use super::spill::Spill;
use super::tree::{Hasher, Opener, TreeHash};
use super::walk::{self, Entry, EntryKind, LeftOut, Picks, Walk, WalkError};
use crate::wire::Encoder;
use crate::wire::assignment::{
    COMMAND_BUFFER_MAX, Command, DATA_MAX, Header, Kind, Mtime, RelPath, Shape, Signing,
};
use crate::wire::content_key::{ContentKey, Sealing, sealed_len};
use crate::wire::id::{AssignmentId, JobId, Name};
use crate::wire::seal::SigningKey;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use super::items::Policy;

/// A file written less than this before the assignment was composed may be written again within the same
/// tick of the file system's clock; its hash is not remembered.
const SETTLED_NS: i64 = 2_000_000_000;
/// Bytes counted for what an entry takes on a node beside its content.
const ENTRY_SPACE: u64 = 4_096;

/// What to compose an assignment of.
pub struct Pack<'a> {
    /// The new tree.
    pub staging: &'a Path,
    /// What of the new tree is taken; what is not counts as if it were not there (ST-6).
    pub picks: &'a Picks<'a>,
    /// The old tree: the live tree of the shadow. Not looked at where there is no base.
    pub shadow: &'a Path,
    /// The version the shadow has; `None` composes a replicate, everything from nothing.
    pub base: Option<AssignmentId>,
    pub assignment: AssignmentId,
    pub job: JobId,
    pub site: Name,
    /// Seconds since 1970, now.
    pub issued: u64,
    /// Returns when a write to a file would set a later time of change than this one, nanoseconds since 1970.
    pub pass_tick: &'a dyn Fn(i64),
    pub policy: &'a Policy,
    /// Where the assignment goes; written beside it and renamed when it is complete.
    pub out: &'a Path,
    /// Reads all files, and does not believe those that look as they did when they were read last.
    pub checksum: bool,
    /// The inventory of the shadow's tree: content that it knows is not sent again under another name.
    pub origins: Option<&'a Path>,
    /// The inventory of staging, where that is a tree whose content is known: the live tree of a shadow. Then an
    /// assignment is written also where nothing changed, for the version of who takes it does.
    pub known: Option<&'a Path>,
    /// Where content hashes of staging are remembered. Remove the file when the shadow goes back to an
    /// older version by other means than an assignment.
    pub cache: Option<&'a Path>,
    /// The signed order that puts it live where it is staged (CO-11).
    pub order: Option<&'a [u8]>,
    /// With what commands and data are encrypted; `None`: they are in clear (AS-15).
    pub sealing: Option<&'a Sealing>,
    pub publisher: &'a SigningKey,
}

/// What was composed.
#[derive(Debug)]
pub struct Packed {
    /// `None`: nothing changed, and nothing was written (ST-15). A replicate is always written.
    pub shape: Option<Shape>,
    pub changes: Changes,
    /// Sizes of the files that were added or changed, before delta and compression.
    pub changed_bytes: u64,
    /// The result: staging as it is.
    pub tree: TreeHash,
    /// Entries of staging that content cannot hold, at most the first 1,000.
    pub left_out: Vec<LeftOut>,
    pub left_out_count: u64,
    /// Bytes that a node needs free to stage it, the assignment itself not counted (AS-11).
    pub space: u64,
}

/// Entries that differ, by the way they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: u64,
    /// Files and symbolic links with other content, and entries that are of another kind now.
    pub changed: u64,
    /// Other mode or modification time only, or other hard links.
    pub metadata: u64,
    /// A directory counts once, with all that was below it.
    pub removed: u64,
}

/// Why no assignment was composed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("staging: {0}")]
    Staging(WalkError),
    #[error("shadow: {0}")]
    Shadow(WalkError),
    #[error("cannot write the assignment {}: {source}; free space there or let this user write it", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the assignment's {what} would be {size} bytes, more than {max}; publish fewer files at once")]
    TooLarge { what: &'static str, size: u64, max: u64 },
}

/// Composes an assignment and writes it to `pack.out`.
///
/// A file that changes while it is read is read again, up to three times, then it is an error.
pub fn pack(pack: &Pack<'_>) -> Result<Packed, PackError> {
    pack_watched(pack, &mut |_| {})
}

/// As [`pack`]; `read` is called after each reading of a file, before it is checked that nobody wrote to
/// the file meanwhile.
fn pack_watched(pack: &Pack<'_>, read: &mut dyn FnMut(&RelPath)) -> Result<Packed, PackError> {
    let old = match pack.base {
        Some(_) => Some(Walk::open(pack.shadow).map_err(PackError::Shadow)?),
        None => None,
    };
    let staging = Opener::new(pack.staging).map_err(PackError::Staging)?;
    // One tree from here on, also where another takes its place meanwhile.
    let new = Walk::within(&staging, pack.picks).map_err(PackError::Staging)?;
    let mut composer = Composer::new(pack, staging, read)?;
    let new = std::thread::scope(|scope| {
        let old = old.map(|old| walk::ahead(scope, old).0).into_iter().flatten();
        let (entries, new) = walk::ahead(scope, new);
        let pairs = join(
            old.map(|entry| entry.map_err(PackError::Shadow)),
            entries.map(|entry| entry.map_err(PackError::Staging)),
        );
        for pair in pairs {
            composer.pair(pair?)?;
        }
        Ok(new.join().expect("a walk does not panic"))
    })?;
    composer.borrow()?;
    composer.hard_links()?;
    let mut packed = composer.finish()?;
    packed.left_out = new.left_out().to_vec();
    packed.left_out_count = new.left_out_count();
    Ok(packed)
}

/// Encoded commands.
struct List<'a> {
    commands: Spill,
    count: u32,
    /// The command that is being encoded, kept for its memory.
    command: Encoder,
    out: &'a Path,
}

impl<'a> List<'a> {
    /// None yet; `out` is where the assignment goes.
    fn new(out: &'a Path, ending: &str) -> Self {
        Self { commands: Spill::beside(out, ending), count: 0, command: Encoder::new(), out }
    }

    fn push(&mut self, command: &Command) -> Result<(), PackError> {
        command.encode(self.command.clear());
        self.count += 1;
        let appended = self.commands.append(self.command.as_bytes());
        appended.map_err(|source| PackError::Write { path: self.out.into(), source })
    }
}

/// A directory of the new tree.
struct Directory {
    mode: u32,
    mtime: Mtime,
    /// Mode it has on a node before the last commands: the old one, or the one it was made with.
    mode_before: u32,
    existed: bool,
    /// Its modification time must be set: it is new, it differs, or something in it is written.
    touched: bool,
}

struct Composer<'a> {
    pack: &'a Pack<'a>,
    reader: Reader<'a>,
    cache: Option<Cache>,
    hasher: Hasher,
    links: Links,
    borrowing: Borrowing,
    directories: BTreeMap<RelPath, Directory>,
    removals: List<'a>,
    body: List<'a>,
    changes: Changes,
    changed_bytes: u64,
    space: u64,
}

impl<'a> Composer<'a> {
    fn new(
        pack: &'a Pack<'a>,
        staging: Opener,
        read: &'a mut dyn FnMut(&RelPath),
    ) -> Result<Self, PackError> {
        Ok(Self {
            pack,
            reader: Reader::new(pack, staging, read)?,
            cache: match (pack.cache, pack.known) {
                (Some(path), _) => Some(Cache::open(path)),
                (None, known) => known.map(Cache::reading),
            },
            hasher: Hasher::new(),
            links: Links::default(),
            borrowing: Borrowing::default(),
            directories: BTreeMap::new(),
            removals: List::new(pack.out, ".removals"),
            body: List::new(pack.out, ".body"),
            changes: Changes::default(),
            changed_bytes: 0,
            space: 0,
        })
    }

    fn pair(&mut self, pair: Pair) -> Result<(), PackError> {
        let (old, new) = match pair {
            Pair::Old(old) => {
                self.changes.removed += 1;
                return self.remove(old.path);
            }
            Pair::New(new) => (None, new),
            Pair::Both(old, new) => (Some(old), new),
        };
        let difference = old.as_ref().map(|old| difference(old, &new));
        match difference {
            None => self.changes.added += 1,
            Some(Some(Difference::Metadata)) => self.changes.metadata += 1,
            Some(Some(Difference::Content | Difference::Kind)) => self.changes.changed += 1,
            Some(None) => {}
        }
        // What is of another kind goes first, so that a file can become a directory (B-32). A symbolic
        // link cannot be changed in place without changing it in live too.
        let replaced = match difference.flatten() {
            Some(Difference::Kind) => true,
            Some(Difference::Metadata) => matches!(new.kind, EntryKind::Symlink { .. }),
            _ => false,
        };
        if replaced {
            self.remove(new.path.clone())?;
        }
        let old = old.filter(|_| !replaced);
        match &new.kind {
            EntryKind::Directory => return self.directory(old, new),
            EntryKind::File { .. } => return self.file(old, new),
            EntryKind::Symlink { text } => {
                if old.is_none() {
                    let (path, text) = (new.path.clone(), text.clone());
                    self.create(Command::Symlink { path, text, mtime: new.mtime }, ENTRY_SPACE)?;
                }
                self.hasher.add(&new, [0; 32]);
            }
        }
        Ok(())
    }

    fn directory(&mut self, old: Option<Entry>, new: Entry) -> Result<(), PackError> {
        let mode_before = match &old {
            Some(old) => old.mode,
            None => {
                let mode = new.mode | OWNER;
                self.create(Command::Mkdir { path: new.path.clone(), mode }, ENTRY_SPACE)?;
                mode
            }
        };
        self.hasher.add(&new, [0; 32]);
        let touched = old.as_ref().is_none_or(|old| old.mtime != new.mtime);
        let directory =
            Directory { mode: new.mode, mtime: new.mtime, mode_before, existed: old.is_some(), touched };
        self.directories.insert(new.path, directory);
        Ok(())
    }

    fn file(&mut self, old: Option<Entry>, new: Entry) -> Result<(), PackError> {
        let EntryKind::File { inode, .. } = new.kind else { return Ok(()) };
        let old_file = old.as_ref().and_then(|old| match old.kind {
            EntryKind::File { inode, links, .. } => Some((inode, links)),
            _ => None,
        });
        if let Some(hash) = self.hasher.known(inode) {
            return self.later_name(old, new, hash);
        }
        let cached = self.cache.as_mut().and_then(|cache| cache.find(&new)).filter(|_| !self.pack.checksum);
        let verdict = match (&old, cached) {
            (Some(old), Some(hash)) if looks_same(old, &new) => unchanged(old, new, hash),
            _ => self.reader.verdict(old.as_ref(), &new)?,
        };
        if verdict.disguised {
            self.changes.changed += 1;
        }
        self.keep(&verdict);
        self.hasher.add(&verdict.entry, verdict.hash);
        let left_alone = old_file.filter(|_| matches!(verdict.order, Order::Nothing));
        self.links.first(&verdict.entry, left_alone.map(|(inode, _)| inode));
        if let Some((old_inode, 2..)) = left_alone {
            self.links.left_alone(&verdict.entry, old_inode);
        }
        self.write(verdict)
    }

    /// A name of a file of which another name went before.
    fn later_name(&mut self, old: Option<Entry>, new: Entry, hash: [u8; 32]) -> Result<(), PackError> {
        let EntryKind::File { inode, .. } = new.kind else { return Ok(()) };
        if !self.links.first_of(inode).is_some_and(|first| new.is_unwritten_since(first)) {
            return Err(self.reader.changing(&new.path));
        }
        let before = match old {
            None => Before::Absent,
            Some(old) => match old.kind {
                EntryKind::File { inode, .. } if looks_same(&old, &new) && old.mode == new.mode => {
                    Before::Same(inode)
                }
                _ => Before::Changed,
            },
        };
        self.hasher.add(&new, hash);
        self.links.later(inode, new.path, before);
        Ok(())
    }

    /// Remembers the content hash of a file that looks as it did when it was read.
    fn keep(&mut self, verdict: &Verdict) {
        let issued = i64::try_from(self.pack.issued).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        let settled = verdict.entry.mtime < issued.saturating_sub(SETTLED_NS);
        if let Some(cache) = &mut self.cache
            && settled
            && !verdict.disguised
        {
            cache.keep(&verdict.entry, verdict.hash);
        }
    }

    /// Lets files take their content from the base, behind all that makes directories for them.
    fn borrow(&mut self) -> Result<(), PackError> {
        for command in std::mem::take(&mut self.borrowing).commands() {
            self.create(command, 0)?;
        }
        Ok(())
    }

    /// Sends what makes the hard links of a node those of staging.
    fn hard_links(&mut self) -> Result<(), PackError> {
        let plan = std::mem::take(&mut self.links).plan();
        for entry in plan.puts {
            self.changes.metadata += 1;
            let verdict = self.reader.verdict(None, &entry)?;
            if !verdict.entry.is_unwritten_since(&entry) {
                return Err(self.reader.changing(&entry.path));
            }
            self.write(verdict)?;
        }
        for link in plan.links {
            match link.before {
                Before::Absent => {}
                Before::Changed => self.remove(link.path.clone())?,
                Before::Same(_) => {
                    self.changes.metadata += 1;
                    self.remove(link.path.clone())?;
                }
            }
            self.create(Command::Link { path: link.path, target: link.target }, 0)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: RelPath) -> Result<(), PackError> {
        self.touch(&path);
        self.gone(&path);
        self.removals.push(&Command::Remove { path })
    }

    /// Notes that the base's content of this name goes, where anything may be borrowed.
    fn gone(&mut self, path: &RelPath) {
        if self.pack.base.and(self.pack.origins).is_some() {
            self.borrowing.gone(path.clone());
        }
    }

    /// Adds the command for a file, if there is one.
    fn write(&mut self, verdict: Verdict) -> Result<(), PackError> {
        let EntryKind::File { size, .. } = verdict.entry.kind else { return Ok(()) };
        let space = verdict.space.next_multiple_of(ENTRY_SPACE) + ENTRY_SPACE;
        match verdict.order {
            Order::Nothing => return Ok(()),
            Order::Command(command @ Command::Chmod { .. }) => return self.create(command, space),
            Order::Command(command) => {
                self.gone(&verdict.entry.path);
                self.create(command, space)?;
            }
            Order::Borrow(borrowed) => {
                self.space += space;
                self.borrowing.add(borrowed);
            }
        }
        self.changed_bytes += size;
        Ok(())
    }

    fn create(&mut self, command: Command, space: u64) -> Result<(), PackError> {
        self.touch(command.path());
        self.space += space;
        self.body.push(&command)
    }

    /// What changes an entry changes the modification time of its directory.
    fn touch(&mut self, path: &RelPath) {
        if let Some(directory) = parent(path).and_then(|parent| self.directories.get_mut(&parent)) {
            directory.touched = true;
        }
    }

    fn finish(mut self) -> Result<Packed, PackError> {
        let out = self.pack.out;
        let (mut openings, mut closings) = (List::new(out, ".openings"), List::new(out, ".closings"));
        for (path, directory) in &mut self.directories {
            if directory.existed && directory.touched && directory.mode_before & OWNER != OWNER {
                directory.mode_before |= OWNER;
                openings.push(&Command::Chmod { path: path.clone(), mode: directory.mode_before })?;
            }
        }
        for (path, directory) in self.directories.iter().rev() {
            if directory.touched {
                closings.push(&Command::Utimes { path: path.clone(), mtime: directory.mtime })?;
            }
            if directory.mode != directory.mode_before {
                closings.push(&Command::Chmod { path: path.clone(), mode: directory.mode })?;
            }
        }
        let all = [openings, self.removals, self.body, closings];
        if let Some(cache) = self.cache.take()
            && let Err(error) = cache.save()
        {
            log::warn!("cannot remember content hashes, the next publish reads all files: {error}");
        }
        let mut packed = Packed {
            shape: None,
            changes: self.changes,
            changed_bytes: self.changed_bytes,
            tree: self.hasher.finish(),
            left_out: Vec::new(),
            left_out_count: 0,
            space: self.space,
        };
        if all.iter().any(|list| list.count > 0) || self.pack.base.is_none() || self.pack.known.is_some() {
            packed.shape = Some(sign(self.pack, self.reader.into_data(), &all, &packed)?);
        }
        Ok(packed)
    }
}

/// What the owner of a directory needs to work in it.
const OWNER: u32 = 0o700;

fn sign(pack: &Pack<'_>, data: DataFile, lists: &[List<'_>], packed: &Packed) -> Result<Shape, PackError> {
    let failed = |source| PackError::Write { path: pack.out.into(), source };
    let key = pack.sealing.map(|sealing| &sealing.key);
    let data_len = key.map_or(data.len(), |_| sealed_len(data.len()));
    // They are sealed as one: only those in clear may be longer than memory is large.
    let sealed = key.map(|key| sealed(lists, key)).transpose().map_err(failed)?;
    let in_clear = lists.iter().map(|list| list.commands.end()).sum();
    let command_len = sealed.as_ref().map_or(in_clear, |sealed| sealed.len() as u64);
    let leaves = data_len.div_ceil(crate::wire::assignment::LEAF_LEN);
    let files = packed.tree.files + packed.tree.symlinks;
    for (what, size, max) in [
        ("data", data_len, DATA_MAX),
        // The header and the trailer take less than this page.
        ("commands", command_len + leaves * 32 + 4_096, COMMAND_BUFFER_MAX),
        ("number of files", files, u64::from(u32::MAX)),
    ] {
        if size > max {
            return Err(PackError::TooLarge { what, size, max });
        }
    }
    let header = Header {
        assignment: pack.assignment,
        job: pack.job,
        kind: if pack.base.is_some() { Kind::Publish } else { Kind::Replicate },
        part: None,
        site: pack.site.clone(),
        base: pack.base,
        result: packed.tree.hash,
        issued: pack.issued,
        command_count: lists.iter().map(|list| list.count).sum(),
        command_len: command_len as u32,
        data_len,
        space: packed.space,
        files: files as u32,
        largest_file: packed.tree.largest_file,
        order: pack.order.map(<[u8]>::to_vec),
        salt: pack.sealing.map(|sealing| sealing.salt),
    };
    data.finish_with(key, |data_len, leaves, to| {
        let (mut signing, head) = Signing::begin(&Header { data_len, ..header });
        to.write_all(&head)?;
        let mut write = |bytes: &[u8]| {
            signing.add(bytes);
            to.write_all(bytes)
        };
        match &sealed {
            Some(sealed) => write(sealed)?,
            None => lists.iter().try_for_each(|list| list.commands.each(&mut write))?,
        }
        write(leaves.as_flattened())?;
        let (shape, trailer) = signing.finish(pack.publisher);
        to.write_all(&trailer)?;
        Ok(shape)
    })
    .map_err(failed)
}

/// All commands, encrypted.
fn sealed(lists: &[List<'_>], key: &ContentKey) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(lists.iter().map(|list| list.commands.end() as usize).sum());
    for list in lists {
        list.commands.each(|part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
    }
    key.seal_commands(&mut bytes);
    Ok(bytes)
}

/// The directory an entry lies in; `None` for the root.
fn parent(path: &RelPath) -> Option<RelPath> {
    let slash = path.as_bytes().iter().rposition(|&byte| byte == b'/')?;
    RelPath::new(&path.as_bytes()[..slash]).ok()
}

#[cfg(test)]
mod tests;
