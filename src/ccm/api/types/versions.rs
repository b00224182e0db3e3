//! Versions and checkpoints of a site, and what a publish would change.

use super::Changes;
use serde::{Deserialize, Serialize};

/// `GET /v1/sites/NAME/versions`, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteVersion {
    /// The assignment that made it.
    pub version: u64,
    pub committed_ns: u64,
    pub live: bool,
    /// It can go live again at once: the controller keeps it, and so do nodes that keep as many.
    pub kept: bool,
    pub details: String,
    /// Numbers of the checkpoints that are copies of it.
    #[serde(default)]
    pub checkpoints: Vec<u64>,
}

/// `GET /v1/sites/NAME/diff`, with `?patch=true` for the text of files: what a publish would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteDiff {
    pub schema: String,
    pub site: String,
    /// The version that staging is compared with; 0 for none, and everything is new.
    pub version: u64,
    pub changes: Changes,
    /// The first 10,000 differences, in the order of a walk.
    pub entries: Vec<DiffEntry>,
    /// How many there are beside these.
    pub more: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// What is not printable ASCII stands as `\xNN`.
    pub path: String,
    /// `added`, `removed` (a directory with all below it), `changed`, `metadata` (mode or time) or `replaced`
    /// (by another kind of entry, or a symbolic link by one with another text).
    pub change: String,
    /// `file`, `directory` or `symlink`: what it is in staging; of what is removed, what it was.
    pub kind: String,
    /// Sizes of files.
    pub old_bytes: Option<u64>,
    pub new_bytes: Option<u64>,
    pub old_mode: Option<u32>,
    pub new_mode: Option<u32>,
    /// Unified diff of the text, where it was asked for.
    #[serde(default)]
    pub patch: String,
    /// Why there is none.
    #[serde(default)]
    pub note: String,
}

/// `POST /v1/nodes/NAME/verify`; answered with a [`NodeReport`] when all of the site was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyNode {
    pub site: String,
    /// Where something is wrong, the node takes its site to have no version from then on, so that the next
    /// `synchronize` or publish brings all of it.
    #[serde(default)]
    pub doubt: bool,
}

/// What a node has live, against what was signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub schema: String,
    pub node: String,
    pub site: String,
    pub version: u64,
    pub entries: u64,
    pub bytes: u64,
    /// At most the first 100 that were found, fewer where paths are long.
    pub flaws: Vec<NodeFlaw>,
    /// How many more there are.
    pub more: u64,
    /// Why it could not be compared to its end; empty: it was.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeFlaw {
    pub path: String,
    /// `missing`, `extra`, `kind`, `content`, `mode`, `owner`, `time`, `link` (where a symbolic link points) or `names`
    /// (which names are hard links of one file).
    pub what: String,
}

/// `GET /v1/sites/NAME/checkpoints`, the newest first: a whole copy of what was live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub number: u64,
    /// What somebody called it; empty: nothing.
    pub name: String,
    /// The version that it is a copy of.
    pub version: u64,
    pub created_ns: u64,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that it took on the disk of the controller beside those before it.
    pub stored_bytes: u64,
}

/// `GET /v1/sites/NAME/checkpoints/NUMBER/verify`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointReport {
    pub schema: String,
    pub checkpoint: Checkpoint,
    pub files: u64,
    pub chunks: u64,
    /// What cannot be brought back, at most 100 pieces of files.
    pub flaws: Vec<CheckpointFlaw>,
    /// How many more there are.
    pub more: u64,
    /// Why it could not be read to its end; empty: it was.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointFlaw {
    pub path: String,
    /// The BLAKE3 hash of the piece, by which it is stored.
    pub chunk: String,
    /// `missing` or `not what it was`
    pub flaw: String,
}
