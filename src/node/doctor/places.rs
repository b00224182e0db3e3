//! The directories of a node: may it write there, is there room, can the file system switch.

use super::Finding;
use crate::applier::ipc::SiteConfig;
use crate::node::config::Config;
use crate::node::identity::{Identity, IdentityError};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Less free space than this is no room for a publish worth the name.
const ROOM_LEAST: u64 = 16 << 20;
/// Less than this is worth a word.
const ROOM_GOOD: u64 = 1 << 30;
/// Fewer free inodes than this are soon used up by a site of small files.
const INODES_GOOD: u64 = 10_000;

pub fn check(config: &Config, identity: &Result<Identity, IdentityError>) -> Vec<Finding> {
    let state_dir = &config.state_dir;
    let owner = fs::metadata(state_dir).ok().map(|found| found.uid());
    let mut findings = vec![
        judge_user(nix::unistd::geteuid().as_raw(), owner, user_name),
        judge_state_dir(state_dir, try_writing(state_dir)),
        judge_identity(config.can_lead, identity),
    ];
    findings.extend(room(state_dir).map(|room| judge_room("state room", state_dir, room)));
    for SiteConfig { name, root, .. } in &config.sites {
        let tried = try_switching(root);
        let writable = tried.is_ok();
        findings.push(judge_site(name.as_str(), root, tried));
        // Of a root that is still to be made, there is no room to tell.
        if writable {
            findings.extend(room(root).map(|room| judge_room(&format!("room {name}"), root, room)));
        }
    }
    findings
}

/// Checks made as root say little about a daemon that is not.
fn judge_user(user: u32, owner: Option<u32>, name_of: impl Fn(u32) -> String) -> Finding {
    let what = "user";
    match owner {
        Some(owner) if owner != user && user == 0 => Finding::warn(
            what,
            format!("this runs as root and the daemon as {}: rights may differ", name_of(owner)),
            format!("run it as `sudo -u {} farmcastd --doctor`", name_of(owner)),
        ),
        Some(owner) if owner != user => Finding::warn(
            what,
            format!("this runs as {} and the state belongs to {}", name_of(user), name_of(owner)),
            format!("run it as `sudo -u {} farmcastd --doctor`", name_of(owner)),
        ),
        _ => Finding::ok(what, format!("runs as {}", name_of(user))),
    }
}

fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| format!("#{uid}"), |user| user.name)
}

fn judge_state_dir(path: &Path, tried: io::Result<()>) -> Finding {
    let what = "state dir";
    let shown = path.display();
    match tried {
        Ok(()) => Finding::ok(what, format!("{shown} can be written")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::fail(what, format!("{shown} does not exist"), "join a farm, which makes it")
        }
        Err(error) => Finding::fail(
            what,
            format!("{shown}: {error}"),
            "let the user of the daemon write there, or set state_dir to a directory of its own",
        ),
    }
}

fn judge_identity(can_lead: bool, identity: &Result<Identity, IdentityError>) -> Finding {
    let what = "identity";
    match identity {
        Ok(identity) => {
            let node = identity.certificate.node();
            let may = match (can_lead, identity.certificate.can_lead) {
                (true, true) => "may lead",
                (true, false) => "may not lead, by its certificate",
                (false, _) => "may not lead, by its configuration",
            };
            Finding::ok(what, format!("node {node}, {may}"))
        }
        Err(IdentityError::Missing(path)) => Finding::fail(
            what,
            format!("{} does not exist", path.display()),
            "let the node join first, with the command that `farmcast node invite` prints",
        ),
        Err(IdentityError::Damaged(path, how)) => Finding::fail(
            what,
            format!("{} is damaged: {how}", path.display()),
            "restore it, or remove it and let the node join again",
        ),
        Err(IdentityError::System(path, error)) => {
            Finding::fail(what, format!("{}: {error}", path.display()), "let the user of the daemon read it")
        }
    }
}

/// Free space for an ordinary user.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: u64,
    /// `None` where the file system has no fixed number.
    inodes: Option<u64>,
}

fn room(path: &Path) -> Option<Room> {
    let stat = statvfs(path).ok()?;
    let inodes = (stat.files() > 0).then(|| stat.files_available());
    Some(Room { bytes: stat.blocks_available() * stat.fragment_size(), inodes })
}

fn judge_room(what: &str, path: &Path, Room { bytes, inodes }: Room) -> Finding {
    let (shown, mib) = (path.display(), bytes >> 20);
    let remedy = "make room, or move it to a larger file system";
    match inodes {
        _ if bytes < ROOM_LEAST => Finding::fail(what, format!("{mib} MiB are free at {shown}"), remedy),
        _ if bytes < ROOM_GOOD => Finding::warn(what, format!("only {mib} MiB are free at {shown}"), remedy),
        Some(inodes) if inodes < INODES_GOOD => {
            Finding::warn(what, format!("only {inodes} inodes are free at {shown}"), remedy)
        }
        _ => Finding::ok(what, format!("{:.1} GiB are free at {shown}", bytes as f64 / f64::from(1 << 30))),
    }
}

/// Where trying a site's root failed.
#[derive(Debug)]
enum Unfit {
    Missing,
    Write(io::Error),
    Exchange(io::Error),
    HardLink(io::Error),
}

