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

/// Longest record in bytes; what is longer is none of ours.
const RECORD_MAX: u64 = 4_096;
/// Most versions that a site keeps beside what is live.
pub const RELEASES_MAX: usize = 64;

/// One kind of record.
pub trait Record: Sized {
    const FILE: &'static str;
    const MAGIC: [u8; 4];
    /// Of the fields; a record of another counts as absent.
    const VERSION: u8;
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
        out.raw(&Self::MAGIC).u8(Self::VERSION);
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
        if from.u8("version")? != Self::VERSION {
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
    /// The tree's hash as the publisher signed it.
    pub result: [u8; 32],
}

/// A version that was live before and is kept (D9, VC-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The assignment that made it; 0 for what was live before the first.
    pub assignment: AssignmentId,
    /// The tree's hash as the publisher signed it; `None` for what was live before the first.
    pub result: Option<[u8; 32]>,
}

impl Release {
    fn encode(&self, out: &mut Encoder) {
        self.assignment.encode(out);
        out.option(self.result.as_ref(), |out, result| {
            out.raw(result);
        });
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            assignment: AssignmentId::decode(from)?,
            result: from.option("result", |from| from.array("result"))?,
        })
    }
}

/// What a site holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub last: Option<Switch>,
    /// The hash of what is live, as the publisher signed it; `None` before the first switch.
    pub result: Option<[u8; 32]>,
    pub staged: Option<StagedRecord>,
    /// What was live before, the last first, at most [`RELEASES_MAX`].
    pub releases: Vec<Release>,
}

impl State {
    /// What is live, as it is kept when something else takes its place.
    pub fn live(&self) -> Release {
        let assignment = self.last.map_or(AssignmentId(0), |last| last.assignment);
        Release { assignment, result: self.result }
    }
}

impl Record for State {
    const FILE: &'static str = "state";
    const MAGIC: [u8; 4] = *b"FCST";
    const VERSION: u8 = 2;

    fn encode(&self, out: &mut Encoder) {
        out.option(self.last.as_ref(), |out, last| last.encode(out));
        out.option(self.result.as_ref(), |out, result| {
            out.raw(result);
        });
        out.option(self.staged.as_ref(), |out, staged| {
            staged.assignment.encode(out);
            staged.name.encode(out);
            out.raw(&staged.result);
        });
        out.u8(self.releases.len() as u8);
        self.releases.iter().for_each(|release| release.encode(out));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let last = from.option("last order", Switch::decode)?;
        let result = from.option("result", |from| from.array("result"))?;
        let staged = from.option("staged", |from| {
            Ok(StagedRecord {
                assignment: AssignmentId::decode(from)?,
                name: ObjectName::decode(from)?,
                result: from.array("result")?,
            })
        })?;
        let count = usize::from(from.u8("releases")?);
        if count > RELEASES_MAX {
            return Err(Malformed::OutOfBounds("releases"));
        }
        let releases = (0..count).map(|_| Release::decode(from)).collect::<Result<_, _>>()?;
        Ok(Self { last, result, staged, releases })
    }
}

/// How far an update has come that comes in parts (AS-13). It goes live with the last of them and not before: what
/// [`State::staged`] does not name cannot be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The first part, by which all of them are known.
    pub first: ObjectName,
    /// The part that was staged last; its tree has this name.
    pub name: ObjectName,
    pub number: u16,
    /// How many there are.
    pub of: u16,
}

impl Record for Parts {
    const FILE: &'static str = "part";
    const MAGIC: [u8; 4] = *b"FCPT";
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        self.first.encode(out);
        self.name.encode(out);
        out.u16(self.number).u16(self.of);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            first: ObjectName::decode(from)?,
            name: ObjectName::decode(from)?,
            number: from.u16("part")?,
            of: from.u16("parts")?,
        })
    }
}

/// That live was found not to be what it was signed as. Holds as long as that directory is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Of live, as it was found.
    pub inode: u64,
}

impl Record for Doubt {
    const FILE: &'static str = "doubt";
    const MAGIC: [u8; 4] = *b"FCDB";
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.inode);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self { inode: from.u64("inode of live")? })
    }
}

/// Where the tree stands that is about to go live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Temp,
    Release(AssignmentId),
}

/// That `live` and another tree are about to change places. The inode numbers tell afterwards whether they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// `at` is when the switch is planned for.
    pub switch: Switch,
    pub source: Source,
    /// Of the tree at `source`.
    pub incoming_inode: u64,
    pub incoming_result: Option<[u8; 32]>,
    /// Of live.
    pub outgoing_inode: u64,
    pub outgoing: Release,
    /// Versions that stay beside live, 1..=[`RELEASES_MAX`]: whoever finishes the switch keeps as many as
    /// whoever began it.
    pub keep: u8,
}

