use super::super::fixture::*;
use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn every_difference_gives_another_hash() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    write(&root, "a/x", b"12345", time(1));
    write(&root, "a/y", b"12345", time(1));
    symlink("x", root.join("a/z")).unwrap();
    set_mtime(&root.join("a/z"), time(1));
    set_mtime(&root.join("a"), time(1));
    let mut seen = vec![hash_tree(&root).unwrap().hash];
    let mut changed = |what: &str, change: &dyn Fn()| {
        change();
        set_mtime(&root.join("a"), time(1));
        let hash = hash_tree(&root).unwrap().hash;
        assert!(!seen.contains(&hash), "{what}");
        seen.push(hash);
    };
    let x = root.join("a/x");
    changed("content", &|| write(&root, "a/x", b"12346", time(1)));
    changed("size", &|| write(&root, "a/x", b"123456", time(1)));
    changed("time", &|| set_mtime(&x, time(2)));
    changed("mode", &|| set_mode(&x, 0o600));
    changed("mode of a directory", &|| set_mode(&root.join("a"), 0o700));
    changed("name", &|| fs::rename(&x, root.join("a/w")).unwrap());
    changed("hard link", &|| {
        fs::remove_file(root.join("a/y")).unwrap();
        fs::hard_link(root.join("a/w"), root.join("a/y")).unwrap();
    });
    changed("time of a link", &|| set_mtime(&root.join("a/z"), time(3)));
    changed("text", &|| {
        fs::remove_file(root.join("a/z")).unwrap();
        symlink("w", root.join("a/z")).unwrap();
        set_mtime(&root.join("a/z"), time(3));
    });
    changed("kind", &|| {
        fs::remove_file(root.join("a/z")).unwrap();
        fs::create_dir(root.join("a/z")).unwrap();
        set_mtime(&root.join("a/z"), time(3));
    });
    set_mtime(&root.join("a"), time(9));
    assert!(!seen.contains(&hash_tree(&root).unwrap().hash), "time of a directory");
}

#[test]
fn which_names_are_one_file_matters_and_not_that_some_are() {
    let scratch = Scratch::new();
    let mut hashes = Vec::new();
    for (index, pairs) in
        [[("a", "b"), ("c", "d")], [("a", "c"), ("b", "d")], [("a", "d"), ("b", "c")]].into_iter().enumerate()
    {
        let root = scratch.dir(&index.to_string());
        for (first, second) in pairs {
            write(&root, first, b"x", time(1));
            fs::hard_link(root.join(first), root.join(second)).unwrap();
        }
        let tree = hash_tree(&root).unwrap();
        assert_eq!((tree.files, tree.bytes), (4, 2));
        hashes.push(tree.hash);
    }
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

#[test]
fn the_root_itself_holes_and_names_outside_do_not_matter() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.dir("one"), scratch.dir("two"));
    write(&one, "x", &[0; 200_000], time(1));
    fs::File::create(two.join("x")).unwrap().set_len(200_000).unwrap();
    set_mode(&two.join("x"), 0o644);
    set_mtime(&two.join("x"), time(1));
    fs::hard_link(two.join("x"), scratch.path().join("elsewhere")).unwrap();
    set_mode(&two, 0o700);
    assert_eq!(hash_tree(&one).unwrap(), hash_tree(&two).unwrap());
}

#[test]
fn a_tree_is_measured() {
    let scratch = Scratch::new();
    write(scratch.path(), "d/e/x", &[1; 300], time(1));
    write(scratch.path(), "y", &[1; 200], time(1));
    symlink("y", scratch.path().join("z")).unwrap();
    let tree = hash_tree(scratch.path()).unwrap();
    assert_eq!((tree.files, tree.directories, tree.symlinks), (2, 2, 1));
    assert_eq!((tree.bytes, tree.largest_file), (500, 300));
}

#[test]
fn the_opener_follows_no_symlink_and_leaves_no_tree() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    write(scratch.path(), "outside/secret", b"secret", time(1));
    symlink("../outside", root.join("out")).unwrap();
    symlink("../outside/secret", root.join("secret")).unwrap();
    let opener = Opener::new(&root).unwrap();
    for path in [&b"out/secret"[..], b"secret", b"missing"] {
        assert!(matches!(opener.open(&rel(path)), Err(WalkError::Changing { .. })));
    }
}

#[test]
fn a_cache_spares_reading_and_changes_nothing() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    write(&root, "a", b"first", time(1));
    write(&root, "b/c", b"second", time(1));
    let path = scratch.path().join("hashes");
    let cached = |root: &Path| {
        let mut cache = Cache::open(&path);
        let tree = hash_tree_cached(root, &mut cache, &Written::default()).unwrap();
        cache.save().unwrap();
        tree
    };
    let tree = hash_tree(&root).unwrap();
    assert_eq!(cached(&root), tree);
    // Content behind the back of size and time shows that the file is not read again.
    fs::write(root.join("a"), b"FIRST").unwrap();
    set_mtime(&root.join("a"), time(1));
    assert_eq!(cached(&root), tree);
    set_mtime(&root.join("a"), time(2));
    assert_eq!(cached(&root), hash_tree(&root).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn trees_built_alike_have_one_hash(steps in steps(30)) {
        let scratch = Scratch::new();
        let (one, two, three) = (scratch.dir("one"), scratch.dir("two"), scratch.dir("three"));
        build(&one, &steps);
        build(&two, &steps);
        let tree = hash_tree(&one).unwrap();
        prop_assert_eq!(tree, hash_tree(&two).unwrap());
        linked_copy(&one, &three);
        prop_assert_eq!(tree, hash_tree(&three).unwrap());
    }
}
