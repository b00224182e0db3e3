//! Links: network interfaces and their state.

use crate::error::Error;
use crate::message::{Malformed, Request, split, u32_at};
use crate::socket::Socket;

/// Bytes of `struct ifinfomsg`: family u8, pad, type u16, index i32, flags u32, change u32.
pub(crate) const FIXED_BYTES: usize = 16;
/// Longest name of a link (`IFNAMSIZ` without its NUL).
pub const NAME_MAX: usize = 15;

/// `IFF_LOWER_UP`: there is a carrier. `IFF_RUNNING` alone is also set for the moment after a link was switched
/// on, before the kernel has looked.
const LOWER_UP: i32 = 1 << 16;

/// A network interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// An administrator switched it on.
    pub up: bool,
    /// It can carry frames: up, and the cable, peer or radio is there.
    pub running: bool,
    pub loopback: bool,
    /// It carries multicast. `lo` says no, and carries it all the same.
    pub multicast: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// "veth", "bridge", ...; none for a plain Ethernet card.
    pub kind: Option<String>,
    /// The hardware address, where the link has one of six bytes.
    pub address: Option<[u8; 6]>,
    /// The bridge or bond it belongs to.
    pub master: Option<u32>,
}

impl Link {
    /// Reads the payload of `RTM_NEWLINK` or `RTM_DELLINK`.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let (fixed, attributes) = split(payload, "a link", FIXED_BYTES)?;
        let flags = u32_at(fixed, 8).unwrap_or_default();
        let is = |flag: i32| flags & flag as u32 != 0;
        let mut link = Self {
            index: u32_at(fixed, 4).unwrap_or_default(),
            name: String::new(),
            up: is(libc::IFF_UP),
            running: is(libc::IFF_RUNNING) && is(LOWER_UP),
            loopback: is(libc::IFF_LOOPBACK),
            multicast: is(libc::IFF_MULTICAST),
            mtu: 0,
            kind: None,
            address: None,
            master: None,
        };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                libc::IFLA_IFNAME => link.name = attribute.string(),
                libc::IFLA_MTU => link.mtu = attribute.u32()?,
                libc::IFLA_MASTER => link.master = Some(attribute.u32()?),
                libc::IFLA_ADDRESS => link.address = attribute.value.try_into().ok(),
                libc::IFLA_LINKINFO => {
                    for inner in attribute.nested() {
                        let inner = inner?;
                        if inner.kind == libc::IFLA_INFO_KIND {
                            link.kind = Some(inner.string());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(link)
    }
}

/// The fixed part of a request about link `index` (0: none or a new one) that sets `flags` where `change` is 1.
pub(crate) fn fixed(index: u32, flags: u32, change: u32) -> [u8; FIXED_BYTES] {
    let mut bytes = [0; FIXED_BYTES];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// All links of the socket's namespace.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut request = Request::new("list links", libc::RTM_GETLINK, 0);
    request.fixed(&fixed(0, 0, 0));
    socket.dump(&request, libc::RTM_NEWLINK, |message| Link::decode(message.payload))
}

/// The link of that name.
///
/// # Errors
/// [`Error::NoLink`] where there is none.
pub fn link_named(socket: &mut Socket, name: &str) -> Result<Link, Error> {
    let found = links(socket)?.into_iter().find(|link| link.name == name);
    found.ok_or_else(|| Error::NoLink { name: name.to_owned() })
}

/// Refuses what the kernel would cut or misread.
pub(crate) fn check_name(name: &str) -> Result<&str, Error> {
    let odd = |c: char| c.is_whitespace() || c == '/' || c == '\0' || c == ':';
    if name.is_empty() || name.len() > NAME_MAX || name.contains(odd) || name == "." || name == ".." {
        return Err(Error::BadName { name: name.to_owned() });
    }
    Ok(name)
}
