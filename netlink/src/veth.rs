//! Veth pairs: a cable with a link at both ends.

use std::os::fd::RawFd;

use crate::link::fixed;
use crate::message::Request;

/// `VETH_INFO_PEER` (linux/veth.h).
const INFO_PEER: u16 = 1;

/// The request that makes the pair `name` and `peer`; the peer is born in the namespace behind the descriptor
/// `peer_namespace`, where one is given.
pub(crate) fn create(name: &str, peer: &str, peer_namespace: Option<RawFd>) -> Request {
    let mut request =
        Request::new("create veth pair", libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    request.fixed(&fixed(0, 0, 0)).string(libc::IFLA_IFNAME, name).hold(libc::IFLA_LINKINFO, |info| {
        info.attribute(libc::IFLA_INFO_KIND, b"veth").hold(libc::IFLA_INFO_DATA, |data| {
            data.hold(INFO_PEER, |other| {
                other.fixed(&fixed(0, 0, 0)).string(libc::IFLA_IFNAME, peer);
                if let Some(namespace) = peer_namespace {
                    other.u32(libc::IFLA_NET_NS_FD, namespace as u32);
                }
            });
        });
    });
    request
}
