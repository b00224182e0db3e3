//! One percent of a file changed, in pieces of 4 KiB: overwritten where they stand, or inserted, so that all behind
//! them shifts. Each tool writes to a file what it would send.

use crate::peers;
use crate::table::Rounds;
use crate::trees::{age, noise, scratch};
use farmcast::content::delta::{Method, Version, in_place::InPlace, shifted::Shifted};
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

const PIECE: usize = 4_096;

pub fn run(rounds: &Rounds, place: &Path, size: u64) {
    let scratch = scratch(place);
    let scratch = scratch.path();
    let (old, new) = (scratch.join("shadow/file.bin"), scratch.join("staging/file.bin"));
    for path in [&old, &new] {
        fs::create_dir(path.parent().expect("it has one")).expect("the place is ours");
    }
    let bytes = noise(1, size);
    fs::write(&old, &bytes).expect("the place has room");
    age(&old, 0);
    let pieces = size as usize / PIECE / 100;
    let fresh = noise(2, (pieces * PIECE) as u64);
    for case in ["in place", "shifted"] {
        let changed = match case {
            "in place" => overwritten(&bytes, &fresh, pieces),
            _ => inserted(&bytes, &fresh, pieces),
        };
        fs::write(&new, &changed).expect("the place has room");
        drop(changed);
        age(&new, 1);
        measure(rounds, scratch, case, &old, &new, fresh.len());
    }
}

/// Pieces at even distances, each at an odd offset.
fn places(size: usize, pieces: usize) -> impl Iterator<Item = usize> {
    (0..pieces).map(move |piece| size / pieces * piece + piece % 977)
}

fn overwritten(old: &[u8], fresh: &[u8], pieces: usize) -> Vec<u8> {
    let mut new = old.to_vec();
    for (at, piece) in places(old.len() - PIECE, pieces).zip(fresh.chunks(PIECE)) {
        new[at..at + PIECE].copy_from_slice(piece);
    }
    new
}

fn inserted(old: &[u8], fresh: &[u8], pieces: usize) -> Vec<u8> {
    let mut new = Vec::with_capacity(old.len() + fresh.len());
    let mut taken = 0;
    for (at, piece) in places(old.len(), pieces).zip(fresh.chunks(PIECE)) {
        new.extend_from_slice(&old[taken..at]);
        new.extend_from_slice(piece);
        taken = at;
    }
    new.extend_from_slice(&old[taken..]);
    new
}

fn measure(rounds: &Rounds, scratch: &Path, case: &str, old: &Path, new: &Path, changed: usize) {
    let size = fs::metadata(new).expect("it was just written").len();
    let text = |path: &Path| path.to_str().expect("the place is text").to_owned();
    let (old_text, new_text) = (text(old), text(new));
    let out = scratch.join("out");
    let (batch, window) =
        (format!("--only-write-batch={}", text(&out)), size.next_power_of_two().to_string());
    let patch_from = format!("--patch-from={old_text}");
    let out_text = text(&out);
    let find = |method: &dyn Method| {
        let files = (File::open(old).expect("it is there"), File::open(new).expect("it is there"));
        let size = |file: &File| file.metadata().expect("it has one").len();
        let start = Instant::now();
        let versions = (
            Version { file: &files.0, size: size(&files.0) },
            Version { file: &files.1, size: size(&files.1) },
        );
        let found = method.delta(versions.0, versions.1, u64::MAX).expect("the files can be read");
        let seconds = start.elapsed().as_secs_f64();
        // In place, a shift has more extents than a command may name: all of the file is sent.
        let bytes = found.map_or(versions.1.size, |delta| delta.cost());
        Some(crate::table::Run { seconds, bytes, peak: 0 })
    };
    let common = json!({ "case": case, "size": size, "changed": changed });
    rounds.measure(
        "delta",
        &common,
        size,
        &mut [
            ("farmcast", &mut || peers::compose(scratch)),
            ("extents alone", &mut || find(&InPlace)),
            ("copies alone", &mut || find(&Shifted)),
            ("rsync", &mut || {
                peers::run("rsync", &["--no-whole-file", &batch, &new_text, &old_text], Some(&out))
            }),
            ("xdelta3", &mut || {
                peers::run(
                    "xdelta3",
                    &["-e", "-f", "-B", &window, "-s", &old_text, &new_text, &out_text],
                    Some(&out),
                )
            }),
            ("zstd -1 --patch-from", &mut || {
                peers::run(
                    "zstd",
                    &[
                        "-q",
                        "-f",
                        "-1",
                        "--long=30",
                        "--single-thread",
                        &patch_from,
                        &new_text,
                        "-o",
                        &out_text,
                    ],
                    Some(&out),
                )
            }),
        ],
    );
}
