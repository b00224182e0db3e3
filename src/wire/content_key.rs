//! Keys of encrypted assignments, and the pieces that they seal (AS-15, SX-1).
//!
//! ```text
//! data file, plain:      | piece 0: 262,128 bytes      | piece 1                  | ... | last, shorter |
//! data file, encrypted:  | piece 0 sealed, tag (16)    | piece 1 sealed, tag (16) | ... |               |
//!                        | leaf 0: 262,144 bytes       | leaf 1                   | ... |               |
//! ```
//! Each piece is sealed for itself by AES-256-GCM, so that a leaf that has come can be opened before the next is
//! there. The nonce says what it is of, which piece it is and whether it is the last: no piece opens in another's
//! place, and what was cut off is missed. A key is used for one assignment and for nothing else, so no nonce comes
//! twice. Commands are one piece of their own kind.

use super::assignment::LEAF_LEN;
use super::id::{AssignmentId, Name};
use super::{Decoder, Encoder, Malformed};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fmt;

/// Bytes that sealing adds to a piece.
pub const TAG_LEN: u64 = 16;
/// Plain bytes of a piece of the data file: sealed, it is a leaf.
pub const PIECE_LEN: u64 = LEAF_LEN - TAG_LEN;

/// What the CCM makes all content keys of. It never leaves it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentSecret(pub [u8; 32]);

/// Random bytes in an assignment's header: with them its key is like no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Salt(pub [u8; 16]);

/// The key of one encrypted assignment.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey(pub(super) [u8; 32]);

/// What an assignment is encrypted with.
#[derive(Clone, Debug)]
pub struct Sealing {
    pub salt: Salt,
    pub key: ContentKey,
}

/// What a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Data = 1,
    Commands = 2,
}

impl ContentSecret {
    /// The key of an assignment of a site.
    pub fn key(&self, site: &Name, assignment: AssignmentId, salt: &Salt) -> ContentKey {
        let mut hasher = blake3::Hasher::new_derive_key("farmcast/1 content key");
        hasher.update(&self.0).update(&assignment.0.to_be_bytes()).update(&salt.0);
        hasher.update(site.as_str().as_bytes());
        ContentKey(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for ContentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentSecret(..)")
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

impl Salt {
    pub fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self(from.array("salt")?))
    }
}

impl ContentKey {
    /// Seals piece `index` of a data file of so many plain bytes.
    pub fn seal_piece(&self, index: u64, plain_len: u64, piece: &mut Vec<u8>) {
        let last = (index + 1) * PIECE_LEN >= plain_len;
        self.seal(Part::Data, index, last, piece);
    }

    /// Opens leaf `index` of a data file of so many encrypted bytes.
    ///
    /// # Errors
    /// It was sealed with another key, as another piece, or not at all.
    pub fn open_piece(&self, index: u64, sealed_len: u64, piece: &mut Vec<u8>) -> Result<(), Malformed> {
        let last = (index + 1) * LEAF_LEN >= sealed_len;
        self.open(Part::Data, index, last, piece)
    }

    pub fn seal_commands(&self, commands: &mut Vec<u8>) {
        self.seal(Part::Commands, 0, true, commands);
    }

    /// # Errors
    /// As [`Self::open_piece`].
    pub fn open_commands(&self, commands: &mut Vec<u8>) -> Result<(), Malformed> {
        self.open(Part::Commands, 0, true, commands)
    }

    fn seal(&self, part: Part, index: u64, last: bool, bytes: &mut Vec<u8>) {
        let sealed = self.cipher().seal_in_place_append_tag(nonce(part, index, last), Aad::empty(), bytes);
        sealed.expect("a piece is within AES-GCM's bounds");
    }

    fn open(&self, part: Part, index: u64, last: bool, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
        let opened = self.cipher().open_in_place(nonce(part, index, last), Aad::empty(), bytes);
        let len = opened.map_err(|_| Malformed::Forged("what the content key opens"))?.len();
        bytes.truncate(len);
        Ok(())
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("32 bytes are an AES-256 key"))
    }
}

