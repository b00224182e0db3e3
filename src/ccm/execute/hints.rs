//! Hints of the kernel that something was written below a directory, by inotify(7).
//!
//! A hint may come for nothing, and may not come: for directories beyond `fs.inotify.max_user_watches`, on network file
//! systems, before the watch of a new directory stands. Who takes them looks again from time to time.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What changes a tree for a publish.
const WRITTEN: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// The directory itself is somewhere else, or nowhere.
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);

/// One tree that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    /// `None` before the first question, and where the kernel gives no hints.
    kernel: Option<Inotify>,
    begun: bool,
    dirs: HashMap<WatchDescriptor, PathBuf>,
    full: bool,
}

impl Hints {
    pub fn of(root: PathBuf) -> Self {
        Self { root, kernel: None, begun: false, dirs: HashMap::new(), full: false }
    }

    /// Whether something was written since this was asked last; the first question begins the watch. Blocks for as
    /// long as it takes to list the directories that are new.
    pub fn came(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
                Ok(kernel) => {
                    watch(&kernel, &mut self.dirs, &self.root, &mut self.full);
                    self.kernel = Some(kernel);
                }
                Err(error) => {
                    let root = self.root.display();
                    log::warn!("{root}: no hints of changes ({error}): it is looked at every minute");
                }
            }
            // Something may have been written before the watch stood.
            return true;
        }
        let Some(kernel) = &self.kernel else { return false };
        let (mut came, mut moved) = (false, false);
        // An error is the end of what there is to read.
        while let Ok(events) = kernel.read_events() {
            came = true;
            for event in events {
                moved |= self.dirs.get(&event.wd).is_some_and(|dir| *dir == self.root)
                    && event.mask.intersects(GONE);
                take(kernel, &mut self.dirs, &event, &mut self.full);
            }
        }
        if moved {
            // Another directory stands there now, or will: the watch begins anew.
            *self = Self { full: self.full, ..Self::of(self.root.clone()) };
        }
        came
    }
}

fn take(
    kernel: &Inotify,
    dirs: &mut HashMap<WatchDescriptor, PathBuf>,
    event: &InotifyEvent,
    full: &mut bool,
) {
    if event.mask.contains(AddWatchFlags::IN_IGNORED) {
        dirs.remove(&event.wd);
        return;
    }
    let arrives = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    if event.mask.contains(AddWatchFlags::IN_ISDIR)
        && event.mask.intersects(arrives)
        && let (Some(dir), Some(name)) = (dirs.get(&event.wd), &event.name)
    {
        let path = dir.join(name);
        watch(kernel, dirs, &path, full);
    }
}

/// Watches a directory and all below it, as far as the kernel lets it.
fn watch(kernel: &Inotify, dirs: &mut HashMap<WatchDescriptor, PathBuf>, root: &Path, full: &mut bool) {
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        match kernel.add_watch(&dir, WRITTEN) {
            Ok(descriptor) => drop(dirs.insert(descriptor, dir.clone())),
            Err(Errno::ENOSPC) => {
                if !std::mem::replace(full, true) {
                    let advice = "raise fs.inotify.max_user_watches; until then it is looked at every minute";
                    log::warn!("{}: more directories than the kernel watches: {advice}", root.display());
                }
                return;
            }
            Err(_) => continue,
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok);
        open.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_hinted_at_in_directories_that_come_later_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut hints = Hints::of(dir.path().to_owned());
        assert!(hints.came(), "before the watch stood something may have been written");
        assert!(!hints.came());
        fs::write(dir.path().join("a"), "a").unwrap();
        assert!(hints.came() && !hints.came());
        fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(hints.came() && !hints.came());
        fs::write(dir.path().join("sub/b"), "b").unwrap();
        assert!(hints.came() && !hints.came(), "in a directory that came later");
        fs::remove_dir_all(dir.path().join("sub")).unwrap();
        assert!(hints.came());
    }

    #[test]
    fn a_directory_that_takes_the_place_of_another_is_watched_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        fs::create_dir(&root).unwrap();
        fs::create_dir_all(other.join("sub")).unwrap();
        let mut hints = Hints::of(root.clone());
        assert!(hints.came() && !hints.came());
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &root, nix::fcntl::AT_FDCWD, &other, flags).unwrap();
        assert!(hints.came(), "another directory is there");
        assert!(hints.came(), "before its watch stood something may have been written");
        assert!(!hints.came());
        fs::write(root.join("sub/a"), "a").unwrap();
        assert!(hints.came() && !hints.came());
        fs::write(other.join("b"), "b").unwrap();
        assert!(!hints.came(), "what it was is not watched any more");
    }

    #[test]
    fn a_directory_that_is_not_there_gives_no_hints_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut hints = Hints::of(dir.path().join("none"));
        assert!(hints.came() && !hints.came());
    }
}
