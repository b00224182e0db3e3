//! What tests of several files need: a farm whose nodes have keys, and reports they could send.

use super::config::Config;
use super::controller::Controller;
use super::db::{Enrolment, Store};
use super::keys::Keys;
use super::model::{Node, Seen};
use crate::wire::control::{Profile, SiteState};
use crate::wire::id::{AssignmentId, Epoch, Name, NodeId};
use crate::wire::notify::{Uplink, UplinkBody};
use crate::wire::report::SegmentReport;
use crate::wire::seal::{Certificate, SigningKey};
use std::sync::Arc;
use tempfile::TempDir;

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
        sites: site_states(sites),
    }
}

pub fn segment_report(segment: &str, epoch: u64, members: Vec<Profile>) -> SegmentReport {
    SegmentReport { segment: name(segment), epoch: Epoch(epoch), members }
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
    let path = super::init(dir.path(), &super::InitOptions::default()).unwrap();
    let config = Config::load(&path).unwrap();
    let keys = Keys::load(&config.dir).unwrap();
    let mut store = Store::open(&config.database()).unwrap();
    (1..=nodes).for_each(|number| enrol(&mut store, number));
    let reachable_at = "127.0.0.1:7400".parse().unwrap();
    (dir, Arc::new(Controller::new(config, keys, store, reachable_at, T0)))
}