impl Intent {
    /// Whether what was live becomes a release. A tree that goes as the version that takes its place was not
    /// that version any more.
    pub fn keeps_outgoing(&self) -> bool {
        self.outgoing.assignment != self.switch.assignment
    }

    /// What is kept once the switch is done: what was live before all others, no more than stay. It may be
    /// asked again when the switch is done: the answer is the same.
    pub fn releases(&self, before: &[Release]) -> Vec<Release> {
        let other = |release: &&Release| {
            release.assignment != self.switch.assignment && release.assignment != self.outgoing.assignment
        };
        let older = before.iter().filter(other).copied();
        let outgoing = self.keeps_outgoing().then_some(self.outgoing);
        outgoing.into_iter().chain(older).take(usize::from(self.keep).clamp(1, RELEASES_MAX)).collect()
    }
}

impl Record for Intent {
    const FILE: &'static str = "journal";
    const MAGIC: [u8; 4] = *b"FCJL";
    const VERSION: u8 = 3;

    fn encode(&self, out: &mut Encoder) {
        self.switch.encode(out);
        match self.source {
            Source::Temp => {
                out.u8(0);
            }
            Source::Release(assignment) => {
                out.u8(1);
                assignment.encode(out);
            }
        }
        out.u64(self.incoming_inode);
        out.option(self.incoming_result.as_ref(), |out, result| {
            out.raw(result);
        });
        out.u64(self.outgoing_inode);
        self.outgoing.encode(out);
        out.u8(self.keep);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            switch: Switch::decode(from)?,
            source: match from.u8("source")? {
                0 => Source::Temp,
                1 => Source::Release(AssignmentId::decode(from)?),
                _ => return Err(Malformed::Unknown("source")),
            },
            incoming_inode: from.u64("inode of what goes live")?,
            incoming_result: from.option("result", |from| from.array("result"))?,
            outgoing_inode: from.u64("inode of live")?,
            outgoing: Release::decode(from)?,
            keep: from.u8("versions that stay")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            last: Some(Switch { order: OrderId(3), assignment: AssignmentId(4), at: 5 }),
            result: Some([8; 32]),
            staged: Some(StagedRecord {
                assignment: AssignmentId(6),
                name: ObjectName([7; 32]),
                result: [9; 32],
            }),
            releases: vec![
                Release { assignment: AssignmentId(2), result: Some([1; 32]) },
                Release { assignment: AssignmentId(0), result: None },
            ],
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
        for source in [Source::Temp, Source::Release(AssignmentId(2))] {
            let intent = Intent {
                switch: state().last.unwrap(),
                source,
                incoming_inode: 1,
                incoming_result: Some([3; 32]),
                outgoing_inode: 2,
                outgoing: state().live(),
                keep: 2,
            };
            intent.store(&dir).unwrap();
            assert_eq!(Intent::load(&dir).unwrap(), Some(intent));
        }
        Intent::discard(&dir).unwrap();
        Intent::discard(&dir).unwrap();
        assert_eq!(Intent::load(&dir).unwrap(), None);
    }

    #[test]
    fn a_state_with_all_releases_fits_a_record() {
        let release = Release { assignment: AssignmentId(u64::MAX), result: Some([1; 32]) };
        let state = State { releases: vec![release; RELEASES_MAX], ..state() };
        let bytes = state.seal();
        assert!(bytes.len() as u64 <= RECORD_MAX, "{}", bytes.len());
        assert_eq!(State::open(&bytes), Ok(state));
    }

    /// Asked again behind a crash, when the state is that of after the switch, the answer is the same.
    #[test]
    fn what_is_kept_is_what_was_live_and_the_last_before_it() {
        let release = |number| Release { assignment: AssignmentId(number), result: Some([number as u8; 32]) };
        let intent = |from: u64, to: u64, keep: u8| Intent {
            switch: Switch { order: OrderId(1), assignment: AssignmentId(to), at: 0 },
            source: Source::Temp,
            incoming_inode: 1,
            incoming_result: None,
            outgoing_inode: 2,
            outgoing: release(from),
            keep,
        };
        for (before, from, to, keep, after) in [
            (vec![], 1, 2, 2, vec![1]),
            (vec![1], 2, 3, 2, vec![2, 1]),
            (vec![2, 1], 3, 4, 2, vec![3, 2]),
            // A rollback, and forward again.
            (vec![3, 2], 4, 3, 2, vec![4, 2]),
            (vec![4, 2], 3, 4, 2, vec![3, 2]),
            // One at least, or there were no way back.
            (vec![2, 1], 3, 4, 0, vec![3]),
            // What was not version 3 any more goes for the true one.
            (vec![2, 1], 3, 3, 2, vec![2, 1]),
        ] {
            let before: Vec<_> = before.into_iter().map(release).collect();
            let after: Vec<_> = after.into_iter().map(release).collect();
            let intent = intent(from, to, keep);
            assert_eq!(intent.releases(&before), after);
            assert_eq!(intent.releases(&after), after);
        }
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
