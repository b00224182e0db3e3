//! Datagrams of anybody to the sockets of a node: counted, and nothing else.

use crate::harness::{Farm, Node, SOON, noise, wait_for, words};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
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
pub fn sender() -> UdpSocket {
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
    let data_channel = farm.data_channel().expect("a group that was published to");
    let mut targets = vec![SocketAddr::from(farm.control_channel), SocketAddr::from(data_channel)];
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
        wait_for("the counters to rise", SOON, || {
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

/// What an HTTP client says that is none of ours, to the controller and to a node.
#[test]
fn an_http_port_refuses_what_it_does_not_serve_and_goes_on() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let (_, row) = farm.leader();
    let controller = SocketAddr::from(([127, 0, 0, 1], farm.ccm_port));
    let node: SocketAddr = row.http.parse().expect("an address");
    let junk = noise(1, 3_000);
    let post = |path: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    for (to, request, status) in [
        (controller, post("/v1/join", &junk), "403"),
        (controller, post("/v1/join", b"x"), "400"),
        (controller, post("/v1/uplink", &junk), "40"),
        (controller, post("/v1/uplink", b""), "400"),
        // What operates the farm is on the Unix socket only.
        (controller, post("/v1/jobs", b"{\"kind\":\"publish\",\"site\":\"www\"}"), "404"),
        (controller, get("/v1/status"), "404"),
        (controller, get("/o/../keys/director.key"), "40"),
        (controller, get("/o/00"), "40"),
        (node, get("/o/00"), "404"),
        (node, get("/../../etc/passwd"), "404"),
        (node, post("/o/00", b"x"), "4"),
        (node, [&junk[..], b"\r\n\r\n"].concat(), "400"),
        (node, format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(), "4"),
    ] {
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let answer = exchange(to, &request);
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?} to {to}: {answer:?}");
    }
    for number in 0..50 {
        let mut stream =
            TcpStream::connect_timeout(&[controller, node][number % 2], SOON).expect("it listens");
        let _ = stream.write_all(&noise(number as u64, 10 + 60 * number));
    }
    assert!(farm.nodes[0].counter("http_refused") >= 5, "{}", counters(&farm.nodes[0]));
    farm.nodes[0].assert_runs();
    farm.stage("index.html", "two");
    farm.publish_well();
}

/// One request, and what comes back until the other end closes or stops talking.
fn exchange(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect_timeout(&to, SOON).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    // It may be refused before it is all said.
    let _ = stream.write_all(request);
    let mut bytes = [0; 2_048];
    let len = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}
