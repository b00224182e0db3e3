use super::super::site::{Site, StageError};
use super::super::testing::{Draft, MTIME, path};
use super::*;
use crate::wire::assignment::Coding;
use crate::wire::id::{AssignmentId, OrderId};
use crate::wire::report::Reason;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

mod base;

struct Bench {
    root: tempfile::TempDir,
    site: Site,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let site = Site::open(&root.path().join("www")).unwrap();
        Self { root, site, next: 1 }
    }

    fn draft(&self) -> Draft {
        Draft::new(self.next, self.site.version().map(|version| version.0))
    }

    fn stage(&mut self, draft: Draft) -> PathBuf {
        draft.stage(&mut self.site).unwrap();
        self.root.path().join("www/.farmcast/temp")
    }

    fn publish(&mut self, draft: Draft) -> PathBuf {
        self.stage(draft);
        self.site.commit(OrderId(self.next), AssignmentId(self.next), || 1).unwrap();
        self.next += 1;
        self.site.live_path()
    }

    fn refuse(&mut self, draft: Draft) -> StageError {
        let error = draft.stage(&mut self.site).unwrap_err();
        assert!(self.site.staged().is_none());
        assert!(!self.root.path().join("www/.farmcast/temp").exists());
        error
    }
}

fn stat(at: impl AsRef<Path>) -> fs::Metadata {
    fs::symlink_metadata(at).unwrap()
}

fn mtime_of(at: impl AsRef<Path>) -> i64 {
    let stat = stat(at);
    stat.mtime() * 1_000_000_000 + stat.mtime_nsec()
}

/// A file of the year 2262 or later has the last of these times; it once brought the applier down.
#[test]
fn times_at_the_ends_of_what_a_number_says_are_set() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::open(scratch.path()).unwrap();
    let file = fs::File::create(scratch.path().join("f")).unwrap();
    std::os::unix::fs::symlink("nowhere", scratch.path().join("s")).unwrap();
    for mtime in [i64::MIN, -1, i64::MAX] {
        dir::set_mtime(&file, mtime).unwrap();
        dir.utimes(b"s", mtime).unwrap();
        dir.own_utimes(mtime).unwrap();
    }
    // What lies before 1901 not every file system can say.
    for name in ["f", "s", "."] {
        assert_eq!(dir::mtime(&dir.stat(name.as_bytes()).unwrap()), i64::MAX, "{name}");
    }
}

#[test]
fn every_command_does_what_it_says() {
    let mut bench = Bench::new();
    let draft = bench.draft().mkdir("a").mkdir("a/b").put("a/b/c", b"content").put("empty", b"");
    let draft = draft.put("a/raw \u{fc}\u{1}", b"x").link("other", "a/b/c").symlink("sym", "../nowhere");
    let draft = draft.chmod("a/b", 0o700).utimes("a", MTIME + 5).utimes("sym", MTIME + 6);
    let live = bench.publish(draft);
    assert_eq!(fs::read(live.join("a/b/c")).unwrap(), b"content");
    assert_eq!(fs::read(live.join("empty")).unwrap(), b"");
    assert_eq!(fs::read_link(live.join("sym")).unwrap(), Path::new("../nowhere"));
    assert_eq!(stat(live.join("other")).ino(), stat(live.join("a/b/c")).ino());
    assert_eq!(stat(live.join("a/b")).mode() & 0o7777, 0o700);
    assert_eq!(stat(live.join("a/b/c")).mode() & 0o7777, 0o644);
    assert_eq!(mtime_of(live.join("a/b/c")), MTIME);
    assert_eq!(mtime_of(live.join("a")), MTIME + 5);
    assert_eq!(mtime_of(live.join("sym")), MTIME + 6);

    let draft = bench.draft().remove("a").put("a", b"a file now").remove("empty").mkdir("empty");
    let live = bench.publish(draft.put("sym", b"no link").symlink("other", "a"));
    assert_eq!(fs::read(live.join("a")).unwrap(), b"a file now");
    assert!(stat(live.join("empty")).is_dir());
    assert_eq!(fs::read(live.join("sym")).unwrap(), b"no link");
    assert!(stat(live.join("other")).is_symlink());
}

