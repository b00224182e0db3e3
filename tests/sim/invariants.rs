//! What must hold after every event, and what must hold once the network has healed.

use crate::node::Node;
use crate::world::World;
use farmcast::time::{Duration, Instant};
use farmcast::wire::id::NodeId;
use std::collections::BTreeSet;

/// Wakes of one node at one instant before it counts as spinning.
const SPIN_MAX: u32 = 500;

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
        let (members, nodes) = (engine.segment().len(), self.nodes.len());
        context.check(members <= nodes, || format!("n{index} knows {members} members of {nodes} nodes"));
        let sizes = engine.table_sizes();
        context.check(sizes.within_bounds(), || format!("n{index} has a table beyond its bound: {sizes:?}"));
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
        self.nodes.iter().filter(move |node| node.segment == segment && node.is_alive())
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
            if self.ccm.leader(segment) != Some(leader) {
                return Err(format!(
                    "the CCM takes {:?} for the leader, not n{leader}",
                    self.ccm.leader(segment)
                ));
            }
        }
        if self.ccm.known() == self.living_ids() {
            Ok(())
        } else {
            Err(format!("the CCM knows {} nodes, {} live", self.ccm.known().len(), self.living_ids().len()))
        }
    }

    /// The last run is staged and live on all living nodes, and the CCM was told by each (SR-8, LD-19).
    ///
    /// # Errors
    /// What is not so.
    pub fn delivered(&self) -> Result<(), String> {
        let run = self.ccm.run().ok_or("nothing was published")?;
        let assignment = run.object.assignment;
        for node in self.nodes.iter().filter(|node| run.expected.contains(&node.id())) {
            let disk = &node.disk;
            if disk.live != Some(assignment) {
                let staged = disk.staged;
                return Err(format!(
                    "n{} has {:?} live and {staged:?} staged, not {assignment}: {run:?}",
                    node.index,
                    disk.live,
                    run = Brief(run)
                ));
            }
            if !disk.equals(&run.object) {
                return Err(format!("n{} holds other content than {assignment}", node.index));
            }
            if !run.live.contains_key(&node.id()) {
                return Err(format!("the CCM was not told by n{}: {:?}", node.index, Brief(run)));
            }
        }
        Ok(())
    }

    /// Runs until the condition holds for all; says what did not where the time is over.
    pub fn expect(
        &mut self,
        within: Duration,
        condition: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<Instant, String> {
        let (began, end) = (self.context.now, self.context.now + within);
        let step = Duration::from_millis(10);
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
struct Brief<'a>(&'a crate::ccm::Run);

impl std::fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let run = self.0;
        write!(
            f,
            "run {} for {} nodes: {} staged, {} live, failed {:?}, missing {:?}",
            run.id,
            run.expected.len(),
            run.staged.len(),
            run.live.len(),
            run.failed,
            run.missing
        )
    }
}

fn state(node: &Node) -> String {
    let election = node.engine().map(farmcast::proto::engine::Engine::election);
    let name = election.map_or("down", |election| election.state().name());
    format!("n{} {name} (priority {})", node.index, node.priority())
}
