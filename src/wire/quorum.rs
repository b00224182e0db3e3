//! How many members of a segment must have an assignment before its session may end (LD-19, B-15).
//!
//! This is the local quorum: those that it leaves behind finish by unicast. Whether a run succeeds is decided
//! elsewhere, by reports.

use super::{Decoder, Encoder, Malformed};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    /// Every member that takes part.
    #[default]
    All,
    /// So many, 1 or more; all where they are fewer.
    Count(u32),
    /// So many of a hundred, 1..=100, rounded up.
    Percent(u8),
}

impl Quorum {
    /// How many of so many participants it takes.
    pub fn needed(self, participants: u32) -> u32 {
        match self {
            Self::All => participants,
            Self::Count(count) => count.min(participants),
            Self::Percent(percent) => {
                (u64::from(participants) * u64::from(percent)).div_ceil(100).min(participants.into()) as u32
            }
        }
    }

    pub(super) fn encode(self, out: &mut Encoder) {
        match self {
            Self::All => out.u8(0).u32(0),
            Self::Count(count) => out.u8(1).u32(count),
            Self::Percent(percent) => out.u8(2).u32(percent.into()),
        };
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        match (from.u8("quorum")?, from.u32("quorum")?) {
            (0, 0) => Ok(Self::All),
            (1, count @ 1..) => Ok(Self::Count(count)),
            (2, percent @ 1..=100) => Ok(Self::Percent(percent as u8)),
            (0..=2, _) => Err(Malformed::OutOfBounds("quorum")),
            _ => Err(Malformed::Unknown("quorum")),
        }
    }
}

/// As an operator writes it: `all`, `12`, `90%`.
impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"all\", a number of members from 1 on, or a share from \"1%\" to \"100%\"")]
pub struct NoQuorum;

impl FromStr for Quorum {
    type Err = NoQuorum;

    fn from_str(text: &str) -> Result<Self, NoQuorum> {
        if text == "all" {
            return Ok(Self::All);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(NoQuorum),
            },
            None => match text.parse() {
                Ok(count @ 1..) => Ok(Self::Count(count)),
                _ => Err(NoQuorum),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_takes_so_many_of_those_who_take_part() {
        for (text, of, needed) in [
            ("all", 7, 7),
            ("all", 0, 0),
            ("3", 7, 3),
            ("9", 7, 7),
            ("50%", 7, 4),
            ("100%", 7, 7),
            ("1%", 7, 1),
            ("99%", 100, 99),
            ("34%", 3, 2),
        ] {
            let quorum: Quorum = text.parse().unwrap();
            assert_eq!(quorum.needed(of), needed, "{text} of {of}");
            assert_eq!(quorum.to_string(), text);
            let mut out = Encoder::new();
            quorum.encode(&mut out);
            assert_eq!(Quorum::decode(&mut Decoder::new(&out.finish())), Ok(quorum));
        }
    }

    #[test]
    fn what_is_no_quorum_is_refused() {
        for text in ["", "0", "0%", "101%", "-1", "half", "%", "1.5", "4294967296"] {
            assert_eq!(text.parse::<Quorum>(), Err(NoQuorum), "{text}");
        }
        for bytes in [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [2, 0, 0, 0, 101], [2, 0, 0, 1, 1], [3, 0, 0, 0, 1]] {
            assert!(Quorum::decode(&mut Decoder::new(&bytes)).is_err(), "{bytes:?}");
        }
    }
}
