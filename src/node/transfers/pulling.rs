//! Objects pulled over HTTP from leaders, the CCM, or any server that has them: requests and answers to
//! [`Pull`], which decides who brings what.

use super::{Done, FetchError, IDLE, TRANSFERS_MAX, Transfer, Transfers};
use crate::io::http::client::{Client, Event};
use crate::io::http::head::Range;
use crate::node::store::Store;
use crate::node::transfers::ClockSample;
use crate::proto::pull::{Lacking, Pull};
use crate::time::Instant;
use crate::wire::assignment::Shape;
use crate::wire::id::ObjectName;
use crate::wire::report::Reason;
use mio::Registry;
use std::io;
use std::net::SocketAddr;

/// Pulls of one object from the CCM that may bring what the publisher did not sign: a bit may flip on the
/// way, a disk that rots will not get better. Where a leader is the source, the CCM names another in time.
const FORGED_MAX: u32 = 3;
/// Chunks of one answer before others have their turn.
const CHUNKS_MAX: u32 = 16;

/// How objects are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullLimits {
    /// Sources of one object at the same time.
    pub at_once: usize,
    /// Bytes a second, over ten seconds, below which a source is left for the next.
    pub rate_min: u64,
}

/// An object that is being pulled.
#[derive(Debug)]
pub(super) struct Active {
    shape: Shape,
    pub(super) pull: Pull,
    /// That its first leaves are here was told.
    begun: bool,
    /// Why the last source was left.
    error: Option<FetchError>,
}

/// One request for a run of blocks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) client: Client,
    object: ObjectName,
    source: SocketAddr,
    span: Span,
    status: u16,
    /// Bytes of the answer before the run: of a server that knows no ranges.
    skip: u64,
}

/// The run of blocks that a request brings, in the order of the file.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The block that arrives now, and the first one after the run.
    block: u32,
    end: u32,
    /// Bytes of that block that have arrived.
    within: usize,
}

/// What an answer has led to.
enum Turn {
    /// An event will come.
    Wait,
    /// It could go on, but others are to have their turn.
    Yield,
    /// The connection has served its purpose, or the answer is over.
    End,
    Failed(FetchError),
}

impl FetchError {
    fn passing(text: impl ToString) -> Self {
        Self { fatal: None, text: text.to_string() }
    }

    fn of_disk(error: &io::Error) -> Self {
        let fatal = Some(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Reason::NoSpace
            }
            _ => Reason::System,
        });
        Self { fatal, text: format!("the spool cannot be written: {error}; see state_dir") }
    }
}

impl Transfers {
    /// Begins to pull what the spool lacks of an object, from the first of the sources that has it. An earlier pull
    /// of the same object is given up.
    pub fn fetch(
        &mut self,
        registry: &Registry,
        store: &Store,
        shape: Shape,
        sources: &[SocketAddr],
        now: Instant,
    ) -> Option<Done> {
        let name = shape.name;
        self.drop_requests(|request| request.object == name);
        let PullLimits { at_once, rate_min } = self.limits;
        let wrong = |source: &SocketAddr| self.distrusted.contains(&(name, *source));
        let pull = Pull::new(sources, at_once, rate_min, wrong);
        self.pulls.insert(name, Active { shape, pull, begun: false, error: None });
        self.request(registry, store, &name, now)
    }

    fn drop_requests(&mut self, which: impl Fn(&Request) -> bool) {
        for place in &mut self.places {
            if matches!(place, Some(Transfer::Fetch(request)) if which(request)) {
                *place = None;
            }
        }
    }

