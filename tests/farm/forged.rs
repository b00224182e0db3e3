//! Assignments, notifications and orders that are not what the publisher or the director signed.

use crate::harness::{Farm, SITE, SOON, signal, words};
use crate::remote::{ask, ask_tcp, call};
use farmcast::ccm::api::types::Phase;
use farmcast::wire::assignment::{Coding, Command, CommandBuffer, Header, Item, Kind, RelPath, Shape};
use farmcast::wire::id::{AssignmentId, JobId, ListNumber, Name, NodeId, OrderId, RunId, hex, unhex};
use farmcast::wire::notify::{Forwarding, Notification};
use farmcast::wire::order::{Action, Order};
use farmcast::wire::seal::{SigningKey, leaf_hash};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FILE: &[u8] = b"what an attacker wants to be live\n";

/// A source of objects that serves these bytes for whatever it is asked, and hangs up after `cut` of them.
struct Source {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Source {
    fn of(bytes: Vec<u8>, cut: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = serve(stream, &bytes, cut);
            }
        });
        Self { addr, requests }
    }
}

fn serve(stream: TcpStream, bytes: &[u8], cut: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let mut range = (0, bytes.len() - 1);
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some((first, last)) =
            line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-'))
        {
            range = (first.parse().unwrap_or(0), last.parse().unwrap_or(range.1));
        }
        if line.is_empty() {
            break;
        }
    }
    let (first, last) = range;
    let body = &bytes[first..=last];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
        body.len(),
        bytes.len()
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&body[..body.len().min(cut)])
}

/// A replicate of one file, as the bytes of its object. Its result is that of no tree.
fn object(publisher: &SigningKey, id: u64) -> (Shape, Vec<u8>) {
    let len = FILE.len() as u64;
    let command = Command::Put {
        path: RelPath::new(b"index.html").expect("a path"),
        mode: 0o644,
        mtime: 0,
        size: len,
        hash: *blake3::hash(FILE).as_bytes(),
        item: Some(Item { offset: 0, len, decoded_len: len, coding: Coding::Raw }),
        extents: Vec::new(),
    };
    let mut commands = farmcast::wire::Encoder::new();
    command.encode(&mut commands);
    let header = Header {
        assignment: AssignmentId(id),
        job: JobId(id),
        kind: Kind::Replicate,
        part: None,
        site: Name::new(SITE).expect("a name"),
        base: None,
        result: [7; 32],
        issued: 0,
        command_count: 1,
        command_len: 0,
        data_len: len,
        space: 0,
        files: 1,
        largest_file: len,
        order: None,
        salt: None,
    };
    let (shape, buffer) =
        CommandBuffer::sign(header, &commands.finish(), 1, &[leaf_hash(0, FILE)], publisher);
    let mut bytes = FILE.to_vec();
    bytes.resize(shape.command_offset() as usize, 0);
    (shape, [bytes, buffer].concat())
}

/// A key of the farm, as `ccm init` wrote it.
pub fn key(farm: &Farm, name: &str) -> SigningKey {
    let text = fs::read_to_string(farm.path(&format!("ccm/keys/{name}.key"))).expect("a key");
    let seed = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
    SigningKey::from_seed(seed.expect("64 hexadecimal digits"))
}

fn in_seconds(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now.saturating_add_signed(seconds)
}

fn notification(id: u64, shape: Shape, leader: NodeId, source: SocketAddr) -> Notification {
    let site = Name::new(SITE).expect("a name");
    Notification {
        // No newer than the runs of the controller, which would make way.
        run: RunId(1),
        assignment: AssignmentId(id),
        site: site.clone(),
        group: site,
        groups: ListNumber(0),
        shape,
        leader,
        source,
        others: Vec::new(),
        forward: Forwarding::Whole,
        last: true,
        quorum: None,
        bounds: Default::default(),
        expires: in_seconds(600),
    }
}

#[test]
fn a_forged_or_truncated_assignment_is_refused_by_name_and_live_stays() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let (at, row) = farm.leader();
    let (leader, text): (NodeId, SocketAddr) =
        (row.id.parse().expect("an id"), row.text.parse().expect("an address"));
    let (director, publisher) = (key(&farm, "director"), key(&farm, "publisher"));
    let attacker = SigningKey::from_seed([66; 32]);
    let node = &farm.nodes[at];
    let notify = |id: u64, shape: Shape, source: &Source| {
        let document = notification(id, shape, leader, source.addr).sign(&director);
        let reply = ask_tcp(&farm, text, &format!("notify document={}", hex(&document)));
        assert_eq!(reply.code, 202, "{}", words(&reply));
        (format!("{}", shape.name), source.requests.clone())
    };

    // A byte of the data is another one.
    let (shape, mut bytes) = object(&publisher, 101);
    bytes[3] ^= 1;
    notify(101, shape, &Source::of(bytes, usize::MAX));
    node.wait_for_log("what it sent is not what the publisher signed");
    // Signed by somebody else.
    let (shape, bytes) = object(&attacker, 102);
    notify(102, shape, &Source::of(bytes, usize::MAX));
    node.wait_for_log("command buffer refused: ");
    // A byte of the commands is another one, so that the name is wrong.
    let (shape, mut bytes) = object(&publisher, 103);
    bytes[shape.command_offset() as usize + 60] ^= 1;
    let (name, _) = notify(103, shape, &Source::of(bytes, usize::MAX));
    node.wait_for_log(&format!("assignment {name}: command buffer refused: "));
    // Half of it, and the end: it is asked for again and again, and never staged.
    let (shape, bytes) = object(&publisher, 104);
    let (_, requests) = notify(104, shape, &Source::of(bytes, 20));
    crate::harness::wait_for("another attempt", SOON, || {
        (requests.load(Ordering::Relaxed) > 1).then_some(())
    });
    // Right in every bit, but its commands do not make what it promises.
    let (shape, bytes) = object(&publisher, 105);
    notify(105, shape, &Source::of(bytes, usize::MAX));
    node.wait_for_log("failed (forged): the result is not what the publisher signed");

    let document = order(105, 900, SITE).sign(&director);
    assert_eq!(ask_tcp(&farm, text, &format!("order document={}", hex(&document))).code, 202);
    for node in &farm.nodes {
        node.wait_for_log("order 900: failed (");
    }
    assert_eq!(farm.lives(), before);
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);

    // The next assignment of the controller is as good as ever.
    farm.stage("index.html", "two");
    farm.publish_well();
}

