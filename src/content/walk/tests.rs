use super::super::fixture::*;
use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;

fn paths(root: &Path) -> Vec<String> {
    Walk::open(root).unwrap().map(|entry| entry.unwrap().path.to_string()).collect()
}

#[test]
fn a_walk_is_depth_first_with_children_sorted_by_bytes() {
    let scratch = Scratch::new();
    for path in ["b/x", "a/z", "a.b", "a/y/1", "B", "\u{fc}", "a-"] {
        write(scratch.path(), path, b"", time(1));
    }
    let expected = ["B", "a", "a/y", "a/y/1", "a/z", "a-", "a.b", "b", "b/x", "\\xc3\\xbc"];
    assert_eq!(paths(scratch.path()), expected);
}

#[test]
fn a_symlink_is_kept_and_never_followed() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    write(scratch.path(), "outside/secret", b"secret", time(1));
    symlink("../outside", root.join("out")).unwrap();
    symlink(".", root.join("loop")).unwrap();
    let entries: Vec<_> = Walk::open(&root).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].kind, EntryKind::Symlink { text: b".".to_vec() });
    assert_eq!(entries[1].kind, EntryKind::Symlink { text: b"../outside".to_vec() });
}

#[test]
fn the_root_itself_may_be_a_symlink() {
    let scratch = Scratch::new();
    write(scratch.path(), "v2/x", b"", time(1));
    symlink("v2", scratch.path().join("current")).unwrap();
    assert_eq!(paths(&scratch.path().join("current")), ["x"]);
}

#[test]
fn an_entry_says_size_mode_time_and_links() {
    let scratch = Scratch::new();
    write(scratch.path(), "x", b"12345", -1_500_000_000);
    set_mode(&scratch.path().join("x"), 0o6_750);
    fs::hard_link(scratch.path().join("x"), scratch.path().join("y")).unwrap();
    let entries: Vec<_> = Walk::open(scratch.path()).unwrap().map(Result::unwrap).collect();
    let EntryKind::File { size, links, inode } = entries[0].kind else { panic!() };
    assert_eq!((size, links, entries[0].mode, entries[0].mtime), (5, 2, 0o750, -1_500_000_000));
    assert!(matches!(entries[1].kind, EntryKind::File { inode: other, .. } if other == inode));
}

#[test]
fn what_lies_too_deep_is_named_and_left_out() {
    let scratch = Scratch::new();
    let mut path = scratch.path().to_path_buf();
    for _ in 0..64 {
        path.push("d");
    }
    fs::create_dir_all(path.join("too deep/deeper")).unwrap();
    fs::write(path.join("file"), b"").unwrap();
    let mut walk = Walk::open(scratch.path()).unwrap();
    assert_eq!(walk.by_ref().map(Result::unwrap).count(), 64);
    assert_eq!(walk.left_out_count(), 2);
    let reasons: Vec<_> = walk.left_out().iter().map(|left_out| left_out.reason).collect();
    assert_eq!(reasons, [Reason::TooDeep, Reason::TooDeep]);
    assert!(walk.left_out()[1].to_string().contains("/too deep is nested deeper than 64"));
}

#[test]
fn only_the_first_thousand_left_out_are_named() {
    let scratch = Scratch::new();
    for number in 0..1_010 {
        let path = scratch.path().join(number.to_string());
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    }
    let mut walk = Walk::open(scratch.path()).unwrap();
    assert_eq!(walk.by_ref().count(), 0);
    assert_eq!((walk.left_out().len(), walk.left_out_count()), (1_000, 1_010));
}

#[test]
fn a_directory_swapped_for_a_symlink_is_not_followed() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    write(scratch.path(), "outside/secret", b"secret", time(1));
    write(&root, "d/x", b"", time(1));
    let mut walk = Walk::open(&root).unwrap();
    assert_eq!(walk.next().unwrap().unwrap().path, rel(b"d"));
    fs::remove_dir_all(root.join("d")).unwrap();
    symlink("../outside", root.join("d")).unwrap();
    let error = walk.next().unwrap().unwrap_err();
    assert!(matches!(&error, WalkError::Changing { path } if *path == root.join("d")), "{error}");
    assert!(walk.next().is_none());
}

#[test]
fn a_missing_root_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let root = scratch.path().join("nowhere");
    let error = Walk::open(&root).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot read {}: No such file", root.display())), "{error}");
}

#[test]
fn an_unreadable_directory_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let path = scratch.dir("closed");
    set_mode(&path, 0);
    if fs::read_dir(&path).is_ok() {
        return; // Root reads everything.
    }
    let mut walk = Walk::open(scratch.path()).unwrap();
    assert!(walk.next().unwrap().is_ok());
    let error = walk.next().unwrap().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}:", path.display())), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_ascends_and_misses_nothing(steps in steps(40)) {
        let scratch = Scratch::new();
        let root = scratch.dir("root");
        build(&root, &steps);
        let walked: Vec<_> = Walk::open(&root).unwrap().map(|entry| entry.unwrap().path).collect();
        prop_assert!(walked.is_sorted_by(|a, b| a.walk_cmp(b).is_lt()));
        fn count(path: &Path) -> usize {
            fs::read_dir(path).unwrap().map(Result::unwrap).map(|entry| {
                1 + if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 0 }
            }).sum()
        }
        prop_assert_eq!(walked.len(), count(&root));
    }
}

proptest! {
    /// With names that hold what sorts before the slash and behind it.
    #[test]
    fn walk_order_goes_by_components(
        a in "[!a-b-]{1,2}(/[!a-b-]{1,2}){0,3}",
        b in "[!a-b-]{1,2}(/[!a-b-]{1,2}){0,3}",
    ) {
        let (a, b) = (RelPath::new(a.as_bytes()).unwrap(), RelPath::new(b.as_bytes()).unwrap());
        prop_assert_eq!(a.walk_cmp(&b), a.components().cmp(b.components()));
    }
}

/// ST-6: a directory that is taken for its contents only comes before the first of them, or not at all.
#[test]
fn only_what_is_picked_is_yielded_with_the_directories_above_it() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["a/b/c", "a/e", "left/in", "x/y"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    for file in
        ["a/b/c/1.html", "a/b/c/2.txt", "a/b/3.html", "a/e/4.txt", "left/in/5.html", "x/6.txt", "x/y/7.html"]
    {
        fs::write(root.path().join(file), "").unwrap();
    }
    nix::unistd::mkfifo(&root.path().join("left/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let picks = |path: &RelPath, is_directory: bool| match path.as_bytes() {
        b"left" => Pick::Leave,
        _ if is_directory => Pick::Contents,
        path if path.ends_with(b".html") => Pick::Take,
        _ => Pick::Leave,
    };
    let mut walk = Walk::picking(root.path(), &picks).unwrap();
    let paths: Vec<String> = walk.by_ref().map(|entry| entry.unwrap().path.to_string()).collect();
    let expected = ["a", "a/b", "a/b/3.html", "a/b/c", "a/b/c/1.html", "x", "x/y", "x/y/7.html"];
    assert_eq!(paths, expected);
    assert_eq!(walk.left_out_count(), 0, "nobody asked for it");
}
