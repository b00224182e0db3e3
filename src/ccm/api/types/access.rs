//! Who may use the API, and who did.

use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    pub name: String,
    /// `viewer`, `creator`, `operator` or `admin`: each may what those before it may.
    pub role: String,
    /// The sites that it is for; empty: the whole farm.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Seconds from now on, at most ten years; 0: 90 days.
    #[serde(default)]
    pub expires_s: u64,
}

/// A token that was made, with its secret, which is shown this once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeToken {
    pub schema: String,
    /// For the header `Authorization: Bearer`.
    pub secret: String,
    pub token: Token,
}

/// `GET /v1/tokens`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    pub role: String,
    /// Empty: the whole farm.
    pub sites: Vec<String>,
    /// `valid`, `expired` or `revoked`
    pub state: String,
    pub expires_ns: u64,
    pub created_ns: u64,
    /// Who made it.
    pub created_by: String,
    /// When it was used last, to ten minutes; 0: never.
    pub used_ns: u64,
}

/// `GET /v1/audit`: a change, or requests that were refused or counted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Later ones have higher numbers.
    pub id: u64,
    pub at_ns: u64,
    /// `uid:1000`, `token:ci`; empty where nobody knows.
    pub who: String,
    /// `unix`, or an address.
    pub origin: String,
    pub method: String,
    pub route: String,
    /// Empty: of no site, or of all.
    pub site: String,
    /// What was asked for, and why it was not done.
    pub detail: String,
    /// Of the answer; 0: it is not known how it ended.
    pub status: u16,
    /// For want of a right.
    pub refused: bool,
    /// Requests that it stands for, and when the last of them was.
    pub count: u64,
    pub last_ns: u64,
}

/// `GET /v1/remote`: the API over TLS, and what became of connections since the controller was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remote {
    pub schema: String,
    /// Where it listens; empty: it does not.
    pub address: String,
    /// Of its certificate, for clients to pin: `sha256:` and 64 hexadecimal digits; empty where it does not listen.
    pub fingerprint: String,
    /// Open now.
    pub connections: u64,
    pub handshakes_failed: u64,
    /// Closed at once, for there were too many.
    pub turned_away: u64,
    /// Requests that named no token that counts, or one without the right; from the Unix socket too.
    pub refused: u64,
}
