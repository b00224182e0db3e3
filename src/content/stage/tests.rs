//! The composing half and the applying half against each other: whatever was packed, a site that stages
//! and commits it ends with the tree that was packed.

use super::super::fixture::{Scratch, build, noise, open, set_mode, steps, with_own_times, write};
use super::super::pack::{Pack, Packed, Policy, pack};
use super::super::tree::hash_tree;
use super::super::walk::{ALL, Walk};
use super::*;
use crate::wire::id::{JobId, Name, OrderId};
use crate::wire::seal::SigningKey;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

struct Line {
    scratch: Scratch,
    staging: PathBuf,
    site: Site,
    next: u64,
}

impl Line {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (staging, root) = (scratch.dir("staging"), scratch.dir("site"));
        Self { staging, site: Site::open(&root).unwrap(), next: 1, scratch }
    }

    fn pack(&self, base: Option<AssignmentId>) -> Packed {
        let publisher = SigningKey::from_seed([5; 32]);
        pack(&Pack {
            staging: &self.staging,
            picks: ALL,
            shadow: &self.site.live_path(),
            base,
            assignment: AssignmentId(self.next),
            job: JobId(1),
            site: Name::new("www").unwrap(),
            issued: 2_000_000_000,
            pass_tick: &|_| {},
            policy: &Policy::default(),
            out: &self.scratch.path().join("assignment"),
            checksum: false,
            origins: None,
            known: None,
            cache: None,
            order: None,
            sealing: None,
            publisher: &publisher,
        })
        .unwrap()
    }

    fn stage(&mut self, packed: &Packed) -> Result<Staged, StageError> {
        let publisher = SigningKey::from_seed([5; 32]);
        let shape = packed.shape.expect("something changed");
        let (buffer, file) = open(&self.scratch.path().join("assignment"), &shape, &publisher.public());
        self.site.stage(&buffer, &file)
    }

    fn restart(&mut self) {
        let elsewhere = Site::open(&self.scratch.path().join("elsewhere")).unwrap();
        drop(std::mem::replace(&mut self.site, elsewhere));
        self.site = Site::open(&self.scratch.path().join("site")).unwrap();
    }

    /// Brings the site to staging; returns what was packed.
    fn publish(&mut self) -> Packed {
        let packed = self.pack(self.site.version());
        if packed.shape.is_some() {
            self.follow(&packed);
        }
        packed
    }

    fn follow(&mut self, packed: &Packed) {
        let live = hash_tree(&self.site.live_path()).unwrap();
        assert_eq!(self.stage(packed).unwrap(), Staged::Now);
        assert_eq!(hash_tree(&self.site.live_path()).unwrap(), live, "live changed before the switch");
        self.site.commit(OrderId(self.next), AssignmentId(self.next), || 1).unwrap();
        self.next += 1;
        assert_eq!(hash_tree(&self.site.live_path()).unwrap(), packed.tree);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_site_follows_a_tree_through_its_life(
        first in steps(30), second in steps(8), third in steps(8), fourth in steps(8),
    ) {
        let mut line = Line::new();
        for (number, steps) in [first, second, third, fourth].iter().enumerate() {
            build(&line.staging, &with_own_times(steps, 1_000 * number as i64));
            line.publish();
            prop_assert!(line.pack(line.site.version()).shape.is_none());
        }
    }
}

#[test]
fn a_replicate_mends_a_site_that_somebody_changed() {
    let mut line = Line::new();
    for number in 0..20 {
        write(&line.staging, &format!("d{}/f{number}", number % 3), &noise(number, 5_000), 1_000);
    }
    fs::hard_link(line.staging.join("d0/f0"), line.staging.join("linked")).unwrap();
    line.publish();
    // Same size and time: only a replicate, which believes nothing, finds it.
    let live = line.site.live_path();
    write(&live, "d1/f1", &noise(99, 5_000), 1_000);
    fs::remove_dir_all(live.join("d2")).unwrap();
    write(&line.staging, "d2/f2", b"new", 2_000);
    let packed = line.pack(None);
    line.follow(&packed);
    assert_eq!(fs::read(live.join("d1/f1")).unwrap(), noise(1, 5_000));
}

/// CM-7: it is found before live is touched, and from then on the site has no version, over a restart too: what is
/// built on that version is refused at once, and all of it is taken, also under the same number.
#[test]
fn a_publish_meets_a_site_that_somebody_changed() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|live| write(live, "d/f", b"other", 1_000),
        &|live| fs::remove_file(live.join("d/f")).unwrap(),
        &|live| fs::remove_dir_all(live.join("d")).unwrap(),
        &|live| {
            fs::remove_dir_all(live.join("d")).unwrap();
            fs::write(live.join("d"), "a file").unwrap();
        },
    ];
    for damage in damages {
        let mut line = Line::new();
        write(&line.staging, "d/f", &noise(1, 100_000), 1_000);
        write(&line.staging, "d/g", b"g", 1_000);
        let good = line.publish();
        let version = line.site.version();
        let mut bytes = noise(1, 100_000);
        bytes[5] ^= 1;
        write(&line.staging, "d/f", &bytes, 2_000);
        let packed = line.pack(version);
        let live = line.site.live_path();
        damage(&live);
        let before = hash_tree(&live).unwrap();
        let error = line.stage(&packed).unwrap_err();
        assert_eq!(error.reason(), Reason::StaleBase, "{error}");
        assert_eq!(hash_tree(&live).unwrap(), before);
        line.restart();
        assert_eq!((line.site.version(), line.site.is_doubted()), (None, true));
        let error = line.stage(&packed).unwrap_err();
        assert!(matches!(error, StageError::StaleBase { version: None, .. }), "{error}");

        // All of the version that it had, as a synchronize brings it.
        write(&line.staging, "d/f", &noise(1, 100_000), 1_000);
        line.next -= 1;
        let whole = line.pack(None);
        assert_eq!(whole.tree.hash, good.tree.hash);
        assert_eq!(line.stage(&whole).unwrap(), Staged::Now);
        line.site.commit(OrderId(9), version.unwrap(), || 9).unwrap();
        assert_eq!(hash_tree(&live).unwrap(), good.tree);
        assert_eq!((line.site.version(), line.site.last_switch().unwrap().at), (version, 9));
        // What was found changed is not kept as the version that it was.
        let kept: Vec<u64> = line.site.releases().iter().map(|release| release.assignment.0).collect();
        assert_eq!(kept, [0]);
        line.restart();
        assert_eq!((line.site.version(), line.site.is_doubted()), (version, false));
        assert_eq!(hash_tree(&live).unwrap(), good.tree);
    }
}

#[test]
fn nothing_of_a_special_file_in_live_reaches_temp() {
    let mut line = Line::new();
    write(&line.staging, "f", b"1", 1_000);
    line.publish();
    let fifo = line.site.live_path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    write(&line.staging, "f", b"2", 2_000);
    line.publish();
    assert!(!fifo.exists());
}

#[test]
fn a_live_tree_whose_root_its_owner_cannot_write_is_switched_all_the_same() {
    let mut line = Line::new();
    write(&line.staging, "f", b"1", 1_000);
    line.publish();
    for generation in ["22", "333", "4444"] {
        set_mode(&line.site.live_path(), 0o555);
        write(&line.staging, "f", generation.as_bytes(), 2_000);
        line.publish();
    }
    assert_eq!(Walk::open(&line.site.live_path()).unwrap().count(), 1);
}
