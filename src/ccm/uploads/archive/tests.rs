use super::*;

/// A header as `tar` writes it, with a name that the crate would refuse to write.
pub fn header(name: &[u8], kind: EntryType, size: u64, target: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[u8]) -> Vec<u8> {
    let head = header(b"pax", EntryType::XHeader, records.len() as u64, b"");
    [head, padded(records.to_vec())].concat()
}

fn long_name(name: &[u8]) -> Vec<u8> {
    let head = header(b"././@LongLink", EntryType::GNULongName, name.len() as u64 + 1, b"");
    [head, padded([name, b"\0"].concat())].concat()
}

fn closed(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1_024]].concat()
}

fn first(parts: &[Vec<u8>]) -> Result<Option<Entry>, String> {
    Archive::new(closed(parts).as_slice()).entry().map_err(|error| error.to_string())
}

fn path(text: &str) -> Option<RelPath> {
    Some(RelPath::new(text.as_bytes()).unwrap())
}

#[test]
fn names_and_times_of_every_form_are_read() {
    let file = |name: &[u8]| header(name, EntryType::Regular, 0, b"");
    let read = |parts: &[Vec<u8>]| first(parts).unwrap().unwrap();
    assert_eq!(read(&[file(b"./a//b/.")]).path, path("a/b"));
    assert_eq!(read(&[header(b"./", EntryType::Directory, 0, b"")]).path, None);
    assert_eq!(read(&[file(b"old/")]).what, What::Directory);
    let long = "n".repeat(200);
    assert_eq!(read(&[long_name(long.as_bytes()), file(b"n")]).path, path(&long));
    let entry = read(&[pax(b"17 path=a\nb/\xc3\xbc.c\n19 mtime=-1.500000\n"), file(b"x")]);
    assert_eq!((entry.path, entry.mtime), (path("a\nb/\u{fc}.c"), -1_500_000_000));
    let global = header(b"pax_global_header", EntryType::XGlobalHeader, 4, b"");
    assert_eq!(read(&[global, padded(b"abcd".to_vec()), file(b"a")]).path, path("a"));
    assert_eq!(read(&[file(b"a")]).mtime, 1_700_000_000_000_000_000);
    let link = header(b"a/b", EntryType::Symlink, 0, b"../c");
    assert_eq!(read(&[link]).what, What::Symlink { text: b"../c".to_vec() });
}

#[test]
fn content_is_read_and_what_is_not_read_is_passed_over() {
    let file = |name: &[u8]| header(name, EntryType::Regular, 600, b"");
    let bytes = closed(&[file(b"a"), padded(vec![1; 600]), file(b"b"), padded(vec![2; 600])]);
    let mut archive = Archive::new(bytes.as_slice());
    assert_eq!(archive.entry().unwrap().unwrap().path, path("a"));
    assert_eq!(archive.entry().unwrap().unwrap().what, What::File { size: 600 });
    let mut buffer = [0; 4_096];
    assert_eq!((archive.content(&mut buffer).unwrap(), buffer[599]), (600, 2));
    assert_eq!(archive.content(&mut buffer).unwrap(), 0);
    assert_eq!(archive.entry().unwrap(), None);
}

