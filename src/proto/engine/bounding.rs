//! Bandwidth windows: what the CCM lets this node send, divided among its sessions and what it gives others.

use super::Engine;
use crate::proto::bound::{Way, divide};
use crate::proto::forward::Forward;
use crate::time::Instant;
use crate::wire::bound::Bound;
use crate::wire::id::ObjectName;

impl Engine {
    /// The objects that are being given to others now, one for each answer. Returns what each answer may send, in
    /// bytes per second, in the same order; `None` where that is not bounded.
    pub fn handle_serving(&mut self, now: Instant, serving: Vec<ObjectName>) -> Vec<Option<u64>> {
        self.serving = serving;
        if !self.is_bounded() {
            return vec![None; self.serving.len()];
        }
        divide(&self.ways(now)).split_off(self.senders.len())
    }

    /// Sets what each session may send now.
    pub(super) fn bound_sessions(&mut self, now: Instant) {
        if self.senders.is_empty() || !self.is_bounded() {
            // Nearly always, and with every batch.
            self.senders.values_mut().for_each(|sender| sender.bound_rate(now, None));
            return;
        }
        let rates = divide(&self.ways(now));
        for (sender, rate) in self.senders.values_mut().zip(rates) {
            sender.bound_rate(now, rate);
        }
    }

    fn is_bounded(&self) -> bool {
        self.forwards.values().any(|forward| !forward.notification().bounds.is_empty())
    }

    /// The sessions, then the answers.
    fn ways(&self, now: Instant) -> Vec<Way<'_>> {
        let ccm_ns = self.activation.controller(now);
        let bound = |forward: Option<&Forward>| {
            forward.map_or_else(Bound::default, |forward| forward.notification().bounds.at(ccm_ns))
        };
        let sessions = self.senders.values().map(|sender| {
            let head = sender.head();
            Way { site: Some(&head.site), bound: bound(self.forwards.get(&head.assignment)) }
        });
        let answers = self.serving.iter().map(|name| {
            let forward = self.forwards.values().find(|forward| forward.notification().shape.name == *name);
            Way { site: forward.map(|forward| &forward.notification().site), bound: bound(forward) }
        });
        sessions.chain(answers).collect()
    }
}