fn nonce(part: Part, index: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    (nonce[0], nonce[1]) = (part as u8, u8::from(last));
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Bytes of a data file when it is encrypted.
pub const fn sealed_len(plain_len: u64) -> u64 {
    plain_len + plain_len.div_ceil(PIECE_LEN) * TAG_LEN
}

/// Bytes of a data file before it was encrypted.
///
/// # Errors
/// None has so many when it is.
pub const fn plain_len(sealed_len: u64) -> Result<u64, Malformed> {
    let pieces = sealed_len.div_ceil(LEAF_LEN);
    if sealed_len > 0 && sealed_len - (pieces - 1) * LEAF_LEN <= TAG_LEN {
        return Err(Malformed::OutOfBounds("data length"));
    }
    Ok(sealed_len - pieces * TAG_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> ContentKey {
        ContentSecret([number; 32]).key(&Name::new("www").unwrap(), AssignmentId(7), &Salt([1; 16]))
    }

    #[test]
    fn a_key_is_of_one_secret_one_site_one_assignment_and_one_salt() {
        let (secret, www) = (ContentSecret([1; 32]), Name::new("www").unwrap());
        let others = [
            key(2),
            secret.key(&Name::new("shop").unwrap(), AssignmentId(7), &Salt([1; 16])),
            secret.key(&www, AssignmentId(8), &Salt([1; 16])),
            secret.key(&www, AssignmentId(7), &Salt([2; 16])),
        ];
        assert!(others.iter().all(|other| *other != key(1)));
        assert_eq!(format!("{:?} {:?}", key(1), secret), "ContentKey(..) ContentSecret(..)");
    }

    #[test]
    fn a_piece_opens_with_its_key_in_its_place_and_whole_and_not_otherwise() {
        let plain_len = 2 * PIECE_LEN + 5;
        let sealed = sealed_len(plain_len);
        assert_eq!(sealed, 2 * LEAF_LEN + 5 + TAG_LEN);
        let mut pieces = [vec![1; PIECE_LEN as usize], vec![2; PIECE_LEN as usize], vec![3; 5]];
        for (piece, index) in pieces.iter_mut().zip(0..) {
            key(1).seal_piece(index, plain_len, piece);
        }
        let open = |with: u8, index: u64, of: u64, piece: &[u8]| {
            let mut piece = piece.to_vec();
            key(with).open_piece(index, of, &mut piece).map(|()| piece)
        };
        assert_eq!(open(1, 2, sealed, &pieces[2]).unwrap(), [3; 5]);
        assert_eq!(open(1, 0, sealed, &pieces[0]).unwrap(), vec![1; PIECE_LEN as usize]);
        assert!(open(2, 0, sealed, &pieces[0]).is_err(), "another key");
        assert!(open(1, 1, sealed, &pieces[0]).is_err(), "another place");
        // The file was cut off behind a whole piece, which is the last of it now; or goes on behind the last.
        assert!(open(1, 1, 2 * LEAF_LEN, &pieces[1]).is_err());
        assert!(open(1, 2, 4 * LEAF_LEN, &pieces[2]).is_err());
        for cut in [0, 4, 20] {
            assert!(open(1, 2, sealed, &pieces[2][..cut]).is_err());
        }
        for at in 0..21 {
            let mut forged = pieces[2].clone();
            forged[at] ^= 1;
            assert!(open(1, 2, sealed, &forged).is_err(), "byte {at}");
        }
        let mut commands = b"commands".to_vec();
        key(1).seal_commands(&mut commands);
        assert!(open(1, 0, 24, &commands).is_err(), "commands are no data");
        key(1).open_commands(&mut commands).unwrap();
        assert_eq!(commands, b"commands");
    }

    #[test]
    fn lengths_are_the_way_back_of_each_other() {
        for plain in [0, 1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 2 * PIECE_LEN, 1 << 40] {
            assert_eq!(plain_len(sealed_len(plain)), Ok(plain));
        }
        for none in [1, TAG_LEN, LEAF_LEN + 1, LEAF_LEN + TAG_LEN, 3 * LEAF_LEN + 16] {
            assert!(plain_len(none).is_err(), "{none}");
        }
    }
}
