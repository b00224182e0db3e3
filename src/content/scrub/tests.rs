use super::super::fixture::{set_mode, *};
use super::super::hashes::Cache;
use super::super::tree::{hash_tree, hash_tree_cached};
use super::super::written::Written;
use super::*;
use std::fs;
use std::os::unix::fs::symlink;

struct Live {
    scratch: Scratch,
    scrub: Scrub,
}

impl Live {
    /// A tree with an inventory, as a staging leaves it.
    fn new() -> Self {
        let scratch = Scratch::new();
        let live = scratch.dir("live");
        for number in 0..20 {
            write(&live, &format!("d{}/page-{number:02}.html", number % 3), &noise(number, 3_000), time(5));
        }
        fs::hard_link(live.join("d0/page-00.html"), live.join("d1/same.html")).unwrap();
        symlink("d0/page-00.html", live.join("link")).unwrap();
        settle_directories(&live);
        let inventory = scratch.path().join("inventory");
        let mut cache = Cache::between(None, &inventory);
        let result = hash_tree_cached(&live, &mut cache, &Written::default()).unwrap().hash;
        cache.save().unwrap();
        Self { scratch, scrub: Scrub { live, inventory, result } }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scrub.live.join(path)
    }

    fn look(&self) -> Vec<(String, Flaw)> {
        let mut found = Vec::new();
        let told = scrub(
            &self.scrub,
            |path, flaw| {
                found.push((String::from_utf8_lossy(path).into_owned(), flaw));
            },
            |_| {},
        );
        assert_eq!(told.unwrap().flaws, found.len() as u64);
        found
    }

    /// Writes without a trace in size and time.
    fn rot(&self, path: &str) {
        let file = File::options().read(true).write(true).open(self.at(path)).unwrap();
        let mtime = file.metadata().unwrap().modified().unwrap();
        let mut byte = [0];
        use std::os::unix::fs::FileExt;
        file.read_exact_at(&mut byte, 1_234).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 1_234).unwrap();
        file.set_modified(mtime).unwrap();
    }
}

#[test]
fn a_tree_that_is_as_it_was_signed_has_no_flaw() {
    let live = Live::new();
    assert_eq!(live.look(), []);
    let whole = scrub(&live.scrub, |_, _| {}, |_| {}).unwrap();
    assert_eq!((whole.entries, whole.bytes), (3 + 20 + 1 + 1, 20 * 3_000));
}

#[test]
fn everything_that_is_not_as_it_was_signed_is_named() {
    type Case<'a> = (&'a str, &'a dyn Fn(&Live), &'a [(&'a str, Flaw)]);
    let cases: [Case<'_>; 9] = [
        ("a flipped bit", &|live| live.rot("d2/page-05.html"), &[("d2/page-05.html", Flaw::Content)]),
        (
            "a flipped bit of a file with two names",
            &|live| live.rot("d0/page-00.html"),
            &[("d0/page-00.html", Flaw::Content), ("d1/same.html", Flaw::Content)],
        ),
        (
            "a mode, the bits that content cannot carry too",
            &|live| {
                set_mode(&live.at("d2/page-05.html"), 0o4644);
                set_mode(&live.at("d1"), 0o700);
            },
            &[("d1", Flaw::Mode), ("d2/page-05.html", Flaw::Mode)],
        ),
        (
            "a time",
            &|live| set_mtime(&live.at("d2/page-05.html"), time(6)),
            &[("d2/page-05.html", Flaw::Time)],
        ),
        (
            "a link that points elsewhere",
            &|live| {
                fs::remove_file(live.at("link")).unwrap();
                symlink("/etc/passwd", live.at("link")).unwrap();
                set_mtime(&live.at("link"), time(7));
            },
            &[("link", Flaw::Link), ("link", Flaw::Time)],
        ),
        (
            "a kind",
            &|live| {
                fs::remove_file(live.at("link")).unwrap();
                fs::create_dir(live.at("link")).unwrap();
            },
            &[("link", Flaw::Kind)],
        ),
        (
            "what is gone",
            &|live| {
                fs::remove_file(live.at("d2/page-05.html")).unwrap();
            },
            &[("d2", Flaw::Time), ("d2/page-05.html", Flaw::Missing)],
        ),
        (
            "what is too much",
            &|live| {
                fs::write(live.at("d2/a-shell.php"), "x").unwrap();
                nix::unistd::mkfifo(&live.at("d2/pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
            },
            &[("d2", Flaw::Time), ("d2/a-shell.php", Flaw::Extra), ("d2/pipe", Flaw::Extra)],
        ),
        (
            "names that are no longer of one file",
            &|live| {
                let (name, other) = (live.at("d1/same.html"), live.at("copy"));
                fs::copy(&name, &other).unwrap();
                fs::rename(&other, &name).unwrap();
                set_mtime(&name, time(5));
            },
            &[(".", Flaw::Names)],
        ),
    ];
    for (what, damage, expected) in cases {
        let live = Live::new();
        damage(&live);
        settle_directories(&live.scrub.live);
        let mut found = live.look();
        let mut expected: Vec<_> = expected.iter().map(|(path, flaw)| ((*path).to_owned(), *flaw)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_record_that_is_not_what_was_signed_proves_nothing() {
    let mut live = Live::new();
    live.scrub.result = [9; 32];
    assert!(matches!(scrub(&live.scrub, |_, _| {}, |_| {}), Err(ScrubError::Unsigned)));
    fs::write(&live.scrub.inventory, "garbage").unwrap();
    assert!(matches!(scrub(&live.scrub, |_, _| {}, |_| {}), Err(ScrubError::Inventory(_))));
}

/// What is read stays what it was begun with; what was found then says nothing of what is live now.
#[test]
fn a_switch_meanwhile_is_noticed_and_nothing_of_the_new_tree_is_taken_for_the_old() {
    let live = Live::new();
    let other = live.scratch.dir("other");
    linked_copy(&live.scrub.live, &other);
    let old = live.scratch.path().join("old");
    let mut switched = false;
    let mut found = Vec::new();
    let ended = scrub(
        &live.scrub,
        |path, flaw| found.push((path.to_vec(), flaw)),
        |_| {
            if !std::mem::replace(&mut switched, true) {
                fs::rename(&live.scrub.live, &old).unwrap();
                fs::rename(&other, &live.scrub.live).unwrap();
            }
        },
    );
    assert!(matches!(ended, Err(ScrubError::Switched)), "{ended:?}");
    assert_eq!(found, []);
    assert_eq!(hash_tree(&old).unwrap().hash, live.scrub.result);
}
