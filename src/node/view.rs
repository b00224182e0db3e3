//! What `show` shows: rows made of the machines' state, and of counters under their stable names.

use super::channels::Channels;
use super::console::Console;
use super::priority::Priority;
use super::reliability::Reliability;
use super::sessions::Sessions;
use super::store::Store;
use super::transfers::{TRANSFERS_MAX, Transfers};
use super::verbs::Subject;
use super::{config::Config, console};
use crate::io::http::Server;
use crate::proto::election::Standing;
use crate::proto::engine::Engine;
use crate::time::Instant;
use crate::wire::console::{Reply, Value};
use crate::wire::control::{Hears, SiteState};
use crate::wire::report::StatusReport;
use crate::wire::session::PAYLOAD_MAX;

/// Everything that can be shown.
pub struct View<'a> {
    pub config: &'a Config,
    pub now: Instant,
    /// The wall clock, in nanoseconds since 1970.
    pub wall: u64,
    pub started: Instant,
    pub engine: &'a Engine,
    pub channels: &'a Channels,
    pub sessions: &'a Sessions,
    pub store: &'a Store,
    pub transfers: &'a Transfers,
    pub http: &'a Server,
    pub console: &'a Console,
    pub sites: &'a [SiteState],
    pub priority: &'a Priority,
    pub reliability: &'a Reliability,
    pub turn_max_us: u64,
}

