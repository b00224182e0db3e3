//! What somebody may want to be told of.

use super::super::api::types::Phase;
use std::fmt;

/// The kind of a line of the history, as it stands in the database and in `ccm.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    JobDone,
    JobUnchanged,
    JobPartial,
    JobFailed,
    JobCancelled,
    Conflict,
    NodeOnline,
    NodeOffline,
    /// A job brings nodes along that lack what is live.
    NodeStale,
    NodeTwin,
    SegmentSilent,
    /// Two leaders of one segment do not hear each other.
    SegmentSplit,
    UploadDone,
    UploadFailed,
    Database,
}

impl Kind {
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::JobDone, "job-done"),
        (Self::JobUnchanged, "job-unchanged"),
        (Self::JobPartial, "job-partial"),
        (Self::JobFailed, "job-failed"),
        (Self::JobCancelled, "job-cancelled"),
        (Self::Conflict, "conflict"),
        (Self::NodeOnline, "node-online"),
        (Self::NodeOffline, "node-offline"),
        (Self::NodeStale, "node-stale"),
        (Self::NodeTwin, "node-twin"),
        (Self::SegmentSilent, "segment-silent"),
        (Self::SegmentSplit, "segment-split"),
        (Self::UploadDone, "upload-done"),
        (Self::UploadFailed, "upload-failed"),
        (Self::Database, "database"),
    ];

    /// The end of a run; `None` while it is not over.
    pub const fn of_phase(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Queued | Phase::Composing | Phase::Distributing | Phase::Committing => None,
            Phase::Done => Some(Self::JobDone),
            Phase::Unchanged => Some(Self::JobUnchanged),
            Phase::Partial => Some(Self::JobPartial),
            Phase::Failed => Some(Self::JobFailed),
            Phase::Cancelled => Some(Self::JobCancelled),
        }
    }

    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One line of the history that somebody is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Number of the event.
    pub id: u64,
    pub at_ns: u64,
    pub kind: String,
    pub subject: String,
    pub text: String,
    /// Job and site, where it is about a run.
    pub job: u64,
    pub site: String,
}
