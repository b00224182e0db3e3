//! Assignments made by hand, for tests.

use super::site::{Site, StageError, Staged, SwitchError};
use super::source::Source;
use super::tree::{TreeHash, hash_tree};
use crate::wire::Encoder;
use crate::wire::assignment::{
    Coding, Command, CommandBuffer, Extent, Header, Item, Kind, LEAF_LEN, Mtime, RelPath, Shape,
};
use crate::wire::content_key::{ContentSecret, PIECE_LEN, Salt, Sealing};
use crate::wire::id::{AssignmentId, JobId, Name, OrderId};
use crate::wire::order::Action;
use crate::wire::seal::{SigningKey, leaf_hash};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The mtime of what [`Draft`] puts, unless it says another.
pub const MTIME: Mtime = 1_700_000_000_123_456_789;

pub fn publisher() -> SigningKey {
    SigningKey::from_seed([42; 32])
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// Orders, as tests give them.
impl Site {
    pub fn commit(
        &mut self,
        order: OrderId,
        assignment: AssignmentId,
        now: impl Fn() -> u64,
    ) -> Result<u64, SwitchError> {
        self.carry_out(order, Action::Commit { assignment }, now)
    }

    /// Back to a release; order `n` goes live at `10 n`.
    pub fn switch(&mut self, order: u64, assignment: u64) -> Result<u64, SwitchError> {
        let action = Action::Switch { assignment: AssignmentId(assignment) };
        self.carry_out(OrderId(order), action, || order * 10)
    }
}

/// An assignment while it is being written.
pub struct Draft {
    pub header: Header,
    pub commands: Vec<Command>,
    pub data: Vec<u8>,
    pub sealing: Option<Sealing>,
}

/// A signed assignment and its file.
pub struct Signed {
    pub shape: Shape,
    pub file: File,
    pub buffer: CommandBuffer,
}

impl Draft {
    /// A publish over `base`, or a replicate.
    pub fn new(assignment: u64, base: Option<u64>) -> Self {
        let header = Header {
            assignment: AssignmentId(assignment),
            job: JobId(1),
            kind: if base.is_some() { Kind::Publish } else { Kind::Replicate },
            part: None,
            site: Name::new("www").unwrap(),
            base: base.map(AssignmentId),
            result: [0; 32],
            issued: 0,
            command_count: 0,
            command_len: 0,
            data_len: 0,
            space: 1,
            files: 10_000,
            largest_file: 16 << 30,
            order: None,
            salt: None,
        };
        Self { header, commands: Vec::new(), data: Vec::new(), sealing: None }
    }

    pub fn add(mut self, command: Command) -> Self {
        self.commands.push(command);
        self
    }

    pub fn mkdir(self, at: &str) -> Self {
        self.add(Command::Mkdir { path: path(at), mode: 0o755 })
    }

    pub fn item(&mut self, bytes: &[u8]) -> Option<Item> {
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        let len = bytes.len() as u64;
        (len > 0).then_some(Item { offset, len, decoded_len: len, coding: Coding::Raw })
    }

    pub fn put(mut self, at: &str, bytes: &[u8]) -> Self {
        let item = self.item(bytes);
        let (size, hash) = (bytes.len() as u64, *blake3::hash(bytes).as_bytes());
        let path = path(at);
        self.add(Command::Put { path, mode: 0o644, mtime: MTIME, size, hash, item, extents: Vec::new() })
    }

    /// Writes `part` at `offset` of the file that held `old`.
    pub fn patch(mut self, at: &str, old: &[u8], offset: usize, part: &[u8]) -> Self {
        let mut new = old.to_vec();
        new.resize(new.len().max(offset + part.len()), 0);
        new[offset..offset + part.len()].copy_from_slice(part);
        let item = self.item(part);
        self.add(Command::Patch {
            path: path(at),
            mode: 0o644,
            mtime: MTIME + 1,
            size: new.len() as u64,
            base: *blake3::hash(old).as_bytes(),
            hash: *blake3::hash(&new).as_bytes(),
            item,
            extents: vec![Extent { offset: offset as u64, len: part.len() as u64 }],
        })
    }

    pub fn link(self, at: &str, target: &str) -> Self {
        self.add(Command::Link { path: path(at), target: path(target) })
    }

    pub fn symlink(self, at: &str, text: &str) -> Self {
        self.add(Command::Symlink { path: path(at), text: text.as_bytes().to_vec(), mtime: MTIME })
    }

    pub fn remove(self, at: &str) -> Self {
        self.add(Command::Remove { path: path(at) })
    }

    pub fn chmod(self, at: &str, mode: u32) -> Self {
        self.add(Command::Chmod { path: path(at), mode })
    }

    pub fn utimes(self, at: &str, mtime: Mtime) -> Self {
        self.add(Command::Utimes { path: path(at), mtime })
    }

    /// Encrypts it, with a key that follows from the secret.
    pub fn sealed(mut self, secret: &ContentSecret, salt: u8) -> Self {
        let (salt, header) = (Salt([salt; 16]), &self.header);
        let key = secret.key(&header.site, header.assignment, &salt);
        self.sealing = Some(Sealing { salt, key });
        self
    }

    pub fn sign(mut self) -> Signed {
        let mut commands = Encoder::new();
        self.commands.iter().for_each(|command| command.encode(&mut commands));
        let mut commands = commands.finish();
        if let Some(Sealing { salt, key }) = &self.sealing {
            self.header.salt = Some(*salt);
            key.seal_commands(&mut commands);
            let (plain, mut sealed) = (&self.data, Vec::new());
            for (piece, index) in plain.chunks(PIECE_LEN as usize).zip(0..) {
                let mut piece = piece.to_vec();
                key.seal_piece(index, plain.len() as u64, &mut piece);
                sealed.append(&mut piece);
            }
            self.data = sealed;
        }
        self.header.data_len = self.data.len() as u64;
        let leaves: Vec<_> = self
            .data
            .chunks(LEAF_LEN as usize)
            .zip(0..)
            .map(|(leaf, index)| leaf_hash(index, leaf))
            .collect();
        let count = self.commands.len() as u32;
        let (shape, bytes) = CommandBuffer::sign(self.header, &commands, count, &leaves, &publisher());
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&self.data, 0).unwrap();
        file.write_all_at(&bytes, shape.command_offset()).unwrap();
        let buffer = CommandBuffer::open(&shape, &bytes, &publisher().public()).unwrap();
        Signed { shape, file, buffer }
    }

    /// Stages it as if its result were the one it promises.
    pub fn stage(self, site: &mut Site) -> Result<Staged, StageError> {
        let signed = self.sign();
        let promised = signed.buffer.header.result;
        site.stage_verified(&signed.buffer, Source::whole(&signed.file), &mut |_, _| {
            Ok(TreeHash { hash: promised, ..TreeHash::default() })
        })
    }

    /// Promises the result that it has after these drafts, each over the one before.
    pub fn promising_after(mut self, before: Vec<Self>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut site = Site::open(root.path()).unwrap();
        let drafts = before.into_iter().chain([Self {
            header: self.header.clone(),
            commands: self.commands.clone(),
            data: self.data.clone(),
            sealing: None,
        }]);
        for (draft, order) in drafts.zip(1..) {
            let assignment = draft.header.assignment;
            draft.stage(&mut site).unwrap();
            site.commit(OrderId(order), assignment, || 1).unwrap();
        }
        self.header.result = hash_tree(&site.live_path()).unwrap().hash;
        self
    }
}
