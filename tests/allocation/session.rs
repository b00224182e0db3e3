//! One session from a leader to a member, by their real machines, spools and sockets: on the loopback, in one thread,
//! on a made-up clock. What `node/shell.rs` does between them is done here, piece by piece under the counter.

use crate::counting::during;
use farmcast::node::channels::{Channels, Frames, Port};
use farmcast::node::config::Config;
use farmcast::node::sessions::Sessions;
use farmcast::node::store::Store;
use farmcast::proto::engine::{Channel, Destination, Engine, Output, Setup, Transport};
use farmcast::proto::profile::Profile as Timers;
use farmcast::proto::sender::SenderConfig;
use farmcast::time::{Duration, Instant};
use farmcast::wire::assignment::{CommandBuffer, Header, Kind, LEAF_LEN, Shape};
use farmcast::wire::control::{Machine, Profile, SiteState};
use farmcast::wire::envelope::{Message, Opened, Sealer, Sender};
use farmcast::wire::groups::{Group, GroupList};
use farmcast::wire::id::{AssignmentId, JobId, ListNumber, Name, RunId, SessionId};
use farmcast::wire::notify::{Forwarding, NextReply, Notification};
use farmcast::wire::seal::{Certificate, SegmentKey, SigningKey, leaf_hash};
use farmcast::wire::session::{FrameHeader, RepairWhen};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;

/// Bytes per second from the first frame on: a turn of the loop sends whole batches.
const RATE: u64 = 100_000_000;
const TURN: Duration = Duration::from_micros(500);
const WALL: u64 = 1_800_000_000_000_000_000;

/// Calls of the allocator, over how many frames or blocks. A batch is what was handed to the socket at once, or
/// read from it until it was empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub items: u64,
    pub batches: u64,
    pub calls: u64,
}

impl Tally {
    fn add(&mut self, items: u64, batches: u64, calls: u64) {
        self.items += items;
        self.batches += batches;
        self.calls += calls;
    }
}

struct Node {
    engine: Engine,
    channels: Channels,
    sessions: Sessions,
    store: Store,
    certificate: Certificate,
    seq: u64,
    _spool: tempfile::TempDir,
}

pub struct Session {
    now: Instant,
    leader: Node,
    member: Node,
    /// Whether the member loses a frame.
    loses: fn(&FrameHeader) -> bool,
    /// Frames of either side that are not counted, while tables grow.
    warm: u64,
    over: bool,
    /// Frames that left, and those that came and were stored.
    pub sent: Tally,
    pub received: Tally,
    /// Frames of later passes, on both sides.
    pub repair_sent: Tally,
    pub repair_received: Tally,
    /// Blocks that were whole, rebuilt where that was due, and hashed.
    pub blocks: Tally,
}

impl Session {
    pub fn new(leaves: u32, warm: u64, loses: fn(&FrameHeader) -> bool) -> Self {
        let publisher = SigningKey::from_seed([40; 32]);
        // The port of a socket that somebody holds is nobody else's group port.
        let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has ports");
        let port = holder.local_addr().expect("it is bound").port();
        let (leader, member) = (Node::new(1, port, &publisher), Node::new(2, port, &publisher));
        let now = Instant::from_nanos(1_000_000_000);
        let none = Tally::default();
        let mut session = Self {
            now,
            leader,
            member,
            loses,
            warm,
            over: false,
            sent: none,
            received: none,
            repair_sent: none,
            repair_received: none,
            blocks: none,
        };
        session.leader.channels.data.hear(false).expect("nothing is joined yet");
        session.group(SocketAddrV4::new(Ipv4Addr::new(239, 255, 71, 12), port));
        session.meet();
        session.open(leaves, &publisher);
        session
    }

