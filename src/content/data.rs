//! The data file of an assignment while it is written: hashed leaf by leaf on the way, so that nothing
//! is read again before it is signed. It can be set back to an earlier length, for a file that changed
//! while it was read or did not compress.

use crate::wire::assignment::{ALIGN, LEAF_LEN};
use crate::wire::content_key::{ContentKey, PIECE_LEN, sealed_len};
use crate::wire::seal::leaf_hash;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub struct DataFile {
    file: File,
    /// Name until it is complete.
    part: PathBuf,
    path: PathBuf,
    /// Bytes of the leaf that is being filled.
    leaf: Vec<u8>,
    /// Hashes of the leaves before it.
    leaves: Vec<[u8; 32]>,
    kept: bool,
}

impl DataFile {
    /// Creates `path` with `.part` behind its name; the name itself appears with [`Self::finish`].
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut part = OsString::from(path);
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
        let leaf = Vec::with_capacity(LEAF_LEN as usize);
        Ok(Self { file, part, path: path.into(), leaf, leaves: Vec::new(), kept: false })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.leaf_start() + self.leaf.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn leaf_start(&self) -> u64 {
        self.leaves.len() as u64 * LEAF_LEN
    }

    /// Zeros up to the next multiple of [`ALIGN`].
    pub fn align(&mut self) -> io::Result<()> {
        let zeros = self.len().next_multiple_of(ALIGN) - self.len();
        self.write_all(&[0; ALIGN as usize][..zeros as usize])
    }

    /// Forgets all bytes behind the first `len`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn rewind(&mut self, len: u64) -> io::Result<()> {
        assert!(len <= self.len(), "a rewind goes back");
        let leaf = (len / LEAF_LEN) as usize;
        let within = (len % LEAF_LEN) as usize;
        if leaf < self.leaves.len() {
            self.leaves.truncate(leaf);
            self.leaf.resize(within, 0);
            self.file.read_exact_at(&mut self.leaf, leaf as u64 * LEAF_LEN)?;
        } else {
            self.leaf.truncate(within);
        }
        Ok(())
    }

    fn end_leaf(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.leaf, self.leaf_start())?;
        self.leaves.push(leaf_hash(self.leaves.len() as u32, &self.leaf));
        self.leaf.clear();
        Ok(())
    }

    /// Encrypts what was written, piece by piece and the last one first, for each gets longer.
    fn seal(&mut self, key: &ContentKey, plain_len: u64) -> io::Result<u64> {
        let pieces = plain_len.div_ceil(PIECE_LEN);
        self.leaves = vec![[0; 32]; pieces as usize];
        for index in (0..pieces).rev() {
            let start = index * PIECE_LEN;
            self.leaf.resize((plain_len - start).min(PIECE_LEN) as usize, 0);
            self.file.read_exact_at(&mut self.leaf, start)?;
            key.seal_piece(index, plain_len, &mut self.leaf);
            self.file.write_all_at(&self.leaf, index * LEAF_LEN)?;
            self.leaves[index as usize] = leaf_hash(index as u32, &self.leaf);
        }
        Ok(sealed_len(plain_len))
    }

    /// Ends the data, encrypts it where there is a key, appends at the next multiple of [`ALIGN`] the command
    /// buffer that `sign` makes of data length and leaf hashes, and gives the file its name. It is on disk when
    /// this returns.
    pub fn finish<T>(
        self,
        key: Option<&ContentKey>,
        sign: impl FnOnce(u64, &[[u8; 32]]) -> (T, Vec<u8>),
    ) -> io::Result<T> {
        self.finish_with(key, |data_len, leaves, to| {
            let (value, command_buffer) = sign(data_len, leaves);
            to.write_all(&command_buffer)?;
            Ok(value)
        })
    }

    /// The same; `write` writes the command buffer piece by piece.
    pub fn finish_with<T>(
        mut self,
        key: Option<&ContentKey>,
        write: impl FnOnce(u64, &[[u8; 32]], &mut dyn Write) -> io::Result<T>,
    ) -> io::Result<T> {
        let plain_len = self.len();
        if !self.leaf.is_empty() {
            self.end_leaf()?;
        }
        let data_len = key.map_or(Ok(plain_len), |key| self.seal(key, plain_len))?;
        // A rewind may have left bytes behind the end; what lies between the parts must be zeros.
        self.file.set_len(data_len)?;
        (&self.file).seek(SeekFrom::Start(data_len.next_multiple_of(ALIGN)))?;
        let mut to = BufWriter::with_capacity(LEAF_LEN as usize, &self.file);
        let value = write(data_len, &self.leaves, &mut to)?;
        to.flush()?;
        drop(to);
        self.file.sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        self.kept = true;
        if let Some(directory) = self.path.parent().filter(|path| !path.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(value)
    }
}

impl Write for DataFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(LEAF_LEN as usize - self.leaf.len());
        self.leaf.extend_from_slice(&bytes[..part]);
        if self.leaf.len() as u64 == LEAF_LEN {
            self.end_leaf()?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if !self.kept {
            // Half an assignment is of no use; where it cannot be removed, the next one overwrites it.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests;
