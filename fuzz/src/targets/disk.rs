//! Files that a crash, a failing disk or somebody with an editor left behind. Where a checksum is due it is right.

use super::message::{announce, peer};
use crate::memory::within;
use crate::seal::{AUTHORITY, CERTIFICATE};
use farmcast::content::hashes::Cache;
use farmcast::content::site::Site;
use farmcast::content::walk::{Entry, EntryKind};
use farmcast::node::identity::{Identity, next_boot};
use farmcast::node::peers::Peers;
use farmcast::node::store::Store;
use farmcast::wire::assignment::{RelPath, Shape};
use farmcast::wire::id::{AssignmentId, OrderId};
use farmcast::wire::join::{Farm, FarmSecret};
use farmcast::wire::seal::SigningKey;
use farmcast::wire::{Decoder, Encoder};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// Longest object that a sidecar is given; the file is all hole.
const OBJECT_MAX: u64 = 1 << 30;

/// A directory of this process, below what `TMPDIR` names; `fuzz/run` removes it.
pub static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let place = std::env::temp_dir().join(format!("farmcast-fuzz-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    place
});

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn with_checksum(content: &[u8]) -> Vec<u8> {
    [content, &xxh3_64(content).to_be_bytes()].concat()
}

fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::new();
    write(&mut out);
    out.finish()
}

/// The sidecar of an object whose file is as long as it says, and all zeros.
pub fn spool(content: &[u8]) -> bool {
    let dir = PLACE.join("spool");
    fs::create_dir_all(&dir).expect("the place is ours");
    let object = content.get(1..).and_then(|shape| Shape::decode(&mut Decoder::new(shape)).ok());
    let object = object.filter(|shape| shape.file_len() <= OBJECT_MAX);
    if let Some(shape) = &object {
        let file = fs::File::create(dir.join(format!("{}.asg", shape.name))).expect("the place is ours");
        file.set_len(shape.file_len()).expect("a hole costs nothing");
    }
    write(&dir.join("fuzzed.map"), &with_checksum(content));
    let open = || Store::open(&dir, AUTHORITY.public(), u64::MAX).expect("a bad sidecar is no failure");
    let store = within(content, 64 << 10, 64, open);
    let held: Vec<(Shape, u32)> = store.objects().map(|(shape, verified)| (*shape, verified)).collect();
    drop(store);
    // No publisher signs zeros.
    assert!(
        held.iter().all(|(shape, verified)| *verified == 0 && Some(shape) == object.as_ref()),
        "{held:?}"
    );
    fs::remove_dir_all(&dir).expect("the place is ours");
    !held.is_empty()
}

pub fn spool_seeds() -> Vec<Vec<u8>> {
    let sidecar = |shape: Shape, bits: u8| {
        encoded(|out| {
            out.u8(1);
            shape.encode(out);
            out.raw(&vec![bits; (shape.blocks() as usize).div_ceil(8)]);
        })
    };
    let shape = announce().shape;
    vec![sidecar(shape, 0xff), sidecar(Shape { data_len: 0, ..shape }, 0)]
}

/// State, or parts of an update, and journal of a site. Whatever they say, what is live stays live.
pub fn site(data: &[u8]) -> bool {
    let Some((split, records)) = data.split_first() else { return false };
    let root = PLACE.join("site");
    let hidden = root.join(".farmcast");
    if !root.join("live").is_dir() {
        Site::open(&root).expect("a fresh directory is a site");
    }
    write(&root.join("live/page"), b"what visitors see");
    fs::create_dir_all(hidden.join("temp")).expect("the place is ours");
    let (state, journal) = records.split_at(usize::from(*split).min(records.len()));
    write(&hidden.join("state"), &with_checksum(state));
    write(&hidden.join("part"), &with_checksum(state));
    write(&hidden.join("journal"), &with_checksum(journal));
    let opened = within(data, 256 << 10, 64, || Site::open(&root));
    assert_eq!(fs::read(root.join("live/page")).expect("it is still there"), b"what visitors see");
    opened.is_ok()
}

