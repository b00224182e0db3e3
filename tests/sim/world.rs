//! The simulated farm: nodes, their network, a CCM, one clock, one source of chance.

use crate::ccm::{Answer, Ccm};
use crate::deeds::Deeds;
use crate::execute::TURN;
use crate::faults;
use crate::network::{CCM, Network};
use crate::node::{DATAGRAM, HOME, Node, TEXT, WALL_START, address, segment_name};
use crate::object::Object;
use crate::options::Options;
use crate::queue::{Bearer, Document, Event, Input, Queue};
use crate::sessions::Batch;
use crate::trace::Trace;
use farmcast::proto::engine::{Channel, Destination};
use farmcast::proto::random::Rng;
use farmcast::time::{Duration, Instant};
use farmcast::wire::assignment::Shape;
use farmcast::wire::envelope::{Message, Opened};
use farmcast::wire::id::{AssignmentId, Epoch, NodeId, ObjectName, OrderId};
use farmcast::wire::notify::UplinkBody;
use farmcast::wire::seal::SigningKey;
use farmcast::wire::session::FrameHeader;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::rc::Rc;

/// Keys of the farm.
#[derive(Debug)]
pub struct Keys {
    pub enroller: SigningKey,
    pub director: SigningKey,
}

/// Whether a datagram from one node to another is to be lost, whatever the weather.
pub type Loss<T> = Box<dyn FnMut(Instant, usize, usize, &T) -> bool>;

/// All that is not a node.
pub struct Context {
    pub now: Instant,
    pub queue: Queue,
    pub network: Network,
    pub trace: Trace,
    pub rng: Rng,
    pub keys: Keys,
    /// What was published, and what was ordered when.
    objects: BTreeMap<ObjectName, Rc<Object>>,
    pub orders: BTreeMap<OrderId, (AssignmentId, Instant)>,
    pub deeds: Deeds,
    /// The nodes of each segment.
    segments: Vec<Vec<usize>>,
    /// Data channels on which each node listens.
    pub joined_data: Vec<BTreeSet<SocketAddrV4>>,
    /// Control channels that each node has joined beside its home.
    pub joined_control: Vec<Vec<SocketAddrV4>>,
    serial: u64,
    pub post_loss: f64,
    pub lose_message: Option<Loss<Message>>,
    pub lose_frame: Option<Loss<FrameHeader>>,
    /// The first promise that was broken.
    pub failure: Option<String>,
    /// Messages multicast or unicast, each counted once.
    pub messages: u64,
}

pub struct World {
    pub options: Options,
    pub nodes: Vec<Node>,
    pub ccm: Ccm,
    pub context: Context,
    pub down_for_good: Vec<usize>,
    by_id: BTreeMap<NodeId, usize>,
    /// Who led which segment in which epoch.
    pub leaders: BTreeMap<(usize, Epoch), usize>,
    /// Wakes of one node at one instant, to notice one that spins.
    pub spin: (Instant, usize, u32),
}

