//! Trees for tests, and a small interpreter of commands that is written for being obviously right.

use super::walk::{EntryKind, Walk, absolute};
use crate::wire::assignment::{Coding, Command, CommandBuffer, Extent, Item, Mtime, RelPath, Shape, gaps};
use crate::wire::seal::PublicKey;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory that is removed at the end, whatever modes the test left in it.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        open_up(self.path());
    }
}

/// Lets the owner into every directory.
fn open_up(path: &Path) {
    if path.is_symlink() || !path.is_dir() {
        return;
    }
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

pub fn rel(path: &[u8]) -> RelPath {
    RelPath::new(path).unwrap()
}

pub fn at(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

/// A time in the past, distinct for each number.
pub const fn time(number: i64) -> Mtime {
    1_600_000_000_000_000_000 + number * 1_000_000_007
}

pub fn set_mtime(path: &Path, mtime: Mtime) {
    let time = TimeSpec::nanoseconds(mtime);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a file with a mode of 0o644 and the given time; directories above are made.
pub fn write(root: &Path, path: &str, bytes: &[u8], mtime: Mtime) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    set_mode(&path, 0o644);
    set_mtime(&path, mtime);
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Sets the time of every directory to one that follows from the names in it, so that trees built alike
/// are alike.
pub fn settle_directories(root: &Path) {
    let mut directories = Vec::new();
    for entry in Walk::open(root).unwrap() {
        let entry = entry.unwrap();
        if entry.is_directory() {
            directories.push(absolute(root, &entry.path));
        }
    }
    for path in directories {
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut sum = xxhash_rust::xxh3::Xxh3Default::new();
        for name in names {
            sum.update(name.as_bytes());
        }
        set_mtime(&path, time((sum.digest() % 1_000_000) as i64));
    }
}

/// A copy of a tree whose files are hard links of the original's, as a node's `temp` is of `live`.
pub fn linked_copy(from: &Path, to: &Path) {
    let mut directories = Vec::new();
    for entry in Walk::open(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (absolute(from, &entry.path), absolute(to, &entry.path));
        match entry.kind {
            EntryKind::Directory => {
                fs::create_dir(&target).unwrap();
                directories.push((target, entry.mode, entry.mtime));
            }
            EntryKind::File { .. } => fs::hard_link(source, target).unwrap(),
            EntryKind::Symlink { text } => {
                std::os::unix::fs::symlink(OsStr::from_bytes(&text), &target).unwrap();
                set_mtime(&target, entry.mtime);
            }
        }
    }
    for (path, mode, mtime) in directories.into_iter().rev() {
        set_mtime(&path, mtime);
        set_mode(&path, mode);
    }
}

/// The command buffer and the data of an assignment file, every leaf checked.
pub fn open(path: &Path, shape: &Shape, publisher: &PublicKey) -> (CommandBuffer, fs::File) {
    let file = fs::File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), shape.file_len());
    let mut bytes = vec![0; shape.command_len as usize];
    file.read_exact_at(&mut bytes, shape.command_offset()).unwrap();
    let buffer = CommandBuffer::open(shape, &bytes, publisher).unwrap();
    for block in shape.command_blocks()..shape.blocks() {
        let leaf = shape.leaf_of(block).unwrap();
        let (offset, len) = shape.block(block);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(Some(&crate::wire::seal::leaf_hash(leaf, &bytes)), buffer.leaf(leaf), "leaf {leaf}");
    }
    let mut gap = vec![1; (shape.command_offset() - shape.data_len) as usize];
    file.read_exact_at(&mut gap, shape.data_len).unwrap();
    assert!(gap.iter().all(|&byte| byte == 0), "zeros between data and commands");
    (buffer, file)
}

/// Carries out the commands of an assignment on the tree at `root`, a copy of the one at `base`.
pub fn apply(root: &Path, base: &Path, buffer: &CommandBuffer, data: &fs::File) {
    for command in buffer.commands() {
        let command = command.unwrap();
        let path = absolute(root, command.path());
        match command {
            Command::Mkdir { mode, .. } => {
                fs::create_dir(&path).unwrap();
                set_mode(&path, mode);
            }
            Command::Put { mode, mtime, size, hash, item, extents, .. } => {
                let start = new_file(&path);
                write_content(&start, size, data, item, &extents);
                replace(&path, mode, mtime, hash);
            }
            Command::Patch { mode, mtime, size, base, hash, item, extents, .. } => {
                assert_eq!(hash_of(&path), base, "{}", path.display());
                let start = new_file(&path);
                std::io::copy(&mut fs::File::open(&path).unwrap(), &mut &start).unwrap();
                let extents = if extents.is_empty() && item.is_none() { None } else { Some(extents) };
                start.set_len(size).unwrap();
                if let Some(extents) = extents {
                    assert!(!extents.is_empty(), "a patch names its extents");
                    write_content(&start, size, data, item, &extents);
                }
                replace(&path, mode, mtime, hash);
            }
            Command::Splice { mode, mtime, size, base, hash, item, copies, .. } => {
                assert_eq!(hash_of(&path), base, "{}", path.display());
                let (old, start) = (fs::read(&path).unwrap(), new_file(&path));
                write_content(&start, size, data, item, &gaps(&copies, size));
                for copied in copies {
                    let bytes = &old[copied.from as usize..][..copied.len as usize];
                    start.write_all_at(bytes, copied.to).unwrap();
                }
                replace(&path, mode, mtime, hash);
            }
            Command::Copy { from, mode, mtime, hash, .. } => {
                let start = new_file(&path);
                std::io::copy(&mut fs::File::open(absolute(base, &from)).unwrap(), &mut &start).unwrap();
                replace(&path, mode, mtime, hash);
            }
            Command::Move { from, .. } => {
                let _ = fs::remove_file(&path);
                fs::hard_link(absolute(base, &from), &path).unwrap();
            }
            Command::Link { target, .. } => fs::hard_link(absolute(root, &target), &path).unwrap(),
            Command::Symlink { text, mtime, .. } => {
                std::os::unix::fs::symlink(OsStr::from_bytes(&text), &path).unwrap();
                set_mtime(&path, mtime);
            }
            Command::Remove { .. } => {
                if path.symlink_metadata().unwrap().is_dir() {
                    open_up(&path);
                    fs::remove_dir_all(&path).unwrap();
                } else {
                    fs::remove_file(&path).unwrap();
                }
            }
            Command::Chmod { mode, .. } => {
                let metadata = path.symlink_metadata().unwrap();
                if metadata.is_file() {
                    let mtime = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
                    let hash = hash_of(&path);
                    let start = new_file(&path);
                    std::io::copy(&mut fs::File::open(&path).unwrap(), &mut &start).unwrap();
                    replace(&path, mode, mtime, hash);
                } else {
                    assert!(metadata.is_dir());
                    set_mode(&path, mode);
                }
            }
            Command::Utimes { mtime, .. } => set_mtime(&path, mtime),
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(".applying")
}

fn new_file(path: &Path) -> fs::File {
    fs::File::options().read(true).write(true).create_new(true).open(beside(path)).unwrap()
}

fn replace(path: &Path, mode: u32, mtime: Mtime, hash: [u8; 32]) {
    assert_eq!(hash_of(&beside(path)), hash, "{}", path.display());
    set_mode(&beside(path), mode);
    set_mtime(&beside(path), mtime);
    assert!(!path.is_symlink(), "a symbolic link is removed before a file takes its name");
    fs::rename(beside(path), path).unwrap();
}

pub fn hash_of(path: &Path) -> [u8; 32] {
    let file = fs::File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    super::sparse::hash_file(&file, size, &mut Vec::new()).unwrap()
}

fn write_content(file: &fs::File, size: u64, data: &fs::File, item: Option<Item>, extents: &[Extent]) {
    file.set_len(size).unwrap();
    let Some(item) = item else { return };
    let mut bytes = vec![0; item.len as usize];
    data.read_exact_at(&mut bytes, item.offset).unwrap();
    if item.coding == Coding::Zstd {
        assert_eq!(zstd::bulk::Decompressor::upper_bound(&bytes), Some(item.decoded_len as usize));
        bytes = zstd::bulk::decompress(&bytes, item.decoded_len as usize).unwrap();
    }
    assert_eq!(bytes.len() as u64, item.decoded_len);
    let whole = [Extent { offset: 0, len: size }];
    let mut rest = &bytes[..];
    for extent in if extents.is_empty() { &whole[..] } else { extents } {
        let (part, behind) = rest.split_at(extent.len as usize);
        file.write_all_at(part, extent.offset).unwrap();
        rest = behind;
    }
    assert!(rest.is_empty());
}

/// One step of building a tree; it makes room for itself where something stands in its way.
#[derive(Clone, Debug)]
pub enum Step {
    Write {
        path: Vec<u8>,
        seed: u64,
        len: usize,
        mode: u32,
        mtime: Mtime,
    },
    /// Overwrites some bytes of a file in place, if there is one.
    Edit {
        path: Vec<u8>,
        seed: u64,
        offset: usize,
        len: usize,
        mtime: Mtime,
    },
    Mkdir {
        path: Vec<u8>,
        mode: u32,
    },
    Symlink {
        path: Vec<u8>,
        text: Vec<u8>,
        mtime: Mtime,
    },
    /// Another name of a file, if there is one.
    Link {
        path: Vec<u8>,
        target: Vec<u8>,
    },
    /// The same bytes, mode and time in a file of its own, if there is one.
    Unlink {
        path: Vec<u8>,
    },
    Remove {
        path: Vec<u8>,
    },
    Chmod {
        path: Vec<u8>,
        mode: u32,
    },
    Touch {
        path: Vec<u8>,
        mtime: Mtime,
    },
    Rename {
        path: Vec<u8>,
        to: Vec<u8>,
    },
}

pub fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 0..max)
}

fn step() -> impl Strategy<Value = Step> {
    let component =
        prop::sample::select(vec![&b"a"[..], b"b", b"a.b", b"c d", "\u{fc}".as_bytes(), b"\xff\x01"]);
    let path = prop::collection::vec(component, 1..4).prop_map(|components| components.join(&b'/'));
    let mtime = (0_i64..20).prop_map(time);
    let file_mode = prop::sample::select(vec![0o644_u32, 0o600, 0o755, 0o444]);
    let directory_mode = prop::sample::select(vec![0o755_u32, 0o700, 0o555]);
    let len = prop::sample::select(vec![0_usize, 1, 127, 4_095, 4_096, 4_097, 20_000, 70_000]);
    prop_oneof![
        6 => (path.clone(), 0_u64..4, len.clone(), file_mode.clone(), mtime.clone())
            .prop_map(|(path, seed, len, mode, mtime)| Step::Write { path, seed, len, mode, mtime }),
        3 => (path.clone(), 0_u64..4, 0_usize..80_000, 0_usize..9_000, mtime.clone())
            .prop_map(|(path, seed, offset, len, mtime)| Step::Edit { path, seed, offset, len, mtime }),
        2 => (path.clone(), directory_mode).prop_map(|(path, mode)| Step::Mkdir { path, mode }),
        2 => (path.clone(), path.clone(), mtime.clone())
            .prop_map(|(path, text, mtime)| Step::Symlink { path, text, mtime }),
        3 => (path.clone(), path.clone()).prop_map(|(path, target)| Step::Link { path, target }),
        1 => path.clone().prop_map(|path| Step::Unlink { path }),
        2 => path.clone().prop_map(|path| Step::Remove { path }),
        1 => (path.clone(), file_mode).prop_map(|(path, mode)| Step::Chmod { path, mode }),
        1 => (path.clone(), mtime).prop_map(|(path, mtime)| Step::Touch { path, mtime }),
        1 => (path.clone(), path).prop_map(|(path, to)| Step::Rename { path, to }),
    ]
}

/// Takes the steps at `root`. The same steps from nothing build the same tree.
pub fn build(root: &Path, steps: &[Step]) {
    let mut modes = BTreeMap::new();
    open_up(root);
    for step in steps {
        take(root, step, &mut modes);
    }
    settle_directories(root);
    for (path, mode) in modes {
        if !path.is_symlink() && path.is_dir() {
            set_mode(&path, mode);
        }
    }
}

/// The same steps with times that no other step has, as in a tree that people work in.
pub fn with_own_times(steps: &[Step], mut number: i64) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        if let Step::Write { mtime, .. } | Step::Edit { mtime, .. } | Step::Touch { mtime, .. } = step {
            *mtime = time(number);
        }
        number += 1;
    }
    steps
}

