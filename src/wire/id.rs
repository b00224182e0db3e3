//! The names by which machines call things. Each is its own type, so that one cannot be passed for another.

use super::{Decoder, Encoder, Malformed};
use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $read:ident, $format:literal) => {
        number!($(#[$doc])* $name, $inner, $read);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $inner:ty, $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            pub fn encode(self, out: &mut Encoder) {
                out.$read(self.0);
            }

            pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
                Ok(Self(from.$read(stringify!($name))?))
            }
        }
    };
}

number!(
    /// A server: the first eight bytes of the BLAKE3 hash of its public key. Not tied to its address.
    NodeId, u64, u64, "{:016x}"
);
number!(
    /// An assignment: the CCM's sequence number, never used twice (AS-6). Also the version of a site. In the bits
    /// from [`AssignmentId::VERSION_BITS`] on stands which part of it this is (AS-13), 0 where it makes the version.
    AssignmentId, u64, u64
);
number!(
    /// What an operator defined to be distributed (JT-19).
    JobId, u64, u64, "{}"
);
number!(
    /// One execution of a job.
    RunId, u64, u64, "{}"
);
number!(
    /// A signed instruction of the CCM; strictly increasing, so that an old one is recognised.
    OrderId, u64, u64, "{}"
);
number!(
    /// A list of the content groups of a segment; strictly increasing, so that an old one is recognised. 0 stands
    /// for none.
    ListNumber, u64, u64, "{}"
);
number!(
    /// What the CCM decided of a segment; strictly increasing for each segment, 0 before the first.
    CharterId, u64, u64, "{}"
);
number!(
    /// One transmission of one assignment on a data channel; random, so that it doubles as a cookie.
    SessionId, u32, u32, "{:08x}"
);
number!(
    /// The reign of a leader of a segment: above the highest heard of (F5, F8), and no two leaders share one:
    /// the upper 48 bits count, the lower 16 are the leader's.
    Epoch, u64, u64
);

impl AssignmentId {
    /// A version takes so many bits: a million million of them.
    pub const VERSION_BITS: u32 = 40;
    /// Most parts before the last. The whole number stays below 2^53: every reader of JSON takes it as it is.
    pub const PARTS_MAX: u16 = (1 << 12) - 1;

    /// The number of a part of this one, from 1 on.
    ///
    /// # Panics
    /// If there is no such part, or this one is a part itself: both are our own bugs.
    pub fn part_of(self, part: u16) -> Self {
        assert!((1..=Self::PARTS_MAX).contains(&part) && self.part() == 0, "part {part} of {self}");
        Self(self.0 | u64::from(part) << Self::VERSION_BITS)
    }

    /// Which part it is; 0: the last one, or all.
    pub const fn part(self) -> u64 {
        self.0 >> Self::VERSION_BITS
    }

    /// The version that a site has when all of it is live.
    pub const fn version(self) -> Self {
        Self(self.0 & ((1 << Self::VERSION_BITS) - 1))
    }
}

/// `7`; of its second part `7.2`.
impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part() {
            0 => write!(f, "{}", self.0),
            part => write!(f, "{}.{part}", self.version().0),
        }
    }
}

impl Epoch {
    /// The part that counts: what people are shown.
    pub const fn reign(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reign())
    }
}

impl NodeId {
    /// The id that belongs to an Ed25519 public key.
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        let hash = blake3::hash(public_key);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        Self(u64::from_be_bytes(id))
    }
}

impl FromStr for NodeId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| Malformed::OutOfBounds("node id"))
    }
}

/// The name of an assignment's bytes: the BLAKE3 hash of its command buffer, which holds the hashes of
/// every leaf of the data file. Whoever holds the name can check every byte (design D2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(pub [u8; 32]);

impl ObjectName {
    pub fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self(from.array("object name")?))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

impl FromStr for ObjectName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = unhex(text).ok_or(Malformed::OutOfBounds("object name"))?;
        Ok(Self(bytes.try_into().map_err(|_| Malformed::OutOfBounds("object name"))?))
    }
}

/// A short name that people chose: of a node, a segment, a site, a content group.
///
/// 1 to 48 bytes of `a-z A-Z 0-9 . _ -`, not beginning with a dot: safe as a file name, a log word and
/// an argument of the text port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Longest name in bytes.
    pub const MAX: usize = 48;

    pub fn new(text: &str) -> Result<Self, Malformed> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let fits = (1..=Self::MAX).contains(&text.len());
        if fits && !text.starts_with('.') && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::OutOfBounds("name"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn encode(&self, out: &mut Encoder) {
        out.str16(&self.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Self::new(from.str16(Self::MAX, "name")?)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::new(text)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal text; `None` where it is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_confuse_a_path_a_log_or_the_text_port_are_refused() {
        for bad in ["", ".", "..", ".x", "a/b", "a b", "a\nb", "ü", &"x".repeat(49)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Name::new("web03.example-1_x").is_ok());
    }

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(unhex(&hex(&[0, 0xab, 0xff])), Some(vec![0, 0xab, 0xff]));
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("+1"), None);
        let name = ObjectName([7; 32]);
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}
