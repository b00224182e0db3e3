//! The assignment: a signed command buffer and at most one data file, in one file (AS-1..AS-5).
//!
//! ```text
//! 0                    data_len      cmd_offset = data_len rounded up to 4,096         file_len
//! | data file            | zeros       | command buffer                                 |
//!
//! command buffer:
//! | header | commands ... | leaf hashes (32 bytes each) | trailer hash (32) | signature (64) |
//! ```
//! The data comes first so that composing never copies it, and the command buffer is page-aligned so
//! that both halves can be mapped. The trailer hash is BLAKE3 over all that stands before it in the
//! command buffer and is the object's name; the publisher signs the name.
//!
//! For transport the file is numbered in *blocks*: first the blocks of the command buffer, then those of
//! the data file; each is at most [`LEAF_LEN`] bytes and never reaches over the border between the two.

mod command;
mod signing;
mod unproven;

pub use command::{Coding, Command, Copied, Extent, Item, MODE_MASK, gaps};
pub use signing::Signing;
pub use unproven::{Place, Unproven, place};

use super::content_key::{ContentKey, Salt, plain_len};
use super::id::{AssignmentId, JobId, Name, ObjectName};
use super::order::Order;
use super::seal::{Domain, PublicKey, Signature, SigningKey};
use super::{Decoder, Encoder, Malformed};

/// Bytes of a leaf: of a block, of an FEC block and of a hashed piece of the data file alike (D2, D3).
pub const LEAF_LEN: u64 = 256 * 1024;
/// Alignment of the command buffer and of large data items, so that they can be reflinked.
pub const ALIGN: u64 = 4_096;
/// Longest command buffer a node accepts: 1,000,000 files with long names fit well within.
pub const COMMAND_BUFFER_MAX: u64 = 1 << 30;
/// Largest data file: 2^44 bytes, 16 TiB, keeps every block number below 2^32.
pub const DATA_MAX: u64 = 1 << 44;
const MAGIC: [u8; 4] = *b"FCAS";
const VERSION: u16 = 1;
/// Bytes behind the leaf hashes: trailer hash and signature.
pub const TRAILER_LEN: usize = 32 + Signature::LEN;

/// Where the parts of an assignment lie. What a receiver must know before the first byte arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    pub name: ObjectName,
    /// Length of the command buffer in bytes, at most [`COMMAND_BUFFER_MAX`].
    pub command_len: u64,
    /// Length of the data file in bytes, at most [`DATA_MAX`]; 0 where no command needs data.
    pub data_len: u64,
}

impl Shape {
    /// Where the command buffer begins in the file.
    pub const fn command_offset(&self) -> u64 {
        self.data_len.next_multiple_of(ALIGN)
    }

    pub const fn file_len(&self) -> u64 {
        self.command_offset() + self.command_len
    }

    /// Blocks of the command buffer; they come first.
    pub const fn command_blocks(&self) -> u32 {
        self.command_len.div_ceil(LEAF_LEN) as u32
    }

    /// Leaves of the data file.
    pub const fn leaves(&self) -> u32 {
        self.data_len.div_ceil(LEAF_LEN) as u32
    }

    pub const fn blocks(&self) -> u32 {
        self.command_blocks() + self.leaves()
    }

    /// Whether all of it is no more than one block can hold (LD-4): such an assignment is sent in one go.
    pub const fn fits_one_block(&self) -> bool {
        self.command_len + self.data_len <= LEAF_LEN
    }

    /// Offset in the file and length of a block.
    ///
    /// # Panics
    /// If there is no such block: block numbers are checked where they come from the network.
    pub fn block(&self, block: u32) -> (u64, usize) {
        assert!(block < self.blocks(), "block {block} of {}", self.blocks());
        let (base, index, len) = match block.checked_sub(self.command_blocks()) {
            None => (self.command_offset(), block, self.command_len),
            Some(leaf) => (0, leaf, self.data_len),
        };
        let start = u64::from(index) * LEAF_LEN;
        (base + start, (len - start).min(LEAF_LEN) as usize)
    }

    /// The block that holds the byte at an offset in the file.
    pub const fn block_at(&self, offset: u64) -> u32 {
        match offset.checked_sub(self.command_offset()) {
            Some(within) => (within / LEAF_LEN) as u32,
            None => self.command_blocks() + (offset / LEAF_LEN) as u32,
        }
    }

