//! What a node does over TCP on its own account: pull objects, post to the CCM, hand notifications on.

mod handing;
mod pulling;
#[cfg(test)]
mod tests;

pub use handing::Caller;
pub use pulling::PullLimits;

use super::store::Store;
use crate::io::clock;
use crate::io::http::client::{Client, Event};
use crate::time::{Duration, Instant};
use crate::wire::groups::GroupList;
use crate::wire::id::{AssignmentId, ObjectName};
use crate::wire::key_grant::KeyRequest;
use crate::wire::notify::{NextReply, UplinkBody};
use crate::wire::report::Reason;
use handing::Handing;
use heapless::Deque;
use mio::{Registry, Token};
use pulling::{Active, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Transfers under way at once; more wait in the machines that ask for them.
pub const TRANSFERS_MAX: usize = 64;
/// Requests to the CCM that may wait.
const POSTS_MAX: usize = 64;
/// Patience with a peer that moves no byte.
const IDLE: Duration = Duration::from_secs(10);
/// Longest answer to a post: a list of groups.
const ANSWER_MAX: usize = GroupList::MAX;

/// How a transfer ended.
#[derive(Debug)]
pub enum Done {
    Fetched(ObjectName),
    /// The first leaves of an object are verified: others may have them.
    Begun(ObjectName),
    FetchFailed(ObjectName, FetchError),
    /// The answer to a [`UplinkBody::Next`].
    Next(AssignmentId, Result<NextReply, String>),
    /// The answer to a [`UplinkBody::Seek`]: a signed document.
    Peers(Result<Vec<u8>, String>),
    /// The answer to a [`UplinkBody::Key`]: a signed document.
    Key(KeyRequest, Result<Vec<u8>, String>),
    /// Any other post.
    Posted(UplinkBody, Result<Vec<u8>, String>),
    Handed(AssignmentId, Result<(), String>),
}

/// Why an object was not pulled.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct FetchError {
    /// Where trying again does not help.
    pub fatal: Option<Reason>,
    pub text: String,
}

/// What the CCM's clock showed between two readings of ours, nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample {
    pub sent: u64,
    pub controller: u64,
    pub received: u64,
}

#[derive(Debug)]
enum Transfer {
    Fetch(Request),
    Post {
        client: Client,
        body: Box<UplinkBody>,
        status: u16,
        answer: Vec<u8>,
        sent: u64,
        sample: Option<ClockSample>,
    },
    Hand(Box<Handing>),
}

#[derive(Debug)]
pub struct Transfers {
    first: usize,
    places: Vec<Option<Transfer>>,
    ccm: SocketAddr,
    limits: PullLimits,
    /// Who we are to other leaders.
    caller: Caller,
    pulls: BTreeMap<ObjectName, Active>,
    /// Objects that came wrong, and how often in a row.
    forged: BTreeMap<ObjectName, u32>,
    /// Who sent which object wrong: asked for it again only where nobody else has it.
    distrusted: BTreeSet<(ObjectName, SocketAddr)>,
    /// Signed requests that wait for the one before to be answered: the CCM takes them in their order only,
    /// and two connections could overtake each other.
    posts: Deque<(UplinkBody, Vec<u8>), POSTS_MAX>,
    posting: bool,
    /// Of whole objects and parts of them.
    pub fetched_bytes: u64,
    pub posted_bytes: u64,
}

impl Transfers {
    pub fn new(first: Token, ccm: SocketAddr, limits: PullLimits, caller: Caller) -> Self {
        let places = (0..TRANSFERS_MAX).map(|_| None).collect();
        Self {
            first: first.0,
            places,
            ccm,
            limits,
            caller,
            pulls: BTreeMap::new(),
            forged: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            posts: Deque::new(),
            posting: false,
            fetched_bytes: 0,
            posted_bytes: 0,
        }
    }

    pub fn tokens(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.places.len()
    }

    /// Posts a signed request to the CCM, after those before it. Returns those that failed at once.
    pub fn post(
        &mut self,
        registry: &Registry,
        body: UplinkBody,
        signed: Vec<u8>,
        now: Instant,
    ) -> Vec<Done> {
        match self.posts.push_back((body, signed)) {
            Ok(()) => self.next_posts(registry, now),
            Err((body, _)) => vec![posted(body, Err("too many requests wait for the CCM".to_owned()))],
        }
    }

    /// Sends the next request that waits, where none is under way.
    fn next_posts(&mut self, registry: &Registry, now: Instant) -> Vec<Done> {
        let mut failed = Vec::new();
        while !self.posting
            && let Some((body, signed)) = self.posts.pop_front()
        {
            if let Err((body, text)) = self.begin_post(registry, body, &signed, now) {
                failed.push(posted(*body, Err(text)));
            }
        }
        failed
    }

