//! Staging a whole tree, beside creating the same files in a loop.

use crate::table::{Rounds, Run};
use crate::trees::{noise, scratch};
use farmcast::content::pack::{Pack, Policy, pack};
use farmcast::content::site::{Site, Staged};
use farmcast::content::walk::ALL;
use farmcast::wire::assignment::CommandBuffer;
use farmcast::wire::id::{AssignmentId, JobId, Name};
use farmcast::wire::seal::SigningKey;
use nix::unistd::syncfs;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of each file.
const FILE_LEN: u64 = 16 * 1_024;
/// By so many bytes the content of a file lies behind that of the one before: all differ, and none is made in the loop.
const STEP: u64 = 16;

pub fn run(rounds: &Rounds, place: &Path, files: u32) {
    let scratch = scratch(place);
    let scratch = scratch.path();
    let staging = scratch.join("staging");
    let pool = noise(1, FILE_LEN + u64::from(files) * STEP);
    create(&staging, files, &pool);
    let (buffer, data) = assignment(scratch, &staging, 1, None);
    rounds.measure(
        "stage",
        &json!({ "files": files, "file_bytes": FILE_LEN }),
        u64::from(files) * FILE_LEN,
        &mut [
            ("farmcast", &mut || {
                Some(clean(&scratch.join("site"), |path| {
                    let mut site = Site::open(path).expect("the place is ours");
                    assert_eq!(site.stage(&buffer, &data).expect("it is staged"), Staged::Now);
                }))
            }),
            ("create in a loop", &mut || {
                Some(clean(&scratch.join("loop"), |path| create(path, files, &pool)))
            }),
        ],
    );
}

/// Times `work` in a directory that is new, and removes it.
fn clean(path: &Path, work: impl FnOnce(&Path)) -> Run {
    fs::create_dir(path).expect("the place is ours");
    let start = Instant::now();
    work(path);
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_dir_all(path).expect("the place is ours");
    Run { seconds, bytes: 0, peak: 0 }
}

/// The files, and what they are written to synced to the disk as a staging does.
fn create(root: &Path, files: u32, pool: &[u8]) {
    for number in 0..files {
        let dir = root.join(format!("{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&dir).expect("the place is ours");
        }
        let content = &pool[(u64::from(number) * STEP) as usize..][..FILE_LEN as usize];
        fs::write(dir.join(format!("file-{number}.bin")), content).expect("the place has room");
    }
    syncfs(File::open(root).expect("it was just made")).expect("the disk takes it");
}

/// An assignment that brings all of `staging`, or what of it differs from `base`.
pub fn assignment(
    scratch: &Path,
    staging: &Path,
    number: u64,
    base: Option<(u64, PathBuf)>,
) -> (CommandBuffer, File) {
    let out = scratch.join(format!("assignment-{number}"));
    let publisher = SigningKey::from_seed([1; 32]);
    let packed = pack(&Pack {
        staging,
        picks: ALL,
        shadow: base.as_ref().map_or(staging, |(_, path)| path.as_path()),
        base: base.as_ref().map(|(number, _)| AssignmentId(*number)),
        assignment: AssignmentId(number),
        job: JobId(1),
        site: Name::new("bench").expect("a name"),
        issued: 1_900_000_000,
        pass_tick: &|_| {},
        policy: &Policy::default(),
        out: &out,
        checksum: false,
        origins: None,
        known: None,
        cache: None,
        order: None,
        sealing: None,
        publisher: &publisher,
    })
    .expect("the tree can be read");
    let shape = packed.shape.expect("there is something to send");
    let data = File::open(&out).expect("it was written");
    let mut bytes = vec![0; shape.command_len as usize];
    data.read_exact_at(&mut bytes, shape.command_offset()).expect("it is whole");
    (CommandBuffer::open(&shape, &bytes, &publisher.public()).expect("it was signed"), data)
}
