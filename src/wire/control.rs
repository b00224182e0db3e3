//! Messages of the life of a segment: leader-alive, leader-claim, registration, clock (EL, RG, NS, AT).
//!
//! They travel inside an [`envelope`](super::envelope); all but the clock's are signed by their sender.

use super::id::{AssignmentId, CharterId, ListNumber, Name, NodeId};
use super::seal::Certificate;
use super::session::Announce;
use super::{Decoder, Encoder, Malformed};
use std::net::{SocketAddr, SocketAddrV4};

/// "I lead" (EL-4). Priority 0 says: I stop leading now (design D7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAlive {
    pub priority: u32,
    /// Members registered with the leader.
    pub members: u16,
    /// Digest of the registered set: a member that knows another one asks for the report.
    pub registered: u64,
    /// TCP port on which the leader serves objects; its address is the datagram's.
    pub http_port: u16,
    /// The list of groups that it has: who has an older one asks for it.
    pub groups: ListNumber,
    /// The charter that the leader goes by; 0 for none. Who has a newer one hands it on, who has an older one
    /// registers, and is given it.
    pub charter: CharterId,
    /// The segment's control channel now, or the one that it moves to in `moves_in_ms` (EL-6, B-12).
    pub channel: SocketAddrV4,
    /// Milliseconds; 0: this is the channel.
    pub moves_in_ms: u32,
    /// This copy went to a channel that the segment has left, for those who are still there.
    pub pointer: bool,
    /// A copy of the announcement of a session that runs, of each in turn (LD-6).
    pub session: Option<Announce>,
}

impl LeaderAlive {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u32(self.priority).u16(self.members).u64(self.registered).u16(self.http_port);
        self.groups.encode(out);
        self.charter.encode(out);
        out.socket_addr(self.channel.into()).u32(self.moves_in_ms).bool(self.pointer);
        out.option(self.session.as_ref(), |out, session| session.encode(out));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            priority: from.u32("priority")?,
            members: from.u16("members")?,
            registered: from.u64("registered digest")?,
            http_port: from.u16("http port")?,
            groups: ListNumber::decode(from)?,
            charter: CharterId::decode(from)?,
            channel: decode_channel(from)?,
            moves_in_ms: from.u32("moves in")?,
            pointer: from.bool("pointer")?,
            session: from.option("session", Announce::decode)?,
        })
    }
}

/// "I want to lead" (EL-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderClaim {
    pub priority: u32,
    /// The charter that the sender goes by; 0 for none.
    pub charter: CharterId,
    /// The control channel that it takes for the segment's: a leader on another one shows it the way.
    pub channel: SocketAddrV4,
}

impl LeaderClaim {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u32(self.priority);
        self.charter.encode(out);
        out.socket_addr(self.channel.into());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            priority: from.u32("priority")?,
            charter: CharterId::decode(from)?,
            channel: decode_channel(from)?,
        })
    }
}

/// What a node says of itself when it registers (RG-2, NS-1) and what the leader passes on (NS-3, NS-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub certificate: Certificate,
    pub name: Name,
    /// Unicast UDP: NACKs, reports, requests.
    pub datagram: SocketAddr,
    /// TCP: objects over HTTP.
    pub http: SocketAddr,
    /// TCP: the text control port, where the CCM's signed documents arrive.
    pub text: SocketAddr,
    pub priority: u32,
    pub processors: u16,
    pub free_memory: u64,
    pub free_disk: u64,
    /// The list of groups that it goes by.
    pub groups: ListNumber,
    /// Whether it may lead, by its certificate and its configuration.
    pub leads: bool,
    pub machine: Machine,
    /// Bytes of the longest datagram, IP header included, that its interface takes whole.
    pub mtu: u16,
    pub sites: Vec<SiteState>,
}

/// What a machine is and does, for whoever plans with it (NS-3, NS-4); 0 and empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Where it stands, as its operator says: a time zone, if nothing else.
    pub location: String,
    /// Clock of its processors, MHz.
    pub cpu_mhz: u32,
    /// Load average over one minute, in hundredths.
    pub load_pct: u32,
    /// TCP connections now.
    pub connections: u32,
}

impl Machine {
    /// Longest location in bytes.
    pub const LOCATION_MAX: usize = 64;

    fn encode(&self, out: &mut Encoder) {
        out.str16(&self.location).u32(self.cpu_mhz).u32(self.load_pct).u32(self.connections);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            location: from.str16(Self::LOCATION_MAX, "location")?.to_owned(),
            cpu_mhz: from.u32("clock")?,
            load_pct: from.u32("load")?,
            connections: from.u32("connections")?,
        })
    }
}

/// What a node holds of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteState {
    pub site: Name,
    /// The assignment whose result is live; `None` before the first commit.
    pub version: Option<AssignmentId>,
}

impl Profile {
    /// Most sites of a node.
    pub const SITES_MAX: usize = 256;

    pub fn node(&self) -> NodeId {
        self.certificate.node()
    }

