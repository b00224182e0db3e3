//! How a command can end badly, and with which exit code.

use std::io::{self, Write};
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It ran and failed.
    #[error("{0}")]
    Ran(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The controller refused: a conflict, or a precondition that does not hold.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    /// The controller does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The controller was there, and its answer was not: nobody knows what it did.
    #[error("{0}")]
    Lost(String),
    /// The user pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    /// The reader of stdout has gone away (`| head`): nothing to say, and nobody to say it to.
    #[error("the reader of the output has gone")]
    Closed,
}

/// A job is live on some nodes and failed on others.
pub const PARTIAL: u8 = 3;

impl Failure {
    /// Whether nobody answered, or nobody to the end: it may be starting again.
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_))
    }

    pub const fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Ran(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 4,
            Self::NotFound(_) => 5,
            Self::Unreachable(_) | Self::Lost(_) => 69,
            Self::Interrupted(_) => 130,
        }
    }

    /// Says it on stderr, in one line.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::Closed) {
            // Where stderr is closed too there is nobody left to tell.
            let _ = writeln!(io::stderr(), "farmcast: {self}");
        }
        ExitCode::from(self.code())
    }
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout; other errors are put into words where they happen.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Ran(format!("cannot write to stdout: {error}")),
        }
    }
}