impl View<'_> {
    pub fn show(&self, subject: Subject) -> Reply {
        match subject {
            Subject::Status => self.status(),
            Subject::Leader => self.leader(),
            Subject::Members => self.members(),
            Subject::Sessions => self.running(),
            Subject::Counters => self.counters(),
            Subject::Store => self.objects(),
            Subject::Sites => self.site_states(),
            Subject::Groups => self.groups(),
            Subject::Limits => limits(),
        }
    }

    fn status(&self) -> Reply {
        let election = self.engine.election();
        let leader = election.leader().map_or_else(String::new, |node| node.to_string());
        Reply::ok()
            .with("node", self.engine.node().to_string())
            .with("name", self.config.name.as_str())
            .with("segment", self.config.segment.as_str())
            .with("title", self.title())
            .with("state", election.state().name())
            .with("leader", leader)
            .with("epoch", election.epoch().reign())
            .with("registered", self.engine.is_registered())
            .with("groups", self.engine.groups().number().0)
            .with("multicast", self.multicast())
            .with("by_unicast", self.engine.reach().named().count() as u64)
            .with("sending", self.engine.senders().count() as u64)
            .with("receiving", self.engine.receivers().count() as u64)
            .with("clock_offset_ns", Value::Signed(self.clock_offset()))
            .with("control_channel", self.engine.control_channel().present().to_string())
            .with("twin", self.engine.twin(self.now).map_or_else(String::new, |twin| twin.to_string()))
            .with("aside", self.engine.is_aside())
            .with("uptime_ms", self.now.since(self.started).as_millis())
    }

    /// The CCM's clock minus this machine's wall clock, in nanoseconds.
    fn clock_offset(&self) -> i64 {
        let controller =
            self.now.as_nanos().saturating_add_signed(self.engine.clock_offset(self.now, self.wall));
        i64::try_from(i128::from(controller) - i128::from(self.wall)).unwrap_or(i64::MAX)
    }

    /// The segment's name as people are shown it (NS-14).
    fn title(&self) -> &str {
        let charter = self.engine.charter();
        charter.map_or(self.config.segment.as_str(), |charter| charter.title.as_str())
    }

    /// Whether multicast passes between this node and whom it follows, or leads.
    fn multicast(&self) -> &'static str {
        let election = self.engine.election();
        match election.leader() {
            Some(_) if election.is_leader() => match self.engine.reach().named().next() {
                Some(_) => path(Hears::NOTHING),
                None => path(Hears::ALL),
            },
            Some(_) => path(self.engine.reach().hears()),
            None => "unknown",
        }
    }

    fn leader(&self) -> Reply {
        let election = self.engine.election();
        let standing = match election.standing() {
            Standing::Candidate => "candidate",
            Standing::Substitute(_) => "substitute",
            Standing::Follower => "follower",
        };
        explain(self.priority)
            .with("state", election.state().name())
            .with("leader", election.leader().map_or_else(String::new, |node| node.to_string()))
            .with("epoch", election.epoch().reign())
            .with("own_priority", u64::from(election.rank().priority))
            .with("factor_pct", u64::from(self.priority.factor))
            .with("can_lead", self.config.can_lead && self.channels.sealer().certificate().can_lead)
            .with("elections", self.engine.counters().elections)
            .with("crashes", self.reliability.counted().0)
            .with("losses", self.reliability.counted().1)
            .with("charter", self.engine.charter().map_or(0, |charter| charter.number.0))
            .with("standing", standing)
    }

    /// A leader knows its members; others do not, and show none.
    fn members(&self) -> Reply {
        let mut reply = Reply::table();
        let segment = self.engine.segment();
        if self.engine.election().is_leader() {
            for member in segment.members() {
                let seen = segment.seen(member.node()).map_or(0, |seen| self.now.since(seen).as_millis());
                let fields = vec![
                    ("id", member.node().to_string().into()),
                    ("name", member.name.as_str().into()),
                    ("addr", member.datagram.to_string().into()),
                    ("priority", u64::from(member.priority).into()),
                    ("free_bytes", member.free_disk.into()),
                    ("last_seen_ms", seen.into()),
                    ("multicast", path(self.engine.reach().heard_by(member.node())).into()),
                ];
                reply.push("member", fields);
            }
        }
        let leader = self.engine.election().leader().map_or_else(String::new, |node| node.to_string());
        reply.with("leader", leader).with("epoch", self.engine.election().epoch().reign())
    }

    fn running(&self) -> Reply {
        let mut reply = Reply::table();
        for (session, sender) in self.engine.senders() {
            let (head, standing) = (sender.head(), sender.standing());
            let fields = vec![
                ("id", session.to_string().into()),
                ("role", "sender".into()),
                ("assignment", head.assignment.0.into()),
                ("site", head.site.as_str().into()),
                ("pass", u64::from(standing.pass).into()),
                ("frames_sent", standing.frames_sent.into()),
                ("repair_frames", standing.repair_frames.into()),
                ("source_frames", standing.source_frames.into()),
                ("rate_bytes_s", standing.rate.into()),
                ("members", u64::from(standing.members).into()),
                ("complete", u64::from(standing.complete).into()),
            ];
            reply.push("session", fields);
        }
        for (session, receiver) in self.engine.receivers() {
            let head = receiver.head();
            let fields = vec![
                ("id", session.to_string().into()),
                ("role", "receiver".into()),
                ("assignment", head.assignment.0.into()),
                ("site", head.site.as_str().into()),
                ("blocks", u64::from(head.shape.blocks()).into()),
                ("blocks_verified", u64::from(receiver.verified()).into()),
            ];
            reply.push("session", fields);
        }
        reply
    }

    fn counters(&self) -> Reply {
        let (datagram_bytes, datagrams) = self.channels.sent();
        let served = self.http.counters();
        let raw = self.channels.raw_counters();
        let ports = self.console.counters();
        let (channels, sessions, engine) =
            (self.channels.counters, self.sessions.counters, self.engine.counters());
        let rows: [(&'static str, u64); 51] = [
            ("sent_bytes", datagram_bytes + served.body_bytes + self.transfers.posted_bytes),
            ("datagram_sent_bytes", datagram_bytes),
            ("datagrams_sent", datagrams),
            ("messages_sent", channels.messages_sent),
            ("copies_sent", channels.copies_sent),
            ("messages_received", channels.messages_received),
            ("messages_refused", channels.refused),
            ("messages_foreign", channels.foreign),
            ("messages_replayed", engine.replayed),
            ("messages_not_leaders", engine.not_leaders),
            ("datagrams_garbage", channels.garbage),
            ("datagrams_dropped_on_purpose", self.channels.loss.dropped),
            ("socket_drops", self.channels.overflows()),
            ("raw_sent", raw.sent),
            ("raw_received", raw.received),
            ("raw_garbage", raw.garbage),
            ("frames_sent", sessions.frames_sent),
            ("frames_received", channels.frames_received),
            ("frames_stored", sessions.frames_stored),
            ("frames_parity", sessions.frames_parity),
            ("frames_duplicate", sessions.frames_duplicate),
            ("frames_forged", sessions.frames_forged),
            ("frames_malformed", sessions.frames_malformed),
            ("frames_unknown_session", engine.frames_unknown),
            ("blocks_rebuilt", sessions.blocks_rebuilt),
            ("blocks_spoiled", sessions.blocks_spoiled),
            ("sends_deferred", sessions.sends_deferred),
            ("elections", engine.elections),
            ("registrations_refused", engine.registrations_refused),
            ("reports_refused", engine.reports_refused),
            ("groups_refused", engine.groups_refused),
            ("messages_of_twins", engine.twins),
            ("peers_asked", self.engine.seek().asked),
            ("unreached_refused", self.engine.reach().refused),
            ("members_released", self.engine.release().released),
            ("http_requests", served.requests),
            ("http_served_bytes", served.body_bytes),
            ("http_refused", served.refused),
            ("http_expired", served.expired),
            ("http_broken", served.broken),
            ("fetched_bytes", self.transfers.fetched_bytes),
            ("posted_bytes", self.transfers.posted_bytes),
            ("console_sessions", ports.accepted),
            ("console_turned_away", ports.turned_away),
            ("console_requests", ports.requests),
            ("console_refused", ports.refused),
            ("console_idle", ports.idle),
            ("console_slow_readers", ports.slow_readers),
            ("console_handshakes_failed", ports.handshakes_failed),
            ("console_strangers", ports.strangers),
            ("loop_turn_max_us", self.turn_max_us),
        ];
        let mut reply = Reply::table();
        for (name, value) in rows {
            reply.push("counter", vec![("name", name.into()), ("value", value.into())]);
        }
        reply
    }

    fn objects(&self) -> Reply {
        let mut reply = Reply::table();
        for (shape, verified) in self.store.objects() {
            let fields = vec![
                ("name", shape.name.to_string().into()),
                ("bytes", shape.file_len().into()),
                ("blocks", u64::from(shape.blocks()).into()),
                ("blocks_verified", u64::from(verified).into()),
            ];
            reply.push("object", fields);
        }
        reply
    }

    /// What came on a channel is counted from when it was joined.
    fn groups(&self) -> Reply {
        let mut reply = Reply::table();
        let groups = self.engine.groups();
        for group in groups.list().into_iter().flat_map(|list| &list.groups) {
            let sites: Vec<&str> = group.sites.iter().map(|site| site.as_str()).collect();
            let traffic = self.channels.data.traffic(group.channel);
            let joined = traffic.is_some();
            let traffic = traffic.unwrap_or_default();
            let fields = vec![
                ("name", group.name.as_str().into()),
                ("channel", group.channel.to_string().into()),
                ("sites", sites.join(",").into()),
                ("members", group.members.len().into()),
                ("member", group.holds(self.engine.node()).into()),
                ("joined", joined.into()),
                ("datagrams", traffic.datagrams.into()),
                ("bytes", traffic.bytes.into()),
                ("drops", traffic.drops.into()),
            ];
            reply.push("group", fields);
        }
        reply.with("list", groups.number().0)
    }

    fn site_states(&self) -> Reply {
        let mut reply = Reply::table();
        for state in self.sites {
            let version = state.version.map_or(0, |version| version.0);
            reply.push("site", vec![("name", state.site.as_str().into()), ("version", version.into())]);
        }
        reply
    }
}

