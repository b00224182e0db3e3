//! A command buffer that is signed while it is written, for its commands need not fit in memory.

use super::{Header, Shape, TRAILER_LEN};
use crate::wire::Encoder;
use crate::wire::id::ObjectName;
use crate::wire::seal::{Domain, SigningKey};

/// What was written so far.
pub struct Signing {
    hasher: blake3::Hasher,
    len: u64,
    data_len: u64,
}

impl Signing {
    /// Returns the bytes to begin with. `header` is as it will be, numbers and lengths included; all its commands
    /// follow, then the hashes of all leaves.
    pub fn begin(header: &Header) -> (Self, Vec<u8>) {
        let mut out = Encoder::new();
        header.encode(&mut out);
        let mut signing = Self { hasher: blake3::Hasher::new(), len: 0, data_len: header.data_len };
        let bytes = out.finish();
        signing.add(&bytes);
        (signing, bytes)
    }

    /// The bytes that follow.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Returns the bytes to end with.
    pub fn finish(self, publisher: &SigningKey) -> (Shape, Vec<u8>) {
        let name = ObjectName(*self.hasher.finalize().as_bytes());
        let mut trailer = Encoder::new();
        name.encode(&mut trailer);
        publisher.sign(Domain::Assignment, &name.0).encode(&mut trailer);
        let command_len = self.len + TRAILER_LEN as u64;
        (Shape { name, command_len, data_len: self.data_len }, trailer.finish())
    }
}
