//! Having a node compare what it has live with what was signed: the CCM's request, and what may be wrong.

use super::id::{Name, NodeId};
use super::order::check_signed;
use super::seal::{Domain, PublicKey, SigningKey};
use super::{Decoder, Encoder, Malformed};
use std::fmt;
use std::str::FromStr;

/// What is not as it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flaw {
    Missing = 1,
    Extra = 2,
    /// A file where a directory should be, or the like.
    Kind = 3,
    Content = 4,
    Mode = 5,
    Owner = 6,
    Time = 7,
    /// Where a symbolic link points.
    Link = 8,
    /// Which names are names of one file.
    Names = 9,
}

impl Flaw {
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Missing, "missing"),
        (Self::Extra, "extra"),
        (Self::Kind, "kind"),
        (Self::Content, "content"),
        (Self::Mode, "mode"),
        (Self::Owner, "owner"),
        (Self::Time, "time"),
        (Self::Link, "link"),
        (Self::Names, "names"),
    ];

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let code = from.u8("flaw")?;
        let found = Self::ALL.iter().find(|(flaw, _)| *flaw as u8 == code);
        found.map(|(flaw, _)| *flaw).ok_or(Malformed::Unknown("flaw"))
    }
}

/// The stable word.
impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(flaw, _)| flaw == self).expect("the table lists every flaw").1)
    }
}

impl FromStr for Flaw {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(flaw, _)| *flaw).ok_or(Malformed::Unknown("flaw"))
    }
}

/// A request to one node, signed by the director. The same one again asks how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubRequest {
    /// Random, so that an answer is to this one.
    pub number: u64,
    pub node: NodeId,
    pub site: Name,
    /// Where something is wrong, the site is in doubt from then on: it has no version until the next switch.
    pub doubt: bool,
    /// Seconds since 1970 after which it is void.
    pub expires: u64,
}

impl ScrubRequest {
    /// Longest signed request in bytes.
    pub const MAX: usize = 256;

    pub fn sign(&self, director: &SigningKey) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u64(self.number);
        self.node.encode(&mut out);
        self.site.encode(&mut out);
        out.u8(u8::from(self.doubt)).u64(self.expires);
        let signature = director.sign(Domain::Scrub, out.as_bytes());
        signature.encode(&mut out);
        out.finish()
    }

    pub fn open(bytes: &[u8], director: &PublicKey) -> Result<Self, Malformed> {
        let mut from = Decoder::new(check_signed(Domain::Scrub, bytes, director)?);
        let request = Self {
            number: from.u64("number")?,
            node: NodeId::decode(&mut from)?,
            site: Name::decode(&mut from)?,
            doubt: from.bool("doubt")?,
            expires: from.u64("expires")?,
        };
        from.finish()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_opens_only_as_the_director_signed_it() {
        let director = SigningKey::from_seed([1; 32]);
        let request = ScrubRequest {
            number: u64::MAX,
            node: NodeId(3),
            site: Name::new(&"s".repeat(Name::MAX)).unwrap(),
            doubt: true,
            expires: 11,
        };
        let bytes = request.sign(&director);
        assert!(bytes.len() <= ScrubRequest::MAX);
        assert_eq!(ScrubRequest::open(&bytes, &director.public()), Ok(request));
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(ScrubRequest::open(&forged, &director.public()).is_err(), "byte {at}");
            assert!(ScrubRequest::open(&bytes[..at], &director.public()).is_err());
        }
    }

    #[test]
    fn every_flaw_has_one_word_and_one_number() {
        for (flaw, word) in Flaw::ALL {
            assert_eq!((flaw.to_string().as_str(), word.parse()), (word, Ok(flaw)));
            assert_eq!(Flaw::decode(&mut Decoder::new(&[flaw as u8])), Ok(flaw));
        }
        assert!(
            Flaw::decode(&mut Decoder::new(&[0])).is_err() && Flaw::decode(&mut Decoder::new(&[10])).is_err()
        );
    }
}
