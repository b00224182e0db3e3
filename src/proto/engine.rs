//! A node's machines, composed. It routes inputs to the machine whose subject they are and collects what
//! the machines want done; it decides nothing itself.
//!
//! Three kinds of methods: `handle_*` (what happened), [`Engine::poll_output`] (what is to be done) and
//! getters. Mutate, then drain `poll_output` until it returns `None`, then wait until
//! [`Engine::next_deadline`] at most and call [`Engine::handle_timeout`].
//!
//! - `engine/membership.rs`: election, registration, segment, clock
//! - `engine/charter.rs`: the charter, the control channel, handing over
//! - `engine/twins.rs`: one identity on two machines
//! - `engine/reaching.rs`: peers that multicast does not reach
//! - `engine/distribution.rs`: notifications, forwarding, pulls, objects that are whole
//! - `engine/bounding.rs`: bandwidth windows
//! - `engine/sessions.rs`: sessions sent and received, frames
//! - `engine/reporting.rs`: orders, own reports, collection
//! - `engine/grouping.rs`: content groups, whom an assignment is for, data channels

mod bounding;
mod charter;
mod distribution;
mod grouping;
mod membership;
mod reaching;
mod reporting;
mod sessions;
mod twins;

use super::activation::Activation;
use super::collect::Collector;
use super::control_channel::{ControlChannel, Joined};
use super::election::Election;
use super::forward::Forward;
use super::freshness::Freshness;
use super::groups::Groups;
use super::profile::Profile;
use super::random::Rng;
use super::reach::Reach;
use super::receiver::Receiver;
use super::registration::Registration;
use super::release::Release;
use super::reporter::Reporter;
use super::seek::Seek;
use super::segment::Segment;
use super::sender::{Finish, FrameRun, Sender, SenderConfig};
use super::twins::Twins;
use crate::time::Instant;
use crate::wire::assignment::Shape;
use crate::wire::charter::Charter;
use crate::wire::control::{Hears, Peer, Profile as Member, Twin};
use crate::wire::envelope::{Message, Opened};
use crate::wire::id::{
    AssignmentId, CharterId, Epoch, ListNumber, Name, NodeId, ObjectName, OrderId, RunId, SessionId,
};
use crate::wire::notify::{NextLeader, NextRequest, Notification, UplinkBody};
use crate::wire::problem::Problem;
use crate::wire::report::{Outcome, Subject};
use crate::wire::session::Announce;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};

pub use distribution::Refusal;

/// The kind of multicast channel that something comes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Control,
    Data,
}

/// The multicast channel that something goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// [`ControlChannel::present`].
    Control,
    /// A control channel that the segment does not use now: its home, or the one that it has left.
    OtherControl(SocketAddrV4),
    /// The data channel of a content group.
    Data(SocketAddrV4),
}

