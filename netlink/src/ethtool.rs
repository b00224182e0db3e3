//! Speed and duplex of a link, over the kernel's generic netlink family "ethtool" (Linux 5.6 and later).

use crate::error::Error;
use crate::message::{Malformed, Message, Request, split};
use crate::socket::{Protocol, Socket};

/// Bytes of `struct genlmsghdr`: command, version, reserved.
const FIXED_BYTES: usize = 4;
/// `ETHTOOL_MSG_LINKMODES_GET` and its attributes (linux/ethtool_netlink_generated.h).
const LINKMODES_GET: u8 = 4;
const LINKMODES_HEADER: u16 = 1;
const LINKMODES_SPEED: u16 = 5;
const LINKMODES_DUPLEX: u16 = 6;
/// `ETHTOOL_A_HEADER_DEV_INDEX`.
const HEADER_INDEX: u16 = 1;
/// `SPEED_UNKNOWN`: the driver has no figure, as with a pulled cable.
const SPEED_UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplex {
    Half,
    Full,
}

/// What a card negotiated with its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Mbit/s; none where the driver does not know.
    pub mbit: Option<u32>,
    pub duplex: Option<Duplex>,
}

impl Speed {
    /// Reads the payload of `ETHTOOL_MSG_LINKMODES_GET_REPLY`.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let (_, attributes) = split(payload, "a generic header", FIXED_BYTES)?;
        let mut speed = Self { mbit: None, duplex: None };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                LINKMODES_SPEED => speed.mbit = Some(attribute.u32()?).filter(|&mbit| mbit != SPEED_UNKNOWN),
                LINKMODES_DUPLEX => {
                    speed.duplex = match attribute.u8()? {
                        0 => Some(Duplex::Half),
                        1 => Some(Duplex::Full),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        Ok(speed)
    }
}

/// Asks for the speed of links.
#[derive(Debug)]
pub struct Ethtool {
    socket: Socket,
    /// None where the kernel has no such family.
    family: Option<u16>,
}

impl Ethtool {
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let family = match socket.ask(&find_family(), libc::GENL_ID_CTRL as u16, |m| family_of(&m)) {
            Ok(found) => found.flatten(),
            Err(error) if error.errno() == Some(libc::ENOENT) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { socket, family })
    }

    /// Speed of the link; none where kernel, driver or kind of link cannot say (loopback, bridge).
    pub fn speed(&mut self, link: u32) -> Result<Option<Speed>, Error> {
        let Some(family) = self.family else { return Ok(None) };
        match self.socket.ask(&ask_speed(family, link), family, |message| Speed::decode(message.payload)) {
            Ok(speed) => Ok(speed),
            Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::ENODEV)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn find_family() -> Request {
    let mut request = Request::new("look up the ethtool family", libc::GENL_ID_CTRL as u16, 0);
    request.fixed(&[libc::CTRL_CMD_GETFAMILY as u8, 1, 0, 0]);
    request.string(libc::CTRL_ATTR_FAMILY_NAME as u16, "ethtool");
    request
}

fn family_of(message: &Message<'_>) -> Result<Option<u16>, Malformed> {
    let (_, attributes) = message.split("a generic header", FIXED_BYTES)?;
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == libc::CTRL_ATTR_FAMILY_ID as u16 {
            return attribute.u16().map(Some);
        }
    }
    Ok(None)
}

pub(crate) fn ask_speed(family: u16, link: u32) -> Request {
    let mut request = Request::new("ask for the speed of a link", family, 0);
    request.fixed(&[LINKMODES_GET, 1, 0, 0]).nest(LINKMODES_HEADER, |header| {
        header.u32(HEADER_INDEX, link);
    });
    request
}