#[test]
fn names_need_not_be_text() {
    let mut bench = Bench::new();
    let name = RelPath::new(b"\xff\xfe name").unwrap();
    let (hash, item) = (*blake3::hash(b"").as_bytes(), None);
    let put = Command::Put { path: name, mode: 0o600, mtime: -1, size: 0, hash, item, extents: Vec::new() };
    let draft = bench.draft().add(put);
    let live = bench.publish(draft);
    let at = live.join(std::ffi::OsStr::from_bytes(b"\xff\xfe name"));
    assert_eq!(stat(&at).mode() & 0o7777, 0o600);
    assert_eq!(mtime_of(&at), -1);
}

#[test]
fn live_is_not_touched_by_what_happens_in_temp() {
    let mut bench = Bench::new();
    let draft = bench.draft().mkdir("d").put("d/put", b"old").put("patch", b"old content").put("mode", b"m");
    let live = bench.publish(draft.put("time", b"t").symlink("sym", "text").put("gone", b"g"));
    let inodes = |at: &Path| {
        ["d", "d/put", "patch", "mode", "time", "sym"].map(|name| {
            let stat = stat(at.join(name));
            (stat.ino(), stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.size())
        })
    };
    let before = inodes(&live);
    let draft = bench.draft().put("d/put", b"new").patch("patch", b"old content", 0, b"NEW");
    let draft =
        draft.chmod("mode", 0o600).utimes("time", 7).utimes("sym", 8).remove("gone").chmod("d", 0o700);
    let temp = bench.stage(draft);
    assert_eq!(inodes(&live), before);
    assert_eq!(fs::read(live.join("d/put")).unwrap(), b"old");
    assert_eq!(fs::read(live.join("patch")).unwrap(), b"old content");
    assert!(live.join("gone").exists());

    assert_eq!(fs::read(temp.join("patch")).unwrap(), b"NEW content");
    assert_eq!(stat(temp.join("mode")).mode() & 0o7777, 0o600);
    assert_eq!(fs::read(temp.join("mode")).unwrap(), b"m");
    assert_eq!((mtime_of(temp.join("time")), mtime_of(temp.join("sym"))), (7, 8));
    assert_eq!(fs::read_link(temp.join("sym")).unwrap(), Path::new("text"));
    assert!(!temp.join("gone").exists());
}

#[test]
fn unchanged_files_are_the_same_files() {
    let mut bench = Bench::new();
    let draft = bench.draft().mkdir("d").put("d/same", b"1").symlink("d/sym", "x").utimes("d", MTIME);
    let live = bench.publish(draft);
    let (file, sym) = (stat(live.join("d/same")).ino(), stat(live.join("d/sym")).ino());
    let draft = bench.draft().put("d/new", b"2");
    let live = bench.publish(draft);
    assert_eq!((stat(live.join("d/same")).ino(), stat(live.join("d/sym")).ino()), (file, sym));
    // A directory keeps its time unless a command sets another.
    assert_eq!(mtime_of(live.join("d")), MTIME);
}

#[test]
fn a_change_of_a_file_with_two_names_makes_two_files_of_it() {
    let mut bench = Bench::new();
    let draft = bench.draft().mkdir("d").put("d/one", b"x").link("two", "d/one").link("three", "two");
    bench.publish(draft);
    let draft = bench.draft().chmod("two", 0o600).utimes("three", 6).chmod("d/one", 0o644);
    let temp = bench.stage(draft);
    let of = |name: &str| (stat(temp.join(name)).mode() & 0o777, mtime_of(temp.join(name)));
    assert_eq!([of("d/one"), of("two"), of("three")], [(0o644, MTIME), (0o600, MTIME), (0o644, 6)]);
    assert_eq!(fs::read(temp.join("two")).unwrap(), b"x");
    let live = bench.site.live_path();
    // What need not change stays the file that live has.
    assert_eq!(stat(temp.join("d/one")).ino(), stat(live.join("d/one")).ino());
    assert_eq!((stat(live.join("two")).nlink(), stat(live.join("two")).mode() & 0o777), (4, 0o644));
}