impl Destination {
    pub const fn channel(self) -> Channel {
        match self {
            Self::Control | Self::OtherControl(_) => Channel::Control,
            Self::Data(_) => Channel::Data,
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Multicast(Destination, Message),
    Unicast(SocketAddr, Message),
    /// One datagram, sent to each: copies of what multicast does not bring there.
    Each(Vec<SocketAddr>, Message),
    /// Multicast frames of a session that we send.
    Frames(SessionId, FrameRun),
    /// Derive the frame key, make room for the object, then call [`Engine::start_reception`] or
    /// [`Engine::handle_no_room`].
    Receive {
        announce: Announce,
        leader: NodeId,
    },
    /// A block has frames enough: rebuild what is missing, hash, [`Engine::handle_verified`].
    Ready {
        session: SessionId,
        block: u32,
        missing: u16,
    },
    /// The session is over: forget its key and its parity.
    SessionOver(SessionId),
    /// Pull an object over HTTP, from the first of the sources that has it; answer with `handle_object_complete` or
    /// `handle_fetch_failed`.
    Fetch {
        shape: Shape,
        sources: Vec<SocketAddr>,
    },
    /// Ask the CCM for the next leader; answer with `handle_next`.
    Ask(NextRequest),
    /// Give a notification to another leader's text port; answer with `handle_handed`.
    Hand(AssignmentId, NextLeader),
    /// Post to the CCM; call `handle_uplink_failed` where that fails.
    Uplink(UplinkBody),
    /// Let the applier stage a complete object.
    Stage {
        run: RunId,
        assignment: AssignmentId,
        shape: Shape,
    },
    /// Let the applier carry out a signed order.
    CarryOut {
        subject: Subject,
        document: Vec<u8>,
    },
    /// Sign a report of our own and call `handle_report`.
    Report {
        subject: Subject,
        outcome: Outcome,
    },
    /// A list of groups is whole: check the director's signature, keep it, then [`Engine::handle_groups`].
    CheckGroups(Vec<u8>),
    /// Listen on these data channels and no others (LD-2).
    JoinData(BTreeSet<SocketAddrV4>),
    /// Be a member of these control channels beside the preconfigured one, and of no others (EL-6).
    JoinControl(Vec<SocketAddrV4>),
    /// Keep a signed charter over a restart.
    KeepCharter(Vec<u8>),
    Notice(Notice),
}

/// What an operator would want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Leading(Epoch),
    Following(NodeId),
    Orphaned,
    Joined(NodeId),
    Gone(NodeId),
    /// It said that it ends.
    Left(NodeId),
    Chartered(CharterId),
    /// The leader moves the segment to this control channel.
    Moving(SocketAddrV4),
    Moved(SocketAddrV4),
    /// So many members did not hear the leader on the channel, so that it goes back.
    Undone {
        channel: SocketAddrV4,
        back: SocketAddrV4,
        deaf: usize,
    },
    /// A leader that is not on the list has stopped leading, for this one or for nobody.
    HandedOver(Option<NodeId>),
    /// Another machine has our identity; whether it is us who stand aside.
    Twin {
        other: SocketAddr,
        aside: bool,
    },
    TwinFound {
        node: NodeId,
        twin: Twin,
    },
    SessionDone {
        assignment: AssignmentId,
        finish: Finish,
        bytes: u64,
    },
    FetchGivenUp {
        name: ObjectName,
        source: SocketAddr,
    },
    /// We go by this list of groups now.
    Grouped(ListNumber),
    /// Our leader's multicast does not arrive here.
    Missing {
        leader: NodeId,
        hears: Hears,
    },
    /// It does again.
    HeardAgain,
    /// Our multicast does not reach this member.
    Unreached(NodeId),
    /// It does again.
    ReachedAgain(NodeId),
}

/// Why an input was passed over; each is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages seen before, or of an earlier life of their sender.
    pub replayed: u64,
    /// Messages that only a leader may send, from someone whom we do not follow.
    pub not_leaders: u64,
    /// Frames of a session that we do not take part in.
    pub frames_unknown: u64,
    /// Registrations beyond the bound of the table.
    pub registrations_refused: u64,
    /// Of nodes that are no members: a leader carries what its members say.
    pub reports_refused: u64,
    /// Lists of groups that are older than ours, or for another segment.
    pub groups_refused: u64,
    pub elections: u64,
    /// Messages of machines that have the identity of another.
    pub twins: u64,
}

/// Entries of the tables that grow with what others send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    pub tasks: usize,
    pub senders: usize,
    pub receivers: usize,
    pub collectors: usize,
    pub orders: usize,
    pub early: usize,
}

impl TableSizes {
    /// Whether each is what its bound allows.
    pub const fn within_bounds(&self) -> bool {
        self.tasks <= distribution::TASKS_MAX
            && self.senders <= sessions::SENDERS_MAX
            && self.receivers <= sessions::RECEIVERS_MAX
            && self.collectors <= reporting::COLLECTORS_MAX
            && self.orders <= reporting::COLLECTORS_MAX
            && self.early <= grouping::EARLY_MAX
    }
}

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    pub me: Member,
    pub segment: Name,
    pub profile: Profile,
    /// Which life of the node this is: the number in its messages.
    pub boot: u32,
    /// The preconfigured control channel (EL-5).
    pub home: SocketAddrV4,
    /// Whether its own configuration lets it lead as long as no charter says who may (EL-3).
    pub listed: bool,
    /// The charter that the node kept, with its bytes.
    pub charter: Option<(Charter, Vec<u8>)>,
    /// Where to look for the segment if nobody is heard (LD-24).
    pub peers: Vec<SocketAddr>,
    /// Bytes per second at which sessions start and that they never exceed.
    pub rate_start: u64,
    pub rate_max: u64,
    /// Bytes that the socket of the data channel may hold unread.
    pub socket_bytes: u32,
    pub transport: Transport,
    /// From the system's random generator: nothing else here is random.
    pub seed: u64,
}

