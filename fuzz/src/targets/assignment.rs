//! The command buffer: its frame, its header, its commands.

use super::message::name;
use crate::memory::bounded;
use crate::seal::AUTHORITY;
use farmcast::wire::assignment::{
    Behind, Coding, Command, CommandBuffer, Copied, Extent, Header, Item, Kind, LEAF_LEN, Part, RelPath,
    Shape, TRAILER_LEN, gaps,
};
use farmcast::wire::content_key::{ContentSecret, Salt};
use farmcast::wire::id::{AssignmentId, JobId, Name, ObjectName};
use farmcast::wire::order::Order;
use farmcast::wire::seal::Domain;
use farmcast::wire::{Decoder, Encoder};

/// Leaf hashes that a fuzzed buffer may claim; each has to be there.
const LEAVES_MAX: u64 = 64;

/// All in front of name and signature, which are made to fit, as are the lengths.
pub fn run(signed: &[u8]) -> bool {
    let Some((data_len, signed)) = with_lengths(signed) else { return false };
    let object = ObjectName(*blake3::hash(&signed).as_bytes());
    let mut out = Encoder::new();
    out.raw(&signed);
    object.encode(&mut out);
    AUTHORITY.sign(Domain::Assignment, &object.0).encode(&mut out);
    let bytes = out.finish();
    let shape = Shape { name: object, command_len: bytes.len() as u64, data_len };
    let Ok(buffer) = bounded(&bytes, 8, || CommandBuffer::open(&shape, &bytes, &AUTHORITY.public())) else {
        return false;
    };
    if let Some(salt) = buffer.header.salt {
        // No key opens what was made up.
        let key = ContentSecret([7; 32]).key(&buffer.header.site, buffer.header.assignment, &salt);
        assert!(buffer.is_sealed() && buffer.clone().unseal(key).is_err());
        // And nobody reads the commands without one.
        assert!(buffer.commands().next().is_none_or(|first| first.is_err()));
        return true;
    }
    let Ok(commands) = bounded(&bytes, 64, || buffer.commands().collect::<Result<Vec<_>, _>>()) else {
        return false;
    };
    let leaves: Vec<[u8; 32]> = (0..shape.leaves()).map(|leaf| *buffer.leaf(leaf).expect("opened")).collect();
    assert_eq!(buffer.leaf(shape.leaves()), None);
    let encoded = encode(&commands);
    let again =
        CommandBuffer::sign(buffer.header.clone(), &encoded, commands.len() as u32, &leaves, &AUTHORITY);
    assert_eq!(again, (shape, bytes));
    true
}

/// The data's length as the header has it, and the bytes with a length of the commands that fits.
fn with_lengths(signed: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut from = Decoder::new(signed);
    from.take(4 + 2 + 8 + 8, "head").ok()?;
    if matches!(from.u8("kind").ok()?, 3 | 4) {
        let number = from.u16("part").ok()?;
        from.u16("parts").ok()?;
        from.take(if number == 1 { 0 } else { 64 }, "names of parts").ok()?;
    }
    Name::decode(&mut from).ok()?;
    from.option("base", AssignmentId::decode).ok()?;
    from.take(32 + 8 + 4, "result, time, count").ok()?;
    let at = signed.len() - from.remaining();
    from.u32("command length").ok()?;
    let data_len = from.u64("data length").ok()?;
    from.take(8 + 4 + 8, "bounds").ok()?;
    from.option("order", |from| from.bytes16(Order::MAX, "order").map(drop)).ok()?;
    from.option("salt", Salt::decode).ok()?;
    let leaves = data_len.div_ceil(LEAF_LEN);
    let commands = (from.remaining() as u64).checked_sub(leaves.min(LEAVES_MAX + 1) * 32)?;
    let mut signed = signed.to_vec();
    signed[at..at + 4].copy_from_slice(&u32::try_from(commands).ok()?.to_be_bytes());
    (leaves <= LEAVES_MAX && data_len > 0 || data_len == 0).then_some((data_len, signed))
}

/// One command after another until the bytes end.
pub fn command(bytes: &[u8]) -> bool {
    let mut from = Decoder::new(bytes);
    let mut commands = Vec::new();
    while from.remaining() > 0 {
        let rest = bytes.len() - from.remaining();
        let Ok(command) = bounded(&bytes[rest..], 8, || Command::decode(&mut from)) else { return false };
        inspect(&command);
        commands.push(command);
    }
    assert_eq!(encode(&commands), bytes);
    true
}

/// What the interpreter relies upon.
fn inspect(command: &Command) {
    let path = command.path();
    assert!(path.components().all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)));
    if let Command::Put { size, item, extents, .. } | Command::Patch { size, item, extents, .. } = command {
        let end = extents.iter().fold(0, |end, extent| {
            assert!(extent.offset >= end && extent.len > 0);
            extent.offset + extent.len
        });
        assert!(end <= *size);
        let total: u64 = extents.iter().map(|extent| extent.len).sum();
        let whole = if extents.is_empty() { *size } else { total };
        assert!(item.is_none_or(|item| item.decoded_len == whole));
    }
    if let Command::Splice { size, item, copies, .. } = command {
        let gaps: u64 = gaps(copies, *size).iter().map(|gap| gap.len).sum();
        let copied: u64 = copies.iter().map(|copied| copied.len).sum();
        assert!(!copies.is_empty() && gaps + copied == *size);
        assert_eq!(item.map_or(0, |item| item.decoded_len), gaps);
    }
}

