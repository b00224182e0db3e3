//! What the API and the executor share: configuration, keys, database, the running distributions.

use super::checkpoints::Checkpoints;
use super::config::Config;
use super::db::{DbError, Store};
use super::distribute::{Distribution, HandOut, Next, Outcome, Paths, Source};
use super::flow::Flow;
use super::issue::Issuer;
use super::keys::Keys;
use super::model::Run;
use super::reach::Reach;
use super::remote::Remote;
use super::scheduler::bandwidth;
use super::scheduler::window::Window;
use super::textport::TextPorts;
use super::uploads::Uploads;
use crate::wire::bound::Bounds;
use crate::wire::id::{Name, NodeId, ObjectName, RunId};
use crate::wire::notify::{NextLeader, NextReply, NextRequest, Notification, Seek};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// After so many milliseconds a leader that still serves one asks again for the next.
const WAIT_MS: u16 = 100;

/// A notification is void so long after it was signed: it outlives every lease and no restored backup.
const NOTIFICATION_LIFE_S: u64 = 24 * 3_600;

#[derive(Debug)]
pub struct Controller {
    pub config: Config,
    pub keys: Keys,
    /// By which it calls on leaders.
    pub text_ports: TextPorts,
    /// Where nodes reach this controller.
    pub reachable_at: SocketAddr,
    pub started_ns: u64,
    pub checkpoints: Checkpoints,
    pub uploads: Uploads,
    /// Wakes the executor: something it decides on has changed.
    pub wake: Notify,
    store: Arc<Mutex<Store>>,
    distributions: Mutex<BTreeMap<RunId, ActiveRun>>,
    paths: Mutex<Paths>,
    reach: Mutex<Reach>,
    /// Windows as the executor saw them last.
    windows: Mutex<Arc<[Window]>>,
    flow: Mutex<Flow>,
    served_bytes: AtomicU64,
    /// Event streams that are open.
    pub streams: AtomicU32,
    /// The API over TLS.
    pub remote: Remote,
}

/// A run that is being distributed.
#[derive(Debug)]
pub struct ActiveRun {
    pub run: Run,
    /// The content group that it goes to.
    pub group: Name,
    pub distribution: Distribution,
    /// Nothing more is handed out for now.
    pub paused: bool,
    /// What its leaders were told that they may send.
    pub told: Bounds,
    /// The smallest bound that has held since it was composed, in bytes per second.
    pub slowest: Option<u64>,
}

impl Controller {
    pub fn new(config: Config, keys: Keys, store: Store, reachable_at: SocketAddr, now_ns: u64) -> Self {
        Self {
            checkpoints: Checkpoints::new(config.checkpoints()),
            uploads: Uploads::default(),
            config,
            text_ports: TextPorts::new(&keys.director),
            keys,
            reachable_at,
            started_ns: now_ns,
            wake: Notify::new(),
            store: Arc::new(Mutex::new(store)),
            distributions: Mutex::default(),
            paths: Mutex::default(),
            reach: Mutex::default(),
            windows: Mutex::new(Arc::from([])),
            flow: Mutex::default(),
            served_bytes: AtomicU64::new(0),
            streams: AtomicU32::new(0),
            remote: Remote::default(),
        }
    }

