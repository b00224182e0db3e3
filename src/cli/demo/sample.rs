//! The sample site: 200 files as web sites have them, the same bytes on every machine.

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Names of files in the site; symbolic links and directories come on top.
pub const FILES: u64 = 200;
/// Times of the files count from here: 2026-01-01 00:00 UTC.
const EPOCH_S: u64 = 1_767_225_600;
/// Those that are not articles or pictures; one of them is a second name of another.
const SPECIAL: u64 = 14;
const PICTURES: u64 = 56;
const ARTICLES: u64 = FILES - SPECIAL - PICTURES;

/// The first is the site's root.
const DIRECTORIES: [&str; 7] = ["", "articles", "img", "assets", "downloads", "größe", "empty directory"];
/// Symbolic links and where they lead; one of them nowhere.
const LINKS: [(&str, &str); 3] =
    [("latest.html", "articles/001.html"), ("news", "articles"), ("dangling", "/nonexistent/elsewhere")];

const WORDS: [&str; 24] = [
    "harbour", "station", "morning", "council", "river", "weather", "market", "bridge", "garden", "letter",
    "theatre", "engine", "island", "report", "winter", "season", "village", "library", "festival", "museum",
    "ferry", "orchard", "signal", "quarter",
];

/// Makes the site in `root`, which must not exist yet.
pub fn write(root: &Path) -> io::Result<()> {
    let mut site = Site { root, noise: Noise(0x9e37_79b9_7f4a_7c15), made: 0 };
    for dir in DIRECTORIES {
        fs::create_dir(root.join(dir))?;
    }
    for number in 1..=ARTICLES {
        let text = site.noise.article(number);
        site.file(OsStr::new(&format!("articles/{number:03}.html")), text.as_bytes(), 0o644)?;
    }
    for number in 1..=PICTURES {
        let size = 4_096 + site.noise.below(90_000);
        let bytes = site.noise.bytes(size);
        site.file(OsStr::new(&format!("img/{number:03}.jpg")), &bytes, 0o644)?;
    }
    site.specials()?;
    debug_assert_eq!(site.made, FILES);
    // Last, for writing into a directory changes its time.
    let time = TimeSpec::new(EPOCH_S.cast_signed(), 0);
    LINKS.iter().map(|(name, _)| name).chain(&DIRECTORIES).try_for_each(|name| {
        Ok(utimensat(AT_FDCWD, &root.join(name), &time, &time, UtimensatFlags::NoFollowSymlink)?)
    })
}

struct Site<'a> {
    root: &'a Path,
    noise: Noise,
    made: u64,
}

impl Site<'_> {
    /// What a careless tool would get wrong.
    fn specials(&mut self) -> io::Result<()> {
        let index = self.noise.article(0);
        self.file(OsStr::new("index.html"), index.as_bytes(), 0o644)?;
        self.file(OsStr::new("robots.txt"), b"User-agent: *\nAllow: /\n", 0o444)?;
        self.file(OsStr::new("empty.txt"), b"", 0o644)?;
        self.file(OsStr::new("empty.cgi"), b"", 0o755)?;
        self.file(OsStr::new("a name with spaces.html"), b"<p>spaces</p>\n", 0o644)?;
        self.file(OsStr::new("größe/übersicht 概要.html"), "<p>größer</p>\n".as_bytes(), 0o644)?;
        self.raw_name()?;
        self.file(OsStr::new("assets/-rf"), b"a name that looks like an option\n", 0o644)?;
        self.file(OsStr::new("assets/style.css"), b"body { margin: 2em auto; max-width: 40em }\n", 0o640)?;
        self.file(OsStr::new("assets/run.sh"), b"#!/bin/sh\nexec date\n", 0o755)?;
        let logo = self.noise.bytes(6_000);
        self.file(OsStr::new("assets/logo.png"), &logo, 0o644)?;
        fs::hard_link(self.root.join("assets/logo.png"), self.root.join("img/logo.png"))?;
        self.made += 1;
        let film = self.noise.bytes(3 << 20);
        self.file(OsStr::new("downloads/film.mp4"), &film, 0o644)?;
        self.sparse("downloads/disk.img")?;
        LINKS.iter().try_for_each(|(name, target)| symlink(target, self.root.join(name)))
    }

    fn file(&mut self, name: &OsStr, content: &[u8], mode: u32) -> io::Result<()> {
        let mut file = File::create_new(self.root.join(name))?;
        file.write_all(content)?;
        self.traits(&file, mode)
    }

    fn traits(&mut self, file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))?;
        // An odd nanosecond shows whether times survive whole.
        let age = Duration::new(EPOCH_S + self.made * 3_607, 123_456_789);
        file.set_modified(SystemTime::UNIX_EPOCH + age)?;
        self.made += 1;
        Ok(())
    }

    /// A name that is no UTF-8, where the file system takes one.
    fn raw_name(&mut self) -> io::Result<()> {
        let content = b"a name in Latin-1\n";
        match self.file(OsStr::from_bytes(b"caf\xe9.txt"), content, 0o644) {
            Err(_) => self.file(OsStr::new("cafe.txt"), content, 0o644),
            made => made,
        }
    }

    /// 1 MiB, nearly all of it a hole.
    fn sparse(&mut self, name: &str) -> io::Result<()> {
        let mut file = File::create_new(self.root.join(name))?;
        file.seek(SeekFrom::Start(700_000))?;
        file.write_all(b"the only data in here")?;
        file.set_len(1 << 20)?;
        self.traits(&file, 0o644)
    }
}

/// Numbers that look random and are the same everywhere (xorshift64).
struct Noise(u64);

impl Noise {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("smaller than a usize")
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    fn article(&mut self, number: u64) -> String {
        let mut text =
            format!("<!doctype html>\n<title>Article {number}</title>\n<h1>Article {number}</h1>\n");
        for _ in 0..4 + self.below(20) {
            text += "<p>";
            for _ in 0..20 + self.below(80) {
                text += WORDS[self.below(WORDS.len())];
                text.push(' ');
            }
            text += "</p>\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::tree::hash_tree;

    #[test]
    fn the_sample_is_the_same_each_time_and_has_200_files() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let hashes = ["a", "b"].map(|name| {
            write(&base.path().join(name)).expect("a site");
            hash_tree(&base.path().join(name)).expect("a hash")
        });
        assert_eq!(hashes[0].hash, hashes[1].hash);
        assert_eq!(hashes[0].files, FILES);
        assert!(hashes[0].bytes > 5 << 20, "{}", hashes[0].bytes);
    }
}
