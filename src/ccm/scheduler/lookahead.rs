//! What schedules will do, and where they will get in each other's way, before they do (SC-8).

use super::Schedule;
use super::conflict::{self, Going};
use super::window::{self, Window};
use crate::wire::id::{Name, NodeId};
use std::collections::BTreeSet;

/// Starts that are looked at, all in all: a schedule of every second fills that in three hours.
const STARTS_MAX: usize = 10_000;
/// Findings that are named.
pub const FINDINGS_MAX: usize = 1_000;

/// A schedule, where its jobs go, and how long they take.
#[derive(Clone, Debug)]
pub struct Planned<'a> {
    pub schedule: &'a Schedule,
    pub nodes: BTreeSet<NodeId>,
    pub lasts_ns: u64,
}

/// What will go otherwise than planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub at_ns: u64,
    pub schedule: Name,
    pub site: Name,
    pub what: Obstacle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The job of another schedule, or an earlier one of its own, will still run.
    Conflict {
        with: Name,
        began_ns: u64,
        nodes: Vec<NodeId>,
    },
    Window {
        window: Name,
        text: String,
    },
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookAhead {
    pub findings: Vec<Finding>,
    /// Starts up to `until_ns`.
    pub starts: usize,
    /// Until when all starts were looked at: earlier than asked where there are too many.
    pub until_ns: u64,
}

/// Plays the starts from `now_ns` to `until_ns` in their order. A job is taken to run for `lasts_ns` from its start.
pub fn look_ahead(planned: &[Planned<'_>], windows: &[Window], now_ns: u64, until_ns: u64) -> LookAhead {
    let mut at: Vec<Option<u64>> = planned.iter().map(|entry| entry.schedule.next(now_ns)).collect();
    let mut running: Vec<(usize, u64)> = Vec::new();
    let mut ahead = LookAhead { findings: Vec::new(), starts: 0, until_ns };
    loop {
        let due =
            at.iter().enumerate().filter_map(|(index, at)| Some((at.filter(|at| *at <= until_ns)?, index)));
        let Some((start_ns, index)) = due.min() else { return ahead };
        if ahead.starts == STARTS_MAX || ahead.findings.len() >= FINDINGS_MAX {
            ahead.until_ns = start_ns;
            return ahead;
        }
        ahead.starts += 1;
        let Planned { schedule, nodes, .. } = &planned[index];
        let mut find = |what| {
            let (schedule, site) = (schedule.name.clone(), schedule.site.clone());
            ahead.findings.push(Finding { at_ns: start_ns, schedule, site, what });
        };
        running.retain(|(other, began)| began.saturating_add(planned[*other].lasts_ns) > start_ns);
        let going: Vec<Going<'_, (usize, u64)>> = running
            .iter()
            .map(|&who| Going { who, site: &planned[who.0].schedule.site, nodes: &planned[who.0].nodes })
            .collect();
        for found in conflict::find(&schedule.site, nodes, &going) {
            let (other, began_ns) = found.with;
            let with = planned[other].schedule.name.clone();
            find(Obstacle::Conflict { with, began_ns, nodes: found.nodes });
        }
        match window::hold(windows, &schedule.site, start_ns) {
            Some(hold) => find(Obstacle::Window { window: hold.window, text: hold.text }),
            None => running.push((index, start_ns)),
        }
        at[index] = match &schedule.trigger {
            super::Trigger::Cron(cron) => cron.next(start_ns),
            super::Trigger::At(_)
            | super::Trigger::Change { .. }
            | super::Trigger::After { .. }
            | super::Trigger::Called { .. } => None,
        };
    }
}
