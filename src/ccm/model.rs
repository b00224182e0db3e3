//! The values of the controller's domain, as the database holds them and the planners see them.

use super::api::types::{Changes, Phase, Policy};
use super::filter::Filter;
use super::policy::Rules;
use crate::content::checkpoint::Key;
use crate::wire::assignment::{Kind, Shape};
use crate::wire::charter::{Charter, Leaders};
use crate::wire::control::{Machine, SiteState};
use crate::wire::id::{AssignmentId, CharterId, Epoch, JobId, ListNumber, Name, NodeId, OrderId, RunId};
use crate::wire::order::Action;
use crate::wire::seal::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

/// One hosted tree of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub name: Name,
    pub staging: PathBuf,
    /// The assignment whose result the shadow holds; `None` before the first commit.
    pub version: Option<AssignmentId>,
    pub files: u64,
    pub bytes: u64,
    /// The content group that serves it.
    pub group: Name,
    /// What of staging is picked up.
    pub filter: Filter,
}

/// A server that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub name: Name,
    pub key: PublicKey,
    pub can_lead: bool,
    /// What a leader last reported of it; `None` before the first report.
    pub seen: Option<Seen>,
}

/// A node as its segment's leader saw it last (NS-3, NS-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub segment: Name,
    pub online: bool,
    /// When it last stood in a report, nanoseconds since 1970.
    pub at_ns: u64,
    pub datagram: SocketAddr,
    pub http: SocketAddr,
    pub text: SocketAddr,
    pub priority: u32,
    pub processors: u16,
    pub free_memory: u64,
    pub free_disk: u64,
    /// The list of content groups that it goes by.
    pub groups: ListNumber,
    /// It may lead by certificate and configuration.
    pub leads: bool,
    pub machine: Machine,
    pub sites: Vec<SiteState>,
}

impl Node {
    pub fn is_online(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.online)
    }

    /// The site as this node holds it; `None` where it does not serve it.
    pub fn site(&self, site: &Name) -> Option<&SiteState> {
        self.seen.as_ref()?.sites.iter().find(|state| &state.site == site)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its name in the configuration of its nodes: its id.
    pub name: Name,
    /// What people call it (NS-14).
    pub title: Name,
    /// `None` where it has not reported for [`SEGMENT_TIMEOUT_NS`].
    pub leader: Option<NodeId>,
    pub epoch: Epoch,
    pub reported_ns: u64,
    /// The control channel that it uses, as reported.
    pub channel: Option<SocketAddrV4>,
    /// The charter that its leader has, as reported, and members that do not have that one yet.
    pub reported_charter: CharterId,
    pub behind: u32,
    pub decided: Decided,
}

/// What the operator decided of a segment (EL-3, EL-6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// 0 before the first decision.
    pub number: CharterId,
    pub channel: Option<SocketAddrV4>,
    pub leaders: Option<Leaders>,
}

impl Segment {
    /// The document that says to the nodes what was decided.
    pub fn charter(&self) -> Charter {
        Charter {
            number: self.decided.number,
            segment: self.name.clone(),
            title: self.title.clone(),
            channel: self.decided.channel,
            leaders: self.decided.leaders.clone(),
        }
    }
}

/// What people call segments; those that were never reported have their id.
#[derive(Clone, Debug, Default)]
pub struct Titles(BTreeMap<Name, Name>);

impl Titles {
    pub fn of(segments: &[Segment]) -> Self {
        Self(segments.iter().map(|segment| (segment.name.clone(), segment.title.clone())).collect())
    }

    pub fn title(&self, segment: &Name) -> String {
        self.0.get(segment).unwrap_or(segment).to_string()
    }
}

/// Silence after which a segment counts as offline: leaders report every second or so.
pub const SEGMENT_TIMEOUT_NS: u64 = 10_000_000_000;

/// One execution of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub job: JobId,
    pub kind: JobKind,
    pub site: Name,
    /// The nodes that a synchronize is for; empty: all that lack something.
    pub only: Vec<NodeId>,
    pub phase: Phase,
    pub text: String,
    pub created_ns: u64,
    pub started_ns: u64,
    pub finished_ns: u64,
    /// What composing found; `None` before it ended.
    pub composition: Option<Composition>,
    pub assignment: Option<Assignment>,
    pub parts: Parts,
    pub order: Option<IssuedOrder>,
    pub terms: Terms,
}

/// The parts of an update that is split (AS-13); nothing where it is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Those before the run's assignment, which is the last, in order.
    pub before: Vec<Assignment>,
    /// So many of them are decided: enough nodes have them staged.
    pub done: usize,
    /// Since when the one after those is sent, nanoseconds since 1970; 0 for the first.
    pub since_ns: u64,
}

impl Parts {
    /// Whether what is sent now goes live.
    pub const fn is_at_last(&self) -> bool {
        self.done >= self.before.len()
    }