#[test]
fn what_could_lead_outside_or_is_no_content_is_refused_with_its_reason() {
    let entry = |name: &[u8], kind| vec![header(name, kind, 0, b"")];
    let file = |name: &[u8]| header(name, EntryType::Regular, 0, b"");
    let link = |target: &[u8]| vec![header(b"a/b", EntryType::Symlink, 0, target)];
    let mut set_id = Header::from_byte_slice(&file(b"su")).clone();
    set_id.set_mode(0o4755);
    set_id.set_cksum();
    let deep = ["d"; 65].join("/");
    for (parts, said) in [
        (entry(b"/etc/passwd", EntryType::Regular), "/etc/passwd: an absolute path"),
        (entry(b"a/../../b", EntryType::Regular), "a/../../b: `..` in its path"),
        (vec![long_name(b"/etc/passwd"), file(b"a")], "/etc/passwd: an absolute path"),
        (vec![pax(b"17 path=../../up\n"), file(b"a")], "../../up: `..` in its path"),
        (vec![pax(b"12 path=a\0b\n"), file(b"a")], "a\\x00b: a zero byte"),
        (vec![long_name(deep.as_bytes()), file(b"a")], "d/d/d"),
        (vec![long_name(&[b'n'; 256]), file(b"a")], "nnn"),
        (vec![long_name(&[b'n'; 5_000]), file(b"a")], "an entry: a header of 5001 bytes"),
        (link(b"/etc"), "a/b: a symbolic link to an absolute path"),
        (link(b"../../etc"), "a/b: a symbolic link that leads outside"),
        (link(b"x/../../../y"), "a/b: a symbolic link that leads outside"),
        (link(b""), "a/b: a symbolic link to no name"),
        (vec![header(b"a", EntryType::Link, 0, b"/etc/passwd")], "a: a link to a name that is none below"),
        (vec![header(b"a", EntryType::Link, 9, b"b")], "a: it has content and is no file"),
        (entry(b"a", EntryType::Char), "a: a device"),
        (entry(b"a", EntryType::Block), "a: a device"),
        (entry(b"a", EntryType::Fifo), "a: a FIFO"),
        (entry(b"a", EntryType::GNUSparse), "a: a sparse file"),
        (vec![pax(b"22 GNU.sparse.major=1\n"), file(b"a")], "a: a sparse file"),
        (entry(b"a", EntryType::new(b'V')), "a: an entry of a kind that is not known"),
        (vec![set_id.as_bytes().to_vec()], "su: a set-user-ID"),
        (entry(b".", EntryType::Regular), ".: a file needs a name"),
        (vec![pax(b"9 path=ab\n"), file(b"a")], "an entry: its extended header is none of pax"),
        (vec![pax(b"99999999999999999999 a=b\n"), file(b"a")], "an entry: its extended header"),
    ] {
        let error = first(&parts).unwrap_err();
        assert!(error.starts_with(said), "{error} does not begin with {said}");
    }
}

#[test]
fn what_is_cut_off_compressed_or_no_archive_is_named() {
    let file = [header(b"a", EntryType::Regular, 600, b""), padded(vec![1; 600])].concat();
    for len in [0, 100, 512, 700, file.len()] {
        let mut archive = Archive::new(&file[..len]);
        let mut read = || -> Result<(), BadArchive> {
            while archive.entry()?.is_some() {}
            Ok(())
        };
        assert!(matches!(read(), Err(BadArchive::Truncated(_))), "cut off at {len}");
    }
    let said = |start: &[u8]| {
        let bytes = [start, &[7; 1_024]].concat();
        Archive::new(bytes.as_slice()).entry().unwrap_err().to_string()
    };
    assert!(said(b"\x1f\x8b\x08").contains("it is compressed"));
    assert!(said(b"PK\x03\x04").contains("ZIP"));
    assert!(said(b"<html>").contains("at byte 0 there is no header"));
    let mut wrong = header(b"a", EntryType::Regular, 0, b"");
    wrong[0] ^= 1;
    assert!(first(&[wrong]).unwrap_err().contains("no header"));
    // A size that no archive holds, and one that is no number.
    let huge = header(b"a", EntryType::Regular, u64::MAX, b"");
    let mut archive = Archive::new(huge.as_slice());
    archive.entry().unwrap();
    assert!(matches!(archive.entry(), Err(BadArchive::Truncated(_))));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_read_on_for_ever(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3_000),
    ) {
        let mut archive = Archive::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.entry() {}
        let mut signed = header(b"a", EntryType::XHeader, bytes.len() as u64, b"");
        signed.extend(padded(bytes));
        let mut archive = Archive::new(signed.as_slice());
        while let Ok(Some(_)) = archive.entry() {}
    }
}
