//! Comparing a site with what was signed, beside everything else: in a thread of its own, one at a time.

use super::ipc::{Ended, Reply, Service};
use crate::content::scrub::{Progress, Scrub, scrub};
use std::io;
use std::thread::JoinHandle;

/// Entries between two words on how far it is.
const TELL_EVERY: u64 = 1_000;
/// Flaws that are told one by one; the rest is only counted.
const FLAWS_MAX: u64 = 100;

/// The comparison that is under way, if there is one.
#[derive(Default)]
pub struct Scrubber(Option<JoinHandle<()>>);

impl Scrubber {
    /// Begins to compare what is live of a site. How it gets on is told to net by replies of this number.
    ///
    /// # Errors
    /// A sentence, where nothing can be compared.
    pub fn begin(&mut self, service: &Service, number: u64, what: Scrub) -> Result<(), String> {
        if self.0.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Err("another comparison is under way on this node".to_owned());
        }
        let failed = |error: io::Error| format!("a comparison cannot be begun: {error}");
        let service = service.try_clone().map_err(failed)?;
        let name = "scrub".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || compare(&service, number, &what));
        self.0 = Some(thread.map_err(failed)?);
        Ok(())
    }
}

/// Where net is gone nobody hears, and this process ends too.
fn compare(service: &Service, number: u64, what: &Scrub) {
    let mut told = 0;
    let flawed = |path: &[u8], flaw| {
        told += 1;
        if told <= FLAWS_MAX {
            let _ = service.send(&Reply::Flawed { number, path: path.to_vec(), flaw });
        }
    };
    let mut last = Progress::default();
    let at = |progress: Progress| {
        last = progress;
        if progress.entries.is_multiple_of(TELL_EVERY) {
            let _ = service.send(&scrubbed(number, progress, Ended::No));
        }
    };
    let ended = match scrub(what, flawed, at) {
        Ok(progress) => {
            last = progress;
            Ended::Well
        }
        Err(error) => Ended::Badly(error.to_string()),
    };
    let _ = service.send(&scrubbed(number, last, ended));
}

fn scrubbed(number: u64, at: Progress, ended: Ended) -> Reply {
    Reply::Scrubbed { number, entries: at.entries, bytes: at.bytes, flaws: at.flaws, ended }
}
