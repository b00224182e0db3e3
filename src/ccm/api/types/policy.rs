//! What jobs go by.

use serde::{Deserialize, Serialize};

/// `GET` and `POST /v1/sites/NAME/policy`, and part of jobs and schedules: what a job goes by. What is left out is as
/// the site has it, and what that leaves out as the defaults that each field names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Nodes that must have staged before any switches: `all` (the default), a number, or a share as `90%`. The others
    /// stay at the version that they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<String>,
    /// Of the nodes that are to have the site, those that must be online at the start; `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_quorum: Option<String>,
    /// Members of a segment that must have an assignment before its multicast ends; as `ccm.toml` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_quorum: Option<String>,
    /// Of the nodes that were waited for, those that must be live in the end, or all go back to the version before;
    /// `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    /// Where another job goes to the same site on the same nodes: `queue` (the default) or `cancel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<String>,
    /// Where a freeze or a blackout is on: `wait` (the default) or `cancel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_freeze: Option<String>,
    /// When nodes go live: `commit` (the default), all at one instant, when enough have staged; `autonomous`, each by
    /// itself as soon as it has, and `quorum` has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
    /// Whether commands and data are encrypted, so that only nodes that are to have the site can read them; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<bool>,
    /// Attempts after the first where a run fails, 0..=100; none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u8>,
    /// Seconds before each of them, 1..=604,800; 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// Checkpoints of the site that stay when another is made, 1..=100; 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<u8>,
    /// Of a site: seconds for which a node must have been online and lack what is live before a job brings it along by
    /// itself, 0..=604,800, 0 for never; 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bring_along_after_s: Option<u32>,
    /// Of a site: bytes of one upload, as they are sent; 68,719,476,736.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_bytes: Option<u64>,
    /// Of a site: entries of one upload; 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_entries: Option<u64>,
    /// Bytes of the largest assignment, commands and data together, from 65,536 on: a larger update is sent in parts.
    /// 0 for no bound, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_max: Option<u64>,
}