fn judge_site(name: &str, root: &Path, tried: Result<(), Unfit>) -> Finding {
    let what = format!("site {name}");
    let shown = root.display();
    match tried {
        Ok(()) => Finding::ok(what, format!("{shown} exchanges directories and takes hard links")),
        Err(Unfit::Missing) => Finding::warn(
            what,
            format!("{shown} does not exist yet; the node makes it if it may"),
            format!("make it and give it to the user of the daemon: `install -d -o USER {shown}`"),
        ),
        Err(Unfit::Write(error)) => Finding::fail(
            what,
            format!("{shown} cannot be written: {error}"),
            "give it to the user of the daemon; under systemd name it in ReadWritePaths",
        ),
        Err(Unfit::Exchange(error)) => Finding::fail(
            what,
            format!("the file system of {shown} cannot exchange two directories: {error}"),
            "use ext4, xfs, btrfs or tmpfs, which can",
        ),
        Err(Unfit::HardLink(error)) => Finding::fail(
            what,
            format!("the file system of {shown} takes no hard links: {error}"),
            "use ext4, xfs, btrfs or tmpfs, which do",
        ),
    }
}

/// A directory of our own below `path`, removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(path: &Path) -> io::Result<Self> {
        let scratch = path.join(format!(".farmcast-doctor-{}", std::process::id()));
        fs::create_dir(&scratch)?;
        Ok(Self(scratch))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn try_writing(path: &Path) -> io::Result<()> {
    let scratch = Scratch::make(path)?;
    fs::write(scratch.0.join("file"), b"written")
}

/// Does on names of its own what a switch does: exchanges two directories, links a file twice.
fn try_switching(root: &Path) -> Result<(), Unfit> {
    let scratch = match Scratch::make(root) {
        Ok(scratch) => scratch,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unfit::Missing),
        Err(error) => return Err(Unfit::Write(error)),
    };
    let [live, temp] = ["live", "temp"].map(|name| scratch.0.join(name));
    let file = live.join("file");
    fs::create_dir(&live)
        .and_then(|()| fs::create_dir(&temp))
        .and_then(|()| fs::write(&file, b"content"))
        .map_err(Unfit::Write)?;
    fs::hard_link(&file, temp.join("file")).map_err(Unfit::HardLink)?;
    renameat2(AT_FDCWD, &live, AT_FDCWD, &temp, RenameFlags::RENAME_EXCHANGE)
        .map_err(|error| Unfit::Exchange(error.into()))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn rights_are_checked_by_the_user_who_needs_them() {
        for (user, owner, level) in [
            (0, Some(990), Level::Warn),
            (1_000, Some(990), Level::Warn),
            (990, Some(990), Level::Ok),
            (0, Some(0), Level::Ok),
            (0, None, Level::Ok),
        ] {
            let finding = judge_user(user, owner, |uid| format!("u{uid}"));
            assert_eq!(finding.level, level, "{user} {owner:?}");
            assert_eq!(finding.remedy.contains("sudo -u u990"), level == Level::Warn, "{finding:?}");
        }
    }

    #[test]
    fn room_is_judged_by_bytes_and_by_inodes() {
        let path = Path::new("/x");
        for (bytes, inodes, level) in [
            (0, None, Level::Fail),
            (ROOM_LEAST - 1, Some(1 << 20), Level::Fail),
            (ROOM_LEAST, Some(1 << 20), Level::Warn),
            (ROOM_GOOD, Some(0), Level::Warn),
            (ROOM_GOOD, Some(INODES_GOOD), Level::Ok),
            (ROOM_GOOD, None, Level::Ok),
        ] {
            assert_eq!(judge_room("room", path, Room { bytes, inodes }).level, level, "{bytes} {inodes:?}");
        }
    }

    #[test]
    fn what_a_root_lacks_is_named() {
        let error = || io::Error::from_raw_os_error(nix::libc::EINVAL);
        for (tried, level, part) in [
            (Ok(()), Level::Ok, "exchanges"),
            (Err(Unfit::Missing), Level::Warn, "does not exist yet"),
            (Err(Unfit::Write(error())), Level::Fail, "cannot be written"),
            (Err(Unfit::Exchange(error())), Level::Fail, "cannot exchange"),
            (Err(Unfit::HardLink(error())), Level::Fail, "no hard links"),
        ] {
            let finding = judge_site("www", Path::new("/srv/www"), tried);
            assert_eq!(finding.level, level);
            assert!(finding.text.contains(part), "{finding:?}");
            assert_eq!(finding.remedy.is_empty(), level == Level::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_node_that_has_not_joined_or_cannot_write_fails() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert!(judge_state_dir(Path::new("/s"), Err(missing)).remedy.contains("join"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(judge_state_dir(Path::new("/s"), Err(denied)).level, Level::Fail);
        let finding = judge_identity(true, &Err(IdentityError::Missing("/s/identity".into())));
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.remedy.contains("join first"), "{finding:?}");
    }

    #[test]
    fn trying_a_root_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        try_writing(dir.path()).unwrap();
        try_switching(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(try_switching(&dir.path().join("none")), Err(Unfit::Missing)));
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(try_switching(&dir.path().join("file")), Err(Unfit::Write(_))));
    }
}
