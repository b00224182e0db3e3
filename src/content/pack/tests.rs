use super::super::fixture::*;
use super::super::tree::{hash_tree, hash_tree_cached};
use super::super::walk::ALL;
use super::super::written::Written;
use super::*;
use crate::wire::assignment::{Coding, Item};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

mod base;
mod sealed;

/// A staging tree, a shadow, and a place for assignments and the cache.
struct Site {
    scratch: Scratch,
    staging: PathBuf,
    shadow: PathBuf,
    policy: Policy,
    publisher: SigningKey,
    issued: u64,
    checksum: bool,
    sealing: Option<Sealing>,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (staging, shadow) = (scratch.dir("staging"), scratch.dir("shadow"));
        let publisher = SigningKey::from_seed([7; 32]);
        Self {
            scratch,
            staging,
            shadow,
            policy: Policy::default(),
            publisher,
            issued: 2_000_000_000,
            checksum: false,
            sealing: None,
        }
    }

    fn out(&self) -> PathBuf {
        self.scratch.path().join("assignment")
    }

    fn shadow_hashes(&self) -> PathBuf {
        self.scratch.path().join("shadow-hashes")
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("hashes")
    }

    fn try_pack(&self, base: Option<u64>, read: &mut dyn FnMut(&RelPath)) -> Result<Packed, PackError> {
        let pack = Pack {
            staging: &self.staging,
            picks: ALL,
            shadow: &self.shadow,
            base: base.map(AssignmentId),
            assignment: AssignmentId(9),
            job: JobId(3),
            site: Name::new("www").unwrap(),
            issued: self.issued,
            pass_tick: &|_| {},
            policy: &self.policy,
            out: &self.out(),
            checksum: self.checksum,
            origins: Some(&self.shadow_hashes()),
            known: None,
            cache: Some(&self.cache()),
            order: None,
            sealing: self.sealing.as_ref(),
            publisher: &self.publisher,
        };
        pack_watched(&pack, read)
    }

    fn publish(&self) -> Packed {
        self.try_pack(Some(8), &mut |_| {}).unwrap()
    }

    fn replicate(&self) -> Packed {
        self.try_pack(None, &mut |_| {}).unwrap()
    }

    fn commands(&self, packed: &Packed) -> Vec<Command> {
        let Some(shape) = packed.shape else { return Vec::new() };
        let (buffer, _) = open(&self.out(), &shape, &self.publisher.public());
        buffer.commands().map(Result::unwrap).collect()
    }

    /// Applies the assignment as a node does, on hard links of its live tree, and checks that the result
    /// is staging and that live was not touched. The result becomes the shadow.
    fn apply(&mut self, packed: &Packed) {
        let before = hash_tree(&self.shadow).unwrap();
        let wanted = hash_tree(&self.staging).unwrap();
        assert_eq!(packed.tree, wanted, "what pack says of staging");
        let temp = self.scratch.path().join("temp");
        fs::create_dir(&temp).unwrap();
        if let Some(shape) = packed.shape {
            let (buffer, data) = open(&self.out(), &shape, &self.publisher.public());
            assert_eq!(buffer.header.result, wanted.hash);
            if buffer.header.kind == Kind::Publish {
                linked_copy(&self.shadow, &temp);
            }
            apply(&temp, &self.shadow, &buffer, &data);
        } else {
            linked_copy(&self.shadow, &temp);
        }
        assert_eq!(hash_tree(&temp).unwrap(), wanted, "what the commands made");
        assert_eq!(hash_tree(&self.shadow).unwrap(), before, "live");
        let backup = self.scratch.path().join("backup");
        if backup.exists() {
            let old = self
                .scratch
                .path()
                .join(format!("old-{}", fs::read_dir(self.scratch.path()).unwrap().count()));
            fs::rename(&backup, old).unwrap();
        }
        fs::rename(&self.shadow, &backup).unwrap();
        fs::rename(&temp, &self.shadow).unwrap();
        let mut known = Cache::open(&self.shadow_hashes());
        hash_tree_cached(&self.shadow, &mut known, &Written::default()).unwrap();
        known.save().unwrap();
    }

    /// Publishes staging onto an empty shadow.
    fn start(&mut self) {
        let packed = self.replicate();
        self.apply(&packed);
    }
}

