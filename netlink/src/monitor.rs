//! Follows what happens to links, addresses and routes.
//!
//! The order that misses nothing: [`Monitor::open`], then [`Monitor::snapshot`], then
//! [`Monitor::next_events`] whenever the descriptor is readable. An event may tell what the snapshot already
//! holds; none is lost. After [`Event::Overrun`] something was: take another snapshot.

use std::os::fd::{AsRawFd, RawFd};

use crate::address::{Address, addresses};
use crate::error::Error;
use crate::link::{Link, links};
use crate::message::{Malformed, Message, Messages};
use crate::route::{Route, routes};
use crate::socket::{Protocol, Received, Socket};

/// Most datagrams read in one call, so that a storm of events cannot hold the loop.
const DRAIN_MAX: usize = 64;
/// Most datagrams thrown away after an overrun, for the same reason. The queue is seldom longer.
const DISCARD_MAX: usize = 4096;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is new or looks different; this is how it looks now.
    LinkChanged(Link),
    /// The link of this index is gone.
    LinkGone(u32),
    AddressAdded(Address),
    AddressRemoved(Address),
    /// Some route came or went: ask again for those that matter.
    RouteChanged,
    /// Events were lost and so were all that waited: forget what events told and take a snapshot.
    Overrun,
}

/// All links, addresses and routes at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

/// A subscription; never blocks.
#[derive(Debug)]
pub struct Monitor {
    events: Socket,
    requests: Socket,
    /// Messages that could not be read; each was skipped.
    pub malformed: u64,
}

impl Monitor {
    /// Subscribes with the kernel's usual queue (`net.core.rmem_default`).
    pub fn open() -> Result<Self, Error> {
        Self::subscribe(None)
    }

    /// Subscribes with a queue of about `bytes`; a large farm of containers can need more than usual.
    pub fn open_with_queue(bytes: i32) -> Result<Self, Error> {
        Self::subscribe(Some(bytes))
    }

    fn subscribe(queue_bytes: Option<i32>) -> Result<Self, Error> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE;
        let events = Socket::subscribe(groups as u32, queue_bytes)?;
        Ok(Self { events, requests: Socket::open(Protocol::Route)?, malformed: 0 })
    }

    /// All there is now. Blocks for as long as the kernel takes to write it down.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            links: links(&mut self.requests)?,
            addresses: addresses(&mut self.requests)?,
            routes: routes(&mut self.requests)?,
        })
    }

    /// Appends what happened since the last call. True if more may be waiting.
    ///
    /// # Errors
    /// Only where the socket is broken for good; an overrun is an event.
    pub fn next_events(&mut self, events: &mut Vec<Event>) -> Result<bool, Error> {
        let doing = "read netlink events";
        for _ in 0..DRAIN_MAX {
            match self.events.receive(doing)? {
                (Received::Empty, _) => return Ok(false),
                (Received::Overrun, _) => {
                    // What still waits is older than the snapshot to come and would only undo it.
                    let more = self.discard()?;
                    events.push(Event::Overrun);
                    return Ok(more);
                }
                (Received::Datagram(_), datagram) => self.malformed += read_events(datagram, events),
            }
        }
        Ok(true)
    }

    fn discard(&mut self) -> Result<bool, Error> {
        for _ in 0..DISCARD_MAX {
            if let (Received::Empty, _) = self.events.receive("read netlink events")? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

/// Appends the events of one datagram; returns how many messages could not be read.
pub fn read_events(datagram: &[u8], events: &mut Vec<Event>) -> u64 {
    let mut malformed = 0;
    for message in Messages::new(datagram) {
        match message.and_then(|message| event_of(&message)) {
            // A burst of routes is one change to whoever has to ask anyway.
            Ok(Some(Event::RouteChanged)) if events.last() == Some(&Event::RouteChanged) => {}
            Ok(event) => events.extend(event),
            Err(_) => malformed += 1,
        }
    }
    malformed
}

fn event_of(message: &Message<'_>) -> Result<Option<Event>, Malformed> {
    // A bridge speaks of its ports in its own family: half a description when one joins, "deleted" when one only
    // leaves. The link itself is told of in another message each time.
    let is_bridge_port = message.payload.first() == Some(&(libc::AF_BRIDGE as u8));
    Ok(match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK if is_bridge_port => None,
        libc::RTM_NEWLINK => Some(Event::LinkChanged(Link::decode(message.payload)?)),
        libc::RTM_DELLINK => Some(Event::LinkGone(Link::decode(message.payload)?.index)),
        libc::RTM_NEWADDR => Address::decode(message.payload)?.map(Event::AddressAdded),
        libc::RTM_DELADDR => Address::decode(message.payload)?.map(Event::AddressRemoved),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Event::RouteChanged),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
