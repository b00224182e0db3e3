//! Datagrams of anybody to the sockets of a node: counted, and nothing else.

use crate::harness::{Farm, Node, noise, wait_for, words};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What an envelope and a frame begin with.
const STARTS: [&[u8]; 4] = [
    &[],
    farmcast::wire::envelope::ENVELOPE_MAGIC.as_slice(),
    &[farmcast::wire::session::FRAME_MAGIC],
    &[0xff],
];

/// A socket that reaches the groups on the loopback.
fn sender() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("an interface");
    socket.set_multicast_ttl_v4(0).expect("a TTL");
    socket.into()
}

/// The `number`th datagram of garbage: of 0 to 1,600 bytes, once in a while of the largest size there is.
fn garbage(number: u64) -> Vec<u8> {
    let start = STARTS[number as usize / 4 % STARTS.len()];
    let len = match number % 100 {
        0..5 => 0,
        5 => 60_000,
        _ => number.wrapping_mul(2_654_435_761) as usize % 1_600,
    };
    let mut bytes = [start, &noise(number, len)].concat();
    bytes.truncate(len);
    bytes
}

fn counters(node: &Node) -> String {
    node.ask("show counters").iter().map(|line| words(line) + "\n").collect()
}

#[test]
fn garbage_is_counted_and_hinders_nothing() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let datagram =
        |row: farmcast::ccm::api::types::Node| row.datagram.parse::<SocketAddr>().expect("an address");
    let mut targets = vec![SocketAddr::from(farm.channels.control), SocketAddr::from(farm.channels.data)];
    targets.extend(farm.rows().into_iter().map(datagram));

    let counted = ["datagrams_garbage", "messages_refused", "frames_malformed"];
    let count = |farm: &Farm| -> Vec<Vec<u64>> {
        farm.nodes.iter().map(|node| counted.iter().map(|name| node.counter(name)).collect()).collect()
    };
    let start = count(&farm);
    let elections = farm.nodes[0].counter("elections");
    let socket = sender();
    for number in 0..4_000 {
        let _ = socket.send_to(&garbage(number), targets[number as usize % targets.len()]);
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    // Every datagram that the kernel did not drop has its cause: most of 4,000 to four targets.
    for (at, node) in farm.nodes.iter().enumerate() {
        wait_for("the counters to rise", crate::harness::SOON, || {
            let risen: u64 =
                counted.iter().zip(&start[at]).map(|(name, start)| node.counter(name) - start).sum();
            let unknown = node.counter("frames_unknown_session") + node.counter("frames_forged");
            (risen + unknown + node.counter("socket_drops") >= 2_400).then_some(())
        });
        for (name, start) in counted.iter().zip(&start[at]) {
            assert!(node.counter(name) > start + 100, "{}: {name}: {}", node.name, counters(node));
        }
    }
    assert_eq!(farm.nodes[0].counter("elections"), elections, "no new election");
    assert_eq!(farm.lives(), before);

    // A publish in the midst of it.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..u64::MAX {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let _ = socket.send_to(&garbage(number), targets[number as usize % targets.len()]);
                if number % 20 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        farm.stage("large.bin", noise(7, 4 << 20));
        let (code, job) = farm.publish();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(code, Some(0), "{job:#?}\n{}", farm.logs());
    });
    farm.assert_live_is_staging();
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);
    for node in &farm.nodes {
        let complaints =
            node.log().lines().filter(|line| line.contains("warning") || line.contains("error")).count();
        assert!(complaints < 20, "garbage floods no log:\n{}", node.log());
    }
}