#[test]
fn directories_that_their_owner_cannot_enter_are_carried_over_and_changed() {
    let mut bench = Bench::new();
    let draft = bench.draft().mkdir("d").put("d/f", b"1").mkdir("d/sub").put("d/sub/f", b"1");
    let live = bench.publish(draft.chmod("d/sub", 0o555).chmod("d", 0o555).utimes("d", 77));
    assert_eq!(stat(live.join("d")).mode() & 0o7777, 0o555);
    let draft = bench.draft().put("d/sub/f", b"2");
    let live = bench.publish(draft);
    assert_eq!(stat(live.join("d")).mode() & 0o7777, 0o555);
    assert_eq!(stat(live.join("d/sub")).mode() & 0o7777, 0o555);
    assert_eq!(mtime_of(live.join("d")), 77);
    assert_eq!(fs::read(live.join("d/sub/f")).unwrap(), b"2");
    let draft = bench.draft().remove("d");
    bench.publish(draft);
    let draft = bench.draft().put("after", b"");
    bench.publish(draft);
    bench.site.tidy().unwrap();
    for name in ["www/live", "www/.farmcast/backup"] {
        let _ =
            fs::set_permissions(bench.root.path().join(name).join("d"), fs::Permissions::from_mode(0o755));
    }
}

#[test]
fn a_path_through_a_symbolic_link_is_refused() {
    let mut bench = Bench::new();
    let outside = bench.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    let text = outside.to_str().unwrap().to_owned();
    let trap = |bench: &Bench| bench.draft().mkdir("d").symlink("a", &text).symlink("d/up", "../../../..");
    let attacks: [fn(Draft) -> Draft; 12] = [
        |draft| draft.put("a/canary", b"dead"),
        |draft| draft.put("a/new", b"dead"),
        |draft| draft.put("d/up/outside/canary", b"dead"),
        |draft| draft.patch("a/canary", b"alive", 0, b"dead"),
        |draft| draft.remove("a/canary"),
        |draft| draft.mkdir("a/new"),
        |draft| draft.link("stolen", "a/canary"),
        |draft| draft.link("a/new", "d"),
        |draft| draft.symlink("a/new", "x"),
        |draft| draft.chmod("a/canary", 0o777),
        |draft| draft.chmod("a", 0o777),
        |draft| draft.utimes("a/canary", 0),
    ];
    for attack in attacks {
        let error = bench.refuse(attack(trap(&bench)));
        assert!(matches!(error, StageError::Command { .. }), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("canary")).unwrap(), b"alive");
        assert_eq!(stat(outside.join("canary")).mode() & 0o111, 0);
    }
    // What takes the place of the link, or removes it, leaves alone what it points at.
    bench.stage(trap(&bench).put("a", b"file").remove("d/up"));
    bench.stage(Draft::new(2, None).symlink("a", &text).remove("a"));
    assert_eq!(fs::read(outside.join("canary")).unwrap(), b"alive");
}

#[test]
fn content_that_is_not_what_was_signed_is_refused() {
    let mut bench = Bench::new();
    let mut draft = bench.draft().put("f", b"content");
    draft.data[0] ^= 1;
    let error = bench.refuse(draft);
    assert_eq!(error.reason(), Reason::Forged);
    assert!(error.to_string().starts_with("put f: "), "{error}");

    let draft = bench.draft().put("f", b"content");
    bench.publish(draft);
    let draft = bench.draft().patch("f", b"something else", 0, b"x");
    let error = bench.refuse(draft);
    assert_eq!(error.reason(), Reason::StaleBase);
    assert_eq!(error.to_string(), "patch f: the file here is not the one it changes");
    assert_eq!(fs::read(bench.site.live_path().join("f")).unwrap(), b"content");
}

#[test]
fn what_the_header_bounds_is_bounded() {
    let mut bench = Bench::new();
    let draft = bench.draft().put("a", b"").put("a", b"again").mkdir("d").put("d/b", b"").remove("d");
    let mut draft = draft.symlink("s", "x").put("b", b"").link("b", "a").symlink("a2", "x").remove("s");
    draft.header.files = 2;
    draft.stage(&mut bench.site).unwrap();
    let over: [fn(Draft) -> Draft; 3] = [
        |draft| draft.put("c", b"").put("d", b""),
        |draft| draft.link("c", "a").symlink("s", "x"),
        |draft| draft.put("c", b"").remove("c").put("c", b""),
    ];
    for over in over {
        let mut draft = over(Draft::new(2, None).put("a", b"").put("b", b""));
        draft.header.files = 2;
        let error = bench.refuse(draft);
        assert_eq!(error.reason(), Reason::Forged);
        assert!(error.to_string().contains("more files than the 2 that the assignment allows"), "{error}");
    }
    let mut draft = Draft::new(3, None).put("a", b"1234");
    draft.header.largest_file = 3;
    assert_eq!(bench.refuse(draft).reason(), Reason::Forged);
}

