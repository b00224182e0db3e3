//! Everything that crosses a machine border or lies on disk: bytes to values and back.
//!
//! No state, no clock, no I/O. Every format follows one pattern:
//! - `decode` takes bytes that anybody may have sent; it never panics and never allocates more than
//!   the input justifies. What is left over after a whole value is an error, not a surprise.
//! - `encode` takes a value; it cannot fail, for values are built within their bounds.
//! - integers are big-endian; lengths stand before what they measure.
//!
//! Drawings of the formats: docs/PROTOCOL.md.

pub mod assignment;
pub mod bound;
pub mod charter;
pub mod codec;
pub mod console;
pub mod content_key;
pub mod control;
pub mod envelope;
pub mod groups;
pub mod id;
pub mod join;
pub mod key_grant;
pub mod nack;
pub mod notify;
pub mod order;
pub mod pin;
pub mod problem;
pub mod quorum;
pub mod report;
pub mod scrub;
pub mod seal;
pub mod session;
pub mod tls;

pub use codec::{Decoder, Encoder, Malformed};
