//! The applier's loop: every request is checked again, carried out, and answered.
//!
//! Whole or not: the command buffer is checked against the publisher's signature, the content of every
//! file that is written against its hash in that buffer, and the tree against the promised result. All of
//! that is computed from the bytes that were written, so it does not matter that net could change the
//! spool while it is read (T12), and the leaf hashes need not be looked at again.

use super::ipc::{Ended, Reply, Request, Service, SiteConfig};
use super::keys::Keys;
use super::place::Place;
use super::scrub::Scrubber;
use crate::content::site::{Site, SwitchError};
use crate::io::clock;
use crate::time::Duration;
use crate::wire::Malformed;
use crate::wire::assignment::{CommandBuffer, Header, Shape};
use crate::wire::control::SiteState;
use crate::wire::id::{AssignmentId, Name, RunId};
use crate::wire::order::{Action, Order};
use crate::wire::report::{Outcome, Reason};
use crate::wire::seal::PublicKey;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest wait for the instant of an order: it blocks all other work of this node's sites.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The applier: its sites, and whom it obeys.
pub struct Applier {
    service: Service,
    publisher: PublicKey,
    director: PublicKey,
    places: BTreeMap<Name, Place>,
    /// A site was opened that could not be at first: net does not know its version yet.
    opened_late: bool,
    scrubber: Scrubber,
    keys: Keys,
}

/// Why a request failed.
pub type Failure = (Reason, String);

