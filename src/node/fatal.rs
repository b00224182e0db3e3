//! Why the daemon ends, and the exit code that says so to systemd (sysexits and LSB).

use std::io;

#[derive(Debug)]
pub struct Fatal {
    pub code: u8,
    pub text: String,
}

impl Fatal {
    pub const RUNTIME: u8 = 1;
    /// A port or address is taken, or nobody answers there.
    pub const UNAVAILABLE: u8 = 69;
    pub const SYSTEM: u8 = 71;
    pub const CANNOT_CREATE: u8 = 73;
    pub const CONFIG: u8 = 78;

    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// An error of the system at `what`.
    pub(super) fn system(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(Self::SYSTEM, format!("{what}: {error}"))
    }
}