fn names(commands: &[Command]) -> Vec<String> {
    let word = |command: &Command| match command {
        Command::Mkdir { .. } => "mkdir",
        Command::Put { .. } => "put",
        Command::Patch { .. } => "patch",
        Command::Splice { .. } => "splice",
        Command::Copy { .. } => "copy",
        Command::Move { .. } => "move",
        Command::Link { .. } => "link",
        Command::Symlink { .. } => "symlink",
        Command::Remove { .. } => "remove",
        Command::Chmod { .. } => "chmod",
        Command::Utimes { .. } => "utimes",
    };
    commands.iter().map(|command| format!("{} {}", word(command), command.path())).collect()
}

fn item(commands: &[Command], path: &str) -> Option<Item> {
    let command = commands.iter().find(|command| command.path() == &rel(path.as_bytes()));
    command.and_then(|command| command.item().copied())
}

#[test]
fn an_unchanged_tree_sends_nothing_and_writes_nothing() {
    let mut site = Site::new();
    write(&site.staging, "a/index.html", b"hello", time(1));
    site.start();
    fs::remove_file(site.out()).unwrap();
    let packed = site.publish();
    assert_eq!((packed.shape, packed.changes, packed.changed_bytes), (None, Changes::default(), 0));
    assert!(!site.out().exists());
    let left = fs::read_dir(site.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".part")));
    site.apply(&packed);
}

#[test]
fn an_empty_tree_can_be_replicated() {
    let mut site = Site::new();
    let packed = site.replicate();
    assert_eq!(packed.shape.map(|shape| shape.data_len), Some(0));
    site.apply(&packed);
}

#[test]
fn one_changed_file_sends_its_bytes_and_not_the_tree() {
    let mut site = Site::new();
    for number in 0..500 {
        write(&site.staging, &format!("d{}/{number}", number % 7), &noise(number, 3_000), time(1));
    }
    site.start();
    write(&site.staging, "d3/3", &noise(9_999, 3_000), time(2));
    let mut read = Vec::new();
    let packed = site.try_pack(Some(8), &mut |path| read.push(path.to_string())).unwrap();
    assert_eq!(packed.changes, Changes { changed: 1, ..Changes::default() });
    assert_eq!(packed.changed_bytes, 3_000);
    assert_eq!(packed.shape.unwrap().data_len, 3_000);
    assert_eq!(read, ["d3/3"], "the cache spares the reading of what did not change");
    assert_eq!(names(&site.commands(&packed)), ["put d3/3", "utimes d3"]);
    site.apply(&packed);
}