impl Context {
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.failure.is_none() {
            self.failure = Some(format!("at {}: {}", self.now, what()));
        }
    }

    pub fn object(&self, name: &ObjectName) -> Rc<Object> {
        Rc::clone(self.objects.get(name).expect("only what was published is asked for"))
    }

    /// The CCM's wall clock, in nanoseconds since 1970.
    pub const fn controller_ns(&self) -> u64 {
        WALL_START + self.now.as_nanos()
    }

    pub fn segment_len(&self, segment: usize) -> usize {
        self.segments[segment].len()
    }

    pub const fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn delay(&mut self) -> Duration {
        self.network.delay(&mut self.rng)
    }

    pub fn push_local(&mut self, node: &Node, at: Instant, input: Input) {
        self.queue.push(at, Event::At { node: node.index, boot: Some(node.boot()), input });
    }

    pub fn multicast(&mut self, from: usize, segment: usize, over: Destination, opened: Rc<Opened>) {
        self.messages += 1;
        for n in 0..self.segments[segment].len() {
            let to = self.segments[segment][n];
            let channel = over.channel();
            if to != from && !self.network.blocks(channel, from, to) && self.hears(to, over) {
                self.send(from, to, Some(channel), Rc::clone(&opened));
            }
        }
    }

    /// What a node sends to itself its sockets keep from it (`node/channels.rs`).
    pub fn unicast(&mut self, from: usize, to: usize, opened: Rc<Opened>) {
        self.messages += 1;
        if from != to {
            self.send(from, to, None, opened);
        }
    }

    fn send(&mut self, from: usize, to: usize, via: Option<Channel>, opened: Rc<Opened>) {
        if let Some(lose) = &mut self.lose_message
            && lose(self.now, from, to, &opened.message)
        {
            return;
        }
        let [first, again] = self.network.arrivals(self.now, from, to, &mut self.rng);
        let from = address(from, DATAGRAM);
        if let Some(at) = again {
            let input = Input::Message(from, via, Rc::clone(&opened));
            self.queue.push(at, Event::At { node: to, boot: None, input });
        }
        if let Some(at) = first {
            let input = Input::Message(from, via, opened);
            self.queue.push(at, Event::At { node: to, boot: None, input });
        }
    }

    /// Every node listens at home.
    fn hears(&self, node: usize, over: Destination) -> bool {
        match over {
            Destination::Control | Destination::OtherControl(HOME) => true,
            Destination::OtherControl(channel) => self.joined_control[node].contains(&channel),
            Destination::Data(channel) => self.joined_data[node].contains(&channel),
        }
    }

    pub fn multicast_frames(&mut self, from: usize, segment: usize, over: Destination, batch: &Rc<Batch>) {
        for n in 0..self.segments[segment].len() {
            let to = self.segments[segment][n];
            if to == from || self.network.blocks(Channel::Data, from, to) || !self.hears(to, over) {
                continue;
            }
            // Frames of a batch arrive together or late together, each with its own losses.
            let mut arrived = [0_u64; 2];
            let mut times = [None, None];
            for (n, (header, _)) in batch.frames.iter().enumerate() {
                if let Some(lose) = &mut self.lose_frame
                    && lose(self.now, from, to, header)
                {
                    continue;
                }
                let arrivals = self.network.arrivals(self.now, from, to, &mut self.rng);
                for (copy, at) in arrivals.into_iter().enumerate() {
                    let Some(at) = at else { continue };
                    times[copy].get_or_insert(at);
                    arrived[copy] |= 1 << n;
                }
            }
            for (at, arrived) in times.into_iter().zip(arrived) {
                if let Some(at) = at {
                    let input = Input::Frames(Rc::clone(batch), arrived);
                    self.queue.push(at, Event::At { node: to, boot: None, input });
                }
            }
        }
    }
}

impl World {
    /// A farm whose nodes are about to start.
    pub fn new(seed: u64, options: Options, print: bool) -> Self {
        let mut rng = Rng::new(seed);
        let keys =
            Keys { enroller: SigningKey::from_seed([100; 32]), director: SigningKey::from_seed([101; 32]) };
        let mut context = Context {
            now: Instant::ZERO,
            queue: Queue::default(),
            network: Network::new(options.nodes, options.weather),
            trace: Trace::new(print),
            rng: Rng::new(rng.next_u64()),
            keys,
            objects: BTreeMap::new(),
            orders: BTreeMap::new(),
            deeds: Deeds::default(),
            segments: (0..options.segments)
                .map(|segment| (segment..options.nodes).step_by(options.segments).collect())
                .collect(),
            joined_data: vec![BTreeSet::new(); options.nodes],
            joined_control: vec![Vec::new(); options.nodes],
            serial: 0,
            post_loss: options.post_loss,
            lose_message: None,
            lose_frame: None,
            failure: None,
            messages: 0,
        };
        context.trace.say(Instant::ZERO, || format!("seed {seed}: {options:?}"));
        let nodes: Vec<Node> = (0..options.nodes).map(|n| Node::new(n, &options, &mut context)).collect();
        for node in 0..options.nodes {
            let at = Instant::ZERO + Duration::from_nanos(rng.below(options.start_within.as_nanos()));
            context.queue.push(at, Event::Fault(faults::Fault::Start(node)));
        }
        for (at, fault) in faults::schedule(&options, &mut rng) {
            context.queue.push(at, Event::Fault(fault));
        }
        let by_id = nodes.iter().map(|node| (node.id(), node.index)).collect();
        Self {
            options,
            nodes,
            ccm: Ccm::new(),
            context,
            down_for_good: Vec::new(),
            by_id,
            leaders: BTreeMap::new(),
            spin: (Instant::ZERO, 0, 0),
        }
    }

