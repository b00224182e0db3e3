//! A run from the assignment to the commit order, or to its failure.

use super::Executor;
use super::commit::roll_forward;
use super::delivery::Verb;
use crate::ccm::api::types::Phase;
use crate::ccm::clock::{NS_PER_MS, NS_PER_S};
use crate::ccm::controller::{ActiveRun, Controller};
use crate::ccm::db::{DbError, Store};
use crate::ccm::distribute::{Distribution, HandOut, Leader, Limits, Paths, Standing};
use crate::ccm::model::{JobKind, Node, NodeState, Parts, Run, RunNode, Segment};
use crate::ccm::permission::ORDER_LIFE_S;
use crate::ccm::rollout::{self, Decision, OFFLINE_GRACE_NS};
use crate::ccm::scheduler::bandwidth;
use crate::wire::id::{ListNumber, Name};
use crate::wire::order::{Action, Order};
use std::collections::{BTreeMap, BTreeSet};

/// How long a leader may take to fetch: so much, and a second for every [`LEASE_BYTES_PER_S`].
const LEASE_BASE_NS: u64 = 10 * NS_PER_S;
const LEASE_BYTES_PER_S: u64 = 4 << 20;
/// Bytes for which a run's deadline is a second later.
const DEADLINE_BYTES_PER_S: u64 = 1 << 20;

/// What the database says of a run and of the farm around it.
pub(super) struct Picture {
    pub nodes: Vec<RunNode>,
    /// All that have staged stand in a report of their segment now.
    pub staged_online: bool,
    /// Leaders, as they are now, of the segments that hold a node of the run (GD-1, GD-22).
    pub leaders: Vec<Leader>,
    /// The content group of its site.
    pub group: Name,
}

impl Executor {
    pub(super) async fn distribute(&mut self, run: Run, now_ns: u64) -> Result<(), DbError> {
        let picture = self.picture(&run, now_ns).await?;
        let assignment = *run.sent().expect("a run that is distributed has an assignment");
        let file_len = assignment.shape.file_len();
        // While the controller was away nobody could report.
        let sent_ns = assignment.composed_ns.max(run.parts.since_ns);
        let begun_ns = sent_ns.max(self.controller.started_ns);
        let slowest = self.slowest(&run, begun_ns, now_ns);
        let patience_s =
            file_len / DEADLINE_BYTES_PER_S + bounded_s(file_len, slowest, picture.leaders.len());
        let deadline_ns =
            begun_ns + run.terms.held_ns + (self.controller.config.report_timeout_s + patience_s) * NS_PER_S;
        let (rules, online) = (run.terms.rules, picture.staged_online);
        let alone = run.order.is_some() || run.kind == JobKind::Synchronize;
        let decision = match run.kind {
            // Who has staged a part goes on to the next one.
            _ if alone && !run.parts.is_at_last() => {
                rollout::while_synchronizing(&picture.nodes, online, now_ns, deadline_ns)
            }
            // Each goes live by the order that it got with the assignment: nobody waits for the others.
            _ if run.order.is_some() => rollout::while_committing(&picture.nodes, now_ns, deadline_ns),
            JobKind::Synchronize => rollout::while_synchronizing(&picture.nodes, online, now_ns, deadline_ns),
            _ => rollout::while_staging(&picture.nodes, rules.quorum, online, now_ns, deadline_ns),
        };
        match decision {
            Decision::Wait => {
                self.hand_out(&run, &picture, now_ns);
                Ok(())
            }
            Decision::Commit if !run.parts.is_at_last() => self.send_next_part(run, now_ns).await,
            Decision::Commit => self.issue_commit(&run, now_ns).await,
            Decision::End(phase @ (Phase::Done | Phase::Partial), text) => {
                let short = rollout::falls_short(&run, &picture.nodes);
                self.work_on(run.id, move |controller| roll_forward(controller, &run, phase, text, short));
                Ok(())
            }
            Decision::End(phase, text) => {
                log::warn!("job {}: {phase}: {text}", run.job);
                let id = run.id;
                if let Some(nodes) = rollout::without_base(&picture.nodes) {
                    let retry =
                        move |store: &mut Store| store.retry_without_base(&run, &nodes, &text, now_ns);
                    if self.controller.store(retry).await? {
                        self.controller.wake.notify_one();
                    }
                    return Ok(());
                }
                self.controller.store(move |store| store.end_run(id, phase, &text, None, now_ns)).await
            }
        }
    }

