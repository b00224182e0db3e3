//! What must hold after every event, and what must hold once the network has healed.

use crate::ccm::{Ccm, Run};
use crate::node::{Node, WALL_START};
use crate::world::World;
use farmcast::ccm::api::types::Phase;
use farmcast::ccm::model::NodeState;
use farmcast::time::{Duration, Instant};
use farmcast::wire::id::NodeId;
use std::collections::BTreeSet;

/// Wakes of one node at one instant before it counts as spinning.
const SPIN_MAX: u32 = 500;
/// What the leader's own knowledge of the CCM's clock may be wrong by: half the longest round trip that it
/// takes for a sample.
const LEADER_ERROR_NS: u64 = 1_000_000_000;

impl World {
    /// Safety (EL-16, T21): asked after every event, of the node that it happened to.
    pub fn check(&mut self, touched: Option<usize>) {
        let Some(index) = touched else { return };
        let node = &self.nodes[index];
        let Some(engine) = node.engine() else { return };
        let context = &mut self.context;
        if engine.election().is_leader() {
            let reign = (node.segment, engine.election().epoch());
            let first = *self.leaders.entry(reign).or_insert(index);
            context.check(first == index, || {
                format!("n{first} and n{index} both led segment {} in epoch {}", reign.0, reign.1)
            });
        }
        let epoch = engine.election().epoch();
        context.check(epoch >= node.epoch, || format!("n{index} fell back to epoch {epoch}"));
        let (members, nodes) = (engine.segment().len(), context.segment_len(node.segment));
        context.check(members <= nodes, || format!("n{index} knows {members} members of {nodes} nodes"));
        if let (Some(offset), Some(error)) = (engine.activation().offset(), engine.activation().error()) {
            // All monotonic clocks are the simulator's.
            let wrong = offset.abs_diff(WALL_START as i64);
            context.check(wrong <= error + LEADER_ERROR_NS, || {
                format!("n{index} is {wrong} ns wrong about the CCM's clock, and takes it for {error}")
            });
        }
        let sizes = engine.table_sizes();
        context.check(sizes.within_bounds(), || format!("n{index} has a table beyond its bound: {sizes:?}"));
        self.nodes[index].epoch = epoch;
        let (at, who, wakes) = &mut self.spin;
        if (*at, *who) == (context.now, index) {
            *wakes += 1;
        } else {
            (*at, *who, *wakes) = (context.now, index, 0);
        }
        let spins = *wakes > SPIN_MAX;
        context.check(!spins, || format!("n{index} spins: its deadline does not move"));
    }

    pub fn living(&self, segment: usize) -> impl Iterator<Item = &Node> {
        self.segment(segment).filter(|node| node.is_alive())
    }

    pub fn living_ids(&self) -> BTreeSet<NodeId> {
        self.nodes.iter().filter(|node| node.is_alive()).map(Node::id).collect()
    }

    /// One leader, whom all living nodes of the segment follow (EL-13).
    ///
    /// # Errors
    /// What is not so.
    pub fn agreed(&self, segment: usize) -> Result<usize, String> {
        let Some(leader) = self.leader(segment) else {
            let states: Vec<String> = self.living(segment).map(state).collect();
            return Err(format!("segment {segment} has not one leader: {}", states.join(", ")));
        };
        let id = self.nodes[leader].id();
        for node in self.living(segment) {
            if node.engine().and_then(|engine| engine.election().leader()) != Some(id) {
                return Err(format!("{} does not follow n{leader}", state(node)));
            }
        }
        Ok(leader)
    }