/// How a node sends as leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The rate in it does not count: see [`Setup`].
    pub sender: SenderConfig,
    /// Leader-alives carry copies of the announcements of sessions (LD-6).
    pub announce_in_alive: bool,
}

impl Default for Transport {
    fn default() -> Self {
        Self { sender: SenderConfig::default(), announce_in_alive: true }
    }
}

/// Work on an assignment.
#[derive(Clone, Debug)]
struct Task {
    run: RunId,
    assignment: AssignmentId,
    site: Name,
    shape: Shape,
    /// Reported as failed, for the object did not come.
    failed: bool,
}

/// A pull that failed and is tried again.
#[derive(Clone, Debug)]
struct Retry {
    shape: Shape,
    source: SocketAddr,
    tries: u32,
    at: Option<Instant>,
}

#[derive(Debug)]
pub struct Engine {
    me: Member,
    segment_name: Name,
    profile: Profile,
    boot: u32,
    may_lead: bool,
    setup_rate: (u64, u64),
    socket_bytes: u32,
    transport: Transport,
    rng: Rng,
    freshness: Freshness,

    election: Election,
    registration: Registration,
    segment: Segment,
    reach: Reach,
    seek: Seek,
    release: Release,
    activation: Activation,
    groups: Groups,
    clock_at: Option<Instant>,
    governance: charter::Governance,
    control_channel: ControlChannel,
    /// What was said last of the channels to be joined.
    joined: Joined,
    twins: Twins,
    /// Where the leader takes datagrams and serves objects.
    leader_datagram: Option<SocketAddr>,
    leader_http: Option<SocketAddr>,
    /// Members of the segment, as the leader says.
    leader_members: u16,

    /// Objects that lie complete in the spool.
    held: BTreeSet<ObjectName>,
    /// Objects that are being given to others now, one for each answer.
    serving: Vec<ObjectName>,
    tasks: BTreeMap<ObjectName, Task>,
    retries: BTreeMap<ObjectName, Retry>,
    forwards: BTreeMap<AssignmentId, Forward>,
    senders: BTreeMap<SessionId, Sender>,
    /// Notifications that speak of a list of groups which we do not have yet.
    early: BTreeMap<AssignmentId, Notification>,
    /// Assignments whose session waits for a place among the senders, or for members that are about to join
    /// its channel.
    waiting: VecDeque<Notification>,
    /// Until when members may take to join the channels of a new list of groups.
    joining_until: Option<Instant>,
    receivers: BTreeMap<SessionId, Receiver>,
    /// Receptions that the shell was asked to begin, each with the latest announcement since. The one place that
    /// keeps a session from being begun twice.
    opening: BTreeMap<SessionId, Option<Announce>>,
    /// Counts leader-alives that carried an announcement.
    alive_turn: usize,
    /// Problem reports that did not reach the CCM, and when they are told again.
    untold: Vec<(Instant, Problem)>,

