//! Where the demo lives: a private directory, short paths for sockets, and a link by which the command
//! line finds the controller. Nothing of it is in `$HOME`.

use crate::cli::client::demo_socket;
use crate::cli::failure::Failure;
use nix::unistd::mkdtemp;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path of a Unix socket: `sun_path` without its closing zero, unix(7).
const SOCKET_PATH_MAX: usize = 107;
/// No socket of the demo has a longer file name.
const SOCKET_NAME_MAX: usize = 24;
/// Removing is tried again while something still writes there.
const REMOVE_TRIES: usize = 40;
const REMOVE_EVERY: Duration = Duration::from_millis(50);

pub struct Place {
    /// Canonical, UTF-8, only for its owner.
    pub dir: PathBuf,
    sockets: PathBuf,
    keep: bool,
    /// The link that we made.
    link: Option<PathBuf>,
}

impl Place {
    /// `keep`: a directory that is empty or does not exist yet, and stays.
    pub fn make(keep: Option<&Path>) -> Result<Self, Failure> {
        let dir = match keep {
            Some(dir) => kept(dir)?,
            None => temporary("farmcast-demo", &std::env::temp_dir())?,
        };
        let sockets = dir.join("sockets");
        let mut place = Self { dir, sockets, keep: keep.is_some(), link: None };
        if place.dir.to_str().is_none() {
            let dir = place.dir.clone();
            place.clean()?;
            return Err(Failure::Usage(format!("the path {} must be UTF-8: choose another", dir.display())));
        }
        if place.sockets.as_os_str().len() + 1 + SOCKET_NAME_MAX > SOCKET_PATH_MAX {
            place.sockets = temporary("farmcast", Path::new("/tmp"))?;
        } else {
            private(&place.sockets).map_err(|error| cannot("make", &place.sockets, &error))?;
        }
        Ok(place)
    }

    /// `name`: at most [`SOCKET_NAME_MAX`] bytes.
    pub fn socket(&self, name: &str) -> PathBuf {
        debug_assert!(name.len() <= SOCKET_NAME_MAX, "{name}");
        self.sockets.join(name)
    }

    /// Lets `farmcast` find the controller at `socket` without `--socket`. Not where another demo of this
    /// user has done so, nor where the link cannot be made: then the socket must be named.
    pub fn announce(&mut self, socket: &Path) -> bool {
        let link = demo_socket();
        let made = announce(&link, socket).is_ok_and(|made| made);
        self.link = made.then_some(link);
        made
    }

    /// Removes everything that the demo made, but a directory that is to be kept.
    pub async fn remove(mut self) -> Result<(), Failure> {
        for _ in 1..REMOVE_TRIES {
            if self.clean().is_ok() {
                return Ok(());
            }
            tokio::time::sleep(REMOVE_EVERY).await;
        }
        self.clean()
    }

    fn clean(&mut self) -> Result<(), Failure> {
        if let Some(link) = self.link.take() {
            // A link that leads elsewhere belongs to a later demo.
            if fs::read_link(&link).is_ok_and(|target| target.starts_with(&self.sockets)) {
                let _ = fs::remove_file(&link);
                let _ = link.parent().map(fs::remove_dir);
            }
        }
        remove(&self.sockets).map_err(|error| cannot("remove", &self.sockets, &error))?;
        if self.keep {
            return Ok(());
        }
        remove(&self.dir).map_err(|error| cannot("remove", &self.dir, &error))
    }
}

pub fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Ran(format!("cannot {what} {}: {error}", path.display()))
}

fn kept(dir: &Path) -> Result<PathBuf, Failure> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => {
            let dir = dir.display();
            return Err(Failure::Usage(format!(
                "--keep {dir} is not empty: name a directory that is empty or does not exist yet"
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|error| cannot("make", dir, &error))?;
        }
        Err(error) => return Err(Failure::Usage(format!("--keep {}: {error}", dir.display()))),
    }
    dir.canonicalize().map_err(|error| cannot("use", dir, &error))
}

fn temporary(name: &str, base: &Path) -> Result<PathBuf, Failure> {
    let template = base.join(format!("{name}-XXXXXX"));
    let made = mkdtemp(&template).map_err(io::Error::from).and_then(|dir| dir.canonicalize());
    made.map_err(|error| Failure::Ran(format!("cannot make a directory in {}: {error}", base.display())))
}

fn private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

fn announce(link: &Path, socket: &Path) -> io::Result<bool> {
    let dir = link.parent().unwrap_or(Path::new("/"));
    match private(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Others may write into /tmp: a directory that is not ours alone may lead anywhere.
            let meta = fs::symlink_metadata(dir)?;
            let ours = meta.is_dir() && meta.uid() == nix::unistd::getuid().as_raw();
            if !ours || meta.mode() & 0o077 != 0 {
                return Ok(false);
            }
        }
        made => made?,
    }
    if UnixStream::connect(link).is_ok() {
        return Ok(false);
    }
    let fresh = dir.join(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    symlink(socket, &fresh)?;
    fs::rename(&fresh, link)?;
    Ok(true)
}

/// Removes a tree, also one with directories that their owner may not write to.
fn remove(tree: &Path) -> io::Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(tree)?;
            fs::remove_dir_all(tree)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_up(tree: &Path) -> io::Result<()> {
    let mut open = vec![tree.to_owned()];
    while let Some(dir) = open.pop() {
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_private_and_leaves_nothing_behind() {
        let place = Place::make(None).expect("a place");
        let dir = place.dir.clone();
        assert_eq!(fs::metadata(&dir).expect("it is there").mode() & 0o777, 0o700);
        fs::create_dir_all(dir.join("a/b")).expect("a tree");
        fs::set_permissions(dir.join("a"), Permissions::from_mode(0o500)).expect("a closed directory");
        place.remove().await.expect("removed");
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn a_kept_directory_stays_and_a_full_one_is_refused() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let dir = base.path().join("x/y");
        let place = Place::make(Some(&dir)).expect("a place");
        fs::write(place.dir.join("file"), "kept").expect("a file");
        place.remove().await.expect("the rest is removed");
        assert!(dir.join("file").exists() && !dir.join("sockets").exists());
        assert_eq!(Place::make(Some(&dir)).err().map(|failure| failure.code()), Some(2));
    }

    #[tokio::test]
    async fn socket_paths_fit_wherever_the_directory_is() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let place = Place::make(Some(&base.path().join("d".repeat(100)))).expect("a place");
        let socket = place.socket(&"s".repeat(SOCKET_NAME_MAX));
        assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX);
        std::os::unix::net::UnixListener::bind(&socket).expect("the kernel takes it");
        place.remove().await.expect("removed");
        assert!(!socket.parent().expect("it stood in a directory").exists());
    }

    #[test]
    fn the_link_replaces_a_dead_one_and_spares_a_living_one() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let link = base.path().join("demo/ccm.sock");
        let (first, second) = (base.path().join("1"), base.path().join("2"));
        assert!(announce(&link, &first).expect("the first link"));
        let _listener = std::os::unix::net::UnixListener::bind(&second).expect("a controller");
        assert!(announce(&link, &second).expect("the first is dead"));
        assert!(!announce(&link, &first).expect("the second lives"));
        assert_eq!(fs::read_link(&link).expect("a link"), second);
        let dir = base.path().join("demo");
        fs::set_permissions(&dir, Permissions::from_mode(0o770)).expect("not private any more");
        assert!(!announce(&link, &first).expect("refused"));
    }
}