    /// Sends the notifications that are due: at the start, after a lease, to new leaders, and to those that
    /// hold a copy while some of their nodes have not staged it.
    fn hand_out(&mut self, run: &Run, picture: &Picture, now_ns: u64) {
        let shape = run.sent().expect("a run that is distributed has an assignment").shape;
        let config = &self.controller.config;
        let mut ended = Vec::new();
        let (mut due, mut again): (Vec<HandOut>, Vec<HandOut>) = (Vec::new(), Vec::new());
        let bounds = bandwidth::bounds(&self.controller.windows(), &run.site, now_ns);
        {
            let mut distributions = self.controller.distributions();
            let active = distributions.entry(run.id).or_insert_with(|| {
                let lease_ns = LEASE_BASE_NS + shape.file_len() / LEASE_BYTES_PER_S * NS_PER_S;
                let (first_level, forward) = (config.first_level.into(), config.forward.into());
                let limits = Limits { first_level, lease_ns, forward };
                let mut distribution =
                    Distribution::new(picture.leaders.clone(), &config.ranking(&run.site), limits);
                let order: Vec<&str> = distribution.order().map(Name::as_str).collect();
                log::info!("job {}: leaders are served in the order {}", run.job, order.join(", "));
                due.extend(distribution.start(now_ns));
                let (run, group, paused) = (run.clone(), picture.group.clone(), false);
                ActiveRun { run, group, distribution, paused, told: bounds.clone(), slowest: None }
            });
            active.paused = false;
            if let Some(rate) = bounds.at(Some(now_ns)).least() {
                // The one who serves may serve others at the same time.
                let shared = (rate / u64::from(config.first_level).max(1)).max(1);
                active.distribution.stretch(LEASE_BASE_NS + shape.file_len() / shared * NS_PER_S);
            }
            if !active.told.agree(&bounds, now_ns) {
                active.told = bounds;
                again = active.distribution.told();
            }
            let distribution = &mut active.distribution;
            for leader in &picture.leaders {
                distribution.led_by(leader);
                let stored = |node: &RunNode| {
                    node.node == leader.node && matches!(node.state, NodeState::Staged | NodeState::Live)
                };
                if picture.nodes.iter().any(stored) {
                    distribution.stored(leader.node, now_ns);
                }
            }
            due.extend(distribution.expire(now_ns));
            for leader in &picture.leaders {
                if distribution.is_waiting(leader.node) {
                    // What it was told before may name a source that failed it, or us.
                    self.deliveries.call_off(run.id, &leader.segment);
                }
                let open = |node: &RunNode| {
                    node.segment == leader.segment
                        && matches!(node.state, NodeState::Waiting | NodeState::Missing)
                };
                let told = self.deliveries.is_under_way(run.id, &leader.segment, leader.node, Verb::Notify);
                if !told && picture.nodes.iter().any(open) {
                    due.extend(distribution.reminder(leader.node, now_ns));
                }
            }
            ended.extend(distribution.take_outcomes());
        }
        self.controller.note_outcomes(ended, shape.file_len());
        again.retain(|old| due.iter().all(|new| new.leader.node != old.leader.node));
        for hand_out in again {
            let document = self.controller.notification(run, &picture.group, &hand_out, now_ns);
            let Leader { segment, node, text, .. } = &hand_out.leader;
            log::info!("job {}: {segment} is told what it may send now", run.job);
            self.deliveries.send_once(run.id, segment, *node, *text, Verb::Notify, &document);
        }
        for hand_out in due {
            let document = self.controller.notification(run, &picture.group, &hand_out, now_ns);
            let Leader { segment, node, text, .. } = &hand_out.leader;
            log::info!("job {}: {segment} is to fetch it from {}", run.job, hand_out.source);
            self.deliveries.send(run.id, segment, *node, *text, Verb::Notify, &document);
        }
    }

