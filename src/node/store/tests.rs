use super::*;
use crate::wire::assignment::{Behind, Header, Kind, LEAF_LEN, Part};
use crate::wire::id::{AssignmentId, JobId, Name};
use crate::wire::seal::SigningKey;
use std::io::Read;

/// An assignment with `leaves` whole leaves of data, as the bytes of its file.
pub(in crate::node) fn object(publisher: &SigningKey, leaves: u32) -> (Shape, Vec<u8>) {
    part(publisher, leaves, AssignmentId(1), None)
}

fn part(
    publisher: &SigningKey,
    leaves: u32,
    assignment: AssignmentId,
    part: Option<Part>,
) -> (Shape, Vec<u8>) {
    let data: Vec<u8> = (0..leaves).flat_map(|leaf| vec![leaf as u8; LEAF_LEN as usize]).collect();
    let hashes: Vec<[u8; 32]> =
        data.chunks(LEAF_LEN as usize).enumerate().map(|(n, leaf)| leaf_hash(n as u32, leaf)).collect();
    let header = Header {
        assignment,
        job: JobId(1),
        kind: Kind::Replicate,
        part,
        site: Name::new("www").unwrap(),
        base: None,
        result: [0; 32],
        issued: 0,
        command_count: 0,
        command_len: 0,
        data_len: data.len() as u64,
        space: 0,
        files: 0,
        largest_file: 0,
        order: None,
        salt: None,
    };
    let (shape, command) = CommandBuffer::sign(header, &[], 0, &hashes, publisher);
    (shape, [data, command].concat())
}

fn put(store: &mut Store, shape: &Shape, file: &[u8], block: u32) -> Vec<(u32, bool)> {
    let (offset, len) = shape.block(block);
    store.write(&shape.name, offset, &file[offset as usize..offset as usize + len]).unwrap();
    store.on_block(&shape.name, block)
}

#[test]
fn data_waits_for_the_command_buffer_and_is_then_decided() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let (shape, mut file) = object(&publisher, 3);
    file[LEAF_LEN as usize] ^= 1;
    store.create(&shape).unwrap();
    assert_eq!(put(&mut store, &shape, &file, 1), vec![]);
    assert_eq!(put(&mut store, &shape, &file, 2), vec![]);
    assert_eq!(put(&mut store, &shape, &file, 0), vec![(0, true), (1, true), (2, false)]);
    assert_eq!(put(&mut store, &shape, &file, 3), vec![(3, true)]);
    assert_eq!(store.first_lacking(&shape.name, 0), Some(2));
    assert!(store.open_complete(&shape.name).is_none());
    file[LEAF_LEN as usize] ^= 1;
    assert_eq!(put(&mut store, &shape, &file, 2), vec![(2, true)]);
    assert!(store.is_complete(&shape.name));
    assert_eq!(store.open_complete(&shape.name).unwrap().1, file.len() as u64);
}

#[test]
fn a_large_lot_is_hashed_by_all_processors_with_the_same_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let leaves = PARALLEL_FROM as u32 + 5;
    let (shape, mut file) = object(&publisher, leaves);
    file[7 * LEAF_LEN as usize] ^= 1;
    store.create(&shape).unwrap();
    (1..=leaves).for_each(|block| drop(put(&mut store, &shape, &file, block)));
    let verdicts = put(&mut store, &shape, &file, 0);
    let expected: Vec<(u32, bool)> = (0..=leaves).map(|block| (block, block != 8)).collect();
    assert_eq!(verdicts, expected);
    assert_eq!(store.first_lacking(&shape.name, 0), Some(8));
}

/// A session goes on with a block that a pull brings meanwhile, and its leader's memory is bad.
#[test]
fn what_is_verified_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let (shape, file) = object(&publisher, 3);
    store.create(&shape).unwrap();
    [0, 2].into_iter().for_each(|block| drop(put(&mut store, &shape, &file, block)));

    // One batch reaches from the leaf before it to the one behind.
    let (offset, leaf) = (LEAF_LEN - 1_000, LEAF_LEN as usize);
    let piece = vec![0xff; leaf];
    let mut pieces = [1_000, leaf / 2, leaf - leaf / 2, 500].map(|len| IoSlice::new(&piece[..len]));
    store.write_pieces(&shape.name, offset, &mut pieces).unwrap();
    store.write(&shape.name, shape.block(2).0, &piece[..500]).unwrap();
    store.write(&shape.name, shape.command_offset(), &piece[..10]).unwrap();

    let written = fs::read(store.path(&shape.name)).unwrap();
    let (commands, end) = (shape.command_offset() as usize, 2 * leaf);
    assert!(written[leaf - 1_000..leaf] == piece[..1_000], "leaf 0 lacks");
    assert!(written[leaf..end] == file[leaf..end], "leaf 1 is verified");
    assert!(written[end..end + 500] == piece[..500], "leaf 2 lacks");
    assert!(written[commands..] == file[commands..], "so are the commands");
    assert_eq!(store.on_block(&shape.name, 2), [(2, true)]);
}

#[test]
fn a_forged_command_buffer_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (publisher, forger) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let (shape, file) = object(&forger, 1);
    store.create(&shape).unwrap();
    assert_eq!(put(&mut store, &shape, &file, 0), vec![(0, false)]);
    assert_eq!(store.first_lacking(&shape.name, 0), Some(0));
}

