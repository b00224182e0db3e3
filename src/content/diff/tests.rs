use super::super::fixture::*;
use super::super::walk::Walk;
use super::*;
use proptest::prelude::*;

fn file(path: &str, size: u64, mtime: i64, mode: u32) -> Entry {
    let kind = EntryKind::File { size, inode: (1, 1), links: 1 };
    Entry { path: rel(path.as_bytes()), kind, mode, mtime }
}

fn directory(path: &str, mtime: i64) -> Entry {
    Entry { path: rel(path.as_bytes()), kind: EntryKind::Directory, mode: 0o755, mtime }
}

fn symlink(path: &str, text: &str, mtime: i64) -> Entry {
    let kind = EntryKind::Symlink { text: text.as_bytes().to_vec() };
    Entry { path: rel(path.as_bytes()), kind, mode: 0o777, mtime }
}

fn changes(old: &[Entry], new: &[Entry]) -> Vec<String> {
    let walk = |entries: &[Entry]| entries.iter().cloned().map(Ok).collect::<Vec<_>>();
    diff(walk(old), walk(new))
        .map(|change| match change.unwrap() {
            Change::Added(new) => format!("added {}", new.path),
            Change::Removed(old) => format!("removed {}", old.path),
            Change::Content { new, .. } => format!("content {}", new.path),
            Change::Metadata { new, .. } => format!("metadata {}", new.path),
            Change::Replaced { new, .. } => format!("replaced {}", new.path),
        })
        .collect()
}

#[test]
fn each_difference_has_its_name() {
    let table: [(Entry, Entry, &str); 11] = [
        (file("x", 1, 1, 0o644), file("x", 1, 1, 0o644), ""),
        (file("x", 1, 1, 0o644), file("x", 2, 1, 0o644), "content x"),
        (file("x", 1, 1, 0o644), file("x", 1, 2, 0o600), "content x"),
        (file("x", 1, 1, 0o644), file("x", 1, 1, 0o600), "metadata x"),
        (directory("x", 1), directory("x", 1), ""),
        (directory("x", 1), directory("x", 2), "metadata x"),
        (symlink("x", "a", 1), symlink("x", "a", 1), ""),
        (symlink("x", "a", 1), symlink("x", "a", 2), "metadata x"),
        (symlink("x", "a", 1), symlink("x", "b", 1), "replaced x"),
        (symlink("x", "a", 1), file("x", 1, 1, 0o644), "replaced x"),
        (directory("x", 1), file("x", 1, 1, 0o644), "replaced x"),
    ];
    for (old, new, expected) in table {
        assert_eq!(changes(&[old], &[new]).concat(), expected);
    }
}

#[test]
fn what_was_below_a_directory_goes_with_it() {
    let old = [directory("d", 1), directory("d/e", 1), file("d/e/x", 1, 1, 0), file("d-", 1, 1, 0)];
    assert_eq!(changes(&old, &[]), ["removed d", "removed d-"]);
    assert_eq!(changes(&old, &[file("d", 1, 1, 0), file("d-", 1, 1, 0)]), ["replaced d"]);
    assert_eq!(changes(&[], &old), ["added d", "added d/e", "added d/e/x", "added d-"]);
}

#[test]
fn a_file_that_becomes_a_directory_is_replaced_and_filled() {
    let new = [directory("x", 1), file("x/y", 1, 1, 0)];
    assert_eq!(changes(&[file("x", 1, 1, 0)], &new), ["replaced x", "added x/y"]);
}

#[test]
fn an_error_of_either_walk_comes_through() {
    let error = || Err(WalkError::Changing { path: "x".into() });
    let fine = || Ok(file("a", 1, 1, 0));
    assert!(diff([fine(), error()], [fine()]).any(|change| change.is_err()));
    assert!(diff([fine()], [error(), fine()]).any(|change| change.is_err()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_join_meets_every_new_entry_once_and_in_order(first in steps(25), second in steps(15)) {
        let scratch = Scratch::new();
        let (old, new) = (scratch.dir("old"), scratch.dir("new"));
        build(&old, &first);
        build(&new, &[first, second].concat());
        let met: Vec<_> = join(Walk::open(&old).unwrap(), Walk::open(&new).unwrap())
            .filter_map(|pair| match pair.unwrap() {
                Pair::New(new) | Pair::Both(_, new) => Some(new),
                Pair::Old(_) => None,
            })
            .collect();
        let all: Vec<_> = Walk::open(&new).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(met, all);
        prop_assert_eq!(diff(Walk::open(&new).unwrap(), Walk::open(&new).unwrap()).count(), 0);
    }
}