    fn begin_post(
        &mut self,
        registry: &Registry,
        body: UplinkBody,
        signed: &[u8],
        now: Instant,
    ) -> Result<(), (Box<UplinkBody>, String)> {
        let body = Box::new(body);
        let Some(place) = self.free_place() else { return Err((body, "too many transfers".to_owned())) };
        let client = Client::post(self.ccm, "/v1/uplink", "application/octet-stream", signed, now, IDLE);
        let client = client.map_err(|error| error.to_string()).and_then(|mut client| {
            client.register(registry, self.token(place)).map_err(|error| error.to_string())?;
            Ok(client)
        });
        match client {
            Ok(client) => {
                self.posted_bytes += signed.len() as u64;
                let (status, answer, sent, sample) = (0, Vec::new(), clock::wall_ns(), None);
                self.places[place] = Some(Transfer::Post { client, body, status, answer, sent, sample });
                self.posting = true;
                Ok(())
            }
            Err(text) => Err((body, text)),
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let of = |transfer: &Transfer| match transfer {
            Transfer::Fetch(request) => request.client.deadline(),
            Transfer::Post { client, .. } => client.deadline(),
            Transfer::Hand(handing) => Some(handing.deadline),
        };
        let transfers = self.places.iter().flatten().filter_map(of);
        transfers.chain(self.pulls.values().filter_map(|active| active.pull.next_deadline())).min()
    }

    /// Goes on with every transfer whose deadline has passed.
    pub fn expire(
        &mut self,
        registry: &Registry,
        store: &mut Store,
        now: Instant,
    ) -> Vec<(Done, Option<ClockSample>)> {
        let mut done = self.drop_slow(registry, store, now);
        done.extend((0..self.places.len()).flat_map(|place| self.drive(registry, store, place, now)));
        done
    }

    pub fn handle_event(
        &mut self,
        registry: &Registry,
        store: &mut Store,
        token: Token,
        now: Instant,
    ) -> Vec<(Done, Option<ClockSample>)> {
        token.0.checked_sub(self.first).map_or_else(Vec::new, |place| self.drive(registry, store, place, now))
    }

    /// Goes on with a transfer as far as it gets; where it ended, with the requests that waited for it.
    fn drive(
        &mut self,
        registry: &Registry,
        store: &mut Store,
        place: usize,
        now: Instant,
    ) -> Vec<(Done, Option<ClockSample>)> {
        let mut done = if matches!(self.places.get(place), Some(Some(Transfer::Fetch(_)))) {
            self.step_fetch(registry, store, place, now)
        } else {
            self.step(registry, place, now).into_iter().collect()
        };
        done.extend(self.next_posts(registry, now).into_iter().map(|done| (done, None)));
        done
    }

    fn step(
        &mut self,
        registry: &Registry,
        place: usize,
        now: Instant,
    ) -> Option<(Done, Option<ClockSample>)> {
        let token = self.token(place);
        let transfer = self.places.get_mut(place)?.as_mut()?;
        let done = match transfer {
            Transfer::Fetch(_) => None,
            Transfer::Post { client, body, status, answer, sent, sample } => {
                let end = loop {
                    match client.next(now) {
                        None => break None,
                        Some(Event::Head { status: found, time, .. }) => {
                            *status = found;
                            let received = clock::wall_ns();
                            *sample =
                                time.map(|controller| ClockSample { sent: *sent, controller, received });
                        }
                        Some(Event::Body(bytes)) if answer.len() + bytes.len() <= ANSWER_MAX => {
                            answer.extend_from_slice(bytes);
                        }
                        Some(Event::Body(_)) => break Some(Err("its answer is too long".to_owned())),
                        Some(Event::Done) if (200..300).contains(status) => break Some(Ok(())),
                        Some(Event::Done) => {
                            let text = String::from_utf8_lossy(answer);
                            break Some(Err(format!("it answered with status {status}: {text}")));
                        }
                        Some(Event::Failed(error)) => break Some(Err(error.to_string())),
                    }
                };
                let (end, sample) = (end?, *sample);
                let (body, answer) =
                    (std::mem::replace(body.as_mut(), placeholder()), std::mem::take(answer));
                self.places[place] = None;
                self.posting = false;
                let end = end.map(|()| answer);
                let done = match (&body, end) {
                    (UplinkBody::Next(request), Ok(answer)) => {
                        let reply =
                            NextReply::decode(&answer).map_err(|error| format!("its answer: {error}"));
                        Done::Next(request.assignment, reply)
                    }
                    (UplinkBody::Next(request), Err(text)) => Done::Next(request.assignment, Err(text)),
                    (UplinkBody::Seek(_), end) => Done::Peers(end),
                    (_, end) => posted(body, end),
                };
                return Some((done, sample));
            }
            Transfer::Hand(handing) => {
                let end = handing.drive(registry, token, now);
                end.map(|end| Done::Handed(handing.assignment, end))
            }
        };
        let done = done?;
        self.places[place] = None;
        Some((done, None))
    }

    fn free_place(&self) -> Option<usize> {
        self.places.iter().position(Option::is_none)
    }

    const fn token(&self, place: usize) -> Token {
        Token(self.first + place)
    }
}

fn posted(body: UplinkBody, result: Result<Vec<u8>, String>) -> Done {
    match (body, result) {
        (UplinkBody::Next(request), Err(text)) => Done::Next(request.assignment, Err(text)),
        (UplinkBody::Seek(_), result) => Done::Peers(result),
        (UplinkBody::Key(request), result) => Done::Key(request, result),
        (body, result) => Done::Posted(body, result),
    }
}

const fn placeholder() -> UplinkBody {
    use crate::wire::id::RunId;
    use crate::wire::notify::NextRequest;
    UplinkBody::Next(NextRequest { run: RunId(0), assignment: AssignmentId(0), whole: false })
}
