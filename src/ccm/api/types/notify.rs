//! Who is notified.

use serde::{Deserialize, Serialize};

/// `GET /v1/notify`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub name: String,
    /// The program, or scheme and host of the address.
    pub to: String,
    /// Kinds of events that it is told of; none: all.
    pub events: Vec<String>,
    /// Events that wait.
    pub waiting: u64,
    /// Tries of the first of them in vain, and why the last one was.
    pub tries: u32,
    pub failure: String,
    /// Events that it took, and when last; 0 for never.
    pub delivered: u64,
    pub delivered_ns: u64,
    /// Events that were given up.
    pub dropped: u64,
}

/// `POST /v1/notify/NAME/test`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTest {
    pub name: String,
    pub ok: bool,
    /// Why it failed.
    pub text: String,
    pub took_ms: u64,
}

/// `GET /v1/jobs/ID/log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLog {
    pub schema: String,
    pub job: u64,
    pub lines: Vec<String>,
}
