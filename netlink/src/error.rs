//! What can go wrong between us and the kernel.

use std::fmt;
use std::io;

use crate::message::Malformed;

#[derive(Debug)]
pub enum Error {
    /// The socket itself failed.
    Socket { doing: &'static str, source: io::Error },
    /// The kernel refused a request; `said` is its own sentence, where it gave one.
    Refused { doing: &'static str, source: io::Error, said: Option<String> },
    /// The running kernel has no such qdisc, kind of link or family.
    Unsupported { what: &'static str },
    /// The kernel's answer is not what its headers promise.
    Malformed { doing: &'static str, source: Malformed },
    /// The tables changed during every one of several dumps.
    Unsteady { doing: &'static str },
    /// No link of that name.
    NoLink { name: String },
    /// A name the kernel would cut or refuse: empty, over 15 bytes, or with `/`, blank or NUL.
    BadName { name: String },
}

impl Error {
    pub(crate) fn socket(doing: &'static str, source: io::Error) -> Self {
        Self::Socket { doing, source }
    }

    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// A refusal with one of `numbers` is the kernel's way to say that it does not have `what`.
    pub(crate) fn unsupported_if(self, numbers: &[i32], what: &'static str) -> Self {
        match self.errno() {
            Some(number) if numbers.contains(&number) => Self::Unsupported { what },
            _ => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { doing, source } => write!(f, "{doing}: {source}"),
            Self::Refused { doing, source, said: Some(said) } => write!(f, "{doing}: {source} ({said})"),
            Self::Refused { doing, source, said: None } => write!(f, "{doing}: {source}"),
            Self::Unsupported { what } => write!(f, "this kernel has no {what}"),
            Self::Malformed { doing, source } => {
                write!(f, "{doing}: the kernel's answer is broken: {source}")
            }
            Self::Unsteady { doing } => write!(f, "{doing}: the tables changed during every attempt"),
            Self::NoLink { name } => write!(f, "there is no network interface `{name}`"),
            Self::BadName { name } => {
                write!(f, "`{name}` cannot name a network interface: 1-15 bytes without blank, `/` and NUL")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(source),
            _ => None,
        }
    }
}
