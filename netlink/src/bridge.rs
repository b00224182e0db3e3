//! Bridges: the switch of a segment.

use crate::link::fixed;
use crate::message::Request;

/// `IFLA_BR_*` (linux/if_link.h).
const FORWARD_DELAY: u16 = 1;
const STP_STATE: u16 = 5;
const MULTICAST_SNOOPING: u16 = 23;
const MULTICAST_QUERIER: u16 = 25;

/// How a bridge treats multicast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Frames for a group go only to ports where somebody joined it; else to every port, as by a plain hub.
    pub snooping: bool,
    /// The bridge asks itself who has joined, as a router of the segment would. Without any querier a
    /// snooping bridge forgets members after some minutes.
    pub querier: bool,
}

/// The request that makes a bridge. It forwards from the first moment: no spanning tree.
pub(crate) fn create(name: &str, bridge: Bridge) -> Request {
    let mut request = Request::new("create bridge", libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    request.fixed(&fixed(0, 0, 0)).string(libc::IFLA_IFNAME, name).hold(libc::IFLA_LINKINFO, |info| {
        info.attribute(libc::IFLA_INFO_KIND, b"bridge").hold(libc::IFLA_INFO_DATA, |data| {
            data.u32(STP_STATE, 0).u32(FORWARD_DELAY, 0);
            data.u8(MULTICAST_SNOOPING, bridge.snooping.into()).u8(MULTICAST_QUERIER, bridge.querier.into());
        });
    });
    request
}
