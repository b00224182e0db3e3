//! An assignment that its publisher signed and that is hostile all the same: the interpreter carries it out below a
//! site's hidden directory, and nothing else may change, neither what is live nor what lies beside the site.

use super::assignment::{commands, encode, header, path};
use super::disk::PLACE;
use crate::seal::AUTHORITY;
use farmcast::content::site::Site;
use farmcast::wire::Decoder;
use farmcast::wire::assignment::{Coding, Command, CommandBuffer, Extent, Header, Item, Kind};
use farmcast::wire::seal::leaf_hash;
use std::fs::{self, File};

/// Longest file that the header allows; the bounds are enforced while commands are carried out.
const LARGEST: u64 = 64 << 10;
const COMMANDS_MAX: usize = 64;

/// Two bytes of length, so many bytes of commands, then the data file. Content hashes are made to fit, for without
/// that the first file would end the staging.
pub fn run(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return false };
    let (encoded, data) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    let mut from = Decoder::new(encoded);
    let mut commands = Vec::new();
    while from.remaining() > 0 && commands.len() < COMMANDS_MAX {
        let Ok(mut command) = Command::decode(&mut from) else { break };
        fit(&mut command, data);
        commands.push(command);
    }
    let leaves = if data.is_empty() { vec![] } else { vec![leaf_hash(0, data)] };
    let header =
        Header { data_len: data.len() as u64, files: 16, largest_file: LARGEST, ..header(Kind::Replicate) };
    let count = commands.len() as u32;
    let (shape, signed) = CommandBuffer::sign(header, &encode(&commands), count, &leaves, &AUTHORITY);
    let buffer = CommandBuffer::open(&shape, &signed, &AUTHORITY.public()).expect("it was just signed");

    let root = PLACE.join("stage/site");
    let secret = PLACE.join("stage/secret");
    fs::create_dir_all(root.join("live")).expect("the place is ours");
    fs::write(&secret, b"beside the site").expect("the place is ours");
    fs::write(root.join("live/page"), b"what visitors see").expect("the place is ours");
    let data_path = PLACE.join("stage/data");
    fs::write(&data_path, data).expect("the place is ours");
    let file = File::open(&data_path).expect("it was just written");
    let mut site = Site::open(&root).expect("a directory is a site");
    let staged = site.stage(&buffer, &file);
    assert!(staged.is_err(), "nobody can guess the hash of the result");
    assert_eq!(site.staged(), None);
    assert_eq!(fs::read(&secret).expect("it is still there"), b"beside the site");
    assert_eq!(fs::read(root.join("live/page")).expect("it is still there"), b"what visitors see");
    let beside = fs::read_dir(PLACE.join("stage")).expect("the place is ours").count();
    assert_eq!(beside, 3, "something appeared beside the site");
    assert!(!root.join(".farmcast/temp").exists(), "a staging that failed leaves nothing");
    !commands.is_empty()
}

/// Gives a command the hash that its content has, as far as that is easily told.
fn fit(command: &mut Command, data: &[u8]) {
    let Command::Put { size, hash, item, extents, .. } = command else { return };
    let content = match item {
        None if extents.is_empty() && *size <= LARGEST => vec![0; *size as usize],
        Some(Item { offset, len, coding: Coding::Raw, .. }) => {
            let piece = data.get(*offset as usize..).and_then(|rest| rest.get(..*len as usize));
            let Some(piece) = piece.filter(|_| *size <= LARGEST) else { return };
            scattered(piece, *size as usize, extents)
        }
        _ => return,
    };
    *hash = *blake3::hash(&content).as_bytes();
}

/// A file whose extents hold the piece.
fn scattered(piece: &[u8], size: usize, extents: &[Extent]) -> Vec<u8> {
    if extents.is_empty() {
        return piece.to_vec();
    }
    let mut content = vec![0; size];
    let mut rest = piece;
    for extent in extents {
        let (bytes, behind) = rest.split_at(extent.len as usize);
        content[extent.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        rest = behind;
    }
    content
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |commands: &[Command], data: &[u8]| {
        let encoded = encode(commands);
        [&(encoded.len() as u16).to_be_bytes()[..], &encoded, data].concat()
    };
    let put = |name: &str, len: u64| Command::Put {
        path: path(name),
        mode: 0o644,
        mtime: 5,
        size: len,
        hash: [0; 32],
        item: (len > 0).then_some(Item { offset: 0, len, decoded_len: len, coding: Coding::Raw }),
        extents: vec![],
    };
    let tree = [
        Command::Mkdir { path: path("a"), mode: 0o755 },
        put("a/f", 10),
        put("b", 0),
        Command::Link { path: path("c"), target: path("a/f") },
        Command::Symlink { path: path("s"), text: b"../../..".to_vec(), mtime: 1 },
        put("s/escaped", 10),
        Command::Chmod { path: path("c"), mode: 0o600 },
        Command::Remove { path: path("a") },
        Command::Utimes { path: path("c"), mtime: 9 },
    ];
    vec![seed(&tree, &[7; 10]), seed(&tree[..4], &[7; 10]), seed(&commands(), &[1; 100])]
}