    reporter: Reporter,
    collectors: BTreeMap<Subject, Collector>,
    /// Signed orders that we multicast as leader, to be repeated.
    orders: BTreeMap<OrderId, Vec<u8>>,
    /// Orders that came before we knew the CCM's clock, and until when they wait for it.
    unclocked: Vec<(Instant, Subject, Vec<u8>)>,

    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Engine {
    pub fn new(now: Instant, setup: Setup) -> Self {
        let node = setup.me.node();
        let profile = setup.profile;
        let channel = setup.charter.as_ref().and_then(|(charter, _)| charter.channel);
        let mut control_channel = ControlChannel::new(setup.home, channel.unwrap_or(setup.home), profile);
        control_channel.on_orphaned(now);
        let governance = charter::Governance::new(now, setup.charter, setup.listed);
        let standing = governance.standing(node, setup.me.leads);
        let election = Election::new(now, node, setup.me.priority.max(1), standing, profile);
        let mut engine = Self {
            groups: Groups::new(setup.segment.clone(), setup.profile),
            governance,
            control_channel,
            joined: Joined::default(),
            twins: Twins::new(profile),
            boot: setup.boot,
            may_lead: setup.me.leads,
            segment_name: setup.segment,
            profile: setup.profile,
            setup_rate: (setup.rate_start, setup.rate_max),
            socket_bytes: setup.socket_bytes,
            transport: setup.transport,
            rng: Rng::new(setup.seed),
            freshness: Freshness::default(),
            election,
            registration: Registration::new(node, setup.profile),
            segment: Segment::new(now, setup.profile),
            reach: Reach::new(setup.profile),
            seek: Seek::new(now, node, setup.profile, setup.peers),
            release: Release::default(),
            activation: Activation::default(),
            clock_at: None,
            leader_datagram: None,
            leader_http: None,
            leader_members: 0,
            held: BTreeSet::new(),
            serving: Vec::new(),
            tasks: BTreeMap::new(),
            retries: BTreeMap::new(),
            forwards: BTreeMap::new(),
            senders: BTreeMap::new(),
            early: BTreeMap::new(),
            waiting: VecDeque::new(),
            joining_until: None,
            receivers: BTreeMap::new(),
            opening: BTreeMap::new(),
            alive_turn: 0,
            untold: Vec::new(),
            reporter: Reporter::new(setup.profile),
            collectors: BTreeMap::new(),
            orders: BTreeMap::new(),
            unclocked: Vec::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            me: setup.me,
        };
        engine.drain(now);
        engine
    }

    /// A message of the segment whose tag and signature were checked; `via` the channel on which it came, or
    /// `None` where it came to us alone. `wall` is our wall clock in nanoseconds since 1970, for the clock
    /// messages only.
    pub fn handle_message(
        &mut self,
        now: Instant,
        wall: u64,
        from: SocketAddr,
        via: Option<Channel>,
        opened: Opened,
    ) {
        let sender = opened.sender;
        if sender.node == self.node() {
            self.on_own_id(now, from, &sender);
            return;
        }
        let mut fresh = self.freshness.accept(&sender, opened.certificate.is_some());
        if let Message::Register(register) = &opened.message {
            fresh = self.admit(now, &sender, register.profile.datagram, fresh);
        }
        if !fresh {
            self.counters.replayed += 1;
            return;
        }
        self.segment.on_heard(now, sender.node);
        self.on_path(now, Peer { node: sender.node, datagram: from }, via, &opened.message);
        match opened.message {
            Message::LeaderAlive(alive) => {
                self.on_alive(now, (from, via), &opened.certificate, sender, alive);
                self.on_leader_path(now, sender.node, from, via);
            }
            Message::LeaderClaim(claim) => self.on_claim(now, from, &opened.certificate, sender, claim),
            Message::Register(register) => self.on_register(now, from, &sender, register),
            Message::Registered(registered) => self.on_registered(now, sender.node, &registered),
            Message::ClockRequest(request) => self.on_clock_request(now, from, request),
            Message::ClockReply(reply) => self.on_clock_reply(now, wall, sender.node, reply),
            Message::Announce(announce) => self.on_announce(now, sender.node, announce),
            Message::Progress(progress) => {
                if let Some(session) = self.senders.get_mut(&progress.session) {
                    session.on_progress(now, sender.node, &progress);
                }
            }
            Message::Nack(nack) => {
                if let Some(session) = self.senders.get_mut(&nack.session) {
                    session.on_nack(now, sender.node, &nack);
                }
            }
            Message::Status(report) => self.on_status(now, sender.node, report),
            Message::StatusRequest(request) => self.on_status_request(now, sender.node, &request),
            // Whoever repeats it: the applier checks the director's signature.
            Message::Order(document) => self.on_order_message(now, document),
            Message::Groups(part) => self.on_groups_part(now, part),
            Message::GroupsRequest(request) => self.on_groups_request(now, sender.node, from, &request),
            // That it came is all that it says.
            Message::Probe => {}
            Message::Charter(document) => self.on_charter(now, document),
            Message::Solicit(solicit) => self.on_solicit(now, sender.node, solicit),
            Message::Leave => self.on_leave(now, sender.node),
            Message::Twin(twin) => self.on_twin(now, sender.node, twin),
        }
        self.drain(now);
    }

    /// The deadline has passed, or may have.
    pub fn handle_timeout(&mut self, now: Instant, wall: u64) {
        self.twins_timeout(now);
        self.charter_timeout(now);
        self.membership_timeout(now, wall);
        self.reaching_timeout(now);
        self.grouping_timeout(now);
        self.distribution_timeout(now);
        self.reporting_timeout(now);
        self.drain(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let membership = [
            self.election.next_deadline(),
            self.registration.next_deadline(),
            self.clock_at,
            self.grouping_deadline(),
            self.charter_deadline(),
            self.twins.next_deadline(),
            self.reach.next_deadline(),
            self.seek.next_deadline(),
            self.release.next_deadline(),
            self.election.is_leader().then(|| self.segment.next_deadline()).flatten(),
        ];
        let sessions = self.senders.values().filter_map(Sender::next_deadline);
        let receptions = self.receivers.values().filter_map(Receiver::next_deadline);
        let forwards = self.forwards.values().filter_map(Forward::next_deadline);
        let retries = self.retries.values().filter_map(|retry| retry.at);
        let collectors = self.collectors.values().filter_map(Collector::next_deadline);
        let untold = self.untold.iter().map(|(at, _)| *at);
        let unclocked = self.unclocked.iter().map(|(until, ..)| *until);
        let others = sessions.chain(receptions).chain(forwards).chain(retries).chain(collectors);
        let others = others.chain(untold).chain(unclocked);
        membership.into_iter().flatten().chain(others).chain(self.reporter.next_deadline()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn node(&self) -> NodeId {
        self.me.node()
    }

    pub const fn election(&self) -> &Election {
        &self.election
    }

    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    pub fn is_registered(&self) -> bool {
        self.election.is_leader() || self.registration.is_registered()
    }

    pub const fn reach(&self) -> &Reach {
        &self.reach
    }

    pub const fn seek(&self) -> &Seek {
        &self.seek
    }

    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// The CCM's clock minus our monotonic one, in nanoseconds. Before the first sample our own wall clock,
    /// in nanoseconds since 1970, is taken for the CCM's.
    pub fn clock_offset(&self, now: Instant, wall: u64) -> i64 {
        let own = i64::try_from(i128::from(wall) - i128::from(now.as_nanos()));
        self.activation.offset().unwrap_or(own.unwrap_or(i64::MAX))
    }

    /// What this node knows of content groups.
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    pub const fn activation(&self) -> &Activation {
        &self.activation
    }

    /// What is sent now, by session.
    pub fn senders(&self) -> impl Iterator<Item = (SessionId, &Sender)> {
        self.senders.iter().map(|(session, sender)| (*session, sender))
    }

    /// What is received now, by session.
    pub fn receivers(&self) -> impl Iterator<Item = (SessionId, &Receiver)> {
        self.receivers.iter().map(|(session, receiver)| (*session, receiver))
    }

    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How much the tables hold that grow with what others send (T21).
    pub fn table_sizes(&self) -> TableSizes {
        TableSizes {
            tasks: self.tasks.len(),
            senders: self.senders.len(),
            receivers: self.receivers.len() + self.opening.len(),
            collectors: self.collectors.len(),
            orders: self.orders.len(),
            early: self.early.len(),
        }
    }

    fn chance(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn emit(&mut self, output: Output) {
        let is_said = matches!(
            output,
            Output::Multicast(..)
                | Output::Unicast(..)
                | Output::Each(..)
                | Output::Frames(..)
                | Output::Uplink(_)
                | Output::Ask(_)
        );
        if is_said && self.twins.is_aside() {
            return;
        }
        self.outputs.push_back(output);
    }

    /// Lets every machine that may have something to do say so.
    fn drain(&mut self, now: Instant) {
        self.drain_senders(now);
        self.drain_receivers(now);
        self.drain_releases(now);
        self.reporting_timeout(now);
        let joined = self.control_channel.joined();
        if joined != self.joined {
            self.joined = joined;
            self.emit(Output::JoinControl(joined.to_vec()));
        }
        self.seek.on_standing(now, self.standing());
    }
}

#[cfg(test)]
mod tests;
