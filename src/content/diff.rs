//! What differs between two walks (ST-7, ST-8, ST-9): a merge of two ordered lists, in memory that does
//! not grow with them.

use super::walk::{Entry, EntryKind, WalkError};
use crate::wire::assignment::RelPath;
use std::cmp::Ordering;
use std::iter::Peekable;

/// One difference between the old tree and the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only in the new tree. Every entry below a new directory is a change of its own.
    Added(Entry),
    /// Only in the old tree. What was below a directory goes with it and is not named.
    Removed(Entry),
    /// A file whose size or modification time differs (ST-9); its mode may differ too.
    Content { old: Entry, new: Entry },
    /// Only the mode differs, or the modification time of a directory or symbolic link.
    Metadata { old: Entry, new: Entry },
    /// Another kind of entry, or a symbolic link with another text. What was below an old directory goes
    /// with it and is not named.
    Replaced { old: Entry, new: Entry },
}

/// One path of either tree or of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    Old(Entry),
    New(Entry),
    Both(Entry, Entry),
}

impl Pair {
    /// The change that the pair is; `None` where nothing differs.
    pub fn change(self) -> Option<Change> {
        let (old, new) = match self {
            Self::Old(old) => return Some(Change::Removed(old)),
            Self::New(new) => return Some(Change::Added(new)),
            Self::Both(old, new) => (old, new),
        };
        Some(match difference(&old, &new)? {
            Difference::Content => Change::Content { old, new },
            Difference::Metadata => Change::Metadata { old, new },
            Difference::Kind => Change::Replaced { old, new },
        })
    }
}

/// What differs between two entries of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Of files: [`Change::Content`].
    Content,
    /// [`Change::Metadata`].
    Metadata,
    /// [`Change::Replaced`].
    Kind,
}

/// Compares two entries of one path; `None` where nothing differs.
pub fn difference(old: &Entry, new: &Entry) -> Option<Difference> {
    let same_mtime = old.mtime == new.mtime;
    match (&old.kind, &new.kind) {
        (EntryKind::File { size: before, .. }, EntryKind::File { size: after, .. })
            if before != after || !same_mtime =>
        {
            Some(Difference::Content)
        }
        (EntryKind::File { .. }, EntryKind::File { .. }) | (EntryKind::Directory, EntryKind::Directory) => {
            (old.mode != new.mode || !same_mtime).then_some(Difference::Metadata)
        }
        (EntryKind::Symlink { text: before }, EntryKind::Symlink { text: after }) if before == after => {
            (!same_mtime).then_some(Difference::Metadata)
        }
        _ => Some(Difference::Kind),
    }
}

/// Joins two walks by path, in walk order. Old entries below a directory that is gone are passed over.
pub fn join<O, N, E>(old: O, new: N) -> Join<O::IntoIter, N::IntoIter>
where
    O: IntoIterator<Item = Result<Entry, E>>,
    N: IntoIterator<Item = Result<Entry, E>>,
{
    Join { old: old.into_iter().peekable(), new: new.into_iter().peekable(), gone: None }
}

/// The differences between two walks, in walk order.
pub fn diff<O, N>(old: O, new: N) -> impl Iterator<Item = Result<Change, WalkError>>
where
    O: IntoIterator<Item = Result<Entry, WalkError>>,
    N: IntoIterator<Item = Result<Entry, WalkError>>,
{
    join(old, new).filter_map(|pair| pair.map(Pair::change).transpose())
}

/// Iterator of [`join`].
pub struct Join<O: Iterator, N: Iterator> {
    old: Peekable<O>,
    new: Peekable<N>,
    /// The old directory that is gone, while its old entries pass by.
    gone: Option<RelPath>,
}

impl<O, N, E> Join<O, N>
where
    O: Iterator<Item = Result<Entry, E>>,
    N: Iterator<Item = Result<Entry, E>>,
{
    /// Which side the next pair takes from: `Less` the old, `Greater` the new; an error goes first.
    fn side(&mut self) -> Option<Ordering> {
        match (self.old.peek(), self.new.peek()) {
            (None, None) => None,
            (Some(Err(_)), _) | (Some(_), None) => Some(Ordering::Less),
            (_, Some(Err(_))) | (None, Some(_)) => Some(Ordering::Greater),
            (Some(Ok(old)), Some(Ok(new))) => Some(old.path.walk_cmp(&new.path)),
        }
    }

    fn pass_over_gone(&mut self) {
        if let Some(gone) = &self.gone {
            while self.old.next_if(|old| matches!(old, Ok(old) if is_below(&old.path, gone))).is_some() {}
            self.gone = None;
        }
    }
}

impl<O, N, E> Iterator for Join<O, N>
where
    O: Iterator<Item = Result<Entry, E>>,
    N: Iterator<Item = Result<Entry, E>>,
{
    type Item = Result<Pair, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pass_over_gone();
        let pair = match self.side()? {
            Ordering::Less => self.old.next()?.map(Pair::Old),
            Ordering::Greater => self.new.next()?.map(Pair::New),
            Ordering::Equal => self
                .old
                .next()?
                .and_then(|old| self.new.next().expect("it was looked at").map(|new| Pair::Both(old, new))),
        };
        self.gone = match &pair {
            Ok(Pair::Old(old)) if old.is_directory() => Some(old.path.clone()),
            Ok(Pair::Both(old, new)) if old.is_directory() && !new.is_directory() => Some(old.path.clone()),
            _ => None,
        };
        Some(pair)
    }
}

fn is_below(path: &RelPath, directory: &RelPath) -> bool {
    path.as_bytes().strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests;
