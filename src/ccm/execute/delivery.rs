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

    /// Sends a document to the leader of a segment; what was on its way there is called off.
    pub fn send(
        &mut self,
        run: RunId,
        segment: &Name,
        to: NodeId,
        text: SocketAddr,
        verb: Verb,
        bytes: &[u8],
    ) {
        let word = match verb {
            Verb::Notify => "notify",
            Verb::Order => "order",
        };
        let line = format!("{word} document={}", hex(bytes));
        let task = deliver(self.ports.clone(), format!("run {run}: {word} to {segment}"), to, text, line);
        let task = tokio::spawn(task);
        self.under_way.insert((run, segment.clone()), Delivery { to, verb, task });
    }

    /// Whether this leader is being sent a document of this kind.
    pub fn is_under_way(&self, run: RunId, segment: &Name, to: NodeId, verb: Verb) -> bool {
        let found = self.under_way.get(&(run, segment.clone()));
        found.is_some_and(|delivery| delivery.to == to && delivery.verb == verb)
    }

    pub fn call_off(&mut self, run: RunId, segment: &Name) {
        self.under_way.remove(&(run, segment.clone()));
    }

    /// Calls off what belongs to other runs.
    pub fn retain(&mut self, keep: impl Fn(&RunId) -> bool) {
        self.under_way.retain(|(run, _), _| keep(run));
    }
}

pub(super) async fn deliver(ports: TextPorts, what: String, to: NodeId, addr: SocketAddr, line: String) {
    let mut backoff = BACKOFF_FIRST;
    let mut complained = false;
    loop {
        match ports.request(to, addr, &line).await {
            Ok(()) => {
                backoff = BACKOFF_FIRST;
                tokio::time::sleep(REPEAT).await;
            }
            Err(error) => {
                // The first failure is news, the rest is patience.
                let level = if complained { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{what}: {error}; trying again");
                complained = true;
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}
