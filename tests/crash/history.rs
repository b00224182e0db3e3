//! What a process changes in a directory, call by call, and what it makes durable: the tree is looked at behind each
//! call, so that nothing it did is missed, whatever call did it.

use crate::tracer::{self, Deed};
use nix::libc;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// An inode number.
pub type Node = u64;

/// A name in a directory.
pub type Slot = (Node, OsString);

/// What an inode holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Directory,
    File(Arc<[u8]>),
    Symlink(Arc<[u8]>),
}

/// An inode as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub mode: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime: i64,
    pub content: Content,
}

/// All below one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub root: Node,
    pub names: BTreeMap<Slot, Node>,
    pub nodes: BTreeMap<Node, Version>,
}

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Event {
    Change {
        /// Names that stand for another inode now, or for none: all of them or none are found after a power cut.
        names: Vec<(Slot, Option<Node>)>,
        nodes: Vec<(Node, Version)>,
    },
    /// What belongs to this inode is on the disk.
    Sync(Node),
    SyncAll,
    Mark,
}

/// A directory as it was, and what happened to it.
#[derive(Debug)]
pub struct History {
    pub before: Tree,
    pub events: Vec<Event>,
}

impl History {
    /// Runs `body`, which makes so many marks, the one behind it included; whatever it changes lies below `root`.
    ///
    /// # Panics
    /// If the body says anything.
    pub fn of(root: &Path, marks: usize, body: impl FnOnce() -> String) -> Self {
        let before = Tree::read(root);
        let (mut last, mut events) = (before.clone(), Vec::new());
        let said = tracer::watch(marks, body, |child, deed| match deed {
            Deed::Mark => events.push(Event::Mark),
            Deed::Call { call, descriptor, worked } => {
                let now = Tree::read(root);
                events.extend(last.change_to(&now));
                last = now;
                // Where only the length and the bytes of a file would be durable, the model would have to know.
                assert!(!call.is(libc::SYS_fdatasync), "the model knows no fdatasync yet");
                if worked && call.is(libc::SYS_fsync) {
                    events.push(Event::Sync(inode_of(child, descriptor)));
                } else if worked && call.is(libc::SYS_syncfs) {
                    events.push(Event::SyncAll);
                }
            }
        });
        assert_eq!(said, "", "what is to be recorded failed");
        Self { before, events }
    }
}

fn inode_of(child: Pid, descriptor: i32) -> Node {
    fs::metadata(format!("/proc/{child}/fd/{descriptor}")).expect("it was just synced").ino()
}

impl Tree {
    pub fn read(root: &Path) -> Self {
        let mut tree = Self { root: fs::metadata(root).expect("the root stays").ino(), ..Self::default() };
        tree.add(root);
        tree
    }

    fn add(&mut self, path: &Path) -> Node {
        let stat = fs::symlink_metadata(path).expect("nobody else is at work here");
        let node = stat.ino();
        let content = if stat.is_dir() {
            for entry in fs::read_dir(path).expect("directories can be read") {
                let entry = entry.expect("a name");
                let below = self.add(&entry.path());
                self.names.insert((node, entry.file_name()), below);
            }
            Content::Directory
        } else if stat.is_symlink() {
            Content::Symlink(fs::read_link(path).expect("a link").into_os_string().into_vec().into())
        } else {
            Content::File(fs::read(path).expect("files can be read").into())
        };
        let mtime = stat.mtime() * 1_000_000_000 + stat.mtime_nsec();
        self.nodes.insert(node, Version { mode: stat.mode() & 0o7777, mtime, content });
        node
    }

    fn change_to(&self, now: &Self) -> Option<Event> {
        let gone = self.names.keys().filter(|slot| !now.names.contains_key(slot));
        let gone = gone.map(|slot| (slot.clone(), None));
        let set = now.names.iter().filter(|(slot, node)| self.names.get(slot) != Some(node));
        let set = set.map(|(slot, node)| (slot.clone(), Some(*node)));
        let names: Vec<_> = gone.chain(set).collect();
        let other = now.nodes.iter().filter(|(node, version)| self.nodes.get(node) != Some(version));
        let nodes: Vec<_> = other.map(|(node, version)| (*node, version.clone())).collect();
        (!names.is_empty() || !nodes.is_empty()).then_some(Event::Change { names, nodes })
    }
}
