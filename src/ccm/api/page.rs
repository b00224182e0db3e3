//! Lists page by page: how much one answer holds, and where it begins.

use super::problem::Refusal;
use serde::Deserialize;

/// Entries of one answer, at most and where nothing is said.
pub const MAX: u32 = 1_000;
const DEFAULT: u32 = 100;

/// The query of a list that shows its newest entries first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Back {
    /// Entries before this number; without it the last ones.
    pub before: Option<u64>,
    limit: Option<u32>,
}

impl Back {
    /// # Errors
    /// More are asked for than one answer holds, or none.
    pub fn limit(&self) -> Result<u32, Refusal> {
        limit(self.limit)
    }
}

/// Entries that were asked for.
///
/// # Errors
/// More than one answer holds, or none.
pub fn limit(asked: Option<u32>) -> Result<u32, Refusal> {
    within(asked, DEFAULT, MAX)
}

/// As [`limit`], of a list with bounds of its own.
///
/// # Errors
/// As [`limit`].
pub fn within(asked: Option<u32>, default: u32, max: u32) -> Result<u32, Refusal> {
    let limit = asked.unwrap_or(default);
    if !(1..=max).contains(&limit) {
        return Err(Refusal::bad_request(format!("limit {limit} is not within 1 to {max}")));
    }
    Ok(limit)
}
