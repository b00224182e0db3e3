//! The values that the API speaks in JSON: one definition for the server, the command line and the demo.
//!
//! Field names are stable, units stand in them, times are nanoseconds since 1970 (`_ns`) by the CCM's
//! clock. Unknown fields are ignored, so that an older command line understands a newer CCM.

mod access;
mod care;
mod notify;
mod policy;
mod uploads;
mod versions;

pub use crate::ccm::filter::Filter;
pub use access::{AuditEntry, MadeToken, NewToken, Remote, Token};
pub use care::{Backup, Database, NewBackup, Series, Table};
pub use notify::{JobLog, NotifyTest, Receiver};
pub use policy::Policy;
use serde::{Deserialize, Serialize};
pub use uploads::{FinishUpload, NewUpload, Upload};
pub use versions::{
    Checkpoint, CheckpointFlaw, CheckpointReport, DiffEntry, NodeFlaw, NodeReport, SiteDiff, SiteVersion,
    VerifyNode,
};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema: String,
    pub version: String,
    pub revision: String,
    /// One sentence: how the farm is.
    pub verdict: String,
    /// What to do about it; empty where nothing is to do.
    pub action: String,
    pub nodes_online: u32,
    pub nodes_total: u32,
    pub segments: Vec<Segment>,
    pub sites: Vec<Site>,
    /// Jobs that run now, oldest first.
    pub running: Vec<Job>,
    /// Where nodes reach this CCM.
    pub listen: String,
    /// Bytes of assignments that this CCM itself has served to leaders since it started.
    pub served_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What people call it.
    pub name: String,
    /// Its name in the configuration of its nodes.
    #[serde(default)]
    pub id: String,
    /// Id of the leader; empty where none is known.
    pub leader: String,
    pub leader_name: String,
    /// Names of nodes that lead it as well, for they do not hear the leader: multicast is blocked.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// Names of members that the leader's multicast does not reach: they are served by unicast.
    #[serde(default)]
    pub by_unicast: Vec<String>,
    pub epoch: u64,
    pub nodes_online: u32,
    pub nodes_total: u32,
    pub reported_ns: u64,
    /// Nodes whose identity a second machine uses, `NAME at ADDRESS`: that machine keeps silent.
    #[serde(default)]
    pub twins: Vec<String>,
    /// The control channel that it uses, and the one that was decided on; empty: that of the configuration.
    #[serde(default)]
    pub channel: String,
    #[serde(default)]
    pub wanted_channel: String,
    /// Names of the nodes that may lead; empty: whoever may by its configuration.
    #[serde(default)]
    pub leaders: Vec<String>,
    /// Seconds without any of them after which the others vote; `None`: never.
    #[serde(default)]
    pub open_after_s: Option<u32>,
    /// Number of what was decided, of what its leader goes by, and members that do not have that yet.
    #[serde(default)]
    pub charter: u64,
    #[serde(default)]
    pub charter_reported: u64,
    #[serde(default)]
    pub nodes_behind: u32,
}

/// `GET /v1/segments/ID`, and the answer to a change
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentDetail {
    pub segment: Segment,
    /// Nodes that were last seen in it.
    pub nodes: Vec<Node>,
    /// What happened in it last, newest first.
    pub events: Vec<Event>,
}

/// `GET /v1/events`, `GET /v1/events?after=ID`, `GET /v1/events?stream`: one line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: later events have higher ones.
    #[serde(default)]
    pub id: u64,
    pub at_ns: u64,
    /// `segment ID`, `node NAME`, `run N`, `job N`, `schedule NAME`, `window NAME` ...
    pub subject: String,
    pub text: String,
    /// What it is, for those who are notified; empty where nobody is told of it.
    #[serde(default)]
    pub kind: String,
}

/// `POST /v1/segments/ID/name`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTitle {
    pub name: String,
}

/// `POST /v1/segments/ID/channel`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewChannel {
    /// `ADDRESS:PORT` of a multicast group; empty: the channel of the configuration.
    pub channel: String,
}

/// `POST /v1/segments/ID/leaders`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLeaders {
    /// Names of nodes; none: whoever may by its configuration.
    pub nodes: Vec<String>,
    /// Seconds without any of them after which the others vote; `None`: never.
    pub open_after_s: Option<u32>,
}