    /// The leaf of the data file that a block is; `None` for a block of the command buffer.
    pub const fn leaf_of(&self, block: u32) -> Option<u32> {
        block.checked_sub(self.command_blocks())
    }

    pub fn encode(&self, out: &mut Encoder) {
        self.name.encode(out);
        out.u64(self.command_len).u64(self.data_len);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let name = ObjectName::decode(from)?;
        let command_len = from.u64("command length")?;
        let data_len = from.u64("data length")?;
        if command_len <= TRAILER_LEN as u64 || command_len > COMMAND_BUFFER_MAX {
            return Err(Malformed::OutOfBounds("command length"));
        }
        if data_len > DATA_MAX {
            return Err(Malformed::OutOfBounds("data length"));
        }
        Ok(Self { name, command_len, data_len })
    }
}

/// What an assignment does (AS-2). Further kinds of work are orders or other assignments (JT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes a known base into the result (JT-1).
    Publish,
    /// Builds the result from nothing, whatever the node had (JT-2).
    Replicate,
}

/// Which part of a larger update an assignment is (AS-13): all together are one version. Each is staged on what the
/// one before it left; only the last one can go live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1 on, at most `of`; that of the last is `of`.
    pub number: u16,
    /// 2..=[`AssignmentId::PARTS_MAX`] + 1.
    pub of: u16,
    /// The first part, and the one before this; `None` for the first itself.
    pub behind: Option<Behind>,
}

/// What a part is staged on: by names, so that it is exactly that and nothing of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    pub first: ObjectName,
    pub before: ObjectName,
}

impl Part {
    /// Whether the update is whole with it.
    pub const fn is_last(&self) -> bool {
        self.number == self.of
    }

    fn encode(&self, out: &mut Encoder) {
        out.u16(self.number).u16(self.of);
        if let Some(behind) = &self.behind {
            behind.first.encode(out);
            behind.before.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let (number, of) = (from.u16("part")?, from.u16("parts")?);
        if !(2..=AssignmentId::PARTS_MAX + 1).contains(&of) || !(1..=of).contains(&number) {
            return Err(Malformed::OutOfBounds("part"));
        }
        let behind = match number {
            1 => None,
            _ => Some(Behind { first: ObjectName::decode(from)?, before: ObjectName::decode(from)? }),
        };
        Ok(Self { number, of, behind })
    }
}

/// The header of the command buffer (AS-2, B-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub assignment: AssignmentId,
    pub job: JobId,
    pub kind: Kind,
    pub site: Name,
    /// Which part of an update it is; `None`: all of it.
    pub part: Option<Part>,
    /// The version the site must have before; `None` for a replicate.
    pub base: Option<AssignmentId>,
    /// Hash of the whole tree after the commands were carried out (`content::tree`); of a part, after those of the
    /// last one were.
    pub result: [u8; 32],
    /// Seconds since 1970 at which it was composed.
    pub issued: u64,
    pub command_count: u32,
    pub command_len: u32,
    pub data_len: u64,
    /// Bytes that a node needs free to stage it (AS-11).
    pub space: u64,
    /// Files and symbolic links of the result; with the next a bound enforced while it is applied (T5).
    pub files: u32,
    pub largest_file: u64,
    /// The order to put it live, signed by the director: a node carries it out as soon as it has staged the
    /// assignment (CO-11). `None`: it waits for an order of its own.
    pub order: Option<Vec<u8>>,
    /// Commands and data are encrypted, with a key that this goes into (AS-15); `None`: they are in clear.
    pub salt: Option<Salt>,
}

/// Modification time: nanoseconds since 1970.
pub type Mtime = i64;

/// A path below a site's root: components joined by `/`; no empty, `.` or `..` component, no NUL, each at
/// most 255 bytes, the whole at most 4,095, at most 64 deep. Bytes, for a file name need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_vec(bytes.to_vec())
    }

    /// The same of bytes that need not be copied.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let bad = Err(Malformed::OutOfBounds("path"));
        if bytes.is_empty() || bytes.len() > 4_095 || bytes.contains(&0) {
            return bad;
        }
        let mut depth = 0;
        for component in bytes.split(|&byte| byte == b'/') {
            depth += 1;
            if matches!(component, b"" | b"." | b"..") || component.len() > 255 || depth > 64 {
                return bad;
            }
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }

    pub fn join(&self, component: &[u8]) -> Result<Self, Malformed> {
        Self::from_vec([&self.0, &b"/"[..], component].concat())
    }

    /// Order of a depth-first walk with sorted children: by components, not by bytes.
    pub fn walk_cmp(&self, other: &Self) -> std::cmp::Ordering {
        // What ends, or begins another component, goes before what goes on: a path holds no NUL.
        let (own, theirs) = (&self.0, &other.0);
        let common = own.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let next = |bytes: &[u8]| bytes.get(common).map(|byte| if *byte == b'/' { 0 } else { *byte });
        next(own).cmp(&next(theirs))
    }
}

