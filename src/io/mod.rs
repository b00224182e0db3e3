//! io

pub mod clock;
pub mod packet;