    /// Makes the requests that are due. `Some` where the pull has come to its end.
    fn request(
        &mut self,
        registry: &Registry,
        store: &Store,
        name: &ObjectName,
        now: Instant,
    ) -> Option<Done> {
        let mut active = self.pulls.remove(name)?;
        let (shape, border) = (active.shape, active.shape.command_blocks());
        let lacks = |block| !store.is_verified(name, block);
        // Data is known to be right only when the commands are here.
        let blocks = if (0..border).any(lacks) { border } else { shape.blocks() };
        let lacking = Lacking { lacks: &lacks, blocks, border };
        while let Some((source, run)) = active.pull.next_request(now, &lacking) {
            let begun =
                self.begin(registry, &shape, source, Span { block: run.start, end: run.end, within: 0 }, now);
            if let Err(text) = begun {
                active.pull.on_failed(source, false);
                active.error = Some(FetchError::passing(format!("http://{source}: {text}")));
            }
        }
        if active.pull.is_busy() {
            self.pulls.insert(*name, active);
            return None;
        }
        if store.is_complete(name) {
            self.forged.remove(name);
            return Some(Done::Fetched(*name));
        }
        let error = active.error.unwrap_or_else(|| FetchError::passing("no source was named"));
        Some(Done::FetchFailed(*name, error))
    }

    fn begin(
        &mut self,
        registry: &Registry,
        shape: &Shape,
        source: SocketAddr,
        span: Span,
        now: Instant,
    ) -> Result<(), String> {
        let place = self.free_place().ok_or_else(|| "too many transfers".to_owned())?;
        let (start, _) = shape.block(span.block);
        let (last, last_len) = shape.block(span.end - 1);
        let range = Range::Between(start, last + last_len as u64 - 1);
        let path = format!("/o/{}", shape.name);
        let client = Client::get(source, &path, Some(range), now, IDLE);
        let mut client = client.map_err(|error| error.to_string())?;
        client.register(registry, self.token(place)).map_err(|error| error.to_string())?;
        let request = Request { client, object: shape.name, source, span, status: 0, skip: 0 };
        self.places[place] = Some(Transfer::Fetch(request));
        Ok(())
    }

    /// Goes on with one answer as far as it gets.
    pub(super) fn step_fetch(
        &mut self,
        registry: &Registry,
        store: &mut Store,
        place: usize,
        now: Instant,
    ) -> Vec<(Done, Option<ClockSample>)> {
        let token = self.token(place);
        let Some(Some(Transfer::Fetch(request))) = self.places.get_mut(place) else { return Vec::new() };
        let (name, source) = (request.object, request.source);
        let Some(active) = self.pulls.get_mut(&name) else { return Vec::new() };
        let (turn, bytes) = request.turn(active, store, now);
        self.fetched_bytes += bytes;
        let mut done = Vec::new();
        if !active.begun && store.is_verified(&name, active.shape.command_blocks()) {
            active.begun = true;
            done.push((Done::Begun(name), None));
        }
        let failed = match turn {
            Turn::Wait => return done,
            Turn::Yield => match request.client.rearm(registry, token) {
                Ok(()) => return done,
                Err(error) => Some(FetchError::passing(error)),
            },
            Turn::End => None,
            Turn::Failed(error) => Some(error),
        };
        self.places[place] = None;
        if let Some(error) = failed {
            done.extend(self.on_failed(&name, source, error).map(|done| (done, None)));
        }
        done.extend(self.request(registry, store, &name, now).map(|done| (done, None)));
        done
    }

    /// A source failed; `Some` where no other can help.
    fn on_failed(&mut self, name: &ObjectName, source: SocketAddr, error: FetchError) -> Option<Done> {
        let wrong = matches!(error.fatal, Some(Reason::Forged));
        let fatal = match error.fatal {
            Some(Reason::Forged) => self.note_forged(name, source),
            other => other,
        };
        let hint = if wrong { "; if that goes on, look at its disk" } else { "" };
        let error = FetchError { fatal, text: format!("http://{source}: {}{hint}", error.text) };
        if error.fatal.is_some() {
            self.pulls.remove(name);
            self.drop_requests(|request| request.object == *name);
            return Some(Done::FetchFailed(*name, error));
        }
        let active = self.pulls.get_mut(name)?;
        active.pull.on_failed(source, wrong);
        if active.pull.has_more() {
            log::warn!("assignment {name:?}: {error}; going on with another source");
        }
        active.error = Some(error);
        None
    }

