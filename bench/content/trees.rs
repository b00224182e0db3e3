//! Content to compare, the same for the same seed.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Bytes that do not compress.
pub fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A directory that is removed at the end.
pub fn scratch(place: &Path) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("farmcast-content-")
        .tempdir_in(place)
        .unwrap_or_else(|error| panic!("{}: {error}; choose another --place", place.display()))
}

/// Gives a file a time of the past, for what was written just now is not believed to be settled.
pub fn age(path: &Path, days: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs((19_000 + days) * 86_400);
    let file = fs::File::options().append(true).open(path).expect("it was just written");
    file.set_modified(time).expect("it is ours");
}

/// A tree of so many small files, a thousand to a directory, ten directories to another.
pub fn grow(root: &Path, files: u32) {
    for number in 0..files {
        let dir = root.join(format!("{:02}/{:02}", number / 10_000, number / 1_000 % 10));
        if number % 1_000 == 0 {
            fs::create_dir_all(&dir).expect("the place is ours");
        }
        let path = dir.join(format!("page-{:03}.html", number % 1_000));
        fs::write(&path, number.to_string()).expect("the place has room");
        age(&path, 0);
    }
}