fn take(root: &Path, step: &Step, modes: &mut BTreeMap<PathBuf, u32>) {
    let regular = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    match step {
        Step::Write { path, seed, len, mode, mtime } => {
            let path = make_room(root, path);
            // Every second content compresses.
            let bytes = if seed % 2 == 0 { noise(*seed, *len) } else { vec![*seed as u8; *len] };
            fs::write(&path, bytes).unwrap();
            set_mode(&path, *mode);
            set_mtime(&path, *mtime);
        }
        Step::Edit { path, seed, offset, len, mtime } => {
            let path = at(root, path);
            if regular(&path) && fs::metadata(&path).unwrap().len() > 0 {
                let mode = fs::metadata(&path).unwrap().mode() & 0o777;
                set_mode(&path, 0o644);
                let file = fs::File::options().write(true).open(&path).unwrap();
                let size = file.metadata().unwrap().len();
                file.write_all_at(&noise(*seed, *len), *offset as u64 % size).unwrap();
                set_mode(&path, mode);
                set_mtime(&path, *mtime);
            }
        }
        Step::Mkdir { path, mode } => {
            let path = make_room(root, path);
            fs::create_dir(&path).unwrap();
            modes.insert(path, *mode);
        }
        Step::Symlink { path, text, mtime } => {
            let path = make_room(root, path);
            std::os::unix::fs::symlink(OsStr::from_bytes(text), &path).unwrap();
            set_mtime(&path, *mtime);
        }
        Step::Link { path, target } => {
            let nested = path.starts_with(target) || target.starts_with(path);
            if !nested && regular(&at(root, target)) {
                let path = make_room(root, path);
                if regular(&at(root, target)) {
                    fs::hard_link(at(root, target), path).unwrap();
                }
            }
        }
        Step::Unlink { path } => {
            let path = at(root, path);
            if regular(&path) {
                let metadata = fs::metadata(&path).unwrap();
                fs::copy(&path, beside(&path)).unwrap();
                set_mtime(&beside(&path), metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
                fs::rename(beside(&path), &path).unwrap();
            }
        }
        Step::Remove { path } => clear(&at(root, path)),
        Step::Chmod { path, mode } => {
            if regular(&at(root, path)) {
                set_mode(&at(root, path), *mode);
            }
        }
        Step::Touch { path, mtime } => {
            if fs::symlink_metadata(at(root, path)).is_ok_and(|metadata| !metadata.is_dir()) {
                set_mtime(&at(root, path), *mtime);
            }
        }
        Step::Rename { path, to } => {
            if regular(&at(root, path)) && !path.starts_with(to) && !to.starts_with(path) {
                let to = make_room(root, to);
                if regular(&at(root, path)) {
                    fs::rename(at(root, path), to).unwrap();
                }
            }
        }
    }
}

/// Removes what is at `path`, and makes the directories above it, in the place of whatever is there.
fn make_room(root: &Path, path: &[u8]) -> PathBuf {
    let mut above = root.to_path_buf();
    let components: Vec<_> = path.split(|&byte| byte == b'/').collect();
    for component in &components[..components.len() - 1] {
        above.push(OsStr::from_bytes(component));
        if above.is_symlink() || !above.is_dir() {
            clear(&above);
            fs::create_dir(&above).unwrap();
        }
    }
    let path = at(root, path);
    clear(&path);
    path
}

fn clear(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}
