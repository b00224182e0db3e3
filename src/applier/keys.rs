//! Keys of encrypted assignments (AS-17). Only this process can open what the CCM answers: net carries it, and never
//! holds a key.

use crate::wire::Malformed;
use crate::wire::assignment::CommandBuffer;
use crate::wire::content_key::{ContentKey, Salt};
use crate::wire::id::{AssignmentId, Name};
use crate::wire::key_grant::{KeyGrant, KeyRequest, Recipient};
use crate::wire::seal::PublicKey;
use std::collections::VecDeque;

/// Keys that are remembered: more than a spool holds assignments.
const KEYS_MAX: usize = 16;

#[derive(Debug, Default)]
pub struct Keys {
    recipient: Recipient,
    /// The newest last.
    known: VecDeque<(Name, AssignmentId, Salt, ContentKey)>,
}

impl Keys {
    /// Decrypts the commands of an assignment where its key is here.
    ///
    /// # Errors
    /// The key does not open it.
    pub fn unseal(&self, buffer: &mut CommandBuffer) -> Result<(), Malformed> {
        let Some(salt) = buffer.header.salt else { return Ok(()) };
        let is_of = |(site, assignment, of, _): &&(Name, AssignmentId, Salt, ContentKey)| {
            *site == buffer.header.site && *assignment == buffer.header.assignment && *of == salt
        };
        match self.known.iter().find(is_of) {
            Some((.., key)) => buffer.unseal(key.clone()),
            None => Ok(()),
        }
    }

    /// How to ask for the key that an assignment lacks; `None` where it lacks none.
    pub fn request(&self, buffer: &CommandBuffer) -> Option<KeyRequest> {
        let header = &buffer.header;
        let salt = header.salt.filter(|_| buffer.is_sealed())?;
        let (site, assignment) = (header.site.clone(), header.assignment);
        Some(KeyRequest { site, assignment, salt, recipient: self.recipient.public() })
    }

    /// Takes the CCM's answer.
    ///
    /// # Errors
    /// The director did not sign it, or it is not for this process.
    pub fn take(&mut self, document: &[u8], director: &PublicKey) -> Result<(), Malformed> {
        let (request, key) = KeyGrant::open(document, director, &self.recipient)?;
        if self.known.len() == KEYS_MAX {
            self.known.pop_front();
        }
        self.known.push_back((request.site, request.assignment, request.salt, key));
        Ok(())
    }
}
