//! Documents on their way to leaders: each is sent again until it is replaced, called off, or its run is over.

use crate::ccm::textport::TextPorts;
use crate::wire::id::{Name, NodeId, RunId, hex};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A leader that took a document is told again so often until it is called off: it may have been restarted
/// and know nothing of it any more.
const REPEAT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Notify,
    Order,
}

#[derive(Debug)]
struct Delivery {
    to: NodeId,
    verb: Verb,
    task: JoinHandle<()>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// At most one document per run and segment is on its way: the newest.
#[derive(Debug)]
pub struct Deliveries {
    ports: TextPorts,
    under_way: BTreeMap<(RunId, Name), Delivery>,
}

impl Deliveries {
    pub const fn new(ports: TextPorts) -> Self {
        Self { ports, under_way: BTreeMap::new() }
    }

    /// Sends a document to the leader of a segment, again and again; what was on its way there is called off.
    pub fn send(
        &mut self,
        run: RunId,
        segment: &Name,
        to: NodeId,
        text: SocketAddr,
        verb: Verb,
        bytes: &[u8],
    ) {
        let (what, line) = line(run, segment, verb, bytes);
        let task = tokio::spawn(deliver(self.ports.clone(), what, to, text, line));
        self.under_way.insert((run, segment.clone()), Delivery { to, verb, task });
    }

    /// The same to one that is not told again once it has taken it, unless it was told again and again before.
    pub fn send_once(
        &mut self,
        run: RunId,
        segment: &Name,
        to: NodeId,
        text: SocketAddr,
        verb: Verb,
        bytes: &[u8],
    ) {
        if self.is_under_way(run, segment, to, verb) {
            return self.send(run, segment, to, text, verb, bytes);
        }
        let ((what, line), ports) = (line(run, segment, verb, bytes), self.ports.clone());
        let task = tokio::spawn(async move { hand_over(&ports, &what, to, text, &line).await });
        self.under_way.insert((run, segment.clone()), Delivery { to, verb, task });
    }

    /// Whether this leader is being sent a document of this kind.
    pub fn is_under_way(&self, run: RunId, segment: &Name, to: NodeId, verb: Verb) -> bool {
        let found = self.under_way.get(&(run, segment.clone()));
        found.is_some_and(|of| of.to == to && of.verb == verb && !of.task.is_finished())
    }

    pub fn call_off(&mut self, run: RunId, segment: &Name) {
        self.under_way.remove(&(run, segment.clone()));
    }

    /// Calls off what belongs to other runs.
    pub fn retain(&mut self, keep: impl Fn(&RunId) -> bool) {
        self.under_way.retain(|(run, _), _| keep(run));
    }
}

fn line(run: RunId, segment: &Name, verb: Verb, bytes: &[u8]) -> (String, String) {
    let word = match verb {
        Verb::Notify => "notify",
        Verb::Order => "order",
    };
    (format!("run {run}: {word} to {segment}"), format!("{word} document={}", hex(bytes)))
}

/// Never returns.
pub(super) async fn deliver(ports: TextPorts, what: String, to: NodeId, addr: SocketAddr, line: String) {
    loop {
        hand_over(&ports, &what, to, addr, &line).await;
        tokio::time::sleep(REPEAT).await;
    }
}

/// Tries until it is taken.
async fn hand_over(ports: &TextPorts, what: &str, to: NodeId, addr: SocketAddr, line: &str) {
    let mut backoff = BACKOFF_FIRST;
    let mut complained = false;
    while let Err(error) = ports.request(to, addr, line).await {
        // The first failure is news, the rest is patience.
        let level = if complained { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{what}: {error}; trying again");
        complained = true;
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