/// The controller's own copy rots before its leader has fetched it.
#[test]
fn an_object_that_is_damaged_at_the_controller_fails_the_job() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    farm.stage("index.html", "two");
    signal(farm.nodes[0].pid(), Signal::SIGSTOP);
    let job = farm.publish_later();
    crate::harness::wait_for("the distribution", SOON, || {
        Some(farm.job(job.id)).filter(|job| job.phase == Phase::Distributing)
    });
    for entry in fs::read_dir(farm.path("ccm/objects")).expect("the objects") {
        let path = entry.expect("an object").path();
        let mut bytes = fs::read(&path).expect("an object");
        bytes[1] ^= 1;
        fs::write(&path, bytes).expect("an object");
    }
    signal(farm.nodes[0].pid(), Signal::SIGCONT);
    let end = farm.wait_for_end(job.id);
    assert_eq!(end.phase, Phase::Failed, "{end:#?}\n{}", farm.logs());
    for part in ["live was not touched anywhere", "node-1", "not what the publisher signed"] {
        assert!(end.text.contains(part), "{part:?} is not in {:?}\n{}", end.text, farm.logs());
    }
    assert_eq!(farm.lives(), before);
    farm.nodes[0].assert_runs();
    farm.publish_well();
}

fn order(assignment: u64, number: u64, site: &str) -> Order {
    Order {
        order: OrderId(number),
        run: RunId(1),
        site: Name::new(site).expect("a name"),
        action: Action::Commit { assignment: AssignmentId(assignment) },
        at: None,
        expires: in_seconds(600),
    }
}

/// Signed, and yet nonsense: it names the leader itself as source, and comes again and again.
#[test]
fn a_notification_that_runs_in_a_circle_ends_with_the_next_run() {
    let mut farm = Farm::of(2);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let (at, row) = farm.leader();
    let (leader, text): (NodeId, SocketAddr) =
        (row.id.parse().expect("an id"), row.text.parse().expect("an address"));
    let own = row.http.parse().expect("an address");
    let (shape, _) = object(&key(&farm, "publisher"), 201);
    for forward in [Forwarding::Whole, Forwarding::Verified] {
        let circle = Notification { forward, ..notification(201, shape, leader, own) };
        let document = hex(&circle.sign(&key(&farm, "director")));
        let (mut session, _) = call(text, &key(&farm, "director"), leader).expect("a session");
        let requests = farm.nodes[at].counter("http_requests");
        for _ in 0..50 {
            let reply = ask(&mut session, &format!("notify document={document}"));
            assert_eq!(reply.code / 100, 2, "{}", words(&reply));
        }
        thread::sleep(Duration::from_secs(2));
        let asked = farm.nodes[at].counter("http_requests") - requests;
        assert!(asked < 40, "it asked itself {asked} times in two seconds");
    }
    assert_eq!(farm.lives(), before);
    farm.nodes.iter_mut().for_each(crate::harness::Node::assert_runs);
    farm.stage("index.html", "two");
    farm.publish_well();
}

#[test]
fn documents_that_the_director_did_not_sign_or_that_expired_are_denied() {
    let mut farm = Farm::of(1);
    farm.stage("index.html", "one");
    farm.publish_well();
    let before = farm.lives();
    let (_, row) = farm.leader();
    let (leader, text): (NodeId, SocketAddr) =
        (row.id.parse().expect("an id"), row.text.parse().expect("an address"));
    let (director, publisher) = (key(&farm, "director"), key(&farm, "publisher"));
    let attacker = SigningKey::from_seed([66; 32]);
    let say = |verb: &str, document: &[u8]| {
        let reply = ask_tcp(&farm, text, &format!("{verb} document={}", hex(document)));
        (reply.code, words(&reply))
    };
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let (shape, _) = object(&publisher, 1);
    let good = notification(77, shape, leader, nobody);
    let mut cut = good.sign(&director);
    cut.pop();
    let expired = Notification { expires: in_seconds(-60), ..good.clone() };
    let others = Notification { leader: NodeId(5), ..good.clone() };
    for (document, code, part) in [
        (good.sign(&attacker), 403, "the notification is refused"),
        (good.sign(&publisher), 403, "the notification is refused"),
        (cut, 403, "the notification is refused"),
        (expired.sign(&director), 403, "expired"),
        (others.sign(&director), 503, "not"),
        (order(1, 50, SITE).sign(&director), 403, "the notification is refused"),
    ] {
        let (found, said) = say("notify", &document);
        assert_eq!(found, code, "{said}");
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let late = Order { expires: in_seconds(-60), ..order(1, 50, SITE) };
    for (document, code, part) in [
        (order(1, 50, SITE).sign(&attacker), 403, "the order is refused"),
        (good.sign(&director), 403, "the order is refused"),
        (late.sign(&director), 403, "expired"),
    ] {
        let (found, said) = say("order", &document);
        assert_eq!(found, code, "{said}");
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(farm.lives(), before);
    farm.nodes[0].assert_runs();
    farm.stage("index.html", "two");
    farm.publish_well();
}
