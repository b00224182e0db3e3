//! One identity on two machines: noticed, told, and the one that has to keeps silent.

use super::{Engine, Notice, Output};
use crate::time::Instant;
use crate::wire::control::Twin;
use crate::wire::envelope::{Message, Sender};
use crate::wire::id::NodeId;
use std::net::SocketAddr;

impl Engine {
    /// Whether this node keeps silent, for another machine has its identity.
    pub const fn is_aside(&self) -> bool {
        self.twins.is_aside()
    }

    /// Where the machine is that has our identity as well, if one was noticed of late.
    pub fn twin(&self, now: Instant) -> Option<SocketAddr> {
        self.twins.own(now)
    }

    /// A message under our own id that we did not send: the shell keeps our own from coming back to us. Others
    /// believe the one that was started last, or has sent more: so do we.
    pub(super) fn on_own_id(&mut self, now: Instant, from: SocketAddr, sender: &Sender) {
        self.counters.twins += 1;
        self.note_own(now, from, sender.boot >= self.boot);
    }

    /// Registrations of a member from two machines: both are told. True where this one counts.
    pub(super) fn admit(&mut self, now: Instant, sender: &Sender, datagram: SocketAddr, fresh: bool) -> bool {
        if !self.election.is_leader() {
            return fresh;
        }
        let known = self
            .twins
            .is_other(sender.node, datagram)
            .filter(|twin| self.segment.get(sender.node).is_some_and(|member| member.datagram == twin.keeps));
        let Some(twin) = known.or_else(|| self.segment.twin(now, sender, datagram, fresh)) else {
            return fresh;
        };
        self.counters.twins += 1;
        if self.twins.on_found(now, sender.node, twin) {
            for to in [twin.keeps, twin.other] {
                self.emit(Output::Unicast(to, Message::Twin(twin)));
            }
            self.emit(Output::Notice(Notice::TwinFound { node: sender.node, twin }));
            self.segment.uplink_soon(now);
        }
        fresh && twin.keeps == datagram
    }

    pub(super) fn on_twin(&mut self, now: Instant, from: NodeId, twin: Twin) {
        let ours = self.me.datagram;
        // A twin that leads says so itself; any other leader is one that we follow.
        if self.election.leader() != Some(from) || twin.keeps == twin.other {
            return;
        }
        self.counters.twins += 1;
        if twin.keeps == ours {
            self.note_own(now, twin.other, false);
        } else if twin.other == ours {
            self.note_own(now, twin.keeps, true);
        }
    }

    fn note_own(&mut self, now: Instant, other: SocketAddr, stand_aside: bool) {
        if self.twins.on_own(now, other, stand_aside) {
            self.emit(Output::Notice(Notice::Twin { other, aside: self.twins.is_aside() }));
        }
        if stand_aside {
            self.set_standing(now);
            if self.election.is_leader() {
                // Without a word: members follow the id, and the other speaks for it.
                self.election.hand_over(now);
                self.drop_leadership();
            }
        }
    }

    pub(super) fn twins_timeout(&mut self, now: Instant) {
        if self.twins.on_timeout(now) {
            self.set_standing(now);
            let chance = self.chance();
            self.registration.renew(now, self.profile.register_spread, chance);
        }
    }
}
