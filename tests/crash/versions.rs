//! Two signed versions of a site, and what must hold of a site whatever happened to it.

use farmcast::content::dir::Dir;
use farmcast::content::pack::{Pack, Policy, pack};
use farmcast::content::site::Site;
use farmcast::content::tree::hash_tree;
use farmcast::content::walk::ALL;
use farmcast::wire::assignment::CommandBuffer;
use farmcast::wire::id::{AssignmentId, JobId, Name, OrderId};
use farmcast::wire::order::Action;
use farmcast::wire::seal::SigningKey;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The versions by their assignments: the first replicates a tree, the second changes it.
pub const ONE: AssignmentId = AssignmentId(1);
pub const TWO: AssignmentId = AssignmentId(2);

/// A signed assignment, and the tree that it promises.
struct Version {
    buffer: CommandBuffer,
    data: File,
    tree: [u8; 32],
}

/// Two versions, and a place for sites that get them. All of it goes when this does.
pub struct Versions {
    place: PathBuf,
    one: Version,
    two: Version,
}

impl Versions {
    /// Composes them as the controller does, in memory where there is a file system for that.
    pub fn compose(name: &str) -> Self {
        let memory = PathBuf::from("/dev/shm");
        let above = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let place = above.join(format!("farmcast-crash-{name}-{}", std::process::id()));
        fs::create_dir_all(place.join("staging")).expect("a place for trees");
        write_first(&place.join("staging"));
        let one = compose(&place, None, ONE);
        let shadow = place.join("shadow");
        let mut site = Site::open(&shadow).expect("a site");
        site.stage(&one.buffer, &one.data).expect("the first version");
        site.carry_out(OrderId(1), Action::Commit { assignment: ONE }, || 1).expect("the first order");
        drop(site);
        write_second(&place.join("staging"));
        let two = compose(&place, Some(ONE), TWO);
        Self { place, one, two }
    }

    /// A new site at which the first version is live.
    pub fn site(&self) -> PathBuf {
        let root = self.place.join("site");
        let mut site = Site::open(&root).expect("a site");
        self.stage(&mut site, ONE).expect("the first version");
        self.order(&mut site, Action::Commit { assignment: ONE }).expect("the first order");
        root
    }

    /// Where there is room beside the site.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The version that has this tree.
    pub fn of_tree(&self, hash: &[u8; 32]) -> Option<AssignmentId> {
        [(ONE, &self.one), (TWO, &self.two)]
            .into_iter()
            .find(|(_, version)| version.tree == *hash)
            .map(|(id, _)| id)
    }

    /// Removes what [`Self::site`] made.
    pub fn clear(&self) {
        Dir::open(&self.place).expect("it is ours").remove(b"site").expect("a site was made");
    }

    pub fn stage(&self, site: &mut Site, assignment: AssignmentId) -> Result<(), String> {
        let version = if assignment == ONE { &self.one } else { &self.two };
        site.stage(&version.buffer, &version.data).map(drop).map_err(|error| error.to_string())
    }

    /// The same with data that ends early.
    pub fn stage_torn(&self, site: &mut Site, assignment: AssignmentId) -> Result<(), String> {
        let version = if assignment == ONE { &self.one } else { &self.two };
        let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
        site.stage(&version.buffer, &nothing).map(drop).map_err(|error| error.to_string())
    }

    /// Carries out the next order, unless it was.
    pub fn order(&self, site: &mut Site, action: Action) -> Result<(), String> {
        let next = OrderId(site.last_order().0 + 1);
        site.carry_out(next, action, || next.0).map(drop).map_err(|error| error.to_string())
    }

    /// The version that is live at `root`, by its content.
    pub fn live(&self, root: &Path) -> Result<AssignmentId, String> {
        let tree = hash_tree(&root.join("live")).map_err(|error| format!("live: {error}"))?.hash;
        match tree {
            tree if tree == self.one.tree => Ok(ONE),
            tree if tree == self.two.tree => Ok(TWO),
            _ => Err("live is none of the signed versions".into()),
        }
    }

    /// Opens the site again, as after a crash: live is a signed version, and the site knows which. Then it must
    /// take the next orders. Returns what was live.
    pub fn recover(&self, root: &Path) -> Result<AssignmentId, String> {
        let mut site = Site::open(root).map_err(|error| format!("opening: {error}"))?;
        let live = self.live(root)?;
        if site.version() != Some(live) {
            return Err(format!("{live} is live, the site says {:?}", site.version()));
        }
        no_remains(root, &site)?;
        if live == TWO {
            self.order(&mut site, Action::Switch { assignment: ONE })
                .map_err(|error| format!("way back: {error}"))?;
            self.expect_live(root, &site, ONE)?;
        }
        self.stage(&mut site, TWO).map_err(|error| format!("the next staging: {error}"))?;
        self.expect_live(root, &site, ONE)?;
        self.order(&mut site, Action::Commit { assignment: TWO })
            .map_err(|error| format!("the next commit: {error}"))?;
        self.expect_live(root, &site, TWO)?;
        self.order(&mut site, Action::Switch { assignment: ONE })
            .map_err(|error| format!("the next way back: {error}"))?;
        self.expect_live(root, &site, ONE)?;
        Ok(live)
    }