    /// Runs for a span of virtual time.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(&mut self, span: Duration) -> Result<(), String> {
        let end = self.context.now + span;
        self.run_until(end, |_| false).map(drop)
    }

    /// Runs until the condition holds, which it is asked after each event. True if it came to hold.
    pub fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> Result<bool, String> {
        while let Some((at, event)) = self.context.queue.pop(end) {
            self.context.now = at;
            let touched = self.happen(event);
            self.check(touched);
            if let Some(failure) = self.context.failure.take() {
                return Err(failure);
            }
            if done(self) {
                return Ok(true);
            }
        }
        // The end may be over already.
        self.context.now = self.context.now.max(end);
        Ok(false)
    }

    /// Asks for a run: an object for all nodes that the CCM knows when its turn comes.
    pub fn publish(&mut self) -> AssignmentId {
        let assignment = AssignmentId(self.context.objects.len() as u64 + 1);
        let (command_len, data_len) = (self.options.command_len, self.options.data_len);
        let mut object = Object::random(assignment, command_len, data_len, &mut self.context.rng);
        if self.options.alone {
            object.order = Some(self.ccm.permission(&mut self.context, assignment));
        }
        let object = Rc::new(object);
        self.context.objects.insert(object.shape.name, Rc::clone(&object));
        self.context
            .trace
            .say(self.context.now, || format!("the CCM publishes {assignment}: {:?}", object.shape));
        self.ccm.publish(self.context.controller_ns(), assignment, object);
        self.turn_ccm();
        assignment
    }

    /// The CCM looks at what is to be done now, and every while as long as something is.
    fn turn_ccm(&mut self) {
        self.ccm.turn(&mut self.context);
        if !self.ccm.is_idle() && !self.ccm.turns {
            self.ccm.turns = true;
            self.context.queue.push(self.context.now + TURN, Event::CcmTurn);
        }
    }

    pub fn index_of(&self, id: NodeId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The nodes of a segment.
    pub fn segment(&self, segment: usize) -> impl Iterator<Item = &Node> {
        self.context.segments[segment].iter().map(|node| &self.nodes[*node])
    }

    /// Whom the CCM takes for the leader of a segment.
    pub fn ccm_leader(&self, segment: usize) -> Option<usize> {
        self.index_of(self.ccm.leader(&segment_name(segment), self.context.now)?)
    }

    /// The one node that leads the segment; `None` where none or several do.
    pub fn leader(&self, segment: usize) -> Option<usize> {
        let leads = |node: &&Node| node.engine().is_some_and(|engine| engine.election().is_leader());
        let mut leaders = self.segment(segment).filter(leads);
        let leader = leaders.next()?.index;
        leaders.next().is_none().then_some(leader)
    }

    /// Does what the event says. Returns the node that it happened to.
    fn happen(&mut self, event: Event) -> Option<usize> {
        let Self { context, nodes, ccm, .. } = self;
        match event {
            Event::At { node, boot, input } => {
                if boot.is_none_or(|boot| boot == nodes[node].boot()) {
                    note(context, node, &input);
                    nodes[node].on_input(context, input);
                }
                Some(node)
            }
            Event::Wake { node, boot } => {
                if boot == nodes[node].boot() {
                    nodes[node].on_wake(context);
                }
                Some(node)
            }
            Event::Pull { node, boot, serial, shape, source } => {
                self.serve(node, boot, serial, shape, source);
                None
            }
            Event::Post { node, boot, sent, body } => {
                self.on_post(node, boot, sent, body);
                None
            }
            Event::Document { node, document, from } => {
                let sender = if let Bearer::Leader(sender, _) = from { sender } else { CCM };
                let reached = context.network.connected(node, sender);
                let taken = reached && nodes[node].on_document(context, &document);
                let kind = u64::from(matches!(document, Document::Order(_)));
                context.trace.note(context.now, node, &[7, kind, taken.into()], || {
                    format!(
                        "is told {}, {}",
                        ["of a run", "an order"][kind as usize],
                        ["refuses", "takes it"][usize::from(taken)]
                    )
                });
                match from {
                    Bearer::Ccm(run) => ccm.on_told(context.now, run, address(node, TEXT), taken),
                    Bearer::Leader(sender, assignment) => {
                        let wait = if reached { context.delay() } else { Node::patience() };
                        let at = context.now + wait;
                        context.push_local(&nodes[sender], at, Input::Handed(assignment));
                    }
                }
                Some(node)
            }
            Event::CcmTurn => {
                ccm.turns = false;
                self.turn_ccm();
                None
            }
            Event::Fault(fault) => {
                self.strike(fault);
                None
            }
        }
    }

    /// The source of an object answers a request: with what the asker lacks, with a part of it before the
    /// stream breaks, or not at all.
    fn serve(&mut self, node: usize, boot: u32, serial: u64, shape: Shape, source: Option<usize>) {
        let Self { context, nodes, ccm, .. } = self;
        let name = shape.name;
        let reached = context.network.connected(node, source.unwrap_or(CCM))
            && (source.is_some() || ccm.is_up(context.now));
        let holds =
            source.is_none_or(|source| nodes[source].is_alive() && nodes[source].disk.is_complete(&name));
        let lacking = (0..shape.blocks()).filter(|block| !nodes[node].disk.is_verified(&name, *block));
        let mut blocks: Vec<u32> = lacking.collect();
        // A block that is spoilt is noticed as soon as it is whole, and ends the pull.
        let breaks = context.rng.chance(context.post_loss.max(context.network.weather.spoil));
        let whole = reached && holds && !breaks;
        if !reached || !holds {
            blocks.clear();
        } else if breaks {
            blocks.truncate(blocks.len() / 2);
        }
        let takes =
            if reached { Duration::from_millis(1 + 2 * blocks.len() as u64) } else { Node::patience() };
        let input = Input::Fetched { name, serial, blocks, whole };
        let at = context.now + takes;
        context.queue.push(at, Event::At { node, boot: Some(boot), input });
    }

    fn on_post(&mut self, node: usize, boot: u32, sent: u64, body: Box<UplinkBody>) {
        let Self { context, nodes, ccm, .. } = self;
        let reached = context.network.connected(node, CCM)
            && ccm.is_up(context.now)
            && !context.rng.chance(context.post_loss);
        let answer = reached.then(|| ccm.on_post(context, nodes[node].id(), &body));
        // The answer may get lost as well: then the node does not know that its post arrived.
        let answer = answer.filter(|_| !context.rng.chance(context.post_loss));
        let controller = context.controller_ns();
        let wait = if answer.is_some() { context.delay() } else { Node::patience() };
        let input = match (answer, *body) {
            (Some(Answer::Next(next)), UplinkBody::Next(request)) => {
                Input::Next(request.assignment, Ok(next))
            }
            (None, UplinkBody::Next(request)) => Input::Next(request.assignment, Err(())),
            (None | Some(Answer::Refused), body) => Input::PostFailed(Box::new(body)),
            (Some(Answer::Peers(peers)), _) => Input::Peers(peers),
            (Some(Answer::Groups(list)), _) => Input::Posted { sent, controller, groups: Some(list) },
            (Some(Answer::Taken | Answer::Next(_)), _) => Input::Posted { sent, controller, groups: None },
        };
        let at = context.now + wait;
        context.queue.push(at, Event::At { node, boot: Some(boot), input });
        if reached {
            self.turn_ccm();
        }
    }
}

fn note(context: &mut Context, node: usize, input: &Input) {
    let now = context.now;
    match input {
        Input::Message(from, _, opened) => {
            let sender = opened.sender;
            let what = [1, sender.node.0, sender.seq, sender.epoch.0];
            context.trace.note(now, node, &what, || format!("<- {from} {:?}", opened.message));
        }
        Input::Frames(batch, arrived) => {
            let first = batch.frames.first().map_or(0, |(header, _)| header.sent);
            context.trace.note(now, node, &[2, first.into(), *arrived], || {
                format!("<- frames from {first} on, {} of {}", arrived.count_ones(), batch.frames.len())
            });
        }
        Input::Measure => {}
        other => context.trace.note(now, node, &[3], || format!("{other:?}")),
    }
}
