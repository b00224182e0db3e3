//! Routes: which link a packet leaves by.

use std::net::IpAddr;

use crate::address::{family, ip, octets};
use crate::error::Error;
use crate::message::{Malformed, Request, split};
use crate::socket::Socket;

/// Bytes of `struct rtmsg`: family, destination and source prefix, TOS, table, protocol, scope, type (u8
/// each), flags u32.
const FIXED_BYTES: usize = 12;

/// One entry of a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network and prefix length in bits; none for the default route.
    pub destination: Option<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    /// Index of the link that packets leave by; a route over several links names none.
    pub link: Option<u32>,
    /// The source address that packets get.
    pub source: Option<IpAddr>,
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
    is_ipv6: bool,
    is_unicast: bool,
}

impl Route {
    /// Reads the payload of `RTM_NEWROUTE` or `RTM_DELROUTE`; none for a family we do not speak.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (fixed, attributes) = split(payload, "a route", FIXED_BYTES)?;
        let family = fixed[0];
        if !matches!(i32::from(family), libc::AF_INET | libc::AF_INET6) {
            return Ok(None);
        }
        let mut route = Self {
            destination: None,
            gateway: None,
            link: None,
            source: None,
            table: u32::from(fixed[4]),
            metric: 0,
            is_ipv6: i32::from(family) == libc::AF_INET6,
            is_unicast: fixed[7] == libc::RTN_UNICAST,
        };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                libc::RTA_DST => route.destination = ip(family, attribute.value)?.map(|net| (net, fixed[1])),
                libc::RTA_GATEWAY => route.gateway = ip(family, attribute.value)?,
                libc::RTA_PREFSRC => route.source = ip(family, attribute.value)?,
                libc::RTA_OIF => route.link = Some(attribute.u32()?),
                libc::RTA_TABLE => route.table = attribute.u32()?,
                libc::RTA_PRIORITY => route.metric = attribute.u32()?,
                _ => {}
            }
        }
        Ok(Some(route))
    }

    /// Whether this is a default route that carries packets of the given family from the main table.
    fn is_default(&self, ipv6: bool) -> bool {
        let everywhere = self.destination.is_none_or(|(_, prefix)| prefix == 0);
        everywhere && self.is_unicast && self.is_ipv6 == ipv6 && self.table == u32::from(libc::RT_TABLE_MAIN)
    }
}

/// All routes of the socket's namespace, of both families and all tables.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut request = Request::new("list routes", libc::RTM_GETROUTE, 0);
    request.fixed(&[0; FIXED_BYTES]);
    let found = socket.dump(&request, libc::RTM_NEWROUTE, |message| Route::decode(message.payload))?;
    Ok(found.into_iter().flatten().collect())
}

/// The default route with the lowest metric, if there is one.
pub fn default_route(routes: &[Route], ipv6: bool) -> Option<&Route> {
    routes.iter().filter(|route| route.is_default(ipv6)).min_by_key(|route| route.metric)
}

/// The route that a packet to `destination` would take now: link and source address in particular.
pub fn route_to(socket: &mut Socket, destination: IpAddr) -> Result<Route, Error> {
    let mut request = Request::new("look up route", libc::RTM_GETROUTE, 0);
    let value = octets(destination);
    let mut fixed = [0; FIXED_BYTES];
    fixed[0] = family(destination);
    fixed[1] = (value.len() * 8) as u8;
    request.fixed(&fixed).attribute(libc::RTA_DST, &value);
    let doing = request.doing;
    let found = socket.ask(&request, libc::RTM_NEWROUTE, |message| Route::decode(message.payload))?;
    let nothing = Malformed::Short { what: "a route", length: 0 };
    found.flatten().ok_or(Error::Malformed { doing, source: nothing })
}

/// The request that sends a network out by a link, as `224.0.0.0/4 dev eth0` does.
pub(crate) fn add(destination: (IpAddr, u8), link: u32) -> Request {
    let mut request = Request::new("add route", libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    let (network, prefix) = destination;
    let mut fixed = [0; FIXED_BYTES];
    fixed[0] = family(network);
    fixed[1] = prefix;
    fixed[4] = libc::RT_TABLE_MAIN;
    fixed[5] = libc::RTPROT_BOOT;
    fixed[6] = libc::RT_SCOPE_LINK;
    fixed[7] = libc::RTN_UNICAST;
    request.fixed(&fixed).attribute(libc::RTA_DST, &octets(network)).u32(libc::RTA_OIF, link);
    request
}
