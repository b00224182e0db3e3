use super::super::fixture::{set_mode, *};
use super::super::tree::hash_tree;
use super::*;
use proptest::prelude::*;
use std::os::unix::fs::{MetadataExt, symlink};

struct Farm {
    scratch: Scratch,
    vault: Vault,
    tree: PathBuf,
}

impl Farm {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (vault, tree) = (Vault::new(scratch.dir("vault")), scratch.dir("tree"));
        vault.begin().unwrap();
        Self { scratch, vault, tree }
    }

    fn save(&self, number: u64) -> Saved {
        self.vault.save(&self.tree, number, &Policy::default()).unwrap()
    }

    /// Rebuilds a checkpoint and returns where.
    fn rebuild(&self, key: &Key) -> Result<PathBuf, CheckpointError> {
        let to = self.scratch.dir(&format!("rebuilt-{}", key.number));
        self.vault.rebuild(key, &to).map(|()| to)
    }

    /// The files in which pieces are stored.
    fn pieces(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.vault.dir.join("chunks")).unwrap();
        let folders = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        folders.flat_map(|path| fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().path()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// VC-7: a checkpoint is the tree, with its modes, times, links and holes.
    #[test]
    fn what_is_rebuilt_is_what_was_saved(steps in steps(40)) {
        let farm = Farm::new();
        build(&farm.tree, &steps);
        let saved = farm.save(1);
        let expected = hash_tree(&farm.tree).unwrap();
        prop_assert_eq!(saved.tree, expected);
        prop_assert_eq!(hash_tree(&farm.rebuild(&saved.key).unwrap()).unwrap(), expected);
        let examined = farm.vault.examine(&saved.key).unwrap();
        prop_assert_eq!((examined.files, examined.pieces), (expected.files, saved.key.pieces));
        prop_assert_eq!(examined.flawed, 0);
    }
}

fn sample(farm: &Farm) {
    write(&farm.tree, "a/index.html", b"<p>page</p>".repeat(1_000).as_slice(), time(1));
    write(&farm.tree, "a/copy.html", b"<p>page</p>".repeat(1_000).as_slice(), time(2));
    write(&farm.tree, "movie.bin", &noise(1, 3 * CHUNK + 77), time(3));
    write(&farm.tree, "empty", b"", time(4));
    fs::hard_link(farm.tree.join("movie.bin"), farm.tree.join("a/movie-too.bin")).unwrap();
    symlink("../movie.bin", farm.tree.join("a/link")).unwrap();
    let sparse = File::create(farm.tree.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"at its end", (64 << 20) - 10).unwrap();
    set_mode(&farm.tree.join("a"), 0o555);
}

#[test]
fn the_same_content_is_stored_once_and_holes_take_no_space() {
    let farm = Farm::new();
    sample(&farm);
    let first = farm.save(1);
    // The page, four pieces of the film, the sparse file's last.
    assert_eq!(farm.pieces().len(), 6);
    assert!(first.stored < 4 * CHUNK as u64, "{}", first.stored);
    assert_eq!(first.key.pieces, 2 + 4 + 64);
    let rebuilt = farm.rebuild(&first.key).unwrap();
    assert!(fs::metadata(rebuilt.join("sparse")).unwrap().blocks() * 512 < 4 << 20);
    assert_eq!(fs::metadata(rebuilt.join("movie.bin")).unwrap().nlink(), 2);

    assert_eq!(farm.save(2).stored, 0);
    let movie = File::options().write(true).open(farm.tree.join("movie.bin")).unwrap();
    movie.write_all_at(b"cut", CHUNK as u64).unwrap();
    let third = farm.save(3);
    assert_eq!(third.stored, CHUNK as u64 + 1, "one piece changed");
    assert_ne!(third.tree.hash, first.tree.hash);
    assert_eq!(hash_tree(&farm.rebuild(&third.key).unwrap()).unwrap(), third.tree);
}

#[test]
fn what_is_damaged_is_named_and_never_rebuilt() {
    let farm = Farm::new();
    sample(&farm);
    let saved = farm.save(1);
    let largest = |farm: &Farm| {
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        farm.pieces().into_iter().max_by_key(size).unwrap()
    };
    let piece = largest(&farm);
    let mut bytes = fs::read(&piece).unwrap();
    bytes[4_711] ^= 1;
    fs::write(&piece, &bytes).unwrap();
    let error = farm.rebuild(&saved.key).unwrap_err().to_string();
    let folder = piece.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let chunk = folder + &piece.file_name().unwrap().to_string_lossy();
    assert_eq!(error, format!("a/movie-too.bin: chunk {chunk}: not what it was"));
    let examined = farm.vault.examine(&saved.key).unwrap();
    let flaw = FlawedFile {
        path: rel(b"a/movie-too.bin"),
        chunk: crate::wire::id::unhex(&chunk).unwrap().try_into().unwrap(),
        flaw: Flaw::Damaged,
    };
    assert_eq!((examined.flaws.as_slice(), examined.flawed), (&[flaw][..], 1));
    fs::remove_file(&piece).unwrap();
    assert_eq!(farm.vault.examine(&saved.key).unwrap().flaws[0].flaw, Flaw::Missing);
    // The same content once more mends both.
    farm.save(2);
    assert_eq!(farm.vault.examine(&saved.key).unwrap().flawed, 0);

    let manifest = farm.vault.manifest(1);
    let whole = fs::read(&manifest).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(&manifest, bytes).unwrap();
        let error = farm.vault.examine(&saved.key).unwrap_err();
        assert!(matches!(error, CheckpointError::Manifest(ManifestError::Damaged { .. })), "{at}: {error}");
    }
    // What a list needs that cannot be read is not known: nothing goes.
    let before = farm.pieces().len();
    farm.vault.sweep(&[saved.key]).unwrap_err();
    assert_eq!(farm.pieces().len(), before);
}

#[test]
fn a_sweep_leaves_what_the_checkpoints_need_that_stay() {
    let farm = Farm::new();
    sample(&farm);
    let first = farm.save(1);
    fs::write(farm.tree.join("movie.bin"), noise(2, CHUNK)).unwrap();
    let second = farm.save(2);
    fs::write(farm.tree.join("empty"), noise(3, 5_000)).unwrap();
    let lost = farm.save(3);
    assert_eq!(farm.vault.sweep(&[first.key, second.key]).unwrap(), 1);
    assert!(farm.vault.examine(&lost.key).is_err());
    assert_eq!(farm.vault.examine(&first.key).unwrap().flawed, 0);
    assert_eq!(farm.vault.sweep(&[second.key]).unwrap(), 4);
    assert_eq!(farm.vault.examine(&second.key).unwrap().flawed, 0);
    assert_eq!(hash_tree(&farm.rebuild(&second.key).unwrap()).unwrap(), second.tree);
    // In many passes the same as in one.
    let many = Key { pieces: SWEEP_MAX * 300, ..second.key };
    assert_eq!(farm.vault.sweep(&[many]).unwrap(), 0);
    assert_eq!(farm.vault.sweep(&[]).unwrap(), 3);
    assert!(farm.pieces().is_empty());
    assert!(farm.vault.is_unswept());
    farm.vault.end().unwrap();
    assert!(!farm.vault.is_unswept());
}
