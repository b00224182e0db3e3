//! Commands that take content from the base: splice, copy, move.

use super::*;
use crate::wire::assignment::Copied;

/// The file `at` becomes these ranges of `old`, with `fresh` in the gaps between them.
fn splice(mut draft: Draft, at: &str, old: &[u8], copies: &[Copied], fresh: &[u8], new: &[u8]) -> Draft {
    let item = draft.item(fresh);
    draft.add(Command::Splice {
        path: path(at),
        mode: 0o600,
        mtime: MTIME + 7,
        size: new.len() as u64,
        base: *blake3::hash(old).as_bytes(),
        hash: *blake3::hash(new).as_bytes(),
        item,
        copies: copies.to_vec(),
    })
}

fn copy(draft: Draft, at: &str, from: &str, content: &[u8]) -> Draft {
    let hash = *blake3::hash(content).as_bytes();
    draft.add(Command::Copy { path: path(at), from: path(from), mode: 0o640, mtime: MTIME + 3, hash })
}

fn move_here(draft: Draft, at: &str, from: &str) -> Draft {
    draft.add(Command::Move { path: path(at), from: path(from) })
}

#[test]
fn a_splice_takes_ranges_of_the_old_file_and_new_bytes_between_them() {
    let mut bench = Bench::new();
    let old: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8 ^ (at >> 12) as u8).collect();
    let draft = bench.draft().put("f", &old);
    let live = bench.publish(draft);
    let before = fs::read(live.join("f")).unwrap();
    let new = [b"head", &old[400_000..], b"middle", &old[..300_001]].concat();
    let copies =
        [Copied { from: 400_000, to: 4, len: 300_000 }, Copied { from: 0, to: 300_010, len: 300_001 }];
    let draft = splice(bench.draft(), "f", &old, &copies, b"headmiddle", &new);
    let temp = bench.stage(draft);
    assert_eq!(fs::read(live.join("f")).unwrap(), before, "live stays");
    assert_eq!(fs::read(temp.join("f")).unwrap(), new);
    assert_eq!((stat(temp.join("f")).mode() & 0o7777, mtime_of(temp.join("f"))), (0o600, MTIME + 7));
}

#[test]
fn a_splice_keeps_the_holes_of_what_it_copies() {
    let mut bench = Bench::new();
    let size = 32 << 20;
    let mut old = vec![0; size];
    old[..3].copy_from_slice(b"abc");
    let mut draft = bench.draft();
    let item = draft.item(b"abc");
    let hash = *blake3::hash(&old).as_bytes();
    let extents = vec![Extent { offset: 0, len: 3 }];
    let (path, size) = (path("f"), size as u64);
    let draft = draft.add(Command::Put { path, mode: 0o644, mtime: 0, size, hash, item, extents });
    bench.publish(draft);
    let new = [b"xy", &old[..]].concat();
    let copies = [Copied { from: 0, to: 2, len: size }];
    let draft = splice(bench.draft(), "f", &old, &copies, b"xy", &new);
    let live = bench.publish(draft);
    assert_eq!(fs::read(live.join("f")).unwrap(), new);
    assert!(stat(live.join("f")).blocks() * 512 < 1 << 20);
}

#[test]
fn a_splice_of_another_base_or_beyond_its_end_changes_nothing() {
    let mut bench = Bench::new();
    let draft = bench.draft().put("f", b"0123456789");
    bench.publish(draft);
    let all = [Copied { from: 0, to: 0, len: 10 }];
    let draft = splice(bench.draft(), "f", b"another base", &all, b"", b"0123456789");
    assert_eq!(bench.refuse(draft).reason(), Reason::StaleBase);
    for from in [1, u64::MAX - 10] {
        let beyond = [Copied { from, to: 0, len: 10 }];
        let draft = splice(bench.draft(), "f", b"0123456789", &beyond, b"", b"123456789.");
        assert_eq!(bench.refuse(draft).reason(), Reason::Forged);
    }
    let draft = splice(bench.draft(), "f", b"0123456789", &all, b"", b"9876543210");
    assert_eq!(bench.refuse(draft).reason(), Reason::Forged, "another result than was signed");
    let mut draft = splice(bench.draft(), "f", b"0123456789", &all, b"", b"0123456789");
    draft.header.largest_file = 9;
    assert_eq!(bench.refuse(draft).reason(), Reason::Forged, "larger than the header allows");
}

#[test]
fn copies_and_moves_read_the_base_whatever_happens_to_the_names() {
    let mut bench = Bench::new();
    let draft = bench.draft().put("a", b"first").put("b", b"second").put("c", b"third");
    let live = bench.publish(draft);
    let inode = stat(live.join("b")).ino();
    // A file takes the place of a directory's name, contents go round in a circle, and one is doubled.
    let draft = bench.draft().remove("a").mkdir("a");
    let draft = move_here(copy(draft, "a/copy", "a", b"first"), "c", "b");
    let draft = copy(copy(draft.remove("b"), "b", "c", b"third"), "twice", "c", b"third");
    let live = bench.publish(draft);
    for (name, content) in [("a/copy", "first"), ("b", "third"), ("c", "second"), ("twice", "third")] {
        assert_eq!(fs::read_to_string(live.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(stat(live.join("c")).ino(), inode, "a move copies nothing");
    assert_eq!((mtime_of(live.join("c")), mtime_of(live.join("b"))), (MTIME, MTIME + 3));
    assert_eq!(stat(live.join("a/copy")).mode() & 0o7777, 0o640);
}

#[test]
fn copies_and_moves_of_what_the_base_has_not_are_refused() {
    type Wrong = fn(Draft) -> Draft;
    let wrong: [(Wrong, Reason); 6] = [
        (|draft| copy(draft, "new", "f", b"other content"), Reason::StaleBase),
        (|draft| copy(draft, "new", "absent", b""), Reason::StaleBase),
        (|draft| move_here(draft, "new", "absent"), Reason::StaleBase),
        (|draft| move_here(draft, "new", "d"), Reason::StaleBase),
        (|draft| move_here(draft, "new", "sym"), Reason::StaleBase),
        (|draft| move_here(draft, "new", "sym/passwd"), Reason::StaleBase),
    ];
    for (wrong, reason) in wrong {
        let mut bench = Bench::new();
        let draft = bench.draft().put("f", b"content").mkdir("d").symlink("sym", "/etc");
        bench.publish(draft);
        let error = bench.refuse(wrong(bench.draft()));
        assert_eq!(error.reason(), reason, "{error}");
    }
    let mut bench = Bench::new();
    let draft = bench.draft();
    let error = bench.refuse(copy(draft, "new", "f", b""));
    assert_eq!(error.reason(), Reason::Forged, "a replicate has no base: {error}");
    let mut bench = Bench::new();
    let draft = bench.draft().put("f", b"content");
    bench.publish(draft);
    let mut draft = bench.draft();
    draft.header.files = 1;
    assert_eq!(bench.refuse(move_here(draft, "new", "f")).reason(), Reason::Forged, "one file too many");
}
