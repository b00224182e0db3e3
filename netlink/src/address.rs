//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::Error;
use crate::message::{Malformed, Request, split, u32_at};
use crate::socket::Socket;

/// Bytes of `struct ifaddrmsg`: family, prefix, flags, scope (u8 each), index u32.
const FIXED_BYTES: usize = 8;

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
}

impl Address {
    /// Reads the payload of `RTM_NEWADDR` or `RTM_DELADDR`; none for a family we do not speak.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (fixed, attributes) = split(payload, "an address", FIXED_BYTES)?;
        let family = fixed[0];
        let (mut local, mut peer) = (None, None);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                libc::IFA_LOCAL => local = ip(family, attribute.value)?,
                // On a point-to-point link the far end, else the same as IFA_LOCAL; IPv6 has only this.
                libc::IFA_ADDRESS => peer = ip(family, attribute.value)?,
                _ => {}
            }
        }
        let link = u32_at(fixed, 4).unwrap_or_default();
        Ok(local.or(peer).map(|address| Self { link, address, prefix: fixed[1] }))
    }
}

/// An address of the given family; none for other families than IPv4 and IPv6.
pub(crate) fn ip(family: u8, value: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let short = Malformed::Short { what: "an IP address", length: value.len() };
    match i32::from(family) {
        libc::AF_INET => value.first_chunk::<4>().map(|bytes| Some(IpAddr::from(*bytes))).ok_or(short),
        libc::AF_INET6 => value.first_chunk::<16>().map(|bytes| Some(IpAddr::from(*bytes))).ok_or(short),
        _ => Ok(None),
    }
}

pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// All IPv4 and IPv6 addresses of the socket's namespace.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let mut request = Request::new("list addresses", libc::RTM_GETADDR, 0);
    request.fixed(&[0; FIXED_BYTES]);
    let found = socket.dump(&request, libc::RTM_NEWADDR, |message| Address::decode(message.payload))?;
    Ok(found.into_iter().flatten().collect())
}

/// The request that puts an address on a link.
pub(crate) fn add(address: &Address) -> Request {
    let mut request = Request::new("add address", libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    // An IPv6 address of the lab is usable at once, without asking the neighbours first.
    let flags = if address.address.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    describe(&mut request, address, flags);
    if let IpAddr::V4(own) = address.address
        && address.prefix < 31
    {
        let hosts = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(own) | hosts);
        request.attribute(libc::IFA_BROADCAST, &broadcast.octets());
    }
    request
}

/// The request that takes an address off a link.
pub(crate) fn remove(address: &Address) -> Request {
    let mut request = Request::new("remove address", libc::RTM_DELADDR, 0);
    describe(&mut request, address, 0);
    request
}

fn describe(request: &mut Request, address: &Address, flags: u8) {
    let mut fixed = [family(address.address), address.prefix, flags, 0, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&address.link.to_ne_bytes());
    let value = octets(address.address);
    request.fixed(&fixed).attribute(libc::IFA_LOCAL, &value).attribute(libc::IFA_ADDRESS, &value);
}
