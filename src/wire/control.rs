//! Messages of the life of a segment: leader-alive, leader-claim, registration, clock (EL, RG, NS, AT).
//!
//! They travel inside an [`envelope`](super::envelope); all but the clock's are signed by their sender.

use super::id::{AssignmentId, CharterId, Name, NodeId};
use super::seal::Certificate;
use super::{Decoder, Encoder, Malformed};
use std::net::{SocketAddr, SocketAddrV4};

/// "I lead" (EL-4). Priority 0 says: I stop leading now (design D7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderAlive {
    pub priority: u32,
    /// Members registered with the leader.
    pub members: u16,
    /// Digest of the registered set: a member that knows another one asks for the report.
    pub registered: u64,
    /// TCP port on which the leader serves objects; its address is the datagram's.
    pub http_port: u16,
    /// The charter that the leader goes by; 0 for none. Who has a newer one hands it on, who has an older one
    /// registers, and is given it.
    pub charter: CharterId,
    /// The segment's control channel now, or the one that it moves to in `moves_in_ms` (EL-6, B-12).
    pub channel: SocketAddrV4,
    /// Milliseconds; 0: this is the channel.
    pub moves_in_ms: u32,
    /// This copy went to a channel that the segment has left, for those who are still there.
    pub pointer: bool,
}

impl LeaderAlive {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u32(self.priority).u16(self.members).u64(self.registered).u16(self.http_port);
        self.charter.encode(out);
        out.socket_addr(self.channel.into()).u32(self.moves_in_ms).bool(self.pointer);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            priority: from.u32("priority")?,
            members: from.u16("members")?,
            registered: from.u64("registered digest")?,
            http_port: from.u16("http port")?,
            charter: CharterId::decode(from)?,
            channel: decode_channel(from)?,
            moves_in_ms: from.u32("moves in")?,
            pointer: from.bool("pointer")?,
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
    /// Whether it may lead, by its certificate and its configuration.
    pub leads: bool,
    pub machine: Machine,
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
        out.u32(self.priority)
            .u16(self.processors)
            .u64(self.free_memory)
            .u64(self.free_disk)
            .bool(self.leads);
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
            leads: from.bool("leads")?,
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

/// "Count me in", to the leader (RG-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub profile: Profile,
    /// The charter that the member has; 0 for none.
    pub charter: CharterId,
    /// The control channel on which it heard its leader last: whether a move has reached it (EL-6).
    pub hears: SocketAddrV4,
}

impl Register {
    pub(super) fn encode(&self, out: &mut Encoder) {
        self.profile.encode(out);
        self.charter.encode(out);
        out.socket_addr(self.hears.into());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            profile: Profile::decode(from)?,
            charter: CharterId::decode(from)?,
            hears: decode_channel(from)?,
        })
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

/// Whom the leader believes registered, multicast (RG-3); as many messages as the list needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub nodes: Vec<NodeId>,
}

impl Registered {
    /// Nodes that fit one message of 1,400 bytes beside certificate and signature.
    pub const NODES_MAX: usize = 128;

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.list(&self.nodes, |out, node| node.encode(out));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self { nodes: from.list(Self::NODES_MAX, "nodes", NodeId::decode)? })
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
