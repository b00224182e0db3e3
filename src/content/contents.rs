//! Which contents an assignment holds already, so that each is stored once. In memory stay 8 bytes of each hash and
//! where the rest stands.

use super::spill::Spill;
use crate::wire::Encoder;
use crate::wire::assignment::{Coding, Extent, Item};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// How a content is stored.
pub type Stored = (Option<Item>, Vec<Extent>);

/// Bytes of a record before its extents: hash, record before, item, number of extents.
const HEAD: usize = 32 + 8 + (8 + 8 + 8 + 1) + 4;
const RAW: u8 = 1;
const ZSTD: u8 = 2;
const NO_ITEM: u8 = 0;
/// Where the first record stands, so that 0 is the place of none.
const FIRST: u64 = 1;

pub struct Contents {
    /// First bytes of the content hash, and where its record stands.
    places: HashMap<u64, u64>,
    records: Spill,
    /// The record that was added last and has an item; 0 where there is none.
    newest: u64,
}

struct Record {
    hash: [u8; 32],
    /// The newest when this one was added.
    before: u64,
    item: Option<Item>,
    extents: u32,
}

impl Contents {
    /// None yet; `out` is where the assignment goes.
    pub fn new(out: &Path) -> Self {
        Self { places: HashMap::new(), records: Spill::beside(out, ".contents"), newest: 0 }
    }

    pub fn find(&self, hash: &[u8; 32]) -> io::Result<Option<Stored>> {
        let Some(&at) = self.places.get(&key(hash)) else { return Ok(None) };
        let record = self.record(at)?;
        if record.hash != *hash {
            return Ok(None);
        }
        let mut bytes = vec![0; record.extents as usize * 16];
        self.records.read_exact_at(&mut bytes, at - FIRST + HEAD as u64)?;
        let extent = |bytes: &[u8]| Extent { offset: number(&bytes[..8]), len: number(&bytes[8..]) };
        Ok(Some((record.item, bytes.chunks_exact(16).map(extent).collect())))
    }

    /// Adds a content that was not found.
    pub fn add(&mut self, hash: &[u8; 32], item: Option<Item>, extents: &[Extent]) -> io::Result<()> {
        let at = self.records.end() + FIRST;
        let mut out = Encoder::new();
        out.raw(hash).u64(self.newest);
        let Item { offset, len, decoded_len, .. } = item.unwrap_or(EMPTY);
        out.u64(offset).u64(len).u64(decoded_len);
        out.u8(match item.map(|item| item.coding) {
            None => NO_ITEM,
            Some(Coding::Raw) => RAW,
            Some(Coding::Zstd) => ZSTD,
        });
        out.u32(extents.len() as u32);
        for extent in extents {
            out.u64(extent.offset).u64(extent.len);
        }
        self.records.append(out.as_bytes())?;
        self.places.insert(key(hash), at);
        if item.is_some() {
            self.newest = at;
        }
        Ok(())
    }

    /// Forgets what was stored behind the first `len` bytes of the data file.
    pub fn rewind(&mut self, len: u64) -> io::Result<()> {
        while self.newest != 0 {
            let record = self.record(self.newest)?;
            if record.item.is_some_and(|item| item.offset < len) {
                break;
            }
            self.places.remove(&key(&record.hash));
            self.newest = record.before;
        }
        Ok(())
    }

    fn record(&self, at: u64) -> io::Result<Record> {
        let mut bytes = [0; HEAD];
        self.records.read_exact_at(&mut bytes, at - FIRST)?;
        let (hash, rest) = bytes.split_first_chunk().expect("a record is longer");
        let field = |index: usize| number(&rest[index * 8..][..8]);
        let item = |coding| Item { offset: field(1), len: field(2), decoded_len: field(3), coding };
        let item = match rest[32] {
            RAW => Some(item(Coding::Raw)),
            ZSTD => Some(item(Coding::Zstd)),
            _ => None,
        };
        let extents = u32::from_be_bytes(*rest[33..].first_chunk().expect("four bytes are left"));
        Ok(Record { hash: *hash, before: field(0), item, extents })
    }
}

const EMPTY: Item = Item { offset: 0, len: 0, decoded_len: 0, coding: Coding::Raw };

fn key(hash: &[u8; 32]) -> u64 {
    number(&hash[..8])
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(offset: u64, coding: Coding) -> Option<Item> {
        Some(Item { offset, len: 10, decoded_len: 20, coding })
    }

    #[test]
    fn contents_are_found_until_they_are_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let mut contents = Contents::new(&place.path().join("assignment"));
        let extents = vec![Extent { offset: 5, len: 6 }, Extent { offset: 70_000, len: 14 }];
        contents.add(&[1; 32], item(0, Coding::Raw), &[]).unwrap();
        contents.add(&[2; 32], None, &[]).unwrap();
        contents.add(&[3; 32], item(10, Coding::Zstd), &extents).unwrap();
        contents.add(&[4; 32], item(20, Coding::Raw), &[]).unwrap();
        assert_eq!(contents.find(&[3; 32]).unwrap(), Some((item(10, Coding::Zstd), extents.clone())));
        contents.rewind(15).unwrap();
        assert_eq!(contents.find(&[4; 32]).unwrap(), None);
        assert_eq!(contents.find(&[3; 32]).unwrap(), Some((item(10, Coding::Zstd), extents)));
        contents.add(&[5; 32], item(15, Coding::Raw), &[]).unwrap();
        contents.rewind(10).unwrap();
        assert_eq!((contents.find(&[3; 32]).unwrap(), contents.find(&[5; 32]).unwrap()), (None, None));
        assert_eq!(contents.find(&[2; 32]).unwrap(), Some((None, vec![])), "it has no bytes to take back");
        assert_eq!(contents.find(&[1; 32]).unwrap(), Some((item(0, Coding::Raw), vec![])));
        contents.rewind(0).unwrap();
        assert_eq!(contents.find(&[1; 32]).unwrap(), None);
    }

    #[test]
    fn hashes_that_begin_alike_are_not_taken_for_each_other() {
        let place = tempfile::tempdir().unwrap();
        let mut contents = Contents::new(&place.path().join("assignment"));
        let mut other = [1; 32];
        other[31] = 2;
        contents.add(&[1; 32], item(0, Coding::Raw), &[]).unwrap();
        assert_eq!(contents.find(&other).unwrap(), None);
    }
}
