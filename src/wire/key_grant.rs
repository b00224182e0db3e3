//! How a node gets the key of an encrypted assignment: it asks the CCM, which seals the key for whoever asked.
//!
//! The request travels in the node's signed uplink, so the CCM knows whose it is; the answer is signed by the director.
//! The key is sealed under a secret of two X25519 keys, one of the process that will use it, one made for this answer,
//! so whoever hears both, or later gets hold of the node's own key, learns nothing.

use super::content_key::{ContentKey, Salt};
use super::id::{AssignmentId, Name};
use super::order::check_signed;
use super::seal::{Domain, PublicKey, Signature, SigningKey, open_secret, seal_secret};
use super::{Decoder, Encoder, Malformed};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use std::fmt;

/// "Let me have the key of this assignment."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    pub site: Name,
    pub assignment: AssignmentId,
    /// As the assignment's header has it.
    pub salt: Salt,
    /// For whom the key is to be sealed.
    pub recipient: [u8; 32],
}

impl KeyRequest {
    pub fn encode(&self, out: &mut Encoder) {
        self.site.encode(out);
        self.assignment.encode(out);
        self.salt.encode(out);
        out.raw(&self.recipient);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            site: Name::decode(from)?,
            assignment: AssignmentId::decode(from)?,
            salt: Salt::decode(from)?,
            recipient: from.array("recipient")?,
        })
    }
}

/// Whoever keys are sealed for: made anew with each process, and kept nowhere.
pub struct Recipient(PrivateKey);

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(..)")
    }
}

impl Default for Recipient {
    fn default() -> Self {
        Self(PrivateKey::generate(&X25519).expect("the system's random generator answers"))
    }
}

impl Recipient {
    pub fn public(&self) -> [u8; 32] {
        let public = self.0.compute_public_key().expect("a private key has a public one");
        public.as_ref().try_into().expect("an X25519 public key has 32 bytes")
    }

    /// The key under which a content key is sealed, of our own key and another's.
    fn box_key(&self, other: &[u8; 32], made_for_answer: &[u8; 32]) -> Result<[u8; 32], Malformed> {
        let weak = Malformed::OutOfBounds("recipient");
        agree(&self.0, UnparsedPublicKey::new(&X25519, other), weak, |shared| {
            let mut hasher = blake3::Hasher::new_derive_key("farmcast/1 content key box");
            hasher.update(shared).update(made_for_answer);
            Ok(*hasher.finalize().as_bytes())
        })
    }
}

/// The answer.
#[derive(Debug)]
pub struct KeyGrant;

impl KeyGrant {
    /// Longest answer in bytes.
    pub const MAX: usize = 320;

    /// Seals the key for who asks, signed by the director.
    ///
    /// # Errors
    /// The recipient's key is none.
    pub fn seal(request: &KeyRequest, key: &ContentKey, director: &SigningKey) -> Result<Vec<u8>, Malformed> {
        let mut out = Encoder::new();
        request.encode(&mut out);
        let once = Recipient::default();
        let made = once.public();
        let box_key = once.box_key(&request.recipient, &made)?;
        let sealed = seal_secret(&box_key, out.as_bytes(), &key.0);
        out.raw(&made).bytes16(&sealed);
        let signature = director.sign(Domain::ContentKey, out.as_bytes());
        signature.encode(&mut out);
        Ok(out.finish())
    }

    /// What was asked for, and the key.
    ///
    /// # Errors
    /// The director did not sign it, or it is for somebody else.
    pub fn open(
        bytes: &[u8],
        director: &PublicKey,
        recipient: &Recipient,
    ) -> Result<(KeyRequest, ContentKey), Malformed> {
        let signed = check_signed(Domain::ContentKey, bytes, director)?;
        let parts = Parts::read(signed)?;
        let box_key = recipient.box_key(&parts.made, &parts.made)?;
        let key = open_secret(&box_key, parts.context, parts.sealed)?;
        Ok((parts.request, ContentKey(key.try_into().map_err(|_| Malformed::OutOfBounds("content key"))?)))
    }

    /// What was asked for, without checking anything: for whoever only passes it on.
    ///
    /// # Errors
    /// It is malformed.
    pub fn peek(bytes: &[u8]) -> Result<KeyRequest, Malformed> {
        let signed = bytes.len().checked_sub(Signature::LEN).ok_or(Malformed::Truncated("signature"))?;
        Parts::read(&bytes[..signed]).map(|parts| parts.request)
    }
}

/// What the director signs.
struct Parts<'a> {
    request: KeyRequest,
    /// The bytes of the request: the key is sealed for it.
    context: &'a [u8],
    /// Public key made for this answer.
    made: [u8; 32],
    sealed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(signed: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(signed);
        let request = KeyRequest::decode(&mut from)?;
        let context = &signed[..signed.len() - from.remaining()];
        let made = from.array("key of the answer")?;
        let sealed = from.bytes16(KeyGrant::MAX, "sealed key")?;
        from.finish()?;
        Ok(Self { request, context, made, sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::content_key::ContentSecret;

    fn request(recipient: &Recipient) -> KeyRequest {
        KeyRequest {
            site: Name::new(&"s".repeat(Name::MAX)).unwrap(),
            assignment: AssignmentId(u64::MAX),
            salt: Salt([3; 16]),
            recipient: recipient.public(),
        }
    }

    #[test]
    fn a_key_is_for_who_asked_and_for_nobody_else() {
        let (director, asker, other) =
            (SigningKey::from_seed([1; 32]), Recipient::default(), Recipient::default());
        let request = request(&asker);
        let key = ContentSecret([4; 32]).key(&request.site, request.assignment, &request.salt);
        let grant = KeyGrant::seal(&request, &key, &director).unwrap();
        assert!(grant.len() <= KeyGrant::MAX, "{}", grant.len());
        assert_eq!(KeyGrant::peek(&grant), Ok(request.clone()));
        assert_eq!(KeyGrant::open(&grant, &director.public(), &asker), Ok((request.clone(), key.clone())));
        assert!(KeyGrant::open(&grant, &director.public(), &other).is_err(), "another process");
        assert!(KeyGrant::open(&grant, &SigningKey::from_seed([2; 32]).public(), &asker).is_err());
        for at in 0..grant.len() {
            let mut forged = grant.clone();
            forged[at] ^= 1;
            assert!(KeyGrant::open(&forged, &director.public(), &asker).is_err(), "byte {at}");
            assert!(KeyGrant::open(&grant[..at], &director.public(), &asker).is_err());
        }
        // No two answers are the same, and a recipient that is no key is refused.
        assert_ne!(KeyGrant::seal(&request, &key, &director).unwrap(), grant);
        assert!(KeyGrant::seal(&KeyRequest { recipient: [0; 32], ..request }, &key, &director).is_err());
    }
}
