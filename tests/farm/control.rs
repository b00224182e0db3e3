//! Control messages that are forged, repeated, cut, of another version, or of one who may not say them: counted,
//! and nothing else. And what the worst of those who may register can make a leader send.

use crate::forged::key;
use crate::garbage::sender;
use crate::harness::{Farm, Node, SOON, wait_for};
use farmcast::io::multicast::Group;
use farmcast::io::{clock, probe};
use farmcast::node::identity::Identity;
use farmcast::time::Duration as Span;
use farmcast::wire::control::{
    ClockReply, Hears, LeaderAlive, LeaderClaim, Machine, Peer, Profile, Register, Registered, Solicit, Twin,
};
use farmcast::wire::envelope::{Message, Sealer, Sender};
use farmcast::wire::id::{CharterId, Epoch, ListNumber, Name, OrderId, RunId};
use farmcast::wire::report::{Asked, StatusRequest, Subject};
use farmcast::wire::seal::{Certificate, SegmentKey, SigningKey};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

fn segment() -> Name {
    Name::new("boston").expect("a name")
}

/// What a leader says on the control channel: one of its messages as it went by.
fn overheard(farm: &Farm) -> Vec<u8> {
    let mut group = Group::join(farm.control_channel, Ipv4Addr::LOCALHOST).expect("the group");
    let mut heard = Vec::new();
    let deadline = clock::monotonic() + Span::from_secs(10);
    probe::listen(&mut group, deadline, &mut |_, datagram| {
        heard = datagram.to_vec();
        true
    })
    .expect("the group is heard");
    assert!(!heard.is_empty(), "{}", farm.logs());
    heard
}

/// A node that the farm's enroller has certified, or another one's.
fn sealer(farm: &Farm, enroller: &SigningKey, seed: u8, can_lead: bool) -> Sealer {
    let farm = Identity::load(&farm.nodes[0].state()).expect("a node's identity").farm;
    let own = SigningKey::from_seed([seed; 32]);
    let certificate = Certificate::issue(enroller, own.public(), can_lead, u32::MAX);
    Sealer::new(&segment(), farm.segment_key(&segment()), own, certificate, farm.enroller)
}

fn seal(sealer: &Sealer, seq: u64, message: &Message) -> Vec<u8> {
    let sender = Sender { node: sealer.certificate().node(), boot: 1, seq, epoch: Epoch(u64::MAX >> 1) };
    sealer.seal(sender, message)
}

fn register(sealer: &Sealer, datagram: SocketAddr) -> Message {
    let profile = Profile {
        groups: ListNumber(0),
        certificate: sealer.certificate().clone(),
        name: Name::new("ghost").expect("a name"),
        datagram,
        http: datagram,
        text: datagram,
        leads: true,
        mtu: 1_500,
        machine: Machine::default(),
        priority: 1_000,
        processors: 1,
        free_memory: 0,
        free_disk: 0,
        sites: Vec::new(),
    };
    let heard_on = "239.1.2.3:7401".parse().expect("a channel");
    Message::Register(Register { profile, hears: Hears::NOTHING, charter: CharterId(0), heard_on })
}

/// Waits until the node has counted so many more.
#[track_caller]
fn wait_for_count(node: &Node, name: &str, at_least: u64) {
    wait_for(name, SOON, || (node.counter(name) >= at_least).then_some(()));
}

/// What a message must not have changed.
fn standing(farm: &Farm) -> Vec<(u64, u64, u64)> {
    let of =
        |node: &Node| (node.counter("elections"), node.counter("copies_sent"), node.counter("peers_asked"));
    farm.nodes.iter().map(of).collect()
}

/// RG-8: who has not the key of the segment registers nowhere.
#[test]
fn what_an_outsider_repeats_cuts_or_changes_is_counted_and_moves_nobody() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let (leader, row) = farm.leader();
    let leader_at: SocketAddr = row.datagram.parse().expect("an address");
    let member = &farm.nodes[1 - leader];
    let before = standing(&farm);
    let count = |name: &str| member.counter(name);
    let (refused, foreign, replayed, garbage) = (
        count("messages_refused"),
        count("messages_foreign"),
        count("messages_replayed"),
        count("datagrams_garbage"),
    );
    let (socket, message) = (sender(), overheard(&farm));
    let say = |bytes: &[u8]| {
        socket.send_to(bytes, farm.control_channel).expect("a datagram");
        std::thread::sleep(Duration::from_micros(300));
    };
    // Word for word, as often as one likes.
    (0..40).for_each(|_| say(&message));
    wait_for_count(member, "messages_replayed", replayed + 40);
    // Cut anywhere.
    (1..message.len()).for_each(|len| say(&message[..len]));
    wait_for_count(member, "messages_refused", refused + message.len() as u64 - 1);
    // Another program's.
    say(b"\xff, and more");
    wait_for_count(member, "datagrams_garbage", garbage + 1);
    // A bit of each byte, the version among them; that of the segment is another segment's.
    let refused = count("messages_refused");
    for at in (2..4).chain(8..message.len()) {
        let mut changed = message.clone();
        changed[at] ^= 0x10;
        say(&changed);
    }
    wait_for_count(member, "messages_refused", refused + message.len() as u64 - 6);
    let foreign = foreign.max(count("messages_foreign"));
    let mut elsewhere = message.clone();
    elsewhere[5] ^= 1;
    say(&elsewhere);
    wait_for_count(member, "messages_foreign", foreign + 1);
    // Sealed in order, under a key that is not the segment's: not one datagram comes back for it.
    let listening = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let own = SigningKey::from_seed([66; 32]);
    let certificate = Certificate::issue(&own, own.public(), true, u32::MAX);
    let stranger =
        Sealer::new(&segment(), SegmentKey([1; 32]), own, certificate.clone(), certificate.public_key);
    let asks = register(&stranger, listening.local_addr().expect("it is bound"));
    let refused = farm.nodes[leader].counter("messages_refused");
    (1..=20).for_each(|seq| {
        listening.send_to(&seal(&stranger, seq, &asks), leader_at).expect("a datagram");
    });
    wait_for_count(&farm.nodes[leader], "messages_refused", refused + 20);
    assert_eq!(heard_within(&listening, Duration::from_millis(500)), 0);
    assert_eq!(standing(&farm), before, "{}", farm.logs());
    farm.nodes.iter_mut().for_each(Node::assert_runs);
    farm.stage("index.html", "two");
    farm.publish_well();
}

