//! A tree that was sent goes into a tree that is there: each file by one rename, whole.
//!
//! Directories that are new go as a whole. What is done is gone from where it came from, so whoever is interrupted
//! begins again and does the rest.

use super::archive::shown;
use crate::content::dir::{Dir, Kind};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(
        "{path} is {there} in staging and {sent} in what was sent; take it away there, or send it otherwise"
    )]
    Clash { path: String, there: &'static str, sent: &'static str },
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File => "a file",
        Kind::Symlink => "a symbolic link",
        Kind::Special => "a socket, device or FIFO",
    }
}

/// Whether all of `from` can go to `to`, before anything does.
///
/// # Errors
/// Names the first entry that cannot.
pub fn check(from: &Dir, to: &Dir) -> Result<(), MergeError> {
    walk(from, to, &[], false).map(drop)
}

/// Puts all of `from` into `to`, in place of files of the same names; returns how many renames that took.
///
/// # Errors
/// As [`check`]; and what the disk refuses, after which some of it has been put there.
pub fn merge(from: &Dir, to: &Dir) -> Result<u64, MergeError> {
    walk(from, to, &[], true)
}

fn walk(from: &Dir, to: &Dir, above: &[u8], acts: bool) -> Result<u64, MergeError> {
    let fail = |path: &[u8], error| MergeError::Io { path: shown(path), error };
    let mut renamed = 0;
    let mut entries = from.entries().map_err(|error| fail(above, error))?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let name = entry.name.as_slice();
        let path = if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() };
        let failed = |error| fail(&path, error);
        let there = to.find(name).map_err(failed)?.as_ref().map(Kind::of);
        match (entry.kind, there) {
            (Kind::Directory, Some(Kind::Directory)) => {
                let (inner, outer) = (from.child(name).map_err(failed)?, to.child(name).map_err(failed)?);
                renamed += walk(&inner, &outer, &path, acts)?;
                if acts {
                    from.remove(name).map_err(failed)?;
                }
            }
            (sent @ Kind::Directory, Some(kind)) | (sent, Some(kind @ (Kind::Directory | Kind::Special))) => {
                let (there, sent) = (word(kind), word(sent));
                return Err(MergeError::Clash { path: shown(&path), there, sent });
            }
            (Kind::Directory | Kind::File | Kind::Symlink | Kind::Special, _) => {
                renamed += 1;
                if acts {
                    move_in(from, name, to).map_err(failed)?;
                }
            }
        }
    }
    Ok(renamed)
}

/// A directory can only be moved by who may write to it, for its `..` changes.
fn move_in(from: &Dir, name: &[u8], to: &Dir) -> io::Result<()> {
    match from.rename(name, to, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let stat = from.stat(name)?;
            if Kind::of(&stat) != Kind::Directory || stat.st_mode & 0o200 != 0 {
                return Err(error);
            }
            from.chmod(name, stat.st_mode & 0o777 | 0o200)?;
            from.rename(name, to, name)?;
            to.chmod(name, stat.st_mode & 0o777)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn files_take_the_place_of_files_directories_are_joined_and_what_clashes_is_named_before_anything_moves()
    {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for path in ["from/both", "from/new/deep", "to/both"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, text) in [
            ("from/a", "new"),
            ("from/both/b", "new"),
            ("from/new/deep/c", "new"),
            ("to/a", "old"),
            ("to/both/kept", "old"),
        ] {
            fs::write(at(path), text).unwrap();
        }
        symlink("elsewhere", at("to/both/b")).unwrap();
        fs::set_permissions(at("from/new"), fs::Permissions::from_mode(0o555)).unwrap();
        let (from, to) = (Dir::open(&at("from")).unwrap(), Dir::open(&at("to")).unwrap());
        check(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(at("to/a")).unwrap(), "old");
        assert_eq!(merge(&from, &to).unwrap(), 3);
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(
            (read("to/a"), read("to/both/b"), read("to/new/deep/c")),
            ("new".into(), "new".into(), "new".into())
        );
        assert_eq!(read("to/both/kept"), "old");
        assert_eq!(fs::metadata(at("to/new")).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read_dir(at("from")).unwrap().count(), 0);
        assert_eq!(merge(&from, &to).unwrap(), 0, "a second time there is nothing to do");
        fs::set_permissions(at("to/new"), fs::Permissions::from_mode(0o755)).unwrap();

        fs::write(at("from/0"), "first").unwrap();
        fs::create_dir(at("from/a")).unwrap();
        let clash = check(&from, &to).unwrap_err().to_string();
        assert!(clash.starts_with("a is a file in staging and a directory in what was sent"), "{clash}");
        fs::remove_dir(at("from/a")).unwrap();
        fs::write(at("from/both"), "").unwrap();
        assert!(merge(&from, &to).unwrap_err().to_string().starts_with("both is a directory in staging"));
        fs::remove_file(at("from/both")).unwrap();
        fs::create_dir(at("from/link")).unwrap();
        symlink("/", at("to/link")).unwrap();
        assert!(check(&from, &to).unwrap_err().to_string().contains("is a symbolic link in staging"));
    }
}