    /// Both belong to the group of the site, and know its channel.
    fn group(&mut self, channel: SocketAddrV4) {
        let director = SigningKey::from_seed([42; 32]);
        let mut members = vec![self.leader.engine.node(), self.member.engine.node()];
        members.sort_unstable();
        let group = Group { name: site(), channel, sites: vec![site()], members };
        let segment = Name::new("boston").expect("it is a name");
        let list = GroupList { number: ListNumber(1), segment, groups: vec![group] };
        let bytes = list.sign(&director);
        for node in [&mut self.leader, &mut self.member] {
            assert!(node.engine.handle_groups(self.now, list.clone(), bytes.clone()), "it is the first");
        }
    }

    /// One leads, the other registers with it.
    fn meet(&mut self) {
        for _ in 0..40_000 {
            self.now += TURN;
            self.turn();
            if self.leader.engine.election().is_leader() && self.member.engine.is_registered() {
                return;
            }
        }
        panic!("the member does not find its leader");
    }

    /// The leader holds the object and is told to hand it out.
    fn open(&mut self, leaves: u32, publisher: &SigningKey) {
        let (shape, bytes) = object(publisher, leaves);
        let store = &mut self.leader.store;
        store.create(&shape).expect("there is room");
        for block in 0..shape.blocks() {
            let (offset, len) = shape.block(block);
            store.write(&shape.name, offset, &bytes[offset as usize..][..len]).expect("there is room");
            store.on_block(&shape.name, block);
        }
        assert!(store.is_complete(&shape.name));
        self.leader.engine.handle_object_complete(self.now, shape.name);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let notification = Notification {
            run: RunId(1),
            assignment: AssignmentId(1),
            site: site(),
            group: site(),
            groups: ListNumber(1),
            shape,
            leader: self.leader.engine.node(),
            source: any,
            others: Vec::new(),
            forward: Forwarding::Whole,
            last: true,
            quorum: None,
            bounds: Default::default(),
            expires: u64::MAX,
        };
        self.leader.engine.handle_notification(self.now, notification).expect("it leads");
    }

    /// Until the session is over.
    pub fn run(&mut self) {
        for _ in 0..200_000 {
            self.now += TURN;
            self.turn();
            if self.over {
                return;
            }
        }
        panic!("the session does not end");
    }

    fn turn(&mut self) {
        let now = self.now;
        let decide = || self.leader.engine.handle_timeout(now, WALL);
        let ((), used) = during(decide);
        let (mut frames, mut others) = (0, 0);
        while let Some(output) = self.leader.engine.poll_output() {
            match output {
                Output::Frames(id, run) => {
                    frames += u64::from(run.count);
                    self.send(id, run);
                }
                output => {
                    others += 1;
                    self.leader_does(output);
                }
            }
        }
        // A turn in which the leader had more to say is not one of frames alone.
        if others == 0 && self.is_warm() {
            self.sent.calls += used.calls * u64::from(frames > 0);
        }
        self.member.engine.handle_timeout(now, WALL);
        self.member_acts();
    }

    fn is_warm(&self) -> bool {
        self.member.sessions.counters.frames_stored >= self.warm
    }

    fn send(&mut self, id: SessionId, run: farmcast::proto::sender::FrameRun) {
        let Node { engine, channels, sessions, store, .. } = &mut self.leader;
        if !sessions.is_open(id) {
            let (_, sender) = engine.senders().find(|(session, _)| *session == id).expect("it sends");
            let to = match engine.channel_of(&site()) {
                Some(Destination::Data(to)) => Some(to),
                other => panic!("the group of the site has no data channel, but {other:?}"),
            };
            sessions.open(channels.sealer().key(), engine.node(), sender.head(), to);
        }
        let ((), used) = during(|| sessions.send(channels, store, id, run));
        assert!(!sessions.has_deferred(), "the socket has room, for it is read at once");
        if self.is_warm() {
            let tally = if run.pass == 1 { &mut self.sent } else { &mut self.repair_sent };
            tally.add(u64::from(run.count), 1, used.calls);
        }
        self.receive(run.pass);
    }