/// What arrives of a leader's multicast, in a word.
const fn path(hears: Hears) -> &'static str {
    match (hears.control, hears.data) {
        (true, true) => "passes",
        (true, false) => "control-only",
        (false, true) => "data-only",
        (false, false) => "blocked",
    }
}

/// The priority term by term (EL-12): a term that cannot be measured has no value and no weight.
fn explain(priority: &Priority) -> Reply {
    let mut reply = Reply::table();
    for term in &priority.terms {
        let mut fields = vec![("name", term.name.into())];
        fields.extend(term.value.map(|value| ("value", value.into())));
        fields.push(("unit", term.unit.into()));
        fields.push(("weight", u64::from(term.weight).into()));
        fields.push(("points", u64::from(term.points).into()));
        reply.push("term", fields);
    }
    reply
}

fn limits() -> Reply {
    let rows: [(&'static str, u64); 7] = [
        ("console_sessions", console::SESSIONS as u64),
        ("console_line_bytes", crate::wire::console::LINE_MAX as u64),
        ("transfers", TRANSFERS_MAX as u64),
        ("segment_members", crate::proto::segment::MEMBERS_MAX as u64),
        ("frame_payload_bytes", PAYLOAD_MAX as u64),
        ("report_bytes", StatusReport::MAX as u64),
        ("assignment_data_bytes", crate::wire::assignment::DATA_MAX),
    ];
    let mut reply = Reply::table();
    for (name, value) in rows {
        reply.push("limit", vec![("name", name.into()), ("value", value.into())]);
    }
    reply
}
