//! Changes three files of a tree, as an editor would: the size of each grows by one line.

use super::place::cannot;
use crate::cli::failure::Failure;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files the demo changes.
const FILES: usize = 3;
const LINE: &[u8] = b"<!-- changed by farmcast demo -->\n";
/// A larger file is left alone: the point is to show that a small change stays small.
const SIZE_MAX: u64 = 1 << 20;

/// Changes three files in `root`, spread over the tree; makes new ones where it has fewer that can be
/// changed. Returns their names in `root`.
pub fn three_files(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let files = candidates(root)?;
    let mut changed = Vec::new();
    for number in 0..FILES {
        let path = match files.len() {
            enough if enough >= FILES => files[number * enough / FILES].clone(),
            few => files
                .get(number)
                .cloned()
                .unwrap_or_else(|| root.join(format!("farmcast-demo-{few}-{number}"))),
        };
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(LINE))
            .map_err(|error| cannot("change", &path, &error))?;
        changed.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
    }
    Ok(changed)
}

/// Files that their owner may write to, of one name and moderate size, in order of their names.
fn candidates(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).map_err(|error| cannot("read", &dir, &error))? {
            let entry = entry.map_err(|error| cannot("read", &dir, &error))?;
            // Does not follow a symbolic link.
            let meta = entry.metadata().map_err(|error| cannot("read", &entry.path(), &error))?;
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.is_file()
                && meta.nlink() == 1
                && meta.mode() & 0o200 != 0
                && (1..=SIZE_MAX).contains(&meta.size())
            {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::sample;

    #[test]
    fn three_files_change_and_no_other() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let root = base.path().join("site");
        sample::write(&root).expect("a site");
        let before = candidates(&root).expect("files");
        let changed = three_files(&root).expect("changes");
        assert_eq!(changed.len(), FILES);
        assert_eq!(candidates(&root).expect("files"), before, "no file is new");
        let marked = |path: &PathBuf| fs::read(path).expect("a file").ends_with(LINE);
        assert_eq!(before.iter().filter(|path| marked(path)).count(), FILES);
    }

    #[test]
    fn a_tree_without_files_gets_some() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("one"), "1").expect("a file");
        assert_eq!(three_files(root.path()).expect("changes").len(), 3);
        assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 3);
    }
}
