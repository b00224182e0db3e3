//! The frame of every netlink message: a header, a fixed part, attributes that may nest.
//!
//! ```text
//!  0        4      6      8          12         16
//!  +--------+------+------+----------+----------+---------------------+------------------+
//!  | length | kind | flags| sequence | port     | fixed part          | attributes ...   |
//!  +--------+------+------+----------+----------+---------------------+------------------+
//!  attribute: length u16 (with these 4 bytes), kind u16, value, padding to 4
//! ```
//!
//! Integers are in the byte order of the machine, for both ends are on it. Parsing never panics and never
//! allocates; a length that lies ends the walk with an error.

use std::fmt;

/// Bytes of the header (linux/netlink.h, `struct nlmsghdr`).
pub const HEADER_BYTES: usize = 16;
/// Bytes in front of an attribute's value (`struct nlattr`).
pub const ATTRIBUTE_BYTES: usize = 4;
/// Everything starts at a multiple of so many bytes (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
const ALIGN: usize = 4;
/// The kind of an attribute without the marks for nesting and byte order (`NLA_TYPE_MASK`).
const KIND_MASK: u16 = 0x3fff;
/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// Bytes that the kernel's headers do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A header or its message reaches over the end.
    Message { length: usize, left: usize },
    /// An attribute reaches over the end.
    Attribute { length: usize, left: usize },
    /// A fixed part or a value is shorter than its meaning.
    Short { what: &'static str, length: usize },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { length, left } => write!(f, "a message of {length} bytes where {left} are left"),
            Self::Attribute { length, left } => {
                write!(f, "an attribute of {length} bytes where {left} are left")
            }
            Self::Short { what, length } => write!(f, "{what} of only {length} bytes"),
        }
    }
}

impl std::error::Error for Malformed {}

/// One message out of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub payload: &'a [u8],
}

/// Walks the messages of a datagram; ends after the first broken one.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    left: &'a [u8],
}

impl<'a> Messages<'a> {
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { left: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.left);
        let length = u32_at(bytes, 0).map_or(0, |length| length as usize);
        if length < HEADER_BYTES || length > bytes.len() {
            return Some(Err(Malformed::Message { length, left: bytes.len() }));
        }
        self.left = bytes.get(aligned(length)..).unwrap_or_default();
        // The header is whole, as was checked, so none of the defaults is ever taken.
        Some(Ok(Message {
            kind: u16_at(bytes, 4).unwrap_or_default(),
            flags: u16_at(bytes, 6).unwrap_or_default(),
            sequence: u32_at(bytes, 8).unwrap_or_default(),
            port: u32_at(bytes, 12).unwrap_or_default(),
            payload: &bytes[HEADER_BYTES..length],
        }))
    }
}

impl<'a> Message<'a> {
    /// The fixed part of `size` bytes and the attributes behind it.
    pub fn split(&self, what: &'static str, size: usize) -> Result<(&'a [u8], Attributes<'a>), Malformed> {
        split(self.payload, what, size)
    }

    /// What the kernel answers in a message of kind `NLMSG_ERROR`: its error number (0 is an
    /// acknowledgement) and its sentence.
    pub fn verdict(&self) -> Result<(i32, Option<String>), Malformed> {
        let short = Malformed::Short { what: "an error", length: self.payload.len() };
        let number = i32::from_ne_bytes(array_at(self.payload, 0).ok_or(short)?);
        // Behind the number: the header of our request, and unless capped its payload, then attributes.
        let echoed = match self.flags & libc::NLM_F_CAPPED as u16 {
            0 => u32_at(self.payload, 4).map_or(HEADER_BYTES, |length| length as usize),
            _ => HEADER_BYTES,
        };
        let mut said = None;
        if self.flags & libc::NLM_F_ACK_TLVS as u16 != 0 {
            let behind = self.payload.get(4usize.saturating_add(aligned(echoed))..).unwrap_or_default();
            let text = Attributes::new(behind).flatten().find(|attribute| attribute.kind == ERROR_TEXT);
            said = text.map(|attribute| attribute.string());
        }
        Ok((number.saturating_neg(), said))
    }
}

/// `NLMSGERR_ATTR_MSG`: the kernel's sentence about an error.
const ERROR_TEXT: u16 = 1;

/// A fixed part of `size` bytes, and the attributes behind it.
pub fn split<'a>(
    payload: &'a [u8],
    what: &'static str,
    size: usize,
) -> Result<(&'a [u8], Attributes<'a>), Malformed> {
    match payload.split_at_checked(size) {
        Some((fixed, _)) => Ok((fixed, Attributes::new(payload.get(aligned(size)..).unwrap_or_default()))),
        None => Err(Malformed::Short { what, length: payload.len() }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.value.first().copied().ok_or_else(|| self.short("a number of 1 byte"))
    }

    pub fn u16(&self) -> Result<u16, Malformed> {
        u16_at(self.value, 0).ok_or_else(|| self.short("a number of 2 bytes"))
    }

    pub fn u32(&self) -> Result<u32, Malformed> {
        u32_at(self.value, 0).ok_or_else(|| self.short("a number of 4 bytes"))
    }

    /// Text up to its NUL; bytes that are no UTF-8 become U+FFFD.
    pub fn string(&self) -> String {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    fn short(&self, what: &'static str) -> Malformed {
        Malformed::Short { what, length: self.value.len() }
    }
}

/// Walks attributes; ends after the first broken one.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    left: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.left);
        let length = usize::from(u16_at(bytes, 0).unwrap_or_default());
        if length < ATTRIBUTE_BYTES || length > bytes.len() {
            return Some(Err(Malformed::Attribute { length, left: bytes.len() }));
        }
        self.left = bytes.get(aligned(length)..).unwrap_or_default();
        let kind = u16_at(bytes, 2).unwrap_or_default() & KIND_MASK;
        Some(Ok(Attribute { kind, value: &bytes[ATTRIBUTE_BYTES..length] }))
    }
}

/// A request in the making. The header's length is set when it is finished.
#[derive(Clone, Debug)]
pub struct Request {
    /// What we are about to do, for the message of an error: "create veth pair".
    pub doing: &'static str,
    bytes: Vec<u8>,
}

impl Request {
    /// `flags` besides `NLM_F_REQUEST`.
    pub fn new(doing: &'static str, kind: u16, flags: i32) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        Self { doing, bytes }
    }

    /// Appends the fixed part of a message or of a nested structure.
    pub fn fixed(&mut self, part: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(part);
        self.pad();
        self
    }

    /// # Panics
    /// If `value` exceeds what an attribute's length can say: our own bug, all our values are small.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE_BYTES + value.len()).expect("our attributes are small");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attribute(kind, &[value])
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Text with its NUL.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute that holds what `inner` appends, marked as nested.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        self.hold(kind | NESTED, inner)
    }

    /// The same without the mark, for what the kernel has held unmarked since before there was one.
    pub fn hold(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attribute(kind, &[]);
        inner(self);
        let length = u16::try_from(self.bytes.len() - start).expect("our attributes are small");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// The finished message.
    pub fn encode(&self, sequence: u32, extra_flags: i32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).expect("our requests are small");
        let flags = u16_at(&bytes, 6).unwrap_or_default() | extra_flags as u16;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

const fn aligned(length: usize) -> usize {
    length.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
