//! A state of a disk as a directory, so that farmcast itself can be run on it.

use crate::disk::{Found, State};
use crate::history::{Content, Node, Version};
use farmcast::content::dir::{self, Dir};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Builds states one after the other at one place.
pub struct Builder {
    place: PathBuf,
    dir: Dir,
    /// Files that were found in earlier states, to be linked into the next ones, which costs a call instead of five.
    pool: Dir,
    pooled: BTreeMap<Key, Vec<u8>>,
}

/// An inode with its mode, time, and the bytes as they were recorded, by where they are.
type Key = (Node, u32, i64, usize);

impl Builder {
    /// A place of its own, which is made.
    pub fn new(place: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(place.join("pool"))?;
        let dir = Dir::open(&place)?;
        let pool = dir.child(b"pool")?;
        Ok(Self { place, dir, pool, pooled: BTreeMap::new() })
    }

    /// The directory that a state becomes.
    pub fn site(&self) -> PathBuf {
        self.place.join("site")
    }

    /// Builds it in the place of the one before.
    pub fn build(&mut self, state: &State) -> io::Result<PathBuf> {
        if self.dir.find(b"site")?.is_some() {
            self.dir.remove(b"site")?;
        }
        self.dir.make(b"site", 0o755)?;
        let site = self.dir.child(b"site")?;
        let mut numbers = BTreeMap::from([(state.root, site.own_stat()?.st_ino)]);
        let mut records = Vec::new();
        self.fill(&site, state, state.root, &mut numbers, &mut records)?;
        for (directory, name, found) in records {
            let Content::File(bytes) = &found.version.content else {
                unreachable!("it was chosen as a file")
            };
            let bytes = renumbered(&name, bytes, &numbers);
            write_file(&directory, &name, &bytes, &found.version)?;
        }
        Ok(self.site())
    }

    fn fill<'s>(
        &mut self,
        to: &Dir,
        state: &'s State,
        directory: Node,
        numbers: &mut BTreeMap<Node, u64>,
        records: &mut Vec<(Dir, Vec<u8>, &'s Found)>,
    ) -> io::Result<()> {
        for (name, found) in &state.directories[&directory] {
            let (text, version) = (name.as_bytes(), &found.version);
            match &version.content {
                Content::Directory => {
                    to.make(text, 0o700)?;
                    let child = to.child(text)?;
                    numbers.insert(found.node, child.own_stat()?.st_ino);
                    self.fill(&child, state, found.node, numbers, records)?;
                    child.own_utimes(version.mtime)?;
                    child.own_chmod(version.mode)?;
                }
                Content::File(_) if names_inodes(name) => {
                    records.push((to.child(b".")?, text.to_vec(), found))
                }
                // What was being written may be written on.
                Content::File(bytes) if found.torn || text.ends_with(b".new") => {
                    write_file(to, text, bytes, version)?
                }
                Content::File(_) | Content::Symlink(_) => self.link(to, text, found)?,
            }
        }
        Ok(())
    }

    fn link(&mut self, to: &Dir, name: &[u8], found: &Found) -> io::Result<()> {
        let version = &found.version;
        let (Content::File(bytes) | Content::Symlink(bytes)) = &version.content else {
            unreachable!("directories are made")
        };
        let key = (found.node, version.mode, version.mtime, bytes.as_ptr() as usize);
        if !self.pooled.contains_key(&key) {
            let fresh = self.pooled.len().to_string().into_bytes();
            match version.content {
                Content::Symlink(_) => {
                    self.pool.symlink(&fresh, bytes)?;
                    self.pool.utimes(&fresh, version.mtime)?;
                }
                _ => write_file(&self.pool, &fresh, bytes, version)?,
            }
            self.pooled.insert(key, fresh);
        }
        to.link(name, &self.pool, &self.pooled[&key])
    }

    /// Whether all that was linked into states is as it was: nobody may write into a file that has other names.
    pub fn is_untouched(&self) -> io::Result<bool> {
        for ((_, mode, mtime, _), name) in &self.pooled {
            let stat = self.pool.stat(name)?;
            let is_link = dir::Kind::of(&stat) == dir::Kind::Symlink;
            if dir::mtime(&stat) != *mtime || (!is_link && stat.st_mode & 0o7777 != *mode) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        let name = self.place.file_name().expect("it was joined").as_bytes();
        let removed = Dir::open(self.place.parent().expect("it was joined")).and_then(|dir| dir.remove(name));
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.place.display());
        }
    }
}

fn write_file(to: &Dir, name: &[u8], bytes: &[u8], version: &Version) -> io::Result<()> {
    let mut file = to.create(name)?;
    file.write_all(bytes)?;
    dir::set_mode(&file, version.mode)?;
    dir::set_mtime(&file, version.mtime)
}

/// Whether a file of this name holds inode numbers, which are others in each image.
fn names_inodes(name: &OsStr) -> bool {
    let name = Path::new(name);
    (name.file_stem() == Some(OsStr::new("journal")) || name.file_stem() == Some(OsStr::new("doubt")))
        && (name.extension().is_none() || name.extension() == Some(OsStr::new("new")))
}

/// A journal or a doubt with the inode numbers of this image. One whose checksum is wrong stays as it is.
fn renumbered(name: &[u8], bytes: &[u8], numbers: &BTreeMap<Node, u64>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some((body, sum)) = bytes.split_last_chunk_mut::<8>() else { return bytes };
    if xxh3_64(body) != u64::from_be_bytes(*sum) {
        return bytes;
    }
    let places = if name.starts_with(b"doubt") {
        assert_eq!(&body[..5], b"FCDB\x01", "doubts have another form: tell it here");
        vec![5]
    } else {
        assert_eq!(&body[..5], b"FCJL\x03", "journals have another form: tell it here");
        // Behind order, assignment and instant stands the source, of which one names a release.
        let incoming = 29 + if body[29] == 0 { 1 } else { 9 };
        let result = incoming + 8;
        vec![incoming, result + if body[result] == 0 { 1 } else { 33 }]
    };
    for at in places {
        let number = body[at..].first_chunk_mut::<8>().expect("the record is longer");
        // What is gone has the number of nothing.
        let new = numbers.get(&u64::from_be_bytes(*number)).copied().unwrap_or(u64::MAX);
        *number = new.to_be_bytes();
    }
    *sum = xxh3_64(body).to_be_bytes();
    bytes
}