    /// Liveness: one leader, everybody is registered with it and knows so (RG-7), the CCM knows it too.
    ///
    /// # Errors
    /// What is not so.
    pub fn settled(&self) -> Result<(), String> {
        for segment in 0..self.options.segments {
            let leader = self.agreed(segment)?;
            let engine = self.nodes[leader].engine().expect("it leads");
            let members: BTreeSet<NodeId> =
                engine.segment().members().map(farmcast::wire::control::Profile::node).collect();
            let living: BTreeSet<NodeId> = self.living(segment).map(Node::id).collect();
            if members != living {
                return Err(format!("n{leader} knows {} members, {} live", members.len(), living.len()));
            }
            for node in self.living(segment) {
                if !node.engine().expect("it lives").is_registered() {
                    return Err(format!("n{} does not know that it is registered", node.index));
                }
            }
            let believed = self.ccm_leader(segment);
            if believed != Some(leader) {
                return Err(format!("the CCM takes {believed:?} for the leader, not n{leader}"));
            }
        }
        let known = self.ccm.known(self.context.now);
        if known == self.living_ids() {
            Ok(())
        } else {
            Err(format!("the CCM knows {} nodes, {} live", known.len(), self.living_ids().len()))
        }
    }

    /// All runs have come to their end.
    ///
    /// # Errors
    /// Which has not.
    pub fn idle(&self) -> Result<(), String> {
        match self.ccm.run().filter(|_| !self.ccm.is_idle()) {
            Some(run) => Err(format!("not over: {:?}", Brief(run))),
            None => Ok(()),
        }
    }

    /// The last run is live on all nodes for which it began, and the CCM was told so by each (SR-8, LD-19).
    ///
    /// # Errors
    /// What is not so.
    pub fn delivered(&self) -> Result<(), String> {
        let run = self.ccm.last_run().ok_or("nothing was published")?;
        let assignment = run.object.assignment;
        if run.run.phase != Phase::Done || !Ccm::all(run, NodeState::Live) {
            return Err(format!("{:?}", Brief(run)));
        }
        for node in run.nodes.iter().filter_map(|node| self.index_of(node.node)) {
            let node = &self.nodes[node];
            if node.applier.live != Some(assignment) {
                return Err(format!("n{} has {:?} live, not {assignment}", node.index, node.applier.live));
            }
        }
        Ok(())
    }

    /// The last run is over, and it is live on all nodes, or on none; or, where the order was out when a node
    /// was lost, exactly those are named that do not have it (CO-8).
    ///
    /// # Errors
    /// What is not so.
    pub fn decided(&self) -> Result<(), String> {
        self.idle()?;
        let run = self.ccm.last_run().ok_or("nothing was published")?;
        let live = |node: &&farmcast::ccm::model::RunNode| {
            self.context.deeds.has_switched(node.node, run.object.assignment)
        };
        let (has, says) = (run.nodes.iter().filter(live).count(), run.run.phase);
        let fits = match says {
            Phase::Done => has == run.nodes.len(),
            Phase::Failed => has == 0 || run.run.order.is_some(),
            Phase::Partial => run.nodes.iter().all(|node| node.state != NodeState::Live || live(&node)),
            Phase::Unchanged
            | Phase::Cancelled
            | Phase::Queued
            | Phase::Composing
            | Phase::Distributing
            | Phase::Committing => false,
        };
        if fits { Ok(()) } else { Err(format!("live on {has}: {:?}", Brief(run))) }
    }

    /// Runs until the condition holds for all; says what did not where the time is over.
    pub fn expect(
        &mut self,
        within: Duration,
        condition: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<Instant, String> {
        let (began, end) = (self.context.now, self.context.now + within);
        // What it costs to look grows with the farm.
        let step = Duration::from_millis(if self.nodes.len() > 64 { 100 } else { 10 });
        while self.context.now < end {
            if condition(self).is_ok() {
                return Ok(self.context.now);
            }
            self.run(step)?;
        }
        match condition(self) {
            Ok(()) => Ok(self.context.now),
            Err(what) => Err(format!("at {}, {within} after {began}: {what}", self.context.now)),
        }
    }
}

/// A run without its bytes.
struct Brief<'a>(&'a Run);

impl std::fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let run = &self.0.run;
        write!(f, "run {} {:?}: {}", run.id, run.phase, run.text)?;
        for node in &self.0.nodes {
            write!(f, "; {} {} {}{}", node.name, node.state, node.reason, node.text)?;
        }
        Ok(())
    }
}

fn state(node: &Node) -> String {
    let election = node.engine().map(farmcast::proto::engine::Engine::election);
    let name = election.map_or("down", |election| election.state().name());
    format!("n{} {name} (priority {})", node.index, node.priority())
}
