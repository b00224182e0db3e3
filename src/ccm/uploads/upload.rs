//! What the controller knows of one upload.

use crate::ccm::model::{UnknownWord, value_of, word_of};
use crate::wire::assignment::RelPath;
use crate::wire::id::Name;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What is to become of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An archive that is all of staging.
    Replace,
    /// An archive whose files go to staging, beside what is there.
    Merge,
    /// One file.
    File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being sent, or could be.
    Open,
    /// It is complete and goes to staging.
    Landing,
    Done,
    Failed,
}

/// What is to be uploaded.
#[derive(Clone, Debug)]
pub struct NewUpload {
    pub site: Name,
    pub kind: Kind,
    /// Below staging; of a file its path.
    pub into: Option<RelPath>,
    /// The staging directory, without symbolic links.
    pub staging: PathBuf,
    pub bytes: Option<u64>,
    pub hash: Option<[u8; 32]>,
    /// By what the sender knows it again.
    pub print: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub id: u64,
    pub site: Name,
    pub kind: Kind,
    pub into: Option<RelPath>,
    pub staging: PathBuf,
    pub bytes: Option<u64>,
    pub hash: Option<[u8; 32]>,
    pub print: String,
    pub state: State,
    /// Of the directory that becomes staging, while a replace lands.
    pub inode: u64,
    pub landed: Landed,
    pub text: String,
    pub created_ns: u64,
    pub touched_ns: u64,
}

/// What came to staging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    pub files: u64,
    pub bytes: u64,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Replace, "replace"), (Self::Merge, "merge"), (Self::File, "file")];
}

impl State {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Open, "open"), (Self::Landing, "landing"), (Self::Done, "done"), (Self::Failed, "failed")];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::ALL, *self))
    }
}

impl FromStr for Kind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        value_of(&Self::ALL, word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::ALL, *self))
    }
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        value_of(&Self::ALL, word)
    }
}
