//! The comparison of a site with what was signed, as the CCM asks for it: the applier does it, we keep what it found
//! until the CCM has fetched it.

use super::Shell;
use super::act::ApplierRequest;
use crate::applier::ipc::Ended;
use crate::wire::console::{Code, Reply};
use crate::wire::id::AssignmentId;
use crate::wire::scrub::{Flaw, ScrubRequest};

/// Most bytes of paths that are kept, so that a reply stays within what the CCM reads.
const PATHS_MAX: usize = 8 * 1024;

/// The comparison that was asked for last.
#[derive(Debug)]
pub(super) struct Scrubbing {
    request: ScrubRequest,
    /// The version that it is about; 0 for none.
    version: u64,
    entries: u64,
    bytes: u64,
    flaws: u64,
    found: Vec<(Vec<u8>, Flaw)>,
    /// Bytes of paths in `found`.
    kept: usize,
    ended: Ended,
}

impl Shell {
    /// Begins a comparison, or says how far the one of this request is.
    pub(super) fn take_scrub(&mut self, document: &[u8]) -> Reply {
        let request = match ScrubRequest::open(document, &self.farm.director) {
            Ok(request) => request,
            Err(error) => return Reply::refused(Code::Denied, format!("the request is refused: {error}")),
        };
        if request.node != self.engine.node() {
            return Reply::refused(Code::Denied, "the request is for another node");
        }
        if self.is_expired(request.expires) {
            return Reply::refused(Code::Denied, "the request has expired");
        }
        match &self.scrubbing {
            Some(last) if last.request.number == request.number => return last.reply(),
            Some(last) if last.ended == Ended::No => {
                return Reply::refused(Code::Busy, "another comparison is under way on this node");
            }
            _ => {}
        }
        let Some(state) = self.sites.iter().find(|state| state.site == request.site) else {
            return Reply::refused(Code::NotFound, format!("this node has no site {}", request.site));
        };
        let version = state.version.map_or(0, |version| version.0);
        log::info!("site {}: comparing version {version} with what was signed", request.site);
        self.applier_queue
            .push_back(ApplierRequest::Scrub { number: request.number, site: request.site.clone() });
        let (entries, bytes, flaws, kept) = (0, 0, 0, 0);
        let scrubbing =
            Scrubbing { request, version, entries, bytes, flaws, found: Vec::new(), kept, ended: Ended::No };
        self.scrubbing.insert(scrubbing).reply()
    }

    pub(super) fn note_flaw(&mut self, number: u64, path: Vec<u8>, flaw: Flaw) {
        if let Some(scrubbing) = self.scrubbing.as_mut().filter(|last| last.request.number == number)
            && scrubbing.kept + path.len() <= PATHS_MAX
        {
            scrubbing.kept += path.len();
            scrubbing.found.push((path, flaw));
        }
    }

    pub(super) fn note_scrub(&mut self, number: u64, counts: [u64; 3], ended: Ended) {
        let Some(scrubbing) = self.scrubbing.as_mut().filter(|last| last.request.number == number) else {
            return;
        };
        [scrubbing.entries, scrubbing.bytes, scrubbing.flaws] = counts;
        let site = &scrubbing.request.site;
        match &ended {
            Ended::No => {}
            Ended::Well => {
                log::info!("site {site}: {} entries, {} flaws", scrubbing.entries, scrubbing.flaws)
            }
            Ended::Badly(text) => log::warn!("site {site}: cannot be compared: {text}"),
        }
        let is_wrong = scrubbing.flaws > 0 || matches!(ended, Ended::Badly(_));
        if is_wrong && ended != Ended::No && scrubbing.request.doubt {
            self.applier_queue.push_back(ApplierRequest::Doubt {
                site: site.clone(),
                version: AssignmentId(scrubbing.version),
            });
        }
        scrubbing.ended = ended;
    }
}

impl Scrubbing {
    fn reply(&self) -> Reply {
        let (state, text) = match &self.ended {
            Ended::No => ("running", ""),
            Ended::Well => ("done", ""),
            Ended::Badly(text) => ("failed", text.as_str()),
        };
        let reply = Reply::table()
            .with("state", state)
            .with("version", self.version)
            .with("entries", self.entries)
            .with("bytes", self.bytes)
            .with("flaws", self.flaws)
            .with("text", text);
        self.found.iter().fold(reply, |reply, (path, flaw)| {
            reply.row("flaw", vec![("path", path.as_slice().into()), ("what", flaw.to_string().into())])
        })
    }
}
