//! The one virtual clock: what is to happen, in the order in which it does.

use crate::faults::Fault;
use crate::sessions::Batch;
use farmcast::proto::engine::Channel;
use farmcast::time::Instant;
use farmcast::wire::assignment::Shape;
use farmcast::wire::control::Peer;
use farmcast::wire::envelope::Opened;
use farmcast::wire::id::{AssignmentId, ObjectName, OrderId, RunId};
use farmcast::wire::notify::{NextLeader, UplinkBody};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;

/// What happens at a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// From whom, on which channel, and what; no channel: to this node alone.
    Message(SocketAddr, Option<Channel>, Rc<Opened>),
    /// Frames of the batch whose bit is set.
    Frames(Rc<Batch>, u64),
    /// Blocks of an object by HTTP; whether that was all.
    Fetched {
        name: ObjectName,
        serial: u64,
        blocks: Vec<u32>,
        whole: bool,
    },
    /// The CCM answered a post: our wall clock when it was sent, the CCM's, and a list of groups that is newer.
    Posted {
        sent: u64,
        controller: u64,
        groups: Option<Vec<u8>>,
    },
    PostFailed(Box<UplinkBody>),
    /// The CCM's answer on who is in the segment.
    Peers(Vec<Peer>),
    Next(AssignmentId, Result<Option<NextLeader>, ()>),
    Handed(AssignmentId),
    /// The applier is done with staging.
    Staged {
        run: RunId,
        shape: Shape,
        assignment: AssignmentId,
    },
    /// The instant of an order has come, by the node's own corrected clock.
    Switch {
        run: RunId,
        order: OrderId,
        assignment: AssignmentId,
    },
    Measure,
}

impl Input {
    /// Datagrams wait in a bounded buffer while a node is paused.
    pub const fn is_datagram(&self) -> bool {
        matches!(self, Self::Message(..) | Self::Frames(..))
    }
}

#[derive(Clone, Debug)]
pub enum Document {
    Notification(Vec<u8>),
    Order(Vec<u8>),
}

#[derive(Clone, Debug)]
pub enum Event {
    /// `boot` where the input belongs to one life of the node.
    At {
        node: usize,
        boot: Option<u32>,
        input: Input,
    },
    /// The deadline that the engine named.
    Wake {
        node: usize,
        boot: u32,
    },
    /// An HTTP request for an object reaches its source; `None`: the CCM.
    Pull {
        node: usize,
        boot: u32,
        serial: u64,
        shape: Shape,
        source: Option<usize>,
    },
    /// A post reaches the CCM.
    Post {
        node: usize,
        boot: u32,
        sent: u64,
        body: Box<UplinkBody>,
    },
    /// A document reaches a text port; `from` is the leader that hands it on, `None` the CCM.
    Document {
        node: usize,
        document: Document,
        from: Option<(usize, AssignmentId)>,
    },
    CcmTick,
    Fault(Fault),
}

#[derive(Debug, Default)]
pub struct Queue {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    serial: u64,
}

impl Queue {
    pub fn push(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.order.push(Reverse((at, self.serial)));
        self.events.insert(self.serial, event);
    }

    /// The next event if it comes before `end`.
    pub fn pop(&mut self, end: Instant) -> Option<(Instant, Event)> {
        let Reverse((at, serial)) = *self.order.peek().filter(|Reverse((at, _))| *at <= end)?;
        self.order.pop();
        Some((at, self.events.remove(&serial).expect("pushed with its serial number")))
    }
}