pub fn encode(commands: &[Command]) -> Vec<u8> {
    let mut out = Encoder::new();
    commands.iter().for_each(|command| command.encode(&mut out));
    out.finish()
}

pub fn header(kind: Kind) -> Header {
    Header {
        assignment: AssignmentId(6),
        job: JobId(4),
        kind,
        part: None,
        site: name("www"),
        base: (kind == Kind::Publish).then_some(AssignmentId(5)),
        result: [3; 32],
        issued: 1_700_000_000,
        command_count: 0,
        command_len: 0,
        data_len: 0,
        space: 4_096,
        files: 2,
        largest_file: 9_000,
        order: None,
        salt: None,
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("it is a path")
}

pub fn commands() -> Vec<Command> {
    let item = |len, decoded_len, coding| Some(Item { offset: 0, len, decoded_len, coding });
    let whole = Command::Put {
        path: path("a/index.html"),
        mode: 0o644,
        mtime: 1_700_000_000_000_000_000,
        size: 300,
        hash: [1; 32],
        item: item(90, 300, Coding::Zstd),
        extents: vec![],
    };
    let hole = Command::Put {
        path: path("a/hole"),
        mode: 0o600,
        mtime: -1,
        size: 1 << 40,
        hash: [2; 32],
        item: None,
        extents: vec![],
    };
    let patch = Command::Patch {
        path: path("b"),
        mode: 0o755,
        mtime: 0,
        size: 9_000,
        base: [3; 32],
        hash: [4; 32],
        item: item(20, 20, Coding::Raw),
        extents: vec![Extent { offset: 10, len: 12 }, Extent { offset: 8_000, len: 8 }],
    };
    let splice = Command::Splice {
        path: path("d"),
        mode: 0o644,
        mtime: 1,
        size: 9_000,
        base: [3; 32],
        hash: [4; 32],
        item: item(20, 40, Coding::Zstd),
        copies: vec![
            Copied { from: 5_000, to: 10, len: 4_000 },
            Copied { from: 0, to: 4_010, len: 4_000 },
            Copied { from: 7_000, to: 8_010, len: 960 },
        ],
    };
    vec![
        Command::Mkdir { path: path("a"), mode: 0o755 },
        whole,
        hole,
        patch,
        splice,
        Command::Copy { path: path("copy"), from: path("b"), mode: 0o644, mtime: 6, hash: [5; 32] },
        Command::Move { path: path("moved"), from: path("c") },
        Command::Link { path: path("a/link"), target: path("b") },
        Command::Symlink { path: path("s"), text: b"../else".to_vec(), mtime: 5 },
        Command::Remove { path: path("old") },
        Command::Chmod { path: path("b"), mode: 0o444 },
        Command::Utimes { path: path("a"), mtime: 7 },
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let buffer = |kind, commands: &[Command], data_len: u64| {
        let leaves: Vec<[u8; 32]> = (0..data_len.div_ceil(LEAF_LEN)).map(|leaf| [leaf as u8; 32]).collect();
        let header = Header { data_len, ..header(kind) };
        let count = commands.len() as u32;
        let (_, mut bytes) = CommandBuffer::sign(header, &encode(commands), count, &leaves, &AUTHORITY);
        bytes.truncate(bytes.len() - TRAILER_LEN);
        bytes
    };
    let ordered = |order, salt| {
        let header = Header { order, salt, ..header(Kind::Replicate) };
        let (_, mut bytes) = CommandBuffer::sign(header, &encode(&commands()[..1]), 1, &[], &AUTHORITY);
        bytes.truncate(bytes.len() - TRAILER_LEN);
        bytes
    };
    let in_part = |number, behind| {
        let (assignment, part) = (AssignmentId(6).part_of(number), Some(Part { number, of: 3, behind }));
        let header = Header { assignment, part, ..header(Kind::Publish) };
        let (_, mut bytes) = CommandBuffer::sign(header, &encode(&commands()[..1]), 1, &[], &AUTHORITY);
        bytes.truncate(bytes.len() - TRAILER_LEN);
        bytes
    };
    let (first, before) = (ObjectName([4; 32]), ObjectName([5; 32]));
    let all = commands();
    vec![
        in_part(1, None),
        in_part(2, Some(Behind { first, before })),
        ordered(Some(vec![7; 120]), None),
        ordered(None, Some(Salt([9; 16]))),
        buffer(Kind::Publish, &all, 2 * LEAF_LEN + 7),
        buffer(Kind::Replicate, &all[..1], 0),
        buffer(Kind::Replicate, &all[..4], 300),
    ]
}

pub fn command_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = commands().chunks(1).map(encode).collect();
    seeds.push(encode(&commands()));
    seeds
}
