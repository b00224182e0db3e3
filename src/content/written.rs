//! Content hashes of the files that a staging wrote: they were computed from the very bytes that were written, so that
//! whoever hashes the tree afterwards need not read them again.

use super::walk::{Entry, EntryKind};
use nix::sys::stat::fstat;
use std::fs::File;
use std::io;

/// Files of which it is noted, in 12 MiB. Where there are more, all are read again.
const FILES_MAX: usize = 1 << 18;

/// What was written, one file after the other.
#[derive(Debug, Default)]
pub struct Writings {
    /// Inode number and content hash; the last note of a file holds.
    notes: Vec<(u64, Option<[u8; 32]>)>,
}

impl Writings {
    /// Notes the content of a file that is complete; `None` where it was not hashed. To be called for every new file,
    /// for it may have the inode number of one that is gone.
    pub fn note(&mut self, file: &File, hash: Option<[u8; 32]>) -> io::Result<()> {
        if self.notes.len() < FILES_MAX {
            self.notes.push((fstat(file)?.st_ino, hash));
        }
        Ok(())
    }

    /// All that were written.
    pub fn finish(mut self) -> Written {
        if self.notes.len() == FILES_MAX {
            // What came behind may have taken the number of one that is noted.
            self.notes.clear();
        }
        self.notes.reverse();
        self.notes.sort_by_key(|(inode, _)| *inode);
        self.notes.dedup_by_key(|(inode, _)| *inode);
        Written { hashes: self.notes }
    }
}

/// The files that were written, by their inode numbers.
#[derive(Debug, Default)]
pub struct Written {
    hashes: Vec<(u64, Option<[u8; 32]>)>,
}

impl Written {
    /// The content hash of a file that was written.
    pub fn find(&self, entry: &Entry) -> Option<[u8; 32]> {
        let EntryKind::File { inode, .. } = entry.kind else { return None };
        let at = self.hashes.binary_search_by_key(&inode.1, |(inode, _)| *inode).ok()?;
        self.hashes[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::walk::Walk;

    #[test]
    fn the_last_note_of_a_file_holds() {
        let root = tempfile::tempdir().unwrap();
        let mut writings = Writings::default();
        for (name, notes) in
            [("a", vec![Some([1; 32])]), ("b", vec![Some([2; 32]), None]), ("c", vec![None, Some([3; 32])])]
        {
            let file = File::create(root.path().join(name)).unwrap();
            notes.into_iter().for_each(|hash| writings.note(&file, hash).unwrap());
        }
        File::create(root.path().join("d")).unwrap();
        let written = writings.finish();
        let found: Vec<_> =
            Walk::open(root.path()).unwrap().map(|entry| written.find(&entry.unwrap())).collect();
        assert_eq!(found, [Some([1; 32]), None, Some([3; 32]), None]);
    }

    #[test]
    fn more_files_than_are_noted_are_all_read_again() {
        let file = tempfile::tempfile().unwrap();
        let mut writings = Writings { notes: vec![(1, Some([1; 32])); FILES_MAX - 1] };
        assert_eq!(Writings { notes: writings.notes.clone() }.finish().hashes.len(), 1);
        writings.note(&file, Some([2; 32])).unwrap();
        writings.note(&file, None).unwrap();
        assert!(writings.finish().hashes.is_empty());
    }
}