    /// The smallest bound that has held since then: a window that was lifted meanwhile counts on.
    fn slowest(&self, run: &Run, since_ns: u64, now_ns: u64) -> Option<u64> {
        let known = bandwidth::slowest(&self.controller.windows(), &run.site, since_ns, now_ns);
        let mut distributions = self.controller.distributions();
        let Some(active) = distributions.get_mut(&run.id) else { return known };
        active.slowest = active.slowest.into_iter().chain(known).min();
        active.slowest
    }

    /// The part that was sent is decided by the rules by which a run is: the next one is distributed anew (AS-13).
    async fn send_next_part(&mut self, run: Run, now_ns: u64) -> Result<(), DbError> {
        self.controller.distributions().remove(&run.id);
        self.deliveries.retain(|id| *id != run.id);
        let next = move |store: &mut Store| {
            let mut nodes = store.run_nodes(run.id)?;
            rollout::go_on_to_next_part(&run, &mut nodes, now_ns);
            let parts = Parts { done: run.parts.done + 1, ..run.parts.clone() };
            let after = Run { parts, ..run.clone() };
            let text = rollout::progress(&after, &nodes);
            log::info!("job {}: {text}", run.job);
            store.next_part(&run, &nodes, &text, now_ns)
        };
        self.controller.store(next).await?;
        self.controller.wake.notify_one();
        Ok(())
    }

    async fn issue_commit(&mut self, run: &Run, now_ns: u64) -> Result<(), DbError> {
        let assignment = run.assignment.expect("a run that is distributed has an assignment").id;
        let (controller, run) = (std::sync::Arc::clone(&self.controller), run.clone());
        let issue = move |store: &mut Store| {
            let mut nodes = store.run_nodes(run.id)?;
            if nodes.iter().any(|node| node.state == NodeState::Waiting) {
                rollout::leave_behind(&mut nodes, now_ns);
                store.put_run_nodes(run.id, &nodes, &rollout::progress(&run, &nodes))?;
            }
            issue_order(&controller, store, &run, Action::Commit { assignment }, now_ns)
        };
        self.controller.store(issue).await?;
        // The order is to be on its way now, not a tick later: its instant is near.
        self.controller.wake.notify_one();
        Ok(())
    }

    /// Reads nodes and leaders; nodes that are out of every report for long are noted as missing.
    pub(super) async fn picture(&self, run: &Run, now_ns: u64) -> Result<Picture, DbError> {
        let (run, started_ns) = (run.clone(), self.controller.started_ns);
        let paths = self.controller.paths().clone();
        self.controller.store(move |store| read_picture(store, &run, &paths, started_ns, now_ns)).await
    }
}

/// Seconds that a bound takes to bring so many bytes to as many leaders as there are, in a tree that doubles with each
/// step, and then to their members with repairs.
fn bounded_s(bytes: u64, rate: Option<u64>, leaders: usize) -> u64 {
    let steps = u64::from(leaders.max(1).ilog2()) + 4;
    rate.map_or(0, |rate| (bytes / rate.max(1) + 1).saturating_mul(steps))
}

/// Signs the order of a run, at most once, for an instant `commit_lead_ms` ahead.
pub(super) fn issue_order(
    controller: &Controller,
    store: &mut Store,
    run: &Run,
    action: Action,
    now_ns: u64,
) -> Result<(), DbError> {
    let at_ns = now_ns + controller.config.commit_lead_ms * NS_PER_MS;
    store.issue_order(run.id, at_ns, now_ns, |order| {
        let expires = at_ns / NS_PER_S + ORDER_LIFE_S;
        let order = Order { order, run: run.id, site: run.site.clone(), action, at: Some(at_ns), expires };
        order.sign(&controller.keys.director)
    })
}