#[test]
fn every_kind_of_entry_arrives() {
    let mut site = Site::new();
    let root = &site.staging;
    write(root, "empty", b"", time(1));
    write(root, "name with spaces/\u{fc}n\u{ef}c\u{f6}de", b"text", time(2));
    fs::write(at(root, b"raw \xff\xfe\n"), b"bytes").unwrap();
    fs::create_dir_all(root.join("empty directory/below")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    symlink("../..", root.join("name with spaces/up")).unwrap();
    set_mtime(&root.join("dangling"), time(3));
    write(root, "script", b"#!/bin/sh", time(-5_000_000));
    set_mode(&root.join("script"), 0o4_751);
    set_mode(&root.join("empty directory/below"), 0o555);
    write(root, "big.txt", &b"all work and no play. ".repeat(60_000), time(4));
    write(root, "big.bin", &noise(1, 700_000), time(4));
    write(root, "far/future", b"x", 7_000_000_000_000_000_000);
    settle_directories(root);
    site.start();
    let metadata = fs::metadata(site.shadow.join("script")).unwrap();
    assert_eq!(metadata.mode() & 0o7_777, 0o751, "no setuid bit travels");
    assert_eq!(fs::read_link(site.shadow.join("dangling")).unwrap(), Path::new("/nowhere/at all"));
    let packed = site.publish();
    assert_eq!(packed.shape, None);
}

#[test]
fn files_directories_and_links_change_places() {
    let mut site = Site::new();
    write(&site.staging, "file to directory", b"1", time(1));
    write(&site.staging, "directory to file/deep/x", b"2", time(1));
    write(&site.staging, "directory to link/x", b"3", time(1));
    symlink("x", site.staging.join("link to file")).unwrap();
    symlink("x", site.staging.join("link to link")).unwrap();
    settle_directories(&site.staging);
    site.start();
    for path in ["file to directory", "link to file", "link to link"] {
        fs::remove_file(site.staging.join(path)).unwrap();
    }
    for path in ["directory to file", "directory to link"] {
        fs::remove_dir_all(site.staging.join(path)).unwrap();
    }
    write(&site.staging, "file to directory/y", b"4", time(1));
    write(&site.staging, "directory to file", b"5", time(1));
    write(&site.staging, "link to file", b"6", time(1));
    symlink(".", site.staging.join("directory to link")).unwrap();
    symlink("y", site.staging.join("link to link")).unwrap();
    let packed = site.publish();
    assert_eq!(packed.changes, Changes { changed: 5, added: 1, ..Changes::default() });
    let names = names(&site.commands(&packed));
    assert_eq!(names.iter().filter(|name| name.starts_with("remove")).count(), 5);
    assert!(names[..5].iter().all(|name| name.starts_with("remove")), "removals come first: {names:?}");
    site.apply(&packed);
}

#[test]
fn a_removed_directory_is_one_command() {
    let mut site = Site::new();
    for number in 0..20 {
        write(&site.staging, &format!("gone/{number}/x"), b"x", time(1));
    }
    write(&site.staging, "gone.not", b"x", time(1));
    site.start();
    fs::remove_dir_all(site.staging.join("gone")).unwrap();
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["remove gone"]);
    assert_eq!(packed.changes, Changes { removed: 1, ..Changes::default() });
    site.apply(&packed);
}

#[test]
fn modes_alone_cost_no_data() {
    let mut site = Site::new();
    write(&site.staging, "d/x", &noise(1, 5_000), time(1));
    site.start();
    set_mode(&site.staging.join("d/x"), 0o600);
    set_mode(&site.staging.join("d"), 0o700);
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["chmod d/x", "utimes d", "chmod d"]);
    assert_eq!(packed.changes, Changes { metadata: 2, ..Changes::default() });
    assert_eq!(packed.shape.unwrap().data_len, 0);
    site.apply(&packed);
}

#[test]
fn a_touched_file_costs_no_data() {
    let mut site = Site::new();
    write(&site.staging, "x", &noise(1, 50_000), time(1));
    write(&site.staging, "empty", b"", time(1));
    site.start();
    set_mtime(&site.staging.join("x"), time(2));
    set_mtime(&site.staging.join("empty"), time(2));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["patch empty", "patch x"]);
    assert_eq!(packed.shape.unwrap().data_len, 0);
    site.apply(&packed);
}

#[test]
fn a_few_changed_bytes_of_a_large_file_travel_alone() {
    let mut site = Site::new();
    let mut bytes = noise(1, 3_000_000);
    write(&site.staging, "db", &bytes, time(1));
    site.start();
    bytes[1_000_000..1_000_100].copy_from_slice(&noise(2, 100));
    bytes.extend_from_slice(&noise(3, 10_000));
    write(&site.staging, "db", &bytes, time(2));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["patch db"]);
    let data = packed.shape.unwrap().data_len;
    assert!((10_090..10_200).contains(&data), "{data}");
    site.apply(&packed);

    write(&site.staging, "db", &noise(4, 2_000_000), time(3));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["put db"]);
    site.apply(&packed);

    write(&site.staging, "db", &noise(4, 1_000_000), time(4));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["patch db"]);
    assert_eq!(packed.shape.unwrap().data_len, 0, "a file that was cut short");
    site.apply(&packed);
}

