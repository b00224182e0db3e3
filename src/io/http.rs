//! HTTP/1.1 on the loop, for bulk transfer: a server of files by name with ranges, and a client for one
//! request per connection (GD-8, GD-17).
//!
//! No TLS: what is fetched carries its own hashes and signature (design D2). No chunked bodies, redirects
//! or pipelining: we are at both ends, and refuse the rest with a clear status or error.

pub mod client;
pub mod head;
pub mod server;
pub use client::Client;
pub use head::Range;
pub use server::Server;

#[cfg(test)]
mod tests;
