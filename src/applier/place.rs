//! One site of the applier, with what goes on in it.

use super::ahead::Ahead;
use super::apply::Failure;
use crate::content::site::{Site, SiteError};
use crate::io::clock;
use crate::time::Duration;
use crate::wire::assignment::{CommandBuffer, Kind};
use crate::wire::id::{AssignmentId, ObjectName};
use crate::wire::report::Reason;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Longest wait for a site that the applier before us, of a net that died, is about to let go.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at it.
const LOCK_RETRY: Duration = Duration::from_millis(50);

pub struct Place {
    root: PathBuf,
    /// Versions beside live.
    keep: usize,
    seat: Seat,
}

enum Seat {
    /// It could not be opened yet.
    Closed,
    Open(Box<Site>),
    Ahead(Ahead),
}

impl Place {
    /// Opens the site, and says why where that fails: it is tried again when the site is asked for, which helps
    /// where the sandbox lets it.
    pub fn new(root: PathBuf, keep: usize) -> (Self, Option<String>) {
        let start = clock::monotonic();
        let opened = loop {
            match Site::open(&root) {
                Err(SiteError::Busy { .. }) if clock::monotonic().since(start) < LOCK_WAIT => {
                    clock::sleep_until(clock::monotonic() + LOCK_RETRY);
                }
                opened => break opened,
            }
        };
        let mut place = Self { root, keep, seat: Seat::Closed };
        let trouble = match opened {
            Ok(site) => {
                place.seat(site);
                None
            }
            Err(error) => Some(closed(&error)),
        };
        (place, trouble)
    }

    /// The directory of the site.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn version(&self) -> Option<AssignmentId> {
        match &self.seat {
            Seat::Closed => None,
            Seat::Open(site) => site.version(),
            Seat::Ahead(ahead) => ahead.version(),
        }
    }

    pub const fn is_closed(&self) -> bool {
        matches!(self.seat, Seat::Closed)
    }

    /// The site, for work of its own: what was staged ahead is given up for it.
    pub fn site(&mut self) -> Result<&mut Site, Failure> {
        if matches!(self.seat, Seat::Ahead(_))
            && let Seat::Ahead(ahead) = std::mem::replace(&mut self.seat, Seat::Closed)
            && let Some(site) = ahead.abandon()
        {
            self.seat(site);
        }
        if self.is_closed() {
            let site = Site::open(&self.root).map_err(|error| (Reason::System, closed(&error)))?;
            self.seat(site);
        }
        let Seat::Open(site) = &mut self.seat else { unreachable!("the seat was just taken") };
        Ok(site)
    }

    /// Begins to stage what has come up to `until`, where nothing speaks against it: an assignment that waits for
    /// its order, that this one is no change of, or too little space for both its file and its content. Whoever
    /// asks for the staging later hears what.
    pub fn begin(&mut self, buffer: CommandBuffer, file: File, until: u64) {
        if matches!(&self.seat, Seat::Ahead(ahead) if *ahead.object() == buffer.shape.name) {
            return;
        }
        if self.is_closed() {
            return;
        }
        let header = &buffer.header;
        let Ok(site) = self.site() else { return };
        let fits = match header.kind {
            Kind::Publish => header.base.is_none_or(|base| site.version() == Some(base)),
            Kind::Replicate => site.version() != Some(header.assignment.version()),
        };
        // An update that comes in parts is not given up for the first bytes of another.
        let goes_on = !site.is_in_parts() || header.part.is_some_and(|part| part.behind.is_some());
        let need = header.space.saturating_add(buffer.shape.file_len());
        if !fits || !goes_on || site.staged().is_some() || site.free_space().is_ok_and(|free| free < need) {
            return;
        }
        let Seat::Open(site) = std::mem::replace(&mut self.seat, Seat::Closed) else { return };
        match Ahead::begin(*site, buffer, file, until) {
            Ok(ahead) => self.seat = Seat::Ahead(ahead),
            Err(error) => log::warn!("{}: staging begins later: {error}", self.root.display()),
        }
    }

    /// The file of an assignment has come so far.
    pub fn advance(&self, object: &ObjectName, until: u64) {
        if let Seat::Ahead(ahead) = &self.seat
            && ahead.object() == object
        {
            ahead.advance(until);
        }
    }

    /// What came of staging this assignment ahead; `None` where that did not happen.
    pub fn finish(&mut self, object: &ObjectName) -> Option<Result<(), Failure>> {
        match std::mem::replace(&mut self.seat, Seat::Closed) {
            Seat::Ahead(ahead) if ahead.object() == object => {
                let (site, result) = ahead.finish()?;
                self.seat(site);
                Some(result)
            }
            other => {
                self.seat = other;
                None
            }
        }
    }

    /// Ends what goes on.
    pub fn close(self) {
        if let Seat::Ahead(ahead) = self.seat {
            ahead.abandon();
        }
    }

    fn seat(&mut self, mut site: Site) {
        site.keep(self.keep);
        self.seat = Seat::Open(Box::new(site));
    }
}

/// Why a site is not served and what to do: the sandbox holds what was there when the node started.
fn closed(error: &SiteError) -> String {
    format!("{error}; put it right, then restart the node")
}