    pub fn version(&self, site: &Name) -> Option<AssignmentId> {
        self.sites.iter().find(|state| &state.site == site)?.version
    }

    pub fn encode(&self, out: &mut Encoder) {
        self.certificate.encode(out);
        self.name.encode(out);
        out.socket_addr(self.datagram).socket_addr(self.http).socket_addr(self.text);
        out.u32(self.priority).u16(self.processors).u64(self.free_memory).u64(self.free_disk);
        self.groups.encode(out);
        out.bool(self.leads).u16(self.mtu);
        self.machine.encode(out);
        out.list(&self.sites, |out, state| {
            state.site.encode(out);
            out.option(state.version.as_ref(), |out, version| version.encode(out));
        });
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            certificate: Certificate::decode(from)?,
            name: Name::decode(from)?,
            datagram: from.socket_addr("datagram address")?,
            http: from.socket_addr("http address")?,
            text: from.socket_addr("text port address")?,
            priority: from.u32("priority")?,
            processors: from.u16("processors")?,
            free_memory: from.u64("free memory")?,
            free_disk: from.u64("free disk")?,
            groups: ListNumber::decode(from)?,
            leads: from.bool("leads")?,
            mtu: from.u16("mtu")?,
            machine: Machine::decode(from)?,
            sites: from.list(Self::SITES_MAX, "sites", |from| {
                Ok(SiteState {
                    site: Name::decode(from)?,
                    version: from.option("version", AssignmentId::decode)?,
                })
            })?,
        })
    }
}

/// "Count me in", to the leader (RG-1); from a node that hears nobody, to every peer that it knows of (LD-24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub profile: Profile,
    pub hears: Hears,
    /// The charter that the member has; 0 for none.
    pub charter: CharterId,
    /// The control channel on which it heard its leader last: whether a move has reached it (EL-6).
    pub heard_on: SocketAddrV4,
}

/// Which multicast of the node that it speaks to arrives at the speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hears {
    pub control: bool,
    pub data: bool,
}

impl Hears {
    pub const ALL: Self = Self { control: true, data: true };
    pub const NOTHING: Self = Self { control: false, data: false };
}

impl Register {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.profile.encode(out);
        out.bool(self.hears.control).bool(self.hears.data);
        self.charter.encode(out);
        out.socket_addr(self.heard_on.into());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let profile = Profile::decode(from)?;
        let hears = Hears { control: from.bool("hears control")?, data: from.bool("hears data")? };
        let (charter, heard_on) = (CharterId::decode(from)?, decode_channel(from)?);
        Ok(Self { profile, hears, charter, heard_on })
    }
}

/// "Register, all of you", multicast by the leader, which wants to report what is true now (NS-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicit {
    /// Milliseconds over which members spread their registrations.
    pub spread_ms: u16,
}

/// "Another machine registers under your id", from the leader to both (bad input of EL and RG): an identity
/// was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Where the node is that the id is left to.
    pub keeps: SocketAddr,
    /// The one that has to stand aside.
    pub other: SocketAddr,
}

impl Twin {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.socket_addr(self.keeps).socket_addr(self.other);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self { keeps: from.socket_addr("keeps")?, other: from.socket_addr("other")? })
    }
}

/// Whether an address can be a segment's channel: a multicast group that routers and hosts do not keep for
/// themselves (224.0.0.0/24), and a port.
pub fn is_channel(address: SocketAddrV4) -> bool {
    address.ip().is_multicast() && address.ip().octets()[..3] != [224, 0, 0] && address.port() != 0
}

pub(super) fn decode_channel(from: &mut Decoder<'_>) -> Result<SocketAddrV4, Malformed> {
    match from.socket_addr("channel")? {
        SocketAddr::V4(address) if is_channel(address) => Ok(address),
        _ => Err(Malformed::OutOfBounds("channel")),
    }
}

/// A node and where it takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub datagram: SocketAddr,
}

impl Peer {
    pub fn encode(&self, out: &mut Encoder) {
        self.node.encode(out);
        out.socket_addr(self.datagram);
    }

    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self { node: NodeId::decode(from)?, datagram: from.socket_addr("datagram address")? })
    }
}

/// Whom the leader believes registered, multicast (RG-3); as many messages as the list needs. Members keep
/// it: it is where they find each other if multicast stops passing (LD-24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub peers: Vec<Peer>,
}

impl Registered {
    /// Nodes with IPv4 addresses that fit one message of 1,472 bytes beside certificate and signature.
    pub const NODES_MAX: usize = 80;

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.list(&self.peers, |out, peer| peer.encode(out));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self { peers: from.list(Self::NODES_MAX, "nodes", Peer::decode)? })
    }
}

/// "What time is it with the CCM?", to the leader (AT-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRequest {
    /// The asker's wall clock, nanoseconds since 1970.
    pub sent: u64,
}

/// The leader's estimate of the CCM's clock when the request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReply {
    /// Copied from the request.
    pub sent: u64,
    /// The CCM's wall clock, nanoseconds since 1970.
    pub controller: u64,
}
