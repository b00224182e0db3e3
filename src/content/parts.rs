//! What of an update is there that comes in parts (AS-13).
//!
//! A part is staged like any assignment, in `temp`: of other names of the files that the part before it left, and of
//! its own commands. Then the tree moves to `parts`, where no order finds it, and one record says that it counts. The
//! last part ends in `temp`, is proven as a whole, and is what can be ordered. A process may be killed between any two
//! steps: what the record does not name is removed.

use super::dir::Dir;
use super::journal::{Parts, Record};
use super::site::{PARTS, Site, TEMP};
use super::stage::StageError;
use crate::wire::assignment::CommandBuffer;
use std::io;

/// Where an assignment stands among what is staged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It begins anew: whatever parts there are belong to another update.
    First,
    /// It follows on the part that was staged last.
    Next,
    /// This part, and perhaps later ones, are staged.
    Done,
}

impl Site {
    /// Whether parts of an update are here that is not whole.
    pub const fn is_in_parts(&self) -> bool {
        matches!(self.parts, Some(parts) if parts.number < parts.of)
    }

    pub(super) fn progress(&self, buffer: &CommandBuffer) -> Result<Progress, StageError> {
        let (Some(part), name) = (buffer.header.part, buffer.shape.name) else { return Ok(Progress::First) };
        let first = part.behind.map_or(name, |behind| behind.first);
        let known = self.parts.filter(|known| known.first == first);
        match (known, part.behind) {
            (Some(known), _) if known.number >= part.number && !part.is_last() => Ok(Progress::Done),
            (_, None) => Ok(Progress::First),
            (Some(known), Some(behind)) if known.name == behind.before => Ok(Progress::Next),
            (_, Some(_)) => Err(StageError::PartBefore { number: part.number, of: part.of }),
        }
    }

    /// The tree of the part that was staged last.
    pub(super) fn part_tree(&self) -> io::Result<Dir> {
        let parts = self.parts.ok_or(io::ErrorKind::NotFound)?;
        self.hidden.child(PARTS)?.child(&tree_name(&parts))
    }

    /// What was built in `temp` and is on the disk is the part that was staged last.
    pub(super) fn keep_part(&mut self, buffer: &CommandBuffer) -> io::Result<()> {
        let Some(parts) = record(buffer) else { return Ok(()) };
        let trees = self.hidden.child(PARTS)?;
        self.discard_from(&trees, &tree_name(&parts))?;
        self.make_movable(&self.hidden, TEMP)?;
        self.hidden.rename(TEMP, &trees, &tree_name(&parts))?;
        trees.sync()?;
        parts.store(&self.hidden)?;
        self.parts = Some(parts);
        if let Err(cause) = self.drop_trees().and_then(|()| self.tidy()) {
            log::debug!("{}: removing the part before: {cause}", self.path.display());
        }
        Ok(())
    }

    /// All of it is staged: what the parts made is in `temp` under other names. That they were here is remembered, so
    /// that one which is asked for again does not begin the update anew.
    pub(super) fn end_parts(&mut self, buffer: &CommandBuffer) {
        let Some(parts) = record(buffer) else { return };
        self.parts = Some(parts);
        let ended = parts.store(&self.hidden).and_then(|()| self.drop_trees());
        if let Err(cause) = ended.and_then(|()| self.tidy()) {
            // The next staging removes it.
            log::debug!("{}: removing the parts of what is staged: {cause}", self.path.display());
        }
    }

    /// Another update is staged now.
    pub(super) fn forget_parts(&mut self) -> io::Result<()> {
        if self.parts.take().is_some() {
            Parts::discard(&self.hidden)?;
        }
        self.drop_trees()
    }

    /// Removes what a process left that ended while it staged a part.
    pub(super) fn drop_orphans(&mut self) -> io::Result<()> {
        if let (Some(parts), true, Some(_)) = (self.parts, self.is_in_parts(), self.state.staged) {
            // It ended between the last part and this.
            let ended = Parts { number: parts.of, ..parts };
            ended.store(&self.hidden)?;
            self.parts = Some(ended);
        }
        self.drop_trees()?;
        if self.is_in_parts() && self.part_tree().is_err() { self.forget_parts() } else { Ok(()) }
    }

    /// Puts into the trash all trees but that of the part that was staged last, and that one too when all is staged.
    fn drop_trees(&self) -> io::Result<()> {
        let stays = self.parts.filter(|_| self.is_in_parts()).map(|parts| tree_name(&parts));
        let trees = self.hidden.child(PARTS)?;
        for entry in trees.entries()? {
            if Some(&entry.name[..]) != stays.as_deref() {
                self.discard_from(&trees, &entry.name)?;
            }
        }
        Ok(())
    }
}

/// What is remembered when this part is staged.
fn record(buffer: &CommandBuffer) -> Option<Parts> {
    let (part, name) = (buffer.header.part?, buffer.shape.name);
    let first = part.behind.map_or(name, |behind| behind.first);
    Some(Parts { first, name, number: part.number, of: part.of })
}

fn tree_name(parts: &Parts) -> Vec<u8> {
    parts.name.to_string().into_bytes()
}
