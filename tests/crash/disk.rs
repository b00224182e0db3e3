//! A disk whose power is cut: what was not synced is there or not, in any mixture.
//!
//! The rules, on purpose weaker than those of ext4, xfs and btrfs, which keep an order among changes:
//! - What one call does to names is there as a whole or not at all, an exchange too: their journals give that, and
//!   nothing could be built without it.
//! - Changes of the same name of the same directory keep their order. All others are kept or lost independently, also
//!   within one directory.
//! - `fsync` of a directory makes durable what happened to its names, nothing below it; of a file, its content, mode
//!   and time, not its name. `syncfs` makes all durable.
//! - Of a file, content, mode and time are lost independently; its content may be torn, in pieces as small as
//!   [`PIECE`], each as of any moment since it was durable, with zeros where it was never written.

use crate::history::{Content, Event, Node, Slot, Tree, Version};
use farmcast::proto::random::Rng;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

/// Bytes that are written or not; a disk's sector is eight times as large at least, so our records tear too.
const PIECE: usize = 64;

/// What is durable, and what is not yet.
#[derive(Clone, Debug)]
pub struct Disk {
    root: Node,
    names: BTreeMap<Slot, Node>,
    pending: Vec<Naming>,
    /// The first is durable, the others followed one after the other.
    nodes: BTreeMap<Node, Vec<Version>>,
}

/// What one call did to names, and the calls before it without which it cannot be.
#[derive(Clone, Debug)]
struct Naming {
    names: Vec<(Slot, Option<Node>)>,
}

impl Naming {
    fn needs(&self, earlier: &Self) -> bool {
        self.names.iter().any(|(slot, _)| earlier.names.iter().any(|(other, _)| slot == other))
    }

    fn concerns(&self, directory: Node) -> bool {
        self.names.iter().any(|((dir, _), _)| *dir == directory)
    }
}

/// How much is lost.
#[derive(Clone, Copy, Debug)]
enum Fortune {
    /// Each change by itself is kept with this probability.
    Each(f64),
    /// All names up to a moment, as in one journal.
    Until,
}

/// One entry of what a disk holds after a power cut.
#[derive(Clone, Debug)]
pub struct Found {
    pub node: Node,
    pub version: Version,
    /// The content is none that the file ever had.
    pub torn: bool,
}

/// What a disk holds after a power cut: what each directory that can be reached holds.
#[derive(Clone, Debug)]
pub struct State {
    pub root: Node,
    pub directories: BTreeMap<Node, Vec<(OsString, Found)>>,
}