    /// `part 2 of 5`, from 1 on; `None` where it is not split.
    pub fn position(&self) -> Option<String> {
        let of = self.before.len() + 1;
        (of > 1).then(|| format!("part {} of {of}", self.done + 1))
    }
}

/// On what terms a run runs: what was settled when its job was added, and what was wished of it since.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub rules: Rules,
    /// As it is shown.
    pub policy: Policy,
    /// The schedule that started the job.
    pub schedule: Option<Name>,
    /// Why it starts although nothing may; empty: it does not.
    pub override_reason: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// It does not start before, nanoseconds since 1970 (B-13).
    pub ready_ns: u64,
    pub wish: Wish,
    /// Since when it is paused, 0 where it is not, and for how long it was before.
    pub paused_ns: u64,
    pub held_ns: u64,
}

/// What an operator wishes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    #[default]
    None,
    Pause,
    Cancel,
}

impl Wish {
    const ALL: [(Self, &'static str); 3] =
        [(Self::None, ""), (Self::Pause, "pause"), (Self::Cancel, "cancel")];

    /// The stable word in the database.
    pub fn word(self) -> &'static str {
        word_of(&Self::ALL, self)
    }
}

impl FromStr for Wish {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        value_of(&Self::ALL, word)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            rules: Rules::DEFAULT,
            policy: Policy::default(),
            schedule: None,
            override_reason: String::new(),
            attempt: 1,
            ready_ns: 0,
            wish: Wish::None,
            paused_ns: 0,
            held_ns: 0,
        }
    }
}

/// A job to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub kind: JobKind,
    pub site: Name,
    /// Whom a synchronize is for; empty: all that lack something.
    pub nodes: Vec<NodeId>,
    pub policy: Policy,
    pub schedule: Option<Name>,
    pub override_reason: String,
}

impl Run {
    /// The assignment that is distributed now: of several parts one after the other.
    pub fn sent(&self) -> Option<&Assignment> {
        self.parts.before.get(self.parts.done).or(self.assignment.as_ref())
    }

    /// Bytes of all that it sends.
    pub fn assignment_bytes(&self) -> u64 {
        let all = self.parts.before.iter().chain(&self.assignment);
        all.map(|assignment| assignment.shape.command_len + assignment.shape.data_len).sum()
    }

    /// The version that the run puts live: what its order says, or would say; `None` before it is known. 0
    /// stands for what was live before the first assignment.
    pub fn version(&self) -> Option<AssignmentId> {
        match self.kind {
            JobKind::Publish { .. } | JobKind::Synchronize | JobKind::Restore { .. } | JobKind::Remove => {
                self.assignment.map(|assignment| assignment.id)
            }
            JobKind::Checkpoint => None,
            JobKind::Rollback | JobKind::Switch { .. } => {
                self.order.as_ref().map(|order| order.action.assignment())
            }
        }
    }
}

/// What a job does with a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// What is in staging goes live (JT-1). With `checksum` all files are read, also those that look unchanged.
    Publish { checksum: bool },
    /// Nodes that do not hold the version that is live are brought to it, each by what it lacks (JT-5, CM-7).
    Synchronize,
    /// The version before the one that is live goes live again (JT-6).
    Rollback,
    /// A version that the nodes keep goes live again (JT-7, VC-11).
    Switch { version: AssignmentId },
    /// What is live is copied to the controller's checkpoints; no node takes part (JT-11).
    Checkpoint,
    /// Named files and directories, or all content, are taken off the nodes; staging is left alone (JT-8).
    Remove,
    /// A checkpoint goes live as a new version; staging is left alone (JT-3).
    Restore { checkpoint: u64 },
}

impl JobKind {
    /// The stable word, in JSON and in the database.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publish { .. } => "publish",
            Self::Synchronize => "synchronize",
            Self::Rollback => "rollback",
            Self::Switch { .. } => "switch",
            Self::Checkpoint => "checkpoint",
            Self::Remove => "remove",
            Self::Restore { .. } => "restore",
        }
    }

    /// The number that goes with it.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Switch { version } => Some(version.0),
            Self::Restore { checkpoint } => Some(checkpoint),
            Self::Publish { .. } | Self::Synchronize | Self::Rollback | Self::Checkpoint | Self::Remove => {
                None
            }
        }
    }

    /// The kind of that word; `number` is the version where a switch goes to or the checkpoint that a restore brings
    /// back, `checksum` how a publish looks at files.
    pub fn new(word: &str, number: Option<u64>, checksum: bool) -> Result<Self, UnknownWord> {
        match (word, number, checksum) {
            ("publish", None, checksum) => Ok(Self::Publish { checksum }),
            ("synchronize", None, false) => Ok(Self::Synchronize),
            ("rollback", None, false) => Ok(Self::Rollback),
            ("switch", Some(number), false) => Ok(Self::Switch { version: AssignmentId(number) }),
            ("checkpoint", None, false) => Ok(Self::Checkpoint),
            ("remove", None, false) => Ok(Self::Remove),
            ("restore", Some(checkpoint), false) => Ok(Self::Restore { checkpoint }),
            _ => Err(UnknownWord(word.to_owned())),
        }
    }
}

