//! Hard links of the new tree, and what must be sent so that a node has the same ones.
//!
//! The first name of a file in walk order is sent as any file is. A later name is in order if it was a
//! name of the same file before and that file was left alone; otherwise it is linked anew. Names that
//! were of one file and no longer are, yet look the same, are found here too: all but one are sent.

use super::inodes::Inodes;
use super::walk::{Entry, EntryKind, Inode};
use crate::wire::assignment::RelPath;
use std::collections::{BTreeMap, BTreeSet};

/// Gathers the files with several names during one walk.
#[derive(Default)]
pub struct Links {
    /// By file of the new tree.
    groups: BTreeMap<Inode, Group>,
    /// Files of the old tree of which a name was left alone: it keeps the old file for itself.
    left_alone: Inodes,
    /// Files of the new tree that were left alone under another name of such a file.
    apart: Vec<Entry>,
}

struct Group {
    first: Entry,
    /// The file of the old tree that the first name is, where nothing is sent for it.
    old: Option<Inode>,
    later: Vec<(RelPath, Before)>,
}

/// What a later name was in the old tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing that is still there.
    Absent,
    /// A file that differs in what a walk sees.
    Changed,
    /// A name of this file, which looks the same now.
    Same(Inode),
}

/// What to send for hard links, behind everything else that creates.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files to send although they look unchanged, for they were one with another.
    pub puts: Vec<Entry>,
    /// Names to link; one that exists is removed first.
    pub links: Vec<Link>,
}

#[derive(Debug)]
pub struct Link {
    pub path: RelPath,
    pub target: RelPath,
    pub before: Before,
}

impl Links {
    /// The first name of a file that may have more. `old` is the file it was, where nothing is sent for it.
    pub fn first(&mut self, first: &Entry, old: Option<Inode>) {
        if let EntryKind::File { inode, links: 2.., .. } = first.kind {
            self.groups.insert(inode, Group { first: first.clone(), old, later: Vec::new() });
        }
    }

    /// The first name of the file that `entry` is another name of.
    pub fn first_of(&self, inode: Inode) -> Option<&Entry> {
        self.groups.get(&inode).map(|group| &group.first)
    }

    /// Another name of a file whose first was given.
    pub fn later(&mut self, inode: Inode, path: RelPath, before: Before) {
        if let Some(group) = self.groups.get_mut(&inode) {
            group.later.push((path, before));
        }
    }

    /// A first name for which nothing is sent, of a file that had several names in the old tree.
    pub fn left_alone(&mut self, entry: &Entry, old: Inode) {
        if !self.left_alone.insert(old) {
            self.apart.push(entry.clone());
        }
    }

    pub fn plan(self) -> Plan {
        let inode = |entry: &Entry| match entry.kind {
            EntryKind::File { inode, .. } => Some(inode),
            _ => None,
        };
        let sent: BTreeSet<Inode> = self.apart.iter().filter_map(inode).collect();
        let mut plan = Plan { puts: self.apart, links: Vec::new() };
        for (inode, group) in self.groups {
            let old = group.old.filter(|_| !sent.contains(&inode));
            for (path, before) in group.later {
                let in_order = old.is_some_and(|old| before == Before::Same(old));
                if !in_order {
                    plan.links.push(Link { path, target: group.first.path.clone(), before });
                }
            }
        }
        plan
    }
}