/// `GET /v1/sites`; `POST /v1/sites` with [`NewSite`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    pub name: String,
    pub staging: String,
    /// Assignment whose result is live; 0 before the first commit.
    pub version: u64,
    pub files: u64,
    pub bytes: u64,
    /// The content group that serves it; its default group has the site's name.
    #[serde(default)]
    pub group: String,
    /// What of staging is picked up.
    #[serde(default)]
    pub filter: Filter,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSite {
    pub name: String,
    /// Absolute path of the directory from which the site is published.
    pub staging: String,
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub filter: Filter,
}

/// `POST /v1/sites/NAME/group`: which group serves a site; answered with the [`Site`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteGroup {
    /// Empty for the site's default group.
    pub group: String,
}

/// `GET /v1/groups`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    /// The default group of the site of its name: it holds every node that hosts the site.
    pub default: bool,
    /// Whom the operator chose: `web1`, `web*`, `segment:rack1`; empty for a default group.
    pub chosen: Vec<String>,
    pub sites: Vec<String>,
    /// Its members: nodes that are chosen and host one of its sites.
    pub nodes_online: u32,
    pub nodes_total: u32,
}

/// `POST /v1/groups`; answered with the [`GroupDetail`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    pub name: String,
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// `POST /v1/groups/NAME`: all of it or nothing; answered with the [`GroupDetail`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeGroup {
    #[serde(default)]
    pub add: Vec<String>,
    #[serde(default)]
    pub remove: Vec<String>,
}

/// `GET /v1/groups/NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDetail {
    pub schema: String,
    pub group: Group,
    /// Nodes that are chosen, by name; of a default group those that host its site.
    pub nodes: Vec<GroupNode>,
    /// Segments that hold a member.
    pub segments: Vec<GroupSegment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNode {
    pub id: String,
    pub name: String,
    pub segment: String,
    pub online: bool,
    /// It hosts a site of the group, so the group is more than a wish.
    pub member: bool,
    /// Sites of the group that it hosts.
    pub sites: Vec<String>,
    /// The list of groups that it goes by; 0 for none.
    pub list: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSegment {
    pub segment: String,
    /// The group's data channel there; empty before the segment's list was made.
    pub channel: String,
    /// Number of the segment's list; 0 for none yet.
    pub list: u64,
    pub members: u32,
    /// Members that go by that list or a later one.
    pub current: u32,
}

/// `GET /v1/nodes`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub name: String,
    /// What people call its segment, and that segment's id.
    pub segment: String,
    #[serde(default)]
    pub segment_id: String,
    /// `leader`, `member` or `offline`.
    pub state: String,
    pub datagram: String,
    pub http: String,
    pub text: String,
    pub priority: u32,
    pub processors: u32,
    pub free_memory_bytes: u64,
    pub free_disk_bytes: u64,
    #[serde(default)]
    pub may_lead: bool,
    #[serde(default)]
    pub location: String,
    #[serde(default)]
    pub cpu_mhz: u32,
    /// Load average over one minute, in hundredths.
    #[serde(default)]
    pub load_pct: u32,
    /// TCP connections when it registered last.
    #[serde(default)]
    pub connections: u32,
    pub sites: Vec<NodeSite>,
    /// Content groups that it belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    pub seen_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSite {
    pub site: String,
    /// Assignment that is live there; 0 for none.
    pub version: u64,
    /// Differs from the version that the CCM committed last, and the node is to have that one.
    pub stale: bool,
}

/// `GET /v1/schedules`, `GET /v1/schedules/NAME`: a job that starts by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub name: String,
    pub site: String,
    /// `publish`, `synchronize`, `rollback`, `switch` or `checkpoint`, as in [`NewJob`].
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default)]
    pub checksum: bool,
    /// `at 2026-11-22T03:00:00Z`, `cron Europe/Vienna 0 3 * * *`, `change 30` (staging has changed and rested for so
    /// many seconds), `after SITE live` (a job of that site ended `live`, `failed`, or `any` way) or `called NAME 10`
    /// (somebody called that trigger; at least so many seconds between two starts).
    pub trigger: String,
    pub enabled: bool,
    pub policy: Policy,
    /// A start that was missed is made up for within so many seconds.
    pub grace_s: u32,
    /// When it starts next by the clock; 0 where that depends on something else, or never.
    pub next_ns: u64,
    /// When it was due last, 0 for never, the job that it started last, 0 for none, and what became of it.
    pub last_ns: u64,
    pub last_job: u64,
    pub last_text: String,
}