#[test]
fn after_a_restart_only_what_hashes_right_counts() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let (shape, file) = object(&publisher, 3);
    {
        let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        store.create(&shape).unwrap();
        (0..3).for_each(|block| drop(put(&mut store, &shape, &file, block)));
        store.save();
        // A page of leaf 0 rots on the disk.
        let on_disk = OpenOptions::new().write(true).open(store.path(&shape.name)).unwrap();
        on_disk.write_all_at(b"rot", 5_000).unwrap();
    }
    let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let verified: Vec<bool> = (0..4).map(|block| store.is_verified(&shape.name, block)).collect();
    assert_eq!(verified, [true, false, true, false]);
    drop(store);

    let sidecar = dir.path().join(format!("{}.map", shape.name));
    fs::write(&sidecar, b"torn").unwrap();
    let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    assert_eq!(store.objects().count(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn after_a_kill_every_block_that_was_whole_counts_again() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let (shape, file) = object(&publisher, 4);
    {
        let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
        store.create(&shape).unwrap();
        [0, 1, 3].into_iter().for_each(|block| drop(put(&mut store, &shape, &file, block)));
        // Of leaf 3 the first half had come. Nothing is saved: the process is gone.
        let (offset, len) = shape.block(4);
        let half = &file[offset as usize..offset as usize + len / 2];
        store.write(&shape.name, offset, half).unwrap();
    }
    let store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let verified: Vec<bool> = (0..5).map(|block| store.is_verified(&shape.name, block)).collect();
    assert_eq!(verified, [true, true, false, true, false]);
}

#[test]
fn an_object_beyond_the_bound_is_refused_and_nothing_goes_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), 3 * LEAF_LEN).unwrap();
    let (held, _) = object(&publisher, 1);
    store.create(&held).unwrap();
    let huge = Shape { data_len: 1 << 44, ..object(&publisher, 2).0 };
    assert!(matches!(store.create(&huge), Err(StoreError::TooLarge { .. })));
    assert!(store.shape(&held.name).is_some());
    assert_eq!(store.take_gone(), []);
}

#[test]
fn the_object_used_longest_ago_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), 3 * LEAF_LEN).unwrap();
    let (first, _) = object(&publisher, 1);
    let (second, _) = object(&publisher, 2);
    store.create(&first).unwrap();
    store.create(&second).unwrap();
    assert!(store.shape(&first.name).is_none());
    assert!(store.shape(&second.name).is_some());
    assert_eq!(store.take_gone(), [first.name]);
    assert_eq!(store.take_gone(), []);
}

/// AS-13.
#[test]
fn the_parts_before_one_that_is_staged_are_given_up_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let mut receive = |(shape, file): (Shape, Vec<u8>)| {
        store.create(&shape).unwrap();
        (0..shape.blocks()).for_each(|block| drop(put(&mut store, &shape, &file, block)));
        assert!(store.is_complete(&shape.name));
        shape.name
    };
    let number = |number: u16| match number {
        3 => AssignmentId(7),
        part => AssignmentId(7).part_of(part),
    };
    let other = receive(object(&publisher, 2));
    let first = receive(part(&publisher, 1, number(1), Some(Part { number: 1, of: 3, behind: None })));
    let mut next = |at: u16, before| {
        let behind = Some(Behind { first, before });
        receive(part(&publisher, 1, number(at), Some(Part { number: at, of: 3, behind })))
    };
    let second = next(2, first);
    let third = next(3, second);
    store.forget_parts_before(&first);
    store.forget_parts_before(&other);
    assert_eq!(store.take_gone(), []);
    store.forget_parts_before(&second);
    assert_eq!(store.take_gone(), [first]);
    store.forget_parts_before(&third);
    assert_eq!(store.take_gone(), [second]);
    assert!(store.is_complete(&third) && store.is_complete(&other));
}

#[test]
fn what_is_verified_from_an_offset_on_ends_where_a_leaf_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = SigningKey::from_seed([1; 32]);
    let mut store = Store::open(dir.path(), publisher.public(), u64::MAX).unwrap();
    let (shape, file) = object(&publisher, 4);
    store.create(&shape).unwrap();
    let until = |store: &Store, offset| store.verified_until(&shape.name, offset);
    [1, 2, 4].into_iter().for_each(|block| drop(put(&mut store, &shape, &file, block)));
    assert_eq!(until(&store, 0), 0, "without the commands nothing is known to be right");
    put(&mut store, &shape, &file, 0);
    assert_eq!((until(&store, 0), until(&store, 7)), (2 * LEAF_LEN, 2 * LEAF_LEN));
    assert_eq!(until(&store, 2 * LEAF_LEN), 2 * LEAF_LEN, "it lacks");
    assert_eq!(until(&store, shape.command_offset()), shape.file_len());
    put(&mut store, &shape, &file, 3);
    assert_eq!(until(&store, LEAF_LEN), shape.file_len());
    let (mut growing, len) = store.open_growing(&shape.name).unwrap();
    let mut read = Vec::new();
    growing.read_to_end(&mut read).unwrap();
    assert_eq!((read == file, len), (true, shape.file_len()));
}