/// What composing found out about a site and its changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Composition {
    pub changes: Changes,
    /// Content bytes of added and changed files.
    pub changed_bytes: u64,
    pub site_files: u64,
    pub site_bytes: u64,
    /// What was left out of staging, and why; at most [`Composition::WARNINGS_MAX`].
    pub warnings: Vec<String>,
}

impl Composition {
    pub const WARNINGS_MAX: usize = 100;
}

/// An assignment as the controller remembers it; its bytes are an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub id: AssignmentId,
    pub kind: Kind,
    pub base: Option<AssignmentId>,
    pub shape: Shape,
    pub composed_ns: u64,
}

/// A version that was live at some time; no content (VC-3, VC-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The assignment that made it.
    pub version: AssignmentId,
    pub committed_ns: u64,
    pub details: String,
}

/// A whole copy of what was live of a site (VC-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub key: Key,
    pub site: Name,
    /// What somebody called it.
    pub title: Option<Name>,
    pub version: AssignmentId,
    pub created_ns: u64,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that were not stored before.
    pub stored_bytes: u64,
    /// The hash that its tree was signed with.
    pub tree: [u8; 32],
}

/// Its number, with what it is called.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.title {
            Some(title) => write!(f, "{} ({title})", self.key.number),
            None => write!(f, "{}", self.key.number),
        }
    }
}

/// An order that was signed: the document never changes, however often it is sent (design D10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedOrder {
    pub id: OrderId,
    pub bytes: Vec<u8>,
    /// What the document says.
    pub action: Action,
    /// When nodes switch, nanoseconds since 1970.
    pub at_ns: u64,
}

/// A node that was online when the run was composed, and what it reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunNode {
    pub node: NodeId,
    pub name: Name,
    pub segment: Name,
    pub state: NodeState,
    /// Stable word of a failure; empty otherwise.
    pub reason: String,
    pub text: String,
    /// When its state changed last, nanoseconds since 1970.
    pub changed_ns: u64,
    /// When it switched, by the controller's clock as the node knows it; 0 before.
    pub switched_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    Waiting,
    Staged,
    Live,
    Failed,
    Missing,
}

impl NodeState {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Waiting, "waiting"),
        (Self::Staged, "staged"),
        (Self::Live, "live"),
        (Self::Failed, "failed"),
        (Self::Missing, "missing"),
    ];
}

/// The stable word, in JSON and in the database.
impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::ALL, *self))
    }
}

impl FromStr for NodeState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        value_of(&Self::ALL, word)
    }
}

const PHASES: [(Phase, &str); 9] = [
    (Phase::Queued, "queued"),
    (Phase::Composing, "composing"),
    (Phase::Distributing, "distributing"),
    (Phase::Committing, "committing"),
    (Phase::Done, "done"),
    (Phase::Unchanged, "unchanged"),
    (Phase::Partial, "partial"),
    (Phase::Failed, "failed"),
    (Phase::Cancelled, "cancelled"),
];

/// The stable word, in JSON and in the database.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&PHASES, *self))
    }
}

impl FromStr for Phase {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        value_of(&PHASES, word)
    }
}

const KINDS: [(Kind, &str); 2] = [(Kind::Publish, "publish"), (Kind::Replicate, "replicate")];

/// The stable word of an assignment's kind, in JSON and in the database.
pub fn kind_word(kind: Kind) -> &'static str {
    word_of(&KINDS, kind)
}

pub fn kind_of(word: &str) -> Result<Kind, UnknownWord> {
    value_of(&KINDS, word)
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no word of this column")]
pub struct UnknownWord(String);

/// The stable word of a value.
pub(super) fn word_of<T: Copy + PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    words.iter().find(|(known, _)| *known == value).expect("the table lists every value").1
}

/// # Errors
/// No value has this word.
pub(super) fn value_of<T: Copy>(words: &[(T, &'static str)], word: &str) -> Result<T, UnknownWord> {
    let found = words.iter().find(|(_, known)| *known == word);
    found.map(|(value, _)| *value).ok_or_else(|| UnknownWord(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the simulator: the classic leaders' reports came just too late.
    #[test]
    fn leaders_report_three_times_before_the_silent_are_taken_offline() {
        use crate::proto::profile::Profile;
        for profile in [Profile::CLASSIC, Profile::LAN] {
            assert!((profile.segment_report * 3).as_nanos() < SEGMENT_TIMEOUT_NS);
        }
    }

    #[test]
    fn the_words_of_the_database_are_those_of_the_api() {
        for (phase, word) in PHASES {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{word}\""));
            assert_eq!(word.parse::<Phase>().unwrap(), phase);
        }
        for (state, word) in NodeState::ALL {
            assert_eq!(word.parse::<NodeState>().unwrap(), state);
        }
    }
}
