use super::*;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let deep = "d".repeat(120);
    fs::create_dir_all(at(&deep)).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("a"), "first").unwrap();
    fs::write(at(&format!("{deep}/b")), vec![7; 1_000]).unwrap();
    fs::write(at("zero"), "").unwrap();
    fs::write(at("blocks"), vec![8; 1_024]).unwrap();
    fs::hard_link(at("a"), at("z")).unwrap();
    symlink("a", at("link")).unwrap();
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o640)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 250_000_000);
    File::options().write(true).open(at("a")).unwrap().set_modified(time).unwrap();
    dir
}

fn all(stream: &mut Stream, piece: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < stream.len() {
        bytes.extend(stream.read(bytes.len() as u64, piece).unwrap());
    }
    bytes
}

#[test]
fn the_stream_is_an_archive_that_others_read() {
    let dir = tree();
    let bytes = all(&mut Stream::of(dir.path()).unwrap(), 1 << 20);
    let mut found = Vec::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let target = entry.link_name().unwrap().map(|name| name.into_owned());
        found.push((path.to_str().unwrap().len(), entry.header().entry_type(), content.len(), target));
    }
    let expected = [
        (1, EntryType::Regular, 5, None),
        (6, EntryType::Regular, 1_024, None),
        (120, EntryType::Directory, 0, None),
        (122, EntryType::Regular, 1_000, None),
        (5, EntryType::Directory, 0, None),
        (4, EntryType::Symlink, 0, Some(PathBuf::from("a"))),
        (1, EntryType::Link, 0, Some(PathBuf::from("a"))),
        (4, EntryType::Regular, 0, None),
    ];
    assert_eq!(found, expected);
    let first = &bytes[..3 * 512];
    assert!(first.windows(24).any(|part| part == b"mtime=1700000000.2500000"), "parts of a second are kept");
}

#[test]
fn its_bytes_are_the_same_in_pieces_of_any_length_from_any_place_on() {
    let dir = tree();
    let whole = all(&mut Stream::of(dir.path()).unwrap(), usize::MAX >> 40);
    let hash = blake3::hash(&whole).to_hex().to_string();
    for piece in [1, 7, 511, 512, 513, 4_096] {
        let mut stream = Stream::of(dir.path()).unwrap();
        assert_eq!(all(&mut stream, piece), whole, "in pieces of {piece}");
        assert_eq!(stream.hash().unwrap(), hash);
    }
    for offset in [0, 1, 600, 2_049, whole.len() - 1, whole.len()] {
        let mut stream = Stream::of(dir.path()).unwrap();
        assert_eq!(stream.read(offset as u64, whole.len()).unwrap(), whole[offset..]);
        // Sent again, as after a connection that broke.
        assert_eq!(stream.read(offset as u64 / 2, whole.len()).unwrap(), whole[offset / 2..]);
        assert_eq!(stream.hash().unwrap(), hash, "from {offset} on");
    }
    assert_eq!(Stream::of(dir.path()).unwrap().print(), Stream::of(dir.path()).unwrap().print());
}

#[test]
fn a_file_that_somebody_writes_to_meanwhile_is_noticed() {
    let dir = tree();
    let path = dir.path().join("blocks");
    let mut stream = Stream::of(dir.path()).unwrap();
    let print = stream.print().to_owned();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, vec![9; 1_024]).unwrap();
    // Size and time are as they were.
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let error = stream.read(0, 1 << 20).unwrap_err();
    assert!(matches!(&error, StreamError::Changed(path) if path.ends_with("blocks")), "{error}");
    assert_ne!(Stream::of(dir.path()).unwrap().print(), print);
    fs::remove_file(&path).unwrap();
    assert!(matches!(stream.read(0, 1 << 20), Err(StreamError::Changed(_))));
}

#[test]
fn a_file_is_sent_as_it_is() {
    let dir = tree();
    let mut stream = Stream::of(&dir.path().join("blocks")).unwrap();
    assert_eq!((stream.len(), stream.file_name()), (1_024, Some("blocks")));
    assert_eq!(all(&mut stream, 1_000), vec![8; 1_024]);
    assert_eq!(stream.hash().unwrap(), blake3::hash(&[8; 1_024]).to_hex().to_string());
    let none = Stream::of(&dir.path().join("none")).err().expect("it is not there");
    assert!(matches!(none.failure(), Failure::Usage(_)));
}