fn read_picture(
    store: &mut Store,
    run: &Run,
    paths: &Paths,
    started_ns: u64,
    now_ns: u64,
) -> Result<Picture, DbError> {
    let mut nodes = store.run_nodes(run.id)?;
    let farm = store.nodes()?;
    let by_id: BTreeMap<_, _> = farm.iter().map(|node| (node.id, node)).collect();
    let online: BTreeSet<_> = farm.iter().filter(|node| node.is_online()).map(|node| node.id).collect();
    let mut news = false;
    for entry in nodes.iter_mut().filter(|entry| !online.contains(&entry.node)) {
        let seen = by_id.get(&entry.node).and_then(|node| node.seen.as_ref());
        // After a restart of the controller nobody has been seen for a while.
        let seen_ns = seen.map_or(0, |seen| seen.at_ns).max(started_ns);
        if now_ns >= seen_ns.saturating_add(OFFLINE_GRACE_NS) {
            news |= rollout::note_missing(run, entry, "went offline", now_ns);
        }
    }
    // Of whom it turns out that they have it live, nothing is to come; nor of those who are back and were given up.
    let version = run.assignment.filter(|_| run.phase == Phase::Distributing).map(|assignment| assignment.id);
    let is_open = |entry: &&mut RunNode| match entry.state {
        NodeState::Waiting => true,
        NodeState::Missing => online.contains(&entry.node),
        NodeState::Staged | NodeState::Live | NodeState::Failed => false,
    };
    for entry in nodes.iter_mut().filter(|entry| is_open(entry) && version.is_some()) {
        let state = by_id.get(&entry.node).and_then(|node| node.site(&run.site));
        if state.is_some_and(|state| state.version == version) {
            (entry.state, entry.changed_ns, news) = (NodeState::Staged, now_ns, true);
            if run.order.is_some() {
                // When that was, its own report says; it may be on its way.
                (entry.state, entry.switched_ns) = (NodeState::Live, now_ns);
            }
        }
    }
    if news {
        store.put_run_nodes(run.id, &nodes, &rollout::progress(run, &nodes))?;
    }
    let segments: BTreeSet<&Name> = nodes.iter().map(|node| &node.segment).collect();
    let leaders = leaders(&store.segments()?, &farm, &segments, &store.group_list_numbers()?, paths);
    let group = store.site(&run.site)?.map_or_else(|| run.site.clone(), |site| site.group);
    let staged = nodes.iter().filter(|node| node.state == NodeState::Staged);
    let staged_online = staged.map(|node| node.node).all(|node| online.contains(&node));
    Ok(Picture { nodes, staged_online, leaders, group })
}

fn leaders(
    segments: &[Segment],
    farm: &[Node],
    wanted: &BTreeSet<&Name>,
    lists: &BTreeMap<Name, ListNumber>,
    paths: &Paths,
) -> Vec<Leader> {
    let farm: BTreeMap<_, _> = farm.iter().map(|node| (node.id, node)).collect();
    let led = segments.iter().filter(|segment| wanted.contains(&segment.name));
    led.filter_map(|segment| {
        let node = segment.leader?;
        let seen = farm.get(&node)?.seen.as_ref()?;
        Some(Leader {
            segment: segment.name.clone(),
            node,
            text: seen.text,
            http: seen.http,
            groups: lists.get(&segment.name).copied().unwrap_or_default(),
            standing: Standing {
                processors: seen.processors,
                priority: seen.priority,
                free_memory: seen.free_memory,
                free_disk: seen.free_disk,
                machine: seen.machine.clone(),
                path: paths.of(node),
            },
        })
    })
    .collect()
}