#[test]
fn content_that_looks_unchanged_and_is_not_travels_when_it_is_read() {
    let mut site = Site::new();
    write(&site.staging, "x", b"one", time(1));
    site.start();
    fs::remove_file(site.staging.join("x")).unwrap();
    write(&site.staging, "x", b"two", time(1));
    fs::remove_file(site.cache()).unwrap();
    let packed = site.publish();
    assert_eq!(packed.changes.changed, 1);
    // It is not remembered: should the publish fail, the next must send it again.
    assert_eq!(site.publish().changes.changed, 1);
    site.apply(&packed);
    assert_eq!(site.publish().shape, None);
}

#[test]
fn a_file_written_just_now_is_not_trusted_by_its_time() {
    let mut site = Site::new();
    site.issued = (time(1) / 1_000_000_000) as u64 + 1;
    write(&site.staging, "x", b"one", time(1));
    site.start();
    fs::write(site.staging.join("x"), b"two").unwrap();
    set_mtime(&site.staging.join("x"), time(1));
    let packed = site.publish();
    assert_eq!(packed.changes.changed, 1);
    site.apply(&packed);
}

#[test]
fn what_the_policy_excludes_or_does_not_shrink_stays_raw() {
    let mut site = Site::new();
    let text = b"the same again and ".repeat(20_000);
    write(&site.staging, "page.html", &text, time(1));
    write(&site.staging, "page.html.gz", &text[1..], time(1));
    write(&site.staging, "PICTURE.PNG", &text[2..], time(1));
    write(&site.staging, "noise.html", &noise(1, 400_000), time(1));
    write(&site.staging, "tiny.html", &[b'a'; 127], time(1));
    write(&site.staging, "small.html", &[b'a'; 128], time(1));
    let half = [&text[..300_000], &noise(2, 9_000_000)].concat();
    write(&site.staging, "head only.html", &half, time(1));
    let packed = site.replicate();
    let commands = site.commands(&packed);
    let coding = |path| item(&commands, path).unwrap().coding;
    assert_eq!(coding("page.html"), Coding::Zstd);
    assert_eq!(coding("small.html"), Coding::Zstd);
    for raw in ["page.html.gz", "PICTURE.PNG", "noise.html", "tiny.html", "head only.html"] {
        assert_eq!(coding(raw), Coding::Raw, "{raw}");
    }
    assert_eq!(item(&commands, "noise.html").unwrap().offset % 4_096, 0);
    site.apply(&packed);

    site.policy.compress = false;
    let packed = site.replicate();
    let commands = site.commands(&packed);
    assert_eq!(item(&commands, "page.html").unwrap().coding, Coding::Raw);
    site.apply(&packed);
}

#[test]
fn equal_content_is_stored_once() {
    let mut site = Site::new();
    for name in ["a", "b", "c.html"] {
        write(&site.staging, name, &noise(1, 300_000), time(1));
    }
    write(&site.staging, "d", &noise(2, 1_000), time(1));
    write(&site.staging, "e", &noise(2, 1_000), time(1));
    let packed = site.replicate();
    assert_eq!(packed.shape.unwrap().data_len, 301_000);
    site.apply(&packed);
}