/// `POST /v1/schedules`; answered with the [`Schedule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    pub name: String,
    pub site: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default)]
    pub checksum: bool,
    /// As in [`Schedule`]. A time may also be `2026-11-22T03:00 Europe/Vienna`.
    pub trigger: String,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub policy: Policy,
    /// 300 where nothing is said, up to 604,800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u32>,
}

/// `POST /v1/schedules/NAME/enabled`; answered with the [`Schedule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enabled {
    pub enabled: bool,
}

/// `GET /v1/lookahead?days=N`: what will go otherwise than the schedules plan, before it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookAhead {
    pub schema: String,
    pub from_ns: u64,
    /// All starts up to here were looked at: earlier than asked where they are too many.
    pub until_ns: u64,
    pub starts: u64,
    /// The first 1,000.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub at_ns: u64,
    pub schedule: String,
    pub site: String,
    /// `conflict` or `window`
    pub kind: String,
    /// The schedule whose job will still run, or the window that will be open.
    pub with: String,
    pub nodes: u32,
    pub text: String,
}

/// `GET /v1/windows`; `POST /v1/windows` with [`NewWindow`]: a time in which jobs do not start, or in
/// which no more than so much is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub name: String,
    /// Empty: every site.
    pub site: String,
    /// `at TIME` or `cron ZONE EXPRESSION`
    pub opens: String,
    /// `None`: until it is lifted, which is a freeze.
    pub lasts_s: Option<u64>,
    /// Mbit/s that each machine may send of content while it is open; `None`: jobs do not start.
    #[serde(default)]
    pub rate_mbit: Option<u64>,
    pub reason: String,
    pub open: bool,
    /// When the one that is open ends; 0 where it is not open or has no end.
    pub until_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWindow {
    pub name: String,
    #[serde(default)]
    pub site: String,
    /// As in [`Window`]; empty: from now on.
    #[serde(default)]
    pub opens: String,
    /// 1..=31,536,000; must be given with `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_s: Option<u64>,
    /// 1..=400,000: jobs start, and so much may be sent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<u64>,
    pub reason: String,
}

/// `POST /v1/jobs`; answered with the [`Job`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// `publish`, `synchronize`, `rollback`, `switch`, `checkpoint`, `restore` or `remove`
    pub kind: String,
    pub site: String,
    /// Names of the nodes that a `synchronize` is for; empty: all that lack what is live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Where a `switch` goes: a version of `GET /v1/sites/NAME/versions`, 0 for what was live before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What a `restore` brings back: a checkpoint of `GET /v1/sites/NAME/checkpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What a `remove` takes off the nodes: paths below live, a directory with all that is in it; empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What the checkpoint is to be called that a `checkpoint` makes; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A `publish` reads all files, also those that look as they did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checksum: bool,
    #[serde(default)]
    pub policy: Policy,
    /// Why the job starts although a freeze or a blackout is on; empty: it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub override_reason: String,
}

/// `GET /v1/sites/NAME/plan`: what a publish would do now, and what would be in its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub schema: String,
    pub site: String,
    /// The version that is live; 0 for none.
    pub version: u64,
    /// `publish` (a difference), `synchronize` (the same, and before it some nodes are brought to what is live),
    /// `replicate` (everything) or `unchanged` (nothing would be sent).
    pub kind: String,
    pub changes: Changes,
    /// Content bytes of files that are added or changed.
    pub changed_bytes: u64,
    /// Files and bytes in staging.
    pub site_files: u64,
    pub site_bytes: u64,
    /// At most so many bytes in the assignment, and over all links: each leader fetches it, and multicasts it where
    /// there are others. What is compressed or shifted comes to less, repairs come on top.
    pub assignment_bytes: u64,
    pub wire_bytes: u64,
    /// The bandwidth window that bounds what is sent now; empty for none.
    #[serde(default)]
    pub bound: String,
    /// The policy's bound of one assignment: a larger one would be sent in parts. 0: there is none.
    #[serde(default)]
    pub assignment_max: u64,
    /// About so many parts, 1 where it would not be split.
    #[serde(default = "one")]
    pub parts: u64,
    /// Every node that is to have the site.
    pub nodes: Vec<PlanNode>,
    /// Sentences on what would keep a publish from starting, or from going live everywhere.
    pub obstacles: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanNode {
    pub name: String,
    pub segment: String,
    /// `current`, `stale` (another version), `missing` (no version yet) or `offline`.
    pub state: String,
    /// What is live there; 0 for none.
    pub version: u64,
    /// At most so many bytes for the assignment and for what it writes; and what was free at the last report on the
    /// disk of the node's state directory.
    pub needs_bytes: u64,
    pub free_bytes: u64,
    pub fits: bool,
}

