//! What is decided of the segment: its charter, its control channel, who hands over to whom.

use super::{Destination, Engine, Notice, Output, Refusal};
use crate::proto::control_channel;
use crate::proto::election::{Standing, State};
use crate::time::{Duration, Instant};
use crate::wire::charter::Charter;
use crate::wire::control::{Hears, LeaderAlive, Register, Solicit};
use crate::wire::envelope::Message;
use crate::wire::id::{CharterId, NodeId};
use std::net::{SocketAddr, SocketAddrV4};

/// Times that a leader repeats a new charter to all; who misses it is given it with its registration.
const REPEATS: u32 = 3;
/// Of a large segment about so many members give a leader the charter that it lacks.
const GIVERS: u16 = 4;

/// The charter that a node goes by, and what is left to do about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Governance {
    charter: Option<(Charter, Vec<u8>)>,
    /// Without a list in the charter: whether the node's configuration lets it lead.
    configured: bool,
    /// Repeats left, and when the next one is due.
    repeats: u32,
    repeat_at: Option<Instant>,
    /// When this node took the charter.
    taken: Instant,
    /// Not to be handed on again before: every leader-alive is an occasion.
    hand_on_at: Instant,
    /// The channel that the charter wants and the segment does not have yet.
    wanted: Option<SocketAddrV4>,
    /// Members are not solicited again before (NS-9).
    solicit_at: Instant,
    /// The charter whose channel did not reach everybody: it is not tried again.
    undone: CharterId,
}

impl Governance {
    pub(super) fn new(now: Instant, charter: Option<(Charter, Vec<u8>)>, configured: bool) -> Self {
        Self { charter, configured, taken: now, hand_on_at: now, solicit_at: now, ..Self::default() }
    }

    pub(super) fn number(&self) -> CharterId {
        self.charter.as_ref().map_or(CharterId(0), |(charter, _)| charter.number)
    }

    pub(super) fn charter(&self) -> Option<&Charter> {
        self.charter.as_ref().map(|(charter, _)| charter)
    }

    /// Whether the node comes before those that are not on the list (EL-3).
    pub(super) fn lists(&self, node: NodeId) -> bool {
        self.charter().is_none_or(|charter| charter.lists(node))
    }

    /// How a node takes part in the vote that may lead as far as it is concerned itself.
    pub(super) fn standing(&self, node: NodeId, may_lead: bool) -> Standing {
        let leaders = self.charter().and_then(|charter| charter.leaders.as_ref());
        match leaders {
            _ if !may_lead => Standing::Follower,
            None if self.configured => Standing::Candidate,
            None => Standing::Follower,
            Some(leaders) if leaders.nodes.contains(&node) => Standing::Candidate,
            Some(leaders) => {
                let after = leaders.open_after.map(|seconds| Duration::from_secs(seconds.into()));
                after.map_or(Standing::Follower, Standing::Substitute)
            }
        }
    }
}

impl Engine {
    /// A charter from the CCM whose signature was checked, with its bytes. The one that the segment has already
    /// is an instruction to report how things are (NS-5).
    ///
    /// # Errors
    /// A node that does not lead refuses, and so does one that has a newer charter or belongs elsewhere.
    pub fn handle_charter(&mut self, now: Instant, charter: Charter, bytes: Vec<u8>) -> Result<(), Refusal> {
        if charter.segment != self.segment_name {
            return Err(Refusal::OtherSegment);
        }
        if !self.election.is_leader() {
            return Err(Refusal::NotLeader);
        }
        if charter.number < self.governance.number() {
            return Err(Refusal::Superseded);
        }
        self.take_charter(now, charter, bytes);
        self.refresh(now);
        self.drain(now);
        Ok(())
    }

    /// The operator of the leader wants the CCM to know how things are now (NS-5, NS-9).
    ///
    /// # Errors
    /// A node that does not lead cannot.
    pub fn handle_refresh(&mut self, now: Instant) -> Result<(), Refusal> {
        if !self.election.is_leader() {
            return Err(Refusal::NotLeader);
        }
        self.refresh(now);
        self.drain(now);
        Ok(())
    }

    /// The operator of the leader moves the segment to another control channel (EL-6).
    ///
    /// # Errors
    /// Where it does not lead, the CCM has decided on the channel, or the segment is there or moving already.
    pub fn handle_channel_order(&mut self, now: Instant, to: SocketAddrV4) -> Result<(), Refusal> {
        if !self.election.is_leader() {
            return Err(Refusal::NotLeader);
        }
        if self.governance.charter().is_some_and(|charter| charter.channel.is_some()) {
            return Err(Refusal::Chartered);
        }
        if self.groups.uses(to) {
            return Err(Refusal::DataChannel);
        }
        self.control_channel.order(now, to)?;
        self.emit(Output::Notice(Notice::Moving(to)));
        self.drain(now);
        Ok(())
    }

