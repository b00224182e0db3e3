//! What a site remembers on disk: its state, and the intent to switch (design D9).
//!
//! ```text
//! | magic (4) | version (1) | fields | xxh3 over all before (8) |
//! ```
//! A record is written beside the old one, synced and renamed over it, so that after a crash one of the two
//! is there. One that does not verify counts as absent.

use super::dir::Dir;
use crate::wire::id::{AssignmentId, ObjectName, OrderId};
use crate::wire::{Decoder, Encoder, Malformed};
use std::io::{self, Read, Write};
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
/// Longest record in bytes; what is longer is none of ours.
const RECORD_MAX: u64 = 4_096;

/// One kind of record.
pub trait Record: Sized {
    const FILE: &'static str;
    const MAGIC: [u8; 4];
    fn encode(&self, out: &mut Encoder);
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed>;

    /// Reads the record; `None` where there is none that verifies.
    fn load(dir: &Dir) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        match dir.read(Self::FILE.as_bytes()) {
            Ok(file) => file.take(RECORD_MAX).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Self::open(&bytes).ok())
    }

    /// Replaces the record; once this returns it is on the disk.
    fn store(&self, dir: &Dir) -> io::Result<()> {
        let fresh = format!("{}.new", Self::FILE);
        match dir.unlink(fresh.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = dir.create(fresh.as_bytes())?;
        file.write_all(&self.seal())?;
        file.sync_all()?;
        dir.rename(fresh.as_bytes(), dir, Self::FILE.as_bytes())?;
        dir.sync()
    }

    /// Removes the record, if there is one.
    fn discard(dir: &Dir) -> io::Result<()> {
        match dir.unlink(Self::FILE.as_bytes()) {
            Ok(()) => dir.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn seal(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.raw(&Self::MAGIC).u8(VERSION);
        self.encode(&mut out);
        let sum = xxh3_64(out.as_bytes());
        out.u64(sum).finish()
    }

    fn open(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Malformed::Truncated("checksum"))?;
        if xxh3_64(body) != u64::from_be_bytes(*sum) {
            return Err(Malformed::Forged("checksum"));
        }
        let mut from = Decoder::new(body);
        if from.array("magic")? != Self::MAGIC {
            return Err(Malformed::Unknown("magic"));
        }
        if from.u8("version")? != VERSION {
            return Err(Malformed::Unknown("version"));
        }
        let record = Self::decode(&mut from)?;
        from.finish()?;
        Ok(record)
    }
}

/// The last order that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub order: OrderId,
    pub assignment: AssignmentId,
    /// When, nanoseconds since 1970 by the clock that the caller of the switch keeps.
    pub at: u64,
}

impl Switch {
    fn encode(&self, out: &mut Encoder) {
        self.order.encode(out);
        self.assignment.encode(out);
        out.u64(self.at);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            order: OrderId::decode(from)?,
            assignment: AssignmentId::decode(from)?,
            at: from.u64("at")?,
        })
    }
}

/// What is staged in `temp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedRecord {
    pub assignment: AssignmentId,
    pub name: ObjectName,
}

/// What a site holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub last: Option<Switch>,
    pub staged: Option<StagedRecord>,
}

impl Record for State {
    const FILE: &'static str = "state";
    const MAGIC: [u8; 4] = *b"FCST";

    fn encode(&self, out: &mut Encoder) {
        out.option(self.last.as_ref(), |out, last| last.encode(out));
        out.option(self.staged.as_ref(), |out, staged| {
            staged.assignment.encode(out);
            staged.name.encode(out);
        });
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            last: from.option("last order", Switch::decode)?,
            staged: from.option("staged", |from| {
                Ok(StagedRecord { assignment: AssignmentId::decode(from)?, name: ObjectName::decode(from)? })
            })?,
        })
    }
}

/// That `live` and `temp` are about to change places. The inode numbers tell afterwards whether they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// `at` is when the switch is planned for.
    pub switch: Switch,
    pub live_inode: u64,
    pub temp_inode: u64,
}

impl Record for Intent {
    const FILE: &'static str = "journal";
    const MAGIC: [u8; 4] = *b"FCJL";

    fn encode(&self, out: &mut Encoder) {
        self.switch.encode(out);
        out.u64(self.live_inode).u64(self.temp_inode);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            switch: Switch::decode(from)?,
            live_inode: from.u64("inode of live")?,
            temp_inode: from.u64("inode of temp")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            last: Some(Switch { order: OrderId(3), assignment: AssignmentId(4), at: 5 }),
            staged: Some(StagedRecord { assignment: AssignmentId(6), name: ObjectName([7; 32]) }),
        }
    }

    #[test]
    fn a_record_reads_back_and_replaces_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        assert_eq!(State::load(&dir).unwrap(), None);
        State::default().store(&dir).unwrap();
        state().store(&dir).unwrap();
        assert_eq!(State::load(&dir).unwrap(), Some(state()));
        let intent = Intent { switch: state().last.unwrap(), live_inode: 1, temp_inode: 2 };
        intent.store(&dir).unwrap();
        assert_eq!(Intent::load(&dir).unwrap(), Some(intent));
        Intent::discard(&dir).unwrap();
        Intent::discard(&dir).unwrap();
        assert_eq!(Intent::load(&dir).unwrap(), None);
    }

    #[test]
    fn a_torn_or_foreign_record_counts_as_absent() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let whole = state().seal();
        for cut in 0..whole.len() {
            std::fs::write(root.path().join("state"), &whole[..cut]).unwrap();
            assert_eq!(State::load(&dir).unwrap(), None, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(State::open(&flipped).is_err(), "byte {at}");
        }
        std::fs::write(root.path().join("journal"), &whole).unwrap();
        assert_eq!(Intent::load(&dir).unwrap(), None);
    }

    #[test]
    fn what_a_crash_left_half_written_does_not_stop_the_next_record() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        std::fs::write(root.path().join("state.new"), "half").unwrap();
        state().store(&dir).unwrap();
        assert_eq!(State::load(&dir).unwrap(), Some(state()));
    }
}