#[test]
fn a_file_of_five_gigabytes_of_holes_costs_no_time_and_few_bytes() {
    let site = Site::new();
    let path = site.staging.join("disk.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(5 << 30).unwrap();
    file.write_all_at(&noise(1, 10_000), 3 << 30).unwrap();
    let packed = site.replicate();
    assert!(packed.shape.unwrap().data_len < 40_000);
    assert_eq!(packed.changed_bytes, 5 << 30);
    assert!(packed.space < 100_000, "{}", packed.space);
}

#[test]
fn holes_stay_holes() {
    let mut site = Site::new();
    let path = site.staging.join("disk.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(20 << 20).unwrap();
    for offset in [0, 1_000_000, 5_000_001] {
        file.write_all_at(&noise(1, 70_000), offset).unwrap();
    }
    set_mtime(&path, time(1));
    fs::File::create(site.staging.join("hole")).unwrap().set_len(10 << 20).unwrap();
    let packed = site.replicate();
    assert!(packed.shape.unwrap().data_len < 300_000);
    let commands = site.commands(&packed);
    let Command::Put { extents, item, .. } = &commands[1] else { panic!("{commands:?}") };
    assert!(matches!((&extents[..], item), ([], None)), "all hole");
    site.apply(&packed);
    assert!(fs::metadata(site.shadow.join("disk.img")).unwrap().blocks() * 512 < 300_000);

    file.write_all_at(b"changed", 9 << 20).unwrap();
    set_mtime(&path, time(2));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["patch disk.img"]);
    assert_eq!(packed.shape.unwrap().data_len, 7);
    assert!(packed.space < 300_000, "{}", packed.space);
    site.apply(&packed);
}

#[test]
fn hard_links_stay_hard_links() {
    let mut site = Site::new();
    write(&site.staging, "b", &noise(1, 1_000), time(1));
    fs::hard_link(site.staging.join("b"), site.staging.join("a")).unwrap();
    fs::hard_link(site.staging.join("b"), site.staging.join("c")).unwrap();
    let packed = site.replicate();
    assert_eq!(names(&site.commands(&packed)), ["put a", "link b", "link c"]);
    assert_eq!(packed.tree.bytes, 1_000);
    site.apply(&packed);
    assert_eq!(site.publish().shape, None);

    // One name goes: the others are in order.
    fs::remove_file(site.staging.join("a")).unwrap();
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["remove a"]);
    site.apply(&packed);

    // One comes.
    fs::hard_link(site.staging.join("b"), site.staging.join("z")).unwrap();
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["link z"]);
    site.apply(&packed);

    // One changes through another's name.
    fs::write(site.staging.join("z"), noise(2, 1_000)).unwrap();
    set_mtime(&site.staging.join("z"), time(2));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["remove c", "remove z", "put b", "link c", "link z"]);
    site.apply(&packed);

    // One becomes a file of its own and looks the same.
    fs::copy(site.staging.join("b"), site.staging.join("copy")).unwrap();
    fs::rename(site.staging.join("copy"), site.staging.join("b")).unwrap();
    set_mtime(&site.staging.join("b"), time(2));
    let packed = site.publish();
    assert!(packed.shape.is_some());
    site.apply(&packed);
    assert_eq!(site.publish().shape, None);
}

#[test]
fn names_outside_the_tree_are_no_hard_links() {
    let mut site = Site::new();
    write(&site.staging, "a", b"x", time(1));
    fs::hard_link(site.staging.join("a"), site.scratch.path().join("elsewhere")).unwrap();
    let packed = site.replicate();
    assert_eq!(names(&site.commands(&packed)), ["put a"]);
    site.apply(&packed);
}

#[test]
fn sockets_and_fifos_are_named_and_left_out() {
    let mut site = Site::new();
    write(&site.staging, "x", b"x", time(1));
    nix::unistd::mkfifo(&site.staging.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.staging.join("sock")).unwrap();
    let packed = site.replicate();
    let left_out: Vec<_> = packed.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(left_out, ["pipe is a FIFO; it is left out", "sock is a socket; it is left out"]);
    assert_eq!(packed.left_out_count, 2);
    assert_eq!(names(&site.commands(&packed)), ["put x"]);
    site.apply(&packed);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    let mut site = Site::new();
    write(&site.staging, "first", &noise(8, 100_000), time(1));
    write(&site.staging, "log", &noise(1, 300_000), time(1));
    write(&site.staging, "zlast", &noise(9, 100_000), time(1));
    let path = site.staging.join("log");
    let mut times = 0;
    let packed = site.try_pack(None, &mut |read| {
        if read.as_bytes() == b"log" && times < 2 {
            times += 1;
            fs::write(&path, noise(times, 500_000 * times as usize)).unwrap();
            set_mtime(&path, time(times as i64 + 1));
        }
    });
    let packed = packed.unwrap();
    assert_eq!(times, 2);
    let least = 100_000 + 1_000_000 + 100_000;
    let data = packed.shape.unwrap().data_len;
    assert!((least..least + 3 * 4_096).contains(&data), "nothing of the first readings: {data}");
    site.apply(&packed);
}