    /// The channel of control messages now, and the charter of the segment.
    pub const fn control_channel(&self) -> &control_channel::ControlChannel {
        &self.control_channel
    }

    pub fn charter(&self) -> Option<&Charter> {
        self.governance.charter()
    }

    pub(super) fn on_charter(&mut self, now: Instant, bytes: Vec<u8>) {
        // The shell checked the director's signature before it got here.
        let Ok(charter) = Charter::peek(&bytes) else { return };
        if charter.segment == self.segment_name {
            self.take_charter(now, charter, bytes);
        }
    }

    fn take_charter(&mut self, now: Instant, charter: Charter, bytes: Vec<u8>) {
        if charter.number <= self.governance.number() {
            return;
        }
        let before = self.governance.charter().and_then(|charter| charter.channel);
        self.governance.wanted = match charter.channel {
            None => before.map(|_| self.control_channel.home()),
            wanted => wanted,
        };
        self.governance.taken = now;
        self.emit(Output::KeepCharter(bytes.clone()));
        self.emit(Output::Notice(Notice::Chartered(charter.number)));
        self.governance.charter = Some((charter, bytes));
        self.set_standing(now);
        if self.election.is_leader() {
            self.begin_repeats(now);
            self.segment.on_register(now, self.own_stamp(), self.registration(Hears::ALL));
            self.segment.uplink_soon(now);
        } else {
            let chance = self.chance();
            self.registration.renew(now, self.profile.register_spread, chance);
        }
    }

    fn begin_repeats(&mut self, now: Instant) {
        (self.governance.repeats, self.governance.repeat_at) = (REPEATS, Some(now));
    }

    pub(super) fn set_standing(&mut self, now: Instant) {
        let may_lead = self.may_lead && !self.twins.is_aside();
        self.election.set_standing(now, self.governance.standing(self.node(), may_lead));
    }

    /// The leader solicits registrations and reports when they are there.
    fn refresh(&mut self, now: Instant) {
        if now >= self.governance.solicit_at {
            self.governance.solicit_at = now + self.profile.register_refresh;
            let spread = self.profile.register_spread;
            let solicit = Solicit { spread_ms: spread.as_millis() as u16 };
            self.multicast(Destination::Control, Message::Solicit(solicit));
        }
        self.segment.uplink_soon(now + self.profile.register_spread);
    }

    pub(super) fn on_solicit(&mut self, now: Instant, from: NodeId, solicit: Solicit) {
        if self.election.leader() == Some(from) {
            let chance = self.chance();
            self.registration.renew(now, Duration::from_millis(solicit.spread_ms.into()), chance);
        }
    }

    /// The leader of `members` shows with its leader-alive which charter it has: a newer one than ours is asked
    /// for by registering, an older one is replaced by some of us.
    pub(super) fn compare_with_leader(
        &mut self,
        now: Instant,
        from: SocketAddr,
        theirs: CharterId,
        members: u16,
    ) {
        let ours = self.governance.number();
        if theirs == ours || now < self.governance.hand_on_at {
            return;
        }
        self.governance.hand_on_at = now + self.profile.register_again;
        let chance = self.chance();
        if theirs > ours {
            self.registration.renew(now, self.profile.register_spread, chance);
        } else if chance.is_multiple_of(u64::from(members / GIVERS).max(1)) {
            self.give_charter(from);
        }
    }

    /// So does a claimant; who leads or claims as well gives it what it lacks.
    pub(super) fn compare_with_claimant(&mut self, now: Instant, from: SocketAddr, theirs: CharterId) {
        let takes_part = matches!(self.election.state(), State::Leader { .. } | State::Voting { .. });
        if takes_part && theirs < self.governance.number() && now >= self.governance.hand_on_at {
            self.governance.hand_on_at = now + self.profile.register_again;
            self.give_charter(from);
        }
    }

    pub(super) fn give_charter(&mut self, to: SocketAddr) {
        if let Some((_, bytes)) = &self.governance.charter {
            let charter = Message::Charter(bytes.clone());
            self.emit(Output::Unicast(to, charter));
        }
    }

    /// What we say of ourselves to a peer of whose multicast this arrives here.
    pub(super) fn registration(&self, hears: Hears) -> Register {
        let (charter, heard_on) = (self.governance.number(), self.control_channel.hears());
        Register { profile: self.me.clone(), hears, charter, heard_on }
    }

    /// Our own registration never is a late one.
    pub(super) const fn own_stamp(&self) -> (u32, u64) {
        (self.boot, u64::MAX)
    }