/// `GET /v1/jobs`, `GET /v1/jobs/ID`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub schema: String,
    pub id: u64,
    pub run: u64,
    /// `publish`, `synchronize`, `rollback`, `switch`, `checkpoint`, `restore` or `remove`
    pub kind: String,
    pub site: String,
    /// The schedule that started it; empty where somebody did.
    #[serde(default)]
    pub schedule: String,
    /// Which attempt this is, from 1.
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub policy: Policy,
    pub phase: Phase,
    /// One sentence on how it stands or ended.
    pub text: String,
    /// Assignment that it made; 0 where nothing changed or none was made yet.
    pub assignment: u64,
    /// `publish` (a difference) or `replicate` (everything); empty before it was composed.
    pub assignment_kind: String,
    pub changes: Changes,
    /// Bytes of command buffer and data file together; of all parts where it was split.
    pub assignment_bytes: u64,
    /// Assignments that it is sent as, and which of them is on its way, or was last: both 1 where it is not split.
    #[serde(default = "one")]
    pub parts: u32,
    #[serde(default = "one")]
    pub part: u32,
    /// Content bytes of the files that are added or changed.
    pub changed_bytes: u64,
    /// Files and bytes of the whole site.
    pub site_files: u64,
    pub site_bytes: u64,
    pub nodes_total: u32,
    pub nodes_staged: u32,
    pub nodes_live: u32,
    pub nodes_failed: u32,
    /// Difference between the first and the last node's switch; `None` before all have switched.
    pub switch_spread_us: Option<u64>,
    pub created_ns: u64,
    pub started_ns: u64,
    pub finished_ns: u64,
    /// The bandwidth window that bounds what is sent now; empty for none, in lists and in the status.
    #[serde(default)]
    pub bound: String,
    /// Empty in lists and in the status: `GET /v1/jobs/ID` has them.
    #[serde(default)]
    pub nodes: Vec<JobNode>,
    /// What was left out of staging, and why; at most 100, the count is in `changes.left_out`.
    pub warnings: Vec<String>,
}

fn one<T: From<u8>>() -> T {
    T::from(1)
}

/// `GET /v1/jobs/ID/report`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    pub schema: String,
    /// Every run of the job, the first attempt first.
    pub attempts: Vec<Job>,
    /// What happened to them, the oldest first; the last 1,000 events.
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Queued,
    Composing,
    Distributing,
    Committing,
    /// Live on every node.
    Done,
    /// Staging equals what is live: nothing was sent.
    Unchanged,
    /// Live on some nodes, failed on others.
    Partial,
    Failed,
    /// Ended by an operator or by its policy before anything went live.
    Cancelled,
}

impl Phase {
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Unchanged | Self::Partial | Self::Failed | Self::Cancelled)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: u64,
    pub changed: u64,
    pub metadata: u64,
    pub removed: u64,
    pub left_out: u64,
}

/// One node's part in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobNode {
    pub id: String,
    pub name: String,
    pub segment: String,
    /// `waiting`, `staged`, `live`, `failed` or `missing`.
    pub state: String,
    /// Stable word of the failure (`no-space`, `stale-base` ...); empty otherwise.
    pub reason: String,
    pub text: String,
}

/// `POST /v1/invites`: a one-time token for a node to join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewInvite {
    /// Name that the node must join with; empty for any.
    pub node: String,
    /// Whether the node may become leader.
    pub can_lead: bool,
    /// Seconds after which the token is void; 0 for the default of one hour.
    pub expires_s: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    pub token: String,
    /// Where to join: the CCM's address.
    pub ccm: String,
    /// The command to type on the node.
    pub command: String,
}

/// `GET /v1/version`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub schema: String,
    pub version: String,
    pub revision: String,
    pub api: String,
}

/// Every error, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable word: `not-found`, `bad-request`, `conflict`, `internal` ...
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What happened and what to do next.
    pub detail: String,
}
