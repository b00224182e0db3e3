//! The one virtual clock: what is to happen, in the order in which it does.

use crate::faults::Fault;
use crate::sessions::Batch;
use farmcast::proto::engine::Channel;
use farmcast::time::Instant;
use farmcast::wire::assignment::Shape;
use farmcast::wire::control::Peer;
use farmcast::wire::envelope::Opened;
use farmcast::wire::id::{AssignmentId, ObjectName, RunId};
use farmcast::wire::notify::{NextReply, UplinkBody};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
    Next(AssignmentId, Result<NextReply, ()>),
    Handed(AssignmentId),
    /// The applier has come to the end of a step, which has this serial number.
    Applier(u64),
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

/// Who brings a document to a text port.
#[derive(Clone, Copy, Debug)]
pub enum Bearer {
    /// The CCM, for this run.
    Ccm(RunId),
    /// The leader that hands the assignment on.
    Leader(usize, AssignmentId),
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
    /// A document reaches a text port.
    Document {
        node: usize,
        document: Document,
        from: Bearer,
    },
    /// The CCM's executor looks at what is to be done.
    CcmTurn,
    Fault(Fault),
}

#[derive(Debug, Default)]
pub struct Queue {
    order: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    /// Events by slot; free slots are used again.
    slots: Vec<Option<Event>>,
    free: Vec<u32>,
    serial: u64,
}

impl Queue {
    /// Events of one instant happen in the order in which they were pushed.
    pub fn push(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(event);
        self.order.push(Reverse((at, self.serial, slot)));
    }

    /// The next event if it comes before `end`.
    pub fn pop(&mut self, end: Instant) -> Option<(Instant, Event)> {
        let Reverse((at, _, slot)) = *self.order.peek().filter(|Reverse((at, ..))| *at <= end)?;
        self.order.pop();
        self.free.push(slot);
        Some((at, self.slots[slot as usize].take().expect("a slot of the order is full")))
    }
}
