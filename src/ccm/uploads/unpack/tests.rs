use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tar::{Builder, EntryType, Header};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self(dir)
    }

    fn unpack(&self, archive: &[u8], into: Option<&str>, entries: u64) -> Result<Unpacked, String> {
        let path = self.0.path().join("spool");
        fs::write(&path, archive).unwrap();
        let root = Dir::open(&self.0.path().join("tree")).unwrap();
        let into = into.map(|into| RelPath::new(into.as_bytes()).unwrap());
        unpack(&File::open(&path).unwrap(), &root, into.as_ref(), entries).map_err(|error| error.to_string())
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("tree").join(name)
    }
}

fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, content: &str, mode: u32) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    if kind.is_symlink() || kind.is_hard_link() {
        header.set_size(0);
        builder.append_link(&mut header, path, content).unwrap();
    } else {
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
}

fn archive(entries: &[(EntryType, &str, &str, u32)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for &(kind, path, content, mode) in entries {
        add(&mut builder, kind, path, content, mode);
    }
    builder.into_inner().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const DIRECTORY: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Link;
const SYMLINK: EntryType = EntryType::Symlink;

#[test]
fn files_directories_and_links_come_with_modes_and_times_and_what_comes_later_counts() {
    let bench = Bench::new();
    let long = "x".repeat(180);
    let bytes = archive(&[
        (DIRECTORY, "./", "", 0o700),
        (DIRECTORY, "closed", "", 0o500),
        (FILE, "closed/a", "first", 0o600),
        (FILE, "new/deep/b", "second", 0o755),
        (FILE, &long, "long", 0o644),
        (FILE, "closed/a", "later", 0o640),
        (LINK, "c", "closed/a", 0o644),
        (SYMLINK, "new/s", "../c", 0o777),
    ]);
    let done = bench.unpack(&bytes, None, 8).unwrap();
    assert_eq!((done.entries, done.files, done.bytes), (8, 5, 5 + 6 + 4 + 5));
    assert_eq!(done.hash, *blake3::hash(&bytes).as_bytes());
    let meta = fs::metadata(bench.at("closed/a")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.mtime(), meta.nlink()), (0o640, 1_600_000_000, 2));
    assert_eq!(fs::read_to_string(bench.at("c")).unwrap(), "later");
    assert_eq!(fs::read_to_string(bench.at("new/deep/b")).unwrap(), "second");
    assert_eq!(fs::read_to_string(bench.at(&long)).unwrap(), "long");
    assert_eq!(fs::read_link(bench.at("new/s")).unwrap(), Path::new("../c"));
    assert_eq!(fs::symlink_metadata(bench.at("new/s")).unwrap().mtime(), 1_600_000_000);
    let closed = fs::metadata(bench.at("closed")).unwrap();
    assert_eq!((closed.mode() & 0o777, closed.mtime()), (0o500, 1_600_000_000));
    assert_eq!(fs::metadata(bench.at("new")).unwrap().mode() & 0o777, 0o755);
    fs::set_permissions(bench.at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_goes_to_a_subdirectory_is_below_it_with_its_links() {
    let bench = Bench::new();
    let bytes = archive(&[(FILE, "a", "text", 0o644), (LINK, "b/c", "a", 0o644)]);
    bench.unpack(&bytes, Some("docs/api"), 10).unwrap();
    assert_eq!(fs::metadata(bench.at("docs/api/b/c")).unwrap().nlink(), 2);
    // An empty archive has nothing but the place to go to.
    let bench = Bench::new();
    assert_eq!(bench.unpack(&archive(&[]), Some("docs"), 10).unwrap().entries, 0);
    assert!(bench.at("docs").is_dir());
}

#[test]
fn nothing_is_written_through_a_link_over_a_directory_or_beyond_the_limit() {
    for (entries, said) in [
        (
            vec![(SYMLINK, "a", "b", 0o777), (FILE, "a/x", "x", 0o644)],
            "a: leads through an entry that is no directory",
        ),
        (
            vec![(DIRECTORY, "b", "", 0o755), (SYMLINK, "a", "b", 0o777), (FILE, "a/x/y", "x", 0o644)],
            "a: leads through",
        ),
        (vec![(FILE, "a", "a", 0o644), (FILE, "a/x", "x", 0o644)], "a: leads through"),
        (
            vec![(FILE, "a/x", "x", 0o644), (FILE, "a", "a", 0o644)],
            "a: a directory of this name came before it",
        ),
        (vec![(FILE, "a", "a", 0o644), (DIRECTORY, "a", "", 0o755)], "a: leads through"),
        (vec![(LINK, "a", "none", 0o644)], "a: a link to a file that did not come before it"),
        (vec![(DIRECTORY, "d", "", 0o755), (LINK, "a", "d", 0o644)], "a: a link to a file that did not"),
        (vec![(SYMLINK, "s", "t", 0o777), (LINK, "a", "s", 0o644)], "a: a link to a file that did not"),
        (vec![(FILE, "1", "", 0o644); 5], "more than 4 entries"),
    ] {
        let bench = Bench::new();
        let error = bench.unpack(&archive(&entries), None, 4).unwrap_err();
        assert!(error.starts_with(said), "{error} does not begin with {said}");
    }
}