impl Disk {
    /// All of it durable.
    pub fn of(tree: &Tree) -> Self {
        Self {
            root: tree.root,
            names: tree.names.clone(),
            pending: Vec::new(),
            nodes: tree.nodes.iter().map(|(node, version)| (*node, vec![version.clone()])).collect(),
        }
    }

    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Change { names, nodes } => {
                if !names.is_empty() {
                    self.pending.push(Naming { names: names.clone() });
                }
                for (node, version) in nodes {
                    self.nodes.entry(*node).or_default().push(version.clone());
                }
            }
            Event::Sync(node) => {
                self.settle_names(|naming| naming.concerns(*node));
                if let Some(versions) = self.nodes.get_mut(node) {
                    versions.drain(..versions.len() - 1);
                }
            }
            Event::SyncAll => {
                self.settle_names(|_| true);
                self.nodes.values_mut().for_each(|versions| drop(versions.drain(..versions.len() - 1)));
            }
            Event::Mark => {}
        }
    }

    /// Makes durable what is chosen, and all that it needs.
    fn settle_names(&mut self, chosen: impl Fn(&Naming) -> bool) {
        let mut settled = vec![false; self.pending.len()];
        for at in (0..self.pending.len()).rev() {
            let naming = &self.pending[at];
            let needed =
                (at + 1..settled.len()).any(|later| settled[later] && self.pending[later].needs(naming));
            settled[at] = needed || chosen(naming);
        }
        let mut settled = settled.into_iter();
        for naming in std::mem::take(&mut self.pending) {
            if settled.next() == Some(true) {
                put(&mut self.names, &naming.names);
            } else {
                self.pending.push(naming);
            }
        }
    }

    /// Cuts the power: one of the states in which the disk may be found.
    pub fn cut(&self, rng: &mut Rng) -> State {
        let names = self.names_kept(rng);
        let mut below: BTreeMap<Node, Vec<(OsString, Node)>> = BTreeMap::new();
        for ((directory, name), node) in names {
            below.entry(directory).or_default().push((name, node));
        }
        let mut found = BTreeMap::new();
        let mut directories = BTreeMap::new();
        let mut next = vec![self.root];
        while let Some(directory) = next.pop() {
            let mut entries = Vec::new();
            for (name, node) in below.remove(&directory).unwrap_or_default() {
                let entry: &Found = found.entry(node).or_insert_with(|| self.found(node, rng));
                if entry.version.content == Content::Directory {
                    next.push(node);
                }
                entries.push((name, entry.clone()));
            }
            directories.insert(directory, entries);
        }
        State { root: self.root, directories }
    }

    fn names_kept(&self, rng: &mut Rng) -> BTreeMap<Slot, Node> {
        let fortune = match rng.below(6) {
            0 => Fortune::Until,
            1 => Fortune::Each(0.03),
            2 => Fortune::Each(0.97),
            3 => Fortune::Each(0.8),
            4 => Fortune::Each(0.2),
            _ => Fortune::Each(0.5),
        };
        let until = rng.below(self.pending.len() as u64 + 1) as usize;
        let mut names = self.names.clone();
        let mut lost: Vec<&Naming> = Vec::new();
        for (at, naming) in self.pending.iter().enumerate() {
            let kept = match fortune {
                Fortune::Each(share) => rng.chance(share),
                Fortune::Until => at < until,
            };
            if kept && !lost.iter().any(|earlier| naming.needs(earlier)) {
                put(&mut names, &naming.names);
            } else {
                lost.push(naming);
            }
        }
        names
    }

    fn found(&self, node: Node, rng: &mut Rng) -> Found {
        let versions = &self.nodes[&node];
        let any = |rng: &mut Rng| &versions[rng.below(versions.len() as u64) as usize];
        let (last, first) = (&versions[versions.len() - 1], &versions[0]);
        let whole = match rng.below(4) {
            0 => first,
            1 => any(rng),
            _ => last,
        };
        let tears = versions.len() > 1 && rng.chance(0.25);
        let content = if tears { torn(versions, rng) } else { None };
        Found {
            node,
            torn: content.is_some(),
            version: Version {
                mode: any(rng).mode,
                mtime: any(rng).mtime,
                content: content.map_or_else(|| whole.content.clone(), Content::File),
            },
        }
    }
}

fn put(names: &mut BTreeMap<Slot, Node>, changes: &[(Slot, Option<Node>)]) {
    for (slot, node) in changes {
        match node {
            Some(node) => drop(names.insert(slot.clone(), *node)),
            None => drop(names.remove(slot)),
        }
    }
}

/// Bytes of a file of which some pieces were written and others not; `None` where it is no file, or was always empty.
fn torn(versions: &[Version], rng: &mut Rng) -> Option<Arc<[u8]>> {
    let bytes = |version: &Version| match &version.content {
        Content::File(bytes) => Some(Arc::clone(bytes)),
        _ => None,
    };
    let contents: Vec<Arc<[u8]>> = versions.iter().map(bytes).collect::<Option<_>>()?;
    let any = |rng: &mut Rng| &contents[rng.below(contents.len() as u64) as usize];
    let len = any(rng).len();
    let mut torn = vec![0; len];
    for (index, piece) in torn.chunks_mut(PIECE).enumerate() {
        let from = any(rng).get(index * PIECE..).unwrap_or_default();
        let part = from.len().min(piece.len());
        piece[..part].copy_from_slice(&from[..part]);
    }
    (len > 0).then(|| torn.into())
}

impl State {
    /// The same for the same state.
    pub fn fingerprint(&self) -> u128 {
        let mut hasher = blake3::Hasher::new();
        for (directory, entries) in &self.directories {
            hasher.update(&directory.to_be_bytes()).update(&(entries.len() as u64).to_be_bytes());
            for (name, Found { node, version, .. }) in entries {
                let content: &[u8] = match &version.content {
                    Content::Directory => &[],
                    Content::File(bytes) | Content::Symlink(bytes) => bytes,
                };
                let name = name.as_encoded_bytes();
                hasher.update(&(name.len() as u64).to_be_bytes()).update(name).update(&node.to_be_bytes());
                hasher.update(&version.mode.to_be_bytes()).update(&version.mtime.to_be_bytes());
                hasher.update(&(content.len() as u64).to_be_bytes()).update(content);
            }
        }
        let hash = *hasher.finalize().as_bytes();
        u128::from_be_bytes(*hash.first_chunk().expect("a hash is longer"))
    }
}