#[test]
fn content_of_a_reading_that_was_thrown_away_is_not_stored() {
    let mut site = Site::new();
    write(&site.staging, "x", &noise(1, 5_000), time(1));
    let path = site.staging.join("x");
    let mut times = 0;
    let packed = site.try_pack(None, &mut |_| {
        times += 1;
        if times < 3 {
            // The third reading finds what the first found.
            fs::write(&path, noise([2, 1][times as usize - 1], 5_000)).unwrap();
            set_mtime(&path, time(times + 1));
        }
    });
    site.apply(&packed.unwrap());
}

#[test]
fn a_file_that_never_rests_is_an_error_that_names_it() {
    let site = Site::new();
    write(&site.staging, "d/log", b"0", time(1));
    let path = site.staging.join("d/log");
    let mut times = 0;
    let error = site
        .try_pack(None, &mut |_| {
            times += 1;
            set_mtime(&path, time(times + 1));
        })
        .unwrap_err();
    assert_eq!(times, 3);
    let expected = format!(
        "staging: {} changed while it was read; publish again when nothing writes to it",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(!site.out().exists());
}

/// Neither its size nor its time tells, which anybody can set back.
#[test]
fn a_file_that_is_rewritten_with_the_same_size_and_time_is_read_again() {
    let site = Site::new();
    write(&site.staging, "f", &noise(1, 100_000), time(1));
    let path = site.staging.join("f");
    let mut times = 0;
    let packed = site
        .try_pack(None, &mut |_| {
            times += 1;
            if times == 1 {
                let file = fs::File::options().write(true).open(&path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &noise(2, 100_000), 0).unwrap();
                set_mtime(&path, time(1));
            }
        })
        .unwrap();
    assert_eq!((times, fs::read(&path).unwrap() == noise(2, 100_000)), (2, true));
    assert_eq!(packed.tree, hash_tree(&site.staging).unwrap());
}

#[test]
fn a_file_that_shrinks_or_vanishes_is_an_error_that_names_it() {
    let site = Site::new();
    write(&site.staging, "a", b"0", time(1));
    write(&site.staging, "b", b"0", time(1));
    let path = site.staging.join("b");
    let error = site
        .try_pack(None, &mut |read| {
            if read.as_bytes() == b"b" {
                fs::write(&path, b"").unwrap();
                fs::remove_file(&path).unwrap();
            }
        })
        .unwrap_err();
    assert!(matches!(&error, PackError::Staging(WalkError::Changing { path: at }) if *at == path), "{error}");
}

#[test]
fn a_missing_tree_is_an_error_that_names_it() {
    let site = Site::new();
    fs::remove_dir(&site.staging).unwrap();
    let error = site.try_pack(None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("staging: cannot read {}:", site.staging.display())), "{error}");
    fs::create_dir(&site.staging).unwrap();
    fs::remove_dir(&site.shadow).unwrap();
    let error = site.try_pack(Some(8), &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("shadow: cannot read {}:", site.shadow.display())), "{error}");
}

