//! What composing and staging keep of each file of a large tree.

use farmcast::content::contents::Contents;
use farmcast::content::links::Links;
use farmcast::content::tree::Hasher;
use farmcast::content::walk::{Entry, EntryKind};
use farmcast::wire::assignment::{Coding, Item, RelPath};
use std::path::Path;

/// Files of the tree.
pub const FILES: u64 = 10_000;

/// Files that a release which is kept names too, none of which is sent.
pub fn leave_alone() -> Links {
    let mut links = Links::default();
    for entry in entries() {
        let EntryKind::File { inode, .. } = entry.kind else { continue };
        links.left_alone(&entry, inode);
    }
    links
}

/// The hash of a tree of such files.
pub fn hash() -> Hasher {
    let mut hasher = Hasher::new();
    entries().for_each(|entry| hasher.add(&entry, [1; 32]));
    hasher
}

/// As many contents, no two alike.
pub fn store(out: &Path) -> Contents {
    let mut contents = Contents::new(out);
    for number in 0..FILES {
        let item = Item { offset: number * 600, len: 600, decoded_len: 600, coding: Coding::Raw };
        let hash = blake3::hash(&number.to_be_bytes());
        contents.add(hash.as_bytes(), Some(item), &[]).expect("there is room");
    }
    contents
}

fn entries() -> impl Iterator<Item = Entry> {
    (0..FILES).map(|number| Entry {
        path: RelPath::new(format!("a/directory/page-{number:07}.html").as_bytes()).expect("it is a path"),
        kind: EntryKind::File { size: 600, inode: (1, 50_000 + number), links: 2 },
        mode: 0o644,
        mtime: 0,
    })
}