/// As text for people: what is not printable ASCII or is a backslash stands as `\xNN` (T28).
impl std::fmt::Display for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for &byte in &self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Header {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&MAGIC).u16(VERSION);
        self.assignment.encode(out);
        self.job.encode(out);
        out.u8(match (self.kind, &self.part) {
            (Kind::Publish, None) => 1,
            (Kind::Replicate, None) => 2,
            (Kind::Publish, Some(_)) => 3,
            (Kind::Replicate, Some(_)) => 4,
        });
        if let Some(part) = &self.part {
            part.encode(out);
        }
        self.site.encode(out);
        out.option(self.base.as_ref(), |out, base| base.encode(out));
        out.raw(&self.result)
            .u64(self.issued)
            .u32(self.command_count)
            .u32(self.command_len)
            .u64(self.data_len);
        out.u64(self.space).u32(self.files).u64(self.largest_file);
        out.option(self.order.as_ref(), |out, order| {
            out.bytes16(order);
        });
        out.option(self.salt.as_ref(), |out, salt| salt.encode(out));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if from.array("magic")? != MAGIC {
            return Err(Malformed::Unknown("magic"));
        }
        if from.u16("version")? != VERSION {
            return Err(Malformed::Unknown("version"));
        }
        let (assignment, job) = (AssignmentId::decode(from)?, JobId::decode(from)?);
        let (kind, in_parts) = match from.u8("kind")? {
            1 => (Kind::Publish, false),
            2 => (Kind::Replicate, false),
            3 => (Kind::Publish, true),
            4 => (Kind::Replicate, true),
            _ => return Err(Malformed::Unknown("assignment kind")),
        };
        let header = Self {
            assignment,
            job,
            kind,
            part: if in_parts { Some(Part::decode(from)?) } else { None },
            site: Name::decode(from)?,
            base: from.option("base", AssignmentId::decode)?,
            result: from.array("result")?,
            issued: from.u64("issued")?,
            command_count: from.u32("command count")?,
            command_len: from.u32("command length")?,
            data_len: from.u64("data length")?,
            space: from.u64("space")?,
            files: from.u32("files")?,
            largest_file: from.u64("largest file")?,
            order: from.option("order", |from| Ok(from.bytes16(Order::MAX, "order")?.to_vec()))?,
            salt: from.option("salt", Salt::decode)?,
        };
        if (header.kind == Kind::Publish) != header.base.is_some() {
            return Err(Malformed::OutOfBounds("base"));
        }
        if header.salt.is_some() {
            plain_len(header.data_len)?;
        }
        // What goes live in parts does so with the last, whose number is that of the version.
        let unfinished = header.part.filter(|part| !part.is_last());
        if header.assignment.part() != unfinished.map_or(0, |part| u64::from(part.number)) {
            return Err(Malformed::OutOfBounds("assignment number"));
        }
        if unfinished.is_some() && header.order.is_some() {
            return Err(Malformed::OutOfBounds("an order in a part that is not the last"));
        }
        Ok(header)
    }
}

/// A command buffer that was checked against its name, its length and its publisher.
#[derive(Clone, Debug)]
pub struct CommandBuffer {
    pub shape: Shape,
    pub header: Header,
    /// Encrypted, where the header has a salt and `key` is not there.
    commands: Vec<u8>,
    leaves: Vec<[u8; 32]>,
    key: Option<ContentKey>,
}

impl CommandBuffer {
    /// Signs a command buffer. `commands` are the encoded commands, encrypted where the header has a salt;
    /// `header.command_len` and
    /// `command_count` are set from the arguments; `leaves` are the hashes of the data file's leaves.
    pub fn sign(
        mut header: Header,
        commands: &[u8],
        command_count: u32,
        leaves: &[[u8; 32]],
        publisher: &SigningKey,
    ) -> (Shape, Vec<u8>) {
        header.command_len = u32::try_from(commands.len()).expect("commands are below COMMAND_BUFFER_MAX");
        header.command_count = command_count;
        assert_eq!(header.data_len.div_ceil(LEAF_LEN), leaves.len() as u64, "a hash for every leaf");
        let (mut signing, mut bytes) = Signing::begin(&header);
        for part in [commands, leaves.as_flattened()] {
            signing.add(part);
            bytes.extend_from_slice(part);
        }
        let (shape, trailer) = signing.finish(publisher);
        bytes.extend_from_slice(&trailer);
        (shape, bytes)
    }