    /// A site in any good state takes the next assignments and orders.
    pub fn go_on(&self, root: &Path) -> Result<(), String> {
        let mut site = Site::open(root).map_err(|error| format!("opening again: {error}"))?;
        if site.version() == Some(TWO) {
            self.order(&mut site, Action::Switch { assignment: ONE })
                .map_err(|error| format!("way back: {error}"))?;
        } else if site.version().is_none() {
            self.stage(&mut site, ONE).map_err(|error| format!("staging all: {error}"))?;
            self.order(&mut site, Action::Commit { assignment: ONE })
                .map_err(|error| format!("commit: {error}"))?;
        }
        self.expect_live(root, &site, ONE)?;
        self.stage(&mut site, TWO).map_err(|error| format!("the next staging: {error}"))?;
        self.order(&mut site, Action::Commit { assignment: TWO })
            .map_err(|error| format!("commit: {error}"))?;
        self.expect_live(root, &site, TWO)?;
        self.order(&mut site, Action::Switch { assignment: ONE })
            .map_err(|error| format!("way back: {error}"))?;
        self.expect_live(root, &site, ONE)
    }

    fn expect_live(&self, root: &Path, site: &Site, version: AssignmentId) -> Result<(), String> {
        let live = self.live(root)?;
        if live == version && site.version() == Some(version) {
            return Ok(());
        }
        Err(format!("{version} should be live, {live} is, and the site says {:?}", site.version()))
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        let name = self.place.file_name().expect("it was joined").as_encoded_bytes();
        let removed = Dir::open(self.place.parent().expect("it was joined")).and_then(|dir| dir.remove(name));
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.place.display());
        }
    }
}

/// What an opened site keeps is what it knows of, nothing else.
fn no_remains(root: &Path, site: &Site) -> Result<(), String> {
    let hidden = root.join(".farmcast");
    let names = |path: &Path| {
        let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("a name").file_name().into_string().expect("one of ours"))
            .collect();
        names.sort();
        Ok::<_, String>(names)
    };
    let mut expected = vec!["inventory", "lock", "parts", "releases", "state", "trash"];
    if site.staged().is_some() {
        expected.insert(5, "temp");
    }
    let found = names(&hidden)?;
    // A record that was being written is replaced by the next one.
    if found.iter().filter(|name| !name.ends_with(".new")).ne(expected.iter()) {
        return Err(format!("beside live stand {found:?}, not {expected:?}"));
    }
    let mut releases: Vec<_> =
        site.releases().iter().map(|release| release.assignment.0.to_string()).collect();
    releases.sort();
    let kept = names(&hidden.join("releases"))?;
    if kept != releases {
        return Err(format!("releases {kept:?} are there, the site says {releases:?}"));
    }
    match &names(&hidden.join("trash"))?[..] {
        [] => Ok(()),
        trash => Err(format!("in the trash stay {trash:?}")),
    }
}

fn compose(place: &Path, base: Option<AssignmentId>, assignment: AssignmentId) -> Version {
    let publisher = SigningKey::from_seed([7; 32]);
    let (shadow, out) = (place.join("shadow"), place.join(format!("assignment-{}", assignment.0)));
    let origins = shadow.join(".farmcast/inventory/1");
    let packed = pack(&Pack {
        staging: &place.join("staging"),
        picks: ALL,
        shadow: &shadow.join("live"),
        base,
        assignment,
        job: JobId(assignment.0),
        site: Name::new("crash").expect("a name"),
        issued: 1,
        pass_tick: &|_| {},
        policy: &Policy::default(),
        out: &out,
        checksum: true,
        origins: base.is_some().then_some(&origins),
        known: None,
        cache: None,
        order: None,
        sealing: None,
        publisher: &publisher,
    })
    .expect("an assignment");
    let shape = packed.shape.expect("there are changes");
    let data = File::open(&out).expect("it was just written");
    let mut commands = vec![0; shape.command_len as usize];
    data.read_exact_at(&mut commands, shape.command_offset()).expect("its commands");
    let buffer = CommandBuffer::open(&shape, &commands, &publisher.public()).expect("it was just signed");
    Version { buffer, data, tree: packed.tree.hash }
}

fn write_first(staging: &Path) {
    for directory in ["pages/deep", "locked", "leaving"] {
        fs::create_dir_all(staging.join(directory)).expect("a directory");
    }
    for (name, text) in [
        ("index.html", "one"),
        ("pages/a", "a"),
        ("pages/deep/b", "b"),
        ("locked/c", "c"),
        ("leaving/d", "d"),
    ] {
        fs::write(staging.join(name), text).expect("a file");
    }
    fs::write(staging.join("large"), content(40_000)).expect("a file");
    fs::hard_link(staging.join("pages/a"), staging.join("pages/also-a")).expect("a hard link");
    symlink("index.html", staging.join("pointer")).expect("a symbolic link");
    fs::set_permissions(staging.join("locked"), Permissions::from_mode(0o555)).expect("a mode");
}

/// Every kind of command: put, patch, make, remove, link, symbolic link, another name, mode.
fn write_second(staging: &Path) {
    fs::write(staging.join("index.html"), "the second version").expect("a file");
    let large = File::options().write(true).open(staging.join("large")).expect("a file");
    large.write_all_at(b"changed", 20_000).expect("room");
    fs::remove_dir_all(staging.join("leaving")).expect("a directory");
    fs::create_dir(staging.join("new")).expect("a directory");
    fs::write(staging.join("new/e"), "e").expect("a file");
    fs::hard_link(staging.join("new/e"), staging.join("new/also-e")).expect("a hard link");
    fs::rename(staging.join("pages/deep/b"), staging.join("new/b")).expect("a file");
    fs::remove_file(staging.join("pointer")).expect("a symbolic link");
    symlink("new/e", staging.join("pointer")).expect("a symbolic link");
    fs::set_permissions(staging.join("pages/a"), Permissions::from_mode(0o600)).expect("a mode");
}

/// Bytes that no compression makes short.
fn content(len: usize) -> Vec<u8> {
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    std::iter::repeat_n((), len).scan(1_u64, |state, ()| step(state)).collect()
}