    /// The member reads its socket as far as it goes.
    fn receive(&mut self, pass: u16) {
        let (now, loses, warm) = (self.now, self.loses, self.is_warm());
        let Node { engine, channels, sessions, store, .. } = &mut self.member;
        let before = channels.counters.frames_received;
        let mut inbox = Vec::new();
        let mut take = |frames: Frames<'_, '_>| {
            let lost =
                |datagram: &&[u8]| FrameHeader::decode(datagram).is_ok_and(|(header, ..)| loses(&header));
            sessions.on_frames(now, engine, store, &mut frames.filter(|datagram| !lost(datagram)));
        };
        let (more, read) = during(|| channels.receive(now, Port::Data, &mut inbox, &mut take));
        assert!(!more.expect("the socket is good"), "a batch is read whole");
        let ((), written) = during(|| sessions.finish_batch(now, engine));
        let frames = channels.counters.frames_received - before;
        if warm {
            let tally = if pass == 1 { &mut self.received } else { &mut self.repair_received };
            tally.add(frames, 1, read.calls + written.calls);
        }
        self.member_acts();
    }

    fn member_acts(&mut self) {
        let now = self.now;
        let warm = self.is_warm();
        let (mut ready, mut calls) = (0, 0);
        let Node { engine, sessions, store, .. } = &mut self.member;
        let ((), used) = during(|| engine.handle_frames_end(now));
        let mut others = Vec::new();
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Ready { session, block, missing } => {
                    let work = || {
                        sessions.on_ready(now, engine, store, session, block, missing);
                        engine.handle_frames_end(now);
                    };
                    let ((), used) = during(work);
                    ready += 1;
                    calls += used.calls;
                }
                output => others.push(output),
            }
        }
        if warm && others.is_empty() {
            self.blocks.add(ready, 0, calls + used.calls * u64::from(ready > 0));
        }
        others.into_iter().for_each(|output| self.member_does(output));
    }

    fn leader_does(&mut self, output: Output) {
        match output {
            Output::Multicast(to, message) => self.leader_says(Some(to.channel()), message),
            Output::Unicast(_, message) => self.leader_says(None, message),
            Output::JoinData(channels) => self.leader.joins(channels),
            Output::Ask(request) => {
                self.leader.engine.handle_next(self.now, request.assignment, Ok(NextReply::Nobody));
            }
            Output::SessionOver(id) => {
                self.leader.sessions.close(id);
                self.over = true;
            }
            _ => {}
        }
    }

    fn leader_says(&mut self, via: Option<Channel>, message: Message) {
        let opened = self.leader.says(message);
        let from = self.leader.channels.datagram_addr().expect("it is bound");
        self.member.engine.handle_message(self.now, WALL, from, via, opened);
        self.member_acts();
    }

    fn member_says(&mut self, via: Option<Channel>, message: Message) {
        let opened = self.member.says(message);
        let from = self.member.channels.datagram_addr().expect("it is bound");
        self.leader.engine.handle_message(self.now, WALL, from, via, opened);
    }

    fn member_does(&mut self, output: Output) {
        match output {
            Output::Multicast(to, message) => self.member_says(Some(to.channel()), message),
            Output::Unicast(_, message) => self.member_says(None, message),
            Output::JoinData(channels) => self.member.joins(channels),
            Output::Receive { announce, leader } => {
                let Node { engine, channels, sessions, store, .. } = &mut self.member;
                store.create(&announce.shape).expect("there is room");
                sessions.open(channels.sealer().key(), leader, &announce, None);
                engine.start_reception(self.now, &announce, |block| {
                    store.is_verified(&announce.shape.name, block)
                });
            }
            Output::SessionOver(id) => self.member.sessions.close(id),
            _ => {}
        }
    }
}

