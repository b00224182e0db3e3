//! What takes care of the controller itself: its database.

use serde::{Deserialize, Serialize};

/// `GET /v1/database`: how the database is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub schema: String,
    pub file: String,
    /// Of its tables; `program_version` is the one that this program writes.
    pub version: u64,
    pub program_version: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that are written beside it and not yet in it.
    pub log_bytes: u64,
    /// Bytes in it that are free for what comes.
    pub free_bytes: u64,
    /// `ok`, `unfinished` where it could not be checked whole in time, else what is damaged.
    pub integrity: String,
    pub tables: Vec<Table>,
    /// The last number of each series: of jobs, runs, assignments, orders, ends of runs, lists of groups.
    pub numbers: Vec<Series>,
}

/// A table of the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub rows: u64,
}

/// Numbers that are given once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub last: u64,
}

/// `POST /v1/database/backup`: the file to write, as a path of the controller's machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// An absolute path; nothing is there yet.
    pub file: String,
}

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    pub schema: String,
    pub file: String,
    pub bytes: u64,
}
