//! The simulated segment: events on a virtual clock.

use crate::proto::fec;
use crate::proto::random::Rng;
use crate::proto::receiver::{Placement, Receiver, ReceiverAction, ReceiverConfig};
use crate::proto::sender::{Action, Finish, FrameRun, Sender, SenderConfig, Standing};
use crate::time::{Duration, Instant};
use crate::wire::assignment::Shape;
use crate::wire::id::{AssignmentId, Name, NodeId, ObjectName, RunId, SessionId};
use crate::wire::nack::Nack;
use crate::wire::session::{
    Announce, FRAME_OVERHEAD, FrameHeader, IP_UDP_OVERHEAD, Phase, Progress, Repair, RepairWhen,
    source_frames,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const PAYLOAD: u16 = 1_436;

#[derive(Clone, Copy, Debug)]
pub enum Loss {
    Even(f64),
    /// Gilbert-Elliott in time: mean spans between and of bursts, and loss within one.
    Bursts {
        between: Duration,
        lasting: Duration,
        within: f64,
    },
    /// The same, on the way out of the sender: what is lost there lacks everywhere.
    AtSender {
        between: Duration,
        lasting: Duration,
        within: f64,
    },
}

/// A link that loses in bursts, and how it is now.
#[derive(Clone, Copy, Debug)]
struct Weather {
    bursts: bool,
    turns: Instant,
}

impl Weather {
    const FINE: Self = Self { bursts: true, turns: Instant::ZERO };

    fn is_bad(&mut self, now: Instant, rng: &mut Rng, between: Duration, lasting: Duration) -> bool {
        while now >= self.turns {
            self.bursts ^= true;
            let mean = if self.bursts { lasting } else { between };
            self.turns += Duration::from_nanos(rng.below(2 * mean.as_nanos()));
        }
        self.bursts
    }
}

/// From the sender to each member, each with its own losses; the same back, without the bottleneck.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub loss: Loss,
    pub duplicate: f64,
    /// Chance that a batch arrives a millisecond late.
    pub reorder: f64,
    pub delay: Duration,
    /// Added to the delay of each frame: up to twice as much, by chance.
    pub jitter: Duration,
    /// Chance that a frame takes no time at all.
    pub overtake: f64,
    /// Bytes per second and bytes of queue of a link that all frames pass.
    pub capacity: Option<(u64, u64)>,
}

impl Link {
    pub const LAN: Self = Self {
        loss: Loss::Even(0.0),
        duplicate: 0.0,
        reorder: 0.0,
        delay: Duration::from_micros(100),
        jitter: Duration::ZERO,
        overtake: 0.0,
        capacity: None,
    };
}

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub members: usize,
    pub link: Link,
    /// The last so many members have a link of their own: bytes per second and bytes of queue.
    pub slow: (usize, u64, u64),
    pub command_len: u64,
    pub data_len: u64,
    /// Carry and compare real bytes.
    pub content: bool,
    /// Parity frames that arrive with a wrong byte, in all.
    pub pollute: u32,
    pub hash_delay: Duration,
    /// Whether a member holds a block from before.
    pub held: fn(usize, u32) -> bool,
    pub receiver: ReceiverConfig,
    pub sender: SenderConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            members: 3,
            link: Link::LAN,
            slow: (0, 0, 0),
            command_len: 5_000,
            data_len: 300_000,
            content: true,
            pollute: 0,
            hash_delay: Duration::ZERO,
            held: |_, _| false,
            receiver: ReceiverConfig::default(),
            sender: SenderConfig::default(),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Frames of a session's run whose bit is set arrive.
    Frames(usize, SessionId, FrameRun, u64),
    Announce(usize, Announce),
    Nack(usize, Nack),
    Progress(usize, Progress),
    Hashed(usize, u32, bool),
    WakeMember(usize),
    WakeSender,
}

struct Member {
    receiver: Option<Receiver>,
    file: Vec<u8>,
    parities: BTreeMap<(u32, u16), Vec<u8>>,
    /// Blocks that are verified, whatever becomes of the receiver.
    verified: BTreeSet<u32>,
    /// Frames that were stored or kept, through all its lives.
    fetched: u32,
    /// Source frames that were rebuilt from parity.
    rebuilt: u32,
    weather: Weather,
    /// When its own link has passed all that waits there.
    link_free: Instant,
    wake: Instant,
    alive: bool,
    completed: Option<Instant>,
    over: bool,
}