    /// Remembers who sent what is wrong. `Some` where even the CCM does so again and again.
    fn note_forged(&mut self, name: &ObjectName, source: SocketAddr) -> Option<Reason> {
        // Lists of what is wrong must not grow with what an attacker sends.
        if self.forged.len() >= TRANSFERS_MAX {
            self.forged.clear();
        }
        if self.distrusted.len() >= TRANSFERS_MAX {
            self.distrusted.clear();
        }
        self.distrusted.insert((*name, source));
        if source != self.ccm {
            return None;
        }
        let times = self.forged.entry(*name).or_default();
        *times += 1;
        if *times < FORGED_MAX {
            return None;
        }
        self.forged.remove(name);
        Some(Reason::Forged)
    }

    /// Leaves sources that trickle.
    pub(super) fn drop_slow(
        &mut self,
        registry: &Registry,
        store: &Store,
        now: Instant,
    ) -> Vec<(Done, Option<ClockSample>)> {
        let slow = self
            .pulls
            .iter_mut()
            .flat_map(|(name, active)| active.pull.too_slow(now).into_iter().map(|source| (*name, source)));
        let slow: Vec<(ObjectName, SocketAddr)> = slow.collect();
        let mut done = Vec::new();
        for (name, source) in slow {
            self.drop_requests(|request| request.object == name && request.source == source);
            let least = self.limits.rate_min;
            let error = FetchError::passing(format!("it sends less than {least} bytes a second"));
            done.extend(self.on_failed(&name, source, error));
            done.extend(self.request(registry, store, &name, now));
        }
        done.into_iter().map(|done| (done, None)).collect()
    }
}

impl Request {
    /// Takes what has come; also returns how many bytes of content that were.
    fn turn(&mut self, active: &mut Active, store: &mut Store, now: Instant) -> (Turn, u64) {
        let (mut total, shape, source) = (0, active.shape, self.source);
        let failed = |text: String| Turn::Failed(FetchError::passing(text));
        for _ in 0..CHUNKS_MAX {
            let bytes = match self.client.next(now) {
                None => return (Turn::Wait, total),
                Some(Event::Head { status, content_length, .. }) => {
                    self.status = status;
                    match status {
                        206 => {}
                        // It knows no ranges and sends the whole object.
                        200 if content_length == shape.file_len() => {
                            self.skip = shape.block(self.span.block).0
                        }
                        404 => return (failed("it does not have the assignment".to_owned()), total),
                        other => return (failed(format!("it answered with status {other}")), total),
                    }
                    continue;
                }
                Some(Event::Body(bytes)) => bytes,
                Some(Event::Done) => {
                    return (failed("its answer was shorter than what was asked for".to_owned()), total);
                }
                Some(Event::Failed(error)) => return (Turn::Failed(FetchError::passing(error)), total),
            };
            total += bytes.len() as u64;
            active.pull.on_bytes(source, bytes.len());
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            match self
                .span
                .take(store, &shape, &bytes[skipped as usize..], |block| active.pull.on_block(source, block))
            {
                Ok(true) => {}
                Ok(false) => return (Turn::End, total),
                Err(error) => return (Turn::Failed(error), total),
            }
        }
        (Turn::Yield, total)
    }
}

impl Span {
    /// Stores bytes of the run as they come, and has every block hashed as soon as it is whole. False where the
    /// rest of the run, if any, is not wanted of this source.
    fn take(
        &mut self,
        store: &mut Store,
        shape: &Shape,
        mut bytes: &[u8],
        mut on_block: impl FnMut(u32) -> bool,
    ) -> Result<bool, FetchError> {
        while !bytes.is_empty() {
            if self.block >= self.end {
                return Ok(false);
            }
            let (offset, len) = shape.block(self.block);
            let (head, rest) = bytes.split_at(bytes.len().min(len - self.within));
            store
                .write(&shape.name, offset + self.within as u64, head)
                .map_err(|error| FetchError::of_disk(&error))?;
            (self.within, bytes) = (self.within + head.len(), rest);
            if self.within == len {
                let verdicts = store.on_block(&shape.name, self.block);
                if verdicts.iter().any(|(_, right)| !right) {
                    let text = "what it sent is not what the publisher signed".to_owned();
                    return Err(FetchError { fatal: Some(Reason::Forged), text });
                }
                let block = self.block;
                (self.block, self.within) = (block + 1, 0);
                if !on_block(block) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
