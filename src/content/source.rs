//! The file of an assignment as staging reads it: whole, or while the rest of it still arrives.

use crate::wire::assignment::LEAF_LEN;
use crate::wire::content_key::{ContentKey, PIECE_LEN};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The file of an assignment. What is read of it is proven by the hashes in the signed commands, so it need not be
/// right; it must only not be read before it is there.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    file: &'a File,
    arrival: Option<&'a Arrival>,
    pieces: Option<&'a Pieces>,
}

impl<'a> Source<'a> {
    /// All of it is there.
    pub const fn whole(file: &'a File) -> Self {
        Self { file, arrival: None, pieces: None }
    }

    /// Who reads what is not there yet waits.
    pub const fn growing(file: &'a File, arrival: &'a Arrival) -> Self {
        Self { file, arrival: Some(arrival), pieces: None }
    }

    /// It is encrypted: offsets are those of what it was before.
    pub const fn decrypted(self, pieces: &'a Pieces) -> Self {
        Self { pieces: Some(pieces), ..self }
    }

    /// Fills the buffer with what begins at the offset.
    ///
    /// # Errors
    /// The file ends early, cannot be read, or will not come.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.pieces {
            Some(pieces) => pieces.read_exact_at(self, buffer, offset),
            None => self.read_stored(buffer, offset),
        }
    }

    fn read_stored(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(arrival) = self.arrival {
            arrival.wait_for(offset.saturating_add(buffer.len() as u64))?;
        }
        self.file.read_exact_at(buffer, offset)
    }
}

/// The pieces of an encrypted data file (AS-17). Keeps the one that was read last, for items lie one behind the other.
#[derive(Debug)]
pub struct Pieces {
    key: ContentKey,
    /// Bytes of the data file as it is stored.
    sealed_len: u64,
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Pieces {
    pub const fn new(key: ContentKey, sealed_len: u64) -> Self {
        Self { key, sealed_len, last: Mutex::new(None) }
    }

    fn read_exact_at(&self, source: &Source<'_>, mut buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        // Nobody panics while holding it, and one that was half read is forgotten.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while !buffer.is_empty() {
            let (index, within) = (at / PIECE_LEN, (at % PIECE_LEN) as usize);
            let (found, piece) = match last.take() {
                Some((found, piece)) if found == index => (found, piece),
                other => {
                    (index, self.open(source, index, other.map(|(_, piece)| piece).unwrap_or_default())?)
                }
            };
            let part =
                piece.get(within..).filter(|part| !part.is_empty()).map(|part| part.len().min(buffer.len()));
            let Some(len) = part else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            buffer[..len].copy_from_slice(&piece[within..within + len]);
            buffer = &mut buffer[len..];
            at += len as u64;
            *last = Some((found, piece));
        }
        Ok(())
    }

    fn open(&self, source: &Source<'_>, index: u64, mut piece: Vec<u8>) -> io::Result<Vec<u8>> {
        let start = index * LEAF_LEN;
        let len = self.sealed_len.checked_sub(start).filter(|len| *len > 0).map(|len| len.min(LEAF_LEN));
        piece.resize(len.ok_or(io::ErrorKind::UnexpectedEof)? as usize, 0);
        source.read_stored(&mut piece, start)?;
        let opened = self.key.open_piece(index, self.sealed_len, &mut piece);
        opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(piece)
    }
}

/// How far a file has come from its beginning.
#[derive(Debug, Default)]
pub struct Arrival {
    standing: Mutex<Standing>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Standing {
    /// Bytes.
    until: u64,
    abandoned: bool,
}

impl Arrival {
    /// All bytes up to here are there; it never goes back.
    pub fn advance(&self, until: u64) {
        let mut standing = self.standing();
        standing.until = standing.until.max(until);
        self.changed.notify_all();
    }

    /// All of it is there.
    pub fn complete(&self) {
        self.advance(u64::MAX);
    }

    /// Nobody needs it any more: who waits, or begins to wait, fails.
    pub fn abandon(&self) {
        self.standing().abandoned = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, end: u64) -> io::Result<()> {
        let waits = |standing: &mut Standing| standing.until < end && !standing.abandoned;
        let standing =
            self.changed.wait_while(self.standing(), waits).unwrap_or_else(PoisonError::into_inner);
        if standing.abandoned { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Nobody panics while holding it, and two figures cannot be half right.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        file
    }

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_waited_for() {
        let (file, arrival) = (file(), Arrival::default());
        arrival.advance(4);
        let read = |offset, len| {
            let mut bytes = vec![0; len];
            Source::growing(&file, &arrival).read_exact_at(&mut bytes, offset).map(|()| bytes)
        };
        assert_eq!(read(0, 4).unwrap(), b"0123");
        thread::scope(|scope| {
            let waits = scope.spawn(|| read(2, 6).unwrap());
            arrival.advance(7);
            assert!(!waits.is_finished(), "one byte of it is not there");
            arrival.advance(3);
            arrival.advance(8);
            assert_eq!(waits.join().unwrap(), b"234567");
        });
        arrival.complete();
        assert_eq!(read(0, 10).unwrap(), b"0123456789");
        assert_eq!(read(5, 10).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn who_waits_for_what_will_not_come_fails() {
        let (file, arrival) = (file(), Arrival::default());
        thread::scope(|scope| {
            let waits =
                scope.spawn(|| Source::growing(&file, &arrival).read_exact_at(&mut [0; 2], 0).unwrap_err());
            arrival.abandon();
            assert_eq!(waits.join().unwrap().kind(), io::ErrorKind::ConnectionAborted);
        });
        arrival.complete();
        assert!(Source::growing(&file, &arrival).read_exact_at(&mut [0; 2], 0).is_err());
        Source::whole(&file).read_exact_at(&mut [0; 2], 0).unwrap();
    }
}
