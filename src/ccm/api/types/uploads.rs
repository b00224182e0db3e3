//! What content creators send into staging.

use serde::{Deserialize, Serialize};

/// `POST /v1/sites/NAME/uploads`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// `replace` (a tar archive that is all of staging), `merge` (one whose files go to staging beside what is there)
    /// or `file`.
    pub kind: String,
    /// Below staging: the directory that a merge goes to, the path of a file.
    #[serde(default)]
    pub into: String,
    /// How long it is, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// BLAKE3 of what is sent, in hexadecimal digits; empty where it is not known yet.
    #[serde(default)]
    pub blake3: String,
    /// By what the sender knows it again, so that it can go on with it.
    #[serde(default)]
    pub print: String,
}

/// `POST /v1/sites/NAME/uploads/ID/finish`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishUpload {
    /// BLAKE3 of what was sent; empty to have it not compared.
    #[serde(default)]
    pub blake3: String,
}

/// `GET /v1/sites/NAME/uploads`, `GET /v1/sites/NAME/uploads/ID`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub schema: String,
    pub id: u64,
    pub site: String,
    pub kind: String,
    pub into: String,
    /// `open` (send on), `landing` (it is complete and goes to staging), `done` or `failed`.
    pub state: String,
    /// Bytes that are there: the offset of the next piece.
    pub received: u64,
    pub bytes: Option<u64>,
    pub print: String,
    /// What came to staging.
    pub files: u64,
    pub content_bytes: u64,
    /// How it ended.
    pub text: String,
    pub created_ns: u64,
    pub touched_ns: u64,
}
