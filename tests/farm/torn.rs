//! Files of staging that are written while they are read: read again or refused, never torn (ST-1).

use crate::harness::{Farm, SOON, wait_for};
use farmcast::ccm::api::types::Phase;
use memmap2::MmapMut;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

const LEN: usize = 8 << 20;
const PAGE: usize = 4_096;

/// Publishes while `write`, which is told what to go on by, fills the file with one byte after the other, each time
/// from its beginning to its end: what went live has one byte throughout, or one up to some place and the one before
/// it behind, as the file stood at some instant.
#[track_caller]
fn publish_under(write: impl Fn(&File, &dyn Fn() -> Option<u8>) + Sync) {
    let farm = Farm::of(1);
    let path = farm.staging().join("state.bin");
    fs::write(&path, vec![0; LEN]).expect("a file");
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let job = thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().read(true).write(true).open(&path).expect("it is there");
            write(&file, &|| {
                let round = rounds.fetch_add(1, Ordering::Relaxed) + 1;
                (!stop.load(Ordering::Relaxed)).then_some(round as u8)
            });
        });
        wait_for("the writer", SOON, || (rounds.load(Ordering::Relaxed) > 2).then_some(()));
        let (_, job) = farm.publish();
        stop.store(true, Ordering::Relaxed);
        job
    });
    let live = farm.nodes[0].live().join("state.bin");
    match job.phase {
        Phase::Failed => {
            assert!(job.text.contains(&farm.path("staging/state.bin")), "{}", job.text);
            assert!(!live.exists());
        }
        Phase::Done => {
            let live = fs::read(live).expect("it is live");
            let steps = live.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(live.len() == LEN && steps <= 1, "torn: {steps} steps");
        }
        _ => panic!("{job:#?}"),
    }
    farm.publish_well();
}

#[test]
fn a_file_that_is_rewritten_with_its_size_and_time_is_never_torn() {
    publish_under(|file, next| {
        while let Some(byte) = next() {
            for at in (0..LEN).step_by(64 * PAGE) {
                file.write_all_at(&[byte; 64 * PAGE], at as u64).expect("a write");
            }
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        }
    });
}

#[test]
fn a_file_that_is_written_through_a_mapping_is_never_torn() {
    let dir = tempfile::tempdir().expect("a directory");
    if statfs(dir.path()).is_ok_and(|of| of.filesystem_type() == TMPFS_MAGIC) {
        eprintln!(
            "SKIPPED, not shown here: writes through a mapping leave no trace on tmpfs; set TMPDIR to a disk"
        );
        return;
    }
    publish_under(|file, next| {
        // SAFETY: nobody makes the file shorter while it is mapped.
        let mut map = unsafe { MmapMut::map_mut(file) }.expect("a mapping");
        // No call tells of it: the kernel notes the first write to each page behind its way to the disk, and no other.
        while let Some(byte) = next() {
            map.chunks_mut(PAGE).for_each(|page| page.fill(byte));
        }
    });
}
