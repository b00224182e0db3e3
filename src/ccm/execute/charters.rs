//! Charters on their way to the leaders of their segments: each is sent until the leader reports to have it.

use super::Executor;
use super::delivery::deliver;
use crate::ccm::db::CharterDue;
use crate::wire::id::{CharterId, Name, NodeId, hex};
use std::collections::BTreeMap;
use tokio::task::JoinHandle;

#[derive(Debug)]
struct Sent {
    number: CharterId,
    to: NodeId,
    task: JoinHandle<()>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// At most one charter per segment is on its way: the newest.
#[derive(Debug, Default)]
pub struct Charters(BTreeMap<Name, Sent>);

impl Executor {
    pub(super) fn hand_out_charters(&mut self, due: &[CharterDue]) {
        let is_due = |name: &Name, sent: &Sent| {
            let wanted = |due: &CharterDue| {
                (&due.segment.name, due.segment.decided.number, due.leader) == (name, sent.number, sent.to)
            };
            due.iter().any(wanted)
        };
        self.charters.0.retain(|name, sent| is_due(name, sent));
        for CharterDue { segment, leader, text } in due {
            if self.charters.0.contains_key(&segment.name) {
                continue;
            }
            let number = segment.decided.number;
            let document = hex(&segment.charter().sign(&self.controller.keys.director));
            let what = format!("charter {number} to {}", segment.name);
            let (ports, line) = (self.controller.text_ports.clone(), format!("charter document={document}"));
            let task = tokio::spawn(deliver(ports, what, *leader, *text, line));
            self.charters.0.insert(segment.name.clone(), Sent { number, to: *leader, task });
        }
    }
}