impl Node {
    fn new(seed: u8, port: u16, publisher: &SigningKey) -> Self {
        let enroller = SigningKey::from_seed([41; 32]);
        let signer = SigningKey::from_seed([seed; 32]);
        let certificate = Certificate::issue(&enroller, signer.public(), seed == 1, 1_000);
        let text = format!(
            "name = \"web{seed}\"\nsegment = \"boston\"\nccm = \"127.0.0.1:1\"\n[network]\n\
             interface = \"127.0.0.1\"\nttl = 0\ndatagram_port = 0\nhttp_port = 0\ntext_port = 0\n\
             control_channel = \"239.255.71.11:{port}\"\n"
        );
        let config = Config::parse(Path::new("allocation.toml"), &text).expect("it is a configuration");
        let segment = Name::new("boston").expect("it is a name");
        let key = SegmentKey([9; 32]);
        let sealer = Sealer::new(&segment, key, signer, certificate.clone(), enroller.public());
        let channels = Channels::open(&config, sealer, 1).expect("the loopback has sockets");
        let datagram = channels.datagram_addr().expect("it is bound");
        let me = Profile {
            certificate: certificate.clone(),
            name: config.name.clone(),
            datagram,
            http: datagram,
            text: datagram,
            priority: 10,
            processors: 1,
            free_memory: 0,
            free_disk: 0,
            leads: seed == 1,
            groups: ListNumber(0),
            mtu: 1_500,
            machine: Machine::default(),
            sites: vec![SiteState { site: site(), version: None }],
        };
        let setup = Setup {
            me,
            segment,
            profile: Timers::LAN,
            boot: 1,
            home: config.control_channel,
            listed: true,
            charter: None,
            rate_start: RATE,
            rate_max: RATE,
            socket_bytes: channels.frame_room(),
            // Repair is then in passes of its own, where it can be counted apart.
            transport: Transport {
                sender: SenderConfig { repair_when: RepairWhen::PassEnd, ..SenderConfig::default() },
                ..Transport::default()
            },
            peers: Vec::new(),
            seed: u64::from(seed),
        };
        let spool = tempfile::tempdir().expect("there is a place for temporary files");
        Self {
            engine: Engine::new(Instant::from_nanos(1_000_000_000), setup),
            channels,
            sessions: Sessions::default(),
            store: Store::open(spool.path(), publisher.public(), u64::MAX).expect("an empty spool"),
            certificate,
            seq: 0,
            _spool: spool,
        }
    }

    fn joins(&mut self, channels: BTreeSet<SocketAddrV4>) {
        self.channels.data.set(channels);
        let (_, failed) = self.channels.data.join_missing();
        assert!(failed.is_empty(), "the loopback has groups: {failed:?}");
    }

    /// A message as the other node would open it.
    fn says(&mut self, message: Message) -> Opened {
        self.seq += 1;
        let epoch = self.engine.election().epoch();
        let sender = Sender { node: self.engine.node(), boot: 1, seq: self.seq, epoch };
        Opened { sender, certificate: Some(self.certificate.clone()), message }
    }
}

fn site() -> Name {
    Name::new("www").expect("it is a name")
}

/// An assignment of so many whole leaves, as the bytes of its file.
fn object(publisher: &SigningKey, leaves: u32) -> (Shape, Vec<u8>) {
    let mut bytes: Vec<u8> =
        (0..u64::from(leaves) * LEAF_LEN).map(|at| (at * 7 + at / 9_973) as u8).collect();
    let hashes: Vec<[u8; 32]> =
        bytes.chunks(LEAF_LEN as usize).enumerate().map(|(n, leaf)| leaf_hash(n as u32, leaf)).collect();
    let (shape, buffer) = CommandBuffer::sign(header(bytes.len() as u64), &[], 0, &hashes, publisher);
    bytes.extend_from_slice(&buffer);
    (shape, bytes)
}

/// Of an assignment of so many bytes of data, without commands.
pub fn header(data_len: u64) -> Header {
    Header {
        assignment: AssignmentId(1),
        job: JobId(1),
        kind: Kind::Replicate,
        part: None,
        site: site(),
        base: None,
        result: [0; 32],
        issued: 0,
        command_count: 0,
        command_len: 0,
        data_len,
        space: 0,
        files: 0,
        largest_file: 0,
        order: None,
        salt: None,
    }
}