#[test]
fn an_unreadable_file_is_an_error_that_names_it() {
    let site = Site::new();
    write(&site.staging, "secret", b"x", time(1));
    let path = site.staging.join("secret");
    set_mode(&path, 0);
    if fs::File::open(&path).is_ok() {
        return; // Root reads everything.
    }
    let error = site.try_pack(None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("staging: cannot read {}:", path.display())), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let mut site = Site::new();
    site.scratch.dir("assignment");
    write(&site.staging, "x", b"x", time(1));
    let error = site.try_pack(None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write the assignment {}:", site.out().display())), "{error}");
    fs::remove_dir(site.out()).unwrap();
    site.start();
}

#[test]
fn a_read_only_directory_is_opened_filled_and_closed() {
    let mut site = Site::new();
    write(&site.staging, "ro/deep/x", b"x", time(1));
    settle_directories(&site.staging);
    set_mode(&site.staging.join("ro/deep"), 0o555);
    set_mode(&site.staging.join("ro"), 0o500);
    let packed = site.replicate();
    assert_eq!(
        names(&site.commands(&packed)),
        [
            "mkdir ro",
            "mkdir ro/deep",
            "put ro/deep/x",
            "utimes ro/deep",
            "chmod ro/deep",
            "utimes ro",
            "chmod ro"
        ]
    );
    site.apply(&packed);
    set_mode(&site.staging.join("ro/deep"), 0o755);
    write(&site.staging, "ro/deep/y", b"y", time(1));
    set_mode(&site.staging.join("ro/deep"), 0o555);
    let packed = site.publish();
    assert_eq!(
        names(&site.commands(&packed)),
        ["chmod ro/deep", "put ro/deep/y", "utimes ro/deep", "chmod ro/deep"]
    );
    site.apply(&packed);
}

#[test]
fn the_header_says_what_was_asked_for() {
    let mut site = Site::new();
    write(&site.staging, "x", &noise(1, 5_000), time(1));
    site.start();
    write(&site.staging, "y", &noise(2, 9_000), time(1));
    let packed = site.publish();
    let (buffer, _) = open(&site.out(), &packed.shape.unwrap(), &site.publisher.public());
    let header = buffer.header;
    assert_eq!(
        (header.assignment, header.job, header.base),
        (AssignmentId(9), JobId(3), Some(AssignmentId(8)))
    );
    assert_eq!((header.kind, header.site.as_str(), header.issued), (Kind::Publish, "www", site.issued));
    assert_eq!((header.files, header.largest_file), (2, 9_000));
    assert_eq!(header.space, 12_288 + 4_096);
    assert_eq!(header.result, packed.tree.hash);
}

#[test]
fn files_that_become_one_are_linked_and_counted() {
    let mut site = Site::new();
    write(&site.staging, "a", b"same", time(1));
    write(&site.staging, "b", b"same", time(1));
    site.start();
    fs::remove_file(site.staging.join("b")).unwrap();
    fs::hard_link(site.staging.join("a"), site.staging.join("b")).unwrap();
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["remove b", "link b"]);
    assert_eq!(packed.changes, Changes { metadata: 1, ..Changes::default() });
    site.apply(&packed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the two trees have in common, looks included.
    #[test]
    fn commands_turn_any_tree_into_any_other(first in steps(30), second in steps(12)) {
        let mut site = Site::new();
        build(&site.staging, &first);
        site.start();
        site.staging = site.scratch.dir("next");
        build(&site.staging, &[first, second].concat());
        let packed = site.publish();
        prop_assert_eq!(packed.shape.is_none(), packed.changes == Changes::default());
        site.apply(&packed);
        prop_assert_eq!(site.publish().shape, None);
    }

    /// One staging directory that people work in, publish after publish, with its cache of hashes.
    #[test]
    fn publishes_follow_a_tree_through_its_life(
        first in steps(30), second in steps(8), third in steps(8),
    ) {
        let mut site = Site::new();
        build(&site.staging, &with_own_times(&first, 0));
        site.start();
        for (number, steps) in [second, third].iter().enumerate() {
            build(&site.staging, &with_own_times(steps, 1_000 * (number as i64 + 1)));
            let packed = site.publish();
            site.apply(&packed);
            let mut read = Vec::new();
            let again = site.try_pack(Some(8), &mut |path| read.push(path.clone())).unwrap();
            prop_assert_eq!((again.shape, again.tree), (None, packed.tree));
        }
    }
}
