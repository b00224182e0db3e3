//! An assignment that somebody looks at, without a shape that was told and before its publisher is known.

use super::{ALIGN, CommandBuffer, Commands, DATA_MAX, Header, LEAF_LEN, MAGIC, Shape, TRAILER_LEN};
use crate::wire::content_key::ContentKey;
use crate::wire::id::ObjectName;
use crate::wire::seal::{Domain, PublicKey, Signature};
use crate::wire::{Decoder, Malformed};

/// What the header at a page of a file says of the file's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A command buffer of this many bytes begins here and ends with the file.
    Whole { command_len: u64, data_len: u64 },
    /// It would end at this byte, which is not where the file ends.
    Elsewhere { end: u64 },
}

/// Looks for the command buffer at `offset`, a multiple of [`ALIGN`], of a file of `file_len` bytes. `page` is
/// what stands there, [`ALIGN`] bytes unless the file ends before. `None` where no command buffer of this file
/// begins: a data file may hold another assignment as content.
pub fn place(page: &[u8], offset: u64, file_len: u64) -> Option<Place> {
    if !page.starts_with(&MAGIC) {
        return None;
    }
    let mut from = Decoder::new(page);
    let header = Header::decode(&mut from).ok()?;
    if header.data_len > DATA_MAX || header.data_len.next_multiple_of(ALIGN) != offset {
        return None;
    }
    let header_len = (page.len() - from.remaining()) as u64;
    let leaves = header.data_len.div_ceil(LEAF_LEN) * 32;
    let command_len = header_len + u64::from(header.command_len) + leaves + TRAILER_LEN as u64;
    let end = offset + command_len;
    Some(match end == file_len {
        true => Place::Whole { command_len, data_len: header.data_len },
        false => Place::Elsewhere { end },
    })
}

/// A command buffer whose bytes are those of its name, whoever signed it: good to look at, not to carry out.
#[derive(Clone, Debug)]
pub struct Unproven {
    buffer: CommandBuffer,
    signature: Signature,
}

impl Unproven {
    /// Reads a command buffer whose name is not known yet; `data_len` is what [`place`] found.
    ///
    /// # Errors
    /// The trailer hash does not verify, or what it covers is malformed.
    pub fn read(bytes: &[u8], data_len: u64) -> Result<Self, Malformed> {
        let (signed, name, signature) = split(bytes)?;
        let shape = Shape { name, command_len: bytes.len() as u64, data_len };
        Ok(Self { buffer: CommandBuffer::parse(&shape, bytes.to_vec(), signed.len())?, signature })
    }

    pub const fn shape(&self) -> &Shape {
        &self.buffer.shape
    }

    pub const fn header(&self) -> &Header {
        &self.buffer.header
    }

    pub fn commands(&self) -> Commands<'_> {
        self.buffer.commands()
    }

    /// As [`CommandBuffer::unseal`].
    ///
    /// # Errors
    /// The key is another.
    pub fn unseal(&mut self, key: ContentKey) -> Result<(), Malformed> {
        self.buffer.unseal(key)
    }

    /// The command buffer, now that its publisher is proven.
    ///
    /// # Errors
    /// `publisher` did not sign it.
    pub fn prove(self, publisher: &PublicKey) -> Result<CommandBuffer, Malformed> {
        self.is_signed_by(publisher)?;
        Ok(self.buffer)
    }

    /// # Errors
    /// `publisher` did not sign it.
    pub fn is_signed_by(&self, publisher: &PublicKey) -> Result<(), Malformed> {
        publisher.verify(Domain::Assignment, &self.buffer.shape.name.0, &self.signature)
    }
}

/// What the trailer hash covers, that hash, checked, and the signature.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], ObjectName, Signature), Malformed> {
    let signed_len = bytes.len().checked_sub(TRAILER_LEN).ok_or(Malformed::Truncated("trailer"))?;
    let (signed, trailer) = bytes.split_at(signed_len);
    let mut trailer = Decoder::new(trailer);
    let name = ObjectName::decode(&mut trailer)?;
    if *blake3::hash(signed).as_bytes() != name.0 {
        return Err(Malformed::Forged("trailer hash"));
    }
    Ok((signed, name, Signature::decode(&mut trailer)?))
}