impl Applier {
    /// Reads what net sends first and opens the sites. A site that cannot be opened is logged, and tried
    /// again when it is asked for, which helps where the sandbox lets it. `None` where net closed the
    /// socket.
    pub fn start(service: Service) -> io::Result<Option<Self>> {
        let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "net sent no configuration");
        let Some((request, _)) = service.recv()? else { return Ok(None) };
        let Request::Configure { publisher, director, sites } = request else { return Err(unexpected()) };
        let mut places = BTreeMap::new();
        for _ in 0..sites {
            let Some((request, _)) = service.recv()? else { return Ok(None) };
            let Request::Site(SiteConfig { name, root, keep }) = request else { return Err(unexpected()) };
            let (place, trouble) = Place::new(root, usize::from(keep));
            if let Some(text) = trouble {
                let text = format!("site {name}: {text}");
                service.send(&Reply::Log { level: log::Level::Error, text })?;
            }
            places.insert(name, place);
        }
        Ok(Some(Self {
            service,
            publisher,
            director,
            places,
            opened_late: false,
            scrubber: Scrubber::default(),
            keys: Keys::default(),
        }))
    }

    /// The directories of the sites.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.places.values().map(Place::root)
    }

    /// Writes a line to the log of the node.
    pub fn log(&self, level: log::Level, text: impl Into<String>) -> io::Result<()> {
        self.service.send(&Reply::Log { level, text: text.into() })
    }

    /// Serves until net closes the socket. A request that is under way is finished first.
    pub fn serve(mut self) -> io::Result<()> {
        let served = self.serve_open_socket();
        self.places.into_values().for_each(Place::close);
        match served {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            served => served,
        }
    }

    fn serve_open_socket(&mut self) -> io::Result<()> {
        self.send_sites()?;
        loop {
            let (request, file) = match self.service.recv() {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.log(log::Level::Error, error.to_string())?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match request {
                Request::Begin { shape, until } => self.begin(&shape, file, until)?,
                Request::Arrived { object, until } => {
                    self.places.values().for_each(|place| place.advance(&object, until));
                }
                Request::Stage { run, assignment, shape, clock_offset_ns } => {
                    self.stage(run, assignment, &shape, file, clock_offset_ns)?;
                }
                Request::Order { document, clock_offset_ns } => self.order(&document, clock_offset_ns)?,
                Request::Scrub { number, site } => self.scrub(number, &site)?,
                Request::Doubt { site, version } => self.doubt(&site, version)?,
                Request::Key { document } => {
                    if let Err(cause) = self.keys.take(&document, &self.director) {
                        self.log(log::Level::Warn, format!("a content key: {cause}"))?;
                    }
                }
                Request::Configure { .. } | Request::Site(_) => {
                    self.log(log::Level::Error, "a configuration came after the first")?;
                }
            }
            if std::mem::take(&mut self.opened_late) {
                self.send_sites()?;
            }
        }
    }

    fn stage(
        &mut self,
        run: RunId,
        assignment: AssignmentId,
        shape: &Shape,
        file: Option<OwnedFd>,
        clock_offset_ns: i64,
    ) -> io::Result<()> {
        let before = self.states();
        let opened = self.open_assignment(&assignment, shape, file);
        if let Ok((buffer, _)) = &opened
            && let Some(request) = self.keys.request(buffer)
        {
            return self.service.send(&Reply::Wants { object: shape.name, run: Some(run), request });
        }
        let staged = opened.and_then(|(buffer, file)| self.try_stage(assignment, &buffer, &file));
        let done = staged.and_then(|order| match order {
            Some(order) => self.carry_out(&order, clock_offset_ns).map(|at| (order.site, at)).map(Some),
            None => Ok(None),
        });
        let (outcome, switched) = match done {
            Ok(None) => (Outcome::Staged, None),
            Ok(Some((site, at))) => (Outcome::Switched { at }, Some(site)),
            Err((reason, text)) => {
                if self.states() != before {
                    // The site is in doubt from now on: the controller should know before it decides.
                    self.send_sites()?;
                }
                (Outcome::Failed { reason, text }, None)
            }
        };
        self.service.send(&Reply::Staged { run, assignment, outcome })?;
        switched.map_or(Ok(()), |site| self.after_switch(&site))
    }

    /// Returns the order that is in it: what is staged goes live by that (CO-11).
    fn try_stage(
        &mut self,
        assignment: AssignmentId,
        buffer: &CommandBuffer,
        file: &File,
    ) -> Result<Option<Order>, Failure> {
        if buffer.header.assignment != assignment {
            let cause = Malformed::Forged("its number");
            return Err((Reason::Forged, format!("assignment {assignment}: {cause}")));
        }
        let order = self.order_within(&buffer.header)?;
        match self.place(&buffer.header.site)?.finish(&buffer.shape.name) {
            Some(staged) => staged?,
            None => {
                let site = self.site(&buffer.header.site)?;
                site.stage(buffer, file).map_err(|error| (error.reason(), error.to_string()))?;
            }
        }
        Ok(order)
    }

    /// The publisher says what an assignment is; that it goes live is the director's to say.
    fn order_within(&self, header: &Header) -> Result<Option<Order>, Failure> {
        let Some(document) = &header.order else { return Ok(None) };
        let forged = |cause: Malformed| {
            (Reason::Forged, format!("assignment {}: the order in it: {cause}", header.assignment))
        };
        let order = Order::open(document, &self.director).map_err(forged)?;
        let action = Action::Commit { assignment: header.assignment };
        if order.site != header.site || order.action != action {
            return Err(forged(Malformed::Forged("what it is for")));
        }
        Ok(Some(order))
    }

    /// Stages what can be staged of an assignment that has not arrived in whole. Nothing is answered: who asks for
    /// the staging when all is there hears what came of it.
    fn begin(&mut self, shape: &Shape, file: Option<OwnedFd>, until: u64) -> io::Result<()> {
        let opened = self.open_assignment(&shape.name, shape, file);
        if let Ok((buffer, _)) = &opened
            && let Some(request) = self.keys.request(buffer)
        {
            return self.service.send(&Reply::Wants { object: shape.name, run: None, request });
        }
        let begun = opened.and_then(|(buffer, file)| {
            let place = self.place(&buffer.header.site)?;
            place.begin(buffer, file, until);
            Ok(())
        });
        if let Err((_, text)) = begun {
            log::debug!("not staged ahead: {text}");
        }
        Ok(())
    }

    fn open_assignment(
        &self,
        called: &dyn Display,
        shape: &Shape,
        file: Option<OwnedFd>,
    ) -> Result<(CommandBuffer, File), Failure> {
        let file = file.map(File::from).ok_or((Reason::Incomplete, "no file came with it".to_owned()))?;
        let bytes = read_command_buffer(&file, shape)?;
        let forged = |cause: Malformed| (Reason::Forged, format!("assignment {called}: {cause}"));
        let mut buffer = CommandBuffer::open_owned(shape, bytes, &self.publisher).map_err(forged)?;
        self.keys.unseal(&mut buffer).map_err(forged)?;
        Ok((buffer, file))
    }

    fn order(&mut self, document: &[u8], clock_offset_ns: i64) -> io::Result<()> {
        let order = match Order::open(document, &self.director) {
            Ok(order) => order,
            Err(cause) => return self.log(log::Level::Warn, format!("an order: {cause}")),
        };
        let outcome = match self.carry_out(&order, clock_offset_ns) {
            Ok(at) => Outcome::Switched { at },
            Err((reason, text)) => Outcome::Failed { reason, text },
        };
        let Order { run, order, site, .. } = order;
        let switched = matches!(outcome, Outcome::Switched { .. });
        self.service.send(&Reply::Ordered { run, order, site: site.clone(), outcome })?;
        if switched { self.after_switch(&site) } else { Ok(()) }
    }

    fn after_switch(&mut self, site: &Name) -> io::Result<()> {
        self.send_sites()?;
        if let Ok(Err(error)) = self.site(site).map(|site| site.tidy()) {
            self.log(log::Level::Warn, format!("{site}: removing old content: {error}"))?;
        }
        Ok(())
    }

    fn scrub(&mut self, number: u64, name: &Name) -> io::Result<()> {
        let what = self.site(name).map_err(|(_, text)| text).and_then(|site| site.compared());
        let begun = what.and_then(|what| self.scrubber.begin(&self.service, number, what));
        let Err(text) = begun else { return Ok(()) };
        let ended = Ended::Badly(text);
        self.service.send(&Reply::Scrubbed { number, entries: 0, bytes: 0, flaws: 0, ended })
    }

    /// Has the site brought all of its version, which somebody changed.
    fn doubt(&mut self, name: &Name, version: AssignmentId) -> io::Result<()> {
        let doubted = match self.site(name) {
            Ok(site) if site.version() == Some(version) => site.doubt().map_err(|error| error.to_string()),
            Ok(_) => return Ok(()),
            Err((_, text)) => Err(text),
        };
        match doubted {
            Ok(()) => self.send_sites(),
            Err(text) => self.log(log::Level::Error, format!("site {name}: cannot be put in doubt: {text}")),
        }
    }

    /// Returns when it was carried out, by the CCM's clock.
    fn carry_out(&mut self, order: &Order, clock_offset_ns: i64) -> Result<u64, Failure> {
        let now = || clock::monotonic().as_nanos().saturating_add_signed(clock_offset_ns);
        let site = self.site(&order.site)?;
        // One that was carried out may come late again, and is answered as before.
        let overdue = (now() / 1_000_000_000).checked_sub(order.expires);
        if let Some(seconds) = overdue.filter(|_| order.order != site.last_order()) {
            return Err((Reason::OldOrder, format!("order {} expired {seconds} s ago", order.order)));
        }
        let at = order.at.unwrap_or(0);
        let wait = Duration::from_nanos(at.saturating_sub(now()));
        if wait > WAIT_MAX {
            let text = format!("order {} is for an instant {wait} ahead, more than {WAIT_MAX}", order.order);
            return Err((Reason::System, text));
        }
        let refused = |error: SwitchError| (error.reason(), error.to_string());
        let prepared = site.prepare(order.order, order.action, at.max(now())).map_err(refused)?;
        if !prepared.is_done() {
            clock::sleep_until(clock::monotonic() + Duration::from_nanos(at.saturating_sub(now())));
        }
        prepared.exchange(now).map_err(refused)
    }

    fn place(&mut self, name: &Name) -> Result<&mut Place, Failure> {
        self.places.get_mut(name).ok_or_else(|| (Reason::NoSite, format!("this node has no site {name}")))
    }

    fn site(&mut self, name: &Name) -> Result<&mut Site, Failure> {
        if self.place(name)?.is_closed() {
            self.place(name)?.site()?;
            self.opened_late = true;
        }
        self.place(name)?.site()
    }

    fn send_sites(&self) -> io::Result<()> {
        self.service.send(&Reply::Sites(self.states()))
    }

    fn states(&self) -> Vec<SiteState> {
        let state =
            |(name, place): (&Name, &Place)| SiteState { site: name.clone(), version: place.version() };
        self.places.iter().map(state).collect()
    }
}

fn read_command_buffer(file: &File, shape: &Shape) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| (Reason::System, format!("reading the assignment: {error}"));
    let metadata = file.metadata().map_err(unreadable)?;
    // Nothing is allocated for a length that the file does not have.
    if !metadata.is_file() || metadata.len() < shape.file_len() {
        let (have, want) = (metadata.len(), shape.file_len());
        return Err((Reason::Incomplete, format!("the assignment's file has {have} of {want} bytes")));
    }
    let mut bytes = vec![0; shape.command_len as usize];
    file.read_exact_at(&mut bytes, shape.command_offset()).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