    pub(super) fn alive(&mut self, now: Instant, pointer: bool) -> LeaderAlive {
        let (channel, moves_in_ms) = self.control_channel.told(now);
        LeaderAlive {
            session: if pointer { None } else { self.session_in_alive() },
            priority: self.election.rank().priority,
            members: self.segment.len() as u16,
            registered: self.segment.digest(),
            http_port: self.me.http.port(),
            groups: self.groups.number(),
            charter: self.governance.number(),
            channel,
            moves_in_ms,
            pointer,
        }
    }

    /// The leader-alive of a leader that stops, on every channel where somebody may wait for it.
    pub(super) fn say_farewell(&mut self, now: Instant) {
        let alive = LeaderAlive { priority: 0, session: None, ..self.alive(now, false) };
        self.multicast(Destination::Control, Message::LeaderAlive(alive.clone()));
        if self.control_channel.is_away() {
            let home = Destination::OtherControl(self.control_channel.home());
            let pointer = LeaderAlive { pointer: true, ..alive };
            self.emit(Output::Multicast(home, Message::LeaderAlive(pointer)));
        }
    }

    pub(super) fn lead_by_charter(&mut self, now: Instant) {
        if let Some(charter) = self.governance.charter() {
            self.governance.wanted = charter.channel.filter(|_| charter.number != self.governance.undone);
            self.begin_repeats(now);
        }
        self.governance.taken = now;
    }

    pub(super) fn charter_deadline(&self) -> Option<Instant> {
        let leads = self.election.is_leader();
        let times = [
            self.control_channel.next_deadline(),
            self.governance.repeat_at.filter(|_| leads),
            self.gives_up_at().filter(|_| leads),
        ];
        times.into_iter().flatten().min()
    }

    pub(super) fn charter_timeout(&mut self, now: Instant) {
        for event in self.control_channel.on_timeout(now) {
            match event {
                control_channel::Event::Moved(to) => self.emit(Output::Notice(Notice::Moved(to))),
                control_channel::Event::TrialOver { back } => self.judge_move(now, back),
                control_channel::Event::Returned => {
                    let home = self.control_channel.home();
                    self.emit(Output::Notice(Notice::Moved(home)));
                }
            }
        }
        if !self.election.is_leader() {
            return;
        }
        if self.governance.repeat_at.is_some_and(|at| now >= at) {
            self.repeat_charter(now);
        }
        if let Some(wanted) = self.governance.wanted
            && !self.control_channel.is_moving()
        {
            self.governance.wanted = None;
            // Control messages and content stay apart, whatever was decided (LD-3).
            if !self.groups.uses(wanted) && self.control_channel.order(now, wanted).is_ok() {
                self.emit(Output::Notice(Notice::Moving(wanted)));
            }
        }
        self.consider_handing_over(now);
    }

    fn repeat_charter(&mut self, now: Instant) {
        let Some((_, bytes)) = &self.governance.charter else { return };
        let charter = Message::Charter(bytes.clone());
        self.governance.repeats = self.governance.repeats.saturating_sub(1);
        let more = self.governance.repeats > 0;
        self.governance.repeat_at = more.then(|| now + self.profile.alive_period);
        self.multicast(Destination::Control, charter);
    }

    /// Every member has had time to say where it hears us: a channel that does not reach all is given up.
    fn judge_move(&mut self, now: Instant, back: SocketAddrV4) {
        if !self.election.is_leader() {
            return;
        }
        let channel = self.control_channel.present();
        let deaf = self.segment.deaf_on(now, channel, self.node());
        if deaf > 0 {
            self.governance.undone = self.governance.number();
            self.control_channel.undo(now, back);
            self.emit(Output::Notice(Notice::Undone { channel, back, deaf }));
        }
    }

    /// When a leader that must not lead any more stops waiting for one that may.
    fn gives_up_at(&self) -> Option<Instant> {
        let strict = self.election.standing() == Standing::Follower;
        strict.then(|| self.governance.taken + self.profile.register_refresh * 3)
    }

    /// A leader that is not on the list leaves the place to one that is, once that one has the charter and no
    /// transmission is under way. Where nobody else may lead ever, it goes as well, after all had time to
    /// hear of the charter.
    pub(super) fn consider_handing_over(&mut self, now: Instant) {
        if !self.election.is_leader() || self.election.standing() == Standing::Candidate {
            return;
        }
        let number = self.governance.number();
        let is_heir = |node: NodeId, leads: bool| {
            leads && self.governance.lists(node) && self.segment.has_charter(node, number)
        };
        let heir = self.segment.members().find(|member| is_heir(member.node(), member.leads));
        let heir =
            heir.map(super::Member::node).filter(|_| self.senders.is_empty() && self.waiting.is_empty());
        if heir.is_none() && self.gives_up_at().is_none_or(|at| now < at) {
            return;
        }
        self.say_farewell(now);
        self.election.hand_over(now);
        self.drop_leadership();
        self.control_channel.on_orphaned(now);
        self.emit(Output::Notice(Notice::HandedOver(heir)));
    }
}