pub fn site_seeds() -> Vec<Vec<u8>> {
    let switch = |out: &mut Encoder| {
        OrderId(9).encode(out);
        AssignmentId(5).encode(out);
        out.u64(1 << 60);
    };
    let state = encoded(|out| {
        out.raw(b"FCST").u8(2).bool(true);
        switch(out);
        out.bool(true).raw(&[1; 32]).bool(true);
        AssignmentId(6).encode(out);
        announce().shape.name.encode(out);
        out.raw(&[2; 32]).u8(1);
        AssignmentId(4).encode(out);
        out.bool(true).raw(&[3; 32]);
    });
    let intent = encoded(|out| {
        out.raw(b"FCJL").u8(2);
        switch(out);
        out.u8(1);
        AssignmentId(4).encode(out);
        out.u64(1).bool(true).raw(&[3; 32]).u64(2);
        AssignmentId(5).encode(out);
        out.bool(false);
    });
    let part = encoded(|out| {
        out.raw(b"FCPT").u8(1).raw(&[1; 32]).raw(&[2; 32]).u16(2).u16(3);
    });
    vec![
        [&[part.len() as u8][..], &part].concat(),
        [&[state.len() as u8][..], &state].concat(),
        [&[0][..], &intent].concat(),
        [&[state.len() as u8][..], &state, &intent].concat(),
    ]
}

/// The cache of content hashes, asked for files in the order of a walk.
pub fn hashes(content: &[u8]) -> bool {
    let path = PLACE.join("hashes");
    write(&path, &with_checksum(content));
    within(content, 160 << 10, 4, || {
        let mut cache = Cache::open(&path);
        let mut known = false;
        for file in ["a", "a/b", "b", "c/d", "z"] {
            let kind = EntryKind::File { size: 7, inode: (1, 9), links: 1 };
            let path = RelPath::new(file.as_bytes()).expect("it is a path");
            known |= cache.find(&Entry { path, kind, mode: 0o644, mtime: 8 }).is_some();
        }
        known
    })
}

pub fn hashes_seeds() -> Vec<Vec<u8>> {
    let lines = |names: &[&str]| {
        encoded(|out| {
            out.raw(b"FCHC").u16(2);
            for name in names {
                out.str16(name).u8(2).u16(0o644).i64(8).u64(7).u64(9).raw(&[1; 32]);
            }
            out.u16(0);
        })
    };
    vec![lines(&["a"]), lines(&["0", "a/b", "b", "z"])]
}

/// Identity, boot counter and known peers of a node.
pub fn identity(data: &[u8]) -> bool {
    let Some((choice, content)) = data.split_first() else { return false };
    let (file, content) = (["identity", "boot", "peers"][usize::from(choice % 3)], with_checksum(content));
    write(&PLACE.join(file), &content);
    within(data, 16 << 10, 16, || match choice % 3 {
        0 => Identity::load(&PLACE).is_ok_and(|read| {
            read.store(&PLACE).expect("the place is ours");
            fs::read(PLACE.join(file)).expect("it was just written") == content || panic!("it changed")
        }),
        1 => next_boot(&PLACE).is_ok_and(|boot| boot > 0),
        _ => !Peers::load(&PLACE).kept().is_empty(),
    })
}

pub fn identity_seeds() -> Vec<Vec<u8>> {
    let farm = Farm {
        publisher: AUTHORITY.public(),
        director: AUTHORITY.public(),
        enroller: AUTHORITY.public(),
        secret: FarmSecret([6; 32]),
    };
    let identity = Identity { key: SigningKey::from_seed([2; 32]), certificate: CERTIFICATE.clone(), farm };
    identity.store(&PLACE).expect("the place is ours");
    let stored = fs::read(PLACE.join("identity")).expect("it was just written");
    let peers = encoded(|out| {
        out.u8(2).u8(1).list(&[peer()], |out, peer| peer.encode(out));
    });
    vec![[&[0][..], &stored[..stored.len() - 8]].concat(), vec![1, 1, 0, 0, 0, 41], peers]
}