#[test]
fn commands_that_do_not_fit_the_tree_are_refused_by_name() {
    let misfits: [fn(Draft) -> Draft; 10] = [
        |draft| draft.mkdir("d"),
        |draft| draft.mkdir("no/such"),
        |draft| draft.put("d", b""),
        |draft| draft.put("no/such", b""),
        |draft| draft.put("f/below", b""),
        |draft| draft.remove("no"),
        |draft| draft.link("x", "no"),
        |draft| draft.link("x", "d"),
        |draft| draft.chmod("no", 0o600),
        |draft| draft.utimes("no", 1),
    ];
    for misfit in misfits {
        let mut bench = Bench::new();
        let draft = bench.draft().mkdir("d").put("f", b"");
        bench.publish(draft);
        let error = bench.refuse(misfit(bench.draft()));
        assert_eq!(error.reason(), Reason::StaleBase, "{error}");
        let StageError::Command { verb, path, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().starts_with(&format!("{verb} {path}: ")), "{error}");
    }
}

#[test]
fn a_file_of_holes_costs_no_disk_and_keeps_its_hash() {
    let mut bench = Bench::new();
    let size = 64 << 20;
    let mut hasher = blake3::Hasher::new();
    let mut content = vec![0; size as usize];
    content[1 << 20..(1 << 20) + 3].copy_from_slice(b"abc");
    hasher.update(&content);
    let mut draft = bench.draft();
    let item = draft.item(b"abc");
    let extents = vec![Extent { offset: 1 << 20, len: 3 }];
    let hash = *hasher.finalize().as_bytes();
    let put = Command::Put { path: path("sparse"), mode: 0o644, mtime: 0, size, hash, item, extents };
    let zeros = *blake3::hash(&vec![0; 1 << 20]).as_bytes();
    let hole = Command::Put {
        path: path("hole"),
        mode: 0o644,
        mtime: 0,
        size: 1 << 20,
        hash: zeros,
        item: None,
        extents: Vec::new(),
    };
    let live = bench.publish(draft.add(put).add(hole));
    let stat = stat(live.join("sparse"));
    assert_eq!(stat.size(), size);
    assert!(stat.blocks() * 512 < 1 << 20);
    let draft = bench.draft().patch("sparse", &content, 5, b"x").chmod("hole", 0o600);
    let live = bench.publish(draft);
    assert!(live.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(live.join("hole").metadata().unwrap().blocks(), 0);
}

#[test]
fn a_patch_may_grow_shrink_and_be_compressed() {
    let mut bench = Bench::new();
    let old: Vec<u8> = (0..300_000_u32).map(|at| (at / 3) as u8).collect();
    let draft = bench.draft().put("f", &old);
    bench.publish(draft);
    let draft = bench.draft().patch("f", &old, old.len() + 5_000, b"tail");
    let live = bench.publish(draft);
    let grown = fs::read(live.join("f")).unwrap();
    assert_eq!(grown.len(), old.len() + 5_004);

    let mut new = old[..100_000].to_vec();
    new[10..2_010].fill(9);
    let coded = zstd::encode_all(&new[10..2_010], 3).unwrap();
    let mut draft = bench.draft();
    let item = draft.item(&coded).map(|item| Item { decoded_len: 2_000, coding: Coding::Zstd, ..item });
    let draft = draft.add(Command::Patch {
        path: path("f"),
        mode: 0o600,
        mtime: 1,
        size: new.len() as u64,
        base: *blake3::hash(&grown).as_bytes(),
        hash: *blake3::hash(&new).as_bytes(),
        item,
        extents: vec![Extent { offset: 10, len: 2_000 }],
    });
    let live = bench.publish(draft);
    assert_eq!(fs::read(live.join("f")).unwrap(), new);
}

#[test]
fn a_command_buffer_that_is_malformed_behind_its_signature_stages_nothing() {
    let mut bench = Bench::new();
    let mut draft = bench.draft().put("f", b"x");
    let Command::Put { item: Some(item), .. } = &mut draft.commands[0] else { panic!("a put") };
    item.offset = 1;
    let error = bench.refuse(draft);
    assert_eq!(error.reason(), Reason::Forged);
}