#[test]
fn a_member_that_may_not_lead_cannot_say_what_only_leaders_say() {
    let farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = standing(&farm);
    let (_, row) = farm.leader();
    let enroller = key(&farm, "enroller");
    let peer =
        Peer { node: row.id.parse().expect("an id"), datagram: "127.0.0.1:9".parse().expect("an address") };
    let subject = Subject::Order { run: RunId(1), order: OrderId(1) };
    let alive = |priority| LeaderAlive {
        groups: ListNumber(0),
        priority,
        members: 9,
        registered: 1,
        http_port: 1,
        charter: CharterId(u64::MAX),
        channel: farm.control_channel,
        moves_in_ms: 1,
        pointer: false,
        session: None,
    };
    let leaders = [
        Message::LeaderClaim(LeaderClaim {
            priority: u32::MAX,
            charter: CharterId(0),
            channel: farm.control_channel,
        }),
        Message::LeaderAlive(alive(u32::MAX)),
        Message::LeaderAlive(alive(0)),
        Message::Solicit(Solicit { spread_ms: 0 }),
        Message::Twin(Twin { keeps: peer.datagram, other: row.datagram.parse().expect("an address") }),
        Message::Registered(Registered { peers: vec![peer] }),
        Message::ClockReply(ClockReply { sent: 0, controller: 1 }),
        Message::StatusRequest(StatusRequest { subject, asked: Asked::All, spread_ms: 0 }),
        Message::Probe,
    ];
    let socket = sender();
    let counts = |farm: &Farm| -> Vec<u64> {
        farm.nodes.iter().map(|node| node.counter("messages_refused")).collect()
    };
    let refused = counts(&farm);
    // A member without the right; a leader of another enroller's making.
    let other = SigningKey::from_seed([67; 32]);
    for (number, sealer) in
        [sealer(&farm, &enroller, 70, false), sealer(&farm, &other, 71, true)].iter().enumerate()
    {
        for (seq, message) in leaders.iter().enumerate() {
            let bytes = seal(sealer, seq as u64 + 1, message);
            socket.send_to(&bytes, farm.control_channel).expect("a datagram");
            socket.send_to(&bytes, row.datagram.as_str()).expect("a datagram");
        }
        let sent = (number as u64 + 1) * leaders.len() as u64;
        for (node, before) in farm.nodes.iter().zip(&refused) {
            wait_for_count(node, "messages_refused", before + sent);
        }
    }
    assert_eq!(standing(&farm), before, "{}", farm.logs());
    farm.stage("index.html", "two");
    farm.publish_well();
}

/// Whoever has a certificate may ask for copies to any address: it gets so many, and then no more.
#[test]
fn a_node_that_registers_and_falls_silent_makes_a_leader_send_little() {
    let mut farm = Farm::of(2);
    let (leader, row) = farm.leader();
    let ghost = sealer(&farm, &key(&farm, "enroller"), 72, false);
    let listening = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let asks = register(&ghost, listening.local_addr().expect("it is bound"));
    listening.send_to(&seal(&ghost, 1, &asks), row.datagram.as_str()).expect("a datagram");
    // An answer, and then a leader-alive every 200 ms for three and a half registration periods of a second;
    // reports of the registered, and one order or question, may be among them.
    let heard = heard_within(&listening, Duration::from_secs(4));
    assert!((10..=60).contains(&heard), "{heard} datagrams; {}", farm.logs());
    assert_eq!(heard_within(&listening, Duration::from_secs(1)), 0);
    // The same once more is a repetition.
    listening.send_to(&seal(&ghost, 1, &asks), row.datagram.as_str()).expect("a datagram");
    assert_eq!(heard_within(&listening, Duration::from_millis(300)), 0);
    assert!(farm.nodes[leader].counter("copies_sent") <= 60);
    farm.nodes.iter_mut().for_each(Node::assert_runs);
    farm.stage("index.html", "one");
    farm.publish_well();
}

/// Datagrams that come within a span.
fn heard_within(socket: &UdpSocket, span: Duration) -> usize {
    let end = Instant::now() + span;
    let mut heard = 0;
    loop {
        let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            return heard;
        };
        socket.set_read_timeout(Some(left)).expect("a timeout");
        heard += usize::from(socket.recv(&mut [0; 2_048]).is_ok());
    }
}