    /// Checks name, signature, lengths; commands are checked as they are read.
    pub fn open(shape: &Shape, bytes: &[u8], publisher: &PublicKey) -> Result<Self, Malformed> {
        Self::open_owned(shape, bytes.to_vec(), publisher)
    }

    /// The same of bytes that need not be copied: of a million files they are 100 MB.
    pub fn open_owned(shape: &Shape, bytes: Vec<u8>, publisher: &PublicKey) -> Result<Self, Malformed> {
        if bytes.len() as u64 != shape.command_len {
            return Err(Malformed::OutOfBounds("command length"));
        }
        let (signed, name, signature) = unproven::split(&bytes)?;
        if name != shape.name {
            return Err(Malformed::Forged("command buffer"));
        }
        publisher.verify(Domain::Assignment, &name.0, &signature)?;
        let signed_len = signed.len();
        Self::parse(shape, bytes, signed_len)
    }

    /// Reads what the trailer hash covers, the first `signed_len` bytes.
    fn parse(shape: &Shape, mut bytes: Vec<u8>, signed_len: usize) -> Result<Self, Malformed> {
        let mut from = Decoder::new(&bytes[..signed_len]);
        let header = Header::decode(&mut from)?;
        if header.data_len != shape.data_len {
            return Err(Malformed::OutOfBounds("data length"));
        }
        let start = signed_len - from.remaining();
        let end = start + from.take(header.command_len as usize, "commands")?.len();
        let leaves = (0..shape.leaves()).map(|_| from.array("leaf hash")).collect::<Result<_, _>>()?;
        from.finish()?;
        bytes.truncate(end);
        bytes.drain(..start);
        Ok(Self { shape: *shape, header, commands: bytes, leaves, key: None })
    }

    /// Whether its commands cannot be read before [`Self::unseal`].
    pub const fn is_sealed(&self) -> bool {
        self.header.salt.is_some() && self.key.is_none()
    }

    /// Decrypts the commands (AS-16, AS-17). What is in clear stays as it is.
    ///
    /// # Errors
    /// The key is another.
    pub fn unseal(&mut self, key: ContentKey) -> Result<(), Malformed> {
        if self.is_sealed() {
            key.open_commands(&mut self.commands)?;
            self.key = Some(key);
        }
        Ok(())
    }

    /// What the data file is encrypted with, once the commands are not.
    pub const fn key(&self) -> Option<&ContentKey> {
        self.key.as_ref()
    }

    /// The commands in order; the first malformed one ends the iteration with its error.
    pub fn commands(&self) -> Commands<'_> {
        Commands {
            from: Decoder::new(&self.commands),
            left: self.header.command_count,
            data_len: match self.header.salt {
                Some(_) => plain_len(self.shape.data_len).unwrap_or(0),
                None => self.shape.data_len,
            },
            sealed: self.is_sealed(),
        }
    }

    /// Hash that leaf `index` of the data file must have.
    pub fn leaf(&self, index: u32) -> Option<&[u8; 32]> {
        self.leaves.get(index as usize)
    }
}

/// Iterator over the commands of a buffer.
pub struct Commands<'a> {
    from: Decoder<'a>,
    left: u32,
    data_len: u64,
    sealed: bool,
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.sealed) {
            (self.from, self.left) = (Decoder::new(&[]), 0);
            return Some(Err(Malformed::Sealed));
        }
        if self.left == 0 {
            if self.from.remaining() == 0 {
                return None;
            }
            self.from = Decoder::new(&[]);
            return Some(Err(Malformed::Trailing));
        }
        self.left -= 1;
        let command = Command::decode(&mut self.from).and_then(|command| match command.item() {
            Some(item) if item.offset + item.len > self.data_len => Err(Malformed::OutOfBounds("item")),
            _ => Ok(command),
        });
        if command.is_err() {
            (self.left, self.from) = (0, Decoder::new(&[]));
        }
        Some(command)
    }
}