    /// Runs a piece of work on the database, away from the threads that serve the network.
    pub async fn store<T, E>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let store = Arc::clone(&self.store);
        blocking(move || work(&mut lock(&store))).await
    }

    /// The database from a thread that may block.
    pub fn store_blocking<T>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        work(&mut lock(&self.store))
    }

    pub fn distributions(&self) -> MutexGuard<'_, BTreeMap<RunId, ActiveRun>> {
        lock(&self.distributions)
    }

    /// What was measured of the ways to leaders.
    pub fn paths(&self) -> MutexGuard<'_, Paths> {
        lock(&self.paths)
    }

    /// Hand-outs of an object of so many bytes ended.
    pub fn note_outcomes(&self, outcomes: Vec<Outcome>, bytes: u64) {
        let mut paths = self.paths();
        outcomes.into_iter().for_each(|outcome| paths.note(outcome, bytes));
    }

    pub fn reach(&self) -> MutexGuard<'_, Reach> {
        lock(&self.reach)
    }

    /// Answers a node that looks for its segment, signed (LD-24).
    ///
    /// # Errors
    /// The database's.
    pub async fn peers(&self, asker: NodeId, seek: &Seek, now_ns: u64) -> Result<Vec<u8>, DbError> {
        let (nodes, segments) =
            self.store(|store| Ok::<_, DbError>((store.nodes()?, store.segments()?))).await?;
        let leader = segments.iter().find(|segment| segment.name == seek.segment).and_then(|of| of.leader);
        Ok(self.reach().on_seek(asker, seek, &nodes, leader, now_ns).sign(&self.keys.director))
    }

    /// Answers a leader that holds a copy: whom it may serve next (GD-11, GD-13).
    pub fn next(&self, asker: NodeId, request: &NextRequest, now_ns: u64) -> NextReply {
        let mut distributions = self.distributions();
        let active = distributions
            .get_mut(&request.run)
            .filter(|active| active.run.sent().is_some_and(|assignment| assignment.id == request.assignment));
        let Some(active) = active else { return NextReply::Nobody };
        if active.paused {
            return NextReply::Wait { millis: WAIT_MS };
        }
        let next = active.distribution.next(asker, request.whole, now_ns);
        let bytes = active.run.sent().map_or(0, |assignment| assignment.shape.file_len());
        self.note_outcomes(active.distribution.take_outcomes(), bytes);
        match next {
            Next::Serve(hand_out) => {
                let (job, segment) = (active.run.job, &hand_out.leader.segment);
                log::info!("job {job}: {segment} is to fetch it from {}", hand_out.source);
                let notification = self.notification(&active.run, &active.group, &hand_out, now_ns);
                NextReply::Serve(NextLeader { text: hand_out.leader.text, notification })
            }
            Next::Wait => NextReply::Wait { millis: WAIT_MS },
            Next::Nobody => NextReply::Nobody,
        }
    }

    /// The signed document of a hand-out (GD-8, GD-9).
    pub fn notification(&self, run: &Run, group: &Name, hand_out: &HandOut, now_ns: u64) -> Vec<u8> {
        let assignment = run.sent().expect("a run that is distributed has an assignment");
        let (source, others) = self.sources(hand_out);
        let notification = Notification {
            run: run.id,
            assignment: assignment.id,
            site: run.site.clone(),
            group: group.clone(),
            groups: hand_out.leader.groups,
            shape: assignment.shape,
            leader: hand_out.leader.node,
            source,
            others,
            forward: self.config.forward.into(),
            last: hand_out.last,
            quorum: run.terms.rules.local_quorum.or(self.config.local_quorum),
            bounds: bandwidth::bounds(&self.windows(), &run.site, now_ns),
            expires: now_ns / super::clock::NS_PER_S + NOTIFICATION_LIFE_S,
        };
        notification.sign(&self.keys.director)
    }

    /// Where to fetch, and where else. Who would fetch from us is sent to the mirrors first, if there are any, each
    /// leader to another one.
    fn sources(&self, hand_out: &HandOut) -> (SocketAddr, Vec<SocketAddr>) {
        if let Source::Leader(http) = hand_out.source {
            return (http, hand_out.others.clone());
        }
        let mirrors = &self.config.mirrors;
        let mut all: Vec<SocketAddr> = mirrors.iter().copied().take(Notification::OTHERS_MAX).collect();
        if !all.is_empty() {
            let first = hand_out.leader.node.0 % all.len() as u64;
            all.rotate_left(first as usize);
        }
        all.push(self.reachable_at);
        (all[0], all[1..].to_vec())
    }

    pub fn windows(&self) -> Arc<[Window]> {
        Arc::clone(&lock(&self.windows))
    }

    pub fn set_windows(&self, windows: Vec<Window>) {
        *lock(&self.windows) = windows.into();
    }

    /// The site that an object is being distributed for.
    pub fn site_of(&self, object: &ObjectName) -> Option<Name> {
        let is_it = |run: &Run| run.assignment.is_some_and(|assignment| assignment.shape.name == *object);
        let distributions = self.distributions();
        distributions.values().find(|active| is_it(&active.run)).map(|active| active.run.site.clone())
    }

    /// Until when content of a site has to wait that we would send; `None` where it may leave now.
    pub fn waits_to_send(&self, site: &Name, now_ns: u64) -> Option<u64> {
        let bound = bandwidth::bound(&self.windows(), site, now_ns);
        lock(&self.flow).waits(site, bound, now_ns)
    }

    /// Notes that so many bytes of content of a site leave now.
    pub fn note_sent(&self, site: &Name, bytes: u64, now_ns: u64) {
        let bound = bandwidth::bound(&self.windows(), site, now_ns);
        lock(&self.flow).book(site, bound, bytes, now_ns);
    }

    /// What lists of content groups are made with.
    pub const fn issuer(&self) -> Issuer<'_> {
        Issuer { director: &self.keys.director, range: &self.config.data_channels }
    }

    pub fn count_served(&self, bytes: u64) {
        self.served_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn served_bytes(&self) -> u64 {
        self.served_bytes.load(Ordering::Relaxed)
    }
}

/// Runs work that blocks on a thread that may. A panic in it goes on here; while the runtime stops, this
/// never ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// A thread that panicked while it held the lock has left no half-written value behind: the database
/// rolls its transaction back, the distributions change in one assignment each.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
