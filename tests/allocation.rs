//! Memory of the hot paths, counted: a frame that is sent or received allocates nothing (design D6), a parser takes no
//! more than its bytes justify, and a file of a large tree few bytes. A test binary of its own, for the allocator is
//! global; it counts by thread.

#[path = "allocation/counting.rs"]
mod counting;
#[path = "allocation/huge.rs"]
mod huge;
#[path = "allocation/large.rs"]
mod large;
#[path = "allocation/session.rs"]
mod session;

use counting::{Counting, during};
use farmcast::wire::Decoder;
use huge::Huge;
use large::FILES;
use session::Session;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Leaves of the object that is sent: 12 MiB.
const LEAVES: u32 = 48;
/// Lists of control messages for the kernel, which nix builds anew for each system call: one for a batch that is
/// sent; for one that is read, and for the read that finds nothing more.
const PER_SEND: u64 = 1;
const PER_READ: u64 = 3;
/// What could be decided by a block, as a list.
const PER_BLOCK: u64 = 2;
/// A parity frame that waits for its block lies in a box of its own.
const PER_PARITY: u64 = 2;
/// Rebuilding: lists of what is missing and of what is there, the sums, a row of factors for each frame.
const PER_REBUILT: u64 = 16;
/// Frames after which all tables have the size that they keep.
const WARM: u64 = 2_000;

#[test]
fn a_frame_is_sent_and_received_without_an_allocation() {
    let mut session = Session::new(LEAVES, WARM, |_| false);
    session.run();
    let Session { sent, received, blocks, .. } = session;
    assert!(sent.items > 4_000 && received.items > 4_000, "{sent:?} {received:?}");
    assert!(sent.calls <= PER_SEND * sent.batches, "{sent:?}");
    assert!(received.calls <= PER_READ * received.batches, "{received:?}");
    assert!(blocks.items > 20 && blocks.calls <= PER_BLOCK * blocks.items, "{blocks:?}");
}

#[test]
fn repair_allocates_by_the_block_and_by_the_parity_frame_that_waits() {
    let mut session = Session::new(LEAVES, 0, |header| header.pass == 1 && header.sent % 40 == 7);
    session.run();
    let Session { repair_sent, repair_received, blocks, .. } = session;
    assert!(repair_sent.items >= 150 && blocks.items >= u64::from(LEAVES), "{repair_sent:?} {blocks:?}");
    // Once, for the parity of a batch.
    assert!(repair_sent.calls <= PER_SEND * repair_sent.batches + 1, "{repair_sent:?}");
    let kept = PER_PARITY * repair_received.items;
    assert!(repair_received.calls <= PER_READ * repair_received.batches + kept, "{repair_received:?}");
    assert!(blocks.calls <= PER_REBUILT * blocks.items, "{blocks:?}");
}

/// Design, section 8. Mappings are not counted, for they are the kernel's cache of the file.
#[test]
fn an_object_of_64_gib_takes_less_than_64_mib_to_send_and_to_receive() {
    let huge = Huge::sign();
    let (kept, used) = during(|| huge.keep());
    assert_eq!((kept.buffer.shape.blocks(), huge.blocks() >> 18), (huge.blocks(), 1));
    assert!(kept.receiver.next_deadline().is_some() && kept.sender.next_deadline().is_some());
    assert!(used.peak < 64 << 20, "{} KiB", used.peak >> 10);
}

/// A tree of a million files is a million times this.
#[test]
fn a_file_of_a_large_tree_takes_few_bytes() {
    let (_, used) = during(large::leave_alone);
    assert!(used.peak < 2 * FILES + 1_024, "{} bytes for files that are left alone", used.peak);
    let (_, used) = during(large::hash);
    assert!(used.peak < 80 * FILES, "{} bytes for files with other names", used.peak);
    let place = tempfile::tempdir().expect("a temporary directory");
    let (_, used) = during(|| large::store(&place.path().join("assignment")));
    assert!(used.peak < 56 * FILES + (1 << 20), "{} bytes for contents", used.peak);
}

#[test]
fn a_lying_count_reserves_no_more_than_its_bytes_justify() {
    let lie = [&[0xff, 0xff][..], &[1; 70_000]].concat();
    let read = || {
        Decoder::new(&lie)
            .list(usize::MAX, "list", |_| Err::<[u64; 100], _>(farmcast::wire::Malformed::Trailing))
    };
    let (list, used) = during(read);
    assert!(list.is_err());
    assert!(used.peak < 2 * lie.len() as u64, "{} bytes for {}", used.peak, lie.len());
}
