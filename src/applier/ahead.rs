//! Staging that begins while its assignment still arrives, in a thread of its own.
//!
//! It saves the time that staging takes after the last byte, and nothing else: what comes of it is told when net
//! asks for the staging, as if it had begun then. Whatever else is asked of the site goes before it.

use super::apply::Failure;
use crate::content::site::Site;
use crate::content::source::{Arrival, Source};
use crate::wire::assignment::CommandBuffer;
use crate::wire::id::{AssignmentId, ObjectName};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A site and the staging that has it.
pub struct Ahead {
    object: ObjectName,
    /// The site's version; staging does not change it.
    version: Option<AssignmentId>,
    arrival: Arc<Arrival>,
    thread: JoinHandle<(Site, Result<(), Failure>)>,
}

impl Ahead {
    /// Begins; of `file` the first `until` bytes are there.
    ///
    /// # Errors
    /// The system has no thread for it. The site is closed then.
    pub fn begin(mut site: Site, buffer: CommandBuffer, file: File, until: u64) -> io::Result<Self> {
        let (object, version, arrival) = (buffer.shape.name, site.version(), Arc::new(Arrival::default()));
        arrival.advance(until);
        let reads = Arc::clone(&arrival);
        let thread = thread::Builder::new().name("ahead".to_owned()).spawn(move || {
            let staged = site.stage_from(&buffer, Source::growing(&file, &reads));
            (site, staged.map(drop).map_err(|error| (error.reason(), error.to_string())))
        })?;
        Ok(Self { object, version, arrival, thread })
    }

    pub const fn object(&self) -> &ObjectName {
        &self.object
    }

    pub const fn version(&self) -> Option<AssignmentId> {
        self.version
    }

    /// The file has come so far.
    pub fn advance(&self, until: u64) {
        self.arrival.advance(until);
    }

    /// All of the file is there: waits for what comes of it. `None` where the thread died of a bug of ours, and
    /// the site has to be opened again.
    pub fn finish(self) -> Option<(Site, Result<(), Failure>)> {
        self.arrival.complete();
        self.thread.join().ok()
    }

    /// Gives it up; nothing stays of it. `None` as of [`finish`](Self::finish).
    pub fn abandon(self) -> Option<Site> {
        self.arrival.abandon();
        self.thread.join().ok().map(|(site, _)| site)
    }
}