pub struct World {
    setup: Setup,
    shape: Shape,
    object: Vec<u8>,
    /// Those computed so far.
    parities: BTreeMap<(u32, u16), Vec<u8>>,
    rng: Rng,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    bodies: BTreeMap<u64, Event>,
    serial: u64,
    sender: Sender,
    session: SessionId,
    weather: Weather,
    sender_wake: Instant,
    members: Vec<Member>,
    link_free: Instant,
    polluted: u32,
    spoiled: u32,
    finish: Option<(Finish, Instant)>,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let shape =
            Shape { name: ObjectName([1; 32]), command_len: setup.command_len, data_len: setup.data_len };
        let object = match setup.content {
            true => (0..shape.file_len()).map(|_| rng.next_u64() as u8).collect(),
            false => Vec::new(),
        };
        let head = Announce {
            session: SessionId(7),
            salt: [2; 16],
            run: RunId(1),
            assignment: AssignmentId(1),
            site: Name::new("www").expect("a good name"),
            group: Name::new("web").expect("a good name"),
            shape,
            payload: PAYLOAD,
            rate: 0,
            pass: 0,
            phase: Phase::Open,
            sent: 0,
            spread_ms: 0,
            counted: false,
            repair: Repair::Parity,
            repair_when: RepairWhen::PassEnd,
            nack_ms: 0,
        };
        let nodes: Vec<NodeId> = (0..setup.members).map(Self::node).collect();
        let mut world = Self {
            setup,
            shape,
            object,
            parities: BTreeMap::new(),
            rng,
            now: Instant::ZERO,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            serial: 0,
            sender: Sender::new(Instant::ZERO, setup.sender, head, &nodes),
            session: SessionId(7),
            weather: Weather::FINE,
            sender_wake: Instant::ZERO,
            members: Vec::new(),
            link_free: Instant::ZERO,
            polluted: 0,
            spoiled: 0,
            finish: None,
        };
        for _ in 0..setup.members {
            world.add_member();
        }
        world.push(Instant::ZERO, Event::WakeSender);
        world
    }

    pub fn node(member: usize) -> NodeId {
        NodeId(100 + member as u64)
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    pub fn finish(&self) -> &Finish {
        &self.finish.as_ref().expect("the session ended").0
    }

    pub fn ended_at(&self) -> Instant {
        self.finish.as_ref().expect("the session ended").1
    }

    pub fn completed_at(&self, member: usize) -> Option<Instant> {
        self.members[member].completed
    }

    pub fn standing(&self) -> Standing {
        self.sender.standing()
    }

    pub const fn spoiled(&self) -> u32 {
        self.spoiled
    }

    pub fn holds_all(&self, member: usize) -> bool {
        let member = &self.members[member];
        member.completed.is_some() && (!self.setup.content || member.file == self.object)
    }

    /// Frames sent per frame of the object.
    pub fn overhead(&self) -> f64 {
        self.finish().frames_sent as f64 / self.standing().source_frames as f64
    }

    pub fn join(&mut self) {
        let member = self.add_member();
        self.sender.on_member_joined(Self::node(member));
    }

    pub fn kill(&mut self, member: usize) {
        self.members[member].alive = false;
    }

    /// A member that was killed comes back with what it had verified and registers. Returns how many frames of
    /// other blocks it had.
    pub fn restart(&mut self, member: usize) -> u32 {
        let lost = self.open_frames(member);
        let of = &mut self.members[member];
        (of.receiver, of.alive, of.over, of.wake) = (None, true, false, Instant::from_nanos(u64::MAX));
        of.parities.clear();
        self.sender.on_member_joined(Self::node(member));
        lost
    }

    /// The leader is gone; another one goes on with the object. It has a session and a salt of its own.
    pub fn replace_leader(&mut self) {
        let nodes: Vec<NodeId> = (0..self.members.len()).map(Self::node).collect();
        self.session = SessionId(self.session.0 + 1);
        let head = Announce { session: self.session, salt: [3; 16], ..self.sender.head().clone() };
        self.sender = Sender::new(self.now, self.setup.sender, head, &nodes);
        self.sender_wake = self.now;
        self.push(self.now, Event::WakeSender);
    }

    /// Frames, source and parity, that a member has of blocks that are not verified.
    pub fn open_frames(&self, member: usize) -> u32 {
        let of = &self.members[member];
        let sources: u32 = of.verified.iter().map(|&block| u32::from(self.sources(block))).sum();
        of.fetched - sources
    }

    /// Parity frames that a member keeps.
    pub fn parities(&self, member: usize) -> u32 {
        self.members[member].parities.len() as u32
    }

    pub fn fetched(&self, member: usize) -> u32 {
        self.members[member].fetched
    }

    /// Source frames that a member rebuilt, on the average.
    pub fn rebuilt(&self) -> f64 {
        let all: u32 = self.members.iter().map(|member| member.rebuilt).sum();
        f64::from(all) / self.members.len() as f64
    }

    /// When the last member had everything.
    pub fn last_completed(&self) -> Option<Instant> {
        self.members.iter().map(|member| member.completed).max().flatten()
    }

    pub fn source_frames(&self) -> u32 {
        (0..self.shape.blocks()).map(|block| u32::from(self.sources(block))).sum()
    }

    fn sources(&self, block: u32) -> u16 {
        source_frames(self.shape.block(block).1, PAYLOAD.into())
    }

    pub fn fail(&mut self, member: usize) {
        self.members[member].receiver.as_mut().expect("it takes part").fail(self.now);
        self.drive_member(member);
    }

    /// Runs until the session and all members have ended, or until `end`.
    pub fn run(&mut self, end: Instant) {
        while let Some(&Reverse((at, serial))) = self.events.peek() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            let event = self.bodies.remove(&serial).expect("pushed with its key");
            self.handle(event);
        }
    }

    fn add_member(&mut self) -> usize {
        let index = self.members.len();
        let mut file = vec![0; self.object.len()];
        if self.setup.content {
            for block in (0..self.shape.blocks()).filter(|&block| (self.setup.held)(index, block)) {
                let (start, len) = self.shape.block(block);
                let range = start as usize..start as usize + len;
                file[range.clone()].copy_from_slice(&self.object[range]);
            }
            let padding = self.shape.data_len as usize..self.shape.command_offset() as usize;
            file[padding.clone()].copy_from_slice(&self.object[padding]);
        }
        self.members.push(Member {
            receiver: None,
            file,
            parities: BTreeMap::new(),
            verified: (0..self.shape.blocks()).filter(|&block| (self.setup.held)(index, block)).collect(),
            fetched: 0,
            rebuilt: 0,
            weather: Weather::FINE,
            link_free: Instant::ZERO,
            wake: Instant::from_nanos(u64::MAX),
            alive: true,
            completed: None,
            over: false,
        });
        index
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial)));
        self.bodies.insert(self.serial, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::WakeSender => {
                if self.now >= self.sender_wake {
                    self.drive_sender();
                }
            }
            Event::WakeMember(member) => {
                self.members[member].wake = Instant::from_nanos(u64::MAX);
                self.drive_member(member);
            }
            Event::Nack(from, nack) => {
                self.sender.on_nack(self.now, Self::node(from), &nack);
                self.drive_sender();
            }
            Event::Progress(from, progress) => {
                self.sender.on_progress(self.now, Self::node(from), &progress);
                self.drive_sender();
            }
            Event::Announce(member, announce) => {
                self.hear(member, &announce);
                self.drive_member(member);
            }
            Event::Frames(member, session, run, bits) => self.arrive(member, session, run, bits),
            Event::Hashed(member, block, right) => {
                let now = self.now;
                let of = &mut self.members[member];
                if let Some(receiver) = &mut of.receiver {
                    receiver.on_verified(now, block, right);
                }
                if right {
                    of.verified.insert(block);
                }
                self.drive_member(member);
            }
        }
    }

    fn hear(&mut self, member: usize, announce: &Announce) {
        let (now, config) = (self.now, self.setup.receiver);
        let of = &mut self.members[member];
        if !of.alive {
            return;
        }
        if let Some(receiver) =
            of.receiver.as_mut().filter(|receiver| receiver.head().session == announce.session)
        {
            receiver.on_announce(now, announce);
        } else if announce.phase != Phase::Close {
            let mut receiver =
                Receiver::new(now, config, announce, member as u64, |block| of.verified.contains(&block));
            if let Some(before) = &of.receiver {
                // Another leader goes on: parity of the old session goes with its key.
                receiver.go_on_from(now, before);
                of.parities.clear();
            }
            (of.receiver, of.over) = (Some(receiver), false);
        }
    }

    fn drive_sender(&mut self) {
        while let Some(action) = self.sender.poll(self.now) {
            match action {
                Action::Announce(announce) => {
                    for member in 0..self.members.len() {
                        if !self.lost(member) {
                            let at = self.now + self.delay();
                            self.push(at, Event::Announce(member, announce.clone()));
                        }
                    }
                }
                Action::Frames(run) => self.transmit(run),
                Action::Done(finish) => self.finish = Some((finish, self.now)),
            }
        }
        if let Some(at) = self.sender.next_deadline() {
            assert!(at >= self.now, "a deadline in the past makes the loop spin");
            self.sender_wake = at;
            self.push(at, Event::WakeSender);
        }
    }

    fn transmit(&mut self, run: FrameRun) {
        let block_len = self.shape.block(run.block).1;
        assert!((1..=44).contains(&run.count) && run.first_index + run.count <= fec::SYMBOLS_MAX);
        let k = source_frames(block_len, PAYLOAD.into());
        assert!(
            run.first_index >= k || run.first_index + run.count <= k,
            "a run is all source or all parity"
        );
        let mut passed = 0_u64;
        for bit in 0..run.count {
            if let Some((rate, queue)) = self.setup.link.capacity {
                let len = (usize::from(PAYLOAD) + FRAME_OVERHEAD + IP_UDP_OVERHEAD) as u64;
                let free = self.link_free.max(self.now);
                if free.since(self.now).as_secs_f64() * rate as f64 > queue as f64 {
                    continue;
                }
                self.link_free = free + Duration::from_nanos(len * 1_000_000_000 / rate);
            }
            if let Loss::AtSender { between, lasting, within } = self.setup.link.loss
                && self.weather.is_bad(self.now, &mut self.rng, between, lasting)
                && self.rng.chance(within)
            {
                continue;
            }
            passed |= 1 << bit;
        }
        let leaves = self.link_free.max(self.now);
        for member in 0..self.members.len() {
            let mut bits = 0;
            for bit in (0..run.count).filter(|bit| passed >> bit & 1 == 1) {
                bits |= u64::from(!self.lost(member) && self.fits_own_link(member, leaves)) << bit;
            }
            let leaves = leaves.max(self.members[member].link_free);
            let link = self.setup.link;
            let late = if self.rng.chance(link.reorder) { Duration::from_millis(1) } else { Duration::ZERO };
            if link.jitter > Duration::ZERO {
                for bit in (0..run.count).map(|bit| 1 << bit).filter(|bit| bits & bit != 0) {
                    let wait = Duration::from_nanos(self.rng.below(2 * link.jitter.as_nanos()));
                    let overtakes = self.rng.chance(link.overtake);
                    let at = leaves + if overtakes { Duration::ZERO } else { link.delay + wait };
                    self.push(at, Event::Frames(member, self.session, run, bit));
                }
                continue;
            }
            let at = leaves + self.delay() + late;
            self.push(at, Event::Frames(member, self.session, run, bits));
            if self.rng.chance(link.duplicate) {
                let at = at + self.delay();
                self.push(at, Event::Frames(member, self.session, run, bits));
            }
        }
    }

    fn arrive(&mut self, member: usize, session: SessionId, run: FrameRun, bits: u64) {
        let frame_len = usize::from(PAYLOAD);
        let (start, block_len) = self.shape.block(run.block);
        let k = source_frames(block_len, frame_len);
        for bit in (0..run.count).filter(|bit| bits >> bit & 1 == 1) {
            let index = run.first_index + bit;
            let header = FrameHeader {
                session,
                block: run.block,
                index,
                pass: run.pass,
                sent: run.sent_first + u32::from(bit),
            };
            let within = usize::from(index) * frame_len;
            let len = if index < k { frame_len.min(block_len - within) } else { frame_len };
            let of = &mut self.members[member];
            let Some(receiver) = of.receiver.as_mut().filter(|_| of.alive) else { return };
            let placement = receiver.on_frame(self.now, &header, len);
            of.fetched += u32::from(matches!(placement, Placement::Store { .. } | Placement::Parity { .. }));
            if !self.setup.content {
                continue;
            }
            match placement {
                Placement::Store { offset } => {
                    assert!(index < k && offset == start + within as u64);
                    let range = offset as usize..offset as usize + len;
                    of.file[range.clone()].copy_from_slice(&self.object[range]);
                }
                Placement::Parity { block, index } => {
                    let cached = self.parities.entry((block, index)).or_insert_with(|| {
                        let mut frame = vec![0; frame_len];
                        let source = start as usize..start as usize + block_len;
                        fec::parity(index, &self.object[source], &mut frame);
                        frame
                    });
                    let mut frame = cached.clone();
                    if self.polluted < self.setup.pollute {
                        self.polluted += 1;
                        frame[17] ^= 0x40;
                    }
                    of.parities.insert((block, index), frame);
                }
                Placement::Duplicate | Placement::Ignore => {}
            }
        }
        self.drive_member(member);
    }

    fn drive_member(&mut self, member: usize) {
        let of = &mut self.members[member];
        if !of.alive || of.over {
            return;
        }
        let Some(mut receiver) = of.receiver.take() else { return };
        while let Some(action) = receiver.poll(self.now) {
            match action {
                ReceiverAction::Ready { block, missing } => {
                    let right = self.rebuild(member, &receiver, block, missing);
                    self.spoiled += u32::from(!right);
                    self.members[member].rebuilt += u32::from(missing);
                    let at = self.now + self.setup.hash_delay;
                    if self.setup.hash_delay == Duration::ZERO {
                        receiver.on_verified(at, block, right);
                        if right {
                            self.members[member].verified.insert(block);
                        }
                    } else {
                        self.push(at, Event::Hashed(member, block, right));
                    }
                }
                ReceiverAction::Nack(nack) => {
                    if !self.lost(member) {
                        let at = self.now + self.delay();
                        self.push(at, Event::Nack(member, nack));
                    }
                }
                ReceiverAction::Progress(progress) => {
                    if !self.lost(member) {
                        let at = self.now + self.delay();
                        self.push(at, Event::Progress(member, progress));
                    }
                }
                ReceiverAction::Complete => self.members[member].completed = Some(self.now),
                ReceiverAction::Abandoned | ReceiverAction::Over => self.members[member].over = true,
            }
        }
        let deadline = receiver.next_deadline();
        let of = &mut self.members[member];
        of.receiver = Some(receiver);
        if let Some(at) = deadline
            && at < of.wake
        {
            assert!(at >= self.now, "a deadline in the past makes the loop spin");
            of.wake = at;
            self.push(at, Event::WakeMember(member));
        }
    }

    fn rebuild(&mut self, member: usize, receiver: &Receiver, block: u32, missing: u16) -> bool {
        if !self.setup.content {
            return true;
        }
        let (start, len) = self.shape.block(block);
        let range = start as usize..start as usize + len;
        let of = &mut self.members[member];
        let kept = of.parities.range((block, 0)..=(block, u16::MAX));
        let parities: Vec<(u16, Vec<u8>)> = kept.map(|(key, frame)| (key.1, frame.clone())).collect();
        of.parities.retain(|key, _| key.0 != block);
        let lost: Vec<u16> = receiver.missing(block).collect();
        assert_eq!(lost.len(), usize::from(missing));
        let parities: Vec<(u16, &[u8])> =
            parities.iter().map(|(index, frame)| (*index, &frame[..])).collect();
        fec::recover(&mut of.file[range.clone()], PAYLOAD.into(), &lost, &parities).expect("enough parity");
        of.file[range.clone()] == self.object[range]
    }

    fn lost(&mut self, member: usize) -> bool {
        match self.setup.link.loss {
            Loss::Even(loss) => self.rng.chance(loss),
            Loss::Bursts { between, lasting, within } => {
                let weather = &mut self.members[member].weather;
                weather.is_bad(self.now, &mut self.rng, between, lasting) && self.rng.chance(within)
            }
            Loss::AtSender { .. } => false,
        }
    }

    /// Whether a frame finds room in the queue of the member's own link, if it has one.
    fn fits_own_link(&mut self, member: usize, at: Instant) -> bool {
        let (members, rate, queue) = self.setup.slow;
        if member + members < self.members.len() {
            return true;
        }
        let free = &mut self.members[member].link_free;
        let waits = (*free).max(at).since(at).as_secs_f64() * rate as f64;
        let fits = waits <= queue as f64;
        if fits {
            let len = (usize::from(PAYLOAD) + FRAME_OVERHEAD + IP_UDP_OVERHEAD) as u64;
            *free = (*free).max(at) + Duration::from_nanos(len * 1_000_000_000 / rate);
        }
        fits
    }

    fn delay(&mut self) -> Duration {
        self.setup.link.delay + Duration::from_nanos(self.rng.below(100_000))
    }
}
