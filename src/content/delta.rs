//! What differs between two versions of a file, and the smallest way to say it (ST-10, ST-11, ST-12).
//!
//! | method | subject |
//! |---|---|
//! | [`in_place`] | bytes that changed where they stand |
//! | [`shifted`] | ranges that stand elsewhere now, for bytes were inserted or removed before them |
//! | [`index`] | where the old version holds which bytes |

pub mod in_place;
mod index;
pub mod shifted;

use crate::wire::assignment::{Copied, Extent};
use in_place::InPlace;
use shifted::Shifted;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Most extents, or copied ranges, of one file: 1 to 1.5 MiB of commands. A file changed in more places is sent
/// whole.
pub const EXTENTS_MAX: usize = 65_536;
/// Bytes of a command that an extent takes.
const EXTENT_COST: u64 = 16;
/// Bytes of a command that a copied range takes.
const COPY_COST: u64 = 24;
/// A shift cannot spare much of a delta smaller than this.
const SMALL: u64 = 512;
/// A file that is looked through at once.
const SMALL_FILE: u64 = 1 << 20;

/// A version of a file: open, of this size.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    pub file: &'a File,
    pub size: u64,
}

/// How to turn the old file into the new one.
///
/// Without copies: set its length to the new one's, bytes behind the old end being zeros, then write the extents.
/// With copies: begin with an empty file, put the copied ranges of the old one in their places, and the extents
/// between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// New bytes. Ascending, not touching, within the new file.
    pub extents: Vec<Extent>,
    /// Ascending, not overlapping, within the new file.
    pub copies: Vec<Copied>,
    /// Sum of the extents' lengths.
    pub changed: u64,
    /// Content hash of the old file.
    pub base: [u8; 32],
    /// Content hash of the new file.
    pub hash: [u8; 32],
}

impl Delta {
    /// Bytes that it takes in an assignment, before compression.
    pub fn cost(&self) -> u64 {
        let named = if self.copies.is_empty() {
            self.extents.len() as u64 * EXTENT_COST
        } else {
            self.copies.len() as u64 * COPY_COST
        };
        self.changed + named
    }

    /// Whether it may say in many bytes that something was inserted or removed: behind such a place nearly all
    /// differs. Where that is little of the file, looking for it takes longer than sending it.
    fn may_be_shift(&self, size: u64) -> bool {
        let is_long = |extent: &Extent| extent.len > 2 * in_place::BLOCK || size < SMALL_FILE;
        self.cost() > SMALL && self.cost() > size / 1_024 && self.extents.iter().any(is_long)
    }
}

/// One way to compare two versions of a file.
pub trait Method {
    /// What differs. `None` as soon as more than `limit` bytes do, or more places than a command may name.
    ///
    /// # Errors
    /// `UnexpectedEof` if a file is shorter than said.
    fn delta(&self, old: Version<'_>, new: Version<'_>, limit: u64) -> io::Result<Option<Delta>>;
}

/// The smaller of what the methods find; `None` where neither finds one with at most `limit` new bytes.
///
/// Bytes in place are looked for first, for that is a matter of comparing; but not far into a file of which they
/// show that nearly all differs.
///
/// # Errors
/// `UnexpectedEof` if a file is shorter than said.
pub fn delta(old: Version<'_>, new: Version<'_>, limit: u64) -> io::Result<Option<Delta>> {
    if old.size < index::WINDOW as u64 || is_sparse(new)? || is_sparse(old)? {
        return InPlace.delta(old, new, limit);
    }
    let in_place = InPlace.delta(old, new, limit.min(new.size / 16 + SMALL))?;
    if in_place.as_ref().is_some_and(|delta| !delta.may_be_shift(new.size)) {
        return Ok(in_place);
    }
    let shifted = Shifted.delta(old, new, limit)?;
    match (in_place, shifted) {
        (Some(in_place), Some(shifted)) if shifted.cost() < in_place.cost() => Ok(Some(shifted)),
        (Some(in_place), _) => Ok(Some(in_place)),
        (None, Some(shifted)) => Ok(Some(shifted)),
        // Changed in too many places for copies.
        (None, None) => InPlace.delta(old, new, limit),
    }
}

/// Most of it is hole: only a comparison in place does not read holes.
fn is_sparse(version: Version<'_>) -> io::Result<bool> {
    Ok(version.file.metadata()?.blocks().saturating_mul(512) < version.size / 2)
}

#[cfg(test)]
mod tests;
