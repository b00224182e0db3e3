//! What tests of several files need: a farm whose nodes have keys, and reports they could send.

use super::access::Origin;
use super::api::types::Phase;
use super::config::Config;
use super::controller::Controller;
use super::db::{Enrolment, Store};
use super::filter::Filter;
use super::keys::Keys;
use super::model::{JobKind, Node, Run, Seen, Site, Terms};
use crate::wire::control::{Machine, Profile, SiteState};
use crate::wire::id::{AssignmentId, CharterId, Epoch, JobId, ListNumber, Name, NodeId, OrderId, RunId};
use crate::wire::notify::{Uplink, UplinkBody};
use crate::wire::order::{Action, Order};
use crate::wire::report::SegmentReport;
use crate::wire::seal::{Certificate, SigningKey};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const T0: u64 = 1_000_000_000_000;
pub const SECOND: u64 = 1_000_000_000;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

pub fn id(number: u8) -> NodeId {
    NodeId::of_key(&key(number).public().0)
}

pub fn node_with(number: u8, seen: Option<Seen>) -> Node {
    let key = key(number).public();
    Node { id: id(number), name: name(&format!("n{number}")), key, can_lead: true, seen }
}

/// A site of this version, 0 for none, that its default group serves.
pub fn site(site: &str, version: u64) -> Site {
    Site {
        name: name(site),
        staging: "/srv/staging".into(),
        version: (version != 0).then_some(AssignmentId(version)),
        files: 0,
        bytes: 0,
        group: name(site),
        filter: Filter::default(),
    }
}

/// A run, of the job of the same number, that goes back to the version before.
pub fn run(id: u64, site: &str, phase: Phase) -> Run {
    Run {
        id: RunId(id),
        job: JobId(id),
        kind: JobKind::Rollback,
        site: name(site),
        only: Vec::new(),
        phase,
        text: String::new(),
        created_ns: 0,
        started_ns: 0,
        finished_ns: 0,
        composition: None,
        assignment: None,
        parts: crate::ccm::model::Parts::default(),
        order: None,
        terms: Terms::default(),
    }
}

/// The order to commit an assignment, as the controller would sign it.
pub fn signed_order(order: OrderId, run: RunId, assignment: u64) -> Vec<u8> {
    let action = Action::Commit { assignment: AssignmentId(assignment) };
    Order { order, run, site: name("www"), action, at: Some(T0), expires: 1 }.sign(&key(1))
}

fn site_states(sites: &[(&str, u64)]) -> Vec<SiteState> {
    let version = |version| (version != 0).then_some(AssignmentId(version));
    sites.iter().map(|&(site, number)| SiteState { site: name(site), version: version(number) }).collect()
}

/// Version 0 stands for none.
pub fn seen(segment: &str, online: bool, sites: &[(&str, u64)]) -> Seen {
    let addr = "127.0.0.1:1".parse().unwrap();
    Seen {
        segment: name(segment),
        online,
        at_ns: T0,
        datagram: addr,
        http: addr,
        text: addr,
        priority: 1,
        processors: 4,
        free_memory: 1,
        free_disk: 1,
        groups: ListNumber(0),
        leads: true,
        machine: Machine::default(),
        sites: site_states(sites),
    }
}

pub fn profile(number: u8, sites: &[(&str, u64)]) -> Profile {
    let addr = |port| format!("127.0.0.{number}:{port}").parse().unwrap();
    Profile {
        certificate: Certificate::issue(&key(200), key(number).public(), true, u32::MAX),
        name: name(&format!("n{number}")),
        datagram: addr(1),
        http: addr(2),
        text: addr(3),
        priority: 7,
        processors: 4,
        free_memory: u64::MAX,
        free_disk: 5,
        groups: ListNumber(0),
        leads: true,
        machine: Machine { location: "Europe/Vienna".into(), cpu_mhz: 3_000, load_pct: 12, connections: 34 },
        mtu: 1_500,
        sites: site_states(sites),
    }
}

pub fn segment_report(segment: &str, epoch: u64, members: Vec<Profile>) -> SegmentReport {
    SegmentReport {
        segment: name(segment),
        epoch: Epoch(epoch),
        charter: CharterId(0),
        behind: 0,
        channel: "239.1.1.1:7401".parse().unwrap(),
        twins: Vec::new(),
        members,
        by_unicast: vec![],
    }
}

pub fn uplink(number: u8, seq: u64, body: UplinkBody) -> Vec<u8> {
    Uplink { node: id(number), boot: 1, seq, body }.sign(&key(number))
}

pub fn enrol(store: &mut Store, number: u8) {
    let key = key(number).public();
    store.enrol(&Enrolment { key, name: name(&format!("n{number}")), can_lead: true }, T0).unwrap();
}

pub fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("ccm.db")).unwrap();
    (dir, store)
}

/// A farm that was just made, with nodes 1 to `nodes` joined.
pub fn controller(nodes: u8) -> (TempDir, Arc<Controller>) {
    let dir = tempfile::tempdir().unwrap();
    super::init(dir.path(), &super::InitOptions::default()).unwrap();
    let mut store = Store::open(&dir.path().join("ccm.db")).unwrap();
    (1..=nodes).for_each(|number| enrol(&mut store, number));
    drop(store);
    let controller = restart(dir.path(), "127.0.0.1:7400".parse().unwrap(), |_| {});
    (dir, controller)
}

/// The controller of the farm in `dir`, as after a start.
pub fn restart(dir: &Path, reachable_at: SocketAddr, set: impl FnOnce(&mut Config)) -> Arc<Controller> {
    let mut config = Config::load(&dir.join("ccm.toml")).unwrap();
    set(&mut config);
    let keys = Keys::load(&config.dir).unwrap();
    let store = Store::open(&config.database()).unwrap();
    Arc::new(Controller::new(config, keys, store, reachable_at, T0))
}

/// Serves a router on a free port, as if all came through the Unix socket from a process of user 1000.
pub async fn listen(router: axum::Router, listener: tokio::net::TcpListener) -> tokio::task::AbortHandle {
    listen_from(Origin::Local { uid: 1_000 }, router, listener).await
}

/// The same for requests from elsewhere.
pub async fn listen_from(
    origin: Origin,
    router: axum::Router,
    listener: tokio::net::TcpListener,
) -> tokio::task::AbortHandle {
    let router = router.layer(axum::Extension(axum::extract::ConnectInfo(origin)));
    tokio::spawn(axum::serve(listener, router).into_future()).abort_handle()
}

pub async fn free_port() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One HTTP request, `METHOD PATH` and further header lines; the body's type is JSON where it begins so.
pub async fn http(addr: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let (first, rest) = head.split_once('\n').unwrap_or((head, ""));
    let mut request = format!("{first} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    rest.lines().for_each(|line| request.push_str(&format!("{line}\r\n")));
    if !body.is_empty() {
        let json = if body[0] == b'{' { "application/json" } else { "application/octet-stream" };
        request.push_str(&format!("content-type: {json}\r\ncontent-length: {}\r\n", body.len()));
    }
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(&[request.as_bytes(), b"\r\n", body].concat()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("a reply has a head");
    let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
    Answer { status: head[9..12].parse().unwrap(), head, body: reply[end + 4..].to_vec() }
}
